/* SPDX-License-Identifier: Apache-2.0 */
/*
 * block/qcow2_bitmap.c - dirty bitmaps that others keep in an image
 *
 * We read them and leave them whole, but do not mark what we write.  So opening an image for
 * writing sets `in use` in those that are meant to follow every write: their keeper sees that they
 * cannot be trusted any more and starts them anew.  Those switched off stay valid as they are.
 */
#include "block/qcow2_walk_priv.h"

#include <errno.h>

#define FIXED_BYTES   24
#define FLAG_IN_USE   BIT(0)
#define FLAG_AUTO     BIT(1)
#define TABLE_MAX     (8u << 20) /* entries */
#define TABLE_RSVD    UINT64_C(0xff000000000001fe)
#define DIR_MAX       (UINT64_C(64) << 20)
#define TYPE_TRACKING 1

struct entry {
	uint64_t at; /* in the directory */
	uint64_t table_offset;
	uint32_t table_size, flags;
	uint8_t type, gran_bits;
	const char *name; /* not terminated */
	uint16_t name_len;
};

static int read_directory(struct qcow2 *q, uint8_t **ret, struct err *e)
{
	uint8_t *dir = NULL;
	int r = -EFBIG;

	if (q->h.bitmaps_size <= DIR_MAX) {
		dir = calloc(1, q->h.bitmaps_size + 1);
		r = dir ? q_pread(q, dir, q->h.bitmaps_size, q->h.bitmaps_offset) : -ENOMEM;
	}
	if (r < 0) {
		free(dir);
		return err_set(e, r, "qcow2: bitmap directory");
	}
	*ret = dir;
	return 0;
}

static int next_entry(const struct qcow2 *q, const uint8_t *dir, uint64_t *at, struct entry *ret,
		      struct err *e)
{
	const uint8_t *p = dir + *at;
	uint64_t left = q->h.bitmaps_size - *at, len;

	if (left < FIXED_BYTES)
		return err_msg(e, -EINVAL, "qcow2: bitmap directory is too short");
	*ret = (struct entry){
	    .at = *at,
	    .table_offset = load_be64(p),
	    .table_size = load_be32(p + 8),
	    .flags = load_be32(p + 12),
	    .type = p[16],
	    .gran_bits = p[17],
	    .name_len = load_be16(p + 18),
	};
	len = FIXED_BYTES + (uint64_t)load_be32(p + 20) + ret->name_len;
	if (len > left)
		return err_msg(e, -EINVAL, "qcow2: bitmap's entry is too long");
	ret->name = (const char *)p + FIXED_BYTES + load_be32(p + 20);
	if (ret->type != TYPE_TRACKING || ret->gran_bits < 9 || ret->gran_bits > 31 ||
	    ret->table_size > TABLE_MAX || (ret->table_offset & (q->cluster_size - 1)) ||
	    ret->table_offset >= Q_MAX_OFFSET)
		return err_msg(e, -EINVAL, "qcow2: bitmap '%.*s' is not as it should be",
			       MIN((int)ret->name_len, 64), ret->name);
	*at += MIN(ALIGN_UP(len, 8), left);
	return 0;
}

int q_bitmaps_open(struct qcow2 *q, struct err *e)
{
	autofree uint8_t *dir = NULL;
	bool changed = false;
	uint64_t at = 0;
	int r = read_directory(q, &dir, e);

	for (uint32_t i = 0; r == 0 && i < q->h.n_bitmaps; i++) {
		struct entry en = {0};

		r = next_entry(q, dir, &at, &en, e);
		if (r < 0 || !(en.flags & FLAG_AUTO) || (en.flags & FLAG_IN_USE))
			continue;
		store_be32(dir + en.at + 12, en.flags | (uint32_t)FLAG_IN_USE);
		changed = true;
	}
	if (r < 0 || !changed)
		return r;
	r = q_pwrite(q, dir, q->h.bitmaps_size, q->h.bitmaps_offset);
	if (r == 0)
		r = q_sync(q);
	return r < 0 ? err_set(e, r, "qcow2: bitmap directory") : 0;
}

/* --- what is in them --- */

static int read_table(struct qcow2 *q, const struct entry *en, uint64_t **ret)
{
	uint64_t *t = calloc((size_t)en->table_size + 1, sizeof(*t));
	int r = t ? q_pread(q, t, en->table_size * UINT64_C(8), en->table_offset) : -ENOMEM;

	for (uint32_t i = 0; r == 0 && i < en->table_size; i++) {
		t[i] = load_be64(&t[i]);
		if ((t[i] & TABLE_RSVD) || (t[i] & Q_OFFSET_MASK & (q->cluster_size - 1)))
			r = -EIO;
	}
	if (r < 0) {
		free(t);
		return r;
	}
	*ret = t;
	return 0;
}

int q_bitmaps_walk(struct qcow2 *q, int (*fn)(void *opaque, uint64_t host, uint64_t len),
		   void *opaque)
{
	autofree uint8_t *dir = NULL;
	uint64_t at = 0;
	int r;

	if (!q->h.n_bitmaps)
		return 0;
	r = read_directory(q, &dir, NULL);
	if (r == 0)
		r = fn(opaque, q->h.bitmaps_offset, q->h.bitmaps_size);
	for (uint32_t i = 0; r == 0 && i < q->h.n_bitmaps; i++) {
		autofree uint64_t *table = NULL;
		struct entry en;

		r = next_entry(q, dir, &at, &en, NULL);
		if (r == 0)
			r = read_table(q, &en, &table);
		if (r == 0)
			r = fn(opaque, en.table_offset, en.table_size * UINT64_C(8));
		for (uint32_t k = 0; r == 0 && k < en.table_size; k++) {
			if (table[k] & Q_OFFSET_MASK)
				r = fn(opaque, table[k] & Q_OFFSET_MASK, q->cluster_size);
		}
	}
	return r;
}

/* Bits set in one cluster of a bitmap, of which @max count. */
static int count_bits(struct qcow2 *q, uint64_t entry, uint64_t max, uint8_t *buf, uint64_t *ret)
{
	int r;

	*ret = 0;
	if (!(entry & Q_OFFSET_MASK)) {
		*ret = entry & 1 ? max : 0; /* all ones, or all zeroes */
		return 0;
	}
	r = q_pread(q, buf, q->cluster_size, entry & Q_OFFSET_MASK);
	for (uint64_t i = 0; r == 0 && i < max; i++)
		*ret += buf[i / 8] >> (i % 8) & 1;
	return r;
}

static int count_dirty(struct qcow2 *q, const struct entry *en, uint64_t *ret)
{
	uint64_t bits = (q->h.size + BIT(en->gran_bits) - 1) >> en->gran_bits;
	uint64_t per = q->cluster_size * 8, total = 0;
	autofree uint8_t *buf = malloc(q->cluster_size);
	autofree uint64_t *table = NULL;
	int r = buf ? read_table(q, en, &table) : -ENOMEM;

	for (uint32_t i = 0; r == 0 && i < en->table_size && i * per < bits; i++) {
		uint64_t n;

		r = count_bits(q, table[i], MIN(per, bits - i * per), buf, &n);
		total += r == 0 ? n : 0;
	}
	*ret = MIN(total << en->gran_bits, q->h.size);
	return r;
}

int qcow2_bitmap_get(struct blk *b, uint32_t i, struct qcow2_bitmap *ret, struct err *e)
{
	struct qcow2 *q = q_of(b);
	autofree uint8_t *dir = NULL;
	struct entry en = {0};
	uint64_t at = 0, dirty = 0;
	int r = i < q->h.n_bitmaps ? read_directory(q, &dir, e) : -ENOENT;

	for (uint32_t k = 0; r == 0 && k <= i; k++)
		r = next_entry(q, dir, &at, &en, e);
	if (r < 0)
		return r;
	r = count_dirty(q, &en, &dirty);
	if (r < 0)
		return err_set(e, r, "qcow2: bitmap");
	*ret = (struct qcow2_bitmap){
	    .name = xasprintf("%.*s", (int)en.name_len, en.name),
	    .granularity = BIT(en.gran_bits),
	    .in_use = en.flags & FLAG_IN_USE,
	    .automatic = en.flags & FLAG_AUTO,
	    .dirty = dirty,
	};
	return 0;
}
