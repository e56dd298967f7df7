/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/device/fake.h - a chip's world: a clock that stands, lines that remember, a bus
 */
#pragma once

#include "base/clock.h"
#include "device/device.h"
#include "test.h"

struct fake_clock {
	struct timerq q;
	uint64_t now;
};

static inline uint64_t fake_clock_now(void *opaque)
{
	return ((struct fake_clock *)opaque)->now;
}

static inline void fake_clock_init(struct fake_clock *c)
{
	c->now = NSEC_PER_SEC;
	timerq_init(&c->q, fake_clock_now, NULL, c);
}

/* Lets @ns pass, firing timers at their times; returns how many callbacks there were.  A device
 * that arms without end fails the test. */
static inline unsigned int fake_clock_run(struct fake_clock *c, uint64_t ns)
{
	uint64_t end = c->now + ns;
	unsigned int n = 0;

	while (timerq_next(&c->q) <= end) {
		c->now = MAX(c->now, timerq_next(&c->q));
		timerq_run(&c->q);
		CHECK(++n < 1000000);
	}
	c->now = end;
	return n;
}

struct fake_lines {
	bool level[64];
	unsigned int rises[64];
};

static inline void fake_line_set(void *opaque, unsigned int pin, bool level)
{
	struct fake_lines *l = opaque;

	CHECK(pin < 64);
	if (level && !l->level[pin])
		l->rises[pin]++;
	l->level[pin] = level;
}

static inline struct irq fake_line(struct fake_lines *l, unsigned int pin)
{
	return (struct irq){fake_line_set, l, pin};
}

struct fake_requests {
	unsigned int n;
	enum machine_request what;
	uint32_t arg;
};

static inline void fake_request(void *opaque, enum machine_request what, uint32_t arg)
{
	struct fake_requests *r = opaque;

	r->n++;
	r->what = what;
	r->arg = arg;
}

static inline struct request_sink fake_sink(struct fake_requests *r)
{
	return (struct request_sink){fake_request, r};
}

static inline struct bus *fake_bus(struct device *d)
{
	struct bus *b;

	CHECK_EQ(bus_new(&b), 0);
	device_attach(d, b);
	return b;
}

static inline uint8_t in8(struct bus *b, uint16_t port)
{
	return (uint8_t)bus_read(b, BUS_PIO, port, 1);
}

static inline void out8(struct bus *b, uint16_t port, uint8_t v)
{
	bus_write(b, BUS_PIO, port, 1, v);
}

/* Saves, resets and loads again: what a snapshot does. */
static inline void fake_snapshot(struct device *d)
{
	struct strbuf s = {0};
	struct err e = {0};
	size_t used;

	device_save(d, &s);
	device_reset(d);
	CHECK_EQ(device_load(d, s.data, s.len, &used, &e), 0);
	CHECK_EQ(used, s.len);
	strbuf_fini(&s);
}
