/* SPDX-License-Identifier: Apache-2.0 */
/*
 * block/throttle.c - a disk's limits: requests a second and bytes a second, with bursts
 *
 * Requests above them wait, in their order, until the loop's timer lets them go; a flush is let
 * through, for it moves no data of its own.  A drain lets all of them go at once: whoever drains
 * wants the disk still, not slow.
 */
#include "block/node_priv.h"

static uint64_t cost(const struct blk_req *r)
{
	return r->op == BLK_READ || r->op == BLK_WRITE ? r->len : 0;
}

static struct blk_throttle *throttle(struct blk *b)
{
	return &b->throttle;
}

static uint64_t wait_ns(const struct blk_throttle *t, uint64_t now)
{
	return MAX(bucket_wait(&t->bytes, now), bucket_wait(&t->ops, now));
}

static void take(struct blk_throttle *t, uint64_t now, const struct blk_req *r)
{
	bucket_take(&t->bytes, now, cost(r));
	bucket_take(&t->ops, now, 1);
}

/* The next one that may go, or NULL with the timer set for it. */
static struct blk_req *next(struct blk *b, bool all)
{
	struct blk_throttle *t = throttle(b);
	struct blk_req *r = NULL;
	uint64_t now, wait;

	pthread_mutex_lock(&b->later_lock);
	if (!list_empty(&t->waiting)) {
		now = timerq_now(t->timer.q);
		wait = all ? 0 : wait_ns(t, now);
		if (wait) {
			timer_set(&t->timer, now + wait);
		} else {
			r = container_of(t->waiting.next, struct blk_req, node);
			list_remove(&r->node);
			take(t, now, r);
		}
	}
	pthread_mutex_unlock(&b->later_lock);
	return r;
}

void throttle_release(struct blk *b, bool all)
{
	struct blk_req *r;

	while ((r = next(b, all)) != NULL) {
		list_init(&r->node);
		b->ops->submit(b, r);
	}
}

static void on_timer(void *opaque)
{
	throttle_release(opaque, false);
}

bool throttle_hold(struct blk *b, struct blk_req *r)
{
	struct blk_throttle *t = throttle(b);
	uint64_t now, wait;
	bool hold;

	if (r->op == BLK_FLUSH)
		return false;
	pthread_mutex_lock(&b->later_lock);
	now = timerq_now(t->timer.q);
	wait = wait_ns(t, now);
	hold = wait || !list_empty(&t->waiting);
	if (hold && list_empty(&t->waiting))
		timer_set(&t->timer, now + wait);
	if (hold)
		list_append(&t->waiting, &r->node);
	else
		take(t, now, r);
	pthread_mutex_unlock(&b->later_lock);
	return hold;
}

void throttle_init(struct blk *b)
{
	list_init(&b->throttle.waiting);
	timer_init(&b->throttle.timer, loop_timers(b->loop), on_timer, b);
}

void throttle_fini(struct blk *b)
{
	timer_cancel(&b->throttle.timer);
}

void blk_limit(struct blk *b, const struct blk_limits *l)
{
	struct blk_throttle *t = throttle(b);

	pthread_mutex_lock(&b->later_lock);
	bucket_set(&t->bytes, l->bytes, l->bytes_burst);
	bucket_set(&t->ops, l->ops, l->ops_burst);
	t->on = l->bytes || l->ops;
	pthread_mutex_unlock(&b->later_lock);
	throttle_release(b, false);
}

void throttle_move(struct blk *to, struct blk *from)
{
	to->throttle.bytes = from->throttle.bytes;
	to->throttle.ops = from->throttle.ops;
	to->throttle.on = from->throttle.on;
	from->throttle.on = false;
}
