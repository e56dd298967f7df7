/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio/ninep.c - the virtio 9P device: queue and worker
 *
 *	vCPU: kick --> todo --> worker: p9_handle --> done --> push, interrupt
 *
 * One worker serves requests in order, so that a slow disk blocks no vCPU and the session needs no
 * lock.  `lock` is a leaf: it covers the lists only, and is never held while taking the device's.
 * Reset holds the device's lock and waits for the one request in work, which needs neither.
 */
#include "virtio/ninep.h"

#include "virtio/ninep_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/resource.h>

#define QUEUE_SIZE 128
#define TAG_MAX    255
#define F_TAG      BIT(0)
#define FDS_WANTED 65536

struct slot {
	struct list node; /* free, todo or done */
	int64_t result;   /* answer's length or -1 */
	struct vq_chain chain;
};

struct ninep {
	struct virtio_dev dev;
	struct p9_session *session; /* the worker's, or the device's while nothing is in work */
	uint8_t config[2 + TAG_MAX];
	struct slot *slots;
	struct list free; /* device's lock */
	pthread_t worker;
	bool started;
	pthread_mutex_t lock;
	pthread_cond_t wake, idle;
	struct list todo, done;
	bool busy, stop;
};

static struct ninep *from_dev(struct virtio_dev *d)
{
	return container_of(d, struct ninep, dev);
}

static struct slot *take(struct list *l)
{
	struct slot *s;

	if (list_empty(l))
		return NULL;
	s = container_of(l->next, struct slot, node);
	list_remove(&s->node);
	return s;
}

static void serve(struct ninep *p)
{
	bool any = false;
	struct slot *s;

	while ((s = take(&p->free)) != NULL) {
		if (!vq_pop(&p->dev.q[0], &s->chain)) {
			list_append(&p->free, &s->node);
			break;
		}
		pthread_mutex_lock(&p->lock);
		list_append(&p->todo, &s->node);
		pthread_mutex_unlock(&p->lock);
		any = true;
	}
	if (any)
		pthread_cond_signal(&p->wake);
}

static void ninep_kick(struct virtio_dev *d, struct vq *q)
{
	serve(from_dev(d));
}

/* Device's lock held: hand back what the worker has answered. */
static void finish(struct ninep *p)
{
	struct vq *q = &p->dev.q[0];

	for (;;) {
		struct slot *s;

		pthread_mutex_lock(&p->lock);
		s = take(&p->done);
		pthread_mutex_unlock(&p->lock);
		if (!s)
			break;
		if (s->result < 0)
			virtio_broken(&p->dev, "malformed 9P message");
		else
			vq_push(q, &s->chain, (uint32_t)s->result);
		list_append(&p->free, &s->node);
	}
	vq_notify(q);
}

static void *worker(void *opaque)
{
	struct ninep *p = opaque;

	pthread_mutex_lock(&p->lock);
	while (!p->stop) {
		struct slot *s = take(&p->todo);

		if (!s) {
			pthread_cond_wait(&p->wake, &p->lock);
			continue;
		}
		p->busy = true;
		pthread_mutex_unlock(&p->lock);
		s->result =
		    p9_handle(p->session, s->chain.out, s->chain.n_out, s->chain.in, s->chain.n_in);
		pthread_mutex_lock(&p->lock);
		p->busy = false;
		list_append(&p->done, &s->node);
		pthread_cond_broadcast(&p->idle);
		pthread_mutex_unlock(&p->lock);
		virtio_lock(&p->dev);
		finish(p);
		serve(p);
		virtio_unlock(&p->dev);
		pthread_mutex_lock(&p->lock);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

/* Drops what waits, sits out what is in work. */
static void ninep_reset(struct virtio_dev *d)
{
	struct ninep *p = from_dev(d);
	struct slot *s;

	pthread_mutex_lock(&p->lock);
	while ((s = take(&p->todo)) != NULL)
		list_append(&p->free, &s->node);
	while (p->busy)
		pthread_cond_wait(&p->idle, &p->lock);
	while ((s = take(&p->done)) != NULL)
		list_append(&p->free, &s->node);
	pthread_mutex_unlock(&p->lock);
	p9_reset(p->session);
}

/* The worker cannot go on without the device's lock, so what it has not begun is done here. */
static void ninep_quiesce(struct virtio_dev *d)
{
	struct ninep *p = from_dev(d);
	struct slot *s;

	pthread_mutex_lock(&p->lock);
	while (p->busy)
		pthread_cond_wait(&p->idle, &p->lock);
	while ((s = take(&p->todo)) != NULL) {
		s->result =
		    p9_handle(p->session, s->chain.out, s->chain.n_out, s->chain.in, s->chain.n_in);
		list_append(&p->done, &s->node);
	}
	pthread_mutex_unlock(&p->lock);
	finish(p);
}

static void ninep_config_read(struct virtio_dev *d, uint32_t off, void *buf, uint32_t len)
{
	memcpy(buf, from_dev(d)->config + off, len);
}

static void ninep_free(struct virtio_dev *d)
{
	struct ninep *p = from_dev(d);

	if (p->started) {
		pthread_mutex_lock(&p->lock);
		p->stop = true;
		pthread_cond_signal(&p->wake);
		pthread_mutex_unlock(&p->lock);
		pthread_join(p->worker, NULL);
	}
	p9_free(p->session);
	pthread_cond_destroy(&p->wake);
	pthread_cond_destroy(&p->idle);
	pthread_mutex_destroy(&p->lock);
	free(p->slots);
	virtio_fini(d);
	free(p);
}

static const struct virtio_ops ninep_ops = {
    .name = "virtio-9p",
    .id = 9,
    .kick = ninep_kick,
    .config_read = ninep_config_read,
    .reset = ninep_reset,
    .quiesce = ninep_quiesce,
    .free = ninep_free,
};

/* A guest keeps many files open; the usual soft limit of 1024 is for programs that use select(). */
static void raise_fd_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= FDS_WANTED)
		return;
	limit.rlim_cur = MIN(limit.rlim_max, (rlim_t)FDS_WANTED);
	(void)setrlimit(RLIMIT_NOFILE, &limit);
}

/* A mount of its own where the host lets us: from its root no ".." leads out. */
static int open_root(const char *path)
{
	autoclose int dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int tree =
	    dir < 0 ? -1
		    : open_tree(dir, "",
				OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE | AT_EMPTY_PATH);

	return tree >= 0 ? tree : steal_fd(&dir);
}

static int open_session(const struct virtio_9p_spec *spec, struct p9_session **ret, struct err *e)
{
	autoclose int root = open_root(spec->path);
	autoclose int proc = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
	int r;

	if (root < 0)
		return err_set(e, -errno, "share '%s'", spec->path);
	if (proc < 0)
		return err_set(e, -errno, "share '%s': /proc/self/fd", spec->path);
	raise_fd_limit();
	r = p9_new(root, proc, spec->read_only, ret);
	if (r < 0)
		return err_set(e, r, "share '%s'", spec->path);
	(void)steal_fd(&root);
	(void)steal_fd(&proc);
	return 0;
}

int virtio_9p_new(struct gmem *mem, const struct virtio_9p_spec *spec, struct virtio_dev **ret,
		  struct err *e)
{
	size_t tag_len = strlen(spec->tag);
	struct ninep *p;
	int r;

	if (!tag_len || tag_len > TAG_MAX)
		return err_msg(e, -EINVAL, "share '%s': a tag has 1 to %d bytes", spec->path,
			       TAG_MAX);
	p = xnew(struct ninep);
	virtio_init(&p->dev, &ninep_ops, mem, 1, QUEUE_SIZE, F_TAG, (uint32_t)(2 + tag_len));
	store_le16(p->config, (uint16_t)tag_len);
	memcpy(p->config + 2, spec->tag, tag_len);
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->wake, NULL);
	pthread_cond_init(&p->idle, NULL);
	list_init(&p->free);
	list_init(&p->todo);
	list_init(&p->done);
	p->slots = xcalloc(QUEUE_SIZE, sizeof(*p->slots));
	for (unsigned int i = 0; i < QUEUE_SIZE; i++)
		list_append(&p->free, &p->slots[i].node);
	r = open_session(spec, &p->session, e);
	if (r == 0) {
		r = -pthread_create(&p->worker, NULL, worker, p);
		p->started = r == 0;
		if (r < 0)
			err_set(e, r, "share '%s': worker thread", spec->path);
	}
	if (r < 0) {
		ninep_free(&p->dev);
		return r;
	}
	*ret = &p->dev;
	return 0;
}
