/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/pic_i8259.h - the PC's pair of interrupt controllers (Intel 8259A) with ELCR (ICH9, 13.4)
 *
 * The slave sits on the master's line 2.  INTR goes to LINT0 of the local APICs, or to the CPU when
 * there are none; the CPU's acknowledge cycle is pic_ack.
 */
#pragma once

#include "device/device.h"

struct pic_config {
	struct irq intr; /* pin as given */
};

struct pic_chip {
	uint8_t irr, imr, isr, lines, elcr; /* lines: levels of the pins */
	uint8_t base;                       /* vector of line 0 (ICW2) */
	uint8_t init_step;                  /* 0 = working, 2-4 = waiting for that ICW */
	uint8_t icw4, icw1;
	uint8_t lowest;   /* line of lowest priority; 7 after initialisation */
	uint8_t read_isr; /* OCW3: reads give ISR, not IRR */
	uint8_t poll;     /* OCW3: the next read acknowledges */
	uint8_t special_mask;
	uint8_t rotate_aeoi;
};

struct pic {
	struct device dev;
	struct irq intr;
	struct pic_chip chip[2];
};

must_check int pic_new(const struct pic_config *cfg, struct pic **ret);
/* Lines 0-15; 2 is the cascade and not for use. */
struct irq pic_irq(struct pic *p, unsigned int line);
/* The acknowledge cycle: the vector, that of line 7 or 15 when the request went away (spurious).
 * Fits lapic_config.extint_ack. */
int pic_ack(void *pic);
bool pic_pending(struct pic *p);
