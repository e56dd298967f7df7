/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio/rng.h - entropy device (virtio 1.2, 5.4)
 */
#pragma once

#include "virtio/virtio.h"

struct virtio_dev *virtio_rng_new(struct gmem *mem);
