/* SPDX-License-Identifier: Apache-2.0 */
/*
 * block/qcow2_map.c - from a guest cluster to its L2 entry, and what the entry says
 */
#include "block/qcow2_priv.h"

#include <errno.h>

int q_entry_parse(const struct qcow2 *q, uint64_t raw, struct q_entry *ret)
{
	unsigned int shift = 62 - (q->h.cluster_bits - 8);

	*ret = (struct q_entry){.raw = raw};
	if (raw & Q_COMPRESSED) {
		uint64_t sectors = (raw & (Q_COMPRESSED - 1)) >> shift;

		ret->kind = Q_PACKED;
		ret->host = raw & (BIT(shift) - 1);
		ret->packed_size = (uint32_t)((sectors + 1) * 512 - (ret->host & 511));
		return range_ok(ret->host, ret->packed_size, Q_MAX_OFFSET) ? 0 : -EIO;
	}
	ret->host = raw & Q_OFFSET_MASK;
	ret->copied = raw & Q_COPIED;
	if (ret->host & (q->cluster_size - 1))
		return -EIO;
	if (q->h.version >= 3 && (raw & Q_ZERO))
		ret->kind = ret->host ? Q_ZERO_KEPT : Q_ZERO_PLAIN;
	else
		ret->kind = ret->host ? Q_NORMAL : Q_UNALLOCATED;
	return 0;
}

void q_entry_range(const struct qcow2 *q, const struct q_entry *en, uint64_t *first, uint64_t *n)
{
	uint64_t len = en->kind == Q_PACKED ? en->packed_size : q->cluster_size;

	*first = en->host >> q->h.cluster_bits;
	*n = 0;
	if (en->kind == Q_NORMAL || en->kind == Q_ZERO_KEPT || en->kind == Q_PACKED)
		*n = ((en->host + len - 1) >> q->h.cluster_bits) - *first + 1;
}

static int broken(struct qcow2 *q, const char *what, uint64_t value)
{
	q_mark_corrupt(q, what, value);
	return -EIO;
}

int q_lookup(struct qcow2 *q, uint64_t cluster, struct q_block **block, unsigned int *index,
	     struct q_entry *ret, struct q_miss *miss)
{
	uint64_t l1 = cluster >> q->l2_bits, table, byte, off;

	*block = NULL;
	*ret = (struct q_entry){0};
	if (l1 >= q->h.l1_size)
		return broken(q, "L1 table is too small", l1);
	table = q->l1[l1] & Q_OFFSET_MASK;
	if (!table)
		return 0;
	if (table & (q->cluster_size - 1))
		return broken(q, "L2 table's offset is wrong", table);
	byte = (cluster & (BIT(q->l2_bits) - 1)) * 8;
	off = table + ALIGN_DOWN(byte, (uint64_t)q->cache.block_size);
	*block = q_cache_get(q, Q_L2, off);
	if (!*block) {
		*miss = (struct q_miss){Q_MISS_BLOCK, Q_L2, off};
		return -EAGAIN;
	}
	*index = (unsigned int)((byte & (q->cache.block_size - 1)) / 8);
	if (q_entry_parse(q, load_be64((*block)->data + *index * 8), ret) < 0)
		return broken(q, "L2 entry is wrong", ret->raw);
	return 0;
}

int q_lookup_own(struct qcow2 *q, uint64_t cluster, struct q_block **block, unsigned int *index,
		 struct q_entry *ret, struct q_miss *miss)
{
	uint64_t l1 = cluster >> q->l2_bits;

	if (l1 < q->h.l1_size && !((q->l1[l1] & Q_COPIED) && (q->l1[l1] & Q_OFFSET_MASK))) {
		*miss = (struct q_miss){Q_MISS_L2_TABLE, Q_L2, l1};
		return -EAGAIN;
	}
	return q_lookup(q, cluster, block, index, ret, miss);
}

void q_entry_set(struct qcow2 *q, struct q_block *b, unsigned int index, uint64_t raw,
		 const struct q_entry *old, bool release)
{
	uint64_t first, n;

	store_be64(b->data + index * 8, raw);
	q_cache_dirty(q, b);
	q_entry_range(q, old, &first, &n);
	if (release && n)
		q_free_later(q, first, n);
	if (old->kind == Q_PACKED && old->raw == q->zentry)
		q->zentry = 0;
}

bool q_reads_zero(const struct qcow2 *q, uint64_t cluster, const struct q_entry *en)
{
	return en->kind == Q_ZERO_PLAIN || en->kind == Q_ZERO_KEPT ||
	       (en->kind == Q_UNALLOCATED && cluster << q->h.cluster_bits >= q->backing_size);
}

static bool overlaps(uint64_t a, uint64_t a_len, uint64_t b, uint64_t b_len)
{
	return a < b + b_len && b < a + a_len;
}

bool q_is_table(const struct qcow2 *q, uint64_t host, uint64_t len)
{
	const struct q_header *h = &q->h;
	uint64_t first = host >> h->cluster_bits, last = (host + len - 1) >> h->cluster_bits;

	if (host < q->cluster_size || overlaps(host, len, h->l1_offset, h->l1_size * UINT64_C(8)) ||
	    overlaps(host, len, h->rt_offset, (uint64_t)h->rt_clusters << h->cluster_bits) ||
	    (h->n_snapshots && overlaps(host, len, h->snapshots_offset, q->snapshot_bytes)) ||
	    (h->n_bitmaps && overlaps(host, len, h->bitmaps_offset, h->bitmaps_size)))
		return true;
	for (uint64_t c = first; c <= last; c++) {
		if (q_set_has(&q->tables, c))
			return true;
	}
	return false;
}

/* --- new tables --- */

/* A zeroed table, or a copy of the one that a snapshot keeps. */
static int fill_table(struct qcow2 *q, uint64_t from, uint64_t to)
{
	uint8_t *buf = calloc(1, q->cluster_size);
	int r = buf ? 0 : -ENOMEM;

	if (r == 0 && from)
		r = q_pread(q, buf, q->cluster_size, from);
	/* What the copy refers to is referred to twice now. */
	for (uint64_t i = 0; r == 0 && from && i < q->cluster_size; i += 8) {
		uint64_t raw = load_be64(buf + i);

		if (!(raw & Q_COMPRESSED))
			store_be64(buf + i, raw & ~Q_COPIED);
	}
	if (r == 0)
		r = q_pwrite(q, buf, q->cluster_size, to);
	free(buf);
	return r;
}

static int l2_table_new(struct qcow2 *q, uint64_t l1)
{
	uint64_t old, cluster;
	int r;

	pthread_mutex_lock(&q->lock);
	old = q->l1[l1];
	pthread_mutex_unlock(&q->lock);
	if ((old & Q_COPIED) && (old & Q_OFFSET_MASK))
		return 0;
	if (old & Q_OFFSET_MASK & (q->cluster_size - 1))
		return broken(q, "L2 table's offset is wrong", old);
	r = q_alloc_slow(q, 1, &cluster);
	if (r == 0)
		r = fill_table(q, old & Q_OFFSET_MASK, cluster << q->h.cluster_bits);
	if (r < 0)
		return r;
	pthread_mutex_lock(&q->lock);
	r = q_set_add(&q->tables, cluster);
	if (r == 0) {
		q->l1[l1] = cluster << q->h.cluster_bits | Q_COPIED;
		q->l1_dirty[l1 / 64] = q->any_l1_dirty = true;
		if (old & Q_OFFSET_MASK)
			q_free_later(q, (old & Q_OFFSET_MASK) >> q->h.cluster_bits, 1);
	}
	pthread_mutex_unlock(&q->lock);
	return r;
}

int q_resolve(struct qcow2 *q, const struct q_miss *miss)
{
	switch (miss->kind) {
	case Q_MISS_BLOCK:
		return q_cache_load(q, miss->type, miss->arg);
	case Q_MISS_L2_TABLE:
		return l2_table_new(q, miss->arg);
	case Q_MISS_REFBLOCK:
		return q_refblock_new(q, miss->arg);
	case Q_MISS_COMMIT:
		return q_commit(q);
	case Q_MISS_NONE:
		break;
	}
	return 0;
}

/* --- at open --- */

static int load_table(struct qcow2 *q, uint64_t off, uint64_t entries, uint64_t **ret,
		      struct err *e)
{
	uint64_t *t = calloc(entries + 1, sizeof(*t));
	int r = t ? q_pread(q, t, entries * 8, off) : -ENOMEM;

	if (r < 0) {
		free(t);
		return err_set(e, r, "qcow2: read a table of %llu entries",
			       (unsigned long long)entries);
	}
	for (uint64_t i = 0; i < entries; i++)
		t[i] = load_be64(&t[i]);
	*ret = t;
	return 0;
}

static int note_table(struct qcow2 *q, const char *what, uint64_t off, struct err *e)
{
	uint64_t cluster = off >> q->h.cluster_bits;

	if (((off & (q->cluster_size - 1)) || off >= Q_MAX_OFFSET) && q->repair)
		return 0;
	if ((off & (q->cluster_size - 1)) || off >= Q_MAX_OFFSET)
		return err_msg(e, -EINVAL, "qcow2: %s's offset 0x%llx is wrong", what,
			       (unsigned long long)off);
	/* Written to as one, it would be destroyed as the other. */
	if (!q->read_only && !q->repair && q_is_table(q, off, 1))
		return err_msg(e, -EINVAL, "qcow2: %s at 0x%llx overlaps another table", what,
			       (unsigned long long)off);
	return q_set_add(&q->tables, cluster);
}

int q_tables_load(struct qcow2 *q, struct err *e)
{
	int r = load_table(q, q->h.l1_offset, q->h.l1_size, &q->l1, e);

	q->rt_entries = ((uint64_t)q->h.rt_clusters << q->h.cluster_bits) / 8;
	if (r == 0)
		r = load_table(q, q->h.rt_offset, q->rt_entries, &q->rt, e);
	q->l1_dirty = xcalloc(q->h.l1_size / 64 + 1, sizeof(bool));
	for (uint64_t i = 0; r == 0 && i < q->rt_entries; i++) {
		q->rt[i] &= ~UINT64_C(511);
		if (q->rt[i])
			r = note_table(q, "refcount block", q->rt[i], e);
	}
	for (uint64_t i = 0; r == 0 && i < q->h.l1_size; i++) {
		if (q->l1[i] & Q_OFFSET_MASK)
			r = note_table(q, "L2 table", q->l1[i] & Q_OFFSET_MASK, e);
	}
	return r;
}
