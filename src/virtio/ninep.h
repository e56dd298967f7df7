/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio/ninep.h - a host directory for the guest: 9P2000.L over virtio (virtio device type 9)
 *
 * The guest mounts it with `mount -t 9p -o trans=virtio,version=9p2000.L TAG DIR`.  See
 * docs/share.md for what a guest may do and how it is confined.
 */
#pragma once

#include "virtio/virtio.h"

struct virtio_9p_spec {
	const char *path; /* host directory */
	const char *tag;  /* mount tag, 1 to 255 bytes */
	bool read_only;
};

/* Opens everything it will ever open by path, and starts its one worker thread. */
must_check int virtio_9p_new(struct gmem *mem, const struct virtio_9p_spec *spec,
			     struct virtio_dev **ret, struct err *e);
