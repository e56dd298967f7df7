/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/loop.h - the event loop: descriptors, timers, and calls posted from other threads
 *
 * One thread runs the loop; watches are added, changed and removed only in that thread (or before
 * it runs).  loop_post, loop_stop and the loop's timerq are safe from any thread.
 */
#pragma once

#include "base/err.h"
#include "base/timerq.h"

struct loop;

/* A watched descriptor, embedded by its owner.  @events are EPOLLIN, EPOLLOUT... from
 * <sys/epoll.h>. */
struct loop_fd {
	void (*fn)(void *opaque, uint32_t events);
	void *opaque;
	int fd;          /* not owned */
	uint32_t events; /* what is watched now */
	bool added;
};

/* A call to make in the loop's thread; posting it again before it ran makes one call. */
struct loop_work {
	struct list node;
	void (*fn)(void *opaque);
	void *opaque;
	bool queued;
};

must_check int loop_new(struct loop **ret, struct err *e);
void loop_free(struct loop *l);

/* Runs until loop_stop. */
void loop_run(struct loop *l);
/* One round: waits at most @timeout_ms (-1 = until something happens). */
void loop_once(struct loop *l, int timeout_ms);
void loop_stop(struct loop *l);
/* Readable when a round would do something: for who waits with poll(2) for other things too. */
int loop_poll_fd(const struct loop *l);

must_check int loop_add(struct loop *l, struct loop_fd *w, int fd, uint32_t events,
			void (*fn)(void *opaque, uint32_t events), void *opaque);
void loop_modify(struct loop *l, struct loop_fd *w, uint32_t events);
/* Safe from inside any callback, its own too; no callback for @w runs afterwards. */
void loop_remove(struct loop *l, struct loop_fd *w);

void loop_work_init(struct loop_work *w, void (*fn)(void *opaque), void *opaque);
void loop_post(struct loop *l, struct loop_work *w);
/* Forget a posted call (loop thread only). */
void loop_unpost(struct loop *l, struct loop_work *w);

struct timerq *loop_timers(struct loop *l);
