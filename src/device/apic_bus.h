/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/apic_bus.h - carries interrupt messages to local APICs (SDM vol. 3, 11.6, 11.11)
 *
 * Sources are MSIs (devices and IOAPIC) and interprocessor interrupts.  A physical message to one
 * APIC finds it by index; everything else asks each APIC whether it is meant.
 */
#pragma once

#include "bus/irq.h"

/* Bits of an MSI's address and data. */
#define LAPIC_MSI_ADDRESS UINT64_C(0xfee00000)
#define LAPIC_MSI_LOGICAL BIT(2)
#define LAPIC_MSI_HINT    BIT(3)
#define LAPIC_MSI_ASSERT  0x4000u
#define LAPIC_MSI_LEVEL   0x8000u

struct apic_bus;
struct lapic;

enum apic_mode { /* delivery modes of ICR, LVT, MSI data and IOAPIC entries */
		 APIC_FIXED = 0,
		 APIC_LOWEST = 1,
		 APIC_SMI = 2,
		 APIC_NMI = 4,
		 APIC_INIT = 5,
		 APIC_SIPI = 6,
		 APIC_EXTINT = 7,
};

enum apic_shorthand { APIC_DEST, APIC_SELF, APIC_ALL, APIC_OTHERS };

struct apic_msg {
	uint32_t dest;
	bool logical;
	bool wide;     /* @dest has 32 bits (an x2APIC's IPI): broadcast is all ones, not 0xff */
	bool level;    /* trigger mode */
	bool deassert; /* INIT level de-assert: no effect on these APICs */
	uint8_t vector;
	enum apic_mode mode;
	enum apic_shorthand shorthand;
};

/* APIC ids 0 to @n - 1. */
must_check int apic_bus_new(unsigned int n, struct apic_bus **ret);
void apic_bus_free(struct apic_bus *b);
/* lapic_new and lapic_free do these, before and after the machine runs. */
void apic_bus_add(struct apic_bus *b, struct lapic *l, uint32_t id);
void apic_bus_remove(struct apic_bus *b, uint32_t id);
/* A guest renumbered an APIC (xAPIC ids are writable): physical messages must search from now on.
 */
void apic_bus_ids_changed(struct apic_bus *b);
struct lapic *apic_bus_lapic(struct apic_bus *b, uint32_t id);

/* The front door of MSIs. */
struct msi_sink apic_bus_msi(struct apic_bus *b);
/* @source may be NULL (not an IPI).  False when nobody took it. */
bool apic_bus_deliver(struct apic_bus *b, struct lapic *source, const struct apic_msg *m);
/* Who hears of ended level-triggered vectors: the IOAPIC. */
void apic_bus_on_eoi(struct apic_bus *b, void (*eoi)(void *opaque, uint8_t vector), void *opaque);
void apic_bus_eoi(struct apic_bus *b, uint8_t vector);
