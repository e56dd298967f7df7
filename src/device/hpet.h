/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/hpet.h - high precision event timers (IA-PC HPET 1.0a)
 *
 * One 64-bit counter at 100 MHz and three comparators, all 64 bits wide and periodic, with FSB
 * (message) delivery.  A comparator fires at most each HPET_MIN_PERIOD_NS.
 */
#pragma once

#include "device/device.h"

#define HPET_BASE          UINT64_C(0xfed00000)
#define HPET_TIMERS        3
#define HPET_PERIOD_NS     10
#define HPET_MIN_PERIOD_NS UINT64_C(50000)
/* Event timer block id, as in the ACPI table: 8086h, legacy route, 64 bits, three timers, rev 1. */
#define HPET_BLOCK_ID 0x8086a201u

struct hpet_config {
	uint64_t base; /* 0 = HPET_BASE */
	struct timerq *timers;
	/* Lines by IOAPIC pin number: set(opaque, pin, level). */
	struct irq gsi;
	struct irq legacy_irq0, legacy_irq8; /* legacy replacement: instead of PIT and RTC */
	struct msi_sink msi;
	/* Legacy replacement was switched: silence PIT and RTC, or let them speak; may be NULL. */
	void (*legacy)(void *opaque, bool on);
	void *opaque;
};

struct hpet_timer {
	struct hpet *hpet;
	struct timer timer;
	uint64_t config, cmp, period, fsb;
	uint64_t due; /* counter value of the next match, extended to 64 bits */
	uint8_t armed, level;
};

struct hpet {
	struct device dev;
	struct hpet_config cfg;
	uint64_t config, isr;
	uint64_t counter; /* at `start`; while stopped, now */
	uint64_t start;   /* on the queue's clock */
	struct hpet_timer t[HPET_TIMERS];
};

must_check int hpet_new(const struct hpet_config *cfg, struct hpet **ret);
