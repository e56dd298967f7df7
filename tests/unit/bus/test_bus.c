/* SPDX-License-Identifier: Apache-2.0 */
#include "bus/bus.h"

#include "base/strbuf.h"
#include "bus/irq.h"
#include "test.h"

/* Remembers the last access; reads give the offset in every byte. */
struct probe {
	struct bus_region r;
	uint64_t off, value;
	unsigned int size, n_reads, n_writes;
	struct bus *bus;
	pthread_mutex_t lock;
};

static uint64_t probe_read(void *opaque, uint64_t off, unsigned int size)
{
	struct probe *p = opaque;
	uint64_t v = 0;

	p->off = off;
	p->size = size;
	p->n_reads++;
	for (unsigned int i = 0; i < size; i++)
		v |= ((off + i) & 0xff) << (8 * i);
	return v;
}

static void probe_write(void *opaque, uint64_t off, unsigned int size, uint64_t value)
{
	struct probe *p = opaque;

	p->off = off;
	p->size = size;
	p->value = value;
	p->n_writes++;
}

static const struct bus_ops any_ops = {.read = probe_read, .write = probe_write};
static const struct bus_ops byte_ops = {.read = probe_read, .write = probe_write, .max = 1};
static const struct bus_ops dword_ops = {
    .read = probe_read, .write = probe_write, .min = 4, .max = 4};
static const struct bus_ops mute_ops = {0};

static struct probe *probe_add(struct bus *b, const struct bus_ops *ops, enum bus_space space,
			       uint64_t base, uint64_t size, int priority)
{
	struct probe *p = xnew(struct probe);

	pthread_mutex_init(&p->lock, NULL);
	p->bus = b;
	p->r = (struct bus_region){.name = "probe",
				   .ops = ops,
				   .opaque = p,
				   .lock = &p->lock,
				   .space = space,
				   .base = base,
				   .size = size,
				   .priority = priority};
	bus_add(b, &p->r);
	return p;
}

static void probe_free(struct probe *p)
{
	bus_remove(p->bus, &p->r);
	free(p);
}

static void test_bounds(struct bus *b)
{
	struct probe *p = probe_add(b, &any_ops, BUS_MMIO, 0x1000, 0x10, 0);

	CHECK_EQ(bus_read(b, BUS_MMIO, 0xfff, 1), 0xff);
	CHECK_EQ(bus_read(b, BUS_MMIO, 0x1000, 1), 0);
	CHECK_EQ(bus_read(b, BUS_MMIO, 0x100f, 1), 0x0f);
	CHECK_EQ(bus_read(b, BUS_MMIO, 0x1010, 1), 0xff);
	CHECK_EQ(bus_read(b, BUS_MMIO, 0x1008, 8), 0x0f0e0d0c0b0a0908);
	/* Into the region from below, and out of it above. */
	CHECK_EQ(bus_read(b, BUS_MMIO, 0xffe, 4), 0x0100ffff);
	CHECK_EQ(bus_read(b, BUS_MMIO, 0x100e, 4), 0xffff0f0e);
	/* Unaligned: parts are aligned. */
	p->n_reads = 0;
	CHECK_EQ(bus_read(b, BUS_MMIO, 0x1001, 4), 0x04030201);
	CHECK_EQ(p->n_reads, 3);
	CHECK_EQ(bus_read(b, BUS_PIO, 0x1000, 2), 0xffff);
	probe_free(p);
	CHECK_EQ(bus_read(b, BUS_MMIO, 0x1000, 8), UINT64_MAX);
}

static void test_ends(struct bus *b)
{
	struct probe *p = probe_add(b, &any_ops, BUS_MMIO, UINT64_MAX - 7, 8, 0);
	struct probe *q = probe_add(b, &any_ops, BUS_PIO, 0xfffe, 0x100, 0);

	CHECK_EQ(bus_read(b, BUS_MMIO, UINT64_MAX, 1), 7);
	/* Around the end of the address space: the other side is unclaimed. */
	CHECK_EQ(bus_read(b, BUS_MMIO, UINT64_MAX, 2), 0xff07);
	CHECK_EQ(bus_read(b, BUS_PIO, 0xffff, 1), 1);
	CHECK_EQ(bus_read(b, BUS_PIO, 0xffff, 4), 0xffffff01);
	probe_free(p);
	probe_free(q);
	/* All of it. */
	p = probe_add(b, &any_ops, BUS_MMIO, 0, UINT64_MAX, 0);
	CHECK_EQ(bus_read(b, BUS_MMIO, 0x42, 1), 0x42);
	CHECK_EQ(bus_read(b, BUS_MMIO, UINT64_MAX, 1), 0xff);
	probe_free(p);
}

static void test_sizes(struct bus *b)
{
	struct probe *p = probe_add(b, &byte_ops, BUS_PIO, 0x3f8, 8, 0);
	struct probe *q = probe_add(b, &dword_ops, BUS_MMIO, 0x2000, 0x10, 0);
	struct probe *mute = probe_add(b, &mute_ops, BUS_MMIO, 0x3000, 0x10, 0);

	CHECK_EQ(bus_read(b, BUS_PIO, 0x3f8, 4), 0x03020100);
	CHECK_EQ(p->n_reads, 4);
	bus_write(b, BUS_PIO, 0x3f9, 2, 0xaabb);
	CHECK_EQ(p->n_writes, 2);
	CHECK_EQ(p->value, 0xaa);
	CHECK_EQ(p->off, 2);
	/* Narrow reads are cut out, narrow writes dropped. */
	CHECK_EQ(bus_read(b, BUS_MMIO, 0x2006, 1), 6);
	CHECK_EQ(q->size, 4);
	CHECK_EQ(bus_read(b, BUS_MMIO, 0x2004, 8), 0x0b0a090807060504);
	bus_write(b, BUS_MMIO, 0x2004, 2, 1);
	CHECK_EQ(q->n_writes, 0);
	bus_write(b, BUS_MMIO, 0x2000, 8, 0x1122334455667788);
	CHECK_EQ(q->n_writes, 2);
	CHECK_EQ(q->value, 0x11223344);
	CHECK_EQ(bus_read(b, BUS_MMIO, 0x3000, 4), 0xffffffff);
	bus_write(b, BUS_MMIO, 0x3000, 4, 0);
	probe_free(p);
	probe_free(q);
	probe_free(mute);
}

static void test_overlap(struct bus *b)
{
	struct probe *low = probe_add(b, &any_ops, BUS_MMIO, 0x1000, 0x1000, -1);
	struct probe *a = probe_add(b, &any_ops, BUS_MMIO, 0x1100, 0x100, 0);
	struct probe *c = probe_add(b, &any_ops, BUS_MMIO, 0x1180, 0x100, 0);
	autostrbuf struct strbuf dump = {0};

	bus_write(b, BUS_MMIO, 0x1004, 4, 1);
	CHECK_EQ(low->n_writes, 1);
	bus_write(b, BUS_MMIO, 0x1100, 4, 1);
	CHECK_EQ(a->n_writes, 1);
	bus_write(b, BUS_MMIO, 0x1180, 4, 1); /* the later one among equals */
	CHECK_EQ(c->n_writes, 1);
	bus_write(b, BUS_MMIO, 0x1280, 4, 1);
	CHECK_EQ(low->n_writes, 2);
	bus_dump(b, &dump);
	CHECK_STR(dump.data, "mmio 0000000000001000-00000000000010ff probe\n"
			     "mmio 0000000000001100-000000000000117f probe\n"
			     "mmio 0000000000001180-000000000000127f probe\n"
			     "mmio 0000000000001280-0000000000001fff probe\n");
	/* Moved away it uncovers what is below; moved to size 0 it is gone. */
	bus_move(b, &c->r, 0x8000, 0x100);
	bus_write(b, BUS_MMIO, 0x1180, 4, 1);
	CHECK_EQ(a->n_writes, 2);
	bus_write(b, BUS_MMIO, 0x8004, 4, 1);
	CHECK_EQ(c->off, 4);
	bus_move(b, &c->r, 0x8000, 0);
	CHECK_EQ(bus_read(b, BUS_MMIO, 0x8000, 4), 0xffffffff);
	probe_free(low);
	probe_free(a);
	probe_free(c);
}

/* A byte port inside another device's dword register takes only its own byte accesses. */
static void test_nested(struct bus *b)
{
	struct probe *dword = probe_add(b, &any_ops, BUS_PIO, 0xcf8, 8, 0);
	struct probe *byte = probe_add(b, &byte_ops, BUS_PIO, 0xcf9, 1, 1);

	bus_write(b, BUS_PIO, 0xcf8, 4, 0x80000000);
	CHECK_EQ(dword->size, 4);
	CHECK_EQ(byte->n_writes, 0);
	bus_write(b, BUS_PIO, 0xcf9, 1, 6);
	CHECK_EQ(byte->n_writes, 1);
	probe_free(dword);
	probe_free(byte);
}

static void remove_self(void *opaque, uint64_t off, unsigned int size, uint64_t value)
{
	struct probe *p = opaque;

	p->n_writes++;
	bus_remove(p->bus, &p->r);
}

static const struct bus_ops remove_ops = {.write = remove_self};

static void *hammer(void *opaque)
{
	struct bus *b = opaque;

	for (unsigned int i = 0; i < 20000; i++) {
		bus_write(b, BUS_MMIO, 0x5000, 4, i);
		bus_read(b, BUS_MMIO, 0x5010, 4);
	}
	return NULL;
}

static void test_threads(struct bus *b)
{
	struct probe *p = probe_add(b, &remove_ops, BUS_MMIO, 0x5000, 0x10, 0);
	pthread_t thread[2];

	bus_write(b, BUS_MMIO, 0x5000, 4, 0);
	CHECK_EQ(p->n_writes, 1);
	bus_write(b, BUS_MMIO, 0x5000, 4, 0);
	CHECK_EQ(p->n_writes, 1);
	free(p);

	/* Nobody touches a region after bus_remove: its memory goes at once. */
	for (unsigned int i = 0; i < 2; i++)
		CHECK_EQ(pthread_create(&thread[i], NULL, hammer, b), 0);
	for (unsigned int i = 0; i < 2000; i++) {
		struct probe *q = probe_add(b, &any_ops, BUS_MMIO, 0x5000, 0x20, 0);

		bus_move(b, &q->r, 0x5010, 0x20);
		probe_free(q);
	}
	for (unsigned int i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
}

static unsigned int or_level, or_changes;

static void or_set(void *opaque, unsigned int pin, bool level)
{
	or_level = level;
	or_changes++;
}

static void test_irq_or(void)
{
	struct irq_or o;
	struct irq a, c;

	irq_or_init(&o, (struct irq){or_set, NULL, 0});
	a = irq_or_input(&o, 0);
	c = irq_or_input(&o, 31);
	irq_set(&a, true);
	irq_set(&c, true);
	irq_set(&a, false);
	CHECK_EQ(or_level, 1);
	CHECK_EQ(or_changes, 1);
	irq_set(&c, false);
	irq_set(&c, false);
	CHECK_EQ(or_level, 0);
	CHECK_EQ(or_changes, 2);
	irq_or_fini(&o);
}

int main(void)
{
	struct bus *b;

	CHECK_EQ(bus_new(&b), 0);
	test_bounds(b);
	test_ends(b);
	test_sizes(b);
	test_overlap(b);
	test_nested(b);
	test_threads(b);
	test_irq_or();
	bus_free(b);
	return 0;
}
