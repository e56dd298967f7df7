/* SPDX-License-Identifier: Apache-2.0 */
/*
 * block/qcow2_check.c - counts anew what refers to each cluster, and compares; repairs
 *
 * Reads the file, not the cache, after everything was committed.  Repair writes all refcounts anew,
 * table and blocks, behind the end of the file and switches the header over, so that it depends on
 * nothing that may be broken; then it sets the entries' COPIED flags by the new counts.
 */
#include "block/qcow2_walk_priv.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#define MAX_CLUSTERS (UINT64_C(1) << 28) /* 1 GiB of counters */

struct check {
	struct qcow2 *q;
	struct qcow2_check *res;
	uint32_t *refs, *counts; /* found, as the file says */
	uint64_t n;
	bool active;     /* walking the disk itself, not a snapshot */
	uint64_t broken; /* what no counting repairs */
};

static void printf_like(3, 4) find(struct check *c, uint64_t *counter, const char *fmt, ...)
{
	va_list ap;

	if (!c->res->first[0]) {
		va_start(ap, fmt);
		vsnprintf(c->res->first, sizeof(c->res->first), fmt, ap);
		va_end(ap);
	}
	(*counter)++;
}

static void add_ref(struct check *c, const char *what, uint64_t host, uint64_t len)
{
	uint64_t first = host >> c->q->h.cluster_bits;
	uint64_t last = (host + len - 1) >> c->q->h.cluster_bits;

	if (!len)
		return;
	if (last >= c->n) {
		find(c, &c->res->corruptions, "%s at 0x%llx lies behind the end of the file", what,
		     (unsigned long long)host);
		c->broken++;
		return;
	}
	for (uint64_t i = first; i <= last; i++)
		c->refs[i] += c->refs[i] < UINT32_MAX;
}

/* --- what the tables refer to --- */

static void check_flag(struct check *c, const char *what, uint64_t host, bool copied)
{
	uint64_t i = host >> c->q->h.cluster_bits;
	uint32_t count = i < c->n ? c->counts[i] : 0;

	if (!c->active || copied == (count == 1))
		return;
	if (copied)
		find(c, &c->res->corruptions,
		     "%s at 0x%llx would be written in place, and is counted %u times", what,
		     (unsigned long long)host, count);
	else
		find(c, &c->res->flags, "%s at 0x%llx would be copied needlessly", what,
		     (unsigned long long)host);
}

static int on_entry(void *opaque, const struct q_walk_item *it)
{
	struct check *c = opaque;
	uint64_t first, n;

	if (it->bad) {
		find(c, &c->res->corruptions, "entry 0x%llx is wrong", (unsigned long long)it->raw);
		c->broken++;
		return 0;
	}
	if (it->is_table) {
		add_ref(c, "L2 table", it->host, c->q->cluster_size);
		check_flag(c, "L2 table", it->host, it->raw & Q_COPIED);
		return 0;
	}
	q_entry_range(c->q, &it->entry, &first, &n);
	if (!n)
		return 0;
	add_ref(c, "data cluster", first << c->q->h.cluster_bits, n << c->q->h.cluster_bits);
	if (it->entry.kind != Q_PACKED)
		check_flag(c, "data cluster", it->entry.host, it->entry.copied);
	if (c->active) {
		c->res->allocated++;
		c->res->packed += it->entry.kind == Q_PACKED;
	}
	return 0;
}

static int add_l1(struct check *c, const char *what, uint64_t off, uint32_t size)
{
	uint64_t first = off >> c->q->h.cluster_bits;

	/* Nothing shares an L1 table; walking one again and again might never end. */
	if (size && first < c->n && c->refs[first]) {
		find(c, &c->res->corruptions, "%s at 0x%llx is something else, too", what,
		     (unsigned long long)off);
		c->broken++;
		return 0;
	}
	add_ref(c, what, off, size * UINT64_C(8));
	if (size && (off + size * UINT64_C(8) - 1) >> c->q->h.cluster_bits >= c->n)
		return 0;
	return q_walk(c->q, off, size, on_entry, c);
}

static int on_bitmap(void *opaque, uint64_t host, uint64_t len)
{
	add_ref(opaque, "bitmap", host, len);
	return 0;
}

static int count_refs(struct check *c)
{
	struct qcow2 *q = c->q;
	int r;

	add_ref(c, "header", 0, q->cluster_size);
	c->active = true;
	r = add_l1(c, "L1 table", q->h.l1_offset, q->h.l1_size);
	c->active = false;
	if (r == 0 && q->h.n_snapshots)
		add_ref(c, "snapshot table", q->h.snapshots_offset, q->snapshot_bytes);
	for (uint32_t i = 0; r == 0 && i < q->h.n_snapshots; i++)
		r = add_l1(c, "snapshot's L1 table", q->snapshots[i].l1_offset,
			   q->snapshots[i].l1_size);
	return r < 0 ? r : q_bitmaps_walk(q, on_bitmap, c);
}

/* --- what the file says --- */

static void add_count_refs(struct check *c)
{
	struct qcow2 *q = c->q;

	add_ref(c, "refcount table", q->h.rt_offset, q->rt_entries * 8);
	for (uint64_t i = 0; i < q->rt_entries; i++) {
		if (q->rt[i])
			add_ref(c, "refcount block", q->rt[i], q->cluster_size);
	}
}

static int load_counts(struct check *c)
{
	struct qcow2 *q = c->q;
	uint64_t per = BIT(q->ref_bits);
	autofree uint8_t *buf = malloc(q->cluster_size);
	int r = buf ? 0 : -ENOMEM;

	for (uint64_t i = 0; r == 0 && i < q->rt_entries; i++) {
		if (!q->rt[i])
			continue;
		if (q->rt[i] & (q->cluster_size - 1)) {
			find(c, &c->res->corruptions, "refcount block's offset 0x%llx is wrong",
			     (unsigned long long)q->rt[i]);
			continue;
		}
		r = q_pread(q, buf, q->cluster_size, q->rt[i]);
		for (uint64_t k = 0; r == 0 && k < per; k++) {
			uint64_t v = q_ref_load(buf, q->h.refcount_order, k), at = i * per + k;

			if (v && at >= c->n)
				find(c, &c->res->leaks,
				     "cluster %llu behind the end of the file "
				     "is counted",
				     (unsigned long long)at);
			else if (v)
				c->counts[at] = (uint32_t)MIN(v, (uint64_t)UINT32_MAX);
		}
	}
	return r;
}

static void compare(struct check *c)
{
	for (uint64_t i = 0; i < c->n; i++) {
		if (c->counts[i] > c->refs[i])
			find(c, &c->res->leaks,
			     "cluster %llu is counted %u times and used %u times",
			     (unsigned long long)i, c->counts[i], c->refs[i]);
		else if (c->counts[i] < c->refs[i])
			find(c, &c->res->corruptions,
			     "cluster %llu is used %u times and counted %u times",
			     (unsigned long long)i, c->refs[i], c->counts[i]);
	}
}

static int start(struct check *c, struct qcow2 *q, struct qcow2_check *res, struct err *e)
{
	uint64_t size;
	int r = q->file->ops->sync->size(q->file, &size);

	*c = (struct check){.q = q, .res = res};
	if (r < 0)
		return err_set(e, r, "size of the file");
	c->n = q_clusters(q, size);
	if (c->n > MAX_CLUSTERS)
		return err_msg(e, -EFBIG, "the file has %llu clusters, too many to check",
			       (unsigned long long)c->n);
	res->clusters = q_clusters(q, q->h.size);
	c->refs = calloc(c->n + 1, sizeof(*c->refs));
	c->counts = calloc(c->n + 1, sizeof(*c->counts));
	return c->refs && c->counts ? 0 : err_set(e, -ENOMEM, "counters");
}

static void stop(struct check *c)
{
	free(c->refs);
	free(c->counts);
}

/* --- repair --- */

/* New blocks and a new table, from cluster @start on; the header points to them last. */
static int write_counts(struct check *c, uint64_t start, uint64_t blocks, uint64_t table,
			uint8_t *buf)
{
	struct qcow2 *q = c->q;
	uint64_t per = BIT(q->ref_bits), end = start + blocks + table;
	unsigned int order = q->h.refcount_order;
	int r = 0;

	for (uint64_t b = 0; r == 0 && b < blocks; b++) {
		memset(buf, 0, q->cluster_size);
		for (uint64_t i = 0; i < per && b * per + i < end; i++) {
			uint64_t at = b * per + i, v = at < c->n ? c->refs[at] : at >= start;

			if (v > q_ref_max(order))
				return -ERANGE;
			q_ref_store(buf, order, i, v);
		}
		r = q_pwrite(q, buf, q->cluster_size, (start + b) << q->h.cluster_bits);
	}
	for (uint64_t t = 0; r == 0 && t < table; t++) {
		uint64_t per_cluster = q->cluster_size / 8;

		memset(buf, 0, q->cluster_size);
		for (uint64_t i = 0; i < per_cluster && t * per_cluster + i < blocks; i++)
			store_be64(buf + i * 8, (start + t * per_cluster + i) << q->h.cluster_bits);
		r = q_pwrite(q, buf, q->cluster_size, (start + blocks + t) << q->h.cluster_bits);
	}
	return r < 0 ? r : q_sync(q);
}

static int rebuild_counts(struct check *c)
{
	struct qcow2 *q = c->q;
	uint64_t per = BIT(q->ref_bits), blocks = 1, table = 1, start = c->n;
	autofree uint8_t *buf = malloc(q->cluster_size);
	int r;

	while (blocks * per < start + blocks + table || table * q->cluster_size / 8 < blocks) {
		blocks = (start + blocks + table + per - 1) / per;
		table = q_clusters(q, blocks * 8);
	}
	if (!buf)
		return -ENOMEM;
	if (table * q->cluster_size > Q_MAX_TABLE_BYTES)
		return -EFBIG;
	r = write_counts(c, start, blocks, table, buf);
	if (r < 0)
		return r;
	q->h.rt_offset = (start + blocks) << q->h.cluster_bits;
	q->h.rt_clusters = (uint32_t)table;
	q->fresh = start + blocks + table;
	q_head_set64(q, Q_H_RT_OFFSET, q->h.rt_offset);
	q_head_set32(q, Q_H_RT_CLUSTERS, q->h.rt_clusters);
	return q_head_write(q);
}

static int clear_marks(struct qcow2 *q)
{
	q->corrupt = false;
	q->h.incompat &= ~(Q_INCOMPAT_DIRTY | Q_INCOMPAT_CORRUPT);
	if (q->h.version < 3)
		return 0;
	q_head_set64(q, Q_H_INCOMPAT, q->h.incompat);
	return q_head_write(q);
}

/* Counts and flags; the marks in the header go when nothing else is wrong. */
static int repair(struct check *c, struct err *e)
{
	struct qcow2 *q = c->q;
	int r = rebuild_counts(c);

	if (r == 0)
		r = q_tables_reload(q, e);
	if (r == 0)
		r = q_flags_set(q);
	if (r == 0 && !c->broken)
		r = clear_marks(q);
	return r < 0 ? err_set(e, r, "repair") : 0;
}

static int look(struct check *c, struct err *e)
{
	int r = load_counts(c);

	if (r == 0)
		r = count_refs(c);
	return r < 0 ? err_set(e, r, "read the tables") : 0;
}

int q_rebuild(struct qcow2 *q, struct err *e)
{
	struct qcow2_check res = {0};
	struct check c;
	int r = start(&c, q, &res, e);

	if (r == 0)
		r = look(&c, e);
	if (r == 0 && c.broken)
		r = err_msg(e, -EIO, "qcow2: the image was not closed and is damaged (%s)",
			    res.first);
	if (r == 0)
		r = repair(&c, e);
	stop(&c);
	return r;
}

int qcow2_check(struct blk *b, bool fix, struct qcow2_check *ret, struct err *e)
{
	struct qcow2 *q = q_of(b);
	struct qcow2_check res = {0};
	struct check c;
	int r = 0;

	pthread_mutex_lock(&q->slow);
	for (int i = 0; r == 0 && i < 4 && !q->read_only && q_is_dirty(q); i++)
		r = q_commit(q);
	if (r < 0)
		err_set(e, r, "write the tables");
	if (r == 0)
		r = start(&c, q, &res, e);
	if (r == 0) {
		r = look(&c, e);
		if (r == 0 && fix && !q->read_only) {
			/* Counted without the old refcount blocks, which go. */
			uint32_t *only = c.refs;

			c.refs = malloc((c.n + 1) * sizeof(*c.refs));
			if (c.refs)
				memcpy(c.refs, only, (c.n + 1) * sizeof(*c.refs));
			else
				r = err_set(e, -ENOMEM, "counters");
			if (r == 0) {
				add_count_refs(&c);
				compare(&c);
			}
			free(c.refs);
			c.refs = only;
			res.repaired = res.corruptions + res.leaks + res.flags - c.broken;
			if (r == 0 && (res.repaired ||
				       q->h.incompat & (Q_INCOMPAT_CORRUPT | Q_INCOMPAT_DIRTY)))
				r = repair(&c, e);
		} else if (r == 0) {
			add_count_refs(&c);
			compare(&c);
		}
		stop(&c);
	}
	pthread_mutex_unlock(&q->slow);
	if (r == 0)
		*ret = res;
	return r;
}
