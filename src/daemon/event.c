/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daemon/event.c - what happened, kept in a ring that listeners read at their own pace
 */
#include "daemon/daemon_priv.h"

#include "base/clock.h"

static void tell_listeners(struct daemon *d)
{
	struct list *at;

	list_for_each(at, &d->listeners)
	    loop_post(d->loop, &container_of(at, struct daemon_listener, node)->work);
}

void event_emit(struct daemon *d, const char *type, const char *uuid, const char *name,
		json_t *more)
{
	json_t *ev = json_pack("{s:s, s:f}", "type", type, "time",
			       (double)clock_wall() / (double)NSEC_PER_SEC);
	json_t **slot;

	if (uuid)
		json_object_set_new(ev, "machine",
				    json_pack("{s:s, s:s}", "uuid", uuid, "name", name));
	if (more)
		json_object_update(ev, more);
	json_decref(more);
	pthread_mutex_lock(&d->lock);
	json_object_set_new(ev, "id", json_integer((json_int_t)++d->last_event));
	slot = &d->events[d->last_event % ARRAY_SIZE(d->events)];
	json_decref(*slot);
	*slot = ev;
	tell_listeners(d);
	pthread_mutex_unlock(&d->lock);
}

void daemon_listen(struct daemon *d, struct daemon_listener *l, void (*fn)(void *opaque),
		   void *opaque)
{
	loop_work_init(&l->work, fn, opaque);
	pthread_mutex_lock(&d->lock);
	list_append(&d->listeners, &l->node);
	pthread_mutex_unlock(&d->lock);
}

void daemon_unlisten(struct daemon *d, struct daemon_listener *l)
{
	pthread_mutex_lock(&d->lock);
	list_remove(&l->node);
	pthread_mutex_unlock(&d->lock);
	loop_unpost(d->loop, &l->work);
}

uint64_t daemon_last_event(struct daemon *d)
{
	uint64_t id;

	pthread_mutex_lock(&d->lock);
	id = d->last_event;
	pthread_mutex_unlock(&d->lock);
	return id;
}

json_t *daemon_next_event(struct daemon *d, uint64_t after, uint64_t *id)
{
	json_t *ev = NULL;
	uint64_t oldest;

	pthread_mutex_lock(&d->lock);
	oldest =
	    d->last_event >= ARRAY_SIZE(d->events) ? d->last_event - ARRAY_SIZE(d->events) + 1 : 1;
	/* An id of a daemon before us may lie ahead: what follows is all new to its reader. */
	*id = after > d->last_event ? oldest : MAX(after + 1, oldest);
	if (*id <= d->last_event)
		ev = json_incref(d->events[*id % ARRAY_SIZE(d->events)]);
	pthread_mutex_unlock(&d->lock);
	return ev;
}
