/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/block/test_qcow2.c - qcow2 images against a model in memory
 */
#include "qcow2_test.h"

#include <errno.h>

#define DISK_SIZE (3u << 20)
#define SECTORS   (DISK_SIZE / 512)
#define LANES     8

static struct loop *l;

struct io {
	struct blk_req req;
	struct iovec iov[3];
	uint8_t *buf;
	bool over;
	int result;
};

static void io_done(struct blk_req *r, int result)
{
	struct io *io = container_of(r, struct io, req);

	CHECK(!io->over);
	io->over = true;
	io->result = result;
}

/* Lanes are interleaved by 3 sectors, so that requests of several are in one cluster at once. */
static void start(struct blk *b, struct io *io, unsigned int lane, uint8_t *model, uint64_t cs)
{
	static const enum blk_op ops[] = {BLK_READ,  BLK_READ,  BLK_READ,         BLK_WRITE,
					  BLK_WRITE, BLK_WRITE, BLK_WRITE_ZEROES, BLK_FLUSH};
	bool wide = test_random() % 4 == 0;
	uint64_t slots = SECTORS / (3 * LANES), first, n;

	if (wide) {
		/* A stretch of its own in the upper half. */
		first = SECTORS / 2 + lane * (SECTORS / 2 / LANES) + test_random() % 100;
		n = 1 + test_random() % (SECTORS / 2 / LANES - 101);
	} else {
		first = ((test_random() % slots / 2) * LANES + lane) * 3;
		n = 1 + test_random() % 3;
	}
	io->over = false;
	io->req = (struct blk_req){.op = ops[test_random() % ARRAY_SIZE(ops)],
				   .offset = first * 512,
				   .len = n * 512,
				   .done = io_done};
	if (wide && test_random() % 8 == 0)
		io->req.op = BLK_DISCARD;
	if (io->req.op == BLK_READ || io->req.op == BLK_WRITE) {
		uint64_t cut = test_random() % (io->req.len + 1);

		io->iov[0] = (struct iovec){io->buf, cut};
		io->iov[1] = (struct iovec){io->buf + cut, io->req.len - cut};
		io->req.iov = io->iov;
		io->req.n_iov = 2;
	}
	if (io->req.op == BLK_READ)
		memset(io->buf, 0x5a, io->req.len);
	if (io->req.op == BLK_WRITE) {
		for (uint64_t i = 0; i < io->req.len; i += 8)
			store_le64(io->buf + i, test_random());
		memcpy(model + io->req.offset, io->buf, io->req.len);
		io->req.flags = test_random() % 16 == 0 ? BLK_FUA : 0;
	} else if (io->req.op == BLK_WRITE_ZEROES) {
		memset(model + io->req.offset, 0, io->req.len);
		io->req.flags = test_random() % 2 ? BLK_UNMAP : 0;
	} else if (io->req.op == BLK_DISCARD) {
		uint64_t from = ALIGN_UP(io->req.offset, cs);
		uint64_t end = io->req.offset + io->req.len, to = ALIGN_DOWN(end, cs);

		if (end == DISK_SIZE)
			to = end;
		if (from < to)
			memset(model + from, 0, to - from);
	}
	blk_submit(b, &io->req);
}

static void against_model(struct blk *b, uint8_t *model, unsigned int rounds, uint64_t cs)
{
	static struct io ios[LANES];

	for (unsigned int i = 0; i < LANES; i++)
		ios[i].buf = aligned_alloc(4096, DISK_SIZE);
	for (unsigned int round = 0; round < rounds; round++) {
		for (unsigned int i = 0; i < LANES; i++)
			start(b, &ios[i], i, model, cs);
		if (round % 2) {
			blk_drain(b);
		} else {
			for (unsigned int i = 0; i < LANES; i++) {
				while (!ios[i].over)
					loop_once(l, 1000);
			}
		}
		for (unsigned int i = 0; i < LANES; i++) {
			const struct blk_req *r = &ios[i].req;

			CHECK(ios[i].over);
			CHECK_EQ(ios[i].result, 0);
			if (r->op == BLK_READ)
				CHECK(memcmp(ios[i].buf, model + r->offset, r->len) == 0);
		}
	}
	for (unsigned int i = 0; i < LANES; i++)
		free(ios[i].buf);
}

static void compare(struct blk *b, const uint8_t *model)
{
	uint8_t *buf = malloc(DISK_SIZE);

	CHECK_EQ(test_io(b, BLK_READ, 0, 0, buf, DISK_SIZE), 0);
	CHECK(memcmp(buf, model, DISK_SIZE) == 0);
	free(buf);
}

/* One kind of image: random requests, reopened now and then, then checked. */
static void one_kind(unsigned int version, unsigned int bits, int order, bool backing)
{
	struct qcow2_options o = {.size = DISK_SIZE,
				  .version = version,
				  .cluster_bits = bits,
				  .refcount_order = order,
				  .backing = backing ? "base" : NULL,
				  .backing_format = "raw"};
	uint8_t *model = calloc(1, DISK_SIZE), *base = calloc(1, DISK_SIZE);
	struct blk *file = fake_new(l, NULL, 0, NULL);
	struct err e = {0};

	for (uint64_t i = 0; i < DISK_SIZE && backing; i += 8)
		store_le64(base + i, test_random());
	/* Shorter than the disk: what is behind its end is zero. */
	memset(base + DISK_SIZE - 100 * 512, 0, 100 * 512);
	memcpy(model, base, DISK_SIZE);
	CHECK_EQ(qcow2_create(file, &o, &e), 0);
	for (unsigned int i = 0; i < 4; i++) {
		struct blk *b = test_open(file, 0, l), *next;
		const uint8_t *data;
		size_t len;

		if (backing) {
			struct blk *f = fake_new(l, base, DISK_SIZE - 100 * 512, NULL);

			f->info.size = DISK_SIZE - 100 * 512;
			qcow2_set_backing(b, f);
		}
		/* Version 2 cannot discard what the backing file has. */
		against_model(b, model, 60, version == 2 && backing ? DISK_SIZE * 2 : BIT(bits));
		compare(b, model);
		test_check(b, false);
		/* The file lives on in another node. */
		blk_drain(b);
		data = fake_data(file, &len);
		if (i % 2)
			CHECK_EQ(test_io(b, BLK_FLUSH, 0, 0, NULL, 0), 0);
		(void)data;
		next = fake_new(l, NULL, 0, NULL);
		{
			struct qcow2_check c;

			CHECK_EQ(qcow2_check(b, false, &c, &e), 0);
			data = fake_data(file, &len);
			CHECK_EQ(next->ops->sync->write(next, data, len, 0), 0);
		}
		blk_close(b);
		file = next;
	}
	blk_close(file);
	free(model);
	free(base);
}

/* Any one write or flush to the file fails: an error for somebody, no damage, and it goes on. */
static void faults(bool backing)
{
	struct qcow2_options o = {.size = DISK_SIZE,
				  .version = 3,
				  .cluster_bits = 12,
				  .refcount_order = 4,
				  .backing = backing ? "base" : NULL};
	uint8_t *buf = calloc(1, DISK_SIZE);
	unsigned int n = 0, errors;
	bool failed;

	do {
		struct blk *file = fake_new(l, NULL, 0, NULL), *b;
		struct err e = {0};

		CHECK_EQ(qcow2_create(file, &o, &e), 0);
		b = test_open(file, 0, l);
		if (backing) {
			struct blk *f = fake_new(l, buf, DISK_SIZE, NULL);

			f->info.size = DISK_SIZE;
			qcow2_set_backing(b, f);
		}
		fake_fail(file, ++n);
		errors = 0;
		for (unsigned int i = 0; i < 6; i++) {
			errors += test_io(b, BLK_WRITE, 0, i * 99 * 512, buf, 50 * 512) < 0;
			errors += qcow2_snapshot_create(b, i % 2 ? "a" : "b", NULL) < 0;
			errors += test_io(b, BLK_WRITE, BLK_FUA, i * 512, buf, 99 * 512) < 0;
			errors += test_io(b, BLK_DISCARD, 0, i * 8192, buf, 99 * 512) < 0;
			errors += test_io(b, BLK_FLUSH, 0, 0, NULL, 0) < 0;
			if (i == 3)
				errors += qcow2_resize(b, DISK_SIZE * 2, false, NULL) < 0;
			if (i == 4)
				errors += qcow2_snapshot_apply(b, "b", NULL) < 0;
			if (i == 5)
				errors += qcow2_snapshot_delete(b, "b", NULL) < 0;
		}
		failed = fake_failed(file);
		fake_fail(file, 0);
		/* Four snapshots have names that are there already. */
		CHECK(failed || errors == 4);
		test_check(b, true);
		CHECK_EQ(test_io(b, BLK_WRITE, BLK_FUA, 0, buf, 8192), 0);
		blk_close(b);
	} while (failed);
	CHECK(n > 50);
	free(buf);
}

/* Overlapping, truncated, absurd: what a header may not say. */
static void bad_header(unsigned int at, uint32_t value, const char *words)
{
	struct qcow2_options o = {.size = DISK_SIZE, .refcount_order = 4};
	struct blk *file = fake_new(l, NULL, 0, NULL), *b = NULL;
	uint32_t be = __builtin_bswap32(value);
	struct err e = {0};

	CHECK_EQ(qcow2_create(file, &o, &e), 0);
	CHECK_EQ(file->ops->sync->write(file, &be, 4, at), 0);
	CHECK(qcow2_new(file, "test", 0, l, &b, &e) < 0);
	if (!strstr(e.msg, words))
		fprintf(stderr, "%u = %u: %s\n", at, value, e.msg);
	CHECK(strstr(e.msg, words));
	blk_close(file);
}

static void bad_headers(void)
{
	bad_header(0, 0, "no qcow2 image");
	bad_header(4, 1, "version 1");
	bad_header(4, 4, "version 4");
	bad_header(20, 8, "cluster size");
	bad_header(20, 22, "cluster size");
	bad_header(28, DISK_SIZE + 1, "multiple of 512");
	bad_header(32, 1, "encrypted");
	bad_header(36, 0, "L1 table is too small");
	bad_header(36, (4u << 20) + 1, "L1 table is too large");
	bad_header(44, 512, "L1 table's offset");
	bad_header(44, 65536, "overlaps"); /* where the refcount table is */
	bad_header(52, 0, "refcount table's offset");
	bad_header(56, 0, "refcount table's size");
	bad_header(56, 129, "refcount table's size");
	bad_header(60, 65537, "too many snapshots");
	bad_header(76, 1u << 2, "data file");
	bad_header(76, 1u << 4, "subclusters");
	bad_header(76, 1u << 5, "unknown incompatible features");
	bad_header(76, 1u << 3, "compression type");
	bad_header(76, 1u << 1, "corrupt");
	bad_header(96, 7, "64 bits");
	bad_header(100, 65544, "header length");
	bad_header(100, 96, "header length");
}

int main(void)
{
	struct err e = {0};

	CHECK_EQ(loop_new(&l, &e), 0);
	faults(false);
	faults(true);
	bad_headers();
	for (unsigned int bits = 9; bits <= 21; bits += bits < 12 ? 1 : 4) {
		one_kind(3, bits, 4, false);
		one_kind(2, bits, 4, true);
		one_kind(3, bits, bits % 7, true);
	}
	loop_free(l);
	return 0;
}
