/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine/acpi.h - ACPI tables of the boards (ACPI 6.4)
 *
 *	ACPI_GPA   FACS DSDT FADT MADT MCFG [HPET] [SPCR] WAET XSDT RSDT
 *	RSDP_GPA   RSDP (36 bytes; found by scanning, too)
 */
#pragma once

#include "base/err.h"
#include "base/strbuf.h"

#define ACPI_GPA  0xe0000u
#define ACPI_SIZE 0x10000u
#define RSDP_GPA  0xf0000u
#define RSDP_SIZE 36u

/* What the tables say about a board; 0 = the part is absent. */
struct acpi_config {
	unsigned int n_cpus;
	uint32_t lapic_base, ioapic_base, hpet_base;
	uint32_t hpet_id; /* low half of its capability register */
	uint64_t ecam_base, ecam_size;
	uint64_t mmio_base, mmio_end;         /* 32-bit PCI window, end exclusive */
	uint64_t mmio_low_base, mmio_low_end; /* one more below ECAM; empty = none */
	uint64_t mmio64_base, mmio64_end;
	uint16_t pm_base; /* ICH9 layout: PM1a +0, PM_TMR +8, GPE0 +0x20 */
	uint8_t sci;      /* GSI, level, active high */
	uint8_t s5_type;  /* SLP_TYP of soft-off */
	uint8_t slots;    /* PCI slots with INTx: GSI acpi_intx_gsi() */
	uint8_t smi_cmd;  /* port to enter and leave ACPI mode; 0 = always in it */
	uint8_t acpi_enable, acpi_disable;
	bool i8042, rtc, serial, vga;
	uint16_t serial_port, pvpanic_port;
	uint64_t vmgenid_base;
	uint8_t vmgenid_gpe;
	/* PCI slots whose cards come and go, a bit each, and the chip for it (device/acpi_pcihp.h):
	 * three words from this port. */
	uint32_t hotplug_slots;
	uint16_t hotplug_port;
	uint8_t hotplug_gpe;
	uint8_t serial_irq;
	/* NULL: the tables are for ACPI_GPA.  Else firmware places them: they hold offsets, their
	 * checksums are open, and this gets the commands that finish them (machine/acpi_loader.h).
	 */
	struct strbuf *loader;
};

/*
 * Where an INTx pin (0 = INTA) goes; as ICH9's PIRQs do it (device/ich9_lpc.h): slots below 25 take
 * turns on PIRQ E-H, the others go straight to A-D.
 */
static inline unsigned int acpi_intx_gsi(unsigned int slot, unsigned int pin)
{
	return slot < 25 ? 20 + ((slot + pin) & 3) : 16 + (pin & 3);
}

/* @tables is to be stored at ACPI_GPA, @rsdp at RSDP_GPA; -E2BIG when they do not fit. */
must_check int acpi_build(const struct acpi_config *c, struct strbuf *tables,
			  uint8_t rsdp[RSDP_SIZE], struct err *e);
/* The DSDT's body alone (acpi_dsdt.c). */
void acpi_dsdt(const struct acpi_config *c, struct strbuf *out);
