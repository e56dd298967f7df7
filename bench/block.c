/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench/block.c - requests to a disk as `qemu-img bench` makes them; bench/qcow2 runs both
 *
 *	bench_block FILE raw|qcow2 direct|cached read|write COUNT DEPTH SIZE STEP
 *
 * Request i of SIZE bytes is at (i * STEP) modulo the disk's size; DEPTH are in flight.  Prints the
 * seconds from the first request to the last one's end.
 */
#include "block/block.h"
#include "base/clock.h"

#include <stdio.h>

struct bench;

struct slot {
	struct blk_req req;
	struct iovec iov;
	struct bench *bench;
};

struct bench {
	struct loop *loop;
	struct blk *blk;
	uint64_t count, size, step, started, finished, next;
	enum blk_op op;
	int error;
};

static void on_done(struct blk_req *r, int result);

static void start(struct slot *s)
{
	struct bench *b = s->bench;

	s->req = (struct blk_req){.op = b->op,
				  .offset = b->next,
				  .len = b->size,
				  .iov = &s->iov,
				  .n_iov = 1,
				  .done = on_done};
	b->started++;
	b->next = (b->next + b->step) % blk_info(b->blk)->size;
	if (b->next + b->size > blk_info(b->blk)->size)
		b->next = 0;
	blk_submit(b->blk, &s->req);
}

static void on_done(struct blk_req *r, int result)
{
	struct slot *s = container_of(r, struct slot, req);
	struct bench *b = s->bench;

	if (result < 0)
		b->error = result;
	b->finished++;
	if (b->started < b->count)
		start(s);
}

int main(int argc, char **argv)
{
	struct blk_spec spec = {0};
	struct bench b = {0};
	struct err e = {0};
	struct slot *slots;
	uint64_t depth, t;

	if (argc != 9) {
		fprintf(stderr, "Usage: bench_block FILE raw|qcow2 direct|cached read|write COUNT "
				"DEPTH SIZE STEP\n");
		return 2;
	}
	spec.path = argv[1];
	spec.format = argv[2];
	spec.cached = strcmp(argv[3], "cached") == 0;
	b.op = strcmp(argv[4], "read") == 0 ? BLK_READ : BLK_WRITE;
	b.count = strtoull(argv[5], NULL, 10);
	depth = MIN(strtoull(argv[6], NULL, 10), b.count);
	b.size = strtoull(argv[7], NULL, 10);
	b.step = strtoull(argv[8], NULL, 10);
	if (loop_new(&b.loop, &e) < 0 || blk_open(&spec, b.loop, &b.blk, &e) < 0) {
		fprintf(stderr, "%s\n", e.msg);
		return 1;
	}
	slots = xcalloc(depth, sizeof(*slots));
	for (uint64_t i = 0; i < depth; i++) {
		slots[i].bench = &b;
		slots[i].iov.iov_len = b.size;
		if (posix_memalign(&slots[i].iov.iov_base, 4096, b.size) != 0)
			return 1;
		memset(slots[i].iov.iov_base, 0x5a, b.size);
	}
	t = clock_now();
	for (uint64_t i = 0; i < depth; i++)
		start(&slots[i]);
	while (b.finished < b.count)
		loop_once(b.loop, -1);
	t = clock_now() - t;
	printf("%.4f\n", (double)t / 1e9);
	blk_close(b.blk);
	loop_free(b.loop);
	if (b.error)
		fprintf(stderr, "%s: %s\n", argv[1], strerror(-b.error));
	return b.error ? 1 : 0;
}
