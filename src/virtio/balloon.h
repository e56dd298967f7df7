/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio/balloon.h - memory balloon with statistics and free page reporting (virtio 1.2, 5.5)
 *
 * The host sets how much memory the guest should give up; the guest gives pages as it can.  Free
 * page reporting needs no target: the guest tells about pages it does not use, and the host takes
 * their memory until they are touched again.
 */
#pragma once

#include "virtio/virtio.h"

struct virtio_dev *virtio_balloon_new(struct gmem *mem);

/* Bytes the guest should give up; more than it has is cut to that.  From any thread. */
void balloon_set_target(struct virtio_dev *d, uint64_t bytes);
uint64_t balloon_target(struct virtio_dev *d);
/* Bytes it says it has given up. */
uint64_t balloon_actual(struct virtio_dev *d);

/* What the guest last said of itself, UINT64_MAX = not known.  Bytes but for counts. */
struct balloon_stats {
	uint64_t swap_in, swap_out, major_faults, minor_faults; /* counts for faults */
	uint64_t free, total, available, caches;
	uint64_t hugetlb_allocations, hugetlb_failures;
};

/* The statistics known now; asks the guest for newer ones for the next call. */
void balloon_stats(struct virtio_dev *d, struct balloon_stats *ret);
