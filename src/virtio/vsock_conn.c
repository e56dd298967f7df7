/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio/vsock_conn.c - one connection between a guest's socket and a host's (virtio 1.2, 5.10.6)
 *
 * Host to guest: data is read from the host's socket straight into receive buffers, never more than
 * the guest's credit, so a slow guest leaves it in the socket and the host program waits.
 * Guest to host: data goes straight from the guest's buffers to the socket; what the socket does
 * not take waits in a ring as large as the credit we grant, so a slow host stalls the guest.
 *
 * Each direction ends by itself.  The guest's SHUTDOWN(SEND) becomes shutdown(SHUT_WR) behind the
 * last byte; end of file from the host becomes SHUTDOWN(SEND) behind the last packet.
 */
#include "virtio/vsock_priv.h"

#include "base/log.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>

/* --- life --- */

static void close_fd(struct vsock_conn *c)
{
	if (c->fd < 0)
		return;
	loop_remove(c->v->loop, &c->watch);
	close(c->fd);
	c->fd = -1;
	c->readable = c->writable = false;
}

static void drop_ring(struct vsock_conn *c)
{
	c->forwarded += (uint32_t)c->ring_len;
	c->ring_len = 0;
	free(c->ring);
	c->ring = NULL;
}

void vsock_conn_drop(struct vsock_conn *c)
{
	list_remove(&c->all);
	list_remove(&c->hash);
	list_remove(&c->active);
	c->owed = 0;
	c->state = VSOCK_DEAD;
	list_append(&c->v->dead, &c->all);
}

void vsock_reap(struct virtio_vsock *v)
{
	while (!list_empty(&v->dead)) {
		struct vsock_conn *c = container_of(v->dead.next, struct vsock_conn, all);

		list_remove(&c->all);
		close_fd(c);
		drop_ring(c);
		free(c);
		v->n_conns--;
	}
}

/* The guest is done with @c, or will be with the reset we owe; what it sent is still delivered. */
static void conn_finish(struct vsock_conn *c, unsigned int owed)
{
	c->state = VSOCK_CLOSING;
	c->owed = 0;
	if (!c->ring_len)
		close_fd(c);
	if (owed)
		vsock_conn_owe(c, owed);
	else if (c->fd < 0)
		vsock_conn_drop(c);
	else
		list_remove(&c->hash); /* its ports are free again */
}

void vsock_conn_abort(struct vsock_conn *c)
{
	drop_ring(c);
	conn_finish(c, VSOCK_OWE_RST);
}

/* A full table is often full of connections whose host end is gone and whose guest end sleeps. */
static void make_room(struct virtio_vsock *v)
{
	struct list *pos;

	vsock_reap(v);
	if (v->n_conns < VSOCK_CONN_MAX)
		return;
	list_for_each(pos, &v->conns)
	{
		struct vsock_conn *c = container_of(pos, struct vsock_conn, all);

		if (c->state == VSOCK_ESTABLISHED && c->told_shut == VSOCK_SHUTDOWN_BOTH) {
			vsock_conn_drop(c);
			vsock_reap(v);
			return;
		}
	}
}

struct vsock_conn *vsock_conn_find(struct virtio_vsock *v, uint32_t guest_port, uint32_t host_port)
{
	struct list *bucket = &v->hash[(guest_port * 31 + host_port) % VSOCK_HASH_SIZE], *pos;

	list_for_each(pos, bucket)
	{
		struct vsock_conn *c = container_of(pos, struct vsock_conn, hash);

		if (c->guest_port == guest_port && c->host_port == host_port)
			return c;
	}
	return NULL;
}

void vsock_conn_bind(struct vsock_conn *c, uint32_t guest_port, uint32_t host_port)
{
	c->guest_port = guest_port;
	c->host_port = host_port;
	list_append(&c->v->hash[(guest_port * 31 + host_port) % VSOCK_HASH_SIZE], &c->hash);
}

void vsock_conn_owe(struct vsock_conn *c, unsigned int owed)
{
	c->owed |= owed;
	if (list_empty(&c->active))
		list_append(&c->v->active, &c->active);
}

/* Bytes the guest has room for, as far as it told. */
static uint32_t credit_of(const struct vsock_conn *c)
{
	uint32_t flying = c->sent - c->peer_fwd;

	return flying < c->peer_alloc ? c->peer_alloc - flying : 0;
}

/* --- from the guest to the host --- */

static void owe_shutdown(struct vsock_conn *c)
{
	unsigned int news = c->host_shut & ~c->told_shut;

	/* "The host reads no more" is no news to a guest that writes no more. */
	if (c->guest_shut & VSOCK_SHUTDOWN_SEND)
		news &= ~(unsigned int)VSOCK_SHUTDOWN_RCV;
	if (c->state == VSOCK_ESTABLISHED && news)
		vsock_conn_owe(c, VSOCK_OWE_SHUTDOWN);
	if (c->host_shut == VSOCK_SHUTDOWN_BOTH)
		close_fd(c);
}

/* The host's end takes no more: what waits and what comes is lost, as on any socket. */
static void host_stopped_reading(struct vsock_conn *c)
{
	drop_ring(c);
	c->writable = false;
	c->host_shut |= VSOCK_SHUTDOWN_RCV;
	if (c->state == VSOCK_CLOSING)
		close_fd(c);
	owe_shutdown(c);
}

/* Tell the guest of room when it may think that less than half is left. */
static void owe_credit(struct vsock_conn *c)
{
	uint32_t seen = c->received - c->told_fwd;

	if (c->forwarded != c->told_fwd && seen > VSOCK_BUF_ALLOC / 2 &&
	    c->state == VSOCK_ESTABLISHED)
		vsock_conn_owe(c, VSOCK_OWE_CREDIT);
}

/* Bytes taken, 0 when the socket is full or gone. */
static size_t host_send(struct vsock_conn *c, struct iovec *iov, unsigned int n)
{
	struct msghdr m = {.msg_iov = iov, .msg_iovlen = n};
	ssize_t r;

	if (!c->writable)
		return 0;
	do {
		r = sendmsg(c->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
	} while (r < 0 && errno == EINTR);
	if (r >= 0) {
		c->forwarded += (uint32_t)r;
		return (size_t)r;
	}
	if (errno == EAGAIN)
		c->writable = false;
	else
		host_stopped_reading(c);
	return 0;
}

static void ring_flush(struct vsock_conn *c)
{
	while (c->ring_len && c->writable) {
		size_t first = MIN(c->ring_len, VSOCK_BUF_ALLOC - c->ring_head);
		struct iovec iov[2] = {
		    {c->ring + c->ring_head, first},
		    {c->ring, c->ring_len - first},
		};
		size_t n = host_send(c, iov, iov[1].iov_len ? 2 : 1);

		if (!c->ring_len)
			break; /* dropped: the host is gone */
		c->ring_head = (c->ring_head + n) % VSOCK_BUF_ALLOC;
		c->ring_len -= n;
	}
	if (!c->ring_len)
		drop_ring(c);
}

/* After anything moved: pass the end on, close what is over. */
static void host_side_settle(struct vsock_conn *c)
{
	owe_credit(c);
	if (c->ring_len)
		return;
	if (c->state == VSOCK_CLOSING) {
		close_fd(c);
		if (!c->owed)
			vsock_conn_drop(c);
	} else if ((c->guest_shut & VSOCK_SHUTDOWN_SEND) && !c->wr_done && c->fd >= 0) {
		shutdown(c->fd, SHUT_WR);
		c->wr_done = true;
	}
}

static bool ring_add(struct vsock_conn *c, const struct vq_chain *chain, size_t off, size_t len)
{
	size_t at, first;

	if (!c->ring) {
		c->ring = malloc(VSOCK_BUF_ALLOC);
		if (!c->ring)
			return false;
		c->ring_head = 0;
	}
	at = (c->ring_head + c->ring_len) % VSOCK_BUF_ALLOC;
	first = MIN(len, VSOCK_BUF_ALLOC - at);
	iov_to_buf(chain->out, chain->n_out, off, c->ring + at, first);
	iov_to_buf(chain->out, chain->n_out, off + first, c->ring, len - first);
	c->ring_len += len;
	return true;
}

static void guest_data(struct vsock_conn *c, const struct vsock_hdr *h,
		       const struct vq_chain *chain)
{
	size_t off = VSOCK_HDR_LEN, left = h->len;

	if (h->len > VSOCK_BUF_ALLOC - (c->received - c->forwarded)) {
		guest_warn("virtio-vsock: port %u sent more than its credit", c->guest_port);
		vsock_conn_abort(c);
		return;
	}
	c->received += h->len;
	while (left && !c->ring_len && c->writable) {
		struct iovec iov[VSOCK_IOVS];
		unsigned int n = iov_slice(iov, VSOCK_IOVS, chain->out, chain->n_out, off, left);
		size_t sent = host_send(c, iov, n);

		off += sent;
		left -= sent;
	}
	if (c->host_shut & VSOCK_SHUTDOWN_RCV) {
		c->forwarded += (uint32_t)left;
	} else if (left && !ring_add(c, chain, off, left)) {
		vsock_conn_abort(c);
		return;
	}
	host_side_settle(c);
}

static void guest_shutdown(struct vsock_conn *c, uint32_t flags)
{
	c->guest_shut |= flags & VSOCK_SHUTDOWN_BOTH;
	if (c->guest_shut == VSOCK_SHUTDOWN_BOTH) {
		conn_finish(c, VSOCK_OWE_RST);
		return;
	}
	if ((c->guest_shut & VSOCK_SHUTDOWN_RCV) && c->fd >= 0) {
		shutdown(c->fd, SHUT_RD);
		c->readable = false;
	}
	host_side_settle(c);
}

static void guest_reset(struct vsock_conn *c)
{
	/* The normal end of a guest that waited in vain for our reset, or an abort. */
	if (!(c->guest_shut & VSOCK_SHUTDOWN_SEND))
		drop_ring(c);
	conn_finish(c, 0);
}

static void guest_response(struct vsock_conn *c)
{
	c->state = VSOCK_ESTABLISHED;
	c->readable = true; /* whatever follows the CONNECT line */
	vsock_host_accepted(c);
	vsock_conn_owe(c, 0);
}

void vsock_conn_packet(struct vsock_conn *c, const struct vsock_hdr *h,
		       const struct vq_chain *chain)
{
	if (c->state == VSOCK_CLOSING)
		return; /* sent before our reset reached it */
	c->peer_alloc = h->buf_alloc;
	c->peer_fwd = h->fwd_cnt;
	if (credit_of(c))
		c->credit_asked = false;
	if (h->op == VSOCK_OP_RST) {
		guest_reset(c);
		return;
	}
	if (h->op == VSOCK_OP_RESPONSE && c->state == VSOCK_REQUESTED) {
		guest_response(c);
		return;
	}
	if (c->state == VSOCK_ESTABLISHED) {
		bool may_send = !(c->guest_shut & VSOCK_SHUTDOWN_SEND);

		vsock_conn_owe(c, h->op == VSOCK_OP_CREDIT_REQUEST ? VSOCK_OWE_CREDIT : 0);
		if (h->op == VSOCK_OP_RW && may_send) {
			guest_data(c, h, chain);
			return;
		}
		if (h->op == VSOCK_OP_SHUTDOWN) {
			guest_shutdown(c, h->flags);
			return;
		}
		if (h->op == VSOCK_OP_CREDIT_UPDATE || h->op == VSOCK_OP_CREDIT_REQUEST)
			return;
	}
	guest_warn("virtio-vsock: operation %u out of place on port %u", h->op, c->guest_port);
	vsock_conn_abort(c);
}

/* --- from the host to the guest --- */

static void host_ended(struct vsock_conn *c)
{
	c->readable = false;
	c->host_shut |= VSOCK_SHUTDOWN_SEND;
	owe_shutdown(c);
}

/* Receive buffers for up to @want bytes; returns how many were popped, and their parts in @iov. */
static unsigned int take_buffers(struct virtio_vsock *v, size_t want, struct iovec *iov,
				 unsigned int *n_iov)
{
	unsigned int n = 0;

	*n_iov = 0;
	while (n < VSOCK_CHAINS && want && *n_iov < VSOCK_IOVS &&
	       vsock_rx_pop(v, &v->rx_chain[n])) {
		const struct vq_chain *c = &v->rx_chain[n++];
		unsigned int parts = iov_slice(iov + *n_iov, VSOCK_IOVS - *n_iov, c->in, c->n_in,
					       VSOCK_HDR_LEN, want);

		want -= iov_len(iov + *n_iov, parts);
		*n_iov += parts;
		/* Only the last buffer may be cut short, or data would land with a hole. */
		if (*n_iov == VSOCK_IOVS)
			break;
	}
	return n;
}

static void give_buffers(struct vsock_conn *c, unsigned int n, size_t len)
{
	for (unsigned int i = 0; i < n; i++) {
		const struct vq_chain *chain = &c->v->rx_chain[i];
		size_t part = MIN(len, chain->in_len - VSOCK_HDR_LEN);

		if (part)
			vsock_rx_push(c, chain, VSOCK_OP_RW, 0, (uint32_t)part);
		else
			vq_unpop(vsock_rx_queue(c->v));
		len -= part;
	}
}

/* One read for one turn; false = out of receive buffers. */
static bool host_data(struct vsock_conn *c)
{
	struct iovec iov[VSOCK_IOVS];
	uint32_t credit = credit_of(c);
	unsigned int n, n_iov;
	ssize_t r;

	if (!credit) {
		if (!c->credit_asked)
			vsock_conn_owe(c, VSOCK_OWE_CREDIT_REQUEST);
		c->credit_asked = true;
		return true; /* its update makes us active again */
	}
	n = take_buffers(c->v, MIN(credit, VSOCK_READ_MAX), iov, &n_iov);
	if (!n)
		return false;
	c->v->rx_starved = false; /* some may go back */
	do {
		r = readv(c->fd, iov, (int)n_iov);
	} while (r < 0 && errno == EINTR);
	give_buffers(c, n, r > 0 ? (size_t)r : 0);
	if (r > 0) {
		c->sent += (uint32_t)r;
		vsock_conn_owe(c, 0);
	} else if (r < 0 && errno == EAGAIN) {
		c->readable = false;
	} else {
		host_ended(c);
	}
	return true;
}

static bool serve_owed(struct vsock_conn *c)
{
	static const struct {
		enum vsock_owed owed;
		enum vsock_op op;
	} order[] = {
	    {VSOCK_OWE_RST, VSOCK_OP_RST},
	    {VSOCK_OWE_REQUEST, VSOCK_OP_REQUEST},
	    {VSOCK_OWE_RESPONSE, VSOCK_OP_RESPONSE},
	    {VSOCK_OWE_CREDIT, VSOCK_OP_CREDIT_UPDATE},
	    {VSOCK_OWE_CREDIT_REQUEST, VSOCK_OP_CREDIT_REQUEST},
	    {VSOCK_OWE_SHUTDOWN, VSOCK_OP_SHUTDOWN},
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(order); i++) {
		struct vq_chain *chain = &c->v->rx_chain[0];
		uint32_t flags = 0;

		if (!(c->owed & order[i].owed))
			continue;
		if (!vsock_rx_pop(c->v, chain))
			return false;
		if (order[i].owed == VSOCK_OWE_SHUTDOWN)
			flags = c->told_shut = c->host_shut;
		vsock_rx_push(c, chain, order[i].op, flags, 0);
		c->owed &= ~(unsigned int)order[i].owed;
	}
	return true;
}

bool vsock_conn_serve(struct vsock_conn *c)
{
	if (!serve_owed(c))
		return false;
	if (c->state == VSOCK_CLOSING) {
		if (c->fd < 0)
			vsock_conn_drop(c);
		else
			list_remove(&c->hash);
		return true;
	}
	if (c->state == VSOCK_ESTABLISHED && c->readable)
		return host_data(c);
	return true;
}

/* --- the socket's events --- */

static void host_event(struct vsock_conn *c, uint32_t events)
{
	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		c->readable = c->fd >= 0 && !(c->host_shut & VSOCK_SHUTDOWN_SEND) &&
			      !(c->guest_shut & VSOCK_SHUTDOWN_RCV);
	if (events & EPOLLOUT)
		c->writable = !(c->host_shut & VSOCK_SHUTDOWN_RCV);
	if (c->state == VSOCK_HANDSHAKE) {
		vsock_host_handshake(c);
		return;
	}
	if (events & (EPOLLHUP | EPOLLERR)) {
		if (c->state == VSOCK_REQUESTED) {
			conn_finish(c, c->owed & VSOCK_OWE_REQUEST ? 0 : VSOCK_OWE_RST);
			return;
		}
		host_stopped_reading(c);
	}
	if (c->state == VSOCK_ESTABLISHED)
		vsock_conn_owe(c, 0);
	ring_flush(c);
	host_side_settle(c);
}

static void conn_event(void *opaque, uint32_t events)
{
	struct vsock_conn *c = opaque;
	struct virtio_vsock *v = c->v;

	virtio_lock(&v->dev);
	if (c->state != VSOCK_DEAD)
		host_event(c, events);
	vsock_settle(v);
	virtio_unlock(&v->dev);
}

struct vsock_conn *vsock_conn_new(struct virtio_vsock *v, int fd, enum vsock_state state)
{
	struct vsock_conn *c;

	if (v->n_conns == VSOCK_CONN_MAX)
		make_room(v);
	if (v->n_conns == VSOCK_CONN_MAX) {
		close(fd);
		return NULL;
	}
	c = xnew(struct vsock_conn);
	c->v = v;
	c->fd = fd;
	c->state = state;
	c->writable = true;
	list_init(&c->hash);
	list_init(&c->active);
	if (loop_add(v->loop, &c->watch, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, conn_event,
		     c) < 0) {
		close(fd);
		free(c);
		return NULL;
	}
	list_append(&v->conns, &c->all);
	v->n_conns++;
	return c;
}
