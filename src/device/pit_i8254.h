/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/pit_i8254.h - interval timer (Intel 8254), with the PC's port 61h
 *
 * Counter 0 drives IRQ 0, counter 2 the speaker (nothing sounds) and a bit to read.  The input
 * clock is 1193182 Hz.  Counter 0 fires at most each PIT_MIN_PERIOD_NS; ticks missed by more than
 * one period are left out.
 */
#pragma once

#include "device/device.h"

#define PIT_HZ            1193182u
#define PIT_MIN_PERIOD_NS UINT64_C(50000)

struct pit_config {
	struct irq irq; /* IRQ 0 */
	struct timerq *timers;
};

struct pit_counter {
	uint64_t start; /* when the count was loaded, on the queue's clock */
	uint32_t count; /* 1 to 65536 (10000 in BCD) */
	uint16_t latch;
	uint8_t mode, bcd, access;     /* access: 1 low, 2 high, 3 both */
	uint8_t gate, loaded;          /* loaded: a count was written since the mode */
	uint8_t latched;               /* bytes of the latch still to read */
	uint8_t read_high, write_high; /* second byte is next */
	uint8_t write_low;             /* the first byte */
	uint8_t status, status_latched;
	uint8_t triggered; /* modes 1 and 5: gate rose since the mode was set */
	uint64_t paused;   /* ticks gone when the gate fell */
};

struct pit {
	struct device dev;
	struct irq irq;
	struct timer timer;
	struct pit_counter counter[3];
	uint8_t speaker; /* port 61h bit 1 */
	uint8_t irq_level;
	uint8_t disconnected; /* by the HPET */
};

must_check int pit_new(const struct pit_config *cfg, struct pit **ret);
/* The HPET in legacy mode takes IRQ 0 away. */
void pit_disconnect(void *pit, bool off);
