/* SPDX-License-Identifier: Apache-2.0 */
/*
 * block/qcow2_codec.c - compressed clusters: raw deflate, or one zstd frame
 *
 * The entry tells in how many sectors the data ends, not where: what follows it is somebody else's.
 */
#include "block/qcow2_priv.h"

#include <errno.h>
#include <zlib.h>
#include <zstd.h>

static int inflate_cluster(const uint8_t *src, size_t n, uint8_t *dst, size_t size)
{
	z_stream z = {
	    .next_in = (uint8_t *)(uintptr_t)src,
	    .avail_in = (uInt)n,
	    .next_out = dst,
	    .avail_out = (uInt)size,
	};
	int r;

	if (inflateInit2(&z, -15) != Z_OK)
		return -ENOMEM;
	r = inflate(&z, Z_FINISH);
	inflateEnd(&z);
	/* Z_BUF_ERROR: the cluster is full, and the stream's end was cut off behind it. */
	return (r == Z_STREAM_END || r == Z_BUF_ERROR) && !z.avail_out ? 0 : -EIO;
}

static int unzstd_cluster(const uint8_t *src, size_t n, uint8_t *dst, size_t size)
{
	ZSTD_inBuffer in = {src, n, 0};
	ZSTD_outBuffer out = {dst, size, 0};
	ZSTD_DCtx *ctx = ZSTD_createDCtx();
	int r = ctx ? 0 : -ENOMEM;

	while (r == 0 && out.pos < out.size) {
		size_t in_before = in.pos, out_before = out.pos;
		size_t left = ZSTD_decompressStream(ctx, &out, &in);

		/* An end that is no end of the cluster, or no progress: broken. */
		if (ZSTD_isError(left) || (!left && out.pos < out.size) ||
		    (in.pos == in_before && out.pos == out_before))
			r = -EIO;
	}
	ZSTD_freeDCtx(ctx);
	return r;
}

int q_unpack(const struct qcow2 *q, const uint8_t *src, size_t n, uint8_t *dst)
{
	return q->h.compression == QCOW2_ZSTD ? unzstd_cluster(src, n, dst, q->cluster_size)
					      : inflate_cluster(src, n, dst, q->cluster_size);
}

/* A window of 4 KiB, which is what every reader of the format has. */
static size_t deflate_cluster(const uint8_t *src, size_t size, uint8_t *dst, size_t room)
{
	z_stream z = {
	    .next_in = (uint8_t *)(uintptr_t)src,
	    .avail_in = (uInt)size,
	    .next_out = dst,
	    .avail_out = (uInt)room,
	};
	int r;

	if (deflateInit2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -12, 9, Z_DEFAULT_STRATEGY) != Z_OK)
		return 0;
	r = deflate(&z, Z_FINISH);
	deflateEnd(&z);
	return r == Z_STREAM_END ? room - z.avail_out : 0;
}

size_t q_pack(const struct qcow2 *q, const uint8_t *src, uint8_t *dst, size_t room)
{
	size_t n;

	if (q->h.compression == QCOW2_ZLIB)
		return deflate_cluster(src, q->cluster_size, dst, room);
	n = ZSTD_compress(dst, room, src, q->cluster_size, ZSTD_CLEVEL_DEFAULT);
	return ZSTD_isError(n) ? 0 : n;
}

int q_packed_read(struct qcow2 *q, const struct q_entry *en, const uint8_t **ret)
{
	/* The longest that an entry can say. */
	size_t room = (size_t)512 << (q->h.cluster_bits - 8);
	bool known;
	int r;

	if (!q->zbuf)
		q->zbuf = malloc(q->cluster_size);
	if (!q->cbuf)
		q->cbuf = malloc(room);
	if (!q->zbuf || !q->cbuf)
		return -ENOMEM;
	*ret = q->zbuf;
	pthread_mutex_lock(&q->lock);
	known = q->zentry == en->raw;
	q->zentry = 0;
	pthread_mutex_unlock(&q->lock);
	r = known ? 0 : q_pread(q, q->cbuf, en->packed_size, en->host);
	if (r == 0 && !known)
		r = q_unpack(q, q->cbuf, en->packed_size, q->zbuf);
	if (r < 0)
		return r;
	pthread_mutex_lock(&q->lock);
	q->zentry = en->raw;
	pthread_mutex_unlock(&q->lock);
	return 0;
}
