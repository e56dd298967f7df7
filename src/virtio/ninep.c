/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio/ninep.c - the virtio 9P device: queue and worker
 */
#include "virtio/ninep.h"

#include "virtio/ninep_priv.h"
#include "virtio/worker.h"

#include <errno.h>

#define QUEUE_SIZE 128
#define TAG_MAX    255
#define F_TAG      BIT(0)

struct ninep {
	struct virtio_dev dev;
	struct virtio_worker worker;
	struct p9_session *session; /* the worker's, or the device's while nothing is in work */
	uint8_t config[2 + TAG_MAX];
};

static struct ninep *from_dev(struct virtio_dev *d)
{
	return container_of(d, struct ninep, dev);
}

static int64_t ninep_handle(void *opaque, const struct vq_chain *c)
{
	struct ninep *p = opaque;

	return p9_handle(p->session, c->out, c->n_out, c->in, c->n_in);
}

static void ninep_kick(struct virtio_dev *d, struct vq *q)
{
	worker_kick(&from_dev(d)->worker);
}

static void ninep_reset(struct virtio_dev *d)
{
	struct ninep *p = from_dev(d);

	worker_reset(&p->worker);
	p9_reset(p->session);
}

static void ninep_quiesce(struct virtio_dev *d)
{
	worker_quiesce(&from_dev(d)->worker);
}

/* Fids name the host's files, known by numbers that only this session understands. */
static int ninep_can_save(struct virtio_dev *d, struct err *e)
{
	struct ninep *p = from_dev(d);

	worker_quiesce(&p->worker);
	if (!p->session->msize)
		return 0;
	return err_msg(e, -EBUSY,
		       "the shared folder '%.*s' is mounted: unmount it in the guest first",
		       (int)load_le16(p->config), (const char *)p->config + 2);
}

static void ninep_config_read(struct virtio_dev *d, uint32_t off, void *buf, uint32_t len)
{
	memcpy(buf, from_dev(d)->config + off, len);
}

static void ninep_free(struct virtio_dev *d)
{
	struct ninep *p = from_dev(d);

	worker_fini(&p->worker);
	p9_free(p->session);
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
    .can_save = ninep_can_save,
    .free = ninep_free,
};

static int open_session(const struct virtio_9p_spec *spec, struct p9_session **ret, struct err *e)
{
	autoclose int root = -1, proc = -1;
	int r = tree_open(spec->path, &root, &proc, e);

	if (r < 0)
		return r;
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
	p->worker.dev = &p->dev;
	p->worker.handle = ninep_handle;
	p->worker.opaque = p;
	worker_init(&p->worker, QUEUE_SIZE);
	r = open_session(spec, &p->session, e);
	if (r == 0) {
		r = worker_start(&p->worker);
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
