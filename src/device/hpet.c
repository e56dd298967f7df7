/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/hpet.c - high precision event timers (IA-PC HPET 1.0a, section 2.3)
 */
#include "device/hpet.h"

#include "base/clock.h"

#include <errno.h>

#define REG_CAPS    0x000
#define REG_CONFIG  0x010
#define REG_STATUS  0x020
#define REG_COUNTER 0x0f0
#define REG_TIMER0  0x100 /* 20h each: config, comparator, FSB route */

#define CONFIG_ENABLE BIT(0)
#define CONFIG_LEGACY BIT(1)

#define T_LEVEL      BIT(1)
#define T_ENABLE     BIT(2)
#define T_PERIODIC   BIT(3)
#define T_CAN_PERIOD BIT(4)
#define T_64         BIT(5)
#define T_SET_VALUE  BIT(6)
#define T_32MODE     BIT(8)
#define T_ROUTE(c)   ((unsigned int)((c) >> 9 & 31))
#define T_FSB        BIT(14)
#define T_CAN_FSB    BIT(15)
#define T_ROUTES     (UINT64_C(0x00f00000) << 32) /* IOAPIC pins 20-23 */
#define T_WRITABLE   UINT64_C(0x7f4e)
#define T_FIXED      (T_CAN_PERIOD | T_64 | T_CAN_FSB | T_ROUTES)

#define FEMTOSECONDS_PER_NS UINT64_C(1000000)

static uint64_t now_ns(const struct hpet *h)
{
	return timerq_now(h->t[0].timer.q);
}

static bool is_on(const struct hpet *h)
{
	return (h->config & CONFIG_ENABLE) != 0;
}

/* Modulo 2^64. */
static uint64_t counter(const struct hpet *h)
{
	return is_on(h) ? h->counter + (now_ns(h) - h->start) / HPET_PERIOD_NS : h->counter;
}

static uint64_t mask(const struct hpet_timer *t)
{
	return t->config & T_32MODE ? UINT32_MAX : UINT64_MAX;
}

static unsigned int number(const struct hpet_timer *t)
{
	return (unsigned int)(t - t->hpet->t);
}

/* --- interrupts --------------------------------------------------------------------------------
 */

static struct irq line_of(const struct hpet_timer *t)
{
	const struct hpet_config *cfg = &t->hpet->cfg;
	struct irq line = cfg->gsi;

	if ((t->hpet->config & CONFIG_LEGACY) && number(t) == 0)
		return cfg->legacy_irq0;
	if ((t->hpet->config & CONFIG_LEGACY) && number(t) == 1)
		return cfg->legacy_irq8;
	line.pin = T_ROUTE(t->config);
	/* Only pins announced as possible; others are not wired. */
	if (!(T_ROUTES >> 32 >> line.pin & 1))
		line.set = NULL;
	return line;
}

static void drive(struct hpet_timer *t, bool level)
{
	struct irq line = line_of(t);

	t->level = level;
	irq_set(&line, level);
}

static void raise_irq(struct hpet_timer *t)
{
	struct hpet *h = t->hpet;
	struct irq line;

	if ((t->config & T_LEVEL) && !(t->config & T_FSB))
		h->isr |= BIT(number(t));
	if (!(t->config & T_ENABLE))
		return;
	if (t->config & T_FSB) {
		msi_send(&h->cfg.msi, t->fsb >> 32, (uint32_t)t->fsb);
	} else if (t->config & T_LEVEL) {
		drive(t, true);
	} else {
		line = line_of(t);
		irq_pulse(&line);
	}
}

/* --- time --------------------------------------------------------------------------------------
 */

static void disarm(struct hpet_timer *t)
{
	t->armed = 0;
	timer_cancel(&t->timer);
}

static void arm(struct hpet_timer *t)
{
	struct hpet *h = t->hpet;
	uint64_t now = counter(h), left;

	if (!is_on(h)) {
		disarm(t);
		return;
	}
	left = (t->cmp - now) & mask(t);
	/* Just matched: the next one is a full turn away in the counter's width. */
	if (left == 0)
		left = mask(t) == UINT32_MAX ? UINT64_C(1) << 32 : UINT64_MAX;
	t->due = now + left;
	t->armed = 1;
	/* A century is as good as never, and keeps the sum from wrapping. */
	left = MIN(left, UINT64_C(3600) * 24 * 36525 * (NSEC_PER_SEC / HPET_PERIOD_NS));
	timer_set(&t->timer, now_ns(h) + left * HPET_PERIOD_NS);
}

/* The next multiple of the period that is still to come; what was missed is left out. */
static void next_period(struct hpet_timer *t, uint64_t now)
{
	uint64_t period = MAX(t->period & mask(t), UINT64_C(1));
	uint64_t least = HPET_MIN_PERIOD_NS / HPET_PERIOD_NS;

	/* Too fast for anybody: as many periods at once as make up the least. */
	if (period < least)
		period *= (least + period - 1) / period;
	t->cmp = (t->due + ((now - t->due) / period + 1) * period) & mask(t);
}

static void on_timer(void *opaque)
{
	struct hpet_timer *t = opaque;
	struct hpet *h = t->hpet;
	uint64_t now;

	device_lock(&h->dev);
	now = counter(h);
	if (t->armed && is_on(h)) {
		/* Early, when the deadline was cut off: look again. */
		if ((int64_t)(now - t->due) < 0) {
			arm(t);
		} else {
			raise_irq(t);
			if ((t->config & T_PERIODIC) && t->period)
				next_period(t, now);
			arm(t);
		}
	}
	device_unlock(&h->dev);
}

/* --- registers ---------------------------------------------------------------------------------
 */

static void set_legacy(struct hpet *h, bool on)
{
	/* Lines that move are let go first. */
	for (unsigned int i = 0; i < 2; i++) {
		if (h->t[i].level)
			drive(&h->t[i], false);
	}
	h->config = on ? h->config | CONFIG_LEGACY : h->config & ~CONFIG_LEGACY;
	if (h->cfg.legacy)
		h->cfg.legacy(h->cfg.opaque, on);
}

static void write_config(struct hpet *h, uint64_t v)
{
	bool on = v & CONFIG_ENABLE;

	if (((v ^ h->config) & CONFIG_LEGACY) != 0)
		set_legacy(h, v & CONFIG_LEGACY);
	if (on == is_on(h))
		return;
	h->counter = counter(h);
	h->start = now_ns(h);
	h->config ^= CONFIG_ENABLE;
	for (unsigned int i = 0; i < HPET_TIMERS; i++) {
		if (on)
			arm(&h->t[i]);
		else
			disarm(&h->t[i]);
	}
}

/* Writing one ends a level-triggered interrupt. */
static void write_status(struct hpet *h, uint64_t v)
{
	for (unsigned int i = 0; i < HPET_TIMERS; i++) {
		if (!(v & h->isr & BIT(i)))
			continue;
		h->isr &= ~BIT(i);
		drive(&h->t[i], false);
	}
}

static void write_timer_config(struct hpet_timer *t, uint64_t v)
{
	if (t->level)
		drive(t, false);
	t->config = T_FIXED | (v & T_WRITABLE);
	if (t->config & T_32MODE) {
		t->cmp &= UINT32_MAX;
		t->period &= UINT32_MAX;
	}
	/* Still asking, on the line it has now. */
	if ((t->hpet->isr & BIT(number(t))) && (t->config & T_LEVEL) && (t->config & T_ENABLE) &&
	    !(t->config & T_FSB))
		drive(t, true);
	arm(t);
}

/* @bits of @v are written.  In periodic mode the value is the period, unless SET_VALUE asked for
 * the comparator itself (2.3.9.2.2). */
static void write_cmp(struct hpet_timer *t, uint64_t v, uint64_t bits)
{
	if (!(t->config & T_PERIODIC) || (t->config & T_SET_VALUE))
		t->cmp = ((t->cmp & ~bits) | (v & bits)) & mask(t);
	if (t->config & T_PERIODIC)
		t->period = ((t->period & ~bits) | (v & bits)) & mask(t);
	/* One write uses it up; the upper half belongs to the same write. */
	if (!(bits & UINT32_MAX) || bits == UINT64_MAX || (t->config & T_32MODE))
		t->config &= ~T_SET_VALUE;
	arm(t);
}

static void write_counter(struct hpet *h, uint64_t v, uint64_t bits)
{
	h->counter = (counter(h) & ~bits) | (v & bits);
	h->start = now_ns(h);
	for (unsigned int i = 0; i < HPET_TIMERS && is_on(h); i++)
		arm(&h->t[i]);
}

static uint64_t read_qword(struct hpet *h, uint64_t off)
{
	struct hpet_timer *t;

	switch (off) {
	case REG_CAPS:
		return HPET_PERIOD_NS * FEMTOSECONDS_PER_NS << 32 | HPET_BLOCK_ID;
	case REG_CONFIG:
		return h->config;
	case REG_STATUS:
		return h->isr;
	case REG_COUNTER:
		return counter(h);
	}
	if (off < REG_TIMER0 || off >= REG_TIMER0 + 0x20 * HPET_TIMERS)
		return 0;
	t = &h->t[(off - REG_TIMER0) / 0x20];
	switch (off & 0x1f) {
	case 0:
		return t->config;
	case 8:
		return t->cmp;
	case 16:
		return t->fsb;
	default:
		return 0;
	}
}

static void write_qword(struct hpet *h, uint64_t off, uint64_t v, uint64_t bits)
{
	uint64_t whole = (read_qword(h, off) & ~bits) | (v & bits);
	struct hpet_timer *t;

	switch (off) {
	case REG_CONFIG:
		write_config(h, whole);
		return;
	case REG_STATUS:
		write_status(h, v & bits);
		return;
	case REG_COUNTER:
		write_counter(h, v, bits);
		return;
	}
	if (off < REG_TIMER0 || off >= REG_TIMER0 + 0x20 * HPET_TIMERS)
		return;
	t = &h->t[(off - REG_TIMER0) / 0x20];
	switch (off & 0x1f) {
	case 0:
		write_timer_config(t, whole);
		break;
	case 8:
		write_cmp(t, v, bits);
		break;
	case 16:
		t->fsb = whole;
		break;
	}
}

static uint64_t hpet_read(void *opaque, uint64_t off, unsigned int size)
{
	uint64_t v = read_qword(opaque, off & ~UINT64_C(7));

	return v >> (8 * (off & 7));
}

static void hpet_write(void *opaque, uint64_t off, unsigned int size, uint64_t value)
{
	unsigned int shift = 8 * (off & 7);
	uint64_t bits = size == 8 ? UINT64_MAX : UINT64_C(0xffffffff) << shift;

	write_qword(opaque, off & ~UINT64_C(7), value << shift, bits);
}

static const struct bus_ops hpet_ops = {.read = hpet_read, .write = hpet_write, .min = 4, .max = 8};

/* --- life --------------------------------------------------------------------------------------
 */

static void hpet_reset(void *opaque)
{
	struct hpet *h = opaque;

	for (unsigned int i = 0; i < HPET_TIMERS; i++) {
		struct hpet_timer *t = &h->t[i];

		disarm(t);
		if (t->level)
			drive(t, false);
		t->config = T_FIXED;
		t->cmp = UINT64_MAX;
		t->period = 0;
		t->fsb = 0;
	}
	if (h->config & CONFIG_LEGACY)
		set_legacy(h, false);
	h->config = 0;
	h->isr = 0;
	h->counter = 0;
	h->start = now_ns(h);
}

static int hpet_loaded(void *opaque, struct err *e)
{
	struct hpet *h = opaque;

	h->config &= CONFIG_ENABLE | CONFIG_LEGACY;
	for (unsigned int i = 0; i < HPET_TIMERS; i++) {
		struct hpet_timer *t = &h->t[i];

		t->config = T_FIXED | (t->config & T_WRITABLE);
		arm(t);
	}
	return 0;
}

#define TIMER_FIELD(n, member)                                                                     \
	{                                                                                          \
		.name = "timer" #n "." #member, .offset = offsetof(struct hpet, t[n].member),      \
		.size = sizeof(((struct hpet_timer *)0)->member), .count = 1, .since = 1,          \
		.is_bool = STATE_IS_BOOL(((struct hpet_timer *)0)->member)                         \
	}
#define TIMER_FIELDS(n)                                                                            \
	TIMER_FIELD(n, config), TIMER_FIELD(n, cmp), TIMER_FIELD(n, period), TIMER_FIELD(n, fsb),  \
	    TIMER_FIELD(n, level)

static const struct state_field hpet_fields[] = {
    STATE_FIELD(struct hpet, config, 1),
    STATE_FIELD(struct hpet, isr, 1),
    STATE_FIELD(struct hpet, counter, 1),
    STATE_FIELD(struct hpet, start, 1),
    TIMER_FIELDS(0),
    TIMER_FIELDS(1),
    TIMER_FIELDS(2),
};

static const struct state_table hpet_state = {
    .name = "hpet",
    .version = 1,
    .fields = hpet_fields,
    .n_fields = ARRAY_SIZE(hpet_fields),
    .loaded = hpet_loaded,
};

static void hpet_fini(void *opaque)
{
	struct hpet *h = opaque;

	for (unsigned int i = 0; i < HPET_TIMERS; i++)
		timer_cancel(&h->t[i].timer);
}

int hpet_new(const struct hpet_config *cfg, struct hpet **ret)
{
	struct hpet *h = device_alloc(sizeof(*h), "hpet", &hpet_state, hpet_reset, hpet_fini);

	if (!h)
		return -ENOMEM;
	h->cfg = *cfg;
	for (unsigned int i = 0; i < HPET_TIMERS; i++) {
		h->t[i].hpet = h;
		timer_init(&h->t[i].timer, cfg->timers, on_timer, &h->t[i]);
	}
	device_region(&h->dev, "hpet", BUS_MMIO, cfg->base ? cfg->base : HPET_BASE, 0x400,
		      &hpet_ops);
	hpet_reset(h);
	*ret = h;
	return 0;
}
