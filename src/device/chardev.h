/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/chardev.h - a byte stream between a device and a backend (terminal, file, socket)
 *
 * Neither side blocks.  A side that cannot take everything says how much it took; it later calls
 *the other one's "go on" slot, which offers the rest again.
 *
 *	device  --write-->   backend        device  <--writable--  backend
 *	device  --resume-->  backend        device  <--receive---  backend
 *
 * Threads and locks: write and resume are called with the device's lock held, in any thread, and
 *must not call back into the device; the backend's calls come from a thread of its own and take the
 * device's lock.
 */
#pragma once

#include "base/macro.h"

struct chardev_ops {
	/* Bytes taken, 0 to @len; fewer than @len: `writable` follows. */
	size_t (*write)(void *backend, const void *buf, size_t len);
	/* The device has room again after a short receive; may be NULL. */
	void (*resume)(void *backend);
};

struct chardev_front {
	/* Bytes taken; fewer than @len: `resume` follows. */
	size_t (*receive)(void *front, const void *buf, size_t len);
	void (*writable)(void *front);
	/* A break condition on the line; may be NULL. */
	void (*line_break)(void *front);
};

/* Owned by the backend, which fills in the first two; the device fills in the others. */
struct chardev {
	const struct chardev_ops *ops;
	void *backend;
	const struct chardev_front *front;
	void *frontend;
};

/* No backend: bytes vanish. */
static inline size_t chardev_write(struct chardev *c, const void *buf, size_t len)
{
	return c ? c->ops->write(c->backend, buf, len) : len;
}

static inline void chardev_resume(struct chardev *c)
{
	if (c && c->ops->resume)
		c->ops->resume(c->backend);
}

static inline size_t chardev_receive(struct chardev *c, const void *buf, size_t len)
{
	return c->front ? c->front->receive(c->frontend, buf, len) : len;
}

static inline void chardev_writable(struct chardev *c)
{
	if (c->front)
		c->front->writable(c->frontend);
}

static inline void chardev_line_break(struct chardev *c)
{
	if (c->front && c->front->line_break)
		c->front->line_break(c->frontend);
}
