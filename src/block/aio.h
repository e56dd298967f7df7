/* SPDX-License-Identifier: Apache-2.0 */
/*
 * block/aio.h - asynchronous file operations: io_uring, or a few threads where the host forbids it
 *
 * Everything that needs privileges or new descriptors happens in aio_new(), so that a sandbox may
 * close behind it.
 */
#pragma once

#include "base/err.h"
#include "base/loop.h"

#include <sys/uio.h>

enum aio_op { AIO_READ, AIO_WRITE, AIO_SYNC, AIO_ALLOCATE };

struct aio_req {
	enum aio_op op;
	int fd;
	const struct iovec *iov; /* read and write: caller's until done */
	unsigned int n_iov;
	uint64_t off, len; /* len: allocate only */
	int mode;          /* allocate: as fallocate(2) */
	/* Bytes moved or 0, or -errno.  In the loop thread or in aio_poll's caller. */
	void (*done)(struct aio_req *r, int64_t result);
	/* private */
	struct list node;
	int64_t result;
};

struct aio;

struct aio_ops {
	const char *name;
	void (*submit)(struct aio *a, struct aio_req *r);
	void (*poll)(struct aio *a, int timeout_ms);
	void (*free)(struct aio *a);
};

struct aio {
	const struct aio_ops *ops;
};

/* io_uring if it works here, else threads. */
must_check int aio_new(struct loop *l, struct aio **ret, struct err *e);
/* One of them by name, for tests; -errno of what fails. */
must_check int aio_uring_new(struct loop *l, struct aio **ret, struct err *e);
must_check int aio_threads_new(struct loop *l, struct aio **ret, struct err *e);

/* From any thread; never calls done() itself. */
static inline void aio_submit(struct aio *a, struct aio_req *r)
{
	a->ops->submit(a, r);
}

/* Calls done() for what is finished; when nothing is, waits up to @timeout_ms first. */
static inline void aio_poll(struct aio *a, int timeout_ms)
{
	a->ops->poll(a, timeout_ms);
}

/* Nothing in flight; loop thread. */
static inline void aio_free(struct aio *a)
{
	if (a)
		a->ops->free(a);
}
