/* SPDX-License-Identifier: Apache-2.0 */
/*
 * block/qcow2_walk.c - going through all that a table refers to
 */
#include "block/qcow2_walk_priv.h"

#include <errno.h>

static int read_l1(struct qcow2 *q, uint64_t off, uint32_t size, uint64_t **ret)
{
	uint64_t *l1 = calloc((size_t)size + 1, sizeof(*l1));
	int r = l1 ? q_pread(q, l1, size * UINT64_C(8), off) : -ENOMEM;

	if (r < 0) {
		free(l1);
		return r;
	}
	for (uint32_t i = 0; i < size; i++)
		l1[i] = load_be64(&l1[i]);
	*ret = l1;
	return 0;
}

static int walk_table(struct qcow2 *q, uint64_t l1_index, const uint8_t *table,
		      int (*fn)(void *opaque, const struct q_walk_item *it), void *opaque)
{
	for (uint64_t i = 0; i < q->cluster_size / 8; i++) {
		struct q_walk_item it = {.raw = load_be64(table + i * 8),
					 .cluster = (l1_index << q->l2_bits) + i};
		int r;

		if (!it.raw)
			continue;
		it.bad = q_entry_parse(q, it.raw, &it.entry) < 0;
		r = fn(opaque, &it);
		if (r)
			return r;
	}
	return 0;
}

int q_walk(struct qcow2 *q, uint64_t l1_offset, uint32_t l1_size,
	   int (*fn)(void *opaque, const struct q_walk_item *it), void *opaque)
{
	autofree uint8_t *table = malloc(q->cluster_size);
	autofree uint64_t *l1 = NULL;
	uint64_t size, left;
	int r = table ? read_l1(q, l1_offset, l1_size, &l1) : -ENOMEM;

	/* No table is listed twice, so a list of more than fit in the file is not to be read. */
	if (r == 0)
		r = q->file->ops->sync->size(q->file, &size);
	left = r == 0 ? q_clusters(q, size) : 0;

	for (uint32_t i = 0; r == 0 && i < l1_size; i++) {
		struct q_walk_item it = {.is_table = true, .raw = l1[i]};

		it.host = l1[i] & Q_OFFSET_MASK;
		if (!it.host)
			continue;
		if (!left--)
			return -EIO;
		it.cluster = (uint64_t)i << q->l2_bits;
		it.bad = it.host & (q->cluster_size - 1);
		/* Read first: @fn may free the table. */
		if (!it.bad)
			r = q_pread(q, table, q->cluster_size, it.host);
		if (r == 0)
			r = fn(opaque, &it);
		if (r == 0 && !it.bad)
			r = walk_table(q, i, table, fn, opaque);
	}
	return r;
}

/* --- flags --- */

/* Without @set: as if nothing were ours alone. */
static int want_copied(struct qcow2 *q, bool set, uint64_t host, bool *ret)
{
	uint64_t count = 0;
	int r = set ? q_refcount(q, host >> q->h.cluster_bits, &count) : 0;

	*ret = count == 1;
	return r;
}

static int flag_table(struct qcow2 *q, bool set, uint64_t host, uint8_t *table)
{
	bool changed = false;
	int r = q_pread(q, table, q->cluster_size, host);

	for (uint64_t i = 0; r == 0 && i < q->cluster_size; i += 8) {
		uint64_t raw = load_be64(table + i), next;
		struct q_entry en;
		bool copied;

		if (q_entry_parse(q, raw, &en) < 0 || en.kind == Q_PACKED || !en.host)
			continue;
		r = want_copied(q, set, en.host, &copied);
		next = copied ? raw | Q_COPIED : raw & ~Q_COPIED;
		changed = changed || next != raw;
		store_be64(table + i, next);
	}
	if (r == 0 && changed)
		r = q_pwrite(q, table, q->cluster_size, host);
	return r;
}

static int set_flags(struct qcow2 *q, bool set)
{
	autofree uint8_t *table = malloc(q->cluster_size);
	/* A flag in the file may not precede the count that it goes by. */
	int r = table ? q_commit(q) : -ENOMEM;

	for (uint32_t i = 0; r == 0 && i < q->h.l1_size; i++) {
		uint64_t host = q->l1[i] & Q_OFFSET_MASK;
		bool copied;

		if (!host || (host & (q->cluster_size - 1)))
			continue;
		r = want_copied(q, set, host, &copied);
		if (r == 0)
			r = flag_table(q, set, host, table);
		pthread_mutex_lock(&q->lock);
		q_cache_drop(q, host, q->cluster_size);
		if (r == 0 && copied != !!(q->l1[i] & Q_COPIED)) {
			q->l1[i] ^= Q_COPIED;
			q->l1_dirty[i / 64] = q->any_l1_dirty = true;
		}
		pthread_mutex_unlock(&q->lock);
	}
	return r < 0 ? r : q_commit(q);
}

int q_flags_set(struct qcow2 *q)
{
	return set_flags(q, true);
}

int q_flags_clear(struct qcow2 *q)
{
	return set_flags(q, false);
}

int q_tables_reload(struct qcow2 *q, struct err *e)
{
	size_t block_size = q->cache.block_size;
	unsigned int max = q->cache.max;
	int r;

	pthread_mutex_lock(&q->lock);
	q_cache_fini(&q->cache);
	r = q_cache_init(&q->cache, block_size, max * block_size);
	q_set_fini(&q->tables);
	free(q->l1);
	free(q->l1_dirty);
	free(q->rt);
	q->l1 = q->rt = NULL;
	q->l1_dirty = NULL;
	q->any_l1_dirty = false;
	q->free_hint = 0;
	q->zentry = 0;
	pthread_mutex_unlock(&q->lock);
	r = r < 0 ? err_set(e, r, "qcow2: cache") : q_tables_load(q, e);
	if (r < 0) {
		/* Nothing is known any more: every lookup fails from here on. */
		q_mark_corrupt(q, "the tables cannot be read any more", q->h.l1_offset);
		q->h.l1_size = 0;
		q->rt_entries = 0;
	}
	return r;
}

int q_commit_all(struct qcow2 *q)
{
	int r = 0;

	for (int i = 0; r == 0 && i < 4 && q_is_dirty(q); i++)
		r = q_commit(q);
	return r;
}
