/* SPDX-License-Identifier: Apache-2.0 */
/*
 * block/qcow2_snapshot.c - snapshots inside of an image: a second L1 table that shares the clusters
 *
 * Order, so that a power cut between any two steps leaves leaks or needless copies at worst:
 *
 *	create   COPIED flags off; counts up; L1 copy and new list; header
 *	apply    counts of the snapshot up; new L1; header; counts of the old tables down; flags
 *	delete   new list; header; counts down; flags
 */
#include "base/strbuf.h"
#include "block/qcow2_walk_priv.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

#define FIXED_BYTES 40
#define EXTRA_MAX   1024
#define LIST_MAX    (16u << 20)

/* --- the list in the file --- */

static void snapshot_fini(struct q_snapshot *s)
{
	free(s->id);
	free(s->name);
	free(s->extra);
}

void q_snapshots_fini(struct qcow2 *q)
{
	for (uint32_t i = 0; q->snapshots && i < q->h.n_snapshots; i++)
		snapshot_fini(&q->snapshots[i]);
	free(q->snapshots);
	q->snapshots = NULL;
}

static char *text_of(const uint8_t *p, size_t len)
{
	char *s = xcalloc(1, len + 1);

	memcpy(s, p, len);
	return s;
}

/* One entry at @at; *@at gets where the next one starts. */
static int load_one(struct qcow2 *q, uint64_t *at, struct q_snapshot *s)
{
	uint8_t fixed[FIXED_BYTES];
	autofree uint8_t *rest = NULL;
	uint32_t id, name;
	int r = q_pread(q, fixed, sizeof(fixed), *at);

	if (r < 0)
		return r;
	*s = (struct q_snapshot){
	    .l1_offset = load_be64(fixed),
	    .l1_size = load_be32(fixed + 8),
	    .date_sec = load_be32(fixed + 16),
	    .date_nsec = load_be32(fixed + 20),
	    .vm_clock = load_be64(fixed + 24),
	    .vm_state_size = load_be32(fixed + 32),
	    .extra_len = load_be32(fixed + 36),
	    .disk_size = q->h.size,
	};
	id = load_be16(fixed + 12);
	name = load_be16(fixed + 14);
	if (s->extra_len > EXTRA_MAX || s->l1_size > Q_MAX_L1_ENTRIES ||
	    (s->l1_offset & (q->cluster_size - 1)) || s->l1_offset >= Q_MAX_OFFSET) {
		s->extra_len = 0;
		return -EINVAL;
	}
	rest = xcalloc(1, s->extra_len + id + name + 1);
	r = q_pread(q, rest, s->extra_len + id + name, *at + FIXED_BYTES);
	if (r < 0)
		return r;
	if (s->extra_len >= 8 && load_be64(rest))
		s->vm_state_size = load_be64(rest);
	if (s->extra_len >= 16)
		s->disk_size = load_be64(rest + 8);
	s->extra = xcalloc(1, MAX(s->extra_len, 24u));
	memcpy(s->extra, rest, s->extra_len);
	s->id = text_of(rest + s->extra_len, id);
	s->name = text_of(rest + s->extra_len + id, name);
	*at += ALIGN_UP(FIXED_BYTES + s->extra_len + id + name, 8u);
	return 0;
}

int q_snapshots_load(struct qcow2 *q, struct err *e)
{
	uint64_t at = q->h.snapshots_offset;

	if (!q->h.n_snapshots)
		return 0;
	q->snapshots = calloc(q->h.n_snapshots, sizeof(*q->snapshots));
	if (!q->snapshots)
		return err_set(e, -ENOMEM, "qcow2: snapshots");
	for (uint32_t i = 0; i < q->h.n_snapshots; i++) {
		int r = load_one(q, &at, &q->snapshots[i]);

		if (r == 0 && at - q->h.snapshots_offset > LIST_MAX)
			r = -EFBIG;
		if (r < 0)
			return err_set(e, r, "qcow2: snapshot %u of %u", i, q->h.n_snapshots);
	}
	q->snapshot_bytes = at - q->h.snapshots_offset;
	return 0;
}

static void format_one(const struct q_snapshot *s, struct strbuf *out)
{
	uint8_t fixed[FIXED_BYTES] = {0}, extra[EXTRA_MAX] = {0};
	uint32_t extra_len = MAX(s->extra_len, 24u);

	store_be64(fixed, s->l1_offset);
	store_be32(fixed + 8, s->l1_size);
	store_be16(fixed + 12, (uint16_t)strlen(s->id));
	store_be16(fixed + 14, (uint16_t)strlen(s->name));
	store_be32(fixed + 16, s->date_sec);
	store_be32(fixed + 20, s->date_nsec);
	store_be64(fixed + 24, s->vm_clock);
	store_be32(fixed + 32, (uint32_t)MIN(s->vm_state_size, (uint64_t)UINT32_MAX));
	store_be32(fixed + 36, extra_len);
	if (s->extra_len)
		memcpy(extra, s->extra, s->extra_len);
	else
		store_be64(extra + 16, UINT64_MAX); /* no instruction count */
	store_be64(extra, s->vm_state_size);
	store_be64(extra + 8, s->disk_size);
	strbuf_add(out, fixed, sizeof(fixed));
	strbuf_add(out, extra, extra_len);
	strbuf_puts(out, s->id);
	strbuf_puts(out, s->name);
	while (out->len % 8)
		strbuf_putc(out, '\0');
}

/* A new list in the file, then in the header.  The old one is freed. */
static int store_list(struct qcow2 *q, const struct q_snapshot *list, uint32_t n)
{
	autostrbuf struct strbuf text = {0};
	uint64_t old = q->h.snapshots_offset >> q->h.cluster_bits, first = 0;
	uint64_t n_old = q->h.n_snapshots ? q_clusters(q, q->snapshot_bytes) : 0;
	int r = 0;

	for (uint32_t i = 0; i < n; i++)
		format_one(&list[i], &text);
	if (text.len > LIST_MAX)
		return -EFBIG;
	if (n)
		r = q_alloc_slow(q, q_clusters(q, text.len), &first);
	if (r == 0 && n)
		r = q_pwrite(q, text.data, text.len, first << q->h.cluster_bits);
	if (r == 0)
		r = q_commit(q);
	if (r < 0)
		return r;
	q_head_set64(q, Q_H_SNAPSHOTS_OFFSET, first << q->h.cluster_bits);
	q_head_set32(q, Q_H_N_SNAPSHOTS, n);
	r = q_head_write(q);
	if (r < 0)
		return r;
	q->h.snapshots_offset = first << q->h.cluster_bits;
	q->h.n_snapshots = n;
	q->snapshot_bytes = text.len;
	/* The new list counts; the old one is a leak at worst. */
	if (n_old)
		(void)!q_refs_add(q, old, n_old, -1);
	return 0;
}

/* --- counting a whole tree --- */

struct counting {
	struct qcow2 *q;
	int delta;
	uint64_t done, max; /* entries */
};

static int count_entry(void *opaque, const struct q_walk_item *it)
{
	struct counting *c = opaque;
	uint64_t first, n = 1;
	int r;

	if (c->done == c->max)
		return 1;
	if (it->bad)
		return -EIO;
	if (it->is_table)
		first = it->host >> c->q->h.cluster_bits;
	else
		q_entry_range(c->q, &it->entry, &first, &n);
	r = n ? q_refs_add(c->q, first, n, c->delta) : 0;
	if (r == 0)
		c->done++;
	return r;
}

static int count_tree(struct qcow2 *q, uint64_t l1_offset, uint32_t l1_size, int delta)
{
	struct counting c = {.q = q, .delta = delta, .max = UINT64_MAX};
	int r = q_walk(q, l1_offset, l1_size, count_entry, &c);

	if (r < 0 && delta > 0) {
		struct counting back = {.q = q, .delta = -delta, .max = c.done};

		(void)!q_walk(q, l1_offset, l1_size, count_entry, &back);
	}
	return r < 0 ? r : 0;
}

/* --- operations --- */

static int find_snapshot(struct qcow2 *q, const char *name, uint32_t *ret, struct err *e)
{
	for (unsigned int by_id = 0; by_id < 2; by_id++) {
		for (uint32_t i = 0; i < q->h.n_snapshots; i++) {
			const struct q_snapshot *s = &q->snapshots[i];

			if (strcmp(by_id ? s->id : s->name, name) == 0) {
				*ret = i;
				return 0;
			}
		}
	}
	return err_msg(e, -ENOENT, "there is no snapshot '%s'", name);
}

static char *new_id(const struct qcow2 *q)
{
	unsigned long max = 0;

	for (uint32_t i = 0; i < q->h.n_snapshots; i++) {
		unsigned long id = strtoul(q->snapshots[i].id, NULL, 10);

		max = MAX(max, id < UINT32_MAX ? id : 0);
	}
	return xasprintf("%lu", max + 1);
}

static int copy_l1(struct qcow2 *q, uint64_t from, uint32_t entries, uint64_t *to)
{
	uint64_t bytes = entries * UINT64_C(8), first;
	autofree uint8_t *buf = calloc(1, bytes + 1);
	int r = buf ? q_alloc_slow(q, MAX(q_clusters(q, bytes), UINT64_C(1)), &first) : -ENOMEM;

	if (r == 0)
		r = q_pread(q, buf, bytes, from);
	for (uint64_t i = 0; r == 0 && i < bytes; i += 8)
		store_be64(buf + i, load_be64(buf + i) & ~Q_COPIED);
	if (r == 0)
		r = q_pwrite(q, buf, bytes, first << q->h.cluster_bits);
	if (r == 0)
		*to = first << q->h.cluster_bits;
	return r;
}

static int create(struct qcow2 *q, struct q_snapshot *s)
{
	struct q_snapshot *list = calloc(q->h.n_snapshots + 1, sizeof(*list));
	int r = list ? q_flags_clear(q) : -ENOMEM;

	if (r == 0)
		r = count_tree(q, q->h.l1_offset, q->h.l1_size, 1);
	if (r == 0)
		r = q_commit(q);
	if (r == 0)
		r = copy_l1(q, q->h.l1_offset, q->h.l1_size, &s->l1_offset);
	if (r == 0) {
		if (q->h.n_snapshots)
			memcpy(list, q->snapshots, q->h.n_snapshots * sizeof(*list));
		list[q->h.n_snapshots] = *s;
		r = store_list(q, list, q->h.n_snapshots + 1);
	}
	if (r < 0) {
		free(list);
		(void)!q_flags_set(q);
		return r;
	}
	free(q->snapshots);
	q->snapshots = list;
	/* It is there and safe; what is left is to give the old list's space back. */
	(void)!q_commit_all(q);
	return 0;
}

int qcow2_snapshot_create(struct blk *b, const char *name, struct err *e)
{
	struct qcow2 *q = q_of(b);
	struct q_snapshot s = {.l1_size = q->h.l1_size, .disk_size = q->h.size};
	struct timespec now;
	uint32_t i;
	int r;

	if (!*name || strlen(name) > 255)
		return err_msg(e, -EINVAL, "a snapshot's name has 1 to 255 bytes");
	if (find_snapshot(q, name, &i, NULL) == 0)
		return err_msg(e, -EEXIST, "there is a snapshot '%s' already", name);
	if (q->h.n_snapshots == Q_MAX_SNAPSHOTS)
		return err_msg(e, -ENOSPC, "%u snapshots are the most", Q_MAX_SNAPSHOTS);
	if (q->read_only)
		return err_msg(e, -EROFS, "the image is open for reading only");
	clock_gettime(CLOCK_REALTIME, &now);
	s.date_sec = (uint32_t)now.tv_sec;
	s.date_nsec = (uint32_t)now.tv_nsec;
	s.name = xstrdup(name);
	s.id = new_id(q);
	pthread_mutex_lock(&q->slow);
	r = q_commit_all(q);
	if (r == 0)
		r = create(q, &s);
	pthread_mutex_unlock(&q->slow);
	if (r < 0)
		snapshot_fini(&s);
	if (r == -ERANGE)
		return err_msg(e, r, "refcounts of %u bits are too narrow for one more snapshot",
			       1u << q->h.refcount_order);
	return r < 0 ? err_set(e, r, "snapshot '%s'", name) : 0;
}

int qcow2_snapshot_get(struct blk *b, uint32_t i, struct qcow2_snapshot *ret)
{
	const struct qcow2 *q = q_of(b);

	if (i >= q->h.n_snapshots)
		return -ENOENT;
	*ret = (struct qcow2_snapshot){
	    .id = q->snapshots[i].id,
	    .name = q->snapshots[i].name,
	    .disk_size = q->snapshots[i].disk_size,
	    .vm_state_size = q->snapshots[i].vm_state_size,
	    .date = q->snapshots[i].date_sec,
	};
	return 0;
}

/* The header's three fields lie in one sector: all of them or none. */
static int switch_l1(struct qcow2 *q, uint64_t off, uint32_t entries, uint64_t size)
{
	int r;

	q_head_set64(q, Q_H_L1_OFFSET, off);
	q_head_set32(q, Q_H_L1_SIZE, entries);
	q_head_set64(q, Q_H_SIZE, size);
	r = q_head_write(q);
	if (r < 0)
		return r;
	q->h.l1_offset = off;
	q->h.l1_size = entries;
	q->h.size = q->blk.info.size = size;
	return 0;
}

static int apply(struct qcow2 *q, const struct q_snapshot *s, struct err *e)
{
	uint64_t old = q->h.l1_offset, off = 0;
	uint32_t old_size = q->h.l1_size;
	int r = count_tree(q, s->l1_offset, s->l1_size, 1);

	if (r == 0)
		r = copy_l1(q, s->l1_offset, s->l1_size, &off);
	/* All of it: what is in memory is forgotten below. */
	if (r == 0)
		r = q_commit_all(q);
	if (r == 0)
		r = switch_l1(q, off, s->l1_size, s->disk_size);
	if (r == 0)
		r = q_tables_reload(q, e);
	if (r == 0)
		r = count_tree(q, old, old_size, -1);
	if (r == 0)
		r = q_refs_add(q, old >> q->h.cluster_bits,
			       MAX(q_clusters(q, old_size * UINT64_C(8)), UINT64_C(1)), -1);
	if (r == 0)
		r = q_flags_set(q);
	return r < 0 ? r : q_commit_all(q);
}

int qcow2_snapshot_apply(struct blk *b, const char *name, struct err *e)
{
	struct qcow2 *q = q_of(b);
	uint64_t per_l1 = BIT(2 * q->h.cluster_bits - 3);
	const struct q_snapshot *s;
	uint32_t i = 0;
	int r = find_snapshot(q, name, &i, e);

	if (r < 0)
		return r;
	s = &q->snapshots[i];
	if (q->read_only)
		return err_msg(e, -EROFS, "the image is open for reading only");
	if (s->disk_size % 512 || s->disk_size > INT64_MAX || !s->disk_size ||
	    s->l1_size < (s->disk_size + per_l1 - 1) / per_l1)
		return err_msg(e, -EINVAL, "snapshot '%s': its L1 table does not fit its disk",
			       name);
	pthread_mutex_lock(&q->slow);
	r = q_commit_all(q);
	if (r == 0)
		r = apply(q, s, e);
	pthread_mutex_unlock(&q->slow);
	return r < 0 ? err_set(e, r, "snapshot '%s'", name) : 0;
}

static int delete_one(struct qcow2 *q, uint32_t i)
{
	struct q_snapshot gone = q->snapshots[i];
	uint32_t n = q->h.n_snapshots - 1;
	struct q_snapshot *list = xcalloc(n + 1, sizeof(*list));
	int r;

	memcpy(list, q->snapshots, i * sizeof(*list));
	memcpy(list + i, q->snapshots + i + 1, (n - i) * sizeof(*list));
	r = store_list(q, list, n);
	if (r < 0) {
		free(list);
		return r;
	}
	free(q->snapshots);
	q->snapshots = list;
	r = count_tree(q, gone.l1_offset, gone.l1_size, -1);
	if (r == 0)
		r = q_refs_add(q, gone.l1_offset >> q->h.cluster_bits,
			       MAX(q_clusters(q, gone.l1_size * UINT64_C(8)), UINT64_C(1)), -1);
	if (r == 0)
		r = q_flags_set(q);
	snapshot_fini(&gone);
	return r < 0 ? r : q_commit_all(q);
}

int qcow2_snapshot_delete(struct blk *b, const char *name, struct err *e)
{
	struct qcow2 *q = q_of(b);
	uint32_t i = 0;
	int r = find_snapshot(q, name, &i, e);

	if (r < 0)
		return r;
	if (q->read_only)
		return err_msg(e, -EROFS, "the image is open for reading only");
	pthread_mutex_lock(&q->slow);
	r = q_commit_all(q);
	if (r == 0)
		r = delete_one(q, i);
	pthread_mutex_unlock(&q->slow);
	return r < 0 ? err_set(e, r, "snapshot '%s'", name) : 0;
}
