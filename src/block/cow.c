/* SPDX-License-Identifier: Apache-2.0 */
/*
 * block/cow.c - a private top over a read-only base
 *
 * One bit a sector says who holds it: 0 the base, 1 the top.  At sector granularity no write ever
 * has to fetch the rest of a larger unit from the base; the map costs 256 KiB a GiB of disk, and
 * only where it was touched.  A discarded or zeroed range is a hole in the top.
 *
 *	read [a, e)     base  top  top  base          runs of equal bits, a sub-request each
 *	                 a     b         c    e
 *
 * Bits are set when the write has succeeded, before its done(): whoever heard of the write sees it.
 */
#include "block/block.h"
#include "block/node_priv.h"

#include <errno.h>

#define SECTOR    512
#define RUNS_MAX  32 /* in flight at once; a read of more runs goes in several rounds */
#define WORD_BITS 64

struct cow {
	struct blk blk;
	struct blk *base, *top;
	pthread_mutex_t lock; /* map */
	uint64_t *map;
};

struct cow_io;

struct cow_part {
	struct blk_req req;
	struct cow_io *io;
};

struct cow_io {
	struct cow *cow;
	struct blk_req *req;
	uint64_t pos; /* bytes handed out so far */
	_Atomic unsigned int left;
	_Atomic int error;
	unsigned int max_parts;
	struct iovec *iov; /* n_iov + max_parts */
	struct cow_part parts[];
};

static void map_set(struct cow *c, uint64_t first, uint64_t end)
{
	pthread_mutex_lock(&c->lock);
	while (first < end) {
		unsigned int bit = first % WORD_BITS;
		uint64_t n = MIN(end - first, (uint64_t)(WORD_BITS - bit));
		uint64_t mask = n == WORD_BITS ? UINT64_MAX : (BIT(n) - 1) << bit;

		c->map[first / WORD_BITS] |= mask;
		first += n;
	}
	pthread_mutex_unlock(&c->lock);
}

/* End of the run of equal bits that starts at @first; lock held. */
static uint64_t map_run(const struct cow *c, uint64_t first, uint64_t end, bool *in_top)
{
	uint64_t at = first;

	*in_top = c->map[first / WORD_BITS] >> (first % WORD_BITS) & 1;
	while (at < end) {
		unsigned int bit = at % WORD_BITS;
		uint64_t word = c->map[at / WORD_BITS];
		uint64_t other = (*in_top ? ~word : word) >> bit;

		if (other)
			return MIN(end, at + (unsigned int)__builtin_ctzll(other));
		at += WORD_BITS - bit;
	}
	return end;
}

static unsigned int count_runs(struct cow *c, const struct blk_req *r)
{
	uint64_t at = r->offset / SECTOR, end = (r->offset + r->len) / SECTOR;
	unsigned int n = 0;
	bool in_top;

	pthread_mutex_lock(&c->lock);
	for (; at < end && n < RUNS_MAX; n++)
		at = map_run(c, at, end, &in_top);
	pthread_mutex_unlock(&c->lock);
	return n;
}

static void io_finish(struct cow_io *io)
{
	struct blk *b = &io->cow->blk;
	struct blk_req *r = io->req;
	int error = io->error;

	free(io->iov);
	free(io);
	blk_complete(b, r, error);
}

static unsigned int slice(struct iovec *dst, const struct blk_req *r, uint64_t off, uint64_t len)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < r->n_iov && len; i++) {
		size_t part;

		if (off >= r->iov[i].iov_len) {
			off -= r->iov[i].iov_len;
			continue;
		}
		part = (size_t)MIN(r->iov[i].iov_len - off, len);
		dst[n++] = (struct iovec){(char *)r->iov[i].iov_base + off, part};
		len -= part;
		off = 0;
	}
	return n;
}

static void read_round(struct cow_io *io);

static void read_part_done(struct blk_req *sub, int result)
{
	struct cow_io *io = container_of(sub, struct cow_part, req)->io;

	if (result < 0)
		io->error = result;
	if (--io->left)
		return;
	if (io->pos < io->req->len && !io->error)
		read_round(io);
	else
		io_finish(io);
}

/*
 * Plan up to max_parts runs under the lock, then send them.  The last part that completes, in
 * whatever thread, frees @io or starts the next round: it is not to be touched after the sending.
 */
static void read_round(struct cow_io *io)
{
	struct cow *c = io->cow;
	const struct blk_req *r = io->req;
	struct iovec *iov = io->iov;
	uint64_t end = (r->offset + r->len) / SECTOR;
	bool top[RUNS_MAX];
	unsigned int n = 0;

	pthread_mutex_lock(&c->lock);
	for (; n < io->max_parts && io->pos < r->len; n++) {
		struct blk_req *sub = &io->parts[n].req;
		uint64_t at = (r->offset + io->pos) / SECTOR;

		io->parts[n].io = io;
		*sub = (struct blk_req){.op = BLK_READ, .offset = at * SECTOR, .iov = iov};
		sub->len = (map_run(c, at, end, &top[n]) - at) * SECTOR;
		sub->n_iov = slice(iov, r, io->pos, sub->len);
		sub->done = read_part_done;
		iov += sub->n_iov;
		io->pos += sub->len;
	}
	pthread_mutex_unlock(&c->lock);
	io->left = n;
	for (unsigned int i = 0; i < n; i++)
		blk_submit(top[i] ? c->top : c->base, &io->parts[i].req);
}

static void cow_read(struct cow *c, struct blk_req *r)
{
	unsigned int runs = count_runs(c, r);
	struct cow_io *io = calloc(1, sizeof(*io) + runs * sizeof(io->parts[0]));

	if (io)
		io->iov = calloc(r->n_iov + runs, sizeof(*io->iov));
	if (!io || !io->iov) {
		free(io);
		blk_complete_later(&c->blk, r, -ENOMEM);
		return;
	}
	io->cow = c;
	io->req = r;
	io->max_parts = runs;
	read_round(io);
}

static void write_done(struct blk_req *sub, int result)
{
	struct cow_io *io = container_of(sub, struct cow_part, req)->io;

	if (result == 0)
		map_set(io->cow, sub->offset / SECTOR, (sub->offset + sub->len) / SECTOR);
	io->error = result;
	io_finish(io);
}

static void cow_write(struct cow *c, struct blk_req *r)
{
	struct cow_io *io = xcalloc(1, sizeof(*io) + sizeof(io->parts[0]));
	struct blk_req *sub = &io->parts[0].req;

	io->cow = c;
	io->req = r;
	io->parts[0].io = io;
	*sub = (struct blk_req){
	    .op = r->op,
	    .offset = r->offset,
	    .len = r->len,
	    .iov = r->iov,
	    .n_iov = r->n_iov,
	    .done = write_done,
	};
	if (r->op != BLK_WRITE) {
		sub->op = BLK_WRITE_ZEROES;
		sub->flags = BLK_UNMAP;
	}
	blk_submit(c->top, sub);
}

static void cow_submit(struct blk *b, struct blk_req *r)
{
	struct cow *c = container_of(b, struct cow, blk);

	switch (r->op) {
	case BLK_READ:
		cow_read(c, r);
		break;
	case BLK_WRITE:
	case BLK_DISCARD:
	case BLK_WRITE_ZEROES:
		cow_write(c, r);
		break;
	case BLK_FLUSH:
		/* The top does not outlive the process, so there is nothing to keep safe. */
		blk_complete_later(b, r, 0);
		break;
	}
}

static void cow_poll(struct blk *b, int timeout_ms)
{
	struct cow *c = container_of(b, struct cow, blk);

	blk_poll(c->top, timeout_ms);
	blk_poll(c->base, timeout_ms);
}

static void cow_close(struct blk *b)
{
	struct cow *c = container_of(b, struct cow, blk);

	blk_close(c->top);
	blk_close(c->base);
	pthread_mutex_destroy(&c->lock);
	blk_fini(&c->blk);
	free(c->map);
	free(c);
}

static const struct blk_ops cow_ops = {
    .name = "cow",
    .submit = cow_submit,
    .poll = cow_poll,
    .close = cow_close,
};

int cow_new(struct blk *base, struct blk *top, struct loop *l, struct blk **ret, struct err *e)
{
	uint64_t sectors = base->info.size / SECTOR;
	uint64_t *map = calloc(sectors / WORD_BITS + 1, sizeof(*map));
	struct cow *c;

	if (!map)
		return err_set(e, -ENOMEM, "map of %llu sectors", (unsigned long long)sectors);
	c = xnew(struct cow);
	blk_init(&c->blk, &cow_ops, l);
	c->base = base;
	c->top = top;
	c->map = map;
	pthread_mutex_init(&c->lock, NULL);
	c->blk.info = base->info;
	c->blk.info.read_only = false;
	c->blk.info.discard = c->blk.info.write_zeroes = true;
	*ret = &c->blk;
	return 0;
}
