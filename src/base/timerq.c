/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/timerq.c - a queue of one-shot timers that somebody else drives
 */
#include "base/timerq.h"

#include "base/clock.h"

void timerq_init(struct timerq *q, uint64_t (*now)(void *opaque),
		 void (*rearm)(void *opaque, uint64_t deadline), void *opaque)
{
	pthread_mutex_init(&q->lock, NULL);
	list_init(&q->timers);
	q->now = now;
	q->offset = 0;
	q->rearm = rearm;
	q->opaque = opaque;
}

void timerq_fini(struct timerq *q)
{
	pthread_mutex_destroy(&q->lock);
}

void timerq_set_offset(struct timerq *q, int64_t ns)
{
	struct list *at;

	pthread_mutex_lock(&q->lock);
	list_for_each(at, &q->timers)
	{
		struct timer *t = container_of(at, struct timer, node);

		t->deadline += (uint64_t)(ns - q->offset);
	}
	q->offset = ns;
	pthread_mutex_unlock(&q->lock);
}

uint64_t timerq_now(struct timerq *q)
{
	return (q->now ? q->now(q->opaque) : clock_now()) + (uint64_t)q->offset;
}

/* A deadline on the driver's clock; what lies before that began is due. */
static uint64_t driver_time(const struct timerq *q, uint64_t deadline)
{
	if (deadline == TIMER_NEVER)
		return TIMER_NEVER;
	if (q->offset > 0)
		return deadline - MIN(deadline, (uint64_t)q->offset);
	return deadline + MIN((uint64_t)-q->offset, TIMER_NEVER - 1 - deadline);
}

static uint64_t next_locked(const struct timerq *q)
{
	if (list_empty(&q->timers))
		return TIMER_NEVER;
	return container_of(q->timers.next, struct timer, node)->deadline;
}

uint64_t timerq_next(struct timerq *q)
{
	uint64_t next;

	pthread_mutex_lock(&q->lock);
	next = next_locked(q);
	pthread_mutex_unlock(&q->lock);
	return driver_time(q, next);
}

void timerq_run(struct timerq *q)
{
	uint64_t now = timerq_now(q);

	for (;;) {
		struct timer *t;

		pthread_mutex_lock(&q->lock);
		if (next_locked(q) > now || list_empty(&q->timers)) {
			pthread_mutex_unlock(&q->lock);
			return;
		}
		t = container_of(q->timers.next, struct timer, node);
		list_remove(&t->node);
		t->deadline = TIMER_NEVER;
		pthread_mutex_unlock(&q->lock);
		t->fn(t->opaque);
	}
}

void timer_init(struct timer *t, struct timerq *q, void (*fn)(void *opaque), void *opaque)
{
	list_init(&t->node);
	t->q = q;
	t->fn = fn;
	t->opaque = opaque;
	t->deadline = TIMER_NEVER;
}

void timer_set(struct timer *t, uint64_t deadline)
{
	struct timerq *q = t->q;
	struct list *at;
	bool first;

	pthread_mutex_lock(&q->lock);
	list_remove(&t->node);
	t->deadline = deadline;
	if (deadline == TIMER_NEVER) {
		pthread_mutex_unlock(&q->lock);
		return;
	}
	list_for_each(at, &q->timers)
	{
		if (container_of(at, struct timer, node)->deadline > deadline)
			break;
	}
	list_insert_before(at, &t->node);
	first = q->timers.next == &t->node;
	pthread_mutex_unlock(&q->lock);
	if (first && q->rearm)
		q->rearm(q->opaque, driver_time(q, deadline));
}

void timer_cancel(struct timer *t)
{
	timer_set(t, TIMER_NEVER);
}
