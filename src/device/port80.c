/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/port80.c - POST codes at port 80h, I/O delay at port EDh
 *
 * Guests write here to wait a microsecond; having the ports claimed keeps such writes cheap and
 * quiet.
 */
#include "device/isa_ports.h"

#include <errno.h>

struct port80 {
	struct device dev;
	uint8_t code;
};

static uint64_t port_read(void *opaque, uint64_t off, unsigned int size)
{
	const struct port80 *p = opaque;

	return p->code;
}

static void port_write(void *opaque, uint64_t off, unsigned int size, uint64_t value)
{
	struct port80 *p = opaque;

	p->code = (uint8_t)value;
}

static const struct bus_ops post_ops = {.read = port_read, .write = port_write, .max = 1};
static const struct bus_ops delay_ops = {.max = 1};

static void reset(void *opaque)
{
	struct port80 *p = opaque;

	p->code = 0;
}

static const struct state_field fields[] = {STATE_FIELD(struct port80, code, 1)};
static const struct state_table state = {
    .name = "port80", .version = 1, .fields = fields, .n_fields = ARRAY_SIZE(fields)};

int port80_new(struct device **ret)
{
	struct port80 *p = device_alloc(sizeof(*p), "port80", &state, reset, NULL);

	if (!p)
		return -ENOMEM;
	device_region(&p->dev, "post-code", BUS_PIO, 0x80, 1, &post_ops);
	device_region(&p->dev, "io-delay", BUS_PIO, 0xed, 1, &delay_ops);
	*ret = &p->dev;
	return 0;
}
