/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/machine/test_acpi.c - AML terms byte by byte, table checksums, and iasl's opinion
 */
#include "machine/acpi.h"
#include "machine/aml.h"

#include "base/fd.h"
#include "test.h"

#include <fcntl.h>

static const struct acpi_config q35 = {
    .n_cpus = 64,
    .lapic_base = 0xfee00000,
    .ioapic_base = 0xfec00000,
    .hpet_base = 0xfed00000,
    .hpet_id = 0x8086a201,
    .ecam_base = 0xb0000000,
    .ecam_size = 0x10000000,
    .mmio_base = 0xc0000000,
    .mmio_end = 0xfec00000,
    .mmio64_base = 0x200000000,
    .mmio64_end = 0x4000000000,
    .pm_base = 0x600,
    .sci = 9,
    .s5_type = 0,
    .slots = 32,
    .i8042 = true,
    .rtc = true,
    .serial = true,
    .serial_port = 0x3f8,
    .pvpanic_port = 0x505,
    .serial_irq = 4,
    .smi_cmd = 0xb2,
    .acpi_enable = 2,
    .acpi_disable = 3,
    .hotplug_slots = 0x7fffff3e,
    .hotplug_port = 0xcc0,
    .hotplug_gpe = 1,
};

static void check_bytes(const struct strbuf *b, const char *want, size_t len)
{
	CHECK_EQ(b->len, len);
	CHECK(memcmp(b->data, want, len) == 0);
}

static void test_ints(void)
{
	autostrbuf struct strbuf b = {0};

	aml_int(&b, 0);
	aml_int(&b, 1);
	aml_int(&b, 2);
	aml_int(&b, 0x1234);
	aml_int(&b, 0x12345678);
	aml_int(&b, 0x123456789abcdef0);
	check_bytes(&b,
		    "\x00\x01\x0a\x02\x0b\x34\x12\x0c\x78\x56\x34\x12"
		    "\x0e\xf0\xde\xbc\x9a\x78\x56\x34\x12",
		    21);
}

static void test_eisaid(void)
{
	autostrbuf struct strbuf b = {0};

	aml_eisaid(&b, "PNP0501"); /* 0x41d00501, the well-known 41 d0 05 01 */
	check_bytes(&b, "\x0c\x41\xd0\x05\x01", 5);
}

static void test_nesting(void)
{
	autostrbuf struct strbuf b = {0};
	size_t sb = aml_scope(&b, "\\_SB_"), dev;

	dev = aml_device(&b, "COM1");
	aml_name_int(&b, "_UID", 1);
	aml_end(&b, dev);
	aml_end(&b, sb);
	check_bytes(&b,
		    "\x10\x13\\_SB_\x5b\x82\x0b"
		    "COM1\x08_UID\x01",
		    20);
}

static void test_methods(void)
{
	static const char *const words[] = {"AAAA", "BBBB"};
	autostrbuf struct strbuf b = {0};
	size_t mark;

	aml_io_dwords(&b, "REGS", 0xcc0, words, 2);
	check_bytes(&b,
		    "\x5b\x80REGS\x01\x0b\xc0\x0c\x0a\x08\x5b\x81\x10REGS\x43"
		    "AAAA\x20"
		    "BBBB\x20",
		    30);
	strbuf_fini(&b);
	mark = aml_if_arg_and(&b, 1, 4);
	aml_notify_arg(&b, "S001", 0);
	aml_end(&b, mark);
	aml_store_int(&b, 2, "AAAA");
	check_bytes(&b,
		    "\xa0\x0c\x7b\x69\x0a\x04\x00\x86S001\x68\x70\x0a\x02"
		    "AAAA",
		    20);
}

/* The length field grows from one byte to two at 64, to three at 4096. */
static void test_lengths(void)
{
	static const struct {
		size_t body, bytes;
	} rows[] = {{62, 1}, {63, 2}, {4093, 2}, {4094, 3}, {100000, 3}};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		autostrbuf struct strbuf b = {0};
		size_t mark = b.len, len;

		for (size_t k = 0; k < rows[i].body; k++)
			strbuf_putc(&b, 0);
		aml_end(&b, mark);
		CHECK_EQ(b.len, rows[i].body + rows[i].bytes);
		CHECK_EQ((uint8_t)b.data[0] >> 6, rows[i].bytes - 1);
		len = rows[i].bytes == 1 ? b.data[0] & 0x3f : b.data[0] & 0xf;
		for (size_t k = 1; k < rows[i].bytes; k++)
			len |= (size_t)(uint8_t)b.data[k] << (8 * k - 4);
		CHECK_EQ(len, b.len);
	}
}

static uint8_t sum(const void *p, size_t len)
{
	uint8_t s = 0;

	for (size_t i = 0; i < len; i++)
		s = (uint8_t)(s + ((const uint8_t *)p)[i]);
	return s;
}

static void write_file(const char *dir, const char *name, const void *data, size_t len)
{
	autofree char *path = xasprintf("%s/%.4s.aml", dir, name);
	autoclose int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);

	CHECK(fd >= 0);
	CHECK(write_full(fd, data, len) == 0);
}

/* Disassembles each table and, for the DSDT, compiles the result: no error, no warning. */
static void check_iasl(const char *dir)
{
	autofree char *cmd = xasprintf(
	    "cd %s && for t in *.aml; do iasl -d $t >log 2>&1 || { cat log; exit 1; };"
	    " grep -iE 'error|invalid|unknown' log && exit 1; done;"
	    " iasl -p again DSDT.dsl >log 2>&1 || { cat log; exit 1; };"
	    " grep -q ' 0 Errors, 0 Warnings' log || { cat log; exit 1; };"
	    " for t in FACP APIC MCFG; do grep -iE 'invalid|zzzz' $t.dsl && exit 1; done; true",
	    dir);
	int r = system(cmd);

	CHECK_EQ(r, 0);
}

static void check_tables(const struct acpi_config *c, bool iasl)
{
	char dir[] = "/tmp/insula-acpi-XXXXXX";
	autostrbuf struct strbuf t = {0};
	uint8_t rsdp[RSDP_SIZE];
	uint32_t rsdt, entries;
	struct err e = {0};
	const char *fadt;

	CHECK_EQ(acpi_build(c, &t, rsdp, &e), 0);
	CHECK_EQ(sum(rsdp, 20), 0);
	CHECK_EQ(sum(rsdp, 36), 0);
	rsdt = load_le32(rsdp + 16) - ACPI_GPA;
	CHECK_EQ(sum(t.data + rsdt, load_le32(t.data + rsdt + 4)), 0);
	CHECK(mkdtemp(dir));
	entries = (load_le32(t.data + rsdt + 4) - 36) / 4;
	CHECK_EQ(entries, 4u + (c->hpet_base ? 1 : 0) + (c->serial ? 1 : 0));
	for (uint32_t i = 0; i < entries; i++) {
		uint32_t at = load_le32(t.data + rsdt + 36 + 4 * i) - ACPI_GPA;
		uint32_t len = load_le32(t.data + at + 4);

		CHECK(range_ok(at, len, t.len));
		CHECK_EQ(sum(t.data + at, len), 0);
		write_file(dir, t.data + at, t.data + at, len);
	}
	fadt = t.data + load_le32(t.data + rsdt + 36) - ACPI_GPA;
	CHECK_EQ(load_le32(fadt + 4), 244);
	CHECK_EQ(load_le32(fadt + 56), 0x600);
	/* How a system gets the interrupt that power button and hot-plug need. */
	CHECK_EQ(load_le32(fadt + 48), c->smi_cmd);
	CHECK_EQ(fadt[52], c->smi_cmd ? 2 : 0);
	CHECK_EQ(load_le64(fadt + 140), load_le32(fadt + 40));
	write_file(dir, "DSDT", t.data + load_le32(fadt + 40) - ACPI_GPA,
		   load_le32(t.data + load_le32(fadt + 40) - ACPI_GPA + 4));
	if (iasl)
		check_iasl(dir);
	else
		fprintf(stderr, "iasl is not installed: tables not compiled back\n");
	{
		autofree char *rm = xasprintf("rm -rf %s", dir);

		CHECK_EQ(system(rm), 0);
	}
}

/* Runs the loader's script as firmware does, and finds the tables as for a fixed place. */
static void test_loader(void)
{
	autostrbuf struct strbuf fixed = {0}, t = {0}, script = {0};
	uint8_t fixed_rsdp[RSDP_SIZE], rsdp[RSDP_SIZE];
	struct acpi_config c = q35;
	unsigned int allocated = 0;
	struct err e = {0};

	CHECK_EQ(acpi_build(&c, &fixed, fixed_rsdp, &e), 0);
	c.loader = &script;
	CHECK_EQ(acpi_build(&c, &t, rsdp, &e), 0);
	CHECK(t.len == fixed.len && script.len % 128 == 0);
	for (size_t at = 0; at < script.len; at += 128) {
		const char *cmd = script.data + at;
		bool is_rsdp = strcmp(cmd + 4, "etc/acpi/rsdp") == 0;
		char *file = is_rsdp ? (char *)rsdp : t.data;
		size_t len = is_rsdp ? RSDP_SIZE : t.len;
		uint32_t off, n;

		CHECK(is_rsdp || strcmp(cmd + 4, "etc/acpi/tables") == 0);
		switch (load_le32(cmd)) {
		case 1:
			allocated++;
			break;
		case 2:
			off = load_le32(cmd + 116);
			n = (uint8_t)cmd[120];
			CHECK(strcmp(cmd + 60, "etc/acpi/tables") == 0 && range_ok(off, n, len));
			CHECK(n == 4 || n == 8);
			store_le32(file + off, load_le32(file + off) + ACPI_GPA);
			break;
		case 3:
			off = load_le32(cmd + 60);
			CHECK(range_ok(load_le32(cmd + 64), load_le32(cmd + 68), len) && off < len);
			CHECK_EQ(file[off], 0);
			file[off] = (char)-sum(file + load_le32(cmd + 64), load_le32(cmd + 68));
			break;
		default:
			CHECK(!"a command that is known");
		}
	}
	CHECK_EQ(allocated, 2);
	CHECK(memcmp(t.data, fixed.data, t.len) == 0);
	CHECK(memcmp(rsdp, fixed_rsdp, RSDP_SIZE) == 0);
}

int main(void)
{
	bool iasl = system("command -v iasl >/dev/null 2>&1") == 0;
	struct acpi_config micro = q35;

	micro.n_cpus = 1;
	micro.hpet_base = 0;
	micro.i8042 = micro.serial = false;
	micro.smi_cmd = 0;
	micro.hotplug_slots = 0;
	test_ints();
	test_eisaid();
	test_nesting();
	test_methods();
	test_lengths();
	check_tables(&q35, iasl);
	test_loader();
	check_tables(&micro, iasl);
	return 0;
}
