/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/pc_testdev.c - what kvm-unit-tests expect of a test board
 */
#include "device/pc_testdev.h"

#include <errno.h>

#define LINES     24
#define IOMEM     UINT64_C(0xff000000)
#define IOMEM_LEN 0x10000

struct pc_testdev {
	struct device dev;
	struct irq gsi;
	uint8_t storage[4], byte_storage[4];
	uint8_t lines[LINES];
	uint8_t iomem[IOMEM_LEN];
};

static uint64_t load(const uint8_t *p, unsigned int size)
{
	uint64_t v = 0;

	memcpy(&v, p, size);
	return v;
}

/* The bus keeps offsets and sizes inside the regions. */
static uint64_t storage_read(void *opaque, uint64_t off, unsigned int size)
{
	struct pc_testdev *t = opaque;

	return load(t->storage + off, size);
}

static void storage_write(void *opaque, uint64_t off, unsigned int size, uint64_t value)
{
	struct pc_testdev *t = opaque;

	memcpy(t->storage + off, &value, size);
}

static uint64_t byte_read(void *opaque, uint64_t off, unsigned int size)
{
	struct pc_testdev *t = opaque;

	return t->byte_storage[off];
}

static void byte_write(void *opaque, uint64_t off, unsigned int size, uint64_t value)
{
	struct pc_testdev *t = opaque;

	t->byte_storage[off] = (uint8_t)value;
}

static uint64_t iomem_read(void *opaque, uint64_t off, unsigned int size)
{
	struct pc_testdev *t = opaque;

	return load(t->iomem + off, size);
}

static void iomem_write(void *opaque, uint64_t off, unsigned int size, uint64_t value)
{
	struct pc_testdev *t = opaque;

	memcpy(t->iomem + off, &value, size);
}

static uint64_t line_read(void *opaque, uint64_t off, unsigned int size)
{
	struct pc_testdev *t = opaque;

	return t->lines[off];
}

static void line_write(void *opaque, uint64_t off, unsigned int size, uint64_t value)
{
	struct pc_testdev *t = opaque;
	struct irq line = t->gsi;

	t->lines[off] = (uint8_t)value;
	line.pin = (unsigned int)off;
	irq_set(&line, value != 0);
}

static const struct bus_ops storage_ops = {.read = storage_read, .write = storage_write, .max = 4};
static const struct bus_ops flush_ops = {.max = 4};
static const struct bus_ops byte_ops = {.read = byte_read, .write = byte_write, .max = 1};
static const struct bus_ops line_ops = {.read = line_read, .write = line_write, .max = 1};
static const struct bus_ops iomem_ops = {.read = iomem_read, .write = iomem_write, .max = 8};

static void reset(void *opaque)
{
	struct pc_testdev *t = opaque;
	struct irq line = t->gsi;

	memset(t->storage, 0, sizeof(t->storage));
	memset(t->byte_storage, 0, sizeof(t->byte_storage));
	memset(t->iomem, 0, sizeof(t->iomem));
	for (line.pin = 0; line.pin < LINES; line.pin++) {
		if (t->lines[line.pin])
			irq_set(&line, false);
		t->lines[line.pin] = 0;
	}
}

int pc_testdev_new(const struct pc_testdev_config *cfg, struct device **ret)
{
	struct pc_testdev *t = device_alloc(sizeof(*t), "pc-testdev", NULL, reset, NULL);

	if (!t)
		return -ENOMEM;
	t->gsi = cfg->gsi;
	device_region(&t->dev, "testdev", BUS_PIO, 0xe0, 4, &storage_ops);
	device_region(&t->dev, "testdev-flush", BUS_PIO, 0xe4, 4, &flush_ops);
	device_region(&t->dev, "testdev-byte", BUS_PIO, 0xe8, 4, &byte_ops);
	device_region(&t->dev, "testdev-irq", BUS_PIO, 0x2000, LINES, &line_ops);
	device_region(&t->dev, "testdev-iomem", BUS_MMIO, IOMEM, IOMEM_LEN, &iomem_ops);
	*ret = &t->dev;
	return 0;
}
