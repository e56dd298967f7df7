/* SPDX-License-Identifier: Apache-2.0 */
/*
 * block/qcow2_io.c - requests on their way through an image
 *
 * A request goes in windows of a few dozen clusters.  Each window is listed with the clusters it
 * touches; it starts when nothing listed before it, nor running, is in its way: windows that change
 * the mapping of their clusters are alone on them, reads and writes in place share.  So a cluster
 * is never freed, moved or copied under somebody's hands.
 *
 * What needs no table from the file goes on in the submitter's thread: look up, hand the data to
 * the file below.  All else goes to the worker, the one thread that may wait for the file: it
 * fetches the block that was missing and lets the window go on where it was.
 */
#include "block/qcow2_priv.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

#define WINDOW_CLUSTERS 32u
#define WINDOW_BYTES    (UINT64_C(1) << 20)
#define ZERO_CLUSTERS   4096u

static void flush_later(struct q_io *io);

static void finish(struct q_io *io, bool in_done)
{
	struct blk *b = &io->q->blk;
	struct blk_req *r = io->req;
	int error = io->error;

	if (!error && (r->flags & BLK_FUA) && r->op == BLK_WRITE) {
		flush_later(io);
		return;
	}
	free(io->zeroes.iov_base);
	free(io);
	if (in_done)
		blk_complete(b, r, error);
	else
		blk_complete_later(b, r, error);
}

/* --- flush --- */

static void flushed(struct blk_req *sub, int result)
{
	struct q_io *io = sub->opaque;
	struct blk *b = &io->q->blk;
	struct blk_req *r = io->req;

	free(sub);
	free(io->zeroes.iov_base);
	free(io);
	blk_complete(b, r, result);
}

/* With nothing changed in memory the file's flush is all there is to do. */
static void flush_later(struct q_io *io)
{
	struct qcow2 *q = io->q;
	bool worker;

	pthread_mutex_lock(&q->lock);
	worker = q->committing || q_is_dirty(q);
	if (worker) {
		list_append(&q->flushes, &io->work.node);
		pthread_cond_signal(&q->wake);
	}
	pthread_mutex_unlock(&q->lock);
	if (!worker) {
		struct blk_req *sub = xnew(struct blk_req);

		*sub = (struct blk_req){.op = BLK_FLUSH, .done = flushed, .opaque = io};
		blk_submit(q->file, sub);
	}
}

/* Worker: one commit for all that asked so far. */
static void run_flushes(struct qcow2 *q, struct list *flushes)
{
	int r;

	pthread_mutex_lock(&q->slow);
	r = q_commit(q);
	pthread_mutex_unlock(&q->slow);
	while (!list_empty(flushes)) {
		struct q_io *io = container_of(flushes->next, struct q_io, work.node);
		struct blk_req *req = io->req;

		list_remove(&io->work.node);
		free(io->zeroes.iov_base);
		free(io);
		blk_complete_later(&q->blk, req, r);
	}
}

/* --- windows --- */

static void plan_window(struct q_io *io)
{
	const struct qcow2 *q = io->q;
	const struct blk_req *r = io->req;
	uint64_t cs = q->cluster_size, off = r->offset + io->pos, end = r->offset + r->len, stop;

	io->whole = false;
	if (r->op == BLK_READ) {
		stop = end;
	} else if (r->op == BLK_WRITE) {
		uint64_t span = MAX(WINDOW_CLUSTERS * cs, WINDOW_BYTES);

		stop = MIN(end, ALIGN_DOWN(off, cs) + span);
	} else if (off % cs || (end - off < cs && end < q->blk.info.size) ||
		   (q->h.version < 3 && q->backing)) {
		/* Part of a cluster; or version 2, which cannot hide what the backing file has. */
		stop = MIN(end, ALIGN_DOWN(off, cs) + cs);
	} else {
		io->whole = true;
		stop = end == q->blk.info.size ? end : ALIGN_DOWN(end, cs);
		stop = MIN(stop, off + ZERO_CLUSTERS * cs);
	}
	io->win = stop - r->offset;
	io->at = io->pos;
	io->first = off >> q->h.cluster_bits;
	io->last = (stop - 1) >> q->h.cluster_bits;
}

/* lock held. */
static void set_exclusive(struct q_io *io, bool exclusive)
{
	io->q->n_exclusive += exclusive;
	io->q->n_exclusive -= io->exclusive;
	io->exclusive = exclusive;
}

/* lock held. */
static bool may_start(struct q_io *io)
{
	struct qcow2 *q = io->q;
	bool behind = false;
	struct list *l;

	set_exclusive(io, io->req->op != BLK_READ && (io->req->op != BLK_WRITE || !q_in_place(io)));
	if (!q->n_exclusive)
		return true;
	list_for_each(l, &q->ios)
	{
		const struct q_io *o = container_of(l, struct q_io, node);

		if (o == io)
			behind = true;
		else if ((o->running || !behind) && (o->exclusive || io->exclusive) &&
			 o->first <= io->last && io->first <= o->last)
			return false;
	}
	return true;
}

static void run_zero(struct q_work *w)
{
	q_zero_step(container_of(w, struct q_io, work));
}

static void read_done(struct q_read *rd, bool in_done)
{
	struct q_io *io = container_of(rd, struct q_io, read);

	io->error = rd->error;
	q_window_done(io, in_done);
}

static void run_window(struct q_io *io, bool in_done)
{
	struct qcow2 *q = io->q;
	const struct blk_req *r = io->req;

	if (r->op == BLK_READ) {
		io->read = (struct q_read){
		    .q = q,
		    .off = r->offset,
		    .len = r->len,
		    .iov = r->iov,
		    .n_iov = r->n_iov,
		    .done = read_done,
		};
		q_read_start(&io->read, in_done);
	} else if (r->op == BLK_WRITE) {
		q_write_step(io, in_done);
	} else if (io->whole) {
		q_post(q, &io->work, run_zero);
	} else if (r->op == BLK_DISCARD) {
		q_window_done(io, in_done); /* a hint, and no whole cluster */
	} else {
		if (!io->zeroes.iov_base &&
		    posix_memalign(&io->zeroes.iov_base, 4096, q->cluster_size) == 0)
			memset(io->zeroes.iov_base, 0, q->cluster_size);
		io->zeroes.iov_len = q->cluster_size;
		if (!io->zeroes.iov_base) {
			io->error = -ENOMEM;
			q_window_done(io, in_done);
			return;
		}
		q_write_step(io, in_done);
	}
}

static void run_waiting(struct q_work *w)
{
	run_window(container_of(w, struct q_io, work), false);
}

static void start_window(struct q_io *io, bool in_done)
{
	struct qcow2 *q = io->q;

	plan_window(io);
	pthread_mutex_lock(&q->lock);
	list_append(&q->ios, &io->node);
	io->running = may_start(io);
	q->n_waiting += !io->running;
	pthread_mutex_unlock(&q->lock);
	if (io->running)
		run_window(io, in_done);
}

/* lock held: a window is over, others may have waited for it. */
static void wake_waiting(struct qcow2 *q)
{
	struct list *l, *tmp;

	if (!q->n_waiting)
		return;
	list_for_each_safe(l, tmp, &q->ios)
	{
		struct q_io *io = container_of(l, struct q_io, node);

		if (io->running || !may_start(io))
			continue;
		io->running = true;
		q->n_waiting--;
		io->work.run = run_waiting;
		list_append(&q->work, &io->work.node);
		pthread_cond_signal(&q->wake);
	}
}

void q_window_done(struct q_io *io, bool in_done)
{
	struct qcow2 *q = io->q;

	pthread_mutex_lock(&q->lock);
	list_remove(&io->node);
	io->running = false;
	set_exclusive(io, false);
	wake_waiting(q);
	pthread_mutex_unlock(&q->lock);
	io->pos = io->win;
	if (io->error || io->pos == io->req->len)
		finish(io, in_done);
	else
		start_window(io, in_done);
}

void q_submit(struct blk *b, struct blk_req *r)
{
	struct qcow2 *q = q_of(b);
	struct q_io *io;

	if (r->op != BLK_READ && __atomic_load_n(&q->corrupt, __ATOMIC_RELAXED)) {
		blk_complete_later(b, r, -EIO);
		return;
	}
	io = xnew(struct q_io);
	io->q = q;
	io->req = r;
	list_init(&io->node);
	if (r->op == BLK_FLUSH)
		flush_later(io);
	else
		start_window(io, false);
}

/* --- the worker --- */

void q_post(struct qcow2 *q, struct q_work *w, void (*run)(struct q_work *w))
{
	w->run = run;
	pthread_mutex_lock(&q->lock);
	list_append(&q->work, &w->node);
	pthread_cond_signal(&q->wake);
	pthread_mutex_unlock(&q->lock);
}

/* lock held. */
static bool has_duty(const struct qcow2 *q)
{
	return !list_empty(&q->flushes) || q->commit_wanted || q->enlarge_wanted;
}

/* lock held, dropped meanwhile. */
static void one_flush(struct qcow2 *q)
{
	struct list flushes;

	list_init(&flushes);
	while (!list_empty(&q->flushes)) {
		struct list *l = q->flushes.next;

		list_remove(l);
		list_append(&flushes, l);
	}
	q->commit_wanted = false;
	q->committing = true;
	pthread_mutex_unlock(&q->lock);
	run_flushes(q, &flushes);
	pthread_mutex_lock(&q->lock);
	q->committing = false;
}

/* lock held, dropped meanwhile. */
static void enlarge(struct qcow2 *q)
{
	pthread_mutex_unlock(&q->lock);
	pthread_mutex_lock(&q->slow);
	q_file_enlarge(q);
	pthread_mutex_unlock(&q->slow);
	pthread_mutex_lock(&q->lock);
}

/* lock held, dropped meanwhile. */
static void one_work(struct qcow2 *q)
{
	struct q_work *w = container_of(q->work.next, struct q_work, node);

	list_remove(&w->node);
	pthread_mutex_unlock(&q->lock);
	pthread_mutex_lock(&q->slow);
	w->run(w);
	pthread_mutex_unlock(&q->slow);
	pthread_mutex_lock(&q->lock);
}

static void *worker(void *opaque)
{
	struct qcow2 *q = opaque;

	pthread_mutex_lock(&q->lock);
	for (;;) {
		while (list_empty(&q->work) && !has_duty(q) && !q->stop)
			pthread_cond_wait(&q->wake, &q->lock);
		if (q->stop && list_empty(&q->work) && !has_duty(q))
			break;
		q->busy = true;
		if (q->enlarge_wanted)
			enlarge(q);
		if (!list_empty(&q->flushes) || q->commit_wanted)
			one_flush(q);
		if (!list_empty(&q->work))
			one_work(q);
		q->busy = false;
		pthread_cond_broadcast(&q->progress);
	}
	pthread_mutex_unlock(&q->lock);
	return NULL;
}

int q_worker_start(struct qcow2 *q, struct err *e)
{
	int r = -pthread_create(&q->thread, NULL, worker, q);

	if (r < 0)
		return err_set(e, r, "qcow2: worker thread");
	q->has_thread = true;
	return 0;
}

void q_worker_stop(struct qcow2 *q)
{
	if (!q->has_thread)
		return;
	pthread_mutex_lock(&q->lock);
	q->stop = true;
	pthread_cond_signal(&q->wake);
	pthread_mutex_unlock(&q->lock);
	pthread_join(q->thread, NULL);
	q->has_thread = false;
}
