/* SPDX-License-Identifier: Apache-2.0 */
/*
 * block/qcow2_refcount.c - how often each cluster is referred to, and finding free ones
 *
 * The refcount table lists refcount blocks, each a cluster of counters.  A new block lies in the
 * first cluster of those that it counts, so that making one needs no other: while the block is
 * missing all of them are free.  When the table is full, a longer one goes to the first clusters
 * that the old one could not count, behind the blocks that count them.  Both are rare enough to be
 * written and flushed at once.
 */
#include "block/qcow2_priv.h"

#include <errno.h>

/* How far ahead of the clusters in use the file is made larger: little at first, since a disk that
 * is hardly written to should not take much, then twice as much each time. */
#define AHEAD_MIN (UINT64_C(2) << 20)
#define AHEAD_MAX (UINT64_C(64) << 20)

uint64_t q_ref_load(const uint8_t *p, unsigned int order, uint64_t i)
{
	switch (order) {
	case 3:
		return p[i];
	case 4:
		return load_be16(p + i * 2);
	case 5:
		return load_be32(p + i * 4);
	case 6:
		return load_be64(p + i * 8);
	default: /* 1, 2 or 4 bits, from the byte's low end */
		return p[i >> (3 - order)] >> ((i << order) & 7) & q_ref_max(order);
	}
}

void q_ref_store(uint8_t *p, unsigned int order, uint64_t i, uint64_t v)
{
	unsigned int shift = (unsigned int)(i << order) & 7;

	switch (order) {
	case 3:
		p[i] = (uint8_t)v;
		break;
	case 4:
		store_be16(p + i * 2, (uint16_t)v);
		break;
	case 5:
		store_be32(p + i * 4, (uint32_t)v);
		break;
	case 6:
		store_be64(p + i * 8, v);
		break;
	default:
		p += i >> (3 - order);
		*p = (uint8_t)((*p & ~(q_ref_max(order) << shift)) | v << shift);
	}
}

/* lock held.  The block with @cluster's count: -EAGAIN with *@miss when it is not in memory, and
 * with *@block NULL when there is none yet (count 0). */
static int ref_block(struct qcow2 *q, uint64_t cluster, struct q_block **block, uint64_t *index,
		     struct q_miss *miss)
{
	uint64_t i = cluster >> q->ref_bits, byte, off;

	*block = NULL;
	if (i >= q->rt_entries || !q->rt[i])
		return 0;
	*index = cluster & (BIT(q->ref_bits) - 1);
	byte = *index << q->h.refcount_order >> 3;
	off = q->rt[i] + ALIGN_DOWN(byte, (uint64_t)q->cache.block_size);
	*block = q_cache_get(q, Q_REF, off);
	if (!*block) {
		*miss = (struct q_miss){Q_MISS_BLOCK, Q_REF, off};
		return -EAGAIN;
	}
	*index &= ((uint64_t)q->cache.block_size << 3 >> q->h.refcount_order) - 1;
	return 0;
}

/* --- allocation --- */

/* lock held.  The first free cluster from free_hint on. */
static int find_free(struct qcow2 *q, uint64_t *ret, struct q_miss *miss)
{
	unsigned int order = q->h.refcount_order;
	uint64_t per_block = (uint64_t)q->cache.block_size << 3 >> order;

	for (;;) {
		uint64_t c = q->free_hint, i = 0;
		struct q_block *b;
		int r = ref_block(q, c, &b, &i, miss);

		if (r < 0)
			return r;
		if (!b) {
			/* Nothing counts it: a block must be made, which takes the first cluster.
			 */
			*miss = (struct q_miss){Q_MISS_REFBLOCK, Q_REF, c >> q->ref_bits};
			return -EAGAIN;
		}
		for (; i < per_block; i++, c++) {
			if (q_ref_load(b->data, order, i) == 0)
				break;
		}
		q->free_hint = c;
		if (i < per_block) {
			*ret = c;
			return 0;
		}
	}
}

int q_alloc(struct qcow2 *q, uint64_t n, uint64_t *first, uint64_t *got, bool *zero,
	    struct q_miss *miss)
{
	uint64_t c, at;
	int r = find_free(q, &c, miss);

	if (r < 0)
		return r;
	for (at = c; at < c + n; at++) {
		struct q_miss none;
		struct q_block *b;
		uint64_t i;

		if (ref_block(q, at, &b, &i, &none) < 0 || !b ||
		    q_ref_load(b->data, q->h.refcount_order, i))
			break;
		if (at >= Q_MAX_OFFSET >> q->h.cluster_bits)
			return -ENOSPC;
		if (q_is_table(q, at << q->h.cluster_bits, q->cluster_size)) {
			q_mark_corrupt(q, "a table's cluster is counted as free", at);
			return -EIO;
		}
		q_ref_store(b->data, q->h.refcount_order, i, 1);
		q_cache_dirty(q, b);
	}
	*first = c;
	*got = at - c;
	*zero = c >= q->fresh;
	q->free_hint = at;
	q->fresh = MAX(q->fresh, at);
	if (!q->enlarge_wanted && (at << q->h.cluster_bits) + q->ahead / 4 > q->file_end) {
		q->enlarge_wanted = true;
		pthread_cond_signal(&q->wake);
	}
	return 0;
}

void q_file_enlarge(struct qcow2 *q)
{
	uint64_t to, ahead;
	int r;

	pthread_mutex_lock(&q->lock);
	ahead = q->ahead ? MIN(q->ahead * 2, AHEAD_MAX) : AHEAD_MIN;
	to = (q->fresh << q->h.cluster_bits) + ahead;
	pthread_mutex_unlock(&q->lock);
	r = q->file->ops->sync->extend(q->file, to);
	pthread_mutex_lock(&q->lock);
	q->enlarge_wanted = false;
	q->ahead = ahead;
	q->enlarged = q->enlarged || r == 0;
	/* A device, or a full disk: never again. */
	q->file_end = r == 0 ? to : UINT64_MAX;
	pthread_mutex_unlock(&q->lock);
}

void q_file_trim(struct qcow2 *q)
{
	if (q->enlarged)
		(void)!q->file->ops->sync->truncate(q->file, q->fresh << q->h.cluster_bits);
	q->enlarged = false;
}

/* What q_alloc got and will not use; never referred to, so that nothing has to be waited for. */
static int give_up(struct qcow2 *q, uint64_t first, uint64_t n)
{
	return n ? q_refs_add(q, first, n, -1) : 0;
}

static int alloc_region(struct qcow2 *q, uint64_t n, uint64_t *first);

int q_alloc_slow(struct qcow2 *q, uint64_t n, uint64_t *first)
{
	uint64_t hint = 0, moved_from = UINT64_MAX;

	if (n > BIT(q->ref_bits) / 2)
		return alloc_region(q, n, first);
	for (;;) {
		struct q_miss miss = {0};
		uint64_t c = 0, got = 0;
		bool zero;
		int r;

		pthread_mutex_lock(&q->lock);
		if (hint)
			q->free_hint = MAX(q->free_hint, hint);
		r = q_alloc(q, n, &c, &got, &zero, &miss);
		pthread_mutex_unlock(&q->lock);
		if (r == -EAGAIN) {
			r = q_resolve(q, &miss);
			if (r < 0)
				return r;
			continue;
		}
		if (r < 0)
			return r;
		if (got == n) {
			*first = c;
			pthread_mutex_lock(&q->lock);
			q->free_hint = MIN(q->free_hint, moved_from);
			pthread_mutex_unlock(&q->lock);
			return 0;
		}
		/* Too short a gap: go on behind it, and come back to it the next time. */
		r = give_up(q, c, got);
		if (r < 0)
			return r;
		moved_from = MIN(moved_from, c);
		hint = c + got;
		/* The end of what a block counts is no gap: the next block is missing yet. */
		pthread_mutex_lock(&q->lock);
		if ((hint >> q->ref_bits) >= q->rt_entries || !q->rt[hint >> q->ref_bits])
			miss = (struct q_miss){Q_MISS_REFBLOCK, Q_REF, hint >> q->ref_bits};
		pthread_mutex_unlock(&q->lock);
		if (miss.kind == Q_MISS_REFBLOCK)
			r = q_resolve(q, &miss);
		if (r < 0)
			return r;
	}
}

/* --- counting --- */

static int ref_block_slow(struct qcow2 *q, uint64_t cluster, struct q_block **block, uint64_t *i)
{
	for (;;) {
		struct q_miss miss;
		int r = ref_block(q, cluster, block, i, &miss);

		if (r != -EAGAIN)
			return r;
		pthread_mutex_unlock(&q->lock);
		r = q_resolve(q, &miss);
		pthread_mutex_lock(&q->lock);
		if (r < 0)
			return r;
	}
}

int q_refcount(struct qcow2 *q, uint64_t cluster, uint64_t *ret)
{
	struct q_block *b;
	uint64_t i = 0;
	int r;

	pthread_mutex_lock(&q->lock);
	r = ref_block_slow(q, cluster, &b, &i);
	if (r == 0)
		*ret = b ? q_ref_load(b->data, q->h.refcount_order, i) : 0;
	pthread_mutex_unlock(&q->lock);
	return r;
}

int q_refcount_set(struct qcow2 *q, uint64_t cluster, uint64_t v)
{
	struct q_block *b;
	uint64_t i = 0;
	int r;

	pthread_mutex_lock(&q->lock);
	r = ref_block_slow(q, cluster, &b, &i);
	if (r == 0 && !b)
		r = v ? -ENOENT : 0;
	if (r == 0 && b) {
		q_ref_store(b->data, q->h.refcount_order, i, v);
		q_cache_dirty(q, b);
		if (!v)
			q->free_hint = MIN(q->free_hint, cluster);
	}
	pthread_mutex_unlock(&q->lock);
	return r;
}

/* lock held: the cluster's last reference is gone. */
static void cluster_freed(struct qcow2 *q, uint64_t c)
{
	q->free_hint = MIN(q->free_hint, c);
	q->zentry = 0; /* something else may be compressed into it */
	if (q_set_has(&q->tables, c)) {
		q_set_remove(&q->tables, c);
		q_cache_drop(q, c << q->h.cluster_bits, q->cluster_size);
	}
	if (c == q->pack_at >> q->h.cluster_bits)
		q->pack_at = q->pack_end = 0;
}

/* The space of clusters [@first, @end) goes back to the host before anybody can get them: lock is
 * not held, but only allocation by q_alloc under lock could hand them out, so counts drop last. */
static int count_one(struct qcow2 *q, uint64_t c, int delta, bool *freed)
{
	unsigned int order = q->h.refcount_order;
	struct q_block *b;
	uint64_t i = 0, v;
	int r = ref_block_slow(q, c, &b, &i);

	if (r < 0)
		return r;
	v = b ? q_ref_load(b->data, order, i) : 0;
	if (!b || (delta < 0 && v < (uint64_t)-delta)) {
		q_mark_corrupt(q, "a cluster in use is counted as free", c);
		return -EIO;
	}
	if (delta > 0 && v > q_ref_max(order) - (uint64_t)delta)
		return -ERANGE;
	v += (uint64_t)(int64_t)delta;
	if (!v && !*freed) {
		*freed = true; /* first let the caller punch it */
		return 0;
	}
	q_ref_store(b->data, order, i, v);
	q_cache_dirty(q, b);
	if (!v)
		cluster_freed(q, c);
	return 0;
}

int q_refs_add(struct qcow2 *q, uint64_t first, uint64_t n, int delta)
{
	int r = 0;

	for (uint64_t c = first; r == 0 && c < first + n;) {
		uint64_t end = c;
		bool freed = false;

		/* A run of clusters that become free is punched in one piece, then counted. */
		pthread_mutex_lock(&q->lock);
		while (r == 0 && end < first + n) {
			freed = false;
			r = count_one(q, end, delta, &freed);
			if (r < 0 || !freed)
				break;
			end++;
		}
		pthread_mutex_unlock(&q->lock);
		if (end > c)
			q->file->ops->sync->punch(q->file, c << q->h.cluster_bits,
						  (end - c) << q->h.cluster_bits);
		pthread_mutex_lock(&q->lock);
		for (uint64_t f = c; f < end; f++) {
			bool now = true;
			int r2 = count_one(q, f, delta, &now);

			r = r < 0 ? r : r2;
		}
		pthread_mutex_unlock(&q->lock);
		c = freed || r < 0 ? end : end + 1;
	}
	return r;
}

/* --- growth --- */

/* Writes refcount blocks [@index, @index+n_blocks), which lie from the first cluster they count on,
 * side by side, and count @used clusters from there as taken.  @rt gets their entries. */
static int write_blocks(struct qcow2 *q, uint64_t index, uint64_t n_blocks, uint64_t used,
			uint64_t *rt)
{
	uint64_t per = BIT(q->ref_bits), start = index << q->ref_bits;
	uint8_t *buf = malloc(q->cluster_size);
	int r = buf ? 0 : -ENOMEM;

	if (q_is_table(q, start << q->h.cluster_bits, used << q->h.cluster_bits)) {
		q_mark_corrupt(q, "a table's cluster is not counted", start);
		r = -EIO;
	}
	for (uint64_t b = 0; r == 0 && b < n_blocks; b++) {
		memset(buf, 0, q->cluster_size);
		for (uint64_t i = 0; i < per && b * per + i < used; i++)
			q_ref_store(buf, q->h.refcount_order, i, 1);
		rt[b] = (start + b) << q->h.cluster_bits;
		r = q_pwrite(q, buf, q->cluster_size, rt[b]);
	}
	free(buf);
	return r;
}

static int write_table(struct qcow2 *q, uint64_t off, const uint64_t *rt, uint64_t to)
{
	uint64_t buf[64];

	for (uint64_t from = 0, n; from < to; from += n) {
		int r;

		n = MIN(to - from, (uint64_t)ARRAY_SIZE(buf));
		for (uint64_t i = 0; i < n; i++)
			store_be64(&buf[i], rt[from + i]);
		r = q_pwrite(q, buf, n * 8, off + from * 8);
		if (r < 0)
			return r;
	}
	return 0;
}

/* The blocks are in the file and listed there: now in memory, too. */
static int note_blocks(struct qcow2 *q, uint64_t index, uint64_t n_blocks, uint64_t used)
{
	uint64_t start = index << q->ref_bits;
	int r = 0;

	for (uint64_t b = 0; r == 0 && b < n_blocks; b++)
		r = q_set_add(&q->tables, start + b);
	q->fresh = MAX(q->fresh, start + used);
	return r;
}

static int grow_table(struct qcow2 *q, uint64_t index)
{
	uint64_t per_cluster = q->cluster_size / 8, start = index << q->ref_bits;
	uint64_t entries = MAX(q->rt_entries + q->rt_entries / 2, index + 1), n_blocks = 0, *rt;
	uint64_t old = q->h.rt_offset >> q->h.cluster_bits, n_old = q->h.rt_clusters, need;
	int r;

	/* The new table must list the blocks that count it and itself. */
	for (;;) {
		entries = ALIGN_UP(entries, per_cluster);
		need = n_blocks + entries / per_cluster;
		n_blocks = (need + BIT(q->ref_bits) - 1) >> q->ref_bits;
		if (n_blocks + entries / per_cluster > n_blocks << q->ref_bits)
			n_blocks++;
		if (entries >= index + n_blocks)
			break;
		entries = index + n_blocks;
	}
	if (entries * 8 > Q_MAX_TABLE_BYTES)
		return -ENOSPC;
	rt = calloc(entries, sizeof(*rt));
	if (!rt)
		return -ENOMEM;
	memcpy(rt, q->rt, q->rt_entries * sizeof(*rt));
	need = n_blocks + entries / per_cluster;
	r = write_blocks(q, index, n_blocks, need, rt + index);
	if (r == 0)
		r = write_table(q, (start + n_blocks) << q->h.cluster_bits, rt, entries);
	if (r == 0)
		r = q_sync(q);
	if (r == 0) {
		q_head_set64(q, Q_H_RT_OFFSET, (start + n_blocks) << q->h.cluster_bits);
		q_head_set32(q, Q_H_RT_CLUSTERS, (uint32_t)(entries / per_cluster));
		r = q_head_write(q);
	}
	if (r < 0) {
		free(rt);
		return r;
	}
	pthread_mutex_lock(&q->lock);
	free(q->rt);
	q->rt = rt;
	q->rt_entries = entries;
	q->h.rt_offset = (start + n_blocks) << q->h.cluster_bits;
	q->h.rt_clusters = (uint32_t)(entries / per_cluster);
	r = note_blocks(q, index, n_blocks, need);
	pthread_mutex_unlock(&q->lock);
	return r < 0 ? r : q_refs_add(q, old, n_old, -1);
}

/* Blocks that the table has room for. */
static int new_blocks(struct qcow2 *q, uint64_t index, uint64_t n_blocks, uint64_t used)
{
	autofree uint64_t *rt = calloc(n_blocks, sizeof(*rt));
	int r = rt ? write_blocks(q, index, n_blocks, used, rt) : -ENOMEM;

	if (r == 0)
		r = q_sync(q);
	if (r == 0)
		r = write_table(q, q->h.rt_offset + index * 8, rt, n_blocks);
	if (r < 0)
		return r;
	pthread_mutex_lock(&q->lock);
	memcpy(q->rt + index, rt, n_blocks * sizeof(*rt));
	r = note_blocks(q, index, n_blocks, used);
	pthread_mutex_unlock(&q->lock);
	return r;
}

int q_refblock_new(struct qcow2 *q, uint64_t index)
{
	uint64_t cluster = index << q->ref_bits;

	if (cluster >= Q_MAX_OFFSET >> q->h.cluster_bits)
		return -ENOSPC;
	if (index >= q->rt_entries)
		return grow_table(q, index);
	if (q->rt[index])
		return 0;
	return new_blocks(q, index, 1, 1);
}

/* Clusters side by side, more than fit between two blocks: a place of their own with the blocks
 * that count them in front, behind all that is counted so far. */
static int alloc_region(struct qcow2 *q, uint64_t n, uint64_t *first)
{
	uint64_t per = BIT(q->ref_bits), index = 0, n_blocks = (n + per - 2) / (per - 1);
	int r;

	while ((n_blocks + n + per - 1) / per > n_blocks)
		n_blocks++;
	for (uint64_t i = 0; i < q->rt_entries; i++) {
		if (q->rt[i])
			index = i + 1;
	}
	while (index + n_blocks > q->rt_entries) {
		r = grow_table(q, q->rt_entries);
		if (r < 0)
			return r;
		for (uint64_t i = index; i < q->rt_entries; i++) {
			if (q->rt[i])
				index = i + 1;
		}
	}
	r = new_blocks(q, index, n_blocks, n_blocks + n);
	if (r == 0)
		*first = (index << q->ref_bits) + n_blocks;
	return r;
}
