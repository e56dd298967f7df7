/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio/virtio.c - what every virtio device shares: status, features, reset, saved state
 * (virtio 1.2, 2.1-2.6 and 3.1)
 */
#include "virtio/virtio.h"

#include "base/log.h"

#include <errno.h>

static void queue_reset(struct vq *q)
{
	q->size = q->size_max;
	q->enabled = false;
	q->desc = q->avail = q->used = 0;
	q->msix_vector = VIRTIO_NO_VECTOR;
	q->last_avail = q->used_idx = q->signalled_used = 0;
	q->kicks_off = false;
	vq_unmap(q);
}

void virtio_init(struct virtio_dev *d, const struct virtio_ops *ops, struct gmem *mem,
		 unsigned int n_queues, uint16_t queue_size, uint64_t features, uint32_t config_len)
{
	pthread_mutexattr_t attr;

	memset(d, 0, sizeof(*d));
	d->ops = ops;
	d->mem = mem;
	d->n_queues = n_queues;
	d->features_offered =
	    features | VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX;
	d->config_len = config_len;
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_RECURSIVE);
	pthread_mutex_init(&d->own_lock, &attr);
	pthread_mutexattr_destroy(&attr);
	d->lock = &d->own_lock;
	for (unsigned int i = 0; i < n_queues; i++) {
		d->q[i].dev = d;
		d->q[i].index = (uint16_t)i;
		d->q[i].size_max = queue_size;
		queue_reset(&d->q[i]);
	}
}

void virtio_fini(struct virtio_dev *d)
{
	pthread_mutex_destroy(&d->own_lock);
}

bool virtio_ready(const struct virtio_dev *d)
{
	return (d->status & (VIRTIO_STATUS_DRIVER_OK | VIRTIO_STATUS_NEEDS_RESET)) ==
	       VIRTIO_STATUS_DRIVER_OK;
}

void virtio_broken(struct virtio_dev *d, const char *why)
{
	guest_warn("%s: %s; the device waits for a reset", d->ops->name, why);
	if (d->status & VIRTIO_STATUS_NEEDS_RESET)
		return;
	d->status |= VIRTIO_STATUS_NEEDS_RESET;
	if (d->status & VIRTIO_STATUS_DRIVER_OK)
		virtio_config_changed(d);
}

void virtio_config_changed(struct virtio_dev *d)
{
	d->config_generation++;
	if ((d->status & VIRTIO_STATUS_DRIVER_OK) && d->transport.notify)
		d->transport.notify(d->transport.opaque, NULL);
}

void virtio_reset(struct virtio_dev *d)
{
	if (d->ops->reset)
		d->ops->reset(d);
	d->status = 0;
	d->features = 0;
	for (unsigned int i = 0; i < d->n_queues; i++)
		queue_reset(&d->q[i]);
}

/* The driver's choice stands only if it is a subset with VERSION_1 (3.1.1, 6.1). */
static bool features_ok(struct virtio_dev *d)
{
	if (d->features & ~d->features_offered)
		return false;
	return d->features & VIRTIO_F_VERSION_1;
}

void virtio_set_status(struct virtio_dev *d, uint8_t status)
{
	uint8_t set;

	if (!status) {
		virtio_reset(d);
		return;
	}
	/* NEEDS_RESET is the device's own; bits never go away but by reset (2.1.1). */
	status &= (uint8_t)~VIRTIO_STATUS_NEEDS_RESET;
	status |= d->status;
	set = status & (uint8_t)~d->status;
	if (set & VIRTIO_STATUS_FEATURES_OK) {
		if (!features_ok(d)) {
			guest_warn("%s: features 0x%llx are not on offer", d->ops->name,
				   (unsigned long long)d->features);
			status &= (uint8_t) ~(VIRTIO_STATUS_FEATURES_OK | VIRTIO_STATUS_DRIVER_OK);
		} else if (d->ops->features) {
			d->ops->features(d, d->features);
		}
	}
	if ((status & VIRTIO_STATUS_DRIVER_OK) && !(status & VIRTIO_STATUS_FEATURES_OK)) {
		guest_warn("%s: DRIVER_OK before FEATURES_OK", d->ops->name);
		status &= (uint8_t)~VIRTIO_STATUS_DRIVER_OK;
	}
	set = status & (uint8_t)~d->status;
	d->status = status;
	if (!(set & VIRTIO_STATUS_DRIVER_OK))
		return;
	for (unsigned int i = 0; i < d->n_queues; i++)
		virtio_kick(d, i);
}

void virtio_enable_queue(struct virtio_dev *d, unsigned int index)
{
	struct vq *q = &d->q[index];

	if (q->enabled)
		return;
	if (vq_map(q) < 0) {
		virtio_broken(d, "queue of a bad size or place");
		return;
	}
	q->enabled = true;
}

void virtio_kick(struct virtio_dev *d, unsigned int index)
{
	if (index < d->n_queues && d->q[index].enabled && virtio_ready(d) && d->ops->kick)
		d->ops->kick(d, &d->q[index]);
}

void virtio_config_read(struct virtio_dev *d, uint32_t off, void *buf, uint32_t len)
{
	memset(buf, 0, len);
	if (d->ops->config_read && range_ok(off, len, d->config_len))
		d->ops->config_read(d, off, buf, len);
}

void virtio_config_write(struct virtio_dev *d, uint32_t off, const void *buf, uint32_t len)
{
	if (d->ops->config_write && range_ok(off, len, d->config_len))
		d->ops->config_write(d, off, buf, len);
}

/* --- saved state --- */

static const struct state_field dev_fields[] = {
    STATE_FIELD(struct virtio_dev, features, 1),
    STATE_FIELD(struct virtio_dev, status, 1),
    STATE_FIELD(struct virtio_dev, config_generation, 1),
};

static const struct state_table dev_table = {
    .name = "virtio",
    .version = 1,
    .fields = dev_fields,
    .n_fields = ARRAY_SIZE(dev_fields),
};

static const struct state_field queue_fields[] = {
    STATE_FIELD(struct vq, size, 1),       STATE_FIELD(struct vq, enabled, 1),
    STATE_FIELD(struct vq, desc, 1),       STATE_FIELD(struct vq, avail, 1),
    STATE_FIELD(struct vq, used, 1),       STATE_FIELD(struct vq, msix_vector, 1),
    STATE_FIELD(struct vq, last_avail, 1), STATE_FIELD(struct vq, used_idx, 1),
    STATE_FIELD(struct vq, kicks_off, 1),  STATE_FIELD(struct vq, signalled_used, 1),
};

static int queue_loaded(void *obj, struct err *e)
{
	struct vq *q = obj;

	if (!q->enabled)
		return 0;
	if (vq_map(q) < 0)
		return err_msg(e, -EINVAL, "virtio queue %u: saved with a bad size or place",
			       q->index);
	return 0;
}

static const struct state_table queue_table = {
    .name = "virtqueue",
    .version = 1,
    .fields = queue_fields,
    .n_fields = ARRAY_SIZE(queue_fields),
    .loaded = queue_loaded,
};

void virtio_save(struct virtio_dev *d, struct strbuf *out)
{
	virtio_lock(d);
	if (d->ops->quiesce)
		d->ops->quiesce(d);
	state_save(&dev_table, d, out);
	for (unsigned int i = 0; i < d->n_queues; i++)
		state_save(&queue_table, &d->q[i], out);
	if (d->ops->state)
		state_save(d->ops->state, d, out);
	if (d->ops->save)
		d->ops->save(d, out);
	virtio_unlock(d);
}

static int load_part(const struct state_table *t, void *obj, const void *data, size_t len,
		     size_t *pos, struct err *e)
{
	size_t used;
	int r = state_load(t, obj, (const char *)data + *pos, len - *pos, &used, e);

	if (r == 0)
		*pos += used;
	return r;
}

int virtio_load(struct virtio_dev *d, const void *data, size_t len, size_t *used, struct err *e)
{
	size_t pos = 0, own = 0;
	int r;

	virtio_lock(d);
	r = load_part(&dev_table, d, data, len, &pos, e);
	for (unsigned int i = 0; i < d->n_queues && r == 0; i++)
		r = load_part(&queue_table, &d->q[i], data, len, &pos, e);
	if (r == 0 && d->ops->features && (d->status & VIRTIO_STATUS_FEATURES_OK))
		d->ops->features(d, d->features);
	if (r == 0 && d->ops->state)
		r = load_part(d->ops->state, d, data, len, &pos, e);
	if (r == 0 && d->ops->load)
		r = d->ops->load(d, (const char *)data + pos, len - pos, &own, e);
	virtio_unlock(d);
	if (r < 0)
		return err_wrap(e, r, "%s", d->ops->name);
	*used = pos + own;
	return 0;
}
