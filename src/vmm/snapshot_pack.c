/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmm/snapshot_pack.c - packed memory in a snapshot
 *
 * Chunks of 1 MiB, each a zstd frame of its own or nothing if it is all zeroes, then their list:
 *
 *	u64 offset | u32 length, 0 = zeroes | u32 CRC-32 of the frame      one a chunk
 *	u32 CRC-32 of the list
 *
 * With a map of pages (snapshot_delta.c) a frame holds those of its chunk one after the other, and
 * nothing if there are none.
 */
#include "vmm/snapshot_priv.h"

#include "base/fd.h"

#include <errno.h>
#include <zlib.h>
#include <zstd.h>

#define CHUNK (1u << 20)
#define ENTRY 16u
#define LEVEL 1 /* the guest's memory is being copied meanwhile: fast */

static uint64_t count_chunks(const struct machine_region *r)
{
	return (r->size + CHUNK - 1) / CHUNK;
}

static size_t chunk_size(const struct machine_region *r, uint64_t i)
{
	return (size_t)MIN((uint64_t)CHUNK, r->size - i * CHUNK);
}

static uint32_t checksum(const void *data, size_t len)
{
	return (uint32_t)crc32_z(0, data, len);
}

static bool all_zero(const uint8_t *p, size_t len)
{
	for (size_t at = 0; at < len; at += SNAPSHOT_PAGE)
		if (!snapshot_is_zero(p + at))
			return false;
	return true;
}

/* The pages of chunk @i that @map has, from @from to @to, of which one is the guest's memory and
 * the other packed densely.  Returns their bytes; with @from == NULL they are only counted. */
static size_t gather(const uint8_t *map, uint64_t i, size_t size, const uint8_t *from, uint8_t *to)
{
	size_t len = 0;

	for (size_t at = 0; at < size; at += SNAPSHOT_PAGE) {
		if (!delta_has(map, (i * CHUNK + at) / SNAPSHOT_PAGE))
			continue;
		if (from)
			memcpy(to + len, from + at, SNAPSHOT_PAGE);
		len += SNAPSHOT_PAGE;
	}
	return len;
}

static void scatter(const uint8_t *map, uint64_t i, size_t size, const uint8_t *from, uint8_t *to)
{
	for (size_t at = 0; at < size; at += SNAPSHOT_PAGE) {
		if (!delta_has(map, (i * CHUNK + at) / SNAPSHOT_PAGE))
			continue;
		memcpy(to + at, from, SNAPSHOT_PAGE);
		from += SNAPSHOT_PAGE;
	}
}

int snapshot_pack(int fd, const struct machine_region *r, const uint8_t *map, uint64_t *off,
		  uint64_t *table)
{
	uint64_t n = count_chunks(r);
	size_t room = ZSTD_compressBound(CHUNK), list_len = (size_t)n * ENTRY;
	autofree uint8_t *list = calloc(1, list_len + 4), *frame = malloc(room);
	autofree uint8_t *pages = malloc(CHUNK);
	int ret = list && frame && pages ? 0 : -ENOMEM;

	for (uint64_t i = 0; i < n && ret == 0; i++) {
		const uint8_t *p = r->data + i * CHUNK;
		size_t len = chunk_size(r, i);

		if (map) {
			len = gather(map, i, len, p, pages);
			p = pages;
		}
		if (!len || (!map && all_zero(p, len)))
			continue;
		len = ZSTD_compress(frame, room, p, len, LEVEL);
		if (ZSTD_isError(len))
			return -EIO;
		store_le64(list + i * ENTRY, *off);
		store_le32(list + i * ENTRY + 8, (uint32_t)len);
		store_le32(list + i * ENTRY + 12, checksum(frame, len));
		ret = pwrite_full(fd, frame, len, *off);
		*off += len;
	}
	if (ret < 0)
		return ret;
	store_le32(list + list_len, checksum(list, list_len));
	*table = *off;
	*off += list_len + 4;
	return pwrite_full(fd, list, list_len + 4, *table);
}

struct unpacker {
	int fd;
	uint64_t size;
	uint8_t *list, *frame, *pages;
};

static int unpack_chunk(const struct unpacker *u, const struct machine_region *r,
			const uint8_t *map, uint64_t i)
{
	const uint8_t *entry = u->list + i * ENTRY;
	uint64_t off = load_le64(entry);
	uint32_t len = load_le32(entry + 8);
	uint8_t *to = r->data + i * CHUNK;
	size_t want = chunk_size(r, i), dense = map ? gather(map, i, want, NULL, NULL) : want;
	int ret;

	if (!len)
		return map && dense ? -EINVAL : 0;
	if (len > ZSTD_compressBound(CHUNK) || !range_ok(off, len, u->size))
		return -EINVAL;
	ret = pread_full(u->fd, u->frame, len, off);
	if (ret == 0 && (load_le32(entry + 12) != checksum(u->frame, len) ||
			 ZSTD_decompress(map ? u->pages : to, dense, u->frame, len) != dense))
		ret = -EINVAL;
	if (ret == 0 && map)
		scatter(map, i, want, u->pages, to);
	return ret;
}

int snapshot_unpack(int fd, const struct machine_region *r, const uint8_t *map, uint64_t table,
		    uint64_t size)
{
	uint64_t n = count_chunks(r);
	size_t list_len = (size_t)n * ENTRY;
	autofree uint8_t *list = malloc(list_len + 4), *frame = malloc(ZSTD_compressBound(CHUNK));
	autofree uint8_t *pages = malloc(CHUNK);
	struct unpacker u = {fd, size, list, frame, pages};
	int ret = list && frame && pages ? 0 : -ENOMEM;

	if (ret == 0 && !range_ok(table, list_len + 4, size))
		ret = -EINVAL;
	if (ret == 0)
		ret = pread_full(fd, list, list_len + 4, table);
	if (ret == 0 && load_le32(list + list_len) != checksum(list, list_len))
		ret = -EINVAL;
	for (uint64_t i = 0; i < n && ret == 0; i++)
		ret = unpack_chunk(&u, r, map, i);
	return ret;
}
