/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmm/snapshot_delta.c - memory that says only what differs from another snapshot's
 *
 * A bit a page, in a map of its own with a checksum, says which pages are in the file; all others
 * are the parent's.  Nothing watches which pages a guest writes to: both states are compared while
 * the file is written, by a process that nobody waits for.
 */
#include "vmm/snapshot_priv.h"

#include "base/fd.h"

#include <errno.h>
#include <sys/mman.h>
#include <zlib.h>

static size_t map_len(const struct machine_region *r)
{
	return (size_t)((r->size / SNAPSHOT_PAGE + 7) / 8);
}

bool delta_has(const uint8_t *map, uint64_t page)
{
	return map[page / 8] >> page % 8 & 1;
}

/* --- writing --- */

uint8_t *delta_compare(const struct machine_region *r, const uint8_t *parent)
{
	uint8_t *map = calloc(1, map_len(r) + 4);

	for (uint64_t i = 0; map && i < r->size / SNAPSHOT_PAGE; i++) {
		uint64_t at = i * SNAPSHOT_PAGE;

		if (memcmp(r->data + at, parent + at, SNAPSHOT_PAGE) != 0)
			map[i / 8] = (uint8_t)(map[i / 8] | 1u << i % 8);
	}
	return map;
}

int delta_write_map(int fd, const struct machine_region *r, uint8_t *map, uint64_t at)
{
	size_t len = map_len(r);

	store_le32(map + len, (uint32_t)crc32_z(0, map, len));
	return pwrite_full(fd, map, len + 4, at);
}

uint64_t delta_map_room(const struct machine_region *r)
{
	return ALIGN_UP(map_len(r) + 4, (uint64_t)SNAPSHOT_PAGE);
}

/* Runs of pages that differ and hold something; a page of the map that is a hole became zero. */
int delta_write(int fd, const struct machine_region *r, const uint8_t *map, uint64_t off)
{
	uint64_t n = r->size / SNAPSHOT_PAGE;
	int ret = 0;

	for (uint64_t i = 0; i < n && ret == 0; i++) {
		uint64_t at = i * SNAPSHOT_PAGE, run = i;

		while (run < n && run - i < 2048 && delta_has(map, run) &&
		       !snapshot_is_zero(r->data + run * SNAPSHOT_PAGE))
			run++;
		if (run == i)
			continue;
		ret = pwrite_full(fd, r->data + at, (run - i) * SNAPSHOT_PAGE, off + at);
		i = run - 1;
	}
	return ret;
}

/* --- reading --- */

int delta_read_map(int fd, const struct machine_region *r, uint64_t at, uint64_t size,
		   uint8_t **ret)
{
	size_t len = map_len(r);
	autofree uint8_t *map = NULL;
	int e;

	if (!range_ok(at, len + 4, size))
		return -EINVAL;
	map = malloc(len + 4);
	e = map ? pread_full(fd, map, len + 4, at) : -ENOMEM;
	if (e == 0 && load_le32(map + len) != (uint32_t)crc32_z(0, map, len))
		e = -EINVAL;
	if (e == 0)
		*ret = steal_ptr(&map);
	return e;
}

int delta_read(int fd, const struct machine_region *r, const uint8_t *map, uint64_t off,
	       uint64_t size)
{
	uint64_t n = r->size / SNAPSHOT_PAGE;
	int ret = off % SNAPSHOT_PAGE || !range_ok(off, r->size, size) ? -EINVAL : 0;

	for (uint64_t i = 0; i < n && ret == 0; i++) {
		uint64_t at = i * SNAPSHOT_PAGE, run = i;

		if (!map[i / 8] && i % 8 == 0) {
			i += 7;
			continue;
		}
		while (run < n && delta_has(map, run))
			run++;
		if (run == i)
			continue;
		ret = pread_full(fd, r->data + at, (run - i) * SNAPSHOT_PAGE, off + at);
		i = run - 1;
	}
	return ret;
}
