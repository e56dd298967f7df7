/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio/net.c - virtio network card (virtio 1.2, 5.1)
 *
 * Transmit: a kick only posts a call to the loop, which empties the queue with kicks turned off, so
 * that a sending guest exits once a batch.  Receive: the backend's frames are spread over as many
 * buffers as they need; when there are none, the backend keeps the frame until the driver posts.
 *
 * Checksums left to us are filled in here.  Large TCP frames (TSO) go to backends that end
 * connections themselves as they are; nobody else is offered them.
 */
#include "virtio/net.h"

#include "base/log.h"
#include "virtio/net_priv.h"

#include <errno.h>

#define QUEUE_RX   0
#define QUEUE_TX   1
#define QUEUE_CTRL 2
#define QUEUE_SIZE 256

#define HDR_LEN     12 /* struct virtio_net_hdr with num_buffers */
#define CONFIG_LEN  12
#define RX_PARTS    80 /* buffers of one frame: 64 KiB over buffers of an Ethernet frame each */
#define TX_BATCH    128
#define ETH_HDR_LEN 14

#define HDR_F_NEEDS_CSUM 1
#define HDR_F_DATA_VALID 2
#define GSO_NONE         0
#define GSO_TCPV4        1
#define GSO_TCPV6        4
#define GSO_ECN          0x80

#define STATUS_LINK_UP 1

struct virtio_net {
	struct virtio_dev dev;
	struct loop *loop;
	struct net *net;
	struct loop_work tx_work;
	uint8_t mac[NET_MAC_LEN]; /* as made */
	struct net_filter filter;
	bool rx_blocked;          /* the backend holds frames: tell it when buffers come */
	struct vq_chain tx_chain; /* loop thread */
	struct vq_chain rx_chain[RX_PARTS];
	uint8_t frame[NET_FRAME_MAX]; /* being sent, loop thread */
};

static struct virtio_net *net_of(struct virtio_dev *d)
{
	return container_of(d, struct virtio_net, dev);
}

/* --- transmit --- */

/* The Internet checksum from @start to the end, stored @off bytes further (5.1.6.2.1). */
static bool fill_csum(uint8_t *frame, size_t len, size_t start, size_t off)
{
	uint64_t sum = 0;
	size_t i;

	if (start + off + 2 > len)
		return false;
	for (i = start; i + 2 <= len; i += 2)
		sum += load_le16(frame + i);
	if (i < len)
		sum += frame[i];
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	/* Zero means "none" in UDP; all ones is the same number. */
	store_le16(frame + start + off, (uint16_t)(sum == 0xffff ? 0xffff : ~sum));
	return true;
}

static bool gso_ok(const struct virtio_net *n, uint8_t type)
{
	switch (type & ~GSO_ECN) {
	case GSO_NONE:
		return true;
	case GSO_TCPV4:
		return virtio_has(&n->dev, VIRTIO_NET_HOST_TSO4);
	case GSO_TCPV6:
		return virtio_has(&n->dev, VIRTIO_NET_HOST_TSO6);
	default:
		return false;
	}
}

static void tx_frame(struct virtio_net *n, const struct vq_chain *c)
{
	uint8_t hdr[HDR_LEN];
	size_t len;

	if (c->out_len < HDR_LEN + ETH_HDR_LEN || c->out_len > HDR_LEN + NET_FRAME_MAX) {
		guest_warn("virtio-net: frame of %zu bytes dropped", c->out_len);
		return;
	}
	iov_to_buf(c->out, c->n_out, 0, hdr, HDR_LEN);
	len = iov_to_buf(c->out, c->n_out, HDR_LEN, n->frame, NET_FRAME_MAX);
	if (!gso_ok(n, hdr[1]) ||
	    ((hdr[0] & HDR_F_NEEDS_CSUM) &&
	     !fill_csum(n->frame, len, load_le16(hdr + 6), load_le16(hdr + 8)))) {
		guest_warn("virtio-net: frame with a bad header dropped");
		return;
	}
	net_send(n->net, n->frame, len);
}

static void tx_run(void *opaque)
{
	struct virtio_net *n = opaque;
	struct vq *q = &n->dev.q[QUEUE_TX];
	unsigned int done = 0;

	virtio_lock(&n->dev);
	do {
		vq_want_kicks(q, false);
		while (done < TX_BATCH && vq_pop(q, &n->tx_chain)) {
			tx_frame(n, &n->tx_chain);
			vq_push(q, &n->tx_chain, 0);
			done++;
		}
		if (done == TX_BATCH) {
			loop_post(n->loop, &n->tx_work); /* others' turn */
			break;
		}
	} while (!vq_want_kicks(q, true));
	vq_notify(q);
	virtio_unlock(&n->dev);
}

/* --- receive --- */

static void rx_unpop(struct virtio_net *n, unsigned int parts)
{
	while (parts--)
		vq_unpop(&n->dev.q[QUEUE_RX]);
}

/* Takes chains until @need bytes fit; 0 when there are too few now, -1 when it never will fit. */
static int rx_take(struct virtio_net *n, size_t need)
{
	struct vq *q = &n->dev.q[QUEUE_RX];
	unsigned int max = virtio_has(&n->dev, VIRTIO_NET_MRG_RXBUF) ? RX_PARTS : 1, parts = 0;
	size_t room = 0;

	while (room < need) {
		if (parts == max) {
			rx_unpop(n, parts);
			return -1;
		}
		if (vq_pop(q, &n->rx_chain[parts])) {
			room += n->rx_chain[parts++].in_len;
		} else if (vq_want_kicks(q, true) || !virtio_ready(&n->dev)) {
			/* Asked for before the chains go back: the kick is to come for new ones. */
			rx_unpop(n, parts);
			return 0;
		}
	}
	vq_want_kicks(q, false);
	return (int)parts;
}

static void rx_fill(struct virtio_net *n, const uint8_t *frame, size_t len, unsigned int parts)
{
	struct vq *q = &n->dev.q[QUEUE_RX];
	uint8_t hdr[HDR_LEN] = {0};
	uint32_t written[RX_PARTS];
	size_t done = 0;

	if (n->net->good_csum && virtio_has(&n->dev, VIRTIO_NET_GUEST_CSUM))
		hdr[0] = HDR_F_DATA_VALID;
	store_le16(hdr + 10, (uint16_t)parts);
	for (unsigned int i = 0; i < parts; i++) {
		const struct vq_chain *c = &n->rx_chain[i];
		size_t head = i ? 0 : HDR_LEN;

		iov_from_buf(c->in, c->n_in, 0, hdr, head);
		head += iov_from_buf(c->in, c->n_in, head, frame + done, len - done);
		done += head - (i ? 0 : HDR_LEN);
		written[i] = (uint32_t)head;
	}
	/* A driver that is polling must not meet half a frame (5.1.6.4). */
	vq_push_many(q, n->rx_chain, written, parts);
	vq_notify(q);
}

/* net.rx: false = keep the frame until net_rx_ready. */
static bool rx_frame(struct virtio_net *n, const uint8_t *frame, size_t len)
{
	int parts;

	if (!virtio_ready(&n->dev) || !n->dev.q[QUEUE_RX].enabled || len < ETH_HDR_LEN ||
	    !net_filter_wants(&n->filter, frame))
		return true;
	parts = rx_take(n, HDR_LEN + len);
	if (parts < 0) {
		guest_warn("virtio-net: %zu bytes do not fit the driver's buffers", len);
		return true;
	}
	if (!parts) {
		n->rx_blocked = virtio_ready(&n->dev);
		return !n->rx_blocked;
	}
	if (n->rx_chain[0].in_len < HDR_LEN) {
		virtio_broken(&n->dev, "receive buffer smaller than the header");
		return true;
	}
	rx_fill(n, frame, len, (unsigned int)parts);
	return true;
}

static bool net_rx(void *opaque, const void *frame, size_t len)
{
	struct virtio_net *n = opaque;
	bool taken;

	virtio_lock(&n->dev);
	taken = rx_frame(n, frame, len);
	virtio_unlock(&n->dev);
	return taken;
}

/* --- control --- */

static void ctrl_run(struct virtio_net *n, struct vq *q)
{
	struct vq_chain c;

	while (vq_pop(q, &c)) {
		uint8_t ack = net_filter_command(&n->filter, &c) ? 0 : 1;

		vq_push(q, &c, (uint32_t)iov_from_buf(c.in, c.n_in, 0, &ack, 1));
	}
	vq_notify(q);
}

/* --- the device --- */

static void net_kick(struct virtio_dev *d, struct vq *q)
{
	struct virtio_net *n = net_of(d);

	if (q->index == QUEUE_TX) {
		vq_want_kicks(q, false);
		loop_post(n->loop, &n->tx_work);
	} else if (q->index == QUEUE_CTRL) {
		ctrl_run(n, q);
	} else if (n->rx_blocked) {
		n->rx_blocked = false;
		net_rx_ready(n->net);
	}
}

static void net_config_read(struct virtio_dev *d, uint32_t off, void *buf, uint32_t len)
{
	const struct virtio_net *n = net_of(d);
	uint8_t config[CONFIG_LEN] = {0};

	memcpy(config, n->filter.mac, NET_MAC_LEN);
	store_le16(config + 6, STATUS_LINK_UP);
	store_le16(config + 8, 1); /* queue pairs */
	store_le16(config + 10, n->net->mtu ? n->net->mtu : 1500);
	memcpy(buf, config + off, len);
}

static void net_reset(struct virtio_dev *d)
{
	struct virtio_net *n = net_of(d);

	net_filter_reset(&n->filter, n->mac);
	n->rx_blocked = false;
	/* Frames the backend kept are dropped when it offers them again. */
	net_rx_ready(n->net);
}

static void net_free(struct virtio_dev *d)
{
	struct virtio_net *n = net_of(d);

	n->net->rx = NULL;
	net_close(n->net);
	loop_unpost(n->loop, &n->tx_work);
	virtio_fini(d);
	free(n);
}

static const struct state_field net_fields[] = {
    STATE_ARRAY(struct virtio_net, filter.mac, 1),
    STATE_FIELD(struct virtio_net, filter.promisc, 1),
    STATE_FIELD(struct virtio_net, filter.allmulti, 1),
    STATE_FIELD(struct virtio_net, filter.alluni, 1),
    STATE_FIELD(struct virtio_net, filter.nomulti, 1),
    STATE_FIELD(struct virtio_net, filter.nouni, 1),
    STATE_FIELD(struct virtio_net, filter.nobcast, 1),
    STATE_FIELD(struct virtio_net, filter.n_uni, 1),
    STATE_FIELD(struct virtio_net, filter.n_multi, 1),
    STATE_ARRAY(struct virtio_net, filter.uni, 1),
    STATE_ARRAY(struct virtio_net, filter.multi, 1),
};

/* Whatever waited in the queues when the machine was saved is looked at once more. */
static int net_loaded(void *obj, struct err *e)
{
	struct virtio_net *n = obj;

	if ((n->filter.n_uni > NET_TABLE_MAX && n->filter.n_uni != 0xff) ||
	    (n->filter.n_multi > NET_TABLE_MAX && n->filter.n_multi != 0xff))
		return err_msg(e, -EINVAL, "saved address table is too long");
	loop_post(n->loop, &n->tx_work);
	return 0;
}

static const struct state_table net_table = {
    .name = "virtio-net",
    .version = 1,
    .fields = net_fields,
    .n_fields = ARRAY_SIZE(net_fields),
    .loaded = net_loaded,
};

static const struct virtio_ops card_ops = {
    .name = "virtio-net",
    .id = 1,
    .kick = net_kick,
    .config_read = net_config_read,
    .reset = net_reset,
    .free = net_free,
    .state = &net_table,
};

struct virtio_dev *virtio_net_new(struct gmem *mem, struct loop *l, struct net *net,
				  const uint8_t mac[6])
{
	struct virtio_net *n = xnew(struct virtio_net);
	uint64_t features = VIRTIO_NET_CSUM | VIRTIO_NET_MTU | VIRTIO_NET_MAC |
			    VIRTIO_NET_MRG_RXBUF | VIRTIO_NET_STATUS | VIRTIO_NET_CTRL_VQ |
			    VIRTIO_NET_CTRL_RX | VIRTIO_NET_CTRL_RX_EXTRA |
			    VIRTIO_NET_CTRL_MAC_ADDR;

	if (net->good_csum)
		features |= VIRTIO_NET_GUEST_CSUM;
	if (net->big_tcp)
		features |= VIRTIO_NET_HOST_TSO4 | VIRTIO_NET_HOST_TSO6;
	virtio_init(&n->dev, &card_ops, mem, 3, QUEUE_SIZE, features, CONFIG_LEN);
	n->loop = l;
	n->net = net;
	memcpy(n->mac, mac, NET_MAC_LEN);
	net_filter_reset(&n->filter, mac);
	loop_work_init(&n->tx_work, tx_run, n);
	net->rx_opaque = n;
	net->rx = net_rx;
	return &n->dev;
}
