/* SPDX-License-Identifier: Apache-2.0 */
/*
 * block/qcow2_read.c - reads a range of the disk, wherever its clusters are
 *
 * The caller has seen to it that the mapping of the range stays as it is.  A round plans up to
 * PARTS runs that lie side by side in one place, under the lock, and sends them off together.
 */
#include "block/qcow2_priv.h"

#include <errno.h>

#define PARTS 16

enum place { PLACE_ZERO, PLACE_FILE, PLACE_BACKING, PLACE_PACKED };

struct run {
	enum place place;
	uint64_t pos, len; /* of the read */
	uint64_t off;      /* in the file or the backing file; within the cluster if packed */
	struct q_entry entry;
};

struct part {
	struct blk_req sub;
	struct q_work work;
	struct q_read *rd;
	struct run run;
	struct iovec iov[];
};

unsigned int q_iov_slice(struct iovec *dst, const struct iovec *iov, unsigned int n_iov,
			 uint64_t off, uint64_t len)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < n_iov && len; i++) {
		size_t part;

		if (off >= iov[i].iov_len) {
			off -= iov[i].iov_len;
			continue;
		}
		part = (size_t)MIN(iov[i].iov_len - off, len);
		dst[n++] = (struct iovec){(char *)iov[i].iov_base + off, part};
		len -= part;
		off = 0;
	}
	return n;
}

static void fill(const struct q_read *rd, const struct run *run, const uint8_t *src)
{
	uint64_t skip = run->pos, left = run->len;

	for (unsigned int i = 0; i < rd->n_iov && left; i++) {
		uint64_t n;

		if (skip >= rd->iov[i].iov_len) {
			skip -= rd->iov[i].iov_len;
			continue;
		}
		n = MIN(rd->iov[i].iov_len - skip, left);
		if (src) {
			memcpy((char *)rd->iov[i].iov_base + skip, src, n);
			src += n;
		} else {
			memset((char *)rd->iov[i].iov_base + skip, 0, n);
		}
		left -= n;
		skip = 0;
	}
}

/* --- planning, under the lock --- */

static enum place place_of(const struct qcow2 *q, uint64_t cluster, const struct q_entry *en)
{
	if (en->kind == Q_NORMAL)
		return PLACE_FILE;
	if (en->kind == Q_PACKED)
		return PLACE_PACKED;
	return q_reads_zero(q, cluster, en) ? PLACE_ZERO : PLACE_BACKING;
}

/* Clusters after the first one that continue the run, as far as this block of the table goes. */
static uint64_t extend(struct qcow2 *q, uint64_t cluster, const struct q_block *b,
		       unsigned int index, uint64_t n_max, const struct run *run)
{
	unsigned int per_block = (unsigned int)(q->cache.block_size / 8);
	uint64_t n = 1, to_end = BIT(q->l2_bits) - (cluster & (BIT(q->l2_bits) - 1));

	if (!b)
		return run->place == PLACE_ZERO || run->place == PLACE_BACKING ? MIN(n_max, to_end)
									       : 1;
	for (; n < n_max && index + n < per_block && run->place != PLACE_PACKED; n++) {
		struct q_entry en;

		if (q_entry_parse(q, load_be64(b->data + (index + n) * 8), &en) < 0 ||
		    place_of(q, cluster + n, &en) != run->place)
			break;
		if (run->place == PLACE_FILE &&
		    en.host != run->entry.host + (n << q->h.cluster_bits))
			break;
	}
	return n;
}

static int plan(struct q_read *rd, struct run *run)
{
	struct qcow2 *q = rd->q;
	uint64_t off = rd->off + rd->pos, left = rd->len - rd->pos, in, n;
	uint64_t cluster = off >> q->h.cluster_bits;
	struct q_block *b;
	unsigned int index = 0;
	int r = q_lookup(q, cluster, &b, &index, &run->entry, &rd->miss);

	if (r < 0)
		return r;
	in = off & (q->cluster_size - 1);
	run->place = place_of(q, cluster, &run->entry);
	n = extend(q, cluster, b, index, q_clusters(q, in + left), run);
	run->pos = rd->pos;
	run->len = MIN(left, (n << q->h.cluster_bits) - in);
	run->off = run->place == PLACE_FILE     ? run->entry.host + in
		   : run->place == PLACE_PACKED ? in
						: off;
	if (run->place == PLACE_BACKING) {
		/* It may end within the run; a cluster behind its end is a zero run of its own. */
		if (off >= q->backing_size)
			run->place = PLACE_ZERO;
		else
			run->len = MIN(run->len, q->backing_size - off);
	}
	rd->pos += run->len;
	return 0;
}

/* --- doing --- */

static void read_round(struct q_read *rd, bool in_done);

static void resume(struct q_work *w)
{
	struct q_read *rd = container_of(w, struct q_read, work);
	int r = q_resolve(rd->q, &rd->miss);

	if (r < 0) {
		rd->error = r;
		rd->done(rd, false);
	} else {
		read_round(rd, false);
	}
}

static void put(struct q_read *rd, bool in_done)
{
	if (--rd->left)
		return;
	if (rd->error || rd->pos == rd->len)
		rd->done(rd, in_done);
	else if (rd->miss.kind)
		q_post(rd->q, &rd->work, resume);
	else
		read_round(rd, in_done);
}

static void part_done(struct blk_req *sub, int result)
{
	struct part *p = container_of(sub, struct part, sub);
	struct q_read *rd = p->rd;

	if (result < 0)
		rd->error = result;
	free(p);
	put(rd, true);
}

static void unpack(struct q_work *w)
{
	struct part *p = container_of(w, struct part, work);
	struct q_read *rd = p->rd;
	const uint8_t *data;
	int r = q_packed_read(rd->q, &p->run.entry, &data);

	if (r == 0)
		fill(rd, &p->run, data + p->run.off);
	else
		rd->error = r;
	free(p);
	put(rd, false);
}

static void send(struct q_read *rd, const struct run *run)
{
	bool all = run->len == rd->len;
	struct part *p =
	    xcalloc(1, sizeof(*p) +
			   (all || run->place == PLACE_PACKED ? 0 : rd->n_iov) * sizeof(p->iov[0]));

	p->rd = rd;
	p->run = *run;
	if (run->place == PLACE_PACKED) {
		q_post(rd->q, &p->work, unpack);
		return;
	}
	p->sub = (struct blk_req){
	    .op = BLK_READ, .offset = run->off, .len = run->len, .done = part_done};
	if (all) {
		p->sub.iov = (struct iovec *)(uintptr_t)rd->iov;
		p->sub.n_iov = rd->n_iov;
	} else {
		p->sub.iov = p->iov;
		p->sub.n_iov = q_iov_slice(p->iov, rd->iov, rd->n_iov, run->pos, run->len);
	}
	blk_submit(run->place == PLACE_FILE ? rd->q->file : rd->q->backing, &p->sub);
}

static void read_round(struct q_read *rd, bool in_done)
{
	struct qcow2 *q = rd->q;
	struct run runs[PARTS];
	unsigned int n = 0;
	int r = 0;

	rd->miss.kind = Q_MISS_NONE;
	pthread_mutex_lock(&q->lock);
	while (n < PARTS && rd->pos < rd->len) {
		r = plan(rd, &runs[n]);
		if (r < 0)
			break;
		n++;
	}
	pthread_mutex_unlock(&q->lock);
	if (r < 0 && r != -EAGAIN)
		rd->error = r;
	rd->left = n + 1;
	for (unsigned int i = 0; i < n; i++) {
		if (runs[i].place == PLACE_ZERO) {
			fill(rd, &runs[i], NULL);
			rd->left--;
		} else {
			send(rd, &runs[i]);
		}
	}
	put(rd, in_done);
}

void q_read_start(struct q_read *rd, bool in_done)
{
	read_round(rd, in_done);
}
