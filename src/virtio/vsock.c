/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio/vsock.c - virtio socket device: queues and dispatch (virtio 1.2, 5.10)
 *
 * A kick posts the device's work; the work takes what the guest sent off the transmit queue, then
 * gives each connection with something for the guest a turn at the receive buffers.  Nothing blocks
 * and nothing grows: data of the host's is read only when credit and a buffer wait for it, data of
 * the guest's is bounded by the credit we grant, and answers are flags of a connection or entries
 * of one small ring.
 *
 * See docs/vsock.md.
 */
#include "base/log.h"
#include "virtio/vsock_priv.h"

#include <errno.h>

#define QUEUE_RX    0
#define QUEUE_TX    1
#define QUEUE_EVENT 2
#define QUEUE_SIZE  256
#define CONFIG_LEN  8
#define TX_BATCH    256
#define RX_TURNS    64

#define VSOCK_F_STREAM        BIT(0)
#define EVENT_TRANSPORT_RESET 0

static struct virtio_vsock *vsock_of(struct virtio_dev *d)
{
	return container_of(d, struct virtio_vsock, dev);
}

/* --- to the guest --- */

struct vq *vsock_rx_queue(struct virtio_vsock *v)
{
	return &v->dev.q[QUEUE_RX];
}

bool vsock_rx_pop(struct virtio_vsock *v, struct vq_chain *c)
{
	struct vq *q = vsock_rx_queue(v);

	while (!vq_pop(q, c)) {
		if (vq_want_kicks(q, true)) {
			v->rx_starved = true;
			return false;
		}
	}
	if (c->in_len <= VSOCK_HDR_LEN) {
		virtio_broken(&v->dev, "receive buffer smaller than a header");
		return false;
	}
	return true;
}

void vsock_rx_push(struct vsock_conn *conn, const struct vq_chain *c, enum vsock_op op,
		   uint32_t flags, uint32_t len)
{
	struct vsock_hdr h = {
	    .src_cid = VSOCK_HOST_CID,
	    .dst_cid = conn->v->guest_cid,
	    .src_port = conn->host_port,
	    .dst_port = conn->guest_port,
	    .len = len,
	    .type = VSOCK_TYPE_STREAM,
	    .op = (uint16_t)op,
	    .flags = flags,
	    .buf_alloc = VSOCK_BUF_ALLOC,
	    .fwd_cnt = conn->forwarded,
	};

	conn->told_fwd = conn->forwarded;
	iov_from_buf(c->in, c->n_in, 0, &h, sizeof(h));
	vq_push(vsock_rx_queue(conn->v), c, (uint32_t)sizeof(h) + len);
}

/* Resets owed to packets of no connection. */
static bool send_resets(struct virtio_vsock *v)
{
	while (v->rst_len) {
		const struct vsock_rst *r = &v->rst[v->rst_head];
		struct vsock_hdr h = {
		    .src_cid = r->src_cid,
		    .dst_cid = v->guest_cid,
		    .src_port = r->src_port,
		    .dst_port = r->dst_port,
		    .type = VSOCK_TYPE_STREAM,
		    .op = VSOCK_OP_RST,
		};
		struct vq_chain *c = &v->rx_chain[0];

		if (!vsock_rx_pop(v, c))
			return false;
		iov_from_buf(c->in, c->n_in, 0, &h, sizeof(h));
		vq_push(vsock_rx_queue(v), c, sizeof(h));
		v->rst_head = (v->rst_head + 1) % VSOCK_RST_MAX;
		v->rst_len--;
	}
	return true;
}

static void serve_guest(struct virtio_vsock *v)
{
	unsigned int turns = 0;

	if (!virtio_ready(&v->dev))
		return;
	v->rx_starved = false;
	vq_want_kicks(vsock_rx_queue(v), false);
	if (send_resets(v)) {
		while (!list_empty(&v->active) && turns++ < RX_TURNS) {
			struct vsock_conn *c =
			    container_of(v->active.next, struct vsock_conn, active);

			/* Goes to the end of the line, by itself, while it has more. */
			list_remove(&c->active);
			if (!vsock_conn_serve(c)) {
				list_insert_before(v->active.next, &c->active);
				break;
			}
		}
	}
	vq_notify(vsock_rx_queue(v));
	if (!list_empty(&v->active) && !v->rx_starved)
		loop_post(v->loop, &v->work); /* others' turn */
}

static void send_event(struct virtio_vsock *v)
{
	struct vq *q = &v->dev.q[QUEUE_EVENT];
	uint32_t id = EVENT_TRANSPORT_RESET;

	if (!v->event_reset || !vq_pop(q, &v->rx_chain[0]))
		return;
	vq_want_next_kick(q);
	vq_push(q, &v->rx_chain[0],
		(uint32_t)iov_from_buf(v->rx_chain[0].in, v->rx_chain[0].n_in, 0, &id, 4));
	v->event_reset = false;
	vq_notify(q);
}

/* --- from the guest --- */

static void owe_reset(struct virtio_vsock *v, const struct vsock_hdr *h)
{
	unsigned int at = (v->rst_head + v->rst_len) % VSOCK_RST_MAX;

	/* No reset answers a reset, or two ends would play ping-pong. */
	if (h->op == VSOCK_OP_RST || v->rst_len == VSOCK_RST_MAX)
		return;
	v->rst[at] = (struct vsock_rst){h->dst_cid, h->dst_port, h->src_port};
	v->rst_len++;
}

static void accept_request(struct virtio_vsock *v, const struct vsock_hdr *h)
{
	int fd = vsock_host_connect(v, h->dst_port);
	struct vsock_conn *c = fd < 0 ? NULL : vsock_conn_new(v, fd, VSOCK_ESTABLISHED);

	if (!c) {
		owe_reset(v, h);
		return;
	}
	vsock_conn_bind(c, h->src_port, h->dst_port);
	c->peer_alloc = h->buf_alloc;
	c->peer_fwd = h->fwd_cnt;
	vsock_conn_owe(c, VSOCK_OWE_RESPONSE);
}

static void tx_packet(struct virtio_vsock *v, const struct vq_chain *chain)
{
	struct vsock_conn *c;
	struct vsock_hdr h;

	if (iov_to_buf(chain->out, chain->n_out, 0, &h, sizeof(h)) != sizeof(h)) {
		guest_warn("virtio-vsock: packet of %zu bytes", chain->out_len);
		return;
	}
	if (h.src_cid != v->guest_cid || h.dst_cid != VSOCK_HOST_CID ||
	    h.type != VSOCK_TYPE_STREAM) {
		owe_reset(v, &h);
		return;
	}
	c = vsock_conn_find(v, h.src_port, h.dst_port);
	if (!c && h.op == VSOCK_OP_REQUEST) {
		accept_request(v, &h);
	} else if (!c) {
		owe_reset(v, &h);
	} else if (h.len > chain->out_len - sizeof(h)) {
		guest_warn("virtio-vsock: length %u in a packet of %zu", h.len, chain->out_len);
		vsock_conn_abort(c);
	} else {
		vsock_conn_packet(c, &h, chain);
	}
}

static void take_from_guest(struct virtio_vsock *v)
{
	struct vq *q = &v->dev.q[QUEUE_TX];
	unsigned int done = 0;

	if (!virtio_ready(&v->dev))
		return;
	do {
		vq_want_kicks(q, false);
		while (v->rst_len < VSOCK_RST_MAX && done < TX_BATCH && vq_pop(q, &v->tx_chain)) {
			tx_packet(v, &v->tx_chain);
			vq_push(q, &v->tx_chain, 0);
			done++;
		}
		if (done == TX_BATCH)
			loop_post(v->loop, &v->work);
		/* A full ring of resets is emptied when the guest posts receive buffers. */
		if (done == TX_BATCH || v->rst_len == VSOCK_RST_MAX)
			break;
	} while (!vq_want_kicks(q, true));
	vq_notify(q);
}

/* --- entries --- */

void vsock_settle(struct virtio_vsock *v)
{
	bool tx_waits = v->rst_len == VSOCK_RST_MAX;

	serve_guest(v);
	if (tx_waits && v->rst_len < VSOCK_RST_MAX)
		loop_post(v->loop, &v->work);
	vsock_reap(v);
}

static void vsock_work(void *opaque)
{
	struct virtio_vsock *v = opaque;

	virtio_lock(&v->dev);
	send_event(v);
	take_from_guest(v);
	vsock_settle(v);
	virtio_unlock(&v->dev);
}

static void vsock_kick(struct virtio_dev *d, struct vq *q)
{
	struct virtio_vsock *v = vsock_of(d);

	if (q->index == QUEUE_RX && !v->rx_starved)
		return;
	if (q->index == QUEUE_EVENT && !v->event_reset) {
		if (v->resetting)
			timer_set(&v->accept_timer, timerq_now(v->accept_timer.q));
		return;
	}
	if (q->index != QUEUE_EVENT)
		vq_want_kicks(q, false);
	loop_post(v->loop, &v->work);
}

static void vsock_config_read(struct virtio_dev *d, uint32_t off, void *buf, uint32_t len)
{
	uint8_t config[CONFIG_LEN];

	store_le64(config, vsock_of(d)->guest_cid);
	memcpy(buf, config + off, len);
}

static void vsock_reset(struct virtio_dev *d)
{
	struct virtio_vsock *v = vsock_of(d);
	struct list *pos, *tmp;

	list_for_each_safe(pos, tmp, &v->conns)
	{
		struct vsock_conn *c = container_of(pos, struct vsock_conn, all);

		if (c->state != VSOCK_HANDSHAKE)
			vsock_conn_drop(c);
	}
	v->rst_len = 0;
	v->rx_starved = v->event_reset = false;
	if (v->resetting)
		timer_set(&v->accept_timer, timerq_now(v->accept_timer.q));
	loop_post(v->loop, &v->work);
}

static void vsock_free(struct virtio_dev *d)
{
	struct virtio_vsock *v = vsock_of(d);

	while (!list_empty(&v->conns))
		vsock_conn_drop(container_of(v->conns.next, struct vsock_conn, all));
	vsock_reap(v);
	vsock_host_close(v);
	loop_unpost(v->loop, &v->work);
	virtio_fini(d);
	free(v);
}

static const struct state_field vsock_fields[] = {
    STATE_FIELD(struct virtio_vsock, event_reset, 1),
};

/* Connections do not survive, and the CID may be another: the driver is told to start over. */
static int vsock_loaded(void *obj, struct err *e)
{
	struct virtio_vsock *v = obj;

	v->event_reset = true;
	v->resetting = virtio_ready(&v->dev);
	if (v->resetting)
		timer_set(&v->accept_timer, timerq_now(v->accept_timer.q) + VSOCK_RESET_PATIENCE);
	loop_post(v->loop, &v->work);
	return 0;
}

static const struct state_table vsock_table = {
    .name = "virtio-vsock",
    .version = 1,
    .fields = vsock_fields,
    .n_fields = ARRAY_SIZE(vsock_fields),
    .loaded = vsock_loaded,
};

static const struct virtio_ops vsock_ops = {
    .name = "virtio-vsock",
    .id = 19,
    .kick = vsock_kick,
    .config_read = vsock_config_read,
    .reset = vsock_reset,
    .free = vsock_free,
    .state = &vsock_table,
};

int virtio_vsock_new(struct gmem *mem, struct loop *l, uint64_t guest_cid, const char *path,
		     int listener, struct virtio_dev **ret, struct err *e)
{
	autoclose int given = listener;
	struct virtio_vsock *v;
	int r;

	if (guest_cid <= VSOCK_HOST_CID || guest_cid >= UINT32_MAX)
		return err_msg(e, -EINVAL, "vsock: cid %llu is not between 3 and 4294967294",
			       (unsigned long long)guest_cid);
	if (strlen(path) >= sizeof(v->path))
		return err_msg(e, -ENAMETOOLONG, "vsock: socket path too long: %s", path);
	v = xnew(struct virtio_vsock);
	virtio_init(&v->dev, &vsock_ops, mem, 3, QUEUE_SIZE, VSOCK_F_STREAM, CONFIG_LEN);
	v->loop = l;
	v->guest_cid = guest_cid;
	memcpy(v->path, path, strlen(path) + 1);
	v->next_port = 1u << 30;
	list_init(&v->conns);
	list_init(&v->dead);
	list_init(&v->active);
	for (unsigned int i = 0; i < VSOCK_HASH_SIZE; i++)
		list_init(&v->hash[i]);
	loop_work_init(&v->work, vsock_work, v);
	r = vsock_host_listen(v, steal_fd(&given), e);
	if (r < 0) {
		vsock_free(&v->dev);
		return r;
	}
	*ret = &v->dev;
	return 0;
}
