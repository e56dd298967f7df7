/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/fuzz/fuzz_vsock.c - a hostile driver and clumsy host programs against the socket device
 *
 * Each input is a sequence of steps: packets good and bad, host programs that connect, write, read
 * and vanish, resets.  The device must stay within its bounds and come back to nothing.
 */
#include "fuzz.h"

#include "test.h"
#include "virtio/guest_vsock.h"

#include <sys/socket.h>

#define SOCKS 8

static struct guest_vsock g;
static struct guest_sock socks[SOCKS];
static int host[SOCKS], listener;

static struct virtio_vsock *device(void)
{
	return container_of(g.drv.d, struct virtio_vsock, dev);
}

static void packet(struct fuzz_input *in)
{
	static const uint32_t lens[] = {0, 1, 100, 5000, GUEST_TX_LEN, UINT32_MAX, 44, 65535};
	static const uint32_t credits[] = {0, 1, 65536, UINT32_MAX};
	static uint8_t data[GUEST_TX_LEN];
	uint8_t which = fuzz_u8(in), shape = fuzz_u8(in);
	const struct guest_sock *s = &socks[which % SOCKS];
	size_t data_len = MIN(lens[shape % 8], (uint32_t)sizeof(data));
	struct vsock_hdr h = {
	    .src_cid = GUEST_CID,
	    .dst_cid = VSOCK_HOST_CID,
	    .src_port = s->port,
	    .dst_port = which & 128 ? 1024 : s->peer_port,
	    .len = lens[shape % 8],
	    .type = VSOCK_TYPE_STREAM,
	    .op = fuzz_u8(in) % 9,
	    .flags = shape >> 6,
	    .buf_alloc = credits[shape >> 3 & 3],
	    .fwd_cnt = shape & 32 ? fuzz_u8(in) * 1000u : 0,
	};

	/* One in eight packets carries more or less than it says. */
	if (which >> 4 == 3)
		data_len = fuzz_u8(in);
	(void)guest_send_raw(&g, &h, data, data_len);
}

static void raw_packet(struct fuzz_input *in)
{
	struct vsock_hdr h;
	uint8_t data[32];

	fuzz_bytes(in, &h, sizeof(h));
	(void)guest_send_raw(&g, &h, data, fuzz_u8(in) % sizeof(data));
}

static void short_packet(struct fuzz_input *in)
{
	struct drv_buf b = {g.tx_buf[0], 1 + fuzz_u8(in) % 50u};

	/* Leaves its descriptors used until the next reset: nobody collects this head. */
	(void)drv_post(&g.drv, 1, &b, 1, 0, 0);
	drv_kick(&g.drv, 1);
}

static void receive(struct fuzz_input *in)
{
	for (unsigned int n = fuzz_u8(in) % 32; n; n--) {
		const struct vsock_hdr *h = guest_recv(&g);

		if (!h)
			return;
		if (h->op == VSOCK_OP_REQUEST)
			socks[h->dst_port % SOCKS].peer_port = h->src_port;
	}
}

static void host_close(unsigned int i)
{
	if (host[i] >= 0)
		close(host[i]);
	host[i] = -1;
}

static void host_step(struct fuzz_input *in)
{
	static uint8_t buf[100000];
	uint8_t what = fuzz_u8(in);
	unsigned int i = what % SOCKS;

	switch (what >> 3 & 7) {
	case 0:
		host_close(i);
		loop_once(g.loop, 0); /* or the backlog fills up, which says nothing */
		host[i] = host_open(&g, i);
		break;
	case 1:
		host_close(i);
		host[i] = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		break;
	case 2:
	case 3:
		(void)!send(host[i], buf, fuzz_u8(in) * 390u, MSG_NOSIGNAL | MSG_DONTWAIT);
		break;
	case 4:
	case 5:
		(void)!recv(host[i], buf, fuzz_u8(in) * 390u, MSG_DONTWAIT);
		break;
	case 6:
		shutdown(host[i], what & 128 ? SHUT_RD : SHUT_WR);
		break;
	default:
		host_close(i);
	}
}

static void check_bounds(void)
{
	struct list *pos;
	unsigned int n = 0;

	list_for_each(pos, &device()->conns)
	{
		const struct vsock_conn *c = container_of(pos, struct vsock_conn, all);

		CHECK(c->ring_len <= VSOCK_BUF_ALLOC);
		CHECK(c->received - c->forwarded <= VSOCK_BUF_ALLOC);
		n++;
	}
	CHECK(n <= VSOCK_CONN_MAX);
}

static void set_up(void)
{
	if (g.loop)
		return;
	guest_vsock_open(&g, 0);
	listener = host_listener(&g, 1024);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, size};

	set_up();
	for (unsigned int i = 0; i < SOCKS; i++) {
		socks[i] = (struct guest_sock){.port = i, .peer_port = 1024};
		host[i] = -1;
	}
	guest_vsock_start(&g, fuzz_u8(&in) & 1 ? VIRTIO_F_EVENT_IDX : 0);
	while (in.len) {
		uint8_t step = fuzz_u8(&in) % 16;

		if (step < 6)
			packet(&in);
		else if (step < 10)
			host_step(&in);
		else if (step < 12)
			receive(&in);
		else if (step < 14)
			loop_once(g.loop, 0);
		else if (step == 14)
			raw_packet(&in);
		else
			short_packet(&in);
	}
	guest_run(&g);
	check_bounds();
	for (unsigned int i = 0; i < SOCKS; i++)
		host_close(i);
	for (int fd; (fd = accept(listener, NULL, NULL)) >= 0;)
		close(fd);
	virtio_lock(g.drv.d);
	virtio_reset(g.drv.d);
	virtio_unlock(g.drv.d);
	guest_run(&g);
	CHECK_EQ(device()->n_conns, 0);
	return 0;
}
