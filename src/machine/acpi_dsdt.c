/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine/acpi_dsdt.c - the DSDT: processors, PCI root with its windows and routing, ISA parts, _S5
 */
#include "machine/acpi.h"
#include "machine/aml.h"

#include <stdio.h>

static void add_cpus(const struct acpi_config *c, struct strbuf *b)
{
	for (unsigned int i = 0; i < c->n_cpus; i++) {
		char name[5];
		size_t dev;

		snprintf(name, sizeof(name), "C%03X", i & 0xfff);
		dev = aml_device(b, name);
		aml_name(b, "_HID");
		aml_string(b, "ACPI0007");
		aml_name_int(b, "_UID", i);
		aml_end(b, dev);
	}
}

/* Slot << 16 | 0xffff means every function of the slot; GSIs directly, no link devices. */
static void add_prt(const struct acpi_config *c, struct strbuf *b)
{
	size_t prt, row;

	aml_name(b, "_PRT");
	prt = aml_package(b, c->slots * 4u);
	for (unsigned int slot = 0; slot < c->slots; slot++) {
		for (unsigned int pin = 0; pin < 4; pin++) {
			row = aml_package(b, 4);
			aml_int(b, slot << 16 | 0xffff);
			aml_int(b, pin);
			aml_int(b, 0);
			aml_int(b, acpi_intx_gsi(slot, pin));
			aml_end(b, row);
		}
	}
	aml_end(b, prt);
}

static void slot_name(unsigned int slot, char name[5])
{
	snprintf(name, 5, "S%03X", slot & 0xfff);
}

/* A device for each slot, whose presence with _EJ0 tells that cards come and go there.  Windows
 * offers to remove a card with _EJ0: so those that stay have none. */
static void add_slots(const struct acpi_config *c, struct strbuf *b)
{
	for (unsigned int slot = 0; slot < 32; slot++) {
		size_t dev, method;
		char name[5];

		if (!(c->hotplug_slots >> slot & 1))
			continue;
		slot_name(slot, name);
		dev = aml_device(b, name);
		aml_name_int(b, "_ADR", slot << 16);
		aml_name_int(b, "_SUN", slot);
		method = aml_method(b, "_EJ0", 1);
		aml_store_int(b, UINT32_C(1) << slot, "PHEJ");
		aml_end(b, method);
		aml_end(b, dev);
	}
}

/* PHNT (slots, what): Notify (slot, what) for each of them. */
static void add_slot_notify(const struct acpi_config *c, struct strbuf *b)
{
	size_t method = aml_method(b, "PHNT", 2);

	for (unsigned int slot = 0; slot < 32; slot++) {
		size_t test;
		char name[5];

		if (!(c->hotplug_slots >> slot & 1))
			continue;
		slot_name(slot, name);
		test = aml_if_arg_and(b, 0, UINT32_C(1) << slot);
		aml_notify_arg(b, name, 1);
		aml_end(b, test);
	}
	aml_end(b, method);
}

/* In PCI0. */
static void add_hotplug(const struct acpi_config *c, struct strbuf *b)
{
	static const char *const words[] = {"PHUP", "PHDN", "PHEJ"};

	aml_io_dwords(b, "PHPR", c->hotplug_port, words, ARRAY_SIZE(words));
	add_slots(c, b);
	add_slot_notify(c, b);
}

/* The event's method: Device Check for what came, Eject Request for what is asked for. */
static void add_hotplug_event(const struct acpi_config *c, struct strbuf *b)
{
	size_t scope = aml_scope(b, "\\_GPE"), method;
	char name[5];

	snprintf(name, sizeof(name), "_E%02X", c->hotplug_gpe);
	method = aml_method(b, name, 0);
	aml_call(b, "\\_SB_.PCI0.PHNT");
	aml_use(b, "\\_SB_.PCI0.PHUP");
	aml_int(b, 1);
	aml_call(b, "\\_SB_.PCI0.PHNT");
	aml_use(b, "\\_SB_.PCI0.PHDN");
	aml_int(b, 3);
	aml_end(b, method);
	aml_end(b, scope);
}

static void add_pci_root(const struct acpi_config *c, struct strbuf *b)
{
	size_t dev = aml_device(b, "PCI0"), res;

	aml_name_eisaid(b, "_HID", "PNP0A08");
	aml_name_eisaid(b, "_CID", "PNP0A03");
	aml_name_int(b, "_UID", 0);
	aml_name_int(b, "_SEG", 0);
	aml_name_int(b, "_BBN", 0);
	res = aml_resources(b);
	aml_res_bus(b, 0, c->ecam_size ? (uint16_t)(c->ecam_size / (1u << 20) - 1) : 0xff);
	aml_res_io(b, 0xcf8, 8);
	aml_res_io_window(b, 0, 0xcf7);
	aml_res_io_window(b, 0xd00, 0xffff);
	aml_res_memory_window(b, 0xa0000, 0xbffff, false);
	if (c->mmio_low_base < c->mmio_low_end)
		aml_res_memory_window(b, c->mmio_low_base, c->mmio_low_end - 1, false);
	aml_res_memory_window(b, c->mmio_base, c->mmio_end - 1, false);
	aml_res_memory_window(b, c->mmio64_base, c->mmio64_end - 1, true);
	aml_resources_end(b, res);
	add_prt(c, b);
	if (c->hotplug_slots)
		add_hotplug(c, b);
	aml_end(b, dev);
}

/* What belongs to nobody else: the kernel trusts ECAM only when it is reserved here or in e820. */
static void add_motherboard(const struct acpi_config *c, struct strbuf *b)
{
	size_t dev = aml_device(b, "MBRD"), res;

	aml_name_eisaid(b, "_HID", "PNP0C02");
	aml_name_int(b, "_UID", 0);
	res = aml_resources(b);
	aml_res_io(b, c->pm_base, 0x80);
	if (c->hotplug_slots)
		aml_res_io(b, c->hotplug_port, 12);
	if (c->ecam_size)
		aml_res_memory32(b, (uint32_t)c->ecam_base, (uint32_t)c->ecam_size);
	aml_resources_end(b, res);
	aml_end(b, dev);
}

static void add_isa_part(struct strbuf *b, const char *name, const char *id, uint16_t port,
			 uint8_t len, uint16_t port2, int irq)
{
	size_t dev = aml_device(b, name), res;

	aml_name_eisaid(b, "_HID", id);
	res = aml_resources(b);
	if (len)
		aml_res_io(b, port, len);
	if (port2)
		aml_res_io(b, port2, 1);
	if (irq >= 0)
		aml_res_irq(b, (unsigned int)irq);
	aml_resources_end(b, res);
	aml_end(b, dev);
}

static void add_isa(const struct acpi_config *c, struct strbuf *b)
{
	if (c->rtc)
		add_isa_part(b, "RTC_", "PNP0B00", 0x70, 2, 0, 8);
	if (c->i8042) {
		add_isa_part(b, "KBD_", "PNP0303", 0x60, 1, 0x64, 1);
		add_isa_part(b, "MOU_", "PNP0F13", 0, 0, 0, 12);
	}
	if (c->serial) {
		size_t dev = aml_device(b, "COM1"), res;

		aml_name_eisaid(b, "_HID", "PNP0501");
		aml_name_int(b, "_UID", 1);
		res = aml_resources(b);
		aml_res_io(b, c->serial_port, 8);
		aml_res_irq(b, c->serial_irq);
		aml_resources_end(b, res);
		aml_end(b, dev);
	}
}

/* The port where a guest tells of its panic, under the name its drivers know. */
static void add_pvpanic(const struct acpi_config *c, struct strbuf *b)
{
	size_t dev = aml_device(b, "PEVT"), res;

	aml_name(b, "_HID");
	aml_string(b, "QEMU0001");
	aml_name_int(b, "_STA", 0x0f);
	res = aml_resources(b);
	aml_res_io(b, c->pvpanic_port, 1);
	aml_resources_end(b, res);
	aml_end(b, dev);
}

/* Windows knows the device by the first of the compatible ids, Linux by the second. */
static void add_vmgenid(const struct acpi_config *c, struct strbuf *b)
{
	size_t dev = aml_device(b, "VGEN"), pkg;

	aml_name(b, "_HID");
	aml_string(b, "INSU0001");
	aml_name(b, "_CID");
	pkg = aml_package(b, 2);
	aml_string(b, "VM_Gen_Counter");
	aml_string(b, "VMGENCTR");
	aml_end(b, pkg);
	aml_name(b, "_DDN");
	aml_string(b, "VM_Gen_Counter");
	aml_name_int(b, "_STA", 0x0f);
	aml_name(b, "ADDR");
	pkg = aml_package(b, 2);
	aml_int(b, (uint32_t)c->vmgenid_base);
	aml_int(b, c->vmgenid_base >> 32);
	aml_end(b, pkg);
	aml_end(b, dev);
}

/* An edge of the event tells that the number is another. */
static void add_vmgenid_event(const struct acpi_config *c, struct strbuf *b)
{
	autofree char *name = xasprintf("_E%02X", c->vmgenid_gpe);
	size_t gpe = aml_scope(b, "\\_GPE"), method = aml_method(b, name, 0);

	aml_notify(b, "\\_SB_.VGEN", 0x80);
	aml_end(b, method);
	aml_end(b, gpe);
}

static void add_hpet(const struct acpi_config *c, struct strbuf *b)
{
	size_t dev = aml_device(b, "HPET"), res;

	aml_name_eisaid(b, "_HID", "PNP0103");
	aml_name_int(b, "_UID", 0);
	res = aml_resources(b);
	aml_res_memory32(b, c->hpet_base, 0x400);
	aml_resources_end(b, res);
	aml_end(b, dev);
}

/* Both sleep-type words and two reserved ones: OpenBSD insists on all four. */
static void add_s5(const struct acpi_config *c, struct strbuf *b)
{
	size_t pkg;

	aml_name(b, "_S5_");
	pkg = aml_package(b, 4);
	aml_int(b, c->s5_type);
	aml_int(b, c->s5_type);
	aml_int(b, 0);
	aml_int(b, 0);
	aml_end(b, pkg);
}

void acpi_dsdt(const struct acpi_config *c, struct strbuf *out)
{
	size_t sb = aml_scope(out, "\\_SB_");

	add_cpus(c, out);
	add_pci_root(c, out);
	add_motherboard(c, out);
	add_isa(c, out);
	if (c->hpet_base)
		add_hpet(c, out);
	if (c->pvpanic_port)
		add_pvpanic(c, out);
	if (c->vmgenid_base)
		add_vmgenid(c, out);
	aml_end(out, sb);
	if (c->vmgenid_base)
		add_vmgenid_event(c, out);
	if (c->hotplug_slots)
		add_hotplug_event(c, out);
	add_s5(c, out);
}
