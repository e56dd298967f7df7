/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/debug_exit.c - lets a test guest end the machine with a status (isa-debug-exit)
 */
#include "device/isa_ports.h"

#include <errno.h>

struct debug_exit {
	struct device dev;
	struct request_sink requests;
};

static uint64_t port_read(void *opaque, uint64_t off, unsigned int size)
{
	return 0;
}

static void port_write(void *opaque, uint64_t off, unsigned int size, uint64_t value)
{
	struct debug_exit *d = opaque;

	request_send(&d->requests, REQUEST_EXIT, (uint32_t)value << 1 | 1);
}

static const struct bus_ops ops = {.read = port_read, .write = port_write, .max = 4};

static void reset(void *opaque)
{
}

int debug_exit_new(uint16_t port, struct request_sink requests, struct device **ret)
{
	struct debug_exit *d = device_alloc(sizeof(*d), "debug-exit", NULL, reset, NULL);

	if (!d)
		return -ENOMEM;
	d->requests = requests;
	device_region(&d->dev, "debug-exit", BUS_PIO, port, 4, &ops);
	*ret = &d->dev;
	return 0;
}
