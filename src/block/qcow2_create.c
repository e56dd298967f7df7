/* SPDX-License-Identifier: Apache-2.0 */
/*
 * block/qcow2_create.c - an empty image
 *
 *	header | refcount table | refcount blocks | L1 table
 */
#include "block/qcow2_priv.h"

#include <errno.h>
#include <stdio.h>

struct layout {
	uint64_t cluster_size, rt, blocks, l1; /* clusters */
	uint64_t l1_entries;
};

static struct layout plan(const struct qcow2_options *o)
{
	struct layout l = {.cluster_size = BIT(o->cluster_bits), .rt = 1, .blocks = 1};
	uint64_t per_l1 = BIT(2 * o->cluster_bits - 3);
	uint64_t per_block = l.cluster_size * 8 >> o->refcount_order;

	l.l1_entries = (o->size + per_l1 - 1) / per_l1;
	l.l1 = MAX((l.l1_entries * 8 + l.cluster_size - 1) / l.cluster_size, UINT64_C(1));
	while (l.blocks * per_block < 1 + l.rt + l.blocks + l.l1 ||
	       l.rt * l.cluster_size / 8 < l.blocks) {
		l.blocks = (1 + l.rt + l.blocks + l.l1 + per_block - 1) / per_block;
		l.rt = (l.blocks * 8 + l.cluster_size - 1) / l.cluster_size;
	}
	return l;
}

static uint32_t add_extension(uint8_t *p, uint32_t at, uint32_t type, const char *text)
{
	uint32_t len = (uint32_t)strlen(text);

	store_be32(p + at, type);
	store_be32(p + at + 4, len);
	memcpy(p + at + 8, text, len);
	return at + 8 + ALIGN_UP(len, 8);
}

static int fill_header(uint8_t *p, const struct qcow2_options *o, const struct layout *l,
		       struct err *e)
{
	bool v3 = o->version >= 3;
	size_t backing = o->backing ? strlen(o->backing) : 0;
	uint32_t at = v3 ? 112 : Q_H_V2_LENGTH;

	if (backing > Q_MAX_NAME || at + backing + 96 > l->cluster_size)
		return err_msg(e, -ENAMETOOLONG, "backing file's name is too long");
	store_be32(p, Q_MAGIC);
	store_be32(p + 4, o->version);
	store_be32(p + 20, o->cluster_bits);
	store_be64(p + Q_H_SIZE, o->size);
	store_be32(p + Q_H_L1_SIZE, (uint32_t)l->l1_entries);
	store_be64(p + Q_H_L1_OFFSET, (1 + l->rt + l->blocks) * l->cluster_size);
	store_be64(p + Q_H_RT_OFFSET, l->cluster_size);
	store_be32(p + Q_H_RT_CLUSTERS, (uint32_t)l->rt);
	if (v3) {
		if (o->compression != QCOW2_ZLIB)
			store_be64(p + Q_H_INCOMPAT, Q_INCOMPAT_COMPRESSION);
		store_be64(p + Q_H_COMPAT, o->lazy_refcounts ? Q_COMPAT_LAZY : 0);
		store_be32(p + Q_H_REFCOUNT_ORDER, (uint32_t)o->refcount_order);
		store_be32(p + Q_H_LENGTH, at);
		p[Q_H_COMPRESSION] = (uint8_t)o->compression;
	}
	if (o->backing && o->backing_format)
		at = add_extension(p, at, Q_EXT_BACKING_FORMAT, o->backing_format);
	at += 8; /* end of extensions: zeroes */
	if (o->backing) {
		store_be64(p + Q_H_BACKING_OFFSET, at);
		store_be32(p + Q_H_BACKING_SIZE, (uint32_t)backing);
		memcpy(p + at, o->backing, backing);
	}
	return 0;
}

static int check_options(const struct qcow2_options *o, struct err *e)
{
	if (!o->size || o->size % 512 || o->size > INT64_MAX)
		return err_msg(e, -EINVAL, "size: %llu is not a multiple of 512 bytes",
			       (unsigned long long)o->size);
	if (o->version != 2 && o->version != 3)
		return err_msg(e, -EINVAL, "version: %u is neither 2 nor 3", o->version);
	if (o->cluster_bits < Q_MIN_CLUSTER_BITS || o->cluster_bits > Q_MAX_CLUSTER_BITS)
		return err_msg(e, -EINVAL, "cluster size is not within 512 and 2M");
	if (o->refcount_order < 0 || o->refcount_order > 6)
		return err_msg(e, -EINVAL, "refcounts have 1 to 64 bits");
	if (o->version == 2 &&
	    (o->refcount_order != 4 || o->lazy_refcounts || o->compression != QCOW2_ZLIB))
		return err_msg(e, -EINVAL, "version 2 has 16-bit refcounts and zlib only");
	if (o->size > ((uint64_t)Q_MAX_L1_ENTRIES << (2 * (uint64_t)o->cluster_bits - 3)))
		return err_msg(e, -EFBIG, "size: clusters of %u bytes allow %llu bytes at most",
			       1u << o->cluster_bits,
			       (unsigned long long)Q_MAX_L1_ENTRIES << (2 * o->cluster_bits - 3));
	return 0;
}

/* The header comes last: what is half written is no image. */
static int write_all(struct blk *f, const struct qcow2_options *o, const struct layout *l,
		     uint8_t *buf, struct err *e)
{
	const struct blk_sync_ops *s = f->ops->sync;
	uint64_t cs = l->cluster_size, used = 1 + l->rt + l->blocks + l->l1;
	uint64_t per_block = cs * 8 >> o->refcount_order;
	int r = s->truncate(f, 0);

	if (r == -EINVAL) /* a block device keeps its size */
		r = 0;
	for (uint64_t c = 1; r == 0 && c < used; c++) {
		uint64_t rt = c - 1, block = c - 1 - l->rt;

		memset(buf, 0, cs);
		for (uint64_t i = 0; rt < l->rt && i < cs / 8; i++) {
			if (rt * (cs / 8) + i < l->blocks)
				store_be64(buf + i * 8, (1 + l->rt + rt * (cs / 8) + i) * cs);
		}
		for (uint64_t i = 0; rt >= l->rt && block < l->blocks && i < per_block; i++) {
			if (block * per_block + i < used)
				q_ref_store(buf, (unsigned int)o->refcount_order, i, 1);
		}
		r = s->write(f, buf, cs, c * cs);
	}
	memset(buf, 0, cs);
	if (r == 0)
		r = fill_header(buf, o, l, e);
	if (r == 0)
		r = s->flush(f);
	if (r == 0)
		r = s->write(f, buf, cs, 0);
	if (r == 0)
		r = s->flush(f);
	return r;
}

int qcow2_create(struct blk *file, const struct qcow2_options *options, struct err *e)
{
	struct qcow2_options o = *options;
	autofree uint8_t *buf = NULL;
	struct err why = {0};
	struct layout l;
	int r;

	o.version = o.version ? o.version : 3;
	o.cluster_bits = o.cluster_bits ? o.cluster_bits : 16;
	o.refcount_order = o.refcount_order < 0 ? 4 : o.refcount_order;
	r = check_options(&o, e);
	if (r < 0)
		return r;
	l = plan(&o);
	buf = malloc(l.cluster_size);
	if (!buf)
		return err_set(e, -ENOMEM, "qcow2");
	r = write_all(file, &o, &l, buf, &why);
	if (r < 0 && why.code)
		return err_msg(e, r, "%s", why.msg);
	return r < 0 ? err_set(e, r, "write the image") : 0;
}
