/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio/fs.c - the virtio-fs device: queues and worker (virtio 1.2, 5.11)
 *
 * Queue 0 is for requests that must not wait behind others (FORGET), queue 1 for all the rest.  No
 * notification queue, no DAX window.
 */
#include "virtio/fs.h"

#include "virtio/fs_priv.h"
#include "virtio/worker.h"

#include <errno.h>

#define N_QUEUES   2
#define QUEUE_SIZE 256
#define N_SLOTS    128
#define CONFIG_LEN (VIRTIO_FS_TAG_MAX + 4) /* tag, number of request queues */

struct fs {
	struct virtio_dev dev;
	struct virtio_worker worker;
	struct fs_session *session; /* the worker's, or the device's while nothing is in work */
	uint8_t config[CONFIG_LEN];
};

static struct fs *from_dev(struct virtio_dev *d)
{
	return container_of(d, struct fs, dev);
}

static int64_t serve(void *opaque, const struct vq_chain *c)
{
	struct fs *f = opaque;

	return fs_handle(f->session, c->out, c->n_out, c->in, c->n_in);
}

static void fs_kick(struct virtio_dev *d, struct vq *q)
{
	worker_kick(&from_dev(d)->worker);
}

static void fs_dev_reset(struct virtio_dev *d)
{
	struct fs *f = from_dev(d);

	worker_reset(&f->worker);
	fs_reset(f->session);
}

static void fs_quiesce(struct virtio_dev *d)
{
	worker_quiesce(&from_dev(d)->worker);
}

/* Inodes and open files are the host's, known by numbers that only this session understands. */
static int fs_can_save(struct virtio_dev *d, struct err *e)
{
	struct fs *f = from_dev(d);

	worker_quiesce(&f->worker);
	if (!f->session->ready)
		return 0;
	return err_msg(e, -EBUSY,
		       "the shared folder '%.*s' is mounted: unmount it in the guest first",
		       VIRTIO_FS_TAG_MAX, (const char *)f->config);
}

static void fs_config_read(struct virtio_dev *d, uint32_t off, void *buf, uint32_t len)
{
	memcpy(buf, from_dev(d)->config + off, len);
}

static void fs_dev_free(struct virtio_dev *d)
{
	struct fs *f = from_dev(d);

	worker_fini(&f->worker);
	fs_free(f->session);
	virtio_fini(d);
	free(f);
}

static const struct virtio_ops fs_ops = {
    .name = "virtio-fs",
    .id = 26,
    .kick = fs_kick,
    .config_read = fs_config_read,
    .reset = fs_dev_reset,
    .quiesce = fs_quiesce,
    .can_save = fs_can_save,
    .free = fs_dev_free,
};

static int open_session(const struct virtio_fs_spec *spec, struct fs_session **ret, struct err *e)
{
	autoclose int root = -1, proc = -1;
	int r = tree_open(spec->path, &root, &proc, e);

	if (r < 0)
		return r;
	r = fs_new(root, proc, spec->read_only, ret);
	if (r < 0)
		return err_set(e, r, "share '%s'", spec->path);
	(void)steal_fd(&root);
	(void)steal_fd(&proc);
	return 0;
}

int virtio_fs_new(struct gmem *mem, const struct virtio_fs_spec *spec, struct virtio_dev **ret,
		  struct err *e)
{
	size_t tag_len = strlen(spec->tag);
	struct fs *f;
	int r;

	if (!tag_len || tag_len > VIRTIO_FS_TAG_MAX)
		return err_msg(e, -EINVAL, "share '%s': a tag has 1 to %d bytes", spec->path,
			       VIRTIO_FS_TAG_MAX);
	f = xnew(struct fs);
	virtio_init(&f->dev, &fs_ops, mem, N_QUEUES, QUEUE_SIZE, 0, CONFIG_LEN);
	memcpy(f->config, spec->tag, tag_len);
	store_le32(f->config + VIRTIO_FS_TAG_MAX, N_QUEUES - 1);
	f->worker.dev = &f->dev;
	f->worker.handle = serve;
	f->worker.opaque = f;
	worker_init(&f->worker, N_SLOTS);
	r = open_session(spec, &f->session, e);
	if (r == 0) {
		r = worker_start(&f->worker);
		if (r < 0)
			err_set(e, r, "share '%s': worker thread", spec->path);
	}
	if (r < 0) {
		fs_dev_free(&f->dev);
		return r;
	}
	*ret = &f->dev;
	return 0;
}
