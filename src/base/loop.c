/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/loop.c - the event loop
 */
#include "base/loop.h"

#include "base/clock.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>

#define LOOP_BATCH 32

struct loop {
	int epfd, wakefd, timerfd;
	_Atomic bool stop;
	struct timerq timers;
	pthread_mutex_t lock; /* works */
	struct list works;
	/* The batch being dispatched: loop_remove clears entries so that no stale callback runs. */
	struct epoll_event batch[LOOP_BATCH];
	int batch_n;
};

static void loop_wake(struct loop *l)
{
	uint64_t one = 1;
	ssize_t n = write(l->wakefd, &one, sizeof(one));

	(void)n; /* a full counter wakes as well */
}

static void loop_rearm(void *opaque, uint64_t deadline)
{
	struct loop *l = opaque;
	struct itimerspec its = {0};

	if (deadline == 0)
		deadline = 1; /* zero would disarm */
	its.it_value.tv_sec = (time_t)(deadline / NSEC_PER_SEC);
	its.it_value.tv_nsec = (long)(deadline % NSEC_PER_SEC);
	timerfd_settime(l->timerfd, TFD_TIMER_ABSTIME, &its, NULL);
}

int loop_new(struct loop **ret, struct err *e)
{
	struct loop *l = xnew(struct loop);
	struct epoll_event ev = {.events = EPOLLIN};

	list_init(&l->works);
	pthread_mutex_init(&l->lock, NULL);
	timerq_init(&l->timers, NULL, loop_rearm, l);
	l->epfd = epoll_create1(EPOLL_CLOEXEC);
	l->wakefd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	l->timerfd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (l->epfd < 0 || l->wakefd < 0 || l->timerfd < 0)
		goto fail;
	ev.data.ptr = &l->wakefd;
	if (epoll_ctl(l->epfd, EPOLL_CTL_ADD, l->wakefd, &ev) < 0)
		goto fail;
	ev.data.ptr = &l->timerfd;
	if (epoll_ctl(l->epfd, EPOLL_CTL_ADD, l->timerfd, &ev) < 0)
		goto fail;
	*ret = l;
	return 0;
fail:
	err_set(e, -errno, "event loop");
	loop_free(l);
	return -EMFILE;
}

void loop_free(struct loop *l)
{
	if (!l)
		return;
	close_p(&l->epfd);
	close_p(&l->wakefd);
	close_p(&l->timerfd);
	timerq_fini(&l->timers);
	pthread_mutex_destroy(&l->lock);
	free(l);
}

static void run_works(struct loop *l)
{
	for (;;) {
		struct loop_work *w;

		pthread_mutex_lock(&l->lock);
		if (list_empty(&l->works)) {
			pthread_mutex_unlock(&l->lock);
			return;
		}
		w = container_of(l->works.next, struct loop_work, node);
		list_remove(&w->node);
		w->queued = false;
		pthread_mutex_unlock(&l->lock);
		w->fn(w->opaque);
	}
}

static void drain(int fd)
{
	uint64_t v;
	ssize_t n = read(fd, &v, sizeof(v));

	(void)n;
}

static void run_timers(struct loop *l)
{
	uint64_t next;

	drain(l->timerfd);
	timerq_run(&l->timers);
	next = timerq_next(&l->timers);
	if (next != TIMER_NEVER)
		loop_rearm(l, next);
}

void loop_once(struct loop *l, int timeout_ms)
{
	int n = epoll_wait(l->epfd, l->batch, LOOP_BATCH, timeout_ms);

	l->batch_n = n > 0 ? n : 0;
	for (int i = 0; i < l->batch_n; i++) {
		void *p = l->batch[i].data.ptr;

		if (!p)
			continue; /* removed by an earlier callback of this batch */
		if (p == &l->wakefd) {
			drain(l->wakefd);
			run_works(l);
		} else if (p == &l->timerfd) {
			run_timers(l);
		} else {
			struct loop_fd *w = p;

			w->fn(w->opaque, l->batch[i].events);
		}
	}
	l->batch_n = 0;
}

void loop_run(struct loop *l)
{
	while (!l->stop)
		loop_once(l, -1);
}

int loop_poll_fd(const struct loop *l)
{
	return l->epfd;
}

void loop_stop(struct loop *l)
{
	l->stop = true;
	loop_wake(l);
}

int loop_add(struct loop *l, struct loop_fd *w, int fd, uint32_t events,
	     void (*fn)(void *opaque, uint32_t events), void *opaque)
{
	struct epoll_event ev = {.events = events, .data.ptr = w};

	*w = (struct loop_fd){.fn = fn, .opaque = opaque, .fd = fd, .events = events};
	if (epoll_ctl(l->epfd, EPOLL_CTL_ADD, fd, &ev) < 0)
		return -errno;
	w->added = true;
	return 0;
}

void loop_modify(struct loop *l, struct loop_fd *w, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.ptr = w};

	if (!w->added || w->events == events)
		return;
	w->events = events;
	epoll_ctl(l->epfd, EPOLL_CTL_MOD, w->fd, &ev);
}

void loop_remove(struct loop *l, struct loop_fd *w)
{
	if (!w->added)
		return;
	epoll_ctl(l->epfd, EPOLL_CTL_DEL, w->fd, NULL);
	w->added = false;
	for (int i = 0; i < l->batch_n; i++) {
		if (l->batch[i].data.ptr == w)
			l->batch[i].data.ptr = NULL;
	}
}

void loop_work_init(struct loop_work *w, void (*fn)(void *opaque), void *opaque)
{
	*w = (struct loop_work){.fn = fn, .opaque = opaque};
	list_init(&w->node);
}

void loop_post(struct loop *l, struct loop_work *w)
{
	bool wake = false;

	pthread_mutex_lock(&l->lock);
	if (!w->queued) {
		w->queued = true;
		wake = list_empty(&l->works);
		list_append(&l->works, &w->node);
	}
	pthread_mutex_unlock(&l->lock);
	if (wake)
		loop_wake(l);
}

void loop_unpost(struct loop *l, struct loop_work *w)
{
	pthread_mutex_lock(&l->lock);
	if (w->queued) {
		list_remove(&w->node);
		w->queued = false;
	}
	pthread_mutex_unlock(&l->lock);
}

struct timerq *loop_timers(struct loop *l)
{
	return &l->timers;
}
