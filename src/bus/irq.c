/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bus/irq.c - shared interrupt lines
 */
#include "bus/irq.h"

/* The lock is held while the output moves, so that two sources cannot pass each other on the way.
 */
static void input_set(void *opaque, unsigned int pin, bool level)
{
	struct irq_or *o = opaque;
	uint32_t old, bit = UINT32_C(1) << (pin & 31);

	pthread_mutex_lock(&o->lock);
	old = o->high;
	o->high = level ? old | bit : old & ~bit;
	if (!old != !o->high)
		irq_set(&o->out, o->high != 0);
	pthread_mutex_unlock(&o->lock);
}

void irq_or_init(struct irq_or *o, struct irq out)
{
	pthread_mutex_init(&o->lock, NULL);
	o->high = 0;
	o->out = out;
}

void irq_or_fini(struct irq_or *o)
{
	pthread_mutex_destroy(&o->lock);
}

struct irq irq_or_input(struct irq_or *o, unsigned int n)
{
	return (struct irq){input_set, o, n};
}
