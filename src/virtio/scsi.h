/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio/scsi.h - SCSI host adapter with one disk, target 0, LUN 0 (virtio 1.2, 5.6; SPC-4, SBC-3)
 */
#pragma once

#include "block/block.h"
#include "virtio/virtio.h"

/* @blk is taken over on success; @serial of at most 20 characters. */
must_check int virtio_scsi_new(struct gmem *mem, struct blk *blk, const char *serial,
			       struct virtio_dev **ret, struct err *e);
/* Puts @blk in the disk's place and returns what was there; nothing is in flight. */
struct blk *virtio_scsi_exchange(struct virtio_dev *d, struct blk *blk);
