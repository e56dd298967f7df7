/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bus/irq.h - interrupt lines and message-signalled interrupts
 *
 * A device is given its line as a value and only raises and lowers it; who listens is the board's
 * affair.  irq_set may be called from any thread, with the caller's device lock held: listeners
 * (PIC, IOAPIC, LAPIC) take their own locks and never call back into the device.
 */
#pragma once

#include "base/macro.h"

#include <pthread.h>

struct irq {
	void (*set)(void *opaque, unsigned int pin, bool level); /* NULL = not connected */
	void *opaque;
	unsigned int pin;
};

static inline void irq_set(const struct irq *irq, bool level)
{
	if (irq->set)
		irq->set(irq->opaque, irq->pin, level);
}

/* An edge: up and down again. */
static inline void irq_pulse(const struct irq *irq)
{
	irq_set(irq, true);
	irq_set(irq, false);
}

/* Where MSIs go (SDM vol. 3, 11.11): address 0xfee....., data = vector and mode. */
struct msi_sink {
	void (*send)(void *opaque, uint64_t addr, uint32_t data);
	void *opaque;
};

static inline void msi_send(const struct msi_sink *s, uint64_t addr, uint32_t data)
{
	s->send(s->opaque, addr, data);
}

/*
 * A wired OR: several sources share one line, which is high while any of them is.  Each source
 * drives its own input (0-31).
 */
struct irq_or {
	pthread_mutex_t lock;
	uint32_t high; /* bitmap of inputs */
	struct irq out;
};

void irq_or_init(struct irq_or *o, struct irq out);
void irq_or_fini(struct irq_or *o);
struct irq irq_or_input(struct irq_or *o, unsigned int n);
