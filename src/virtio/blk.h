/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio/blk.h - disk (virtio 1.2, 5.2)
 *
 * One queue.  Requests go to a block node as they are, with the guest's pages as their buffers, and
 * complete out of order; one interrupt a batch of completions.
 */
#pragma once

#include "block/block.h"
#include "virtio/virtio.h"

/*
 * Owns @blk on success.  @serial (at most 20 bytes are used; NULL = none) is what GET_ID answers.
 * Completions run in @blk's loop.
 */
must_check int virtio_blk_new(struct gmem *mem, struct blk *blk, const char *serial,
			      struct virtio_dev **ret, struct err *e);
/* Another disk of the same size takes the old one's place, which is returned.  No request is in
 * flight: after virtio_save. */
struct blk *virtio_blk_exchange(struct virtio_dev *d, struct blk *blk);
