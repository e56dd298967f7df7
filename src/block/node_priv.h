/* SPDX-License-Identifier: Apache-2.0 */
/*
 * block/node_priv.h - the kinds of nodes, known to blk_open only
 */
#pragma once

#include "block/block.h"

/* A raw file or device.  Takes @fd (open and locked) on success.  With
 * @direct, aligned requests bypass the host page cache where the file system can do that. */
must_check int raw_new(int fd, const char *name, bool read_only, bool direct, struct loop *l,
		       struct blk **ret, struct err *e);

/* Writes go to @top, reads to whichever holds the sector.  Takes both on success. */
must_check int cow_new(struct blk *base, struct blk *top, struct loop *l, struct blk **ret,
		       struct err *e);
