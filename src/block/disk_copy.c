/* SPDX-License-Identifier: Apache-2.0 */
/*
 * block/disk_copy.c - a disk's contents into a new image
 *
 * A few chunks are on their way at once, each read, then written but for what is zero.  A temporary
 * file takes the copy's name when it is whole, so that a cancelled or killed copy leaves none that
 * looks like one.
 */
#include "block/disk.h"

#include "base/exit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#define CHUNK (UINT64_C(2) << 20)
#define SLOTS 4
#define GRAIN UINT64_C(65536) /* zeroes are looked for in pieces of this size */

struct job;

struct slot {
	struct blk_req req;
	struct iovec iov;
	struct job *job;
	uint8_t *buf;
	uint64_t off, len; /* the chunk */
	uint64_t at;       /* written so far */
	bool busy;
};

struct job {
	const struct disk_copy *c;
	struct disk from, to;
	uint64_t next, done, size;
	int error;
	struct slot slots[SLOTS];
};

static bool is_zero(const uint8_t *p, size_t n)
{
	return !n || (!p[0] && memcmp(p, p + 1, n - 1) == 0);
}

static void write_next(struct slot *s);

static void write_done(struct blk_req *r, int result)
{
	struct slot *s = container_of(r, struct slot, req);

	if (result < 0)
		s->job->error = result;
	s->at += s->iov.iov_len;
	write_next(s);
}

/* A cluster of its own: compressed, and if that makes it no smaller left to the caller. */
static int write_packed(struct slot *s, uint64_t n)
{
	return qcow2_write_packed(s->job->to.blk, s->off + s->at, s->buf + s->at, n);
}

/* Past zeroes and what was compressed to the next run that is to be written, and off with it. */
static void write_next(struct slot *s)
{
	struct job *j = s->job;
	uint64_t n = 0;

	while (s->at < s->len && !j->error) {
		uint64_t piece = MIN(GRAIN, s->len - s->at);
		int r = -E2BIG;

		if (is_zero(s->buf + s->at, piece)) {
			s->at += piece;
			continue;
		}
		if (j->c->compress)
			r = write_packed(s, piece);
		if (r == 0) {
			s->at += piece;
			continue;
		}
		if (r != -E2BIG) {
			j->error = r;
			break;
		}
		n = piece;
		while (!j->c->compress && s->at + n < s->len) {
			piece = MIN(GRAIN, s->len - s->at - n);
			if (is_zero(s->buf + s->at + n, piece))
				break;
			n += piece;
		}
		break;
	}
	if (!n || j->error) {
		j->done += s->len;
		s->busy = false;
		return;
	}
	s->iov = (struct iovec){s->buf + s->at, n};
	s->req = (struct blk_req){.op = BLK_WRITE,
				  .offset = s->off + s->at,
				  .len = n,
				  .iov = &s->iov,
				  .n_iov = 1,
				  .done = write_done};
	blk_submit(j->to.blk, &s->req);
}

static void read_done(struct blk_req *r, int result)
{
	struct slot *s = container_of(r, struct slot, req);

	if (result < 0)
		s->job->error = result;
	s->at = 0;
	write_next(s);
}

/* Skips what the source says is zero without reading it. */
static void skip_zeroes(struct job *j)
{
	while (j->next < j->size) {
		uint64_t len = blk_known_zeroes(j->from.blk, j->next);

		if (len < j->size - j->next)
			len = ALIGN_DOWN(len, GRAIN);
		if (!len)
			return;
		j->next += len;
		j->done += len;
	}
}

static void start_slot(struct job *j, struct slot *s)
{
	skip_zeroes(j);
	if (j->next >= j->size)
		return;
	s->busy = true;
	s->off = j->next;
	s->len = MIN(CHUNK, j->size - j->next);
	j->next += s->len;
	s->iov = (struct iovec){s->buf, s->len};
	s->req = (struct blk_req){.op = BLK_READ,
				  .offset = s->off,
				  .len = s->len,
				  .iov = &s->iov,
				  .n_iov = 1,
				  .done = read_done};
	blk_submit(j->from.blk, &s->req);
}

static int tick(struct job *j)
{
	const struct disk_progress *p = j->c->progress;

	return p ? p->tick(p->opaque, MIN(j->done, j->size), j->size) : 0;
}

static void flush_done(struct blk_req *r, int result)
{
	*(int *)r->opaque = result;
}

static int flush(struct blk *b)
{
	int result = -EIO;
	struct blk_req r = {.op = BLK_FLUSH, .done = flush_done, .opaque = &result};

	blk_submit(b, &r);
	blk_drain(b);
	return result;
}

static int copy(struct job *j)
{
	bool busy = true;

	/* The loop of either node completes requests; both are run in turn by draining one slot. */
	while (busy && !j->error) {
		busy = false;
		for (unsigned int i = 0; i < SLOTS && !j->error; i++) {
			if (!j->slots[i].busy)
				start_slot(j, &j->slots[i]);
			busy = busy || j->slots[i].busy;
		}
		if (busy) {
			blk_poll(j->from.blk, j->from.blk->in_flight ? 20 : 0);
			blk_poll(j->to.blk, j->from.blk->in_flight ? 0 : 20);
		}
		if (!j->error)
			j->error = tick(j);
	}
	blk_drain(j->from.blk);
	blk_drain(j->to.blk);
	return j->error ? j->error : flush(j->to.blk);
}

static int copy_into(const struct disk_copy *c, struct job *j, const char *temp, struct err *e)
{
	struct qcow2_options o = *c->options;
	const char *format = disk_format(c->to, c->to_format);
	int r;

	o.size = j->size = blk_info(j->from.blk)->size;
	if (c->compress && strcmp(format, "qcow2") != 0)
		return err_msg(e, -EINVAL, "only qcow2 images can be compressed");
	/* A chunk's pieces are then whole clusters. */
	if (c->compress && o.cluster_bits && o.cluster_bits != 16)
		return err_msg(e, -EINVAL, "compressed images have clusters of 64 KiB here");
	r = disk_create(temp, format, &o, true, e);
	if (r == 0)
		r = disk_open(temp, format, 0, &j->to, e);
	if (r < 0)
		return r;
	for (unsigned int i = 0; i < SLOTS; i++) {
		void *buf;

		if (posix_memalign(&buf, 4096, CHUNK) != 0)
			return err_set(e, -ENOMEM, "buffers");
		j->slots[i].job = j;
		j->slots[i].buf = buf;
	}
	r = copy(j);
	return r < 0 ? err_set(e, r, "copy '%s' to '%s'", c->from, c->to) : 0;
}

int disk_convert(const struct disk_copy *c, struct err *e)
{
	autofree char *temp = xasprintf("%s.insula-%d.tmp", c->to, (int)getpid());
	struct job j = {.c = c};
	int r;

	if (!c->force && access(c->to, F_OK) == 0)
		return err_set(e, -EEXIST, "%s", c->to);
	r = disk_open(c->from, c->from_format, DISK_READ_ONLY, &j.from, e);
	if (r < 0)
		return r;
	r = copy_into(c, &j, temp, e);
	for (unsigned int i = 0; i < SLOTS; i++)
		free(j.slots[i].buf);
	disk_close(&j.to);
	disk_close(&j.from);
	if (r == 0 && rename(temp, c->to) < 0)
		r = err_set(e, -errno, "%s", c->to);
	if (r < 0)
		unlink(temp);
	return r;
}
