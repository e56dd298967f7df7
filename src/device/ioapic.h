/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/ioapic.h - I/O APIC with 24 pins (82093AA; version 20h with the EOI register)
 *
 * A pin's message leaves in MSI form, so that it can go to our own local APICs or to those inside
 * KVM (split irqchip).
 */
#pragma once

#include "device/device.h"

#define IOAPIC_PINS 24
#define IOAPIC_BASE UINT64_C(0xfec00000)

struct ioapic_config {
	uint64_t base; /* 0 = IOAPIC_BASE */
	uint8_t id;
	struct msi_sink msi;
	/* The set of level-triggered vectors changed (engine_eoi_exits); may be NULL. */
	void (*on_vectors)(void *opaque, const uint64_t vectors[4]);
	void *opaque;
};

struct ioapic {
	struct device dev;
	struct ioapic_config cfg;
	uint8_t select, id;
	uint32_t pins; /* levels */
	uint64_t entry[IOAPIC_PINS];
	uint64_t vectors[4];
};

must_check int ioapic_new(const struct ioapic_config *cfg, struct ioapic **ret);
struct irq ioapic_irq(struct ioapic *io, unsigned int pin);
/* A local APIC ended level-triggered @vector.  Matches apic_bus_on_eoi and EXIT_EOI. */
void ioapic_eoi(void *ioapic, uint8_t vector);
