/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio/fs.h - a host directory for the guest: FUSE over virtio (virtio 1.2, 5.11)
 *
 * The guest mounts it with `mount -t virtiofs TAG DIR`.  See docs/share.md for what a guest may do,
 * how it is confined, and when it sees changes made on the host.
 */
#pragma once

#include "virtio/virtio.h"

#define VIRTIO_FS_TAG_MAX 36

struct virtio_fs_spec {
	const char *path; /* host directory */
	const char *tag;  /* 1 to 36 bytes */
	bool read_only;
};

/* Opens everything it will ever open by path, and starts its one worker thread. */
must_check int virtio_fs_new(struct gmem *mem, const struct virtio_fs_spec *spec,
			     struct virtio_dev **ret, struct err *e);
