/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/virtio/guest_vsock.c - a guest's socket driver, just enough to test the device
 */
#include "virtio/guest_vsock.h"

#include "base/fd.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>

static void post_rx(struct guest_vsock *g, uint64_t gpa)
{
	/* A header of its own and two parts, so that the device meets boundaries. */
	struct drv_buf parts[] = {
	    {gpa, VSOCK_HDR_LEN},
	    {gpa + VSOCK_HDR_LEN, 100},
	    {gpa + VSOCK_HDR_LEN + 100, GUEST_RX_LEN - VSOCK_HDR_LEN - 100},
	};
	int head = drv_post(&g->drv, 0, parts, 0, 3, 0);

	CHECK(head >= 0);
	g->rx_buf[head] = gpa;
}

void guest_vsock_open(struct guest_vsock *g, uint64_t features)
{
	struct virtio_dev *d;
	struct gmem *mem;
	struct err e = {0};

	memset(g, 0, sizeof(*g));
	snprintf(g->dir, sizeof(g->dir), "/tmp/test_vsock_XXXXXX");
	CHECK(mkdtemp(g->dir));
	snprintf(g->path, sizeof(g->path), "%s/v", g->dir);
	CHECK(loop_new(&g->loop, &e) == 0);
	CHECK(gmem_new(16u << 20, 16u << 20, &mem, &e) == 0);
	CHECK(virtio_vsock_new(mem, g->loop, GUEST_CID, g->path, -1, &d, &e) == 0);
	drv_init(&g->drv, mem, d, features, 256);
	guest_vsock_start(g, features);
}

void guest_vsock_start(struct guest_vsock *g, uint64_t features)
{
	drv_start(&g->drv, features, 256);
	for (unsigned int i = 0; i < GUEST_RX_BUFS; i++)
		post_rx(g, drv_alloc(&g->drv, GUEST_RX_LEN, 4096));
	for (unsigned int i = 0; i < GUEST_TX_BUFS; i++) {
		g->tx_buf[i] = drv_alloc(&g->drv, VSOCK_HDR_LEN + GUEST_TX_LEN, 4096);
		g->tx_head[i] = -1;
	}
	g->event_buf = drv_alloc(&g->drv, 4, 4);
	drv_kick(&g->drv, 0);
}

void guest_vsock_close(struct guest_vsock *g)
{
	struct gmem *mem = g->drv.m;

	g->drv.d->ops->free(g->drv.d);
	CHECK(access(g->path, F_OK) < 0); /* the listening socket's file went with it */
	loop_free(g->loop);
	gmem_free(mem);
	rmdir(g->dir);
}

void guest_run(struct guest_vsock *g)
{
	for (unsigned int i = 0; i < 4; i++)
		loop_once(g->loop, 0);
}

const struct vsock_hdr *guest_recv(struct guest_vsock *g)
{
	const struct vsock_hdr *h = (const struct vsock_hdr *)g->packet;
	uint16_t head;
	uint32_t len;

	if (!drv_used(&g->drv, 0, &head, &len))
		return NULL;
	CHECK(len >= VSOCK_HDR_LEN && len <= GUEST_RX_LEN);
	memcpy(g->packet, gmem_ptr(g->drv.m, g->rx_buf[head], len), len);
	CHECK_EQ(h->len, len - VSOCK_HDR_LEN);
	CHECK_EQ(h->dst_cid, GUEST_CID);
	CHECK_EQ(h->type, VSOCK_TYPE_STREAM);
	post_rx(g, g->rx_buf[head]);
	drv_kick(&g->drv, 0);
	return h;
}

const struct vsock_hdr *guest_wait(struct guest_vsock *g)
{
	for (unsigned int i = 0; i < 10000; i++) {
		const struct vsock_hdr *h = guest_recv(g);

		if (h)
			return h;
		loop_once(g->loop, i < 100 ? 0 : 1);
	}
	CHECK(!"a packet came");
	return NULL;
}

static int free_tx(struct guest_vsock *g)
{
	uint16_t head;
	uint32_t len;

	while (drv_used(&g->drv, 1, &head, &len)) {
		for (unsigned int i = 0; i < GUEST_TX_BUFS; i++) {
			if (g->tx_head[i] == head)
				g->tx_head[i] = -1;
		}
	}
	for (int i = 0; i < GUEST_TX_BUFS; i++) {
		if (g->tx_head[i] < 0)
			return i;
	}
	return -1;
}

bool guest_send_raw(struct guest_vsock *g, const struct vsock_hdr *h, const void *data,
		    size_t data_len)
{
	int i = free_tx(g);
	struct drv_buf parts[2];

	if (i < 0)
		return false;
	memcpy(gmem_ptr(g->drv.m, g->tx_buf[i], VSOCK_HDR_LEN), h, VSOCK_HDR_LEN);
	parts[0] = (struct drv_buf){g->tx_buf[i], VSOCK_HDR_LEN};
	parts[1] = (struct drv_buf){g->tx_buf[i] + VSOCK_HDR_LEN, (uint32_t)data_len};
	if (data_len)
		memcpy(gmem_ptr(g->drv.m, parts[1].gpa, data_len), data, data_len);
	g->tx_head[i] = drv_post(&g->drv, 1, parts, data_len ? 2 : 1, 0, 0);
	if (g->tx_head[i] < 0)
		return false;
	drv_kick(&g->drv, 1);
	return true;
}

bool guest_send(struct guest_vsock *g, const struct guest_sock *s, enum vsock_op op, uint32_t flags,
		const void *data, uint32_t len)
{
	struct vsock_hdr h = {
	    .src_cid = GUEST_CID,
	    .dst_cid = VSOCK_HOST_CID,
	    .src_port = s->port,
	    .dst_port = s->peer_port,
	    .len = len,
	    .type = VSOCK_TYPE_STREAM,
	    .op = (uint16_t)op,
	    .flags = flags,
	    .buf_alloc = s->buf_alloc,
	    .fwd_cnt = s->fwd_cnt,
	};

	return guest_send_raw(g, &h, data, len);
}

uint32_t guest_credit(const struct guest_sock *s)
{
	return s->peer_alloc - (s->sent - s->peer_fwd);
}

void guest_learn(struct guest_sock *s, const struct vsock_hdr *h)
{
	s->peer_alloc = h->buf_alloc;
	s->peer_fwd = h->fwd_cnt;
}

static void address(struct sockaddr_un *a, const char *path)
{
	*a = (struct sockaddr_un){.sun_family = AF_UNIX};
	CHECK(strlen(path) < sizeof(a->sun_path));
	memcpy(a->sun_path, path, strlen(path));
}

int host_say(struct guest_vsock *g, const char *line)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un a;

	address(&a, g->path);
	CHECK(connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0);
	CHECK(write_full(fd, line, strlen(line)) == 0);
	return fd;
}

int host_open(struct guest_vsock *g, uint32_t port)
{
	char line[32];

	snprintf(line, sizeof(line), "CONNECT %u\n", port);
	return host_say(g, line);
}

int host_connected(struct guest_vsock *g, struct guest_sock *s, uint32_t port)
{
	int fd = host_open(g, port);
	const struct vsock_hdr *h = guest_wait(g);
	char line[32], want[32];
	ssize_t n;

	CHECK_EQ(h->op, VSOCK_OP_REQUEST);
	CHECK_EQ(h->dst_port, port);
	CHECK_EQ(h->src_cid, VSOCK_HOST_CID);
	*s = (struct guest_sock){.port = port, .peer_port = h->src_port, .buf_alloc = 65536};
	guest_learn(s, h);
	CHECK(guest_send(g, s, VSOCK_OP_RESPONSE, 0, NULL, 0));
	guest_run(g);
	snprintf(want, sizeof(want), "OK %u\n", s->peer_port);
	n = read(fd, line, strlen(want));
	CHECK(n > 0 && !memcmp(line, want, strlen(want)));
	return fd;
}

int host_listener(struct guest_vsock *g, uint32_t port)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un a;
	char path[128];

	snprintf(path, sizeof(path), "%s_%u", g->path, port);
	address(&a, path);
	CHECK(bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0);
	CHECK(listen(fd, 16) == 0);
	return fd;
}
