/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/pic_i8259.c - the PC's pair of interrupt controllers (Intel 8259A data sheet)
 */
#include "device/pic_i8259.h"

#include <assert.h>
#include <errno.h>

#define MASTER  0
#define SLAVE   1
#define CASCADE 2 /* the master's line the slave is on */

#define ICW1_INIT   0x10
#define ICW1_LEVEL  0x08
#define ICW1_SINGLE 0x02
#define ICW1_ICW4   0x01
#define ICW4_AEOI   0x02
#define ICW4_SFNM   0x10 /* special fully nested mode */

/* Lines whose trigger cannot be made level: timer, keyboard, cascade, RTC, FPU. */
static const uint8_t elcr_mask[2] = {0xf8, 0xde};

/* Rank of @line in the current rotation, 0 = first. */
static unsigned int rank(const struct pic_chip *c, unsigned int line)
{
	return (line - c->lowest - 1u) & 7;
}

/* Best line of a set, or -1. */
static int best_line(const struct pic_chip *c, uint8_t set)
{
	for (unsigned int i = 0; i < 8; i++) {
		unsigned int line = (c->lowest + 1u + i) & 7;

		if (set >> line & 1)
			return (int)line;
	}
	return -1;
}

/* Line that wants service now, or -1. */
static int requested(const struct pic *p, unsigned int n)
{
	const struct pic_chip *c = &p->chip[n];
	int line = best_line(c, c->irr & ~c->imr);
	uint8_t isr = c->isr;
	int serving;

	if (line < 0 || c->init_step)
		return -1;
	if (c->special_mask)
		isr &= (uint8_t)~c->imr;
	/* In special fully nested mode the slave may interrupt itself with something better. */
	if (n == MASTER && (c->icw4 & ICW4_SFNM))
		isr &= (uint8_t) ~(1 << CASCADE);
	serving = best_line(c, isr);
	if (c->special_mask)
		return isr >> line & 1 ? -1 : line;
	if (serving >= 0 && rank(c, (unsigned int)line) >= rank(c, (unsigned int)serving))
		return -1;
	return line;
}

static void chip_set(struct pic_chip *c, unsigned int line, bool level)
{
	uint8_t bit = (uint8_t)(1 << line);
	bool is_level = (c->elcr & bit) || (c->icw1 & ICW1_LEVEL);

	if (!level) {
		c->lines &= (uint8_t)~bit;
		/* A request that goes away before it is acknowledged becomes spurious. */
		c->irr &= (uint8_t)~bit;
		return;
	}
	if (is_level || !(c->lines & bit))
		c->irr |= bit;
	c->lines |= bit;
}

/* Slave to master to CPU. */
static void update(struct pic *p)
{
	chip_set(&p->chip[MASTER], CASCADE, requested(p, SLAVE) >= 0);
	irq_set(&p->intr, requested(p, MASTER) >= 0);
}

static void line_set(void *opaque, unsigned int line, bool level)
{
	struct pic *p = opaque;

	device_lock(&p->dev);
	chip_set(&p->chip[line >> 3], line & 7, level);
	update(p);
	device_unlock(&p->dev);
}

struct irq pic_irq(struct pic *p, unsigned int line)
{
	assert(line < 16 && line != CASCADE);
	return (struct irq){line_set, p, line};
}

/* Acknowledges @line on one chip. */
static void chip_ack(struct pic_chip *c, unsigned int line)
{
	uint8_t bit = (uint8_t)(1 << line);

	if (!((c->elcr & bit) || (c->icw1 & ICW1_LEVEL)))
		c->irr &= (uint8_t)~bit;
	if (!(c->icw4 & ICW4_AEOI))
		c->isr |= bit;
	else if (c->rotate_aeoi)
		c->lowest = (uint8_t)line;
}

/* No request any more: line 7's vector, nothing in service (8259A, "default IR7"). */
static int ack_locked(struct pic *p)
{
	struct pic_chip *m = &p->chip[MASTER], *s = &p->chip[SLAVE];
	int line = requested(p, MASTER), vector;

	if (line < 0)
		return m->base + 7;
	if (line != CASCADE) {
		chip_ack(m, (unsigned int)line);
		return m->base + line;
	}
	line = requested(p, SLAVE);
	chip_ack(m, CASCADE);
	if (line < 0)
		return s->base + 7;
	chip_ack(s, (unsigned int)line);
	vector = s->base + line;
	/* With the request served, the cascade falls; what is left raises it again. */
	chip_set(m, CASCADE, false);
	return vector;
}

int pic_ack(void *pic)
{
	struct pic *p = pic;
	int vector;

	device_lock(&p->dev);
	vector = ack_locked(p);
	update(p);
	device_unlock(&p->dev);
	return vector;
}

bool pic_pending(struct pic *p)
{
	bool pending;

	device_lock(&p->dev);
	pending = requested(p, MASTER) >= 0;
	device_unlock(&p->dev);
	return pending;
}

/* --- commands ----------------------------------------------------------------------------------
 */

static void start_init(struct pic_chip *c, uint8_t icw1)
{
	c->icw1 = icw1;
	c->imr = 0;
	c->isr = 0;
	c->lowest = 7;
	c->read_isr = 0;
	c->poll = 0;
	c->special_mask = 0;
	c->rotate_aeoi = 0;
	c->icw4 = 0;
	c->init_step = 2;
	/* The edge sense is reset: a line must rise again; level ones still ask. */
	c->irr = icw1 & ICW1_LEVEL ? c->lines : c->lines & c->elcr;
}

static void write_init(struct pic_chip *c, uint8_t v)
{
	if (c->init_step == 2) {
		c->base = v & 0xf8;
		c->init_step = c->icw1 & ICW1_SINGLE ? (c->icw1 & ICW1_ICW4 ? 4 : 0) : 3;
	} else if (c->init_step == 3) { /* the wiring is fixed */
		c->init_step = c->icw1 & ICW1_ICW4 ? 4 : 0;
	} else {
		c->icw4 = v;
		c->init_step = 0;
	}
}

/* OCW2: bit 7 rotate, 6 specific, 5 EOI. */
static void write_ocw2(struct pic_chip *c, uint8_t v)
{
	int line = v & 0x40 ? v & 7 : best_line(c, c->isr);

	switch (v >> 5) {
	case 0: /* rotate in automatic EOI mode: off, on */
	case 4:
		c->rotate_aeoi = v >> 7;
		break;
	case 1: /* EOI; with 5, 7 rotating */
	case 3:
	case 5:
	case 7:
		if (line < 0)
			break;
		/* In special mask mode a masked line is not ended by a non-specific EOI. */
		if (!(v & 0x40) && c->special_mask) {
			line = best_line(c, c->isr & ~c->imr);
			if (line < 0)
				break;
		}
		c->isr &= (uint8_t) ~(1 << line);
		if (v & 0x80)
			c->lowest = (uint8_t)line;
		break;
	case 6: /* set priority */
		c->lowest = v & 7;
		break;
	default: /* 2: no operation */
		break;
	}
}

static void write_ocw3(struct pic_chip *c, uint8_t v)
{
	if (v & 4)
		c->poll = 1;
	if (v & 2)
		c->read_isr = v & 1;
	if (v & 0x40)
		c->special_mask = v >> 5 & 1;
}

static void chip_write(struct pic *p, unsigned int n, uint64_t off, uint8_t v)
{
	struct pic_chip *c = &p->chip[n];

	if (off == 0) {
		if (v & ICW1_INIT)
			start_init(c, v);
		else if (v & 8)
			write_ocw3(c, v);
		else
			write_ocw2(c, v);
	} else if (c->init_step) {
		write_init(c, v);
	} else {
		c->imr = v;
	}
	update(p);
}

static uint8_t chip_read(struct pic *p, unsigned int n, uint64_t off)
{
	struct pic_chip *c = &p->chip[n];

	if (c->poll) {
		int line = requested(p, n);

		c->poll = 0;
		if (line < 0)
			return 7;
		chip_ack(c, (unsigned int)line);
		update(p);
		return (uint8_t)(0x80 | line);
	}
	if (off)
		return c->imr;
	return c->read_isr ? c->isr : c->irr;
}

static uint64_t master_read(void *opaque, uint64_t off, unsigned int size)
{
	return chip_read(opaque, MASTER, off);
}

static void master_write(void *opaque, uint64_t off, unsigned int size, uint64_t value)
{
	chip_write(opaque, MASTER, off, (uint8_t)value);
}

static uint64_t slave_read(void *opaque, uint64_t off, unsigned int size)
{
	return chip_read(opaque, SLAVE, off);
}

static void slave_write(void *opaque, uint64_t off, unsigned int size, uint64_t value)
{
	chip_write(opaque, SLAVE, off, (uint8_t)value);
}

static uint64_t elcr_read(void *opaque, uint64_t off, unsigned int size)
{
	const struct pic *p = opaque;

	return p->chip[off].elcr;
}

static void elcr_write(void *opaque, uint64_t off, unsigned int size, uint64_t value)
{
	struct pic *p = opaque;
	struct pic_chip *c = &p->chip[off];

	c->elcr = (uint8_t)value & elcr_mask[off];
	c->irr |= c->lines & c->elcr;
	update(p);
}

static const struct bus_ops master_ops = {.read = master_read, .write = master_write, .max = 1};
static const struct bus_ops slave_ops = {.read = slave_read, .write = slave_write, .max = 1};
static const struct bus_ops elcr_ops = {.read = elcr_read, .write = elcr_write, .max = 1};

/* The lines stay as they are: they are the devices'. */
static void pic_reset(void *opaque)
{
	struct pic *p = opaque;

	for (unsigned int n = 0; n < 2; n++)
		p->chip[n] = (struct pic_chip){.lines = p->chip[n].lines, .lowest = 7};
	update(p);
}

static int pic_loaded(void *opaque, struct err *e)
{
	struct pic *p = opaque;

	for (unsigned int n = 0; n < 2; n++) {
		if (p->chip[n].lowest > 7 || p->chip[n].init_step > 4 || p->chip[n].init_step == 1)
			return err_msg(e, -EINVAL, "pic_i8259: saved state is impossible");
		p->chip[n].base &= 0xf8;
	}
	update(p);
	return 0;
}

/* A chip's record is bytes only, so it is saved as they lie. */
static const struct state_field pic_fields[] = {STATE_ARRAY(struct pic, chip, 1)};

static const struct state_table pic_state = {
    .name = "pic_i8259",
    .version = 1,
    .fields = pic_fields,
    .n_fields = ARRAY_SIZE(pic_fields),
    .loaded = pic_loaded,
};

int pic_new(const struct pic_config *cfg, struct pic **ret)
{
	struct pic *p = device_alloc(sizeof(*p), "pic", &pic_state, pic_reset, NULL);

	if (!p)
		return -ENOMEM;
	p->intr = cfg->intr;
	device_region(&p->dev, "pic-master", BUS_PIO, 0x20, 2, &master_ops);
	device_region(&p->dev, "pic-slave", BUS_PIO, 0xa0, 2, &slave_ops);
	device_region(&p->dev, "pic-elcr", BUS_PIO, 0x4d0, 2, &elcr_ops);
	pic_reset(p);
	*ret = p;
	return 0;
}
