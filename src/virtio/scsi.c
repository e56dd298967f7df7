/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio/scsi.c - SCSI host adapter: queues, requests, task management (virtio 1.2, 5.6)
 *
 * As virtio/blk.c: a kick parses and submits; blk_done, wherever it runs, leaves the request in a
 * list that only its own lock guards, and the loop answers.
 */
#include "virtio/scsi_priv.h"

#include "base/log.h"

#include <errno.h>

#define QUEUE_SIZE   128
#define SLOTS        128u
#define CONTROL      0
#define REQUEST      2
#define QUEUES       3
#define REQUEST_HEAD 19u /* before the command: lun, id, attribute, priority, CRN */
#define ANSWER_HEAD  12u /* before the sense data */
#define SECTORS_MAX  0xffffu

enum { RESPONSE_OK = 0, RESPONSE_OVERRUN = 1, RESPONSE_BAD_TARGET = 3, RESPONSE_FAILURE = 9 };

/* 5.6.4 */
struct scsi_config {
	uint32_t num_queues, seg_max, max_sectors, cmd_per_lun, event_info_size, sense_size,
	    cdb_size;
	uint16_t max_channel, max_target;
	uint32_t max_lun;
};
_Static_assert(sizeof(struct scsi_config) == 36, "5.6.4");

struct slot {
	struct list node; /* free or done */
	struct scsi *s;
	int result;
	struct vq_chain chain;
	struct scsi_command command;
	struct iovec data[VQ_CHAIN_MAX];
};

struct scsi {
	struct virtio_dev dev;
	struct blk *blk; /* owned */
	struct scsi_config config;
	char serial[21];
	struct slot *slots;
	struct list free; /* device lock */
	pthread_mutex_t done_lock;
	struct list done; /* done_lock */
	struct loop_work finish;
};

static struct scsi *from_dev(struct virtio_dev *d)
{
	return container_of(d, struct scsi, dev);
}

/* Bytes before what a request carries in either direction. */
static size_t out_head(const struct scsi *s)
{
	return REQUEST_HEAD + s->config.cdb_size;
}

static size_t in_head(const struct scsi *s)
{
	return ANSWER_HEAD + s->config.sense_size;
}

/* --- answers --- */

static void push(struct slot *t, uint8_t response, enum scsi_status status, uint32_t data_len)
{
	struct scsi *s = t->s;
	uint8_t head[ANSWER_HEAD + SCSI_SENSE] = {0};
	size_t room = t->chain.in_len - in_head(s);

	if (status == SCSI_CHECK) {
		uint32_t n = MIN(SCSI_SENSE_LEN, s->config.sense_size);

		store_le32(head, n);
		scsi_put_sense(t->command.sense, head + ANSWER_HEAD);
	}
	store_le32(head + 4, (uint32_t)(room > data_len ? room - data_len : 0));
	head[10] = (uint8_t)status;
	head[11] = response;
	iov_from_buf(t->chain.in, t->chain.n_in, 0, head, in_head(s));
	vq_push(&s->dev.q[REQUEST], &t->chain, (uint32_t)(in_head(s) + data_len));
	list_append(&s->free, &t->node);
}

static void answer_done(struct slot *t)
{
	const struct blk_req *r = &t->command.req;
	static struct log_rate rate;

	if (t->result == 0) {
		push(t, RESPONSE_OK, SCSI_GOOD, r->op == BLK_READ ? (uint32_t)r->len : 0);
		return;
	}
	if (log_rate_ok(&rate))
		log_warn("disk: %llu bytes at %llu: %s", (unsigned long long)r->len,
			 (unsigned long long)r->offset, strerror(-t->result));
	t->command.sense = r->op == BLK_READ ? SENSE_READ_ERROR : SENSE_WRITE_ERROR;
	push(t, RESPONSE_OK, SCSI_CHECK, 0);
}

static struct slot *take_done(struct scsi *s)
{
	struct slot *t = NULL;

	pthread_mutex_lock(&s->done_lock);
	if (!list_empty(&s->done)) {
		t = container_of(s->done.next, struct slot, node);
		list_remove(&t->node);
	}
	pthread_mutex_unlock(&s->done_lock);
	return t;
}

static void blk_done(struct blk_req *r, int result)
{
	struct slot *t = container_of(r, struct slot, command.req);
	struct scsi *s = t->s;
	bool first;

	t->result = result;
	pthread_mutex_lock(&s->done_lock);
	first = list_empty(&s->done);
	list_append(&s->done, &t->node);
	pthread_mutex_unlock(&s->done_lock);
	if (first)
		loop_post(s->blk->loop, &s->finish);
}

/* Device lock held. */
static void finish_done(struct scsi *s)
{
	struct slot *t;

	while ((t = take_done(s)) != NULL)
		answer_done(t);
}

/* --- requests --- */

/* False: there is less room than the command moves. */
static bool map_data(struct slot *t)
{
	const struct vq_chain *c = &t->chain;
	struct blk_req *r = &t->command.req;

	if (r->op == BLK_READ) {
		if (c->in_len - in_head(t->s) < r->len)
			return false;
		r->n_iov = iov_slice(t->data, VQ_CHAIN_MAX, c->in, c->n_in, in_head(t->s), r->len);
	} else if (r->op == BLK_WRITE) {
		if (c->out_len - out_head(t->s) < r->len)
			return false;
		r->n_iov =
		    iov_slice(t->data, VQ_CHAIN_MAX, c->out, c->n_out, out_head(t->s), r->len);
	}
	r->iov = t->data;
	return true;
}

static void run(struct slot *t)
{
	struct scsi *s = t->s;
	struct scsi_command *c = &t->command;

	switch (scsi_disk_command(blk_info(s->blk), s->serial, c)) {
	case SCSI_DONE:
		c->len =
		    (uint32_t)iov_from_buf(t->chain.in, t->chain.n_in, in_head(s), c->data, c->len);
		push(t, RESPONSE_OK, SCSI_GOOD, c->len);
		return;
	case SCSI_ERROR:
		push(t, RESPONSE_OK, SCSI_CHECK, 0);
		return;
	case SCSI_BLOCK:
		break;
	}
	if (!map_data(t)) {
		push(t, RESPONSE_OVERRUN, SCSI_GOOD, 0);
		return;
	}
	c->req.done = blk_done;
	blk_submit(s->blk, &c->req);
}

/* Returns false when the chain makes no request at all. */
static bool handle(struct slot *t)
{
	struct scsi *s = t->s;
	const struct vq_chain *c = &t->chain;
	uint8_t head[REQUEST_HEAD], list[24];

	if (c->out_len < out_head(s) || c->in_len < in_head(s)) {
		virtio_broken(&s->dev, "SCSI request without head or room for an answer");
		return false;
	}
	t->command = (struct scsi_command){0};
	iov_to_buf(c->out, c->n_out, 0, head, sizeof(head));
	iov_to_buf(c->out, c->n_out, REQUEST_HEAD, t->command.cdb,
		   MIN(s->config.cdb_size, SCSI_CDB));
	if (head[0] != 1 || head[1] != 0) {
		push(t, RESPONSE_BAD_TARGET, SCSI_GOOD, 0);
		return true;
	}
	t->command.other_lun = (head[2] & 0x3f) || head[3];
	t->command.list = list;
	t->command.list_len = iov_to_buf(c->out, c->n_out, out_head(s), list, sizeof(list));
	run(t);
	return true;
}

static void serve(struct scsi *s)
{
	struct vq *q = &s->dev.q[REQUEST];

	while (!list_empty(&s->free)) {
		struct slot *t = container_of(s->free.prev, struct slot, node);

		if (!vq_pop(q, &t->chain))
			break;
		list_remove(&t->node);
		if (!handle(t)) {
			list_append(&s->free, &t->node);
			break;
		}
	}
	vq_notify(q);
}

static void finish_work(void *opaque)
{
	struct scsi *s = opaque;

	virtio_lock(&s->dev);
	finish_done(s);
	serve(s);
	virtio_unlock(&s->dev);
}

/* Task management: what was asked for to be aborted is done instead, which is allowed.  Asking for
 * events finds that there are none. */
static void serve_control(struct scsi *s, struct vq *q)
{
	struct vq_chain c;
	uint32_t type;

	while (vq_pop(q, &c)) {
		uint8_t answer[5] = {0};
		size_t n;

		if (iov_to_buf(c.out, c.n_out, 0, &type, sizeof(type)) != sizeof(type)) {
			virtio_broken(&s->dev, "SCSI control request without a type");
			break;
		}
		blk_drain(s->blk);
		finish_done(s);
		if (type > 2)
			answer[0] = RESPONSE_FAILURE;
		n = type == 1 || type == 2 ? 5 : 1;
		vq_push(q, &c, (uint32_t)iov_from_buf(c.in, c.n_in, 0, answer, n));
	}
	vq_notify(&s->dev.q[REQUEST]);
	vq_notify(q);
}

/* --- the device --- */

static void scsi_kick(struct virtio_dev *d, struct vq *q)
{
	if (q->index == CONTROL)
		serve_control(from_dev(d), q);
	else if (q->index == REQUEST)
		serve(from_dev(d));
}

static void scsi_config_read(struct virtio_dev *d, uint32_t off, void *buf, uint32_t len)
{
	memcpy(buf, (const char *)&from_dev(d)->config + off, len);
}

/* The two sizes; larger ones than ours are not taken (5.6.4.2). */
static void scsi_config_write(struct virtio_dev *d, uint32_t off, const void *buf, uint32_t len)
{
	struct scsi *s = from_dev(d);
	uint32_t v = len == 4 ? load_le32(buf) : 0;

	if (off == offsetof(struct scsi_config, sense_size) && v && v <= SCSI_SENSE)
		s->config.sense_size = v;
	else if (off == offsetof(struct scsi_config, cdb_size) && v >= 16 && v <= SCSI_CDB)
		s->config.cdb_size = v;
}

static void scsi_reset(struct virtio_dev *d)
{
	struct scsi *s = from_dev(d);
	struct slot *t;

	blk_drain(s->blk);
	while ((t = take_done(s)) != NULL)
		list_append(&s->free, &t->node);
	s->config.sense_size = SCSI_SENSE;
	s->config.cdb_size = SCSI_CDB;
}

static void scsi_quiesce(struct virtio_dev *d)
{
	struct scsi *s = from_dev(d);

	blk_drain(s->blk);
	finish_done(s);
	vq_notify(&d->q[REQUEST]);
}

static void scsi_free(struct virtio_dev *d)
{
	struct scsi *s = from_dev(d);

	blk_drain(s->blk);
	loop_unpost(s->blk->loop, &s->finish);
	blk_close(s->blk);
	pthread_mutex_destroy(&s->done_lock);
	free(s->slots);
	virtio_fini(d);
	free(s);
}

static const struct state_field scsi_fields[] = {
    STATE_FIELD(struct scsi, config.sense_size, 1),
    STATE_FIELD(struct scsi, config.cdb_size, 1),
};

/* What waited in the queue is looked at once more. */
static int scsi_loaded(void *opaque, struct err *e)
{
	struct scsi *s = opaque;

	if (!s->config.sense_size || s->config.sense_size > SCSI_SENSE || s->config.cdb_size < 16 ||
	    s->config.cdb_size > SCSI_CDB) {
		s->config.sense_size = SCSI_SENSE;
		s->config.cdb_size = SCSI_CDB;
		return err_msg(e, -EINVAL, "saved with impossible sizes");
	}
	loop_post(s->blk->loop, &s->finish);
	return 0;
}

static const struct state_table scsi_table = {
    .name = "virtio-scsi",
    .version = 1,
    .fields = scsi_fields,
    .n_fields = ARRAY_SIZE(scsi_fields),
    .loaded = scsi_loaded,
};

static const struct virtio_ops scsi_ops = {
    .name = "virtio-scsi",
    .id = 8,
    .kick = scsi_kick,
    .config_read = scsi_config_read,
    .config_write = scsi_config_write,
    .reset = scsi_reset,
    .quiesce = scsi_quiesce,
    .free = scsi_free,
    .state = &scsi_table,
};

int virtio_scsi_new(struct gmem *mem, struct blk *blk, const char *serial, struct virtio_dev **ret,
		    struct err *e)
{
	struct scsi *s = xnew(struct scsi);

	s->slots = calloc(SLOTS, sizeof(*s->slots));
	if (!s->slots) {
		free(s);
		return err_set(e, -ENOMEM, "virtio-scsi");
	}
	virtio_init(&s->dev, &scsi_ops, mem, QUEUES, QUEUE_SIZE, 0, sizeof(s->config));
	s->config = (struct scsi_config){
	    .num_queues = 1,
	    .seg_max = VQ_CHAIN_MAX - 2,
	    .max_sectors = SECTORS_MAX,
	    .cmd_per_lun = SLOTS,
	    .event_info_size = 16,
	    .sense_size = SCSI_SENSE,
	    .cdb_size = SCSI_CDB,
	};
	if (serial)
		memcpy(s->serial, serial, strnlen(serial, sizeof(s->serial) - 1));
	s->blk = blk;
	pthread_mutex_init(&s->done_lock, NULL);
	list_init(&s->done);
	list_init(&s->free);
	for (unsigned int i = 0; i < SLOTS; i++) {
		s->slots[i].s = s;
		list_append(&s->free, &s->slots[i].node);
	}
	loop_work_init(&s->finish, finish_work, s);
	*ret = &s->dev;
	return 0;
}

struct blk *virtio_scsi_exchange(struct virtio_dev *d, struct blk *blk)
{
	struct scsi *s = from_dev(d);
	struct blk *old = s->blk;

	virtio_lock(d);
	s->blk = blk;
	virtio_unlock(d);
	return old;
}
