/* SPDX-License-Identifier: Apache-2.0 */
/*
 * block/qcow2_resize.c - a larger or smaller disk; single clusters for a converter
 */
#include "block/qcow2_walk_priv.h"

#include <errno.h>
#include <stdio.h>

/* A longer L1 table takes the old one's place; header last. */
static int grow_l1(struct qcow2 *q, uint64_t entries)
{
	uint64_t old = q->h.l1_offset >> q->h.cluster_bits, first;
	uint64_t n_old = MAX(q_clusters(q, q->h.l1_size * UINT64_C(8)), UINT64_C(1));
	uint64_t n = q_clusters(q, entries * 8);
	uint64_t *l1 = calloc(entries + 1, sizeof(*l1));
	bool *dirty = calloc(entries / 64 + 1, sizeof(*dirty));
	autofree uint8_t *buf = calloc(n, q->cluster_size);
	int r = l1 && dirty && buf ? q_alloc_slow(q, n, &first) : -ENOMEM;

	for (uint32_t i = 0; r == 0 && i < q->h.l1_size; i++) {
		l1[i] = q->l1[i];
		store_be64(buf + i * UINT64_C(8), l1[i]);
	}
	if (r == 0)
		r = q_pwrite(q, buf, n << q->h.cluster_bits, first << q->h.cluster_bits);
	if (r == 0)
		r = q_commit(q);
	if (r == 0) {
		q_head_set64(q, Q_H_L1_OFFSET, first << q->h.cluster_bits);
		q_head_set32(q, Q_H_L1_SIZE, (uint32_t)entries);
		r = q_head_write(q);
	}
	if (r < 0) {
		free(l1);
		free(dirty);
		return r;
	}
	pthread_mutex_lock(&q->lock);
	free(q->l1);
	free(q->l1_dirty);
	q->l1 = l1;
	q->l1_dirty = dirty;
	q->h.l1_offset = first << q->h.cluster_bits;
	q->h.l1_size = (uint32_t)entries;
	pthread_mutex_unlock(&q->lock);
	return q_refs_add(q, old, n_old, -1);
}

static int store_size(struct qcow2 *q)
{
	q_head_set64(q, Q_H_SIZE, q->h.size);
	return q_head_write(q);
}

struct waiter {
	struct blk_req req;
	bool done;
	int result;
};

static void waiter_done(struct blk_req *r, int result)
{
	struct waiter *w = container_of(r, struct waiter, req);

	w->result = result;
	w->done = true;
}

static int zero_range(struct qcow2 *q, uint64_t from, uint64_t to)
{
	struct waiter w = {.req = {.op = BLK_WRITE_ZEROES,
				   .flags = BLK_UNMAP,
				   .offset = from,
				   .len = to - from,
				   .done = waiter_done}};

	if (from >= to)
		return 0;
	blk_submit(&q->blk, &w.req);
	blk_drain(&q->blk);
	return w.done ? w.result : -EIO;
}

/* What was never part of the disk reads as zeroes: the rest of its last cluster, and where the
 * backing file is longer. */
static int zero_grown(struct qcow2 *q, uint64_t from)
{
	uint64_t to = MAX(ALIGN_UP(from, q->cluster_size), q->backing_size);

	to = MIN(to, q->h.size);

	return zero_range(q, from, to);
}

static int on_tail(void *opaque, const struct q_walk_item *it)
{
	const uint64_t *end = opaque;

	return !it->is_table && it->cluster >= *end &&
	       (it->bad || it->entry.kind == Q_NORMAL || it->entry.kind == Q_PACKED);
}

/* The entries of clusters past the end go, so that nothing comes back when it grows again. */
static int cut(struct qcow2 *q, uint64_t size, struct err *e)
{
	uint64_t end = q_clusters(q, size);
	int r = q_walk(q, q->h.l1_offset, q->h.l1_size, on_tail, &end);

	if (r > 0)
		return err_msg(e, -ENOTEMPTY,
			       "there is data behind the new end; discard it in the guest first");
	return r < 0 ? err_set(e, r, "read the tables") : 0;
}

int qcow2_resize(struct blk *b, uint64_t size, bool shrink, struct err *e)
{
	struct qcow2 *q = q_of(b);
	uint64_t per_l1 = BIT(2 * q->h.cluster_bits - 3),
		 entries = size / per_l1 + !!(size % per_l1);
	uint64_t old = q->h.size;
	int r = 0;

	if (q->read_only)
		return err_msg(e, -EROFS, "the image is open for reading only");
	if (!size || size % 512 || entries > Q_MAX_L1_ENTRIES)
		return err_msg(e, -EINVAL, "size: %llu is not a multiple of 512, or too large",
			       (unsigned long long)size);
	if (size < old && !shrink)
		return err_msg(e, -EINVAL, "the disk has %llu bytes; --shrink makes it smaller",
			       (unsigned long long)old);
	if (q->h.n_bitmaps)
		return err_msg(e, -ENOTSUP, "the image has dirty bitmaps; remove them first");
	if (size < old && q->h.n_snapshots)
		return err_msg(e, -ENOTSUP, "an image with snapshots cannot be made smaller");
	pthread_mutex_lock(&q->slow);
	r = q_commit_all(q);
	if (r == 0 && size < old)
		r = cut(q, size, e);
	if (r == 0 && entries > q->h.l1_size)
		r = grow_l1(q, entries);
	pthread_mutex_unlock(&q->slow);
	if (e && e->code)
		return r;
	/* In memory first, so that all is zeroed before the file says that it is part of the disk;
	 * a smaller disk's rest before it is not any more. */
	if (r == 0 && size < old)
		r = zero_range(q, ALIGN_UP(size, q->cluster_size), old);
	if (r == 0)
		q->h.size = q->blk.info.size = size;
	if (r == 0 && size > old)
		r = zero_grown(q, old);
	pthread_mutex_lock(&q->slow);
	if (r == 0)
		r = q_commit_all(q);
	if (r == 0)
		r = store_size(q);
	if (r < 0)
		q->h.size = q->blk.info.size = old;
	pthread_mutex_unlock(&q->slow);
	return r < 0 ? err_set(e, r, "resize") : 0;
}

/* --- for a converter --- */

/* @n bytes of a shared cluster, or of a new one. */
static int pack_space(struct qcow2 *q, size_t n, uint64_t *ret)
{
	uint64_t first;
	int r = -ERANGE;

	if (q->pack_end - q->pack_at >= n)
		r = q_refs_add(q, q->pack_at >> q->h.cluster_bits, 1, 1);
	if (r == -ERANGE) {
		r = q_alloc_slow(q, 1, &first);
		if (r == 0) {
			q->pack_at = first << q->h.cluster_bits;
			q->pack_end = q->pack_at + q->cluster_size;
		}
	}
	if (r < 0)
		return r;
	*ret = q->pack_at;
	q->pack_at += n;
	return 0;
}

static int set_packed(struct qcow2 *q, uint64_t cluster, uint64_t host, size_t n)
{
	unsigned int shift = 62 - (q->h.cluster_bits - 8);
	uint64_t sectors = ((host & 511) + n - 1) / 512;

	for (;;) {
		struct q_miss miss = {0};
		struct q_block *b;
		struct q_entry en;
		unsigned int index;
		int r;

		pthread_mutex_lock(&q->lock);
		r = q_lookup_own(q, cluster, &b, &index, &en, &miss);
		if (r == 0)
			q_entry_set(q, b, index, Q_COMPRESSED | sectors << shift | host, &en, true);
		pthread_mutex_unlock(&q->lock);
		if (r == -EAGAIN)
			r = q_resolve(q, &miss);
		else
			return r;
		if (r < 0)
			return r;
	}
}

int qcow2_write_packed(struct blk *b, uint64_t offset, const void *data, size_t len)
{
	struct qcow2 *q = q_of(b);
	autofree uint8_t *src = calloc(1, q->cluster_size), *dst = malloc(q->cluster_size);
	uint64_t host = 0;
	size_t n;
	int r = src && dst ? 0 : -ENOMEM;

	if (r < 0 || q->read_only || offset % q->cluster_size || len > q->cluster_size ||
	    !range_ok(offset, len, q->h.size))
		return r < 0 ? r : -EINVAL;
	memcpy(src, data, len);
	n = q_pack(q, src, dst, q->cluster_size - 1);
	if (!n)
		return -E2BIG;
	pthread_mutex_lock(&q->slow);
	r = pack_space(q, n, &host);
	if (r == 0)
		r = q_pwrite(q, dst, n, host);
	if (r == 0)
		r = set_packed(q, offset >> q->h.cluster_bits, host, n);
	pthread_mutex_unlock(&q->slow);
	return r;
}

int qcow2_extent(struct blk *b, uint64_t offset, uint64_t *len, enum qcow2_extent *ret)
{
	struct qcow2 *q = q_of(b);
	uint64_t cluster = offset >> q->h.cluster_bits, n = 0;
	int r = 0;

	pthread_mutex_lock(&q->slow);
	while (r == 0 && n < 4096 && (cluster + n) << q->h.cluster_bits < q->h.size) {
		struct q_miss miss = {0};
		enum qcow2_extent what;
		struct q_block *block;
		struct q_entry en;
		unsigned int index;

		pthread_mutex_lock(&q->lock);
		r = q_lookup(q, cluster + n, &block, &index, &en, &miss);
		pthread_mutex_unlock(&q->lock);
		if (r == -EAGAIN) {
			r = q_resolve(q, &miss);
			continue;
		}
		what = q_reads_zero(q, cluster + n, &en) ? QCOW2_ZEROES
		       : en.kind == Q_UNALLOCATED        ? QCOW2_BACKING
							 : QCOW2_DATA;
		if (n && what != *ret)
			break;
		*ret = what;
		n++;
	}
	pthread_mutex_unlock(&q->slow);
	if (r == 0)
		*len = MIN((cluster + n) << q->h.cluster_bits, q->h.size) - offset;
	return r;
}

uint64_t qcow2_known_zeroes(struct blk *b, uint64_t offset)
{
	const struct qcow2 *q = q_of(b);
	enum qcow2_extent what;
	uint64_t len;

	if (offset >= q->h.size || qcow2_extent(b, offset, &len, &what) < 0)
		return 0;
	if (what == QCOW2_BACKING && q->backing && offset < q->backing_size)
		return MIN(len, blk_known_zeroes(q->backing, offset));
	return what == QCOW2_DATA ? 0 : len;
}
