/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine/board.c - what the boards share: interrupt lines, the PCI bus, chips' list
 *
 *	ISA line n --+--> PIC line n ------> INTR --> LINT0 of CPU 0 (or the engine's ExtINT)
 *	             +--> IOAPIC pin n (0 goes to pin 2)
 *	PCI INTx ------> IOAPIC pins 16-23 [--> PIC lines, as the LPC bridge routes them]
 *	MSI, MSI-X, IOAPIC messages ------> local APICs, ours or the engine's
 */
#include "device/acpi_pm.h"
#include "device/ioapic.h"
#include "device/lapic.h"
#include "device/pic_i8259.h"
#include "machine/machine_priv.h"

#include <assert.h>
#include <errno.h>

void board_add_chip(struct machine *m, struct device *d)
{
	assert(m->n_chips < MACHINE_CHIPS);
	m->chips[m->n_chips++] = d;
	device_attach(d, m->bus);
}

/* --- lines --- */

static void isa_set(void *opaque, unsigned int line, bool level)
{
	struct machine *m = opaque;

	irq_set(&m->pic_line[line], level);
	irq_set(&m->ioapic_pin[line == 0 ? 2 : line], level);
}

/* Several devices on one ISA line: each has an input of its own. */
struct irq board_isa_input(struct machine *m, unsigned int line, unsigned int input)
{
	return irq_or_input(&m->isa_or[line], input);
}

void board_gsi_set(void *opaque, unsigned int pin, bool level)
{
	struct machine *m = opaque;

	if (pin < IOAPIC_PINS)
		irq_set(&m->ioapic_pin[pin], level);
}

/* The PIC's output when the engine has the local APICs: the vCPU's thread asks pic_ack for the
 * vector. */
static void pic_to_vcpu(void *opaque, unsigned int pin, bool level)
{
	struct machine *m = opaque;

	vcpu_set_pic(&m->cpus[0], level);
}

static void vectors_to_engine(void *opaque, const uint64_t vectors[4])
{
	struct machine *m = opaque;

	engine_eoi_exits(m->engine, vectors);
}

int board_pic_ack(void *machine)
{
	struct machine *m = machine;

	return pic_ack(m->pic);
}

void board_eoi(void *machine, uint8_t vector)
{
	struct machine *m = machine;

	ioapic_eoi(m->ioapic, vector);
}

static int add_ioapic(struct machine *m, struct err *e)
{
	struct ioapic_config cfg = {.msi = m->msi, .opaque = m};
	struct ioapic *io;
	int r;

	if (!m->apics)
		cfg.on_vectors = vectors_to_engine;
	r = ioapic_new(&cfg, &io);
	if (r < 0)
		return err_set(e, r, "make the IOAPIC");
	board_add_chip(m, &io->dev);
	m->ioapic = &io->dev;
	if (m->apics)
		apic_bus_on_eoi(m->apics, ioapic_eoi, io);
	for (unsigned int i = 0; i < IOAPIC_PINS; i++)
		m->ioapic_pin[i] = ioapic_irq(io, i);
	return 0;
}

int board_add_interrupts(struct machine *m, struct err *e)
{
	struct pic_config cfg = {.intr = {.set = pic_to_vcpu, .opaque = m}};
	struct pic *pic;
	int r;

	if (m->apics)
		cfg.intr = lapic_lint(m->lapics[0], 0);
	r = pic_new(&cfg, &pic);
	if (r < 0)
		return err_set(e, r, "make the PIC");
	board_add_chip(m, &pic->dev);
	m->pic = &pic->dev;
	for (unsigned int i = 0; i < 16; i++) {
		if (i != 2) /* the cascade */
			m->pic_line[i] = pic_irq(pic, i);
		irq_or_init(&m->isa_or[i], (struct irq){.set = isa_set, .opaque = m, .pin = i});
		m->isa_irq[i] = irq_or_input(&m->isa_or[i], 0);
	}
	m->has_lines = true;
	return add_ioapic(m, e);
}

void board_fini(struct machine *m)
{
	if (m->has_lines)
		for (unsigned int i = 0; i < 16; i++)
			irq_or_fini(&m->isa_or[i]);
}

void board_power_button(struct machine *m)
{
	acpi_pm_power_button(container_of(m->pm, struct acpi_pm, dev));
}

/* --- PCI --- */

int board_add_pci(struct machine *m, struct irq intx, struct err *e)
{
	int r = pci_bus_new(m->bus, intx, m->msi, &m->pci);

	if (r < 0)
		return err_set(e, r, "make the PCI bus");
	pci_bus_set_ecam(m->pci, m->acpi.ecam_base, m->acpi.ecam_size);
	return 0;
}

/* What firmware leaves in the interrupt line registers: the PIC's line, for guests without ACPI. */
void board_assign_intx(struct machine *m)
{
	for (unsigned int slot = 0; slot < 32; slot++) {
		uint16_t bdf = (uint16_t)(slot << 3);
		uint32_t pin = pci_config_read(m->pci, bdf, 0x3d, 1);

		if (pin >= 1 && pin <= 4)
			pci_config_write(m->pci, bdf, 0x3c, 1,
					 board_pic_line(acpi_intx_gsi(slot, pin - 1)));
	}
}
