/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/pvpanic.c - the guest's panic handler tells us (pvpanic, ISA form)
 */
#include "device/isa_ports.h"

#include <errno.h>

#define PANICKED     1
#define CRASH_LOADED 2

struct pvpanic {
	struct device dev;
	struct request_sink requests;
};

static uint64_t port_read(void *opaque, uint64_t off, unsigned int size)
{
	return PANICKED | CRASH_LOADED;
}

static void port_write(void *opaque, uint64_t off, unsigned int size, uint64_t value)
{
	struct pvpanic *p = opaque;

	if (value & (PANICKED | CRASH_LOADED))
		request_send(&p->requests, REQUEST_CRASHED,
			     (uint32_t)value & (PANICKED | CRASH_LOADED));
}

static const struct bus_ops ops = {.read = port_read, .write = port_write, .max = 1};

static void reset(void *opaque)
{
}

int pvpanic_new(struct request_sink requests, struct device **ret)
{
	struct pvpanic *p = device_alloc(sizeof(*p), "pvpanic", NULL, reset, NULL);

	if (!p)
		return -ENOMEM;
	p->requests = requests;
	device_region(&p->dev, "pvpanic", BUS_PIO, 0x505, 1, &ops);
	*ret = &p->dev;
	return 0;
}
