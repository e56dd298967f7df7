/* SPDX-License-Identifier: Apache-2.0 */
/*
 * block/aio_threads.c - file operations by a few threads, where io_uring is not to be had
 */
#include "block/aio.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>

#define N_THREADS 4

struct pool {
	struct aio aio;
	struct loop *loop;
	struct loop_fd watch;
	int eventfd;
	pthread_mutex_t lock;
	pthread_cond_t work, finished;
	struct list todo, done;
	bool stop;
	unsigned int n_threads;
	pthread_t threads[N_THREADS];
};

static int64_t perform(const struct aio_req *r)
{
	ssize_t n = -1;

	do {
		switch (r->op) {
		case AIO_READ:
			n = preadv(r->fd, r->iov, (int)r->n_iov, (off_t)r->off);
			break;
		case AIO_WRITE:
			n = pwritev(r->fd, r->iov, (int)r->n_iov, (off_t)r->off);
			break;
		case AIO_SYNC:
			n = fdatasync(r->fd);
			break;
		case AIO_ALLOCATE:
			n = fallocate(r->fd, r->mode, (off_t)r->off, (off_t)r->len);
			break;
		}
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

static void *pool_thread(void *opaque)
{
	struct pool *p = opaque;

	pthread_mutex_lock(&p->lock);
	for (;;) {
		struct aio_req *r;

		while (list_empty(&p->todo) && !p->stop)
			pthread_cond_wait(&p->work, &p->lock);
		if (list_empty(&p->todo))
			break;
		r = container_of(p->todo.next, struct aio_req, node);
		list_remove(&r->node);
		pthread_mutex_unlock(&p->lock);
		r->result = perform(r);
		pthread_mutex_lock(&p->lock);
		list_append(&p->done, &r->node);
		(void)eventfd_write(p->eventfd, 1); /* a full counter wakes as well */
		pthread_cond_broadcast(&p->finished);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

static void pool_submit(struct aio *a, struct aio_req *r)
{
	struct pool *p = container_of(a, struct pool, aio);

	pthread_mutex_lock(&p->lock);
	list_append(&p->todo, &r->node);
	pthread_cond_signal(&p->work);
	pthread_mutex_unlock(&p->lock);
}

static void pool_reap(struct pool *p)
{
	for (;;) {
		struct aio_req *r = NULL;

		pthread_mutex_lock(&p->lock);
		if (!list_empty(&p->done)) {
			r = container_of(p->done.next, struct aio_req, node);
			list_remove(&r->node);
		}
		pthread_mutex_unlock(&p->lock);
		if (!r)
			return;
		r->done(r, r->result);
	}
}

static void pool_event(void *opaque, uint32_t events)
{
	struct pool *p = opaque;
	eventfd_t n;

	(void)events;
	(void)eventfd_read(p->eventfd, &n);
	pool_reap(p);
}

static void pool_poll(struct aio *a, int timeout_ms)
{
	struct pool *p = container_of(a, struct pool, aio);
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += (long)timeout_ms * 1000000;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	pthread_mutex_lock(&p->lock);
	if (list_empty(&p->done))
		pthread_cond_timedwait(&p->finished, &p->lock, &until);
	pthread_mutex_unlock(&p->lock);
	pool_reap(p);
}

static void pool_free(struct aio *a)
{
	struct pool *p = container_of(a, struct pool, aio);

	pthread_mutex_lock(&p->lock);
	p->stop = true;
	pthread_cond_broadcast(&p->work);
	pthread_mutex_unlock(&p->lock);
	for (unsigned int i = 0; i < p->n_threads; i++)
		pthread_join(p->threads[i], NULL);
	loop_remove(p->loop, &p->watch);
	close_p(&p->eventfd);
	pthread_cond_destroy(&p->work);
	pthread_cond_destroy(&p->finished);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

static const struct aio_ops pool_ops = {
    .name = "threads",
    .submit = pool_submit,
    .poll = pool_poll,
    .free = pool_free,
};

int aio_threads_new(struct loop *l, struct aio **ret, struct err *e)
{
	struct pool *p = xnew(struct pool);
	int r = 0;

	p->aio.ops = &pool_ops;
	p->loop = l;
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->work, NULL);
	pthread_cond_init(&p->finished, NULL);
	list_init(&p->todo);
	list_init(&p->done);
	p->eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (p->eventfd < 0)
		r = -errno;
	else
		r = loop_add(l, &p->watch, p->eventfd, EPOLLIN, pool_event, p);
	while (r == 0 && p->n_threads < N_THREADS) {
		r = -pthread_create(&p->threads[p->n_threads], NULL, pool_thread, p);
		if (r == 0)
			p->n_threads++;
	}
	if (r < 0) {
		pool_free(&p->aio);
		return err_set(e, r, "disk threads");
	}
	*ret = &p->aio;
	return 0;
}

int aio_new(struct loop *l, struct aio **ret, struct err *e)
{
	if (aio_uring_new(l, ret, NULL) == 0)
		return 0;
	return aio_threads_new(l, ret, e);
}
