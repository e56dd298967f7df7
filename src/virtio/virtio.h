/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio/virtio.h - a virtio device, free of its transport (virtio 1.2, chapter 2)
 *
 * A device type embeds struct virtio_dev as its first member and says how many queues it has, which
 * features it offers and what its configuration space holds; the transport (virtio/pci.c) finds
 * queues, negotiates features and delivers notifications.
 *
 * The ring is hostile.  vq_pop() copies descriptors once, checks every address and length against
 * guest memory, bounds the chain, and returns it as host iovecs; what the driver changes later does
 * not matter.  A broken ring sets DEVICE_NEEDS_RESET: the device then stands still until reset.
 *
 *	while (vq_pop(q, &c)) {            false: empty (and kicks are armed), or the device is
 *broken n = serve(c.out, c.n_out, c.in, c.n_in); vq_push(q, &c, n);         n = bytes written from
 *the start of c.in
 *	}
 *	vq_notify(q);                      one interrupt for the batch, if the driver wants it
 *
 * A request that completes later keeps its own copy of the chain (vq_chain_copy) or the chain
 *itself in the request.  Buffer contents may change while we look: copy what is interpreted
 *(iov_to_buf).
 *
 * Locks: kick, features, config and reset callbacks run with the device's lock held (recursive).
 * Code that completes requests from another thread takes it too: virtio_lock/virtio_unlock.  The
 * lock is the transport's once there is one, so that BAR accesses and interrupts need no second.
 */
#pragma once

#include "base/err.h"
#include "base/state.h"
#include "guest/gmem.h"

#include <pthread.h>
#include <sys/uio.h>

#define VIRTIO_QUEUE_MAX 64
#define VQ_SIZE_MAX      1024
#define VQ_CHAIN_MAX     256 /* parts of one chain, indirect ones included */
#define VIRTIO_NO_VECTOR 0xffff

#define VIRTIO_F_INDIRECT_DESC BIT(28)
#define VIRTIO_F_EVENT_IDX     BIT(29)
#define VIRTIO_F_VERSION_1     BIT(32)

#define VIRTIO_STATUS_ACKNOWLEDGE 1
#define VIRTIO_STATUS_DRIVER      2
#define VIRTIO_STATUS_DRIVER_OK   4
#define VIRTIO_STATUS_FEATURES_OK 8
#define VIRTIO_STATUS_NEEDS_RESET 64
#define VIRTIO_STATUS_FAILED      128

struct virtio_dev;

struct vq {
	struct virtio_dev *dev;
	uint16_t index;
	uint16_t size; /* as chosen by the driver, power of two */
	uint16_t size_max;
	bool enabled;
	uint64_t desc, avail, used; /* gpa */
	uint16_t msix_vector;       /* VIRTIO_NO_VECTOR = none */
	uint16_t last_avail, used_idx, signalled_used;
	/* private to queue.c: the three areas on the host, while enabled */
	uint8_t *desc_hva, *avail_hva, *used_hva;
	bool kicks_off;
};

/*
 * A descriptor chain: device-readable parts first, then writable ones (2.7.4.2).  gpa[] runs beside
 * iov[].  Six KiB: fine on a stack, or embedded in a request.
 */
struct vq_chain {
	uint16_t head;
	unsigned int n_out, n_in;
	size_t out_len, in_len; /* bytes in all */
	struct iovec *out, *in; /* point into iov */
	uint64_t gpa[VQ_CHAIN_MAX];
	struct iovec iov[VQ_CHAIN_MAX];
};

struct virtio_ops {
	const char *name;
	uint16_t id; /* device type, chapter 5 */
	/* Driver posted something on @q, or the device became ready (DRIVER_OK). */
	void (*kick)(struct virtio_dev *d, struct vq *q);
	/* Features were accepted; may be NULL. */
	void (*features)(struct virtio_dev *d, uint64_t features);
	/* Configuration space; @off+@len was checked against config_len.  Either may be NULL. */
	void (*config_read)(struct virtio_dev *d, uint32_t off, void *buf, uint32_t len);
	void (*config_write)(struct virtio_dev *d, uint32_t off, const void *buf, uint32_t len);
	/* Forget requests of the driver; queues are reset by the core afterwards.  Requests in
	 * flight in a backend must not touch guest memory or queues any more when it returns.  May
	 * be NULL. */
	void (*reset)(struct virtio_dev *d);
	/* Before saving: finish every request in flight (lock held).  NULL: there never are any. */
	void (*quiesce)(struct virtio_dev *d);
	/* -EBUSY with words while it holds what cannot be saved; NULL = never. */
	int (*can_save)(struct virtio_dev *d, struct err *e);
	void (*free)(struct virtio_dev *d);
	/* Fields of the embedding struct that must survive a snapshot; NULL = none. */
	const struct state_table *state;
	/* Instead of @state, for what no table holds; lock held.  @used gets what was read. */
	void (*save)(struct virtio_dev *d, struct strbuf *out);
	int (*load)(struct virtio_dev *d, const void *data, size_t len, size_t *used,
		    struct err *e);
};

/* The transport's side of a device. */
struct virtio_transport {
	/* Used buffers on @q (NULL: configuration changed). */
	void (*notify)(void *opaque, struct vq *q);
	void *opaque;
};

struct virtio_dev {
	const struct virtio_ops *ops;
	struct gmem *mem;
	struct virtio_transport transport;
	pthread_mutex_t *lock; /* recursive; own_lock until a transport gives its own */
	pthread_mutex_t own_lock;
	uint64_t features_offered,
	    features; /* VERSION_1, INDIRECT_DESC and EVENT_IDX come by themselves */
	uint8_t status;
	uint32_t config_len;
	uint8_t config_generation;
	unsigned int n_queues;
	struct vq q[VIRTIO_QUEUE_MAX];
};

/* --- for devices --- */

/* @queue_size a power of two; shrink single queues afterwards through q[i].size_max if need be. */
void virtio_init(struct virtio_dev *d, const struct virtio_ops *ops, struct gmem *mem,
		 unsigned int n_queues, uint16_t queue_size, uint64_t features,
		 uint32_t config_len);
void virtio_fini(struct virtio_dev *d);
static inline void virtio_lock(struct virtio_dev *d)
{
	pthread_mutex_lock(d->lock);
}
static inline void virtio_unlock(struct virtio_dev *d)
{
	pthread_mutex_unlock(d->lock);
}
bool virtio_ready(const struct virtio_dev *d); /* DRIVER_OK and not broken */
static inline bool virtio_has(const struct virtio_dev *d, uint64_t feature)
{
	return d->features & feature;
}
/* The driver broke the rules: stop until reset, and say so (guest_warn). */
void virtio_broken(struct virtio_dev *d, const char *why);
/* The configuration space changed: tell the driver. */
void virtio_config_changed(struct virtio_dev *d);

/* Next chain, or false when there is none (or the device is not ready or broken).  When the ring is
 * empty and kicks were not turned off, the driver's next post is sure to kick. */
bool vq_pop(struct vq *q, struct vq_chain *c);
/* Put the chain popped last back: it is popped again next time. */
void vq_unpop(struct vq *q);
/* Give a chain back with the first @written bytes of its writable parts filled. */
void vq_push(struct vq *q, const struct vq_chain *c, uint32_t written);
/* The same for @n chains that the driver must see all at once. */
void vq_push_many(struct vq *q, const struct vq_chain *c, const uint32_t *written, unsigned int n);
/* Interrupt the driver if it wants to hear of what was pushed. */
void vq_notify(struct vq *q);
/* Are chains waiting? */
bool vq_pending(struct vq *q);
/* Tell the driver whether kicks are wanted; returns false when chains came in meanwhile. */
bool vq_want_kicks(struct vq *q, bool want);
/* Kick when the driver posts once more, whatever is waiting already. */
void vq_want_next_kick(struct vq *q);
/* Copies the parts in use; @dst's iovec pointers are its own. */
void vq_chain_copy(struct vq_chain *dst, const struct vq_chain *src);

/* Helpers over iovecs: bytes copied, less when the other side is shorter. */
size_t iov_to_buf(const struct iovec *iov, unsigned int n, size_t off, void *buf, size_t len);
size_t iov_from_buf(const struct iovec *iov, unsigned int n, size_t off, const void *buf,
		    size_t len);
/* The slice [off, off+len) of @src in at most @max parts of @dst; returns how many.  Shorter when
 * either side runs out: check with iov_len. */
unsigned int iov_slice(struct iovec *dst, unsigned int max, const struct iovec *src, unsigned int n,
		       size_t off, size_t len);
size_t iov_len(const struct iovec *iov, unsigned int n);

/* --- for transports --- */

/* All of these with the lock held. */
void virtio_reset(struct virtio_dev *d);
/* The driver wrote the status field; 0 resets. */
void virtio_set_status(struct virtio_dev *d, uint8_t status);
/* Checks where the areas are and starts the queue; a bad queue breaks the device. */
void virtio_enable_queue(struct virtio_dev *d, unsigned int index);
void virtio_kick(struct virtio_dev *d, unsigned int index);
/* Out of range reads zeroes and drops writes. */
void virtio_config_read(struct virtio_dev *d, uint32_t off, void *buf, uint32_t len);
void virtio_config_write(struct virtio_dev *d, uint32_t off, const void *buf, uint32_t len);

/* The device, its queues and its own fields; no vCPU runs.  Load into a device just made the same
 * way; the transport's registers are the transport's to save. */
void virtio_save(struct virtio_dev *d, struct strbuf *out);
must_check int virtio_load(struct virtio_dev *d, const void *data, size_t len, size_t *used,
			   struct err *e);

/* queue.c, for virtio.c */
must_check int vq_map(struct vq *q);
void vq_unmap(struct vq *q);
