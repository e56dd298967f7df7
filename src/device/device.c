/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/device.c - what every chip has in common
 */
#include "device/device.h"

#include <assert.h>

void *device_alloc(size_t size, const char *name, const struct state_table *state,
		   void (*reset)(void *self), void (*fini)(void *self))
{
	struct device *d = calloc(1, size);

	if (!d)
		return NULL;
	d->name = name;
	d->state = state;
	d->reset = reset;
	d->fini = fini;
	pthread_mutex_init(&d->lock, NULL);
	return d;
}

struct bus_region *device_region(struct device *d, const char *name, enum bus_space space,
				 uint64_t base, uint64_t size, const struct bus_ops *ops)
{
	struct bus_region *r = &d->region[d->n_regions];

	assert(d->n_regions < DEVICE_REGIONS);
	d->n_regions++;
	*r = (struct bus_region){.name = name,
				 .ops = ops,
				 .opaque = d,
				 .lock = &d->lock,
				 .space = space,
				 .base = base,
				 .size = size};
	return r;
}

void device_attach(struct device *d, struct bus *b)
{
	assert(!d->bus);
	d->bus = b;
	for (unsigned int i = 0; i < d->n_regions; i++)
		bus_add(b, &d->region[i]);
}

void device_detach(struct device *d)
{
	if (!d->bus)
		return;
	for (unsigned int i = 0; i < d->n_regions; i++)
		bus_remove(d->bus, &d->region[i]);
	d->bus = NULL;
}

void device_reset(struct device *d)
{
	device_lock(d);
	d->reset(d);
	device_unlock(d);
}

void device_free(struct device *d)
{
	if (!d)
		return;
	device_detach(d);
	if (d->fini)
		d->fini(d);
	pthread_mutex_destroy(&d->lock);
	free(d);
}

void device_save(struct device *d, struct strbuf *out)
{
	if (!d->state)
		return;
	device_lock(d);
	state_save(d->state, d, out);
	device_unlock(d);
}

int device_load(struct device *d, const void *data, size_t len, size_t *used, struct err *e)
{
	int r;

	if (!d->state) {
		*used = 0;
		return 0;
	}
	device_lock(d);
	r = state_load(d->state, d, data, len, used, e);
	if (r < 0)
		d->reset(d);
	device_unlock(d);
	return r;
}
