/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net/rate.c - a card's limits, in bytes a second each way, between it and where its frames go
 *
 * From the guest: frames above the limit wait in a bounded queue, and what does not fit is dropped,
 * as on a slow wire.  To the guest: the backend is told that there is no room, and keeps or drops
 * the frame as it does for a card without buffers.
 */
#include "net/net.h"

#include "base/bucket.h"

#include <pthread.h>

#define QUEUE_BYTES (1u << 20)

struct frame {
	struct list node;
	size_t len;
	uint8_t data[];
};

struct rate {
	struct net net;
	struct net *inner; /* owned */
	pthread_mutex_t lock;
	struct bucket in, out;
	struct list queue; /* from the guest */
	size_t bytes;
	bool full; /* a frame for the guest was turned away */
	struct timer timer;
};

static struct rate *from_net(struct net *n)
{
	return container_of(n, struct rate, net);
}

/* --- from the guest --- */

static void enqueue(struct rate *r, const void *data, size_t len)
{
	struct frame *f = r->bytes + len > QUEUE_BYTES ? NULL : malloc(sizeof(*f) + len);

	if (!f)
		return;
	f->len = len;
	memcpy(f->data, data, len);
	list_append(&r->queue, &f->node);
	r->bytes += len;
}

static void arm(struct rate *r, uint64_t now, uint64_t wait)
{
	if (wait && now + wait < r->timer.deadline)
		timer_set(&r->timer, now + wait);
}

static void rate_send(struct net *n, const void *data, size_t len)
{
	struct rate *r = from_net(n);
	bool send = false;
	uint64_t now;

	pthread_mutex_lock(&r->lock);
	now = timerq_now(r->timer.q);
	if (list_empty(&r->queue) && !bucket_wait(&r->out, now)) {
		bucket_take(&r->out, now, len);
		send = true;
	} else {
		enqueue(r, data, len);
		arm(r, now, bucket_wait(&r->out, now));
	}
	pthread_mutex_unlock(&r->lock);
	if (send)
		net_send(r->inner, data, len);
}

static struct frame *next_frame(struct rate *r, uint64_t now)
{
	struct frame *f;

	if (list_empty(&r->queue) || bucket_wait(&r->out, now))
		return NULL;
	f = container_of(r->queue.next, struct frame, node);
	list_remove(&f->node);
	r->bytes -= f->len;
	bucket_take(&r->out, now, f->len);
	return f;
}

/* In the loop's thread. */
static void on_timer(void *opaque)
{
	struct rate *r = opaque;
	struct frame *f;
	uint64_t now;
	bool room;

	pthread_mutex_lock(&r->lock);
	now = timerq_now(r->timer.q);
	while ((f = next_frame(r, now)) != NULL) {
		pthread_mutex_unlock(&r->lock);
		net_send(r->inner, f->data, f->len);
		free(f);
		pthread_mutex_lock(&r->lock);
	}
	room = r->full && !bucket_wait(&r->in, now);
	if (room)
		r->full = false;
	if (r->full)
		arm(r, now, bucket_wait(&r->in, now));
	if (!list_empty(&r->queue))
		arm(r, now, bucket_wait(&r->out, now));
	pthread_mutex_unlock(&r->lock);
	if (room)
		net_rx_ready(r->inner);
}

/* --- to the guest --- */

static bool on_rx(void *opaque, const void *data, size_t len)
{
	struct rate *r = opaque;
	uint64_t now, wait;

	pthread_mutex_lock(&r->lock);
	now = timerq_now(r->timer.q);
	wait = bucket_wait(&r->in, now);
	r->full = wait != 0;
	arm(r, now, wait);
	pthread_mutex_unlock(&r->lock);
	if (wait || !r->net.rx(r->net.rx_opaque, data, len))
		return false;
	pthread_mutex_lock(&r->lock);
	bucket_take(&r->in, now, len);
	pthread_mutex_unlock(&r->lock);
	return true;
}

static void rate_rx_ready(struct net *n)
{
	net_rx_ready(from_net(n)->inner);
}

/* --- life --- */

static void rate_close(struct net *n)
{
	struct rate *r = from_net(n);

	timer_cancel(&r->timer);
	net_close(r->inner);
	while (!list_empty(&r->queue)) {
		struct frame *f = container_of(r->queue.next, struct frame, node);

		list_remove(&f->node);
		free(f);
	}
	pthread_mutex_destroy(&r->lock);
	free(r);
}

static const struct net_ops ops = {
    .name = "rate",
    .send = rate_send,
    .rx_ready = rate_rx_ready,
    .close = rate_close,
};

struct net *net_rate_new(struct net *inner, struct loop *l)
{
	struct rate *r = xnew(struct rate);

	r->net = (struct net){
	    .ops = &ops,
	    .mtu = inner->mtu,
	    .big_tcp = inner->big_tcp,
	    .good_csum = inner->good_csum,
	};
	r->inner = inner;
	inner->rx = on_rx;
	inner->rx_opaque = r;
	pthread_mutex_init(&r->lock, NULL);
	list_init(&r->queue);
	timer_init(&r->timer, loop_timers(l), on_timer, r);
	return &r->net;
}

void net_rate_set(struct net *n, const struct net_limits *l)
{
	struct rate *r = from_net(n);

	pthread_mutex_lock(&r->lock);
	bucket_set(&r->in, l->in, l->in_burst);
	bucket_set(&r->out, l->out, l->out_burst);
	pthread_mutex_unlock(&r->lock);
	on_timer(r);
}
