/* SPDX-License-Identifier: Apache-2.0 */
/*
 * block/block.h - a graph of block nodes
 *
 * A node is a disk of `size` bytes: either the end of a graph (raw: a file or device) or built on
 * others (cow: a read-only base below a private top; later qcow2, mirror, throttle, nbd).
 *
 * Requests are asynchronous.  blk_submit never blocks on I/O and may be called from any thread;
 * `done` is called exactly once, also for errors, possibly out of order, and never from inside
 * blk_submit: in the loop thread the node was opened with, or in a thread that sits in blk_drain.
 * So `done` must not take a lock that a drainer may hold.  A write is on stable storage only after
 * a flush submitted later (or with BLK_FUA) is done.
 */
#pragma once

#include "base/bucket.h"
#include "base/err.h"
#include "base/loop.h"

#include <pthread.h>
#include <sys/uio.h>

enum blk_op { BLK_READ, BLK_WRITE, BLK_FLUSH, BLK_DISCARD, BLK_WRITE_ZEROES };

#define BLK_FUA   (1u << 0) /* write: on stable storage when done */
#define BLK_UNMAP (1u << 1) /* write zeroes: the space may be given back to the host */

struct blk_req {
	enum blk_op op;
	unsigned int flags;
	uint64_t offset, len; /* bytes; len = sum of iov for read and write */
	struct iovec *iov;    /* caller's until done */
	unsigned int n_iov;
	void (*done)(struct blk_req *r, int result); /* 0 or -errno */
	void *opaque;                                /* caller's */
	void *node_data;                             /* the node's while in flight */
	struct list node;                            /* the node's while in flight */
};

struct blk_info {
	uint64_t size;       /* bytes */
	uint32_t block_size; /* logical, 512 or 4096 */
	bool read_only, discard, write_zeroes;
};

struct blk;

/* Slots: see the front doors.  `submit` gets requests already checked against size and read_only.
 */
struct blk_sync_ops;

struct blk_ops {
	const char *name;
	void (*submit)(struct blk *b, struct blk_req *r);
	/* Complete what is ready in the calling thread; wait up to @timeout_ms if nothing is. */
	void (*poll)(struct blk *b, int timeout_ms);
	void (*close)(struct blk *b); /* no request in flight; frees @b */
	/* See blk_share; no request is in flight.  NULL: what the node holds goes with the process.
	 */
	int (*share)(struct blk *b);
	/* See blk_known_zeroes; NULL: none are known. */
	uint64_t (*known_zeroes)(struct blk *b, uint64_t offset);
	const struct blk_sync_ops *sync; /* NULL but for files */
};

/*
 * Calls that block, for a node that keeps tables of its own in this one: a thread that may wait
 * makes them.  Only files have them.  Bytes past the end read as zeroes; writing there enlarges.
 */
struct blk_sync_ops {
	int (*read)(struct blk *b, void *buf, size_t len, uint64_t off);
	int (*write)(struct blk *b, const void *buf, size_t len, uint64_t off);
	int (*flush)(struct blk *b);
	int (*size)(struct blk *b, uint64_t *ret);
	int (*truncate)(struct blk *b, uint64_t size);
	/* Enlarges to @size, with the space for it where the host can set some aside. */
	int (*extend)(struct blk *b, uint64_t size);
	/* Give the space back; the range reads as zeroes afterwards, or as before. */
	void (*punch)(struct blk *b, uint64_t off, uint64_t len);
};

/* later_lock */
struct blk_throttle {
	_Atomic bool on;
	struct bucket bytes, ops;
	struct list waiting;
	struct timer timer;
};

struct blk {
	const struct blk_ops *ops;
	struct blk_info info;
	struct loop *loop;
	_Atomic unsigned int in_flight;
	/* Requests answered without I/O (bad range, nothing to flush), on their way to done(). */
	pthread_mutex_t later_lock;
	struct list later;
	struct loop_work later_work;
	struct blk_throttle throttle;
};

struct fd_table;

/* What to open; paths are the host's. */
struct blk_spec {
	const char *path;
	const struct fd_table *given; /* files that are open already, by path; NULL = none */
	/* "raw" or "qcow2"; NULL or "auto" = by the name: qcow2 if it ends in .qcow2, else raw. The
	 * content, which a guest may have written, never chooses; if it contradicts the name,
	 * opening fails and asks for a format. */
	const char *format;
	bool read_only;
	bool overlay; /* writes go to an anonymous temporary file, the path stays untouched */
	const char *overlay_dir; /* where that file lives; NULL = $TMPDIR or /var/tmp */
	/* For tools: */
	bool cached;     /* writes go through the host's cache */
	bool repair;     /* qcow2: also one that is marked as damaged; nothing is repaired yet */
	bool no_backing; /* qcow2: leave backing files closed; what they hold reads as zeroes */
};

/*
 * Opens with a lock on the file (OFD: exclusive for writing, shared for reading): -EBUSY with
 * exit status EXIT_DISK_IN_USE when another machine has it.
 */
must_check int blk_open(const struct blk_spec *spec, struct loop *l, struct blk **ret,
			struct err *e);
/* A raw disk that somebody else opened, read-only; @fd is taken over, also on failure. */
must_check int blk_open_fd(int fd, const char *name, struct loop *l, struct blk **ret,
			   struct err *e);
/* Waits for requests in flight.  In the loop thread, or when the loop does not run any more. */
void blk_close(struct blk *b);
/* How many bytes from @offset on read as zeroes, as far as can be told without reading them. */
uint64_t blk_known_zeroes(struct blk *b, uint64_t offset);
/* Returns when no request is in flight; the caller submits none meanwhile.  From any thread. */
void blk_drain(struct blk *b);
/* A second's, and what may go at once (0 = a tenth of that); 0 = no limit. */
struct blk_limits {
	uint64_t bytes, bytes_burst, ops, ops_burst;
};
/* At once, in the loop's thread.  An overlay takes them over. */
void blk_limit(struct blk *b, const struct blk_limits *l);
/* From now on the disk is only read, and others may read its file, too: what was written is in
 * there, whoever reads it (not yet on stable storage, though).  No request is in flight.  -ENOTSUP
 * for a temporary disk. */
must_check int blk_share(struct blk *b);
/* The qcow2 image that is open as @fd, of @base's size and with it as backing file: an overlay, not
 * yet over @base (blk_overlay_put does that, and cannot fail).  @fd is taken over, also on failure;
 * @name for messages. */
must_check int blk_overlay_open(const struct blk *base, int fd, const char *name, struct blk **ret,
				struct err *e);
/* @overlay takes @base over, which is shared. */
void blk_overlay_put(struct blk *overlay, struct blk *base);
static inline const struct blk_info *blk_info(const struct blk *b)
{
	return &b->info;
}

/* -EINVAL for ranges past the end or unaligned to block_size, -EROFS for writes to a read-only
 * disk: reported through done() like any other error. */
void blk_submit(struct blk *b, struct blk_req *r);

/* --- for nodes --- */

void blk_init(struct blk *b, const struct blk_ops *ops, struct loop *l);
void blk_fini(struct blk *b);
/* The request is over; @b and @r are not the node's any more. */
void blk_complete(struct blk *b, struct blk_req *r, int result);
/* One round of blk_drain: completes what is ready in this thread, waits up to @timeout_ms if
 * nothing is.  For nodes that poll their children. */
void blk_poll(struct blk *b, int timeout_ms);
/* As blk_complete, from inside submit. */
void blk_complete_later(struct blk *b, struct blk_req *r, int result);
