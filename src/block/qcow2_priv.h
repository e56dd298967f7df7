/* SPDX-License-Identifier: Apache-2.0 */
/*
 * block/qcow2_priv.h - an open qcow2 image, shared by the files that work on it
 *
 * The format: https://gitlab.com/qemu-project/qemu/-/blob/master/docs/interop/qcow2.rst; a picture
 * is in docs/block.md.  Numbers in the file are big-endian.
 *
 *	qcow2.c           open, close, the node's slots
 *	qcow2_header.c    the first cluster: parse, check, patch
 *	qcow2_cache.c     bounded cache of L2 and refcount blocks; commit: what is written in which
 *order qcow2_refcount.c  refcounts of 1 to 64 bits, allocation, growth of the refcount table
 *	qcow2_map.c       guest cluster -> entry -> where it is; new and copied L2 tables
 *	qcow2_io.c        requests: ranges in flight, windows, the worker
 *	qcow2_read.c      reading a range; qcow2_write.c writing, discarding, zeroing one
 *	qcow2_codec.c     zlib and zstd clusters
 *	qcow2_check.c     what refers to each cluster, against the refcounts; repair
 *	qcow2_snapshot.c, qcow2_bitmap.c, qcow2_resize.c, qcow2_create.c
 *
 * Locks.  `lock` guards what is in memory (cache, L1, ranges in flight) and is never held over I/O.
 * `slow` is held by whoever reads or writes tables: the worker, or a maintenance call on a drained
 * image.  slow is taken before lock.
 */
#pragma once

#include "block/block.h"
#include "block/qcow2.h"

#define Q_MAGIC 0x514649fbu

/* Limits on what a header may ask for. */
#define Q_MIN_CLUSTER_BITS 9
#define Q_MAX_CLUSTER_BITS 21
#define Q_MAX_L1_ENTRIES   (4u << 20)
#define Q_MAX_TABLE_BYTES  (8u << 20) /* refcount table */
#define Q_MAX_NAME         1023
#define Q_MAX_OFFSET       (UINT64_C(1) << 56)
#define Q_MAX_SNAPSHOTS    65536u
#define Q_MAX_BITMAPS      65535u

#define Q_INCOMPAT_DIRTY       BIT(0)
#define Q_INCOMPAT_CORRUPT     BIT(1)
#define Q_INCOMPAT_DATA_FILE   BIT(2)
#define Q_INCOMPAT_COMPRESSION BIT(3)
#define Q_INCOMPAT_EXTENDED_L2 BIT(4)
#define Q_INCOMPAT_KNOWN       (Q_INCOMPAT_DIRTY | Q_INCOMPAT_CORRUPT | Q_INCOMPAT_COMPRESSION)
#define Q_COMPAT_LAZY          BIT(0)
#define Q_AUTOCLEAR_BITMAPS    BIT(0)

/* L1 and L2 entries. */
#define Q_COPIED      BIT(63) /* refcount is exactly one: may be written in place */
#define Q_COMPRESSED  BIT(62)
#define Q_ZERO        BIT(0) /* L2, version 3: reads as zeroes */
#define Q_OFFSET_MASK UINT64_C(0x00fffffffffffe00)

/* Byte offsets of header fields that are patched later. */
enum {
	Q_H_BACKING_OFFSET = 8,
	Q_H_BACKING_SIZE = 16,
	Q_H_SIZE = 24,
	Q_H_L1_SIZE = 36,
	Q_H_L1_OFFSET = 40,
	Q_H_RT_OFFSET = 48,
	Q_H_RT_CLUSTERS = 56,
	Q_H_N_SNAPSHOTS = 60,
	Q_H_SNAPSHOTS_OFFSET = 64,
	Q_H_INCOMPAT = 72,
	Q_H_COMPAT = 80,
	Q_H_AUTOCLEAR = 88,
	Q_H_REFCOUNT_ORDER = 96,
	Q_H_LENGTH = 100,
	Q_H_COMPRESSION = 104,
	Q_H_V2_LENGTH = 72,
	Q_H_V3_LENGTH = 104,
};

enum { Q_EXT_END = 0, Q_EXT_BACKING_FORMAT = 0xe2792aca, Q_EXT_BITMAPS = 0x23852875 };

#define DEFINE_BE(bits)                                                                            \
	static inline uint##bits##_t load_be##bits(const void *p)                                  \
	{                                                                                          \
		return __builtin_bswap##bits(load_le##bits(p));                                    \
	}                                                                                          \
	static inline void store_be##bits(void *p, uint##bits##_t v)                               \
	{                                                                                          \
		store_le##bits(p, __builtin_bswap##bits(v));                                       \
	}
DEFINE_BE(16)
DEFINE_BE(32)
DEFINE_BE(64)
#undef DEFINE_BE

struct q_header {
	uint32_t version;
	unsigned int cluster_bits, refcount_order;
	uint64_t size; /* of the disk, bytes */
	uint32_t l1_size;
	uint64_t l1_offset, rt_offset;
	uint32_t rt_clusters;
	uint32_t n_snapshots;
	uint64_t snapshots_offset;
	uint64_t incompat, compat, autoclear;
	uint32_t length;
	enum qcow2_compression compression;
	char *backing, *backing_format; /* NULL = none, not given */
	/* bitmaps extension; n_bitmaps 0 = none */
	uint32_t n_bitmaps;
	uint64_t bitmaps_offset, bitmaps_size;
};

/* --- cache --- */

enum q_type { Q_REF, Q_L2 };

struct q_block {
	struct list lru;
	struct q_block *next; /* in its bucket */
	uint64_t offset;
	enum q_type type;
	bool dirty;
	unsigned int pins; /* an allocation will change it: stays */
	uint8_t *data;
};

struct q_cache {
	size_t block_size;
	unsigned int max, n, n_dirty, n_buckets;
	struct q_block **buckets;
	struct list lru; /* least recently used first */
};

/* Clusters whose last reference is gone in memory, but not yet in the file. */
struct q_free {
	uint64_t first, n; /* clusters */
};

struct q_frees {
	struct q_free *ranges;
	size_t n, room;
};

/* A set of cluster numbers. */
struct q_set {
	uint64_t *slots; /* number + 1 */
	size_t n, room;
};

/* What has to be fetched or made before a request can go on. */
enum q_miss_kind { Q_MISS_NONE, Q_MISS_BLOCK, Q_MISS_L2_TABLE, Q_MISS_REFBLOCK, Q_MISS_COMMIT };

struct q_miss {
	enum q_miss_kind kind;
	enum q_type type;
	uint64_t arg; /* offset of the block; L1 index; index of the refcount block */
};

struct q_work {
	struct list node;
	void (*run)(struct q_work *w);
};

struct q_snapshot {
	uint64_t l1_offset, disk_size, vm_state_size, vm_clock;
	uint32_t l1_size, date_sec, date_nsec;
	char *id, *name;
	uint8_t *extra; /* as it was */
	uint32_t extra_len;
};

struct qcow2 {
	struct blk blk;
	struct blk *file, *backing;
	char *name; /* for messages */
	bool read_only, repair;
	struct q_header h;
	uint8_t head[512];      /* the first sector as it will be in the file */
	uint8_t head_safe[512]; /* and as it is on stable storage */

	uint64_t cluster_size;
	unsigned int l2_bits;  /* log2 of entries in an L2 table */
	unsigned int ref_bits; /* log2 of entries in a refcount block */
	uint64_t backing_size; /* 0 without */

	pthread_mutex_t slow, lock;
	uint64_t *l1; /* host order */
	bool *l1_dirty;
	bool any_l1_dirty;
	uint64_t *rt; /* host order; entries, rt_clusters clusters of them */
	uint64_t rt_entries;
	struct q_cache cache;
	struct q_frees frees;
	struct q_set tables; /* clusters that hold L2 tables and refcount blocks */
	uint64_t free_hint;  /* no free cluster below */
	uint64_t fresh;      /* clusters from here on were never written: they read as zeroes */
	uint64_t file_end;   /* bytes; enlarged ahead of what is allocated */
	uint64_t ahead;      /* bytes: by how much */
	bool enlarged, enlarge_wanted;
	bool corrupt;               /* seen while running: no more writes */
	uint64_t pack_at, pack_end; /* compressed writes: free bytes of the last cluster */

	struct q_snapshot *snapshots;
	uint64_t snapshot_bytes; /* table in the file */

	/* requests */
	struct list ios;                     /* in order of arrival */
	unsigned int n_waiting, n_exclusive; /* of them */

	/* worker */
	pthread_t thread;
	bool has_thread, stop, busy, committing;
	pthread_cond_t wake, progress;
	struct list work;
	struct list flushes; /* q_io.work.node */
	bool commit_wanted;
	uint8_t *zbuf, *cbuf; /* last decompressed cluster; its compressed bytes */
	uint64_t zentry;      /* whose it is, 0 = nobody's */
};

static inline struct qcow2 *q_of(struct blk *b)
{
	return container_of(b, struct qcow2, blk);
}

static inline uint64_t q_clusters(const struct qcow2 *q, uint64_t bytes)
{
	return (bytes + q->cluster_size - 1) >> q->h.cluster_bits;
}

static inline int q_pread(struct qcow2 *q, void *buf, size_t len, uint64_t off)
{
	return q->file->ops->sync->read(q->file, buf, len, off);
}

static inline int q_pwrite(struct qcow2 *q, const void *buf, size_t len, uint64_t off)
{
	return q->file->ops->sync->write(q->file, buf, len, off);
}

static inline int q_sync(struct qcow2 *q)
{
	return q->file->ops->sync->flush(q->file);
}

/* qcow2_header.c */
must_check int q_header_parse(const uint8_t *head, size_t len, struct q_header *ret, struct err *e);
void q_header_fini(struct q_header *h);
/* Patches fields of the first sector; writes and flushes it, or takes the patches back.  slow held.
 */
void q_head_set32(struct qcow2 *q, unsigned int at, uint32_t v);
void q_head_set64(struct qcow2 *q, unsigned int at, uint64_t v);
must_check int q_head_write(struct qcow2 *q);
/* Sets the corrupt bit where there is one, and lets no write pass any more.  Any thread. */
void q_mark_corrupt(struct qcow2 *q, const char *what, uint64_t offset);

/* qcow2_cache.c */
must_check int q_cache_init(struct q_cache *c, size_t block_size, size_t bytes);
void q_cache_fini(struct q_cache *c);
/* lock held: the block or NULL. */
struct q_block *q_cache_get(struct qcow2 *q, enum q_type type, uint64_t offset);
void q_cache_dirty(struct qcow2 *q, struct q_block *b);
void q_cache_drop(struct qcow2 *q, uint64_t offset, uint64_t len);
/* slow held, lock not: reads a block in, committing and evicting as needed. */
must_check int q_cache_load(struct qcow2 *q, enum q_type type, uint64_t offset);
/* slow held, lock not: everything to stable storage in an order that a power cut cannot hurt; then
 * what was freed becomes free. */
must_check int q_commit(struct qcow2 *q);
/* lock held: is there anything that q_commit would write? */
bool q_is_dirty(const struct qcow2 *q);
/* lock held. */
void q_free_later(struct qcow2 *q, uint64_t first, uint64_t n);
must_check int q_set_add(struct q_set *s, uint64_t v);
bool q_set_has(const struct q_set *s, uint64_t v);
void q_set_remove(struct q_set *s, uint64_t v);
void q_set_fini(struct q_set *s);

/* qcow2_refcount.c */
uint64_t q_ref_load(const uint8_t *block, unsigned int order, uint64_t index);
void q_ref_store(uint8_t *block, unsigned int order, uint64_t index, uint64_t v);
static inline uint64_t q_ref_max(unsigned int order)
{
	return order == 6 ? UINT64_MAX : BIT(1u << order) - 1;
}
/* lock held: up to @n free clusters side by side get refcount 1; *@got of them from *@first. @zero:
 * they read as zeroes.  -EAGAIN with *@miss. */
must_check int q_alloc(struct qcow2 *q, uint64_t n, uint64_t *first, uint64_t *got, bool *zero,
		       struct q_miss *miss);
/* slow held, lock not.  Exactly @n side by side. */
must_check int q_alloc_slow(struct qcow2 *q, uint64_t n, uint64_t *first);
must_check int q_refcount(struct qcow2 *q, uint64_t cluster, uint64_t *ret);
/* @delta to the refcounts of a range; clusters that nobody refers to any more become free (and
 * are punched if @punch).  -ERANGE when a count would not fit. */
must_check int q_refs_add(struct qcow2 *q, uint64_t first, uint64_t n, int delta);
must_check int q_refcount_set(struct qcow2 *q, uint64_t cluster, uint64_t v);
must_check int q_refblock_new(struct qcow2 *q, uint64_t index);

/* Worker: enlarges the file ahead of the clusters that are handed out, since file systems let one
 * writer in at a time where a file grows.  At the end what was too much is cut off. */
void q_file_enlarge(struct qcow2 *q);
void q_file_trim(struct qcow2 *q);

/* qcow2_map.c */
enum q_kind { Q_UNALLOCATED, Q_ZERO_PLAIN, Q_ZERO_KEPT, Q_NORMAL, Q_PACKED };

struct q_entry {
	uint64_t raw;
	enum q_kind kind;
	bool copied;
	uint64_t host;        /* bytes; normal, zero with space kept, packed */
	uint32_t packed_size; /* bytes of compressed data at most */
};

must_check int q_entry_parse(const struct qcow2 *q, uint64_t raw, struct q_entry *ret);
/* lock held.  The entry of a guest cluster; *@block and *@index say where it is if it is to be
 * changed (*@block NULL: no L2 table).  -EAGAIN with *@miss; -EIO: the tables are broken. */
must_check int q_lookup(struct qcow2 *q, uint64_t cluster, struct q_block **block,
			unsigned int *index, struct q_entry *ret, struct q_miss *miss);
/* lock held.  As above for changing: L2 table there and ours alone, else -EAGAIN. */
must_check int q_lookup_own(struct qcow2 *q, uint64_t cluster, struct q_block **block,
			    unsigned int *index, struct q_entry *ret, struct q_miss *miss);
/* lock held: writes an entry; what the old one referred to is freed later if @release. */
void q_entry_set(struct qcow2 *q, struct q_block *b, unsigned int index, uint64_t raw,
		 const struct q_entry *old, bool release);
/* lock held: the clusters that an entry refers to. */
void q_entry_range(const struct qcow2 *q, const struct q_entry *en, uint64_t *first, uint64_t *n);
/* lock held: reads as zeroes, without looking? */
uint64_t qcow2_known_zeroes(struct blk *b, uint64_t offset);
bool q_reads_zero(const struct qcow2 *q, uint64_t cluster, const struct q_entry *en);
/* lock held: one of our tables lies there, so that no data may be written. */
bool q_is_table(const struct qcow2 *q, uint64_t host, uint64_t len);
/* slow held, lock not: fetches or makes what was missing. */
must_check int q_resolve(struct qcow2 *q, const struct q_miss *miss);
must_check int q_tables_load(struct qcow2 *q, struct err *e);

/* qcow2_read.c */
struct q_read {
	struct q_work work;
	struct qcow2 *q;
	uint64_t off, len, pos; /* guest bytes; pos of len are planned */
	const struct iovec *iov;
	unsigned int n_iov;
	_Atomic unsigned int left;
	_Atomic int error;
	struct q_miss miss;
	/* @in_done: called where requests may be completed. */
	void (*done)(struct q_read *rd, bool in_done);
};
void q_read_start(struct q_read *rd, bool in_done);
/* Bytes [off, off+len) of an iovec; room for @n_iov entries.  Returns how many. */
unsigned int q_iov_slice(struct iovec *dst, const struct iovec *iov, unsigned int n_iov,
			 uint64_t off, uint64_t len);

/* qcow2_io.c */
struct q_io {
	struct q_work work;
	struct qcow2 *q;
	struct blk_req *req;
	struct list node;      /* in q->ios */
	uint64_t pos, win, at; /* of the request: done, end of this window, planned (bytes) */
	uint64_t first, last;  /* clusters of this window */
	bool running, exclusive;
	bool whole; /* zero and discard: this window is whole clusters */
	_Atomic unsigned int left;
	_Atomic int error;
	struct q_miss miss;
	struct iovec zeroes; /* what is written where whole clusters cannot be zeroed */
	struct q_read read;
};
void q_submit(struct blk *b, struct blk_req *r);
void q_post(struct qcow2 *q, struct q_work *w, void (*run)(struct q_work *w));
void q_window_done(struct q_io *io, bool in_done);
must_check int q_worker_start(struct qcow2 *q, struct err *e);
void q_worker_stop(struct qcow2 *q);

/* qcow2_write.c */
void q_write_step(struct q_io *io, bool in_done);
/* In the worker. */
void q_zero_step(struct q_io *io);
/* lock held: every cluster of the window may be written in place. */
bool q_in_place(struct q_io *io);

/* qcow2_codec.c */
must_check int q_unpack(const struct qcow2 *q, const uint8_t *src, size_t n, uint8_t *dst);
/* 0 = does not get smaller. */
size_t q_pack(const struct qcow2 *q, const uint8_t *src, uint8_t *dst, size_t room);
/* Worker, slow held: *@ret = the decompressed cluster, valid until the next call. */
must_check int q_packed_read(struct qcow2 *q, const struct q_entry *en, const uint8_t **ret);

/* qcow2_snapshot.c */
must_check int q_snapshots_load(struct qcow2 *q, struct err *e);
void q_snapshots_fini(struct qcow2 *q);

/* qcow2_bitmap.c: bitmaps that others keep are marked as not kept by us.  slow held. */
must_check int q_bitmaps_open(struct qcow2 *q, struct err *e);

/* qcow2_check.c: after a crash of a program that keeps refcounts lazily.  slow held. */
must_check int q_rebuild(struct qcow2 *q, struct err *e);
