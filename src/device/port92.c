/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/port92.c - system control port A (ICH9, 13.7.3): A20 and fast reset
 */
#include "device/isa_ports.h"

#include <errno.h>

#define FAST_RESET 1
#define A20        2

struct port92 {
	struct device dev;
	struct request_sink requests;
	uint8_t value;
};

static uint64_t port_read(void *opaque, uint64_t off, unsigned int size)
{
	const struct port92 *p = opaque;

	return p->value;
}

static void port_write(void *opaque, uint64_t off, unsigned int size, uint64_t value)
{
	struct port92 *p = opaque;
	bool rise = value & ~p->value & FAST_RESET;

	p->value = (uint8_t)value & (FAST_RESET | A20);
	if (rise)
		request_send(&p->requests, REQUEST_RESET, 0);
}

static const struct bus_ops ops = {.read = port_read, .write = port_write, .max = 1};

static void reset(void *opaque)
{
	struct port92 *p = opaque;

	p->value = A20;
}

static const struct state_field fields[] = {STATE_FIELD(struct port92, value, 1)};
static const struct state_table state = {
    .name = "port92", .version = 1, .fields = fields, .n_fields = ARRAY_SIZE(fields)};

int port92_new(struct request_sink requests, struct device **ret)
{
	struct port92 *p = device_alloc(sizeof(*p), "port92", &state, reset, NULL);

	if (!p)
		return -ENOMEM;
	p->requests = requests;
	device_region(&p->dev, "port92", BUS_PIO, 0x92, 1, &ops);
	reset(p);
	*ret = &p->dev;
	return 0;
}
