/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/timerq.h - a queue of one-shot timers that somebody else drives
 *
 * A device owns `struct timer`s and arms them; it does not know who calls back: the event loop, a
 * vCPU thread between two runs of the engine (the local APIC's timer), or a unit test with a clock
 * of its own.
 *
 * Threads: timer_set and timer_cancel may be called from any thread, under any lock.  Callbacks run
 * in the driving thread with no queue lock held.  A callback that was already due can still run
 * after timer_cancel returns in another thread: it takes its device's lock and looks again.
 * A timer must be cancelled, and the driving thread past its callback, before it is freed.
 */
#pragma once

#include "base/list.h"

#include <pthread.h>

#define TIMER_NEVER UINT64_MAX

struct timerq {
	pthread_mutex_t lock;
	struct list timers; /* sorted by deadline; a machine has a few dozen at most */
	uint64_t (*now)(void *opaque);
	int64_t offset; /* timerq_set_offset */
	/* The earliest deadline moved to @deadline (ns on the driver's clock): wake the driver if
	 * that is earlier than it sleeps for.  Called with no lock held; may be NULL. */
	void (*rearm)(void *opaque, uint64_t deadline);
	void *opaque;
};

struct timer {
	struct list node;
	struct timerq *q;
	void (*fn)(void *opaque);
	void *opaque;
	uint64_t deadline; /* ns on the queue's clock; TIMER_NEVER = not armed */
};

/* @now NULL means clock_now(). */
void timerq_init(struct timerq *q, uint64_t (*now)(void *opaque),
		 void (*rearm)(void *opaque, uint64_t deadline), void *opaque);
void timerq_fini(struct timerq *q);
/* From now on the queue's clock is @ns ahead of the driver's: a machine that was saved elsewhere
 * goes on with the times it knows.  What is armed already stays where it is on the driver's clock.
 */
void timerq_set_offset(struct timerq *q, int64_t ns);
/* On the queue's clock, as deadlines are: whoever arms a timer adds to this, not to clock_now(). */
uint64_t timerq_now(struct timerq *q);
/* Deadline of the earliest timer on the driver's clock, TIMER_NEVER if none. */
uint64_t timerq_next(struct timerq *q);
/* Call back every timer that is due. */
void timerq_run(struct timerq *q);

void timer_init(struct timer *t, struct timerq *q, void (*fn)(void *opaque), void *opaque);
/* Arm or re-arm; a deadline in the past fires on the next timerq_run. */
void timer_set(struct timer *t, uint64_t deadline);
void timer_cancel(struct timer *t);
