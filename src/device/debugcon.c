/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/debugcon.c - a port whose written bytes are text (Bochs' 0xe9, OVMF's 0x402)
 *
 * There is no way to make the guest wait: what the backend does not take is lost.
 */
#include "device/isa_ports.h"

#include <errno.h>

#define IDENTITY 0xe9

struct debugcon {
	struct device dev;
	struct chardev *chr;
};

static uint64_t port_read(void *opaque, uint64_t off, unsigned int size)
{
	return IDENTITY;
}

static void port_write(void *opaque, uint64_t off, unsigned int size, uint64_t value)
{
	struct debugcon *d = opaque;
	uint8_t byte = (uint8_t)value;

	(void)chardev_write(d->chr, &byte, 1);
}

static const struct bus_ops ops = {.read = port_read, .write = port_write, .max = 1};

static void reset(void *opaque)
{
}

int debugcon_new(uint16_t port, struct chardev *chr, struct device **ret)
{
	struct debugcon *d = device_alloc(sizeof(*d), "debugcon", NULL, reset, NULL);

	if (!d)
		return -ENOMEM;
	d->chr = chr;
	device_region(&d->dev, "debugcon", BUS_PIO, port, 1, &ops);
	*ret = &d->dev;
	return 0;
}
