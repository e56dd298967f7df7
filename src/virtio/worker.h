/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio/worker.h - one thread that serves the chains of a device, in order
 *
 *	vCPU: kick --> todo --> worker: handle --> done --> push, interrupt
 *
 * So a slow disk blocks no vCPU, and what handle() works on needs no lock.  Kick, reset and quiesce
 * of the device come here; all of them have the device's lock.
 */
#pragma once

#include "base/list.h"
#include "virtio/virtio.h"

struct virtio_slot {
	struct list node; /* free, todo or done */
	struct vq *q;
	int64_t result;
	struct vq_chain chain;
};

struct virtio_worker {
	struct virtio_dev *dev;
	/* How many bytes of the chain's writable parts were filled; -1: no message, the device
	 * breaks.  Without the device's lock. */
	int64_t (*handle)(void *opaque, const struct vq_chain *c);
	void *opaque;
	/* private */
	struct virtio_slot *slots;
	struct list free; /* device's lock */
	pthread_t thread;
	bool started;
	/* A leaf: covers the lists only, and is never held while taking the device's. */
	pthread_mutex_t lock;
	pthread_cond_t wake, idle;
	struct list todo, done;
	bool busy, stop;
};

/* dev, handle and opaque are filled in. */
void worker_init(struct virtio_worker *w, unsigned int n_slots);
must_check int worker_start(struct virtio_worker *w);
/* Also what was never started. */
void worker_fini(struct virtio_worker *w);
/* Takes what the queues hold, those of lower numbers first. */
void worker_kick(struct virtio_worker *w);
/* Drops what waits, sits out what is in work. */
void worker_reset(struct virtio_worker *w);
/* Finishes all that was taken. */
void worker_quiesce(struct virtio_worker *w);
/* Does the caller run in a worker's thread?  The sandbox asks: workers serve shared directories. */
bool worker_is_this_thread(void);
