/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/virtio/driver.c - the driver's side of split virtqueues, over plain guest memory
 */
#include "virtio/driver.h"

#include "test.h"

struct raw_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};

static struct raw_desc *desc(struct drv *v, struct drv_queue *q)
{
	return gmem_ptr(v->m, q->desc, 16u * q->size);
}

static uint16_t *half(struct drv *v, uint64_t gpa)
{
	return gmem_ptr(v->m, gpa, 2);
}

static uint16_t load(struct drv *v, uint64_t gpa)
{
	return __atomic_load_n(half(v, gpa), __ATOMIC_ACQUIRE);
}

static void store(struct drv *v, uint64_t gpa, uint16_t x)
{
	__atomic_store_n(half(v, gpa), x, __ATOMIC_RELEASE);
}

static void irq(void *opaque, struct vq *q)
{
	struct drv *v = opaque;

	if (q)
		v->irqs++;
	else
		v->config_irqs++;
}

uint64_t drv_alloc(struct drv *v, uint64_t len, uint64_t align)
{
	uint64_t at = ALIGN_UP(v->heap, align);

	CHECK(at + len <= v->heap_end);
	v->heap = at + len;
	return at;
}

static void queue_start(struct drv *v, unsigned int i, uint16_t size)
{
	struct drv_queue *q = &v->q[i];
	struct vq *vq = &v->d->q[i];

	memset(q, 0, sizeof(*q));
	q->size = q->n_free = MIN(size, vq->size_max);
	q->desc = drv_alloc(v, 16u * q->size, 16);
	q->avail = drv_alloc(v, 6 + 2u * q->size, 2);
	q->used = drv_alloc(v, 6 + 8u * q->size, 4);
	memset(gmem_ptr(v->m, q->avail, 6 + 2u * q->size), 0, 6 + 2u * q->size);
	memset(gmem_ptr(v->m, q->used, 6 + 8u * q->size), 0, 6 + 8u * q->size);
	for (uint16_t k = 0; k < q->size; k++)
		desc(v, q)[k].next = k + 1;
	vq->size = q->size;
	vq->desc = q->desc;
	vq->avail = q->avail;
	vq->used = q->used;
	virtio_enable_queue(v->d, i);
	CHECK(vq->enabled);
}

void drv_start(struct drv *v, uint64_t features, uint16_t size)
{
	struct virtio_dev *d = v->d;

	v->heap = v->heap_start;
	virtio_lock(d);
	virtio_set_status(d, 0);
	virtio_set_status(d, VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER);
	d->features = (features & d->features_offered) | VIRTIO_F_VERSION_1;
	virtio_set_status(d, d->status | VIRTIO_STATUS_FEATURES_OK);
	CHECK(d->status & VIRTIO_STATUS_FEATURES_OK);
	for (unsigned int i = 0; i < d->n_queues && i < DRV_QUEUES; i++)
		queue_start(v, i, size);
	virtio_set_status(d, d->status | VIRTIO_STATUS_DRIVER_OK);
	CHECK(virtio_ready(d));
	virtio_unlock(d);
}

void drv_init(struct drv *v, struct gmem *m, struct virtio_dev *d, uint64_t features, uint16_t size)
{
	memset(v, 0, sizeof(*v));
	v->m = m;
	v->d = d;
	v->heap_start = 0x1000;
	v->heap_end = m->slots[0].size;
	d->transport = (struct virtio_transport){.notify = irq, .opaque = v};
	drv_start(v, features, size);
}

static void fill(struct raw_desc *t, const struct drv_buf *b, unsigned int i, unsigned int n,
		 unsigned int n_out)
{
	t->addr = b[i].gpa;
	t->len = b[i].len;
	t->flags = (uint16_t)((i + 1 < n ? 1 : 0) | (i >= n_out ? 2 : 0));
}

int drv_post(struct drv *v, unsigned int qi, const struct drv_buf *b, unsigned int n_out,
	     unsigned int n_in, uint64_t table)
{
	struct drv_queue *q = &v->q[qi];
	unsigned int n = n_out + n_in, need = table ? 1 : n;
	uint16_t head = q->free_head, at = head;

	if (q->n_free < need)
		return -1;
	q->n_free -= (uint16_t)need;
	q->chain_len[head] = (uint16_t)need;
	if (table) {
		struct raw_desc *t = gmem_ptr(v->m, table, 16u * n);

		for (unsigned int i = 0; i < n; i++) {
			fill(&t[i], b, i, n, n_out);
			t[i].next = (uint16_t)(i + 1);
		}
		q->free_head = desc(v, q)[at].next;
		desc(v, q)[at].addr = table;
		desc(v, q)[at].len = 16 * n;
		desc(v, q)[at].flags = 4;
	} else {
		for (unsigned int i = 0; i < n; i++) {
			struct raw_desc *d = &desc(v, q)[at];

			fill(d, b, i, n, n_out);
			at = d->next;
		}
		q->free_head = at;
	}
	store(v, q->avail + 4 + 2u * (q->avail_idx % q->size), head);
	q->avail_idx++;
	store(v, q->avail + 2, q->avail_idx);
	return head;
}

bool drv_needs_kick(struct drv *v, unsigned int qi)
{
	struct drv_queue *q = &v->q[qi];
	uint16_t old = q->kicked_idx, event;

	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	q->kicked_idx = q->avail_idx;
	if (!virtio_has(v->d, VIRTIO_F_EVENT_IDX))
		return !(load(v, q->used) & 1);
	event = load(v, q->used + 4 + 8u * q->size);
	return (uint16_t)(q->avail_idx - event - 1) < (uint16_t)(q->avail_idx - old);
}

void drv_kick(struct drv *v, unsigned int qi)
{
	if (!drv_needs_kick(v, qi))
		return;
	virtio_lock(v->d);
	virtio_kick(v->d, qi);
	virtio_unlock(v->d);
}

bool drv_used(struct drv *v, unsigned int qi, uint16_t *head, uint32_t *len)
{
	struct drv_queue *q = &v->q[qi];
	struct raw_desc *t = desc(v, q);
	uint32_t elem[2];
	uint16_t at;

	if (load(v, q->used + 2) == q->used_seen)
		return false;
	memcpy(elem, gmem_ptr(v->m, q->used + 4 + 8u * (q->used_seen % q->size), 8), 8);
	q->used_seen++;
	CHECK(elem[0] < q->size);
	*head = (uint16_t)elem[0];
	*len = elem[1];
	CHECK(q->chain_len[*head] > 0);
	at = *head;
	for (unsigned int i = 1; i < q->chain_len[*head]; i++)
		at = t[at].next;
	t[at].next = q->free_head;
	q->free_head = *head;
	q->n_free += q->chain_len[*head];
	q->chain_len[*head] = 0;
	return true;
}

bool drv_want_irq(struct drv *v, unsigned int qi)
{
	struct drv_queue *q = &v->q[qi];

	if (virtio_has(v->d, VIRTIO_F_EVENT_IDX))
		store(v, q->avail + 4 + 2u * q->size, q->used_seen);
	else
		store(v, q->avail, 0);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return load(v, q->used + 2) == q->used_seen;
}

void drv_no_irq(struct drv *v, unsigned int qi)
{
	struct drv_queue *q = &v->q[qi];

	if (!virtio_has(v->d, VIRTIO_F_EVENT_IDX))
		store(v, q->avail, 1);
}
