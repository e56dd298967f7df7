/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/virtio/driver.h - the driver's side of split virtqueues, over plain guest memory
 */
#pragma once

#include "virtio/virtio.h"

#define DRV_QUEUES 8

struct drv_queue {
	uint64_t desc, avail, used; /* gpa */
	uint16_t size, n_free, free_head;
	uint16_t avail_idx, kicked_idx, used_seen;
	uint16_t chain_len[VQ_SIZE_MAX]; /* descriptors of the ring that a chain holds */
};

struct drv {
	struct gmem *m;
	struct virtio_dev *d;
	uint64_t heap, heap_start, heap_end;
	struct drv_queue q[DRV_QUEUES];
	_Atomic unsigned int irqs, config_irqs;
};

struct drv_buf {
	uint64_t gpa;
	uint32_t len;
};

/* Negotiates @features (VERSION_1 comes by itself) and starts every queue of @d with @size. */
void drv_init(struct drv *v, struct gmem *m, struct virtio_dev *d, uint64_t features,
	      uint16_t size);
/* The same again after a reset; the heap starts over. */
void drv_start(struct drv *v, uint64_t features, uint16_t size);
uint64_t drv_alloc(struct drv *v, uint64_t len, uint64_t align);
/* -1 when the ring has no room; @indirect puts the chain in a table of its own at @table. */
int drv_post(struct drv *v, unsigned int qi, const struct drv_buf *b, unsigned int n_out,
	     unsigned int n_in, uint64_t table);
/* Does the device want a kick for what was posted since the last call? */
bool drv_needs_kick(struct drv *v, unsigned int qi);
void drv_kick(struct drv *v, unsigned int qi);
/* Next used chain. */
bool drv_used(struct drv *v, unsigned int qi, uint16_t *head, uint32_t *len);
/* Ask for an interrupt at the next used chain; false when one is there already. */
bool drv_want_irq(struct drv *v, unsigned int qi);
void drv_no_irq(struct drv *v, unsigned int qi);

/* Deterministic random numbers (xorshift64*). */
static inline uint64_t rnd(uint64_t *s)
{
	*s ^= *s >> 12;
	*s ^= *s << 25;
	*s ^= *s >> 27;
	return *s * UINT64_C(0x2545f4914f6cdd1d);
}
