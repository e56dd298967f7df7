/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmm/snapshot_priv.h - between the parts of the snapshot file
 */
#pragma once

#include "vmm/snapshot.h"

#define SNAPSHOT_PAGE 4096u

/* snapshot_pack.c: packs @r from @*off on; *@off becomes the end, *@table where the list of chunks
 * is. */
must_check int snapshot_pack(int fd, const struct machine_region *r, uint64_t *off,
			     uint64_t *table);
/* The other way round, into memory that is all zeroes; the file is of @size bytes.  -EINVAL:
 * damaged. */
must_check int snapshot_unpack(int fd, const struct machine_region *r, uint64_t table,
			       uint64_t size);
/* A page of zeroes? */
bool snapshot_is_zero(const uint8_t *page);
