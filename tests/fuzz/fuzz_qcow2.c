/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/fuzz/fuzz_qcow2.c - mutilated qcow2 images: open, check, read, write, snapshots, repair
 *
 * The image is a small one with all that there may be in it: snapshots, compressed, zero and shared
 * clusters, a backing file.  The input changes bytes of its header and tables, then says what is
 * done with it.  Any answer will do, as long as it comes: nothing outside of the buffers is
 * touched, and no number in the file makes us loop or allocate without bound.
 */
#include "fuzz.h"

#include "block/qcow2.h"

#include <assert.h>
#include <errno.h>

#define DISK      (1u << 20)
#define FILE_MAX  (4u << 20)
#define MAX_STEPS 12

static struct loop *loop;

/* --- the file: memory that ends --- */

struct file {
	struct blk blk;
	uint8_t *data;
	size_t len;
	uint64_t budget; /* bytes that may still be moved: an endless loop ends in an assertion */
};

static struct file *file_of(struct blk *b)
{
	return container_of(b, struct file, blk);
}

static void spend(struct file *f, uint64_t n)
{
	assert(f->budget > n);
	f->budget -= n;
}

static int file_read(struct blk *b, void *buf, size_t len, uint64_t off)
{
	struct file *f = file_of(b);
	size_t n = off < f->len ? MIN(len, f->len - off) : 0;

	spend(f, len + 100);
	if (n)
		memcpy(buf, f->data + off, n);
	memset((char *)buf + n, 0, len - n);
	return 0;
}

static int file_write(struct blk *b, const void *buf, size_t len, uint64_t off)
{
	struct file *f = file_of(b);

	spend(f, len + 100);
	if (off > FILE_MAX || len > FILE_MAX - off)
		return -ENOSPC;
	memcpy(f->data + off, buf, len);
	f->len = MAX(f->len, off + len);
	return 0;
}

static int file_flush(struct blk *b)
{
	return 0;
}

static int file_size(struct blk *b, uint64_t *ret)
{
	*ret = file_of(b)->len;
	return 0;
}

static int file_truncate(struct blk *b, uint64_t size)
{
	file_of(b)->len = MIN(size, (uint64_t)FILE_MAX);
	return 0;
}

static void file_punch(struct blk *b, uint64_t off, uint64_t len)
{
}

static const struct blk_sync_ops sync_ops = {
    .read = file_read,
    .write = file_write,
    .flush = file_flush,
    .size = file_size,
    .truncate = file_truncate,
    .extend = file_truncate,
    .punch = file_punch,
};

static void file_submit(struct blk *b, struct blk_req *r)
{
	uint64_t off = r->offset;
	int result = 0;

	for (unsigned int i = 0; i < r->n_iov && result == 0; i++) {
		result = r->op == BLK_READ
			     ? file_read(b, r->iov[i].iov_base, r->iov[i].iov_len, off)
			     : file_write(b, r->iov[i].iov_base, r->iov[i].iov_len, off);
		off += r->iov[i].iov_len;
	}
	blk_complete_later(b, r, result);
}

static void file_poll(struct blk *b, int timeout_ms)
{
}

static void file_close(struct blk *b)
{
	blk_fini(b);
	free(file_of(b)->data);
	free(file_of(b));
}

static const struct blk_ops file_ops = {
    .name = "memory",
    .submit = file_submit,
    .poll = file_poll,
    .close = file_close,
    .sync = &sync_ops,
};

static struct blk *file_new(const uint8_t *data, size_t len)
{
	struct file *f = xnew(struct file);

	blk_init(&f->blk, &file_ops, loop);
	f->data = calloc(1, FILE_MAX);
	assert(f->data);
	if (len)
		memcpy(f->data, data, len);
	f->len = len;
	f->budget = UINT64_C(1) << 31;
	f->blk.info.size = INT64_MAX;
	f->blk.info.block_size = 1;
	return &f->blk;
}

/* --- requests --- */

struct once {
	struct blk_req req;
	int result;
};

static void once_done(struct blk_req *r, int result)
{
	container_of(r, struct once, req)->result = result;
}

static int run(struct blk *b, enum blk_op op, uint64_t off, uint64_t len, uint8_t *buf)
{
	struct iovec iov = {buf, len};
	struct once o = {.req = {.op = op,
				 .offset = off,
				 .len = len,
				 .iov = &iov,
				 .n_iov = op == BLK_READ || op == BLK_WRITE,
				 .done = once_done}};

	blk_submit(b, &o.req);
	blk_drain(b);
	return o.result;
}

/* --- seeds --- */

#define N_SEEDS 4

static struct {
	uint8_t *data;
	size_t len;
	bool backing;
} seeds[N_SEEDS];

static void make_seed(unsigned int i, struct qcow2_options o)
{
	static uint8_t buf[DISK];
	struct blk *file = file_new(NULL, 0), *b = NULL;

	o.size = DISK;
	for (size_t k = 0; k < DISK; k++)
		buf[k] = (uint8_t)(k >> 8);
	assert(qcow2_create(file, &o, NULL) == 0);
	assert(qcow2_new(file, "seed", 0, loop, &b, NULL) == 0);
	assert(run(b, BLK_WRITE, 0, DISK / 4, buf) == 0);
	assert(qcow2_write_packed(b, DISK / 2, buf, (size_t)1 << o.cluster_bits) == 0);
	assert(qcow2_snapshot_create(b, "one", NULL) == 0);
	assert(run(b, BLK_WRITE, DISK / 8, DISK / 4, buf) == 0);
	assert(run(b, BLK_WRITE_ZEROES, DISK / 16, DISK / 16, NULL) == 0);
	assert(qcow2_snapshot_create(b, "two", NULL) == 0);
	assert(run(b, BLK_DISCARD, DISK / 4, DISK / 16, NULL) == 0);
	assert(run(b, BLK_FLUSH, 0, 0, NULL) == 0);
	assert(run(b, BLK_FLUSH, 0, 0, NULL) == 0);
	seeds[i].len = file_of(file)->len;
	seeds[i].data = malloc(seeds[i].len);
	memcpy(seeds[i].data, file_of(file)->data, seeds[i].len);
	seeds[i].backing = o.backing;
	blk_close(b);
}

static void make_seeds(void)
{
	struct qcow2_options o = {.version = 3, .cluster_bits = 12, .refcount_order = 4};

	assert(loop_new(&loop, NULL) == 0);
	make_seed(0, o);
	o.version = 2;
	o.backing = "base";
	make_seed(1, o);
	o.version = 3;
	o.compression = QCOW2_ZSTD;
	o.cluster_bits = 9;
	o.refcount_order = 3;
	make_seed(2, o);
	o.cluster_bits = 16;
	o.refcount_order = 6;
	make_seed(3, o);
}

/* Header and tables lie in front; a cluster of the seed's data in between does no harm. */
static void mutilate(struct fuzz_input *in, uint8_t *image, size_t len)
{
	unsigned int n = fuzz_u8(in) % 16;

	for (unsigned int i = 0; i < n; i++) {
		uint64_t at = fuzz_u8(in) | (uint64_t)fuzz_u8(in) << 8;
		uint8_t how = fuzz_u8(in), v = fuzz_u8(in);

		/* The header more often than all else. */
		if (how & 1)
			at %= 128;
		else
			at = at << (how >> 1 & 3) | (how >> 5);
		if (at >= len)
			continue;
		if (how & 16)
			image[at] ^= (uint8_t)(1u << (v & 7));
		else
			image[at] = v;
	}
}

static void step(struct fuzz_input *in, struct blk *b, uint8_t *buf)
{
	static const char *const names[] = {"one", "two", "3", "new"};
	uint64_t size = blk_info(b)->size, off, len = (1 + fuzz_u8(in) % 64) * 512;
	const char *name = names[fuzz_u8(in) % 4];
	struct qcow2_check c;
	struct qcow2_bitmap map;

	off = (fuzz_u8(in) | (uint64_t)fuzz_u8(in) << 8) * 512 % MAX(size, UINT64_C(512));
	off = size > len ? MIN(off, size - len) & ~UINT64_C(511) : 0;
	len = MIN(len, size);
	switch (fuzz_u8(in) % 12) {
	case 0:
		(void)!qcow2_snapshot_create(b, name, NULL);
		break;
	case 1:
		(void)!qcow2_snapshot_apply(b, name, NULL);
		break;
	case 2:
		(void)!qcow2_snapshot_delete(b, name, NULL);
		break;
	case 3:
		(void)!qcow2_check(b, true, &c, NULL);
		break;
	case 4:
		(void)!qcow2_resize(b, MIN(size, (uint64_t)DISK) + len, fuzz_u8(in) & 1, NULL);
		break;
	case 5:
		if (qcow2_bitmap_get(b, 0, &map, NULL) == 0)
			free(map.name);
		break;
	case 6:
		(void)run(b, BLK_DISCARD, off, len, buf);
		break;
	case 7:
		(void)run(b, BLK_WRITE_ZEROES, off, len, buf);
		break;
	case 8:
		(void)run(b, BLK_FLUSH, 0, 0, NULL);
		break;
	case 9:
	case 10:
		(void)run(b, BLK_WRITE, off, len, buf);
		break;
	default:
		(void)run(b, BLK_READ, off, len, buf);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, size};
	static uint8_t buf[DISK];
	struct qcow2_check c;
	struct blk *file, *b;
	unsigned int i, flags;

	if (!loop)
		make_seeds();
	i = fuzz_u8(&in) % N_SEEDS;
	flags = fuzz_u8(&in) % 4;
	file = file_new(seeds[i].data, seeds[i].len);
	mutilate(&in, file_of(file)->data, seeds[i].len);
	if (qcow2_new(file, "fuzz", flags, loop, &b, NULL) < 0) {
		blk_close(file);
		return 0;
	}
	if (seeds[i].backing) {
		struct blk *base = file_new(buf, sizeof(buf) / 2);

		base->info.size = sizeof(buf) / 2;
		qcow2_set_backing(b, base);
	}
	(void)!qcow2_check(b, false, &c, NULL);
	(void)run(b, BLK_READ, 0, MIN(blk_info(b)->size, (uint64_t)sizeof(buf)), buf);
	for (unsigned int n = 0; n < MAX_STEPS && in.len; n++)
		step(&in, b, buf);
	blk_close(b);
	return 0;
}
