/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmm/snapshot_priv.h - between the parts of the snapshot file
 */
#pragma once

#include "vmm/snapshot.h"

#define SNAPSHOT_PAGE 4096u

/* snapshot_pack.c: packs @r from @*off on, only pages of @map if there is one; @*off becomes the
 * end, *@table where the list of chunks is. */
must_check int snapshot_pack(int fd, const struct machine_region *r, const uint8_t *map,
			     uint64_t *off, uint64_t *table);
/* The other way round, into memory that is all zeroes, or the parent's; the file is of @size bytes.
 * -EINVAL: damaged. */
must_check int snapshot_unpack(int fd, const struct machine_region *r, const uint8_t *map,
			       uint64_t table, uint64_t size);
/* A page of zeroes? */
bool snapshot_is_zero(const uint8_t *page);

/* snapshot_delta.c: a map of the pages of @r that differ from @parent's, heap; NULL = no memory. */
uint8_t *delta_compare(const struct machine_region *r, const uint8_t *parent);
bool delta_has(const uint8_t *map, uint64_t page);
uint64_t delta_map_room(const struct machine_region *r); /* in the file */
must_check int delta_write_map(int fd, const struct machine_region *r, uint8_t *map, uint64_t at);
/* Its pages, each at its place from @off on. */
must_check int delta_write(int fd, const struct machine_region *r, const uint8_t *map,
			   uint64_t off);
/* From a file of @size bytes; -EINVAL: damaged. */
must_check int delta_read_map(int fd, const struct machine_region *r, uint64_t at, uint64_t size,
			      uint8_t **ret);
must_check int delta_read(int fd, const struct machine_region *r, const uint8_t *map, uint64_t off,
			  uint64_t size);
