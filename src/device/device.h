/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/device.h - what every chip has in common
 *
 * A chip is a structure that begins with struct device.  It knows no bus and no machine: its
 * constructor takes interrupt lines, the timer queue and backends as arguments, and it offers
 *regions that a board puts on its bus.
 *
 *	uart16550_new(&(struct uart16550_config){...}, &u);
 *	device_attach(&u->dev, bus);
 *	...
 *	device_free(&u->dev);                               detaches, too
 *
 * Locks: one mutex a device, held by the bus around register accesses, by timer callbacks, and by
 * the functions of the chip's header that other threads call.  Order: device -> PIC, IOAPIC ->
 *local APIC.  Interrupt lines and requests are raised with the lock held; listeners never call
 *back.
 *
 * Times in saved state are on the timer queue's clock: a board that loads a snapshot first sets
 *that clock to what it was.
 */
#pragma once

#include "base/state.h"
#include "base/timerq.h"
#include "bus/bus.h"
#include "bus/irq.h"

#define DEVICE_REGIONS 8

struct device {
	const char *name;
	pthread_mutex_t lock;
	const struct state_table
	    *state;                /* NULL = nothing to save; offsets from this struct's start */
	void (*reset)(void *self); /* to power-on state; called with the lock held */
	void (*fini)(void *self);  /* release what the chip owns; may be NULL */
	struct bus_region region[DEVICE_REGIONS];
	unsigned int n_regions;
	struct bus *bus; /* while attached */
};

/* What a chip can ask of the machine.  The listener notes it and wakes somebody: it is called with
 * the device's lock held, in a vCPU's thread. */
enum machine_request {
	REQUEST_RESET,
	REQUEST_POWEROFF,
	REQUEST_CRASHED, /* the guest says that it panicked; @arg = pvpanic event bits */
	REQUEST_EXIT,    /* isa-debug-exit; @arg = exit status */
};

struct request_sink {
	void (*request)(void *opaque, enum machine_request what, uint32_t arg);
	void *opaque;
};

static inline void request_send(const struct request_sink *s, enum machine_request what,
				uint32_t arg)
{
	if (s->request)
		s->request(s->opaque, what, arg);
}

/* Allocates @size zeroed bytes (a structure that begins with struct device); NULL on no memory. */
void *device_alloc(size_t size, const char *name, const struct state_table *state,
		   void (*reset)(void *self), void (*fini)(void *self));
/* Declares one more region; returns it, for chips that move it or set its priority. */
struct bus_region *device_region(struct device *d, const char *name, enum bus_space space,
				 uint64_t base, uint64_t size, const struct bus_ops *ops);
void device_attach(struct device *d, struct bus *b);
void device_detach(struct device *d);
void device_reset(struct device *d);
/* Detaches and frees; NULL is fine.  The timer queue must not be running. */
void device_free(struct device *d);
/* Saves and loads under the lock; no-ops for a device without state. */
void device_save(struct device *d, struct strbuf *out);
must_check int device_load(struct device *d, const void *data, size_t len, size_t *used,
			   struct err *e);

static inline void device_lock(struct device *d)
{
	pthread_mutex_lock(&d->lock);
}

static inline void device_unlock(struct device *d)
{
	pthread_mutex_unlock(&d->lock);
}
