/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio/worker.c - one thread that serves the chains of a device, in order
 */
#include "virtio/worker.h"

static _Thread_local bool this_thread_works;

bool worker_is_this_thread(void)
{
	return this_thread_works;
}

static struct virtio_slot *take(struct list *l)
{
	struct virtio_slot *s;

	if (list_empty(l))
		return NULL;
	s = container_of(l->next, struct virtio_slot, node);
	list_remove(&s->node);
	return s;
}

void worker_kick(struct virtio_worker *w)
{
	bool any = false;

	for (unsigned int i = 0; i < w->dev->n_queues; i++) {
		struct virtio_slot *s;

		while ((s = take(&w->free)) != NULL) {
			if (!vq_pop(&w->dev->q[i], &s->chain)) {
				list_append(&w->free, &s->node);
				break;
			}
			s->q = &w->dev->q[i];
			pthread_mutex_lock(&w->lock);
			list_append(&w->todo, &s->node);
			pthread_mutex_unlock(&w->lock);
			any = true;
		}
	}
	if (any)
		pthread_cond_signal(&w->wake);
}

/* Device's lock held: hand back what the worker has answered. */
static void finish(struct virtio_worker *w)
{
	for (;;) {
		struct virtio_slot *s;

		pthread_mutex_lock(&w->lock);
		s = take(&w->done);
		pthread_mutex_unlock(&w->lock);
		if (!s)
			break;
		if (s->result < 0)
			virtio_broken(w->dev, "malformed request");
		else
			vq_push(s->q, &s->chain, (uint32_t)s->result);
		list_append(&w->free, &s->node);
	}
	for (unsigned int i = 0; i < w->dev->n_queues; i++)
		vq_notify(&w->dev->q[i]);
}

static void *run(void *opaque)
{
	struct virtio_worker *w = opaque;

	this_thread_works = true;
	pthread_mutex_lock(&w->lock);
	while (!w->stop) {
		struct virtio_slot *s = take(&w->todo);

		if (!s) {
			pthread_cond_wait(&w->wake, &w->lock);
			continue;
		}
		w->busy = true;
		pthread_mutex_unlock(&w->lock);
		s->result = w->handle(w->opaque, &s->chain);
		pthread_mutex_lock(&w->lock);
		w->busy = false;
		list_append(&w->done, &s->node);
		pthread_cond_broadcast(&w->idle);
		pthread_mutex_unlock(&w->lock);
		virtio_lock(w->dev);
		finish(w);
		worker_kick(w);
		virtio_unlock(w->dev);
		pthread_mutex_lock(&w->lock);
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

void worker_reset(struct virtio_worker *w)
{
	struct virtio_slot *s;

	pthread_mutex_lock(&w->lock);
	while ((s = take(&w->todo)) != NULL)
		list_append(&w->free, &s->node);
	while (w->busy)
		pthread_cond_wait(&w->idle, &w->lock);
	while ((s = take(&w->done)) != NULL)
		list_append(&w->free, &s->node);
	pthread_mutex_unlock(&w->lock);
}

/* The worker cannot go on without the device's lock, so what it has not begun is done here. */
void worker_quiesce(struct virtio_worker *w)
{
	struct virtio_slot *s;

	pthread_mutex_lock(&w->lock);
	while (w->busy)
		pthread_cond_wait(&w->idle, &w->lock);
	while ((s = take(&w->todo)) != NULL) {
		s->result = w->handle(w->opaque, &s->chain);
		list_append(&w->done, &s->node);
	}
	pthread_mutex_unlock(&w->lock);
	finish(w);
}

void worker_init(struct virtio_worker *w, unsigned int n_slots)
{
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->wake, NULL);
	pthread_cond_init(&w->idle, NULL);
	list_init(&w->free);
	list_init(&w->todo);
	list_init(&w->done);
	w->slots = xcalloc(n_slots, sizeof(*w->slots));
	for (unsigned int i = 0; i < n_slots; i++)
		list_append(&w->free, &w->slots[i].node);
}

int worker_start(struct virtio_worker *w)
{
	int r = -pthread_create(&w->thread, NULL, run, w);

	w->started = r == 0;
	return r;
}

void worker_fini(struct virtio_worker *w)
{
	if (w->started) {
		pthread_mutex_lock(&w->lock);
		w->stop = true;
		pthread_cond_signal(&w->wake);
		pthread_mutex_unlock(&w->lock);
		pthread_join(w->thread, NULL);
	}
	pthread_cond_destroy(&w->wake);
	pthread_cond_destroy(&w->idle);
	pthread_mutex_destroy(&w->lock);
	free(w->slots);
}
