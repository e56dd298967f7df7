/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/pit_i8254.c - interval timer (Intel 8254 data sheet)
 *
 * Nothing counts: a counter remembers when it was loaded, and its value and output follow from the
 * clock.  Only counter 0 needs a timer, for the edges of its output.
 */
#include "device/pit_i8254.h"

#include "base/clock.h"

#include <errno.h>

enum { ACCESS_LATCH, ACCESS_LOW, ACCESS_HIGH, ACCESS_BOTH };

/* --- time --------------------------------------------------------------------------------------
 */

static uint64_t now_ns(const struct pit *p)
{
	return timerq_now(p->timer.q);
}

static uint64_t to_ticks(uint64_t ns)
{
	return muldiv64(ns, PIT_HZ, NSEC_PER_SEC);
}

static uint64_t to_ns(uint64_t ticks)
{
	return muldiv64(ticks, NSEC_PER_SEC, PIT_HZ) + 1;
}

/* Modes 2 and 3 repeat and stop while the gate is low; 1 and 5 start at its rise; 0 and 4 are
 * suspended by it. */
static bool is_periodic(const struct pit_counter *c)
{
	return c->mode == 2 || c->mode == 3;
}

static bool is_triggered_mode(const struct pit_counter *c)
{
	return c->mode == 1 || c->mode == 5;
}

static bool is_running(const struct pit_counter *c)
{
	if (!c->loaded)
		return false;
	return is_triggered_mode(c) ? c->triggered : c->gate;
}

static uint64_t elapsed(const struct pit *p, const struct pit_counter *c)
{
	uint64_t now = now_ns(p);

	if (!is_running(c))
		return is_periodic(c) ? 0 : c->paused;
	return to_ticks(now - MIN(c->start, now));
}

static uint16_t to_bcd(uint32_t v)
{
	return (uint16_t)(v / 1000 % 10 << 12 | v / 100 % 10 << 8 | v / 10 % 10 << 4 | v % 10);
}

static uint32_t from_bcd(uint16_t v)
{
	return (v >> 12) * 1000u + (v >> 8 & 15) * 100u + (v >> 4 & 15) * 10u + (v & 15);
}

static uint16_t current(const struct pit *p, const struct pit_counter *c)
{
	uint64_t gone = elapsed(p, c);
	uint32_t wrap = c->bcd ? 10000 : 65536, v;

	switch (c->mode) {
	case 2:
		v = c->count - (uint32_t)(gone % c->count);
		break;
	case 3: /* counts down by two, twice a period */
		v = c->count - (uint32_t)(2 * gone % c->count);
		if (c->count & 1)
			v &= ~1u;
		break;
	default: /* runs on below zero */
		v = (uint32_t)((c->count + (uint64_t)wrap - gone % wrap) % wrap);
		break;
	}
	v %= wrap;
	return c->bcd ? to_bcd(v) : (uint16_t)v;
}

static bool output(const struct pit *p, const struct pit_counter *c)
{
	uint64_t gone = elapsed(p, c);

	if (!c->loaded)
		return c->mode != 0;
	switch (c->mode) {
	case 0:
		return gone >= c->count;
	case 1:
		return !c->triggered || gone >= c->count;
	case 2: /* low for the last tick */
		return !c->gate || gone % c->count != c->count - 1;
	case 3:
		return !c->gate || gone % c->count < (c->count + 1) / 2;
	default: /* 4 and 5: low for one tick */
		return !is_running(c) || gone != c->count;
	}
}

/* --- IRQ 0 -------------------------------------------------------------------------------------
 */

/* Ticks from the start to the next rise of the output after @gone; 0 = none. */
static uint64_t next_rise(const struct pit_counter *c, uint64_t gone)
{
	if (!is_running(c))
		return 0;
	switch (c->mode) {
	case 2:
	case 3:
		return (gone / c->count + 1) * c->count;
	case 0:
	case 1:
		return gone < c->count ? c->count : 0;
	default:
		return gone <= c->count ? c->count + UINT64_C(1) : 0;
	}
}

static void drive(struct pit *p, bool level)
{
	p->irq_level = level;
	irq_set(&p->irq, level && !p->disconnected);
}

static void rearm(struct pit *p)
{
	struct pit_counter *c = &p->counter[0];
	uint64_t next = next_rise(c, elapsed(p, c)), due;

	if (!next) {
		timer_cancel(&p->timer);
		return;
	}
	due = c->start + to_ns(next);
	if (is_periodic(c) && to_ns(c->count) < PIT_MIN_PERIOD_NS)
		due = now_ns(p) + PIT_MIN_PERIOD_NS;
	timer_set(&p->timer, due);
}

static void on_timer(void *opaque)
{
	struct pit *p = opaque;
	struct pit_counter *c = &p->counter[0];

	device_lock(&p->dev);
	if (is_running(c)) {
		/* The edge; in modes 2 and 3 the output falls again before the next one. */
		if (c->mode != 0 && c->mode != 1)
			drive(p, false);
		drive(p, true);
		rearm(p);
	}
	device_unlock(&p->dev);
}

static void counter_changed(struct pit *p, unsigned int n)
{
	if (n != 0)
		return;
	drive(p, output(p, &p->counter[0]));
	rearm(p);
}

/* --- registers ---------------------------------------------------------------------------------
 */

static void load(struct pit *p, unsigned int n, uint16_t v)
{
	struct pit_counter *c = &p->counter[n];
	uint32_t count = c->bcd ? from_bcd(v) : v;

	if (count == 0)
		count = c->bcd ? 10000 : 65536;
	/* 1 is not allowed where the count repeats. */
	if (is_periodic(c) && count == 1)
		count = 2;
	c->count = count;
	if (!c->loaded || !is_triggered_mode(c)) {
		c->start = now_ns(p);
		c->paused = 0;
	}
	c->loaded = 1;
	counter_changed(p, n);
}

static void set_mode(struct pit *p, unsigned int n, uint8_t v)
{
	struct pit_counter *c = &p->counter[n];

	c->access = v >> 4 & 3;
	c->mode = v >> 1 & 7;
	if (c->mode > 5)
		c->mode &= 3; /* 6 and 7 are 2 and 3 */
	c->bcd = v & 1;
	c->loaded = 0;
	c->triggered = 0;
	c->latched = 0;
	c->status_latched = 0;
	c->read_high = c->write_high = 0;
	c->paused = 0;
	counter_changed(p, n);
}

static void latch_count(struct pit *p, struct pit_counter *c)
{
	if (c->latched)
		return; /* the first one holds until it is read */
	c->latch = current(p, c);
	c->latched = c->access == ACCESS_BOTH ? 2 : 1;
	c->read_high = c->access == ACCESS_HIGH;
}

static void latch_status(struct pit *p, struct pit_counter *c)
{
	if (c->status_latched)
		return;
	c->status =
	    (uint8_t)(output(p, c) << 7 | !c->loaded << 6 | c->access << 4 | c->mode << 1 | c->bcd);
	c->status_latched = 1;
}

static void write_control(struct pit *p, uint8_t v)
{
	unsigned int n = v >> 6;

	if (n < 3) {
		if (v >> 4 & 3)
			set_mode(p, n, v);
		else
			latch_count(p, &p->counter[n]);
		return;
	}
	for (n = 0; n < 3; n++) { /* read-back: bits 5 and 4 low ask for count and status */
		if (!(v >> (n + 1) & 1))
			continue;
		if (!(v & 0x20))
			latch_count(p, &p->counter[n]);
		if (!(v & 0x10))
			latch_status(p, &p->counter[n]);
	}
}

static void write_counter(struct pit *p, unsigned int n, uint8_t v)
{
	struct pit_counter *c = &p->counter[n];

	switch (c->access) {
	case ACCESS_LOW:
		load(p, n, v);
		break;
	case ACCESS_HIGH:
		load(p, n, (uint16_t)(v << 8));
		break;
	case ACCESS_BOTH:
		if (!c->write_high) {
			c->write_low = v;
			c->write_high = 1;
			/* Mode 0 stops counting between the bytes. */
			if (c->mode == 0) {
				c->loaded = 0;
				counter_changed(p, n);
			}
		} else {
			c->write_high = 0;
			load(p, n, (uint16_t)(v << 8 | c->write_low));
		}
		break;
	default: /* no mode was set yet */
		break;
	}
}

static uint8_t read_counter(struct pit *p, unsigned int n)
{
	struct pit_counter *c = &p->counter[n];
	uint16_t v;
	bool high;

	if (c->status_latched) {
		c->status_latched = 0;
		return c->status;
	}
	v = c->latched ? c->latch : current(p, c);
	if (c->access == ACCESS_BOTH) {
		high = c->read_high;
		c->read_high = !c->read_high;
	} else {
		high = c->access == ACCESS_HIGH;
	}
	if (c->latched)
		c->latched--;
	return (uint8_t)(high ? v >> 8 : v);
}

static uint64_t pit_read(void *opaque, uint64_t off, unsigned int size)
{
	return off == 3 ? 0xff : read_counter(opaque, (unsigned int)off);
}

static void pit_write(void *opaque, uint64_t off, unsigned int size, uint64_t value)
{
	if (off == 3)
		write_control(opaque, (uint8_t)value);
	else
		write_counter(opaque, (unsigned int)off, (uint8_t)value);
}

static const struct bus_ops pit_ops = {.read = pit_read, .write = pit_write, .max = 1};

/* --- port 61h ----------------------------------------------------------------------------------
 */

static void set_gate(struct pit *p, unsigned int n, bool gate)
{
	struct pit_counter *c = &p->counter[n];

	if (c->gate == gate)
		return;
	if (gate) {
		if (is_periodic(c) || is_triggered_mode(c))
			c->start = now_ns(p);
		else /* go on where it stopped */
			c->start = now_ns(p) - MIN(now_ns(p), to_ns(c->paused));
		c->triggered = 1;
	} else if (!is_triggered_mode(c)) {
		c->paused = elapsed(p, c);
	}
	c->gate = gate;
	counter_changed(p, n);
}

static uint64_t port61_read(void *opaque, uint64_t off, unsigned int size)
{
	struct pit *p = opaque;
	const struct pit_counter *c = &p->counter[2];

	/* Bit 4 toggles with each refresh request, 15 us apart. */
	return (uint64_t)(output(p, c) << 5 | (now_ns(p) / 15085 & 1) << 4 | p->speaker << 1 |
			  c->gate);
}

static void port61_write(void *opaque, uint64_t off, unsigned int size, uint64_t value)
{
	struct pit *p = opaque;

	p->speaker = value >> 1 & 1;
	set_gate(p, 2, value & 1);
}

static const struct bus_ops port61_ops = {.read = port61_read, .write = port61_write, .max = 1};

/* --- life --------------------------------------------------------------------------------------
 */

/* The listener is the HPET, with its own lock held, which this device never calls. */
void pit_disconnect(void *pit, bool off)
{
	struct pit *p = pit;

	device_lock(&p->dev);
	p->disconnected = off;
	irq_set(&p->irq, !off && p->irq_level);
	device_unlock(&p->dev);
}

static void pit_reset(void *opaque)
{
	struct pit *p = opaque;

	for (unsigned int n = 0; n < 3; n++)
		p->counter[n] = (struct pit_counter){
		    .count = 65536, .mode = 3, .access = ACCESS_BOTH, .gate = n != 2};
	p->speaker = 0;
	p->disconnected = 0;
	timer_cancel(&p->timer);
	drive(p, false);
}

static int pit_loaded(void *opaque, struct err *e)
{
	struct pit *p = opaque;

	for (unsigned int n = 0; n < 3; n++) {
		struct pit_counter *c = &p->counter[n];

		c->start = MIN(c->start, now_ns(p)); /* deadlines are sums of it */
		/* Counts divide. */
		if (c->count == 0 || c->count > 65536 || c->mode > 5 || c->access > 3)
			return err_msg(e, -EINVAL, "pit_i8254: saved counter %u is impossible", n);
	}
	rearm(p);
	return 0;
}

#define COUNTER_FIELD(n, member)                                                                   \
	{                                                                                          \
		.name = "counter" #n "." #member,                                                  \
		.offset = offsetof(struct pit, counter[n].member),                                 \
		.size = sizeof(((struct pit_counter *)0)->member), .count = 1, .since = 1,         \
		.is_bool = STATE_IS_BOOL(((struct pit_counter *)0)->member)                        \
	}
#define COUNTER_FIELDS(n)                                                                          \
	COUNTER_FIELD(n, start), COUNTER_FIELD(n, count), COUNTER_FIELD(n, latch),                 \
	    COUNTER_FIELD(n, mode), COUNTER_FIELD(n, bcd), COUNTER_FIELD(n, access),               \
	    COUNTER_FIELD(n, gate), COUNTER_FIELD(n, loaded), COUNTER_FIELD(n, latched),           \
	    COUNTER_FIELD(n, read_high), COUNTER_FIELD(n, write_high),                             \
	    COUNTER_FIELD(n, write_low), COUNTER_FIELD(n, status),                                 \
	    COUNTER_FIELD(n, status_latched), COUNTER_FIELD(n, triggered),                         \
	    COUNTER_FIELD(n, paused)

static const struct state_field pit_fields[] = {
    COUNTER_FIELDS(0),
    COUNTER_FIELDS(1),
    COUNTER_FIELDS(2),
    STATE_FIELD(struct pit, speaker, 1),
    STATE_FIELD(struct pit, irq_level, 1),
    STATE_FIELD(struct pit, disconnected, 1),
};

static const struct state_table pit_state = {
    .name = "pit_i8254",
    .version = 1,
    .fields = pit_fields,
    .n_fields = ARRAY_SIZE(pit_fields),
    .loaded = pit_loaded,
};

static void pit_fini(void *opaque)
{
	struct pit *p = opaque;

	timer_cancel(&p->timer);
}

int pit_new(const struct pit_config *cfg, struct pit **ret)
{
	struct pit *p = device_alloc(sizeof(*p), "pit", &pit_state, pit_reset, pit_fini);

	if (!p)
		return -ENOMEM;
	p->irq = cfg->irq;
	timer_init(&p->timer, cfg->timers, on_timer, p);
	device_region(&p->dev, "pit", BUS_PIO, 0x40, 4, &pit_ops);
	device_region(&p->dev, "port61", BUS_PIO, 0x61, 1, &port61_ops);
	pit_reset(p);
	*ret = p;
	return 0;
}
