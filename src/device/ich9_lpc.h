/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/ich9_lpc.h - ICH9's LPC bridge, 00:1f.0 (Intel 316972, 13.1)
 *
 * Holds PMBASE, ACPI_CNTL, RCBA and the PIRQ routing, and turns the INTx pins of all slots into
 * interrupt lines:
 *
 *	slots 0-24    PIRQ E + (slot + pin) % 4     slots 25-31   PIRQ A + pin      (pin: INTA = 0)
 *	PIRQ A-H      IOAPIC pins 16-23, always; a PIC line too, when its register routes it
 *
 * The DSDT must say the same.
 */
#pragma once

#include "bus/pci.h"

struct ich9_lpc_config {
	struct irq gsi; /* set(opaque, 16-23, level) */
	struct irq isa; /* set(opaque, PIC line, level): wired OR with ISA devices is the board's */
	/* PMBASE moved (0 = not decoded), as acpi_pm_move; may be NULL. */
	void (*pm_moved)(void *opaque, uint16_t base);
	void *opaque;
};

struct ich9_lpc {
	struct pci_dev pci;
	struct ich9_lpc_config cfg;
	pthread_mutex_t route_lock; /* leaf: everything below */
	uint64_t source[16];        /* bitmap of devfn << 2 | pin: who is high */
	uint16_t count[8];          /* how many of them on each PIRQ */
	uint16_t isa_high;          /* PIC lines driven high */
	uint8_t route[8];           /* PIRQ routing registers A-H */
	uint16_t pm_base;
};

must_check int ich9_lpc_new(const struct ich9_lpc_config *cfg, struct ich9_lpc **ret);
/* Freed with the bus it is plugged into (pci.ops->free otherwise).  For pci_bus_new: */
struct irq ich9_lpc_intx(struct ich9_lpc *l);
/* What firmware would do on a direct boot: decode the power-management block at @base. */
void ich9_lpc_set_pm_base(struct ich9_lpc *l, uint16_t base);
