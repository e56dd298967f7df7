/* SPDX-License-Identifier: Apache-2.0 */
/*
 * block/aio_uring.c - file operations through io_uring
 *
 * Any thread submits under `sq_lock`; the loop's thread, or a drainer, reaps under `cq_lock`.  At
 * most RING_SIZE operations are in the ring, so that the completion queue (twice as long) cannot
 * overflow; the rest wait in `pending`.
 */
#include "block/aio.h"

#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/syscall.h>

#define RING_SIZE    128
#define REAP_BATCH   32
#define SUBMIT_BATCH 8u

struct uring {
	struct aio aio;
	struct io_uring ring;
	struct loop *loop;
	struct loop_fd watch;
	struct loop_work retry; /* the kernel was out of memory for a moment */
	pthread_mutex_t sq_lock, cq_lock;
	struct list pending;
	unsigned int in_ring;
};

static void prep(struct io_uring_sqe *sqe, struct aio_req *r)
{
	switch (r->op) {
	case AIO_READ:
		io_uring_prep_readv(sqe, r->fd, r->iov, r->n_iov, r->off);
		break;
	case AIO_WRITE:
		io_uring_prep_writev(sqe, r->fd, r->iov, r->n_iov, r->off);
		break;
	case AIO_SYNC:
		io_uring_prep_fsync(sqe, r->fd, IORING_FSYNC_DATASYNC);
		break;
	case AIO_ALLOCATE:
		io_uring_prep_fallocate(sqe, r->fd, r->mode, (off_t)r->off, (off_t)r->len);
		break;
	}
	io_uring_sqe_set_data(sqe, r);
}

/* sq_lock held: move what fits from `pending` into the ring and hand it to the kernel. */
static void flush_pending(struct uring *u)
{
	int r;

	while (!list_empty(&u->pending) && u->in_ring < RING_SIZE) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
		struct aio_req *req;

		if (!sqe)
			break;
		req = container_of(u->pending.next, struct aio_req, node);
		list_remove(&req->node);
		prep(sqe, req);
		u->in_ring++;
	}
	do {
		r = io_uring_submit(&u->ring);
	} while (r == -EINTR);
	if (r < 0)
		loop_post(u->loop, &u->retry);
}

/* The ring whose completions this thread is handing out: what they submit goes in one call. */
static _Thread_local struct uring *reaping;

static void uring_submit(struct aio *a, struct aio_req *r)
{
	struct uring *u = container_of(a, struct uring, aio);

	pthread_mutex_lock(&u->sq_lock);
	list_append(&u->pending, &r->node);
	if (u->in_ring < RING_SIZE && reaping != u)
		flush_pending(u);
	pthread_mutex_unlock(&u->sq_lock);
}

static void uring_retry(void *opaque)
{
	struct uring *u = opaque;

	pthread_mutex_lock(&u->sq_lock);
	flush_pending(u);
	pthread_mutex_unlock(&u->sq_lock);
}

struct reaped {
	struct aio_req *req;
	int64_t result;
};

static unsigned int reap_batch(struct uring *u, struct reaped *reaped)
{
	struct io_uring_cqe *cqes[REAP_BATCH];
	unsigned int n;

	pthread_mutex_lock(&u->cq_lock);
	n = io_uring_peek_batch_cqe(&u->ring, cqes, REAP_BATCH);
	for (unsigned int i = 0; i < n; i++) {
		reaped[i].req = io_uring_cqe_get_data(cqes[i]);
		reaped[i].result = cqes[i]->res;
	}
	io_uring_cq_advance(&u->ring, n);
	pthread_mutex_unlock(&u->cq_lock);
	return n;
}

/* A few at a time: fewer calls, and the kernel does not run dry meanwhile. */
static void hand_out(struct uring *u, const struct reaped *r, unsigned int n)
{
	reaping = u;
	for (unsigned int i = 0; i < n; i++)
		r[i].req->done(r[i].req, r[i].result);
	reaping = NULL;
	pthread_mutex_lock(&u->sq_lock);
	if (!list_empty(&u->pending) && u->in_ring < RING_SIZE)
		flush_pending(u);
	pthread_mutex_unlock(&u->sq_lock);
}

static unsigned int uring_reap(struct uring *u)
{
	struct reaped reaped[REAP_BATCH];
	unsigned int n, total = 0;

	while ((n = reap_batch(u, reaped)) > 0) {
		/* Also what orders the submitter's writes to a request before ours. */
		pthread_mutex_lock(&u->sq_lock);
		u->in_ring -= n;
		if (!list_empty(&u->pending))
			flush_pending(u);
		pthread_mutex_unlock(&u->sq_lock);
		for (unsigned int i = 0; i < n; i += SUBMIT_BATCH)
			hand_out(u, reaped + i, MIN(n - i, SUBMIT_BATCH));
		total += n;
	}
	return total;
}

static void uring_event(void *opaque, uint32_t events)
{
	(void)events;
	(void)uring_reap(opaque);
}

static void uring_poll(struct aio *a, int timeout_ms)
{
	struct uring *u = container_of(a, struct uring, aio);
	struct pollfd p = {.fd = u->ring.ring_fd, .events = POLLIN};

	uring_retry(u);
	if (uring_reap(u))
		return;
	(void)poll(&p, 1, timeout_ms);
	(void)uring_reap(u);
}

static void uring_free(struct aio *a)
{
	struct uring *u = container_of(a, struct uring, aio);

	loop_remove(u->loop, &u->watch);
	loop_unpost(u->loop, &u->retry);
	io_uring_queue_exit(&u->ring);
	pthread_mutex_destroy(&u->sq_lock);
	pthread_mutex_destroy(&u->cq_lock);
	free(u);
}

static const struct aio_ops uring_ops = {
    .name = "io_uring",
    .submit = uring_submit,
    .poll = uring_poll,
    .free = uring_free,
};

/* Operations in a ring pass by every filter of system calls, so that this one takes ours only, and
 * is never set up anew.  Kernels that know no restrictions (before 5.10) get threads instead; those
 * that do know the four operations. */
static int restrict_ring(struct io_uring *ring)
{
	struct io_uring_restriction allowed[] = {
	    {.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_READV},
	    {.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_WRITEV},
	    {.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_FSYNC},
	    {.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_FALLOCATE},
	};

	/* By hand: Debian 12's liburing declares its functions for these without having them. */
	if (syscall(SYS_io_uring_register, ring->ring_fd, IORING_REGISTER_RESTRICTIONS, allowed,
		    ARRAY_SIZE(allowed)) < 0 ||
	    syscall(SYS_io_uring_register, ring->ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0) <
		0)
		return -errno;
	return 0;
}

int aio_uring_new(struct loop *l, struct aio **ret, struct err *e)
{
	struct uring *u = xnew(struct uring);
	int r =
	    io_uring_queue_init(RING_SIZE, &u->ring, IORING_SETUP_CLAMP | IORING_SETUP_R_DISABLED);

	if (r < 0) {
		free(u);
		return err_set(e, r, "io_uring");
	}
	u->aio.ops = &uring_ops;
	u->loop = l;
	pthread_mutex_init(&u->sq_lock, NULL);
	pthread_mutex_init(&u->cq_lock, NULL);
	list_init(&u->pending);
	loop_work_init(&u->retry, uring_retry, u);
	r = restrict_ring(&u->ring);
	if (r == 0)
		r = loop_add(l, &u->watch, u->ring.ring_fd, EPOLLIN, uring_event, u);
	if (r < 0) {
		uring_free(&u->aio);
		return err_set(e, r, "io_uring");
	}
	*ret = &u->aio;
	return 0;
}
