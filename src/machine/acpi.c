/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine/acpi.c - the fixed ACPI tables (ACPI 6.4, section 5.2; MCFG: PCI Firmware 3.2; SPCR,
 * WAET: Microsoft's specifications; HPET: IA-PC HPET 1.0a)
 */
#include "machine/acpi.h"

#include "machine/acpi_loader.h"

#include <errno.h>

#define HEADER_SIZE 36u

enum { GAS_MEMORY = 0, GAS_IO = 1 };

static void put(struct strbuf *b, uint64_t v, unsigned int bytes)
{
	uint8_t raw[8];

	store_le64(raw, v);
	strbuf_add(b, raw, bytes);
}

static void put_gas(struct strbuf *b, unsigned int space, unsigned int bits, uint64_t addr)
{
	unsigned int access = bits == 8 ? 1 : bits == 16 ? 2 : bits == 32 ? 3 : 0;

	put(b, space, 1);
	put(b, bits, 1);
	put(b, 0, 1);
	put(b, access, 1);
	put(b, addr, 8);
}

static uint8_t checksum(const void *data, size_t len)
{
	const uint8_t *p = data;
	uint8_t sum = 0;

	for (size_t i = 0; i < len; i++)
		sum = (uint8_t)(sum + p[i]);
	return (uint8_t)-sum;
}

/* Opens a table at the next 16-byte boundary; returns where. */
static size_t table_begin(struct strbuf *b, const char *signature, unsigned int revision)
{
	size_t at;

	while (b->len % 16)
		put(b, 0, 1);
	at = b->len;
	strbuf_add(b, signature, 4);
	put(b, 0, 4); /* length */
	put(b, revision, 1);
	put(b, 0, 1); /* checksum */
	strbuf_add(b, "INSULA", 6);
	strbuf_add(b, "INSULAVM", 8);
	put(b, 1, 4);
	strbuf_add(b, "INSU", 4);
	put(b, 1, 4);
	return at;
}

static uint32_t place(const struct acpi_config *c, size_t at)
{
	return (c->loader ? 0 : ACPI_GPA) + (uint32_t)at;
}

static uint32_t table_end(const struct acpi_config *c, struct strbuf *b, size_t at)
{
	uint32_t len = (uint32_t)(b->len - at);

	store_le32(b->data + at + 4, len);
	if (c->loader)
		acpi_loader_checksum(c->loader, ACPI_LOADER_TABLES, (uint32_t)at + 9, (uint32_t)at,
				     len);
	else
		b->data[at + 9] = (char)checksum(b->data + at, len);
	return place(c, at);
}

/* An address of another table, @at in the tables. */
static void put_table(const struct acpi_config *c, struct strbuf *b, uint32_t table,
		      unsigned int bytes)
{
	if (c->loader)
		acpi_loader_pointer(c->loader, ACPI_LOADER_TABLES, (uint32_t)b->len, bytes);
	put(b, table, bytes);
}

static uint32_t add_facs(const struct acpi_config *c, struct strbuf *b)
{
	size_t at = b->len; /* 64-aligned: it is the first */

	strbuf_add(b, "FACS", 4);
	put(b, 64, 4);
	for (unsigned int i = 8; i < 64; i++)
		put(b, i == 32 ? 2 : 0, 1); /* version 2, nothing else */
	return place(c, at);
}

static void put_fadt_blocks(const struct acpi_config *c, struct strbuf *b)
{
	put(b, c->pm_base, 4); /* PM1a_EVT */
	put(b, 0, 4);
	put(b, c->pm_base + 4u, 4); /* PM1a_CNT */
	put(b, 0, 4);
	put(b, 0, 4);                  /* PM2 */
	put(b, c->pm_base + 8u, 4);    /* PM_TMR */
	put(b, c->pm_base + 0x20u, 4); /* GPE0 */
	put(b, 0, 4);
	put(b, 4, 1); /* lengths of the above */
	put(b, 2, 1);
	put(b, 0, 1);
	put(b, 4, 1);
	put(b, 16, 1);
	put(b, 0, 1);
	put(b, 0, 1); /* GPE1 base */
	put(b, 0, 1); /* no _CST */
}

static void put_fadt_x_blocks(const struct acpi_config *c, struct strbuf *b)
{
	static const uint8_t none[12];

	put_gas(b, GAS_IO, 32, c->pm_base);
	strbuf_add(b, none, 12);
	put_gas(b, GAS_IO, 16, c->pm_base + 4u);
	strbuf_add(b, none, 12);
	strbuf_add(b, none, 12);
	put_gas(b, GAS_IO, 32, c->pm_base + 8u);
	put_gas(b, GAS_IO, 128, c->pm_base + 0x20u);
	strbuf_add(b, none, 12);
}

/* Fixed-hardware flags (table 5-10). */
enum {
	FADT_WBINVD = 1 << 0,
	FADT_C1 = 1 << 2,
	FADT_NO_FIXED_SLEEP_BUTTON = 1 << 5,
	FADT_NO_FIXED_RTC = 1 << 6,
	FADT_TIMER_32BIT = 1 << 8,
	FADT_RESET_REG = 1 << 10,
};
enum {
	BOOT_ARCH_LEGACY = 1 << 0,
	BOOT_ARCH_8042 = 1 << 1,
	BOOT_ARCH_NO_VGA = 1 << 2,
	BOOT_ARCH_NO_RTC = 1 << 5
};

static uint32_t add_fadt(const struct acpi_config *c, struct strbuf *b, uint32_t facs,
			 uint32_t dsdt)
{
	size_t at = table_begin(b, "FACP", 4);

	put_table(c, b, facs, 4);
	put_table(c, b, dsdt, 4);
	put(b, 0, 1);
	put(b, 0, 1); /* profile: unspecified */
	put(b, c->sci, 2);
	put(b, c->smi_cmd, 4);
	put(b, c->smi_cmd ? c->acpi_enable : 0, 1);
	put(b, c->smi_cmd ? c->acpi_disable : 0, 1);
	put(b, 0, 2); /* S4BIOS, PSTATE */
	put_fadt_blocks(c, b);
	put(b, 0xfff, 2);             /* no C2 */
	put(b, 0xfff, 2);             /* no C3 */
	put(b, 0, 4);                 /* cache flush */
	put(b, 0, 2);                 /* duty */
	put(b, 0, 2);                 /* day, month alarm */
	put(b, c->rtc ? 0x32 : 0, 1); /* century */
	put(b,
	    BOOT_ARCH_LEGACY | (c->i8042 ? BOOT_ARCH_8042 : 0) | (c->vga ? 0 : BOOT_ARCH_NO_VGA) |
		(c->rtc ? 0 : BOOT_ARCH_NO_RTC),
	    2);
	put(b, 0, 1);
	put(b,
	    FADT_WBINVD | FADT_C1 | FADT_NO_FIXED_SLEEP_BUTTON | FADT_NO_FIXED_RTC |
		FADT_TIMER_32BIT | FADT_RESET_REG,
	    4);
	put_gas(b, GAS_IO, 8, 0xcf9);
	put(b, 0x06, 1); /* hard reset */
	put(b, 0, 2);
	put(b, 0, 1);
	put(b, 0, 8); /* FACS and DSDT by their 32-bit fields */
	put_table(c, b, dsdt, 8);
	put_fadt_x_blocks(c, b);
	return table_end(c, b, at);
}

static void put_override(struct strbuf *b, unsigned int irq, uint32_t gsi, unsigned int flags)
{
	put(b, 2, 1);
	put(b, 10, 1);
	put(b, 0, 1);
	put(b, irq, 1);
	put(b, gsi, 4);
	put(b, flags, 2);
}

static uint32_t add_madt(const struct acpi_config *c, struct strbuf *b)
{
	size_t at = table_begin(b, "APIC", 3);

	put(b, c->lapic_base, 4);
	put(b, 1, 4); /* 8259s are there, too */
	for (unsigned int i = 0; i < c->n_cpus; i++) {
		put(b, 0, 1);
		put(b, 8, 1);
		put(b, i, 1); /* processor UID */
		put(b, i, 1); /* APIC id */
		put(b, 1, 4); /* enabled */
	}
	put(b, 1, 1);
	put(b, 12, 1);
	put(b, 0, 1); /* IOAPIC id */
	put(b, 0, 1);
	put(b, c->ioapic_base, 4);
	put(b, 0, 4);                          /* its first GSI */
	put_override(b, 0, 2, 0);              /* the PIT is on pin 2 */
	put_override(b, c->sci, c->sci, 0x0d); /* level, active high */
	put(b, 4, 1);
	put(b, 6, 1);
	put(b, 0xff, 1); /* all processors: NMI on LINT1 */
	put(b, 0, 2);
	put(b, 1, 1);
	return table_end(c, b, at);
}

static uint32_t add_mcfg(const struct acpi_config *c, struct strbuf *b)
{
	size_t at = table_begin(b, "MCFG", 1);

	put(b, 0, 8);
	put(b, c->ecam_base, 8);
	put(b, 0, 2);
	put(b, 0, 1);
	put(b, c->ecam_size / (1u << 20) - 1, 1);
	put(b, 0, 4);
	return table_end(c, b, at);
}

static uint32_t add_hpet(const struct acpi_config *c, struct strbuf *b)
{
	size_t at = table_begin(b, "HPET", 1);

	put(b, c->hpet_id, 4);
	put_gas(b, GAS_MEMORY, 64, c->hpet_base);
	put(b, 0, 1);
	put(b, 100, 2); /* least ticks in periodic mode */
	put(b, 0, 1);
	return table_end(c, b, at);
}

static uint32_t add_spcr(const struct acpi_config *c, struct strbuf *b)
{
	size_t at = table_begin(b, "SPCR", 2);

	put(b, 0, 1); /* 16550 */
	put(b, 0, 3);
	put_gas(b, GAS_IO, 8, c->serial_port);
	put(b, 3, 1); /* both kinds of interrupt: 8259 and IOAPIC */
	put(b, c->serial_irq, 1);
	put(b, c->serial_irq, 4);
	put(b, 7, 1); /* 115200 */
	put(b, 0, 1); /* no parity */
	put(b, 1, 1); /* 1 stop bit */
	put(b, 0, 1); /* no flow control */
	put(b, 3, 1); /* ANSI terminal */
	put(b, 0, 1);
	put(b, 0xffffffff, 4); /* no PCI ids */
	put(b, 0, 3);
	put(b, 0, 4);
	put(b, 0, 1);
	put(b, 0, 4);
	return table_end(c, b, at);
}

/* Our RTC needs no double read after an interrupt, our PM timer can be read once. */
static uint32_t add_waet(const struct acpi_config *c, struct strbuf *b)
{
	size_t at = table_begin(b, "WAET", 1);

	put(b, 3, 4);
	return table_end(c, b, at);
}

static uint32_t add_root(const struct acpi_config *c, struct strbuf *b, const char *signature,
			 unsigned int width, const uint32_t *tables, unsigned int n)
{
	size_t at = table_begin(b, signature, 1);

	for (unsigned int i = 0; i < n; i++)
		put_table(c, b, tables[i], width);
	return table_end(c, b, at);
}

static void build_rsdp(const struct acpi_config *c, uint32_t rsdt, uint32_t xsdt,
		       uint8_t rsdp[RSDP_SIZE])
{
	memset(rsdp, 0, RSDP_SIZE);
	memcpy(rsdp, "RSD PTR ", 8);
	memcpy(rsdp + 9, "INSULA", 6);
	rsdp[15] = 2;
	store_le32(rsdp + 16, rsdt);
	store_le32(rsdp + 20, RSDP_SIZE);
	store_le64(rsdp + 24, xsdt);
	if (c->loader) {
		acpi_loader_pointer(c->loader, ACPI_LOADER_RSDP, 16, 4);
		acpi_loader_pointer(c->loader, ACPI_LOADER_RSDP, 24, 8);
		acpi_loader_checksum(c->loader, ACPI_LOADER_RSDP, 8, 0, 20);
		acpi_loader_checksum(c->loader, ACPI_LOADER_RSDP, 32, 0, RSDP_SIZE);
		return;
	}
	rsdp[8] = checksum(rsdp, 20);
	rsdp[32] = checksum(rsdp, RSDP_SIZE);
}

int acpi_build(const struct acpi_config *c, struct strbuf *tables, uint8_t rsdp[RSDP_SIZE],
	       struct err *e)
{
	uint32_t t[8], facs, dsdt, xsdt, rsdt;
	unsigned int n = 0;
	size_t at;

	if (c->loader)
		acpi_loader_begin(c->loader);
	facs = add_facs(c, tables);
	at = table_begin(tables, "DSDT", 2);
	acpi_dsdt(c, tables);
	dsdt = table_end(c, tables, at);
	t[n++] = add_fadt(c, tables, facs, dsdt);
	t[n++] = add_madt(c, tables);
	if (c->ecam_size)
		t[n++] = add_mcfg(c, tables);
	if (c->hpet_base)
		t[n++] = add_hpet(c, tables);
	if (c->serial)
		t[n++] = add_spcr(c, tables);
	t[n++] = add_waet(c, tables);
	xsdt = add_root(c, tables, "XSDT", 8, t, n);
	rsdt = add_root(c, tables, "RSDT", 4, t, n);
	if (tables->len > ACPI_SIZE)
		return err_msg(e, -E2BIG, "ACPI tables of %zu bytes do not fit", tables->len);
	build_rsdp(c, rsdt, xsdt, rsdp);
	return 0;
}
