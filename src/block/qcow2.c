/* SPDX-License-Identifier: Apache-2.0 */
/*
 * block/qcow2.c - opening and closing an image; the node's slots
 */
#include "block/qcow2_priv.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <time.h>

#define CACHE_BYTES (16u << 20)
#define BLOCK_BYTES 4096u

/* Waits for whoever has something to do: the files below, or the worker. */
static void qcow2_poll(struct blk *b, int timeout_ms)
{
	struct qcow2 *q = q_of(b);
	bool below = q->file->in_flight || (q->backing && q->backing->in_flight);
	struct timespec until;

	blk_poll(q->file, timeout_ms);
	if (q->backing)
		blk_poll(q->backing, timeout_ms);
	if (below)
		return;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += (long)timeout_ms * 1000000;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	pthread_mutex_lock(&q->lock);
	if (q->busy || !list_empty(&q->work) || !list_empty(&q->flushes))
		pthread_cond_timedwait(&q->progress, &q->lock, &until);
	pthread_mutex_unlock(&q->lock);
}

static void release(struct qcow2 *q)
{
	q_worker_stop(q);
	q_snapshots_fini(q);
	q_cache_fini(&q->cache);
	q_set_fini(&q->tables);
	q_header_fini(&q->h);
	pthread_mutex_destroy(&q->slow);
	pthread_mutex_destroy(&q->lock);
	pthread_cond_destroy(&q->wake);
	pthread_cond_destroy(&q->progress);
	blk_fini(&q->blk);
	free(q->frees.ranges);
	free(q->l1);
	free(q->l1_dirty);
	free(q->rt);
	free(q->zbuf);
	free(q->cbuf);
	free(q->name);
	free(q);
}

/* The second commit writes what the first one made free. */
static void finish_writes(struct qcow2 *q)
{
	int r = 0;

	pthread_mutex_lock(&q->slow);
	for (int i = 0; i < 4 && r == 0 && q_is_dirty(q); i++)
		r = q_commit(q);
	q_file_trim(q);
	if (q->corrupt && q->h.version >= 3 && !(q->h.incompat & Q_INCOMPAT_CORRUPT)) {
		q_head_set64(q, Q_H_INCOMPAT, q->h.incompat | Q_INCOMPAT_CORRUPT);
		(void)!q_head_write(q);
	}
	pthread_mutex_unlock(&q->slow);
	if (r < 0)
		log_error("disk '%s': tables could not be written: %s", q->name, strerror(-r));
}

static void qcow2_close(struct blk *b)
{
	struct qcow2 *q = q_of(b);
	struct blk *file = q->file, *backing = q->backing;

	q_worker_stop(q);
	if (!q->read_only)
		finish_writes(q);
	release(q);
	blk_close(file);
	blk_close(backing);
}

static int qcow2_share(struct blk *b)
{
	struct qcow2 *q = q_of(b);

	if (!q->read_only)
		finish_writes(q);
	if (q_is_dirty(q))
		return -EIO;
	q->read_only = b->info.read_only = true;
	return blk_share(q->file);
}

static const struct blk_ops qcow2_ops = {
    .share = qcow2_share,
    .known_zeroes = qcow2_known_zeroes,
    .name = "qcow2",
    .submit = q_submit,
    .poll = qcow2_poll,
    .close = qcow2_close,
};

bool blk_is_qcow2(const struct blk *b)
{
	return b->ops == &qcow2_ops;
}

/* --- open --- */

static int read_header(struct qcow2 *q, struct err *e)
{
	size_t room = (size_t)1 << Q_MAX_CLUSTER_BITS, len;
	autofree uint8_t *head = NULL;
	uint64_t size;
	int r = q->file->ops->sync->size(q->file, &size);

	if (r < 0)
		return err_set(e, r, "qcow2: size of the file");
	len = (size_t)MIN(size, (uint64_t)room);
	head = calloc(1, MAX(len, sizeof(q->head)));
	if (!head)
		return err_set(e, -ENOMEM, "qcow2: header");
	r = q_pread(q, head, len, 0);
	if (r < 0)
		return err_set(e, r, "qcow2: read the header");
	memcpy(q->head, head, sizeof(q->head));
	memcpy(q->head_safe, head, sizeof(q->head));
	r = q_header_parse(head, len, &q->h, e);
	q->cluster_size = BIT(q->h.cluster_bits);
	q->l2_bits = q->h.cluster_bits - 3;
	q->ref_bits = q->h.cluster_bits + 3 - q->h.refcount_order;
	if (r == 0)
		q->fresh = q_clusters(q, size);
	q->file_end = size;
	return r;
}

/* What we do not keep up to date may not look as if it were. */
static int open_for_writing(struct qcow2 *q, struct err *e)
{
	uint64_t keep = q->h.n_bitmaps ? Q_AUTOCLEAR_BITMAPS : 0;
	int r = 0;

	if (q->h.incompat & Q_INCOMPAT_CORRUPT)
		return err_msg(e, -EROFS,
			       "qcow2: the image is marked as corrupt; repair it with `insula disk "
			       "check --repair`, or open it read-only");
	if (q->h.incompat & Q_INCOMPAT_DIRTY)
		r = q_rebuild(q, e);
	if (r == 0 && q->h.n_bitmaps)
		r = q_bitmaps_open(q, e);
	if (r == 0 && (q->h.autoclear & ~keep)) {
		q->h.autoclear &= keep;
		q_head_set64(q, Q_H_AUTOCLEAR, q->h.autoclear);
		r = q_head_write(q);
		if (r < 0)
			return err_set(e, r, "qcow2: write the header");
	}
	return r;
}

int qcow2_new(struct blk *file, const char *name, unsigned int flags, struct loop *l,
	      struct blk **ret, struct err *e)
{
	struct qcow2 *q = xnew(struct qcow2);
	bool read_only = flags & QCOW2_READ_ONLY;
	int r;

	blk_init(&q->blk, &qcow2_ops, l);
	pthread_mutex_init(&q->slow, NULL);
	pthread_mutex_init(&q->lock, NULL);
	pthread_cond_init(&q->wake, NULL);
	pthread_cond_init(&q->progress, NULL);
	list_init(&q->ios);
	list_init(&q->work);
	list_init(&q->flushes);
	list_init(&q->cache.lru);
	q->file = file;
	q->name = xstrdup(name);
	q->read_only = read_only;
	q->repair = flags & QCOW2_REPAIR;
	r = read_header(q, e);
	if (r == 0 && q_cache_init(&q->cache, MIN((size_t)q->cluster_size, (size_t)BLOCK_BYTES),
				   CACHE_BYTES) < 0)
		r = err_set(e, -ENOMEM, "qcow2: cache");
	if (r == 0)
		r = q_tables_load(q, e);
	if (r == 0)
		r = q_snapshots_load(q, e);
	if (r == 0 && !read_only && !q->repair)
		r = open_for_writing(q, e);
	if (r == 0)
		r = q_worker_start(q, e);
	if (r < 0) {
		release(q);
		return r;
	}
	q->blk.info = (struct blk_info){
	    .size = q->h.size,
	    .block_size = 512,
	    .read_only = read_only,
	    .discard = !read_only,
	    .write_zeroes = !read_only,
	};
	*ret = &q->blk;
	return 0;
}

const char *qcow2_backing(struct blk *b, const char **format)
{
	*format = q_of(b)->h.backing_format;
	return q_of(b)->h.backing;
}

void qcow2_set_backing(struct blk *b, struct blk *backing)
{
	q_of(b)->backing = backing;
	q_of(b)->backing_size = backing->info.size;
}

void qcow2_get_info(struct blk *b, struct qcow2_info *ret)
{
	const struct q_header *h = &q_of(b)->h;

	*ret = (struct qcow2_info){
	    .version = h->version,
	    .cluster_bits = h->cluster_bits,
	    .refcount_bits = 1u << h->refcount_order,
	    .compression = h->compression,
	    .lazy_refcounts = h->compat & Q_COMPAT_LAZY,
	    .dirty = h->incompat & Q_INCOMPAT_DIRTY,
	    .corrupt = h->incompat & Q_INCOMPAT_CORRUPT,
	    .n_snapshots = h->n_snapshots,
	    .n_bitmaps = h->n_bitmaps,
	    .backing = h->backing,
	    .backing_format = h->backing_format,
	};
}
