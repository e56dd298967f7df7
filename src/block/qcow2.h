/* SPDX-License-Identifier: Apache-2.0 */
/*
 * block/qcow2.h - qcow2 images: making them, and what can be done to them besides reading and
 * writing
 *
 * The calls that take a `struct blk *` want a node that blk_open made of a qcow2 file, with no
 * request in flight; they block on I/O.
 */
#pragma once

#include "block/block.h"

enum qcow2_compression { QCOW2_ZLIB, QCOW2_ZSTD };

struct qcow2_options {
	uint64_t size;             /* bytes, multiple of 512 */
	unsigned int version;      /* 2 or 3; 0 = 3 */
	unsigned int cluster_bits; /* 9 to 21; 0 = 16 */
	int refcount_order;        /* 0 to 6: log2 of bits; -1 = 4 */
	bool lazy_refcounts;
	enum qcow2_compression compression;
	const char *backing, *backing_format; /* NULL = none */
};

/* Writes an empty image over what @file holds (a file with blk_ops.sync). */
must_check int qcow2_create(struct blk *file, const struct qcow2_options *o, struct err *e);

struct qcow2_info {
	unsigned int version, cluster_bits, refcount_bits;
	enum qcow2_compression compression;
	bool lazy_refcounts, dirty, corrupt;
	uint32_t n_snapshots, n_bitmaps;
	const char *backing, *backing_format; /* NULL = none; the node's */
};

struct qcow2_snapshot {
	const char *id, *name;
	uint64_t disk_size, vm_state_size;
	uint32_t date; /* seconds since 1970 */
};

struct qcow2_bitmap {
	char *name;
	uint64_t granularity; /* bytes */
	bool in_use, automatic;
	uint64_t dirty; /* bytes marked */
};

/* What is wrong with an image. */
struct qcow2_check {
	uint64_t corruptions; /* referred to more often than counted, or broken tables */
	uint64_t leaks;       /* counted more often than referred to */
	uint64_t flags;       /* safe flags that cost a copy */
	uint64_t repaired;
	uint64_t clusters, allocated, packed; /* of the disk */
	char first[160];                      /* the first finding, in words */
};

bool blk_is_qcow2(const struct blk *b);
void qcow2_get_info(struct blk *b, struct qcow2_info *ret);

#define QCOW2_READ_ONLY (1u << 0)
#define QCOW2_REPAIR    (1u << 1) /* open it for qcow2_check to repair, whatever its state */

/* Opens what @file holds; takes @file on success.  Without backing file yet: see below. */
must_check int qcow2_new(struct blk *file, const char *name, unsigned int flags, struct loop *l,
			 struct blk **ret, struct err *e);
/* NULL if the image has none.  The path is as it stands in the file. */
const char *qcow2_backing(struct blk *b, const char **format);
/* Takes @backing. */
void qcow2_set_backing(struct blk *b, struct blk *backing);

must_check int qcow2_snapshot_create(struct blk *b, const char *name, struct err *e);
must_check int qcow2_snapshot_get(struct blk *b, uint32_t i, struct qcow2_snapshot *ret);
/* @name: its name or ID. */
must_check int qcow2_snapshot_apply(struct blk *b, const char *name, struct err *e);
must_check int qcow2_snapshot_delete(struct blk *b, const char *name, struct err *e);

/* @ret[i].name is the caller's to free. */
must_check int qcow2_bitmap_get(struct blk *b, uint32_t i, struct qcow2_bitmap *ret, struct err *e);

must_check int qcow2_resize(struct blk *b, uint64_t size, bool shrink, struct err *e);
/* One cluster, compressed if that makes it smaller; the disk's last one may be short. */
must_check int qcow2_write_packed(struct blk *b, uint64_t offset, const void *data, size_t len);

/* Findings are counted in @ret; a failure is one to look at all. */
must_check int qcow2_check(struct blk *b, bool repair, struct qcow2_check *ret, struct err *e);

/* A range that is alike: where a copy need not read. */
enum qcow2_extent { QCOW2_DATA, QCOW2_ZEROES, QCOW2_BACKING };
must_check int qcow2_extent(struct blk *b, uint64_t offset, uint64_t *len, enum qcow2_extent *ret);
