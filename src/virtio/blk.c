/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio/blk.c - disk (virtio 1.2, 5.2)
 *
 *	driver            kick (vCPU thread)            blk_submit
 *	  ring  --------> parse, slot from the pool ------------------> block node
 *	  ring  <-------- finish_all (loop, device lock) <-- done list <-- blk_done (any, leaf lock)
 *
 * blk_done() runs in the loop or in whoever drains the node, perhaps with this device's lock held,
 * so it takes none but the done list's own.
 *
 * Reset waits for the requests in flight, so that no byte reaches guest memory after it.
 */
#include "virtio/blk.h"

#include "base/log.h"

#include <errno.h>

#define QUEUE_SIZE 256
#define SEG_MAX    (VQ_CHAIN_MAX - 2)
#define SIZE_MAX_  (128u << 10)
#define IO_MAX     ((uint64_t)SEG_MAX * SIZE_MAX_)
#define SECTOR     512
/* At most this many sectors a discard: one request must not occupy the host for minutes. */
#define DISCARD_SECTORS_MAX (UINT32_C(1) << 21)
#define SERIAL_LEN          20

#define F_SIZE_MAX     BIT(1)
#define F_SEG_MAX      BIT(2)
#define F_RO           BIT(5)
#define F_BLK_SIZE     BIT(6)
#define F_FLUSH        BIT(9)
#define F_TOPOLOGY     BIT(10)
#define F_DISCARD      BIT(13)
#define F_WRITE_ZEROES BIT(14)

enum req_type {
	T_IN = 0,
	T_OUT = 1,
	T_FLUSH = 4,
	T_GET_ID = 8,
	T_DISCARD = 11,
	T_WRITE_ZEROES = 13,
};

enum req_status { S_OK = 0, S_IOERR = 1, S_UNSUPP = 2 };

struct req_head {
	uint32_t type, reserved;
	uint64_t sector;
};

struct req_range {
	uint64_t sector;
	uint32_t n_sectors, flags;
};

#define RANGE_F_UNMAP 1

/* 5.2.4 */
struct blk_config {
	uint64_t capacity;
	uint32_t size_max, seg_max;
	uint16_t cylinders;
	uint8_t heads, sectors;
	uint32_t blk_size;
	uint8_t physical_block_exp, alignment_offset;
	uint16_t min_io_size;
	uint32_t opt_io_size;
	uint8_t writeback, unused0;
	uint16_t num_queues;
	uint32_t max_discard_sectors, max_discard_seg, discard_sector_alignment;
	uint32_t max_write_zeroes_sectors, max_write_zeroes_seg;
	uint8_t write_zeroes_may_unmap, unused1[3];
};
_Static_assert(sizeof(struct blk_config) == 60 || sizeof(struct blk_config) == 64, "5.2.4");
#define CONFIG_LEN 60

struct slot {
	struct list node; /* free or done */
	struct vblk *v;
	struct blk_req req;
	int result;
	struct vq_chain chain;
	struct iovec data[VQ_CHAIN_MAX];
};

struct vblk {
	struct virtio_dev dev;
	struct blk *blk; /* owned */
	struct blk_config config;
	char serial[SERIAL_LEN];
	struct slot *slots;
	struct list free; /* device lock */
	pthread_mutex_t done_lock;
	struct list done; /* done_lock */
	struct loop_work finish;
};

static struct vblk *from_dev(struct virtio_dev *d)
{
	return container_of(d, struct vblk, dev);
}

/* --- completion --- */

static void answer(struct vblk *v, const struct vq_chain *c, enum req_status status)
{
	uint8_t byte = (uint8_t)status;

	iov_from_buf(c->in, c->n_in, c->in_len - 1, &byte, 1);
	vq_push(&v->dev.q[0], c, (uint32_t)MIN(c->in_len, (size_t)UINT32_MAX));
}

static enum req_status status_of(const struct slot *s)
{
	static struct log_rate rate;

	if (s->result == 0)
		return S_OK;
	if (s->result == -EOPNOTSUPP)
		return S_UNSUPP;
	/* Bad ranges and writes to a read-only disk are the guest's own affair. */
	if (s->result != -EINVAL && s->result != -EROFS && log_rate_ok(&rate))
		log_warn("disk: %s of %llu bytes at %llu: %s",
			 s->req.op == BLK_READ ? "read" : "write or flush",
			 (unsigned long long)s->req.len, (unsigned long long)s->req.offset,
			 strerror(-s->result));
	return S_IOERR;
}

static struct slot *take_done(struct vblk *v)
{
	struct slot *s = NULL;

	pthread_mutex_lock(&v->done_lock);
	if (!list_empty(&v->done)) {
		s = container_of(v->done.next, struct slot, node);
		list_remove(&s->node);
	}
	pthread_mutex_unlock(&v->done_lock);
	return s;
}

static void blk_done(struct blk_req *r, int result)
{
	struct slot *s = container_of(r, struct slot, req);
	struct vblk *v = s->v;
	bool first;

	s->result = result;
	pthread_mutex_lock(&v->done_lock);
	first = list_empty(&v->done);
	list_append(&v->done, &s->node);
	pthread_mutex_unlock(&v->done_lock);
	if (first)
		loop_post(v->blk->loop, &v->finish);
}

static void serve(struct vblk *v);

/* Device lock held. */
static void finish_done(struct vblk *v)
{
	struct slot *s;

	while ((s = take_done(v)) != NULL) {
		answer(v, &s->chain, status_of(s));
		list_append(&v->free, &s->node);
	}
}

static void finish_work(void *opaque)
{
	struct vblk *v = opaque;

	virtio_lock(&v->dev);
	finish_done(v);
	serve(v); /* chains left in the ring while no slot was free */
	virtio_unlock(&v->dev);
}

/* --- requests --- */

static bool start(struct slot *s, enum blk_op op, uint64_t sector, uint64_t len)
{
	if (sector > UINT64_MAX / SECTOR)
		return false;
	s->req = (struct blk_req){
	    .op = op,
	    .offset = sector * SECTOR,
	    .len = len,
	    .iov = s->data,
	    .done = blk_done,
	};
	return true;
}

static bool start_rw(struct slot *s, const struct req_head *head)
{
	const struct vq_chain *c = &s->chain;
	bool write = head->type == T_OUT;
	size_t len = write ? c->out_len - sizeof(*head) : c->in_len - 1;

	if (len > IO_MAX || !start(s, write ? BLK_WRITE : BLK_READ, head->sector, len))
		return false;
	if (write)
		s->req.n_iov =
		    iov_slice(s->data, VQ_CHAIN_MAX, c->out, c->n_out, sizeof(*head), len);
	else
		s->req.n_iov = iov_slice(s->data, VQ_CHAIN_MAX, c->in, c->n_in, 0, len);
	/* A driver that knows no flush expects every write to be safe (5.2.6.2). */
	if (write && !virtio_has(&s->v->dev, F_FLUSH))
		s->req.flags |= BLK_FUA;
	return true;
}

static enum req_status start_range(struct slot *s, const struct req_head *head)
{
	bool zero = head->type == T_WRITE_ZEROES;
	struct req_range range;
	const struct vq_chain *c = &s->chain;

	if (c->out_len != sizeof(*head) + sizeof(range))
		return S_IOERR;
	iov_to_buf(c->out, c->n_out, sizeof(*head), &range, sizeof(range));
	if (range.flags & ~(zero ? (uint32_t)RANGE_F_UNMAP : 0))
		return S_UNSUPP;
	if (range.n_sectors > DISCARD_SECTORS_MAX)
		return S_IOERR;
	if (!start(s, zero ? BLK_WRITE_ZEROES : BLK_DISCARD, range.sector,
		   (uint64_t)range.n_sectors * SECTOR))
		return S_IOERR;
	if (range.flags & RANGE_F_UNMAP)
		s->req.flags |= BLK_UNMAP;
	return S_OK;
}

/* Fills in s->req; anything but S_OK is the answer already. */
static enum req_status parse(struct slot *s, const struct req_head *head)
{
	switch (head->type) {
	case T_IN:
	case T_OUT:
		return start_rw(s, head) ? S_OK : S_IOERR;
	case T_FLUSH:
		return start(s, BLK_FLUSH, 0, 0) ? S_OK : S_IOERR;
	case T_DISCARD:
	case T_WRITE_ZEROES:
		return start_range(s, head);
	}
	return S_UNSUPP;
}

static void get_id(struct vblk *v, const struct vq_chain *c)
{
	iov_from_buf(c->in, c->n_in, 0, v->serial, MIN(c->in_len - 1, (size_t)SERIAL_LEN));
	answer(v, c, S_OK);
}

/* Returns false when the chain makes no request at all. */
static bool handle(struct vblk *v, struct slot *s)
{
	const struct vq_chain *c = &s->chain;
	struct req_head head;
	enum req_status status;

	if (c->out_len < sizeof(head) || c->in_len < 1) {
		virtio_broken(&v->dev, "disk request without header or status");
		return false;
	}
	iov_to_buf(c->out, c->n_out, 0, &head, sizeof(head));
	if (head.type == T_GET_ID) {
		get_id(v, c);
		list_append(&v->free, &s->node);
		return true;
	}
	status = parse(s, &head);
	if (status == S_OK) {
		blk_submit(v->blk, &s->req);
		return true;
	}
	answer(v, c, status);
	list_append(&v->free, &s->node);
	return true;
}

static void serve(struct vblk *v)
{
	struct vq *q = &v->dev.q[0];

	while (!list_empty(&v->free)) {
		struct slot *s = container_of(v->free.prev, struct slot, node);

		if (!vq_pop(q, &s->chain))
			break;
		list_remove(&s->node);
		if (!handle(v, s)) {
			list_append(&v->free, &s->node);
			break;
		}
	}
	vq_notify(q);
}

static void vblk_kick(struct virtio_dev *d, struct vq *q)
{
	(void)q;
	serve(from_dev(d));
}

/* --- device --- */

static void vblk_config_read(struct virtio_dev *d, uint32_t off, void *buf, uint32_t len)
{
	memcpy(buf, (const char *)&from_dev(d)->config + off, len);
}

static void vblk_reset(struct virtio_dev *d)
{
	struct vblk *v = from_dev(d);
	struct slot *s;

	blk_drain(v->blk);
	while ((s = take_done(v)) != NULL)
		list_append(&v->free, &s->node);
}

static void vblk_quiesce(struct virtio_dev *d)
{
	struct vblk *v = from_dev(d);

	blk_drain(v->blk);
	finish_done(v);
	vq_notify(&d->q[0]);
}

static void vblk_free(struct virtio_dev *d)
{
	struct vblk *v = from_dev(d);

	blk_drain(v->blk);
	loop_unpost(v->blk->loop, &v->finish);
	blk_close(v->blk);
	pthread_mutex_destroy(&v->done_lock);
	free(v->slots);
	virtio_fini(d);
	free(v);
}

static const struct virtio_ops vblk_ops = {
    .name = "virtio-blk",
    .id = 2,
    .kick = vblk_kick,
    .config_read = vblk_config_read,
    .reset = vblk_reset,
    .quiesce = vblk_quiesce,
    .free = vblk_free,
};

static void fill_config(struct blk_config *c, const struct blk_info *info)
{
	c->capacity = info->size / SECTOR;
	c->size_max = SIZE_MAX_;
	c->seg_max = SEG_MAX;
	c->blk_size = info->block_size;
	/* Partitions and file systems should align to 4 KiB. */
	c->physical_block_exp = info->block_size == 512 ? 3 : 0;
	c->min_io_size = 1;
	c->num_queues = 1;
	c->max_discard_sectors = c->max_write_zeroes_sectors = DISCARD_SECTORS_MAX;
	c->max_discard_seg = c->max_write_zeroes_seg = 1;
	c->discard_sector_alignment = 4096 / SECTOR;
	c->write_zeroes_may_unmap = 1;
}

int virtio_blk_new(struct gmem *mem, struct blk *blk, const char *serial, struct virtio_dev **ret,
		   struct err *e)
{
	const struct blk_info *info = blk_info(blk);
	uint64_t features = F_SIZE_MAX | F_SEG_MAX | F_BLK_SIZE | F_FLUSH | F_TOPOLOGY;
	struct vblk *v = xnew(struct vblk);

	/* Touched as deep as the guest queues requests. */
	v->slots = calloc(QUEUE_SIZE, sizeof(*v->slots));
	if (!v->slots) {
		free(v);
		return err_set(e, -ENOMEM, "virtio-blk");
	}
	features |= info->read_only ? F_RO : 0;
	features |= info->discard ? F_DISCARD : 0;
	features |= info->write_zeroes ? F_WRITE_ZEROES : 0;
	virtio_init(&v->dev, &vblk_ops, mem, 1, QUEUE_SIZE, features, CONFIG_LEN);
	fill_config(&v->config, info);
	if (serial)
		memcpy(v->serial, serial, strnlen(serial, SERIAL_LEN));
	v->blk = blk;
	pthread_mutex_init(&v->done_lock, NULL);
	list_init(&v->done);
	list_init(&v->free);
	for (unsigned int i = 0; i < QUEUE_SIZE; i++) {
		v->slots[i].v = v;
		list_append(&v->free, &v->slots[i].node);
	}
	loop_work_init(&v->finish, finish_work, v);
	*ret = &v->dev;
	return 0;
}

struct blk *virtio_blk_exchange(struct virtio_dev *d, struct blk *blk)
{
	struct vblk *v = from_dev(d);
	struct blk *old = v->blk;

	virtio_lock(d);
	v->blk = blk;
	virtio_unlock(d);
	return old;
}
