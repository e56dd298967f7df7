/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/lapic_timer.c - the local APIC's timer (SDM vol. 3, 11.5.4)
 *
 * With an input clock of 1 GHz a count is a nanosecond times the divisor.
 */
#include "base/clock.h"
#include "device/lapic_priv.h"

_Static_assert(LAPIC_TIMER_HZ == NSEC_PER_SEC, "counts are nanoseconds");

static unsigned int mode(const struct lapic *l)
{
	return LVT_TIMER_MODE(l->lvt[LVT_TIMER]);
}

static uint64_t now_ns(const struct lapic *l)
{
	return timerq_now(l->timer.q);
}

/* Bits 3, 1, 0: 0 = by 2 ... 6 = by 128, 7 = by 1. */
static uint64_t divisor(const struct lapic *l)
{
	unsigned int code = (l->timer_divide & 3) | (l->timer_divide >> 1 & 4);

	return code == 7 ? 1 : UINT64_C(2) << code;
}

static uint64_t period_ns(const struct lapic *l)
{
	return (uint64_t)l->timer_initial * divisor(l);
}

static void arm(struct lapic *l, uint64_t due)
{
	l->timer_due = due;
	timer_set(&l->timer, due);
}

void lapic_timer_stop(struct lapic *l)
{
	l->tsc_deadline = 0;
	arm(l, TIMER_NEVER);
}

uint32_t lapic_timer_count(struct lapic *l)
{
	uint64_t gone, period = period_ns(l);

	if (mode(l) == TIMER_TSC_DEADLINE || l->timer_due == TIMER_NEVER)
		return 0;
	gone = now_ns(l) - MIN(l->timer_start, now_ns(l));
	if (gone >= period) {
		if (mode(l) == TIMER_ONE_SHOT || !period)
			return 0;
		gone %= period;
	}
	return l->timer_initial - (uint32_t)(gone / divisor(l));
}

/* From a count that runs: where it ends at the new rate or initial value. */
static void start_count(struct lapic *l, uint64_t start)
{
	uint64_t period = period_ns(l);

	l->timer_start = start;
	if (!period) {
		arm(l, TIMER_NEVER);
		return;
	}
	if (mode(l) == TIMER_PERIODIC)
		period = MAX(period, LAPIC_MIN_PERIOD_NS);
	arm(l, start + period);
}

void lapic_timer_set_initial(struct lapic *l, uint32_t count)
{
	if (mode(l) == TIMER_TSC_DEADLINE)
		return; /* ignored in this mode */
	l->timer_initial = count;
	start_count(l, now_ns(l));
}

/* The count goes on at the new rate. */
void lapic_timer_set_divide(struct lapic *l, uint32_t divide)
{
	uint32_t count = lapic_timer_count(l);
	uint64_t gone;

	l->timer_divide = divide & 0xb;
	if (l->timer_due == TIMER_NEVER || mode(l) == TIMER_TSC_DEADLINE)
		return;
	gone = (uint64_t)(l->timer_initial - count) * divisor(l);
	start_count(l, now_ns(l) - MIN(gone, now_ns(l)));
}

/* To or from TSC-deadline mode the timer is disarmed; between the others it keeps counting. */
void lapic_timer_set_lvt(struct lapic *l, uint32_t lvt)
{
	unsigned int old = mode(l);
	uint32_t count = lapic_timer_count(l);

	l->lvt[LVT_TIMER] = lvt;
	if (mode(l) == old)
		return;
	if (mode(l) == TIMER_TSC_DEADLINE || old == TIMER_TSC_DEADLINE) {
		lapic_timer_stop(l);
		l->timer_initial = 0;
		return;
	}
	if (count) {
		uint64_t gone = (uint64_t)(l->timer_initial - count) * divisor(l);

		start_count(l, now_ns(l) - MIN(gone, now_ns(l)));
	} else {
		arm(l, TIMER_NEVER);
	}
}

/* Nanoseconds until the guest's TSC reaches the deadline, rounded up; 0 = it has. */
static uint64_t deadline_in(struct lapic *l)
{
	uint64_t tsc = l->cfg.guest_tsc(l->cfg.opaque), left;

	if (tsc >= l->tsc_deadline)
		return 0;
	left = l->tsc_deadline - tsc;
	/* A year is as good as never, and keeps the sum below from wrapping. */
	if (left / l->cfg.tsc_hz > 365 * 86400)
		return UINT64_C(365) * 86400 * NSEC_PER_SEC;
	return muldiv64(left, NSEC_PER_SEC, l->cfg.tsc_hz) + 1;
}

static void fire(struct lapic *l, struct lapic_after *after)
{
	lapic_lvt(l, LVT_TIMER, after);
}

static void deadline_check(struct lapic *l, struct lapic_after *after)
{
	uint64_t ns;

	if (!l->tsc_deadline)
		return;
	ns = deadline_in(l);
	if (ns) {
		arm(l, now_ns(l) + ns);
		return;
	}
	l->tsc_deadline = 0;
	arm(l, TIMER_NEVER);
	fire(l, after);
}

void lapic_timer_set_deadline(struct lapic *l, uint64_t tsc, struct lapic_after *after)
{
	if (mode(l) != TIMER_TSC_DEADLINE || !l->cfg.guest_tsc || !l->cfg.tsc_hz)
		return;
	lapic_timer_stop(l);
	l->tsc_deadline = tsc;
	deadline_check(l, after);
}

void lapic_timer_expired(void *opaque)
{
	struct lapic *l = opaque;
	struct lapic_after after = {0};
	uint64_t now, period;

	pthread_mutex_lock(&l->lock);
	now = now_ns(l);
	if (mode(l) == TIMER_TSC_DEADLINE) {
		deadline_check(l, &after);
	} else if (l->timer_due <= now) {
		fire(l, &after);
		period = MAX(period_ns(l), LAPIC_MIN_PERIOD_NS);
		if (mode(l) == TIMER_PERIODIC && l->timer_initial)
			/* Whole periods that were missed are left out. */
			arm(l, l->timer_due + ((now - l->timer_due) / period + 1) * period);
		else
			l->timer_due = TIMER_NEVER;
	}
	lapic_unlock(l, &after);
}

void lapic_timer_restart(struct lapic *l)
{
	struct lapic_after after = {0};

	l->timer_start = MIN(l->timer_start, now_ns(l));
	if (mode(l) == TIMER_TSC_DEADLINE)
		deadline_check(l, &after);
	else
		timer_set(&l->timer, l->timer_due);
}
