/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio/vsock_priv.h - the socket device's parts: vsock.c (queues), vsock_conn.c (connections),
 * vsock_host.c (unix sockets)
 *
 * Everything runs in the loop thread with the device's lock held, but for kick and reset, which
 * come in a vCPU thread: those set flags, mark connections and post the device's work.
 */
#pragma once

#include "base/list.h"
#include "virtio/vsock.h"

#define VSOCK_HOST_CID  2
#define VSOCK_CONN_MAX  1024
#define VSOCK_HASH_SIZE 256
#define VSOCK_BUF_ALLOC (256u << 10) /* bytes of the guest's a connection may hold */
#define VSOCK_READ_MAX  (64u << 10)  /* of the host's in one turn */
#define VSOCK_CHAINS    16
#define VSOCK_IOVS      64
#define VSOCK_RST_MAX   256
#define VSOCK_PATH_MAX  108

enum vsock_op {
	VSOCK_OP_REQUEST = 1,
	VSOCK_OP_RESPONSE = 2,
	VSOCK_OP_RST = 3,
	VSOCK_OP_SHUTDOWN = 4,
	VSOCK_OP_RW = 5,
	VSOCK_OP_CREDIT_UPDATE = 6,
	VSOCK_OP_CREDIT_REQUEST = 7,
};

#define VSOCK_TYPE_STREAM   1
#define VSOCK_SHUTDOWN_RCV  1
#define VSOCK_SHUTDOWN_SEND 2
#define VSOCK_SHUTDOWN_BOTH 3

struct vsock_hdr {
	uint64_t src_cid, dst_cid;
	uint32_t src_port, dst_port, len;
	uint16_t type, op;
	uint32_t flags, buf_alloc, fwd_cnt;
} __attribute__((packed));

#define VSOCK_HDR_LEN sizeof(struct vsock_hdr)

enum vsock_state {
	VSOCK_HANDSHAKE, /* a host program has not said CONNECT yet: no ports */
	VSOCK_REQUESTED, /* the guest is asked */
	VSOCK_ESTABLISHED,
	VSOCK_CLOSING, /* over for the guest; what it sent may still go to the host */
	VSOCK_DEAD,    /* waits to be freed in the loop thread */
};

/* Packets owed to the guest, as bits, so that what is owed is bounded. */
enum vsock_owed {
	VSOCK_OWE_REQUEST = 1 << 0,
	VSOCK_OWE_RESPONSE = 1 << 1,
	VSOCK_OWE_CREDIT = 1 << 2,
	VSOCK_OWE_CREDIT_REQUEST = 1 << 3,
	VSOCK_OWE_SHUTDOWN = 1 << 4,
	VSOCK_OWE_RST = 1 << 5,
};

struct vsock_conn {
	struct list all, hash, active; /* active: may have something for the guest */
	struct virtio_vsock *v;
	enum vsock_state state;
	uint32_t guest_port, host_port;
	unsigned int owed;
	unsigned int guest_shut; /* what the guest will not do any more */
	unsigned int host_shut;  /* SEND: end of file read; RCV: writing failed */
	unsigned int told_shut;  /* host_shut as the guest knows it */

	int fd; /* -1 once closed */
	struct loop_fd watch;
	bool readable, writable; /* edge-triggered: true until the socket says EAGAIN */
	bool wr_done;            /* shutdown(SHUT_WR) called */

	uint32_t peer_alloc, peer_fwd, sent; /* host to guest */
	bool credit_asked;
	uint32_t received, forwarded, told_fwd; /* guest to host */
	uint8_t *ring;                          /* what the host did not take yet; NULL = nothing */
	size_t ring_head, ring_len;
};

struct vsock_rst {
	uint64_t src_cid;
	uint32_t src_port, dst_port;
};

/* A driver that never takes the reset's buffer back is not waited for. */
#define VSOCK_RESET_PATIENCE UINT64_C(1000000000) /* ns */

struct virtio_vsock {
	struct virtio_dev dev;
	struct loop *loop;
	struct loop_work work;
	uint64_t guest_cid;
	char path[VSOCK_PATH_MAX];
	bool bound; /* @path is ours to remove */
	int listen_fd;
	struct loop_fd listen_watch;
	struct timer accept_timer; /* the host was out of descriptors; resetting */

	struct list conns, dead, active;
	unsigned int n_conns;
	struct list hash[VSOCK_HASH_SIZE];
	uint32_t next_port;

	/* Resets owed for packets of no connection; when full the transmit queue waits. */
	struct vsock_rst rst[VSOCK_RST_MAX];
	unsigned int rst_head, rst_len;
	bool rx_starved;  /* no receive buffers: a kick starts us again */
	bool event_reset; /* VIRTIO_VSOCK_EVENT_TRANSPORT_RESET is owed */
	/* It was told, and the driver has not posted the buffer again: connections that begin now
	 * would end with the old ones.  They wait to be accepted. */
	bool resetting;
	struct vq_chain tx_chain;
	struct vq_chain rx_chain[VSOCK_CHAINS];
};

/* --- vsock.c --- */

struct vq *vsock_rx_queue(struct virtio_vsock *v);
/* Next receive buffer; false = starved (or not ready). */
bool vsock_rx_pop(struct virtio_vsock *v, struct vq_chain *c);
/* Fill in @c's header, as from @conn, and hand it back with @len payload bytes behind it. */
void vsock_rx_push(struct vsock_conn *conn, const struct vq_chain *c, enum vsock_op op,
		   uint32_t flags, uint32_t len);
/* The end of every entry from the loop: serve the guest, free the dead. */
void vsock_settle(struct virtio_vsock *v);

/* --- vsock_conn.c --- */

/* Takes @fd over in any case; NULL when there are too many connections. */
struct vsock_conn *vsock_conn_new(struct virtio_vsock *v, int fd, enum vsock_state state);
void vsock_conn_bind(struct vsock_conn *c, uint32_t guest_port, uint32_t host_port);
struct vsock_conn *vsock_conn_find(struct virtio_vsock *v, uint32_t guest_port, uint32_t host_port);
void vsock_conn_owe(struct vsock_conn *c, unsigned int owed);
/* A packet from the guest for @c; the header was checked against @chain. */
void vsock_conn_packet(struct vsock_conn *c, const struct vsock_hdr *h,
		       const struct vq_chain *chain);
/* Send the guest what is due, one turn; false = out of receive buffers. */
bool vsock_conn_serve(struct vsock_conn *c);
/* Over, with a reset to the guest. */
void vsock_conn_abort(struct vsock_conn *c);
/* Over at once, nobody told.  Any thread: freed by vsock_reap in the loop's. */
void vsock_conn_drop(struct vsock_conn *c);
void vsock_reap(struct virtio_vsock *v);

/* --- vsock_host.c --- */

must_check int vsock_host_listen(struct virtio_vsock *v, int listener, struct err *e);
void vsock_host_close(struct virtio_vsock *v);
/* The socket of a connection in VSOCK_HANDSHAKE has something to say. */
void vsock_host_handshake(struct vsock_conn *c);
/* "OK <port>\n" once the guest accepted. */
void vsock_host_accepted(struct vsock_conn *c);
/* The guest asks for @port; a connected socket or -errno. */
int vsock_host_connect(struct virtio_vsock *v, uint32_t port);
