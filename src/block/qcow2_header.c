/* SPDX-License-Identifier: Apache-2.0 */
/*
 * block/qcow2_header.c - the first cluster of an image
 *
 * Nothing of it is believed before it is checked here.  Extensions that we do not know stay where
 * they are, since only single fields are ever patched; the patched fields lie in the first sector,
 * which is written as a whole.
 */
#include "block/disk.h"
#include "block/qcow2_priv.h"

#include "base/fd.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

static int bad(struct err *e, const char *what, uint64_t value)
{
	return err_msg(e, -EINVAL, "qcow2: %s (0x%llx)", what, (unsigned long long)value);
}

static bool is_aligned(const struct q_header *h, uint64_t off)
{
	return !(off & (BIT(h->cluster_bits) - 1));
}

static bool table_ok(const struct q_header *h, uint64_t off, uint64_t bytes)
{
	return is_aligned(h, off) && off && range_ok(off, bytes, Q_MAX_OFFSET);
}

static int read_v3(const uint8_t *p, size_t len, struct q_header *h, struct err *e)
{
	if (h->version < 3) {
		h->refcount_order = 4;
		h->length = Q_H_V2_LENGTH;
		return 0;
	}
	if (len < Q_H_V3_LENGTH)
		return bad(e, "file ends in the header", len);
	h->incompat = load_be64(p + Q_H_INCOMPAT);
	h->compat = load_be64(p + Q_H_COMPAT);
	h->autoclear = load_be64(p + Q_H_AUTOCLEAR);
	h->refcount_order = load_be32(p + Q_H_REFCOUNT_ORDER);
	h->length = load_be32(p + Q_H_LENGTH);
	if (h->length < Q_H_V3_LENGTH || h->length % 8 || h->length > BIT(h->cluster_bits) ||
	    h->length > len)
		return bad(e, "header length is wrong", h->length);
	if (h->refcount_order > 6)
		return bad(e, "refcounts wider than 64 bits", h->refcount_order);
	if (h->length > Q_H_COMPRESSION) {
		if (p[Q_H_COMPRESSION] > QCOW2_ZSTD)
			return bad(e, "unknown compression", p[Q_H_COMPRESSION]);
		h->compression = (enum qcow2_compression)p[Q_H_COMPRESSION];
	}
	if ((h->compression != QCOW2_ZLIB) != !!(h->incompat & Q_INCOMPAT_COMPRESSION))
		return bad(e, "compression type and its feature bit disagree", h->compression);
	return 0;
}

static int check_features(const struct q_header *h, struct err *e)
{
	uint64_t unknown = h->incompat & ~Q_INCOMPAT_KNOWN;

	if (h->incompat & Q_INCOMPAT_DATA_FILE)
		return err_msg(e, -ENOTSUP,
			       "qcow2: images with an external data file are not "
			       "supported");
	if (h->incompat & Q_INCOMPAT_EXTENDED_L2)
		return err_msg(e, -ENOTSUP,
			       "qcow2: images with subclusters (extended L2 entries) "
			       "are not supported; convert without extended_l2");
	if (unknown)
		return err_msg(e, -ENOTSUP, "qcow2: unknown incompatible features 0x%llx",
			       (unsigned long long)unknown);
	return 0;
}

static int check_tables(const struct q_header *h, struct err *e)
{
	uint64_t per_l1 = BIT(2 * h->cluster_bits - 3);

	if (h->size > INT64_MAX || h->size % 512)
		return bad(e, "disk size is not a multiple of 512 bytes", h->size);
	if (h->l1_size > Q_MAX_L1_ENTRIES)
		return bad(e, "L1 table is too large", h->l1_size);
	if (h->l1_size < (h->size + per_l1 - 1) / per_l1)
		return bad(e, "L1 table is too small for the disk", h->l1_size);
	if (h->l1_size && !table_ok(h, h->l1_offset, h->l1_size * UINT64_C(8)))
		return bad(e, "L1 table's offset is wrong", h->l1_offset);
	if (!h->rt_clusters || (uint64_t)h->rt_clusters << h->cluster_bits > Q_MAX_TABLE_BYTES)
		return bad(e, "refcount table's size is wrong", h->rt_clusters);
	if (!table_ok(h, h->rt_offset, (uint64_t)h->rt_clusters << h->cluster_bits))
		return bad(e, "refcount table's offset is wrong", h->rt_offset);
	if (h->n_snapshots > Q_MAX_SNAPSHOTS)
		return bad(e, "too many snapshots", h->n_snapshots);
	if (h->n_snapshots && !table_ok(h, h->snapshots_offset, 512))
		return bad(e, "snapshot table's offset is wrong", h->snapshots_offset);
	return 0;
}

static char *copy_text(const uint8_t *p, size_t len)
{
	char *s = xcalloc(1, len + 1);

	memcpy(s, p, len);
	return s;
}

static int read_bitmaps(const uint8_t *p, uint32_t len, struct q_header *h, struct err *e)
{
	/* Without the bit, somebody wrote to the disk who knew no bitmaps: they are void. */
	if (!(h->autoclear & Q_AUTOCLEAR_BITMAPS))
		return 0;
	if (len != 24)
		return bad(e, "bitmaps extension has a wrong size", len);
	h->n_bitmaps = load_be32(p);
	h->bitmaps_size = load_be64(p + 8);
	h->bitmaps_offset = load_be64(p + 16);
	if (!h->n_bitmaps || h->n_bitmaps > Q_MAX_BITMAPS)
		return bad(e, "number of bitmaps is wrong", h->n_bitmaps);
	if (h->bitmaps_size > UINT64_C(65535) * 1024 * 64 ||
	    !table_ok(h, h->bitmaps_offset, h->bitmaps_size))
		return bad(e, "bitmap directory's place is wrong", h->bitmaps_offset);
	return 0;
}

static int read_extensions(const uint8_t *p, size_t len, uint64_t end, struct q_header *h,
			   struct err *e)
{
	uint64_t at = h->length;

	end = MIN(end, (uint64_t)len);
	end = MIN(end, BIT(h->cluster_bits));
	while (at + 8 <= end) {
		uint32_t type = load_be32(p + at), size = load_be32(p + at + 4);
		int r = 0;

		at += 8;
		if (type == Q_EXT_END)
			break;
		if (size > end - at)
			return bad(e, "header extension is too long", type);
		if (type == Q_EXT_BACKING_FORMAT && !h->backing_format)
			h->backing_format = copy_text(p + at, MIN(size, 63u));
		else if (type == Q_EXT_BITMAPS)
			r = read_bitmaps(p + at, size, h, e);
		if (r < 0)
			return r;
		at += ALIGN_UP((uint64_t)size, 8);
	}
	return 0;
}

static int read_fields(const uint8_t *p, size_t len, struct q_header *h, struct err *e)
{
	if (len < Q_H_V2_LENGTH || load_be32(p) != Q_MAGIC)
		return err_msg(e, -EINVAL, "this is no qcow2 image");
	h->version = load_be32(p + 4);
	if (h->version != 2 && h->version != 3)
		return err_msg(e, -ENOTSUP, "qcow2: version %u is not supported, only 2 and 3",
			       h->version);
	h->cluster_bits = load_be32(p + 20);
	if (h->cluster_bits < Q_MIN_CLUSTER_BITS || h->cluster_bits > Q_MAX_CLUSTER_BITS)
		return bad(e, "cluster size is not within 512 bytes and 2 MiB", h->cluster_bits);
	if (load_be32(p + 32))
		return err_msg(e, -ENOTSUP, "qcow2: encrypted images are not supported");
	h->size = load_be64(p + Q_H_SIZE);
	h->l1_size = load_be32(p + Q_H_L1_SIZE);
	h->l1_offset = load_be64(p + Q_H_L1_OFFSET);
	h->rt_offset = load_be64(p + Q_H_RT_OFFSET);
	h->rt_clusters = load_be32(p + Q_H_RT_CLUSTERS);
	h->n_snapshots = load_be32(p + Q_H_N_SNAPSHOTS);
	h->snapshots_offset = load_be64(p + Q_H_SNAPSHOTS_OFFSET);
	return 0;
}

int q_header_parse(const uint8_t *p, size_t len, struct q_header *ret, struct err *e)
{
	struct q_header h = {0};
	uint64_t backing = 0;
	uint32_t backing_len = 0;
	int r = read_fields(p, len, &h, e);

	/* Features first: with one that we do not know, other fields may mean something else. */
	if (r == 0)
		r = read_v3(p, len, &h, e);
	if (r == 0)
		r = check_features(&h, e);
	if (r == 0)
		r = check_tables(&h, e);
	if (r == 0) {
		backing = load_be64(p + Q_H_BACKING_OFFSET);
		backing_len = load_be32(p + Q_H_BACKING_SIZE);
		if (backing && backing_len) {
			if (backing_len > Q_MAX_NAME || backing < h.length ||
			    !range_ok(backing, backing_len,
				      MIN((uint64_t)len, BIT(h.cluster_bits))))
				r = bad(e, "backing file's name lies outside of the header",
					backing);
			else
				h.backing = copy_text(p + backing, backing_len);
		}
	}
	if (r == 0)
		r = read_extensions(p, len, h.backing ? backing : UINT64_MAX, &h, e);
	if (r < 0) {
		q_header_fini(&h);
		return r;
	}
	*ret = h;
	return 0;
}

void q_header_fini(struct q_header *h)
{
	free(h->backing);
	free(h->backing_format);
	h->backing = h->backing_format = NULL;
}

void q_head_set32(struct qcow2 *q, unsigned int at, uint32_t v)
{
	store_be32(q->head + at, v);
}

void q_head_set64(struct qcow2 *q, unsigned int at, uint64_t v)
{
	store_be64(q->head + at, v);
}

int q_head_write(struct qcow2 *q)
{
	int r = q_pwrite(q, q->head, sizeof(q->head), 0);

	if (r == 0)
		r = q_sync(q);
	if (r == 0)
		memcpy(q->head_safe, q->head, sizeof(q->head));
	else
		memcpy(q->head, q->head_safe, sizeof(q->head));
	return r;
}

void q_mark_corrupt(struct qcow2 *q, const char *what, uint64_t offset)
{
	if (__atomic_exchange_n(&q->corrupt, true, __ATOMIC_RELAXED))
		return;
	log_error("disk '%s': qcow2: %s (0x%llx); no more writes, repair it with `insula disk "
		  "check --repair`",
		  q->name, what, (unsigned long long)offset);
}

int qcow2_read_backing(const char *path, char **ret, bool *qcow2, struct err *e)
{
	size_t room = (size_t)1 << Q_MAX_CLUSTER_BITS;
	autofree uint8_t *head = calloc(1, room);
	autoclose int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct q_header h = {0};
	ssize_t n;
	int r;

	if (!head || fd < 0)
		return err_set(e, fd < 0 ? -errno : -ENOMEM, "disk '%s'", path);
	n = pread(fd, head, room, 0);
	if (n < 0)
		return err_set(e, -errno, "disk '%s'", path);
	r = q_header_parse(head, (size_t)n, &h, e);
	if (r < 0)
		return err_wrap(e, r, "disk '%s'", path);
	*ret = steal_ptr(&h.backing);
	*qcow2 = *ret && strcmp(disk_format(*ret, h.backing_format), "qcow2") == 0;
	q_header_fini(&h);
	return 0;
}

int qcow2_rename_backing(const char *path, const char *backing, struct err *e)
{
	autoclose int fd = open(path, O_RDWR | O_CLOEXEC);
	uint8_t p[Q_H_BACKING_SIZE + 4];
	uint64_t at, room = 65536;
	size_t len = strlen(backing);
	int r = fd < 0 ? -errno : pread_full(fd, p, sizeof(p), 0);

	if (r < 0)
		return err_set(e, r, "%s", path);
	at = load_be64(p + Q_H_BACKING_OFFSET);
	/* It is the last thing in the first cluster (qcow2_create.c). */
	if (!at || len > Q_MAX_NAME || !range_ok(at, len, room))
		return err_msg(e, -EINVAL, "%s: there is no room for the name of its backing file",
			       path);
	store_be32(p + Q_H_BACKING_SIZE, (uint32_t)len);
	r = pwrite_full(fd, backing, len, at);
	if (r == 0)
		r = pwrite_full(fd, p + Q_H_BACKING_SIZE, 4, Q_H_BACKING_SIZE);
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	return r < 0 ? err_set(e, r, "%s", path) : 0;
}
