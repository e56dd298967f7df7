/* SPDX-License-Identifier: Apache-2.0 */
/*
 * block/node_priv.h - the kinds of nodes, known to blk_open only
 */
#pragma once

#include "block/block.h"

/* throttle.c */
void throttle_init(struct blk *b);
void throttle_fini(struct blk *b);
/* True: @r waits there.  Else it goes now. */
bool throttle_hold(struct blk *b, struct blk_req *r);
/* What may go now, or all that waits. */
void throttle_release(struct blk *b, bool all);
/* No request is in flight. */
void throttle_move(struct blk *to, struct blk *from);

/* A raw file or device.  Takes @fd (open and locked) on success.  With
 * @direct, aligned requests bypass the host page cache where the file system can do that. */
must_check int raw_new(int fd, const char *name, bool read_only, bool direct, struct loop *l,
		       struct blk **ret, struct err *e);

/* The same for a file that holds another format's structures: it grows when written past its end,
 * any size and range will do, and blk_ops.sync is there. */
must_check int raw_file_new(int fd, const char *name, bool read_only, bool direct, struct loop *l,
			    struct blk **ret, struct err *e);

/* Writes go to @top, reads to whichever holds the sector.  Takes both on success. */
must_check int cow_new(struct blk *base, struct blk *top, struct loop *l, struct blk **ret,
		       struct err *e);

/* Exclusive for writers, shared for readers, until @fd is closed; -EBUSY if taken. */
must_check int blk_lock_file(int fd, const char *path, bool exclusive, struct err *e);
