/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio/gpu.h - graphics card without 3D (virtio 1.2, 5.7)
 *
 * One scanout and a hardware cursor.  The guest's driver is told which size a viewer would like.
 * Resources take at most GPU_BYTES_MAX of the host's memory.
 */
#pragma once

#include "display/screen.h"
#include "virtio/virtio.h"

#define GPU_RESOURCES 256u
#define GPU_BYTES_MAX (UINT64_C(256) << 20)
#define GPU_ENTRIES   65536u /* parts of one resource's backing, at most */

/* @screen is attached to while the device is there; NULL = nobody looks. */
struct virtio_dev *virtio_gpu_new(struct gmem *mem, struct screen *screen);
