/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio/queue.c - the split virtqueue, device side (virtio 1.2, 2.7)
 *
 *	descriptors     16 bytes each: u64 addr, u32 len, u16 flags, u16 next
 *	available ring  u16 flags, u16 idx, u16 ring[size], u16 used_event     driver writes
 *	used ring       u16 flags, u16 idx, {u32 id, u32 len}[size], u16 avail_event     we write
 *
 * Ordering.  The driver fills a ring slot, then bumps avail.idx: we load idx with acquire before
 *the slot.  We fill a used slot, then store used.idx with release.  Each side's "sleep" check is a
 * store followed by a load of what the other side writes, which x86 and the C model may both
 * reorder: a full fence stands between them (2.7.7, 2.7.10, 2.7.13.4).
 */
#include "virtio/virtio.h"

#include "base/log.h"

#include <errno.h>

#define DESC_SIZE       16
#define DESC_F_NEXT     1
#define DESC_F_WRITE    2
#define DESC_F_INDIRECT 4

#define AVAIL_F_NO_INTERRUPT 1
#define USED_F_NO_NOTIFY     1

struct desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};

static uint16_t load16(const uint8_t *p, int order)
{
	return __atomic_load_n((const uint16_t *)(const void *)p, order);
}

static void store16(struct vq *q, uint8_t *p, uint16_t v, int order)
{
	__atomic_store_n((uint16_t *)(void *)p, v, order);
	gmem_dirty(q->dev->mem, q->used + (uint64_t)(p - q->used_hva), sizeof(v));
}

static uint64_t avail_len(const struct vq *q)
{
	return 4 + 2 * (uint64_t)q->size + 2;
}

static uint64_t used_len(const struct vq *q)
{
	return 4 + 8 * (uint64_t)q->size + 2;
}

static bool is_rom(const struct gmem *m, uint64_t gpa)
{
	const struct gmem_slot *s = gmem_slot(m, gpa);

	return !s || (s->flags & GMEM_ROM);
}

int vq_map(struct vq *q)
{
	struct gmem *m = q->dev->mem;

	if (!q->size || (q->size & (q->size - 1)) || q->size > q->size_max)
		return -EINVAL;
	if ((q->desc & 15) || (q->avail & 1) || (q->used & 3) || is_rom(m, q->used))
		return -EINVAL;
	q->desc_hva = gmem_ptr(m, q->desc, (uint64_t)q->size * DESC_SIZE);
	q->avail_hva = gmem_ptr(m, q->avail, avail_len(q));
	q->used_hva = gmem_ptr(m, q->used, used_len(q));
	if (!q->desc_hva || !q->avail_hva || !q->used_hva) {
		vq_unmap(q);
		return -EFAULT;
	}
	return 0;
}

void vq_unmap(struct vq *q)
{
	q->desc_hva = q->avail_hva = q->used_hva = NULL;
}

static bool vq_live(const struct vq *q)
{
	return q->enabled && q->avail_hva && virtio_ready(q->dev);
}

/* One more part; the walk ends with false when the driver broke a rule. */
static bool chain_add(struct vq *q, struct vq_chain *c, const struct desc *d)
{
	unsigned int n = c->n_out + c->n_in;
	bool write = d->flags & DESC_F_WRITE;
	void *hva;

	if (n == VQ_CHAIN_MAX) {
		virtio_broken(q->dev, "descriptor chain too long or looped");
		return false;
	}
	if (!d->len) {
		virtio_broken(q->dev, "empty descriptor");
		return false;
	}
	if (!write && c->n_in) {
		virtio_broken(q->dev, "readable descriptor after a writable one");
		return false;
	}
	hva = gmem_ptr(q->dev->mem, d->addr, d->len);
	if (!hva || (write && is_rom(q->dev->mem, d->addr))) {
		virtio_broken(q->dev, "descriptor outside guest memory");
		return false;
	}
	c->gpa[n] = d->addr;
	c->iov[n] = (struct iovec){.iov_base = hva, .iov_len = d->len};
	if (write) {
		c->n_in++;
		c->in_len += d->len;
	} else {
		c->n_out++;
		c->out_len += d->len;
	}
	return true;
}

/* Enter the table an indirect descriptor points to (2.7.5.3). */
static const uint8_t *indirect_table(struct vq *q, const struct desc *d, uint32_t *n)
{
	const uint8_t *table;

	if (!virtio_has(q->dev, VIRTIO_F_INDIRECT_DESC) || (d->flags & DESC_F_NEXT) || !d->len ||
	    d->len % DESC_SIZE) {
		virtio_broken(q->dev, "malformed indirect descriptor");
		return NULL;
	}
	table = gmem_ptr(q->dev->mem, d->addr, d->len);
	if (!table) {
		virtio_broken(q->dev, "indirect table outside guest memory");
		return NULL;
	}
	*n = d->len / DESC_SIZE;
	return table;
}

/*
 * Every round either adds a part, of which there are at most VQ_CHAIN_MAX, or enters the one
 * indirect table a chain may have: no loop of the driver's making is endless.
 */
static bool chain_walk(struct vq *q, struct vq_chain *c, uint16_t head)
{
	const uint8_t *table = q->desc_hva;
	uint32_t n = q->size, i = head;
	bool indirect = false;

	for (;;) {
		struct desc d;

		if (i >= n) {
			virtio_broken(q->dev, "descriptor index out of range");
			return false;
		}
		memcpy(&d, table + (size_t)i * DESC_SIZE, sizeof(d));
		if (d.flags & DESC_F_INDIRECT) {
			if (indirect) {
				virtio_broken(q->dev,
					      "indirect descriptor inside an indirect table");
				return false;
			}
			table = indirect_table(q, &d, &n);
			if (!table)
				return false;
			indirect = true;
			i = 0;
			continue;
		}
		if (!chain_add(q, c, &d))
			return false;
		if (!(d.flags & DESC_F_NEXT))
			return true;
		i = d.next;
	}
}

static bool has_avail(struct vq *q, uint16_t *n)
{
	*n = (uint16_t)(load16(q->avail_hva + 2, __ATOMIC_ACQUIRE) - q->last_avail);
	return *n != 0;
}

bool vq_pending(struct vq *q)
{
	uint16_t n;

	return vq_live(q) && has_avail(q, &n);
}

/* Ask for a kick at the next post; the fence orders the request before the caller's look. */
static void arm_kicks(struct vq *q)
{
	if (virtio_has(q->dev, VIRTIO_F_EVENT_IDX))
		store16(q, q->used_hva + 4 + 8 * (size_t)q->size, q->last_avail, __ATOMIC_RELAXED);
	else if (load16(q->used_hva, __ATOMIC_RELAXED) & USED_F_NO_NOTIFY)
		store16(q, q->used_hva, 0, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

bool vq_want_kicks(struct vq *q, bool want)
{
	uint16_t n;

	q->kicks_off = !want;
	if (!vq_live(q))
		return true;
	if (!want) {
		/* With EVENT_IDX a stale avail_event does it: the driver passes it once in 65536.
		 */
		if (!virtio_has(q->dev, VIRTIO_F_EVENT_IDX))
			store16(q, q->used_hva, USED_F_NO_NOTIFY, __ATOMIC_RELAXED);
		return true;
	}
	arm_kicks(q);
	return !has_avail(q, &n);
}

bool vq_pop(struct vq *q, struct vq_chain *c)
{
	uint16_t n, head;

	if (!vq_live(q))
		return false;
	if (!has_avail(q, &n)) {
		if (q->kicks_off)
			return false;
		arm_kicks(q);
		if (!has_avail(q, &n))
			return false;
	}
	if (n > q->size) {
		virtio_broken(q->dev, "available index jumped");
		return false;
	}
	head = load16(q->avail_hva + 4 + 2 * (size_t)(q->last_avail & (q->size - 1)),
		      __ATOMIC_RELAXED);
	c->head = head;
	c->n_out = c->n_in = 0;
	c->out_len = c->in_len = 0;
	if (!chain_walk(q, c, head))
		return false;
	c->out = c->iov;
	c->in = c->iov + c->n_out;
	q->last_avail++;
	return true;
}

void vq_unpop(struct vq *q)
{
	q->last_avail--;
}

static void mark_written(struct vq *q, const struct vq_chain *c, uint32_t written)
{
	for (unsigned int i = 0; i < c->n_in && written; i++) {
		uint32_t len = (uint32_t)MIN(c->in[i].iov_len, (size_t)written);

		gmem_dirty(q->dev->mem, c->gpa[c->n_out + i], len);
		written -= len;
	}
}

static void put_used(struct vq *q, unsigned int at, const struct vq_chain *c, uint32_t written)
{
	size_t off = 4 + 8 * (size_t)((q->used_idx + at) & (q->size - 1u));
	uint32_t elem[2] = {c->head, (uint32_t)MIN((size_t)written, c->in_len)};

	/* The bytes are in guest memory whatever became of the ring. */
	mark_written(q, c, elem[1]);
	if (!vq_live(q))
		return;
	memcpy(q->used_hva + off, elem, sizeof(elem));
	gmem_dirty(q->dev->mem, q->used + off, sizeof(elem));
}

static void publish_used(struct vq *q, unsigned int n)
{
	if (!vq_live(q))
		return;
	q->used_idx = (uint16_t)(q->used_idx + n);
	store16(q, q->used_hva + 2, q->used_idx, __ATOMIC_RELEASE);
}

void vq_push(struct vq *q, const struct vq_chain *c, uint32_t written)
{
	put_used(q, 0, c, written);
	publish_used(q, 1);
}

void vq_push_many(struct vq *q, const struct vq_chain *c, const uint32_t *written, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		put_used(q, i, &c[i], written[i]);
	publish_used(q, n);
}

/* Does the driver want to hear of used entries (signalled_used, used_idx]? (2.7.7.2, 2.7.10) */
static bool wants_interrupt(struct vq *q)
{
	uint16_t event;

	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!virtio_has(q->dev, VIRTIO_F_EVENT_IDX))
		return !(load16(q->avail_hva, __ATOMIC_RELAXED) & AVAIL_F_NO_INTERRUPT);
	event = load16(q->avail_hva + 4 + 2 * (size_t)q->size, __ATOMIC_RELAXED);
	return (uint16_t)(q->used_idx - event - 1) < (uint16_t)(q->used_idx - q->signalled_used);
}

void vq_notify(struct vq *q)
{
	bool wanted;

	if (!vq_live(q) || q->used_idx == q->signalled_used)
		return;
	wanted = wants_interrupt(q);
	q->signalled_used = q->used_idx;
	if (wanted && q->dev->transport.notify)
		q->dev->transport.notify(q->dev->transport.opaque, q);
}

void vq_chain_copy(struct vq_chain *dst, const struct vq_chain *src)
{
	unsigned int n = src->n_out + src->n_in;

	dst->head = src->head;
	dst->n_out = src->n_out;
	dst->n_in = src->n_in;
	dst->out_len = src->out_len;
	dst->in_len = src->in_len;
	memcpy(dst->gpa, src->gpa, n * sizeof(src->gpa[0]));
	memcpy(dst->iov, src->iov, n * sizeof(src->iov[0]));
	dst->out = dst->iov;
	dst->in = dst->iov + dst->n_out;
}

void vq_want_next_kick(struct vq *q)
{
	if (!vq_live(q))
		return;
	if (virtio_has(q->dev, VIRTIO_F_EVENT_IDX))
		store16(q, q->used_hva + 4 + 8 * (size_t)q->size,
			load16(q->avail_hva + 2, __ATOMIC_RELAXED), __ATOMIC_RELAXED);
	else
		(void)vq_want_kicks(q, true);
}
