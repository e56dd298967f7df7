/* SPDX-License-Identifier: Apache-2.0 */
/*
 * block/qcow2_write.c - writes a window of the disk; zeroes and discards whole clusters of it
 *
 *	in place   the cluster is ours alone: the data goes where the old data is
 *	new        a free cluster is counted, the data is written there in one piece with what has
 *to be kept around it, and only then does the L2 entry in memory point there
 *
 *	 |<---------------- run of new clusters, side by side ---------------->|
 *	 | head: old content |        data of the request        | tail: old   |
 *
 * Nothing is padded where the clusters were never written before: there the file reads as zeroes.
 */
#include "block/qcow2_priv.h"

#include <errno.h>

#define PARTS         16
#define FREES_TO_KEEP 4096 /* runs of freed clusters that wait for a commit */

struct part {
	struct blk_req sub;
	struct q_io *io;
	uint64_t pos, len;    /* of the request */
	uint64_t host;        /* of the first cluster, bytes */
	uint64_t cluster, n;  /* guest clusters; new ones */
	bool is_new, is_ours; /* takes an entry over; the clusters were allocated for it */
	struct q_block *block;
	unsigned int index;
	/* what is kept around the data */
	uint64_t head, tail;
	bool copy_head, copy_tail;
	struct q_read reads[2];
	struct iovec pads[2];
	_Atomic unsigned int reading;
	struct iovec iov[];
};

static void put(struct q_io *io, bool in_done);

static const struct iovec *source(const struct q_io *io, unsigned int *n)
{
	if (io->req->op == BLK_WRITE) {
		*n = io->req->n_iov;
		return io->req->iov;
	}
	*n = 1;
	return &io->zeroes;
}

static void part_free(struct part *p)
{
	free(p->pads[0].iov_base);
	free(p->pads[1].iov_base);
	free(p);
}

/* --- the end of a part --- */

/* lock held: the entries point to the new clusters. */
static void link_part(struct part *p)
{
	struct qcow2 *q = p->io->q;

	for (uint64_t i = 0; i < p->n; i++) {
		unsigned int index = p->index + (unsigned int)i;
		uint64_t host = p->host + (i << q->h.cluster_bits);
		struct q_entry old;

		if (q_entry_parse(q, load_be64(p->block->data + index * 8), &old) < 0)
			old = (struct q_entry){0};
		q_entry_set(q, p->block, index, host | Q_COPIED, &old, p->is_ours);
	}
}

static void part_over(struct part *p, int result, bool in_done)
{
	struct q_io *io = p->io;
	struct qcow2 *q = io->q;

	if (p->is_new) {
		pthread_mutex_lock(&q->lock);
		if (result == 0)
			link_part(p);
		else if (p->is_ours)
			q_free_later(q, p->host >> q->h.cluster_bits, p->n);
		p->block->pins--;
		if (q->cache.n_dirty > q->cache.max / 2 || q->frees.n > FREES_TO_KEEP) {
			q->commit_wanted = true;
			pthread_cond_signal(&q->wake);
		}
		pthread_mutex_unlock(&q->lock);
	}
	if (result < 0)
		io->error = result;
	part_free(p);
	put(io, in_done);
}

static void part_written(struct blk_req *sub, int result)
{
	part_over(container_of(sub, struct part, sub), result, true);
}

/* --- writing --- */

static void part_write(struct part *p)
{
	struct q_io *io = p->io;
	unsigned int n_src, n = 0;
	const struct iovec *src = source(io, &n_src);
	uint64_t skip = io->req->op == BLK_WRITE ? p->pos : 0;
	uint64_t head = p->pads[0].iov_base ? p->head : 0, tail = p->pads[1].iov_base ? p->tail : 0;

	if (head)
		p->iov[n++] = p->pads[0];
	n += q_iov_slice(p->iov + n, src, n_src, skip, p->len);
	if (tail)
		p->iov[n++] = p->pads[1];
	p->sub = (struct blk_req){
	    .op = BLK_WRITE,
	    .offset = p->host + p->head - head,
	    .len = head + p->len + tail,
	    .iov = p->iov,
	    .n_iov = n,
	    .done = part_written,
	};
	blk_submit(io->q->file, &p->sub);
}

static void pads_read(struct part *p, bool in_done)
{
	int error;

	if (--p->reading)
		return;
	error = p->reads[0].error ? p->reads[0].error : p->reads[1].error;
	if (error)
		part_over(p, error, in_done);
	else
		part_write(p);
}

static void head_read(struct q_read *rd, bool in_done)
{
	pads_read(container_of(rd, struct part, reads[0]), in_done);
}

static void tail_read(struct q_read *rd, bool in_done)
{
	pads_read(container_of(rd, struct part, reads[1]), in_done);
}

static bool make_pad(struct iovec *pad, uint64_t len)
{
	if (posix_memalign(&pad->iov_base, 4096, len) != 0) {
		pad->iov_base = NULL;
		return false;
	}
	memset(pad->iov_base, 0, len);
	pad->iov_len = len;
	return true;
}

static void read_pad(struct part *p, unsigned int i, uint64_t off, uint64_t len,
		     void (*done)(struct q_read *rd, bool in_done))
{
	p->reads[i] = (struct q_read){
	    .q = p->io->q, .off = off, .len = len, .iov = &p->pads[i], .n_iov = 1, .done = done};
	p->reading++;
	q_read_start(&p->reads[i], false);
}

static void part_start(struct part *p)
{
	struct q_io *io = p->io;
	uint64_t off = io->req->offset + p->pos, end = off + p->len;
	/* The last cluster of the disk may reach past the disk's end, where nothing is kept. */
	uint64_t tail = end < io->q->blk.info.size ? MIN(p->tail, io->q->blk.info.size - end) : 0;

	if ((p->pads[0].iov_len && !make_pad(&p->pads[0], p->head)) ||
	    (p->pads[1].iov_len && !make_pad(&p->pads[1], p->tail))) {
		part_over(p, -ENOMEM, false);
		return;
	}
	p->reading = 1;
	if (p->copy_head)
		read_pad(p, 0, off - p->head, p->head, head_read);
	if (p->copy_tail && tail)
		read_pad(p, 1, end, tail, tail_read);
	pads_read(p, false);
}

/* --- planning, under the lock --- */

static bool writable(const struct q_entry *en)
{
	return en->kind == Q_NORMAL && en->copied;
}

bool q_in_place(struct q_io *io)
{
	for (uint64_t c = io->first; c <= io->last; c++) {
		struct q_miss miss;
		struct q_block *b;
		struct q_entry en;
		unsigned int index;

		if (q_lookup(io->q, c, &b, &index, &en, &miss) < 0 || !writable(&en))
			return false;
	}
	return true;
}

/* How many clusters from this one on, at most @max, are in the state @same says. */
static uint64_t count_alike(struct qcow2 *q, const struct q_block *b, unsigned int index,
			    uint64_t max, const struct q_entry *first)
{
	uint64_t n = 1;

	for (; n < max && index + n < q->cache.block_size / 8; n++) {
		struct q_entry en;

		if (q_entry_parse(q, load_be64(b->data + (index + n) * 8), &en) < 0)
			break;
		if (writable(first)
			? !writable(&en) || en.host != first->host + (n << q->h.cluster_bits)
			: writable(&en) || (en.kind == Q_ZERO_KEPT && en.copied))
			break;
	}
	return n;
}

/* New clusters for those from @p->cluster on. */
static int plan_new(struct q_io *io, struct part *p, uint64_t max, const struct q_entry *first,
		    bool *zero)
{
	struct qcow2 *q = io->q;
	uint64_t cluster = 0;
	int r;

	*zero = false;
	if (first->kind == Q_ZERO_KEPT && first->copied) {
		p->host = first->host;
		p->n = 1;
		return 0;
	}
	p->is_ours = true;
	p->n = count_alike(q, p->block, p->index, max, first);
	r = q_alloc(q, p->n, &cluster, &p->n, zero, &io->miss);
	p->host = cluster << q->h.cluster_bits;
	return r;
}

static void plan_pads(struct q_io *io, struct part *p, const struct q_entry *first, bool zero)
{
	struct qcow2 *q = io->q;
	struct q_entry last = *first;

	if (p->n > 1 &&
	    q_entry_parse(q, load_be64(p->block->data + (p->index + p->n - 1) * 8), &last) < 0)
		last = (struct q_entry){.kind = Q_ZERO_PLAIN};
	p->copy_head = p->head && !q_reads_zero(q, p->cluster, first);
	p->copy_tail = p->tail && !q_reads_zero(q, p->cluster + p->n - 1, &last);
	p->pads[0].iov_len = p->head && (p->copy_head || !zero);
	p->pads[1].iov_len = p->tail && (p->copy_tail || !zero);
}

/* The next part of the window. */
static int plan(struct q_io *io, struct part *p)
{
	struct qcow2 *q = io->q;
	uint64_t off = io->req->offset + io->at, left = io->win - io->at;
	uint64_t in = off & (q->cluster_size - 1), max = q_clusters(q, in + left);
	struct q_entry en;
	bool zero;
	int r;

	p->cluster = off >> q->h.cluster_bits;
	p->pos = io->at;
	r = q_lookup_own(q, p->cluster, &p->block, &p->index, &en, &io->miss);
	if (r < 0)
		return r;
	p->head = in;
	if (writable(&en)) {
		p->n = count_alike(q, p->block, p->index, max, &en);
		p->host = en.host;
	} else {
		r = plan_new(io, p, max, &en, &zero);
		if (r < 0)
			return r;
		p->is_new = true;
	}
	p->len = MIN(left, (p->n << q->h.cluster_bits) - in);
	p->tail = (p->n << q->h.cluster_bits) - in - p->len;
	if (q_is_table(q, p->host, p->n << q->h.cluster_bits)) {
		q_mark_corrupt(q, "data would overwrite a table", p->host);
		return -EIO;
	}
	if (p->is_new) {
		plan_pads(io, p, &en, zero);
		p->block->pins++;
	}
	io->at += p->len;
	return 0;
}

/* Zeroes onto zeroes need no cluster. */
static bool skip_zeroes(struct q_io *io)
{
	struct q_block *b;
	struct q_entry en;
	unsigned int index;

	if (io->req->op == BLK_WRITE ||
	    q_lookup(io->q, io->first, &b, &index, &en, &io->miss) < 0 ||
	    !q_reads_zero(io->q, io->first, &en))
		return false;
	io->at = io->win;
	return true;
}

static void resume(struct q_work *w)
{
	struct q_io *io = container_of(w, struct q_io, work);
	int r = q_resolve(io->q, &io->miss);

	if (r < 0) {
		io->error = r;
		q_window_done(io, false);
	} else {
		q_write_step(io, false);
	}
}

static void put(struct q_io *io, bool in_done)
{
	if (--io->left)
		return;
	if (io->error || io->at == io->win)
		q_window_done(io, in_done);
	else if (io->miss.kind)
		q_post(io->q, &io->work, resume);
	else
		q_write_step(io, in_done);
}

void q_write_step(struct q_io *io, bool in_done)
{
	struct qcow2 *q = io->q;
	struct part *parts[PARTS], *p = NULL;
	unsigned int n_src, n = 0;
	int r = 0;

	(void)source(io, &n_src);
	io->miss.kind = Q_MISS_NONE;
	pthread_mutex_lock(&q->lock);
	(void)skip_zeroes(io);
	io->miss.kind = Q_MISS_NONE;
	while (n < PARTS && io->at < io->win) {
		p = xcalloc(1, sizeof(*p) + (n_src + 2) * sizeof(p->iov[0]));
		p->io = io;
		r = plan(io, p);
		if (r < 0) {
			free(p);
			break;
		}
		parts[n++] = p;
	}
	pthread_mutex_unlock(&q->lock);
	if (r < 0 && r != -EAGAIN)
		io->error = r;
	io->left = n + 1;
	for (unsigned int i = 0; i < n; i++)
		part_start(parts[i]);
	put(io, in_done);
}

/* --- whole clusters --- */

/* lock held. */
static int zero_cluster(struct q_io *io, uint64_t c)
{
	struct qcow2 *q = io->q;
	bool keep = io->req->op == BLK_WRITE_ZEROES && !(io->req->flags & BLK_UNMAP);
	struct q_block *b;
	unsigned int index;
	struct q_entry en;
	uint64_t raw;
	int r = q_lookup(q, c, &b, &index, &en, &io->miss);

	if (r < 0)
		return r;
	if (q_reads_zero(q, c, &en) && (en.kind != Q_ZERO_KEPT || keep))
		return 0;
	r = q_lookup_own(q, c, &b, &index, &en, &io->miss);
	if (r < 0)
		return r;
	keep = keep && q->h.version >= 3 && en.copied && en.kind == Q_NORMAL;
	raw = keep ? en.raw | Q_ZERO : q->h.version >= 3 ? Q_ZERO : 0;
	q_entry_set(q, b, index, raw, &en, !keep);
	return 0;
}

/* Clusters without an L2 table, which there is nothing to do for; 0 if not so. */
static uint64_t untouched(struct q_io *io, uint64_t c)
{
	const struct qcow2 *q = io->q;
	uint64_t l1 = c >> q->l2_bits;

	if (l1 >= q->h.l1_size || (q->l1[l1] & Q_OFFSET_MASK) ||
	    c << q->h.cluster_bits < q->backing_size)
		return 0;
	return BIT(q->l2_bits) - (c & (BIT(q->l2_bits) - 1));
}

void q_zero_step(struct q_io *io)
{
	struct qcow2 *q = io->q;
	int r = 0;

	for (uint64_t c = io->first; r == 0 && c <= io->last;) {
		uint64_t n;

		pthread_mutex_lock(&q->lock);
		n = untouched(io, c);
		if (!n) {
			r = zero_cluster(io, c);
			n = r == 0;
		}
		pthread_mutex_unlock(&q->lock);
		c += n;
		if (r == -EAGAIN)
			r = q_resolve(q, &io->miss);
	}
	pthread_mutex_lock(&q->lock);
	if (q->frees.n > FREES_TO_KEEP) {
		q->commit_wanted = true;
		pthread_cond_signal(&q->wake);
	}
	pthread_mutex_unlock(&q->lock);
	io->error = r;
	q_window_done(io, false);
}
