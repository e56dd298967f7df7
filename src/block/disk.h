/* SPDX-License-Identifier: Apache-2.0 */
/*
 * block/disk.h - what a person does with disk images: make, look at, check, copy, resize, snapshot
 *
 * Whole jobs on files, each with a loop of its own; they block.  Formats are "raw" and "qcow2";
 * NULL is by the name, as for blk_open.  Failures carry words and an exit status.
 */
#pragma once

#include "block/block.h"
#include "block/qcow2.h"

/* Called now and then; a negative value ends the job with it. */
struct disk_progress {
	int (*tick)(void *opaque, uint64_t done, uint64_t total);
	void *opaque;
};

struct disk {
	struct loop *loop;
	struct blk *blk;
};

#define DISK_READ_ONLY  (1u << 0)
#define DISK_REPAIR     (1u << 1)
#define DISK_NO_BACKING (1u << 2)

/* An image open for one of qcow2.h's calls, or for reading its blk_info. */
must_check int disk_open(const char *path, const char *format, unsigned int flags, struct disk *ret,
			 struct err *e);
void disk_close(struct disk *d);

/* A new file: -EEXIST if there is one and not @force.  With @o->backing and no size, the backing
 * file's.  @o is ignored for raw but for its size. */
must_check int disk_create(const char *path, const char *format, const struct qcow2_options *o,
			   bool force, struct err *e);

struct disk_copy {
	const char *from, *from_format;
	const char *to, *to_format;
	const struct qcow2_options *options; /* of the copy; its size is the source's */
	bool compress, force;
	const struct disk_progress *progress; /* may be NULL */
};

/* The copy appears under its name when it is whole and on stable storage. */
must_check int disk_convert(const struct disk_copy *c, struct err *e);

/* The backing file that the qcow2 image at @path names, from its header alone, also while a machine
 * has it: the caller's, NULL = none.  *@qcow2: is that one qcow2, too? */
must_check int qcow2_read_backing(const char *path, char **ret, bool *qcow2, struct err *e);

/* The qcow2 image at @path, which nobody has open and has a backing file, lies over @backing from
 * now on: of the same format as the one before. */
must_check int qcow2_rename_backing(const char *path, const char *backing, struct err *e);

must_check int disk_resize(const char *path, const char *format, uint64_t size, bool shrink,
			   struct err *e);
/* Bytes that the file takes on the host. */
uint64_t disk_allocated(const char *path);
/* "qcow2" or "raw": what blk_open would take it for; the caller need not free it. */
const char *disk_format(const char *path, const char *format);
