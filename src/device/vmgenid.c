/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/vmgenid.c - the generation of a machine
 */
#include "device/vmgenid.h"

#include <errno.h>
#include <sys/random.h>

struct vmgenid {
	struct device dev;
	uint8_t id[VMGENID_SIZE];
};

static uint64_t id_read(void *opaque, uint64_t off, unsigned int size)
{
	const struct vmgenid *g = opaque;
	uint64_t v = 0;

	for (unsigned int i = 0; i < size && off + i < VMGENID_SIZE; i++)
		v |= (uint64_t)g->id[off + i] << (8 * i);
	return v;
}

static void id_write(void *opaque, uint64_t off, unsigned int size, uint64_t value)
{
}

static const struct bus_ops ops = {.read = id_read, .write = id_write, .max = 8};

/* The same machine after a reset. */
static void reset(void *opaque)
{
}

int vmgenid_new(struct device **ret)
{
	struct vmgenid *g = device_alloc(sizeof(*g), "vmgenid", NULL, reset, NULL);

	if (!g)
		return -ENOMEM;
	/* So few bytes are given whole. */
	while (getrandom(g->id, sizeof(g->id), 0) != (ssize_t)sizeof(g->id))
		;
	device_region(&g->dev, "vmgenid", BUS_MMIO, VMGENID_BASE, VMGENID_SIZE, &ops);
	*ret = &g->dev;
	return 0;
}
