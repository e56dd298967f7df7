/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/virtio/guest_vsock.h - a guest's socket driver, just enough to test the device
 */
#pragma once

#include "virtio/driver.h"
#include "virtio/vsock_priv.h"

#define GUEST_CID     42
#define GUEST_RX_BUFS 64
#define GUEST_RX_LEN  4096
#define GUEST_TX_BUFS 32
#define GUEST_TX_LEN  (64 * 1024)

struct guest_vsock {
	struct drv drv;
	struct loop *loop;
	char dir[64], path[96];
	uint64_t rx_buf[VQ_SIZE_MAX]; /* gpa by head */
	uint64_t tx_buf[GUEST_TX_BUFS];
	int tx_head[GUEST_TX_BUFS];
	uint64_t event_buf;
	uint8_t packet[VSOCK_HDR_LEN + GUEST_RX_LEN]; /* received last */
};

/* One end of a connection, as a driver keeps it. */
struct guest_sock {
	uint32_t port, peer_port;
	uint32_t buf_alloc, fwd_cnt;         /* what we tell */
	uint32_t peer_alloc, peer_fwd, sent; /* what we know */
};

void guest_vsock_open(struct guest_vsock *g, uint64_t features);
/* Reset, and all buffers posted again; _open does it once. */
void guest_vsock_start(struct guest_vsock *g, uint64_t features);
void guest_vsock_close(struct guest_vsock *g);
/* Runs the loop until nothing happens at once. */
void guest_run(struct guest_vsock *g);
/* Next packet from the device into g->packet; NULL when there is none. */
const struct vsock_hdr *guest_recv(struct guest_vsock *g);
/* As guest_recv, running the loop until one comes. */
const struct vsock_hdr *guest_wait(struct guest_vsock *g);
/* False when all transmit buffers are in use. */
bool guest_send_raw(struct guest_vsock *g, const struct vsock_hdr *h, const void *data,
		    size_t data_len);
bool guest_send(struct guest_vsock *g, const struct guest_sock *s, enum vsock_op op, uint32_t flags,
		const void *data, uint32_t len);
uint32_t guest_credit(const struct guest_sock *s);
void guest_learn(struct guest_sock *s, const struct vsock_hdr *h);

/* A host program's connected socket that wrote @line. */
int host_say(struct guest_vsock *g, const char *line);
/* The same, its CONNECT line written. */
int host_open(struct guest_vsock *g, uint32_t port);
/* Plays both ends' opening of a connection from the host to guest port @port. */
int host_connected(struct guest_vsock *g, struct guest_sock *s, uint32_t port);
/* A listening socket for guests connecting to @port. */
int host_listener(struct guest_vsock *g, uint32_t port);
