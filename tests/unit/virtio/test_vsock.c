/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/virtio/test_vsock.c - the socket device between a fake driver and real unix sockets
 */
#include "test.h"
#include "virtio/guest_vsock.h"

#include <errno.h>
#include <sys/socket.h>

#define BULK (10u << 20)

static uint8_t *pattern;

/* --- bulk data, both ways, with stalls --- */

struct bulk {
	struct guest_vsock *g;
	struct guest_sock s;
	int fd;
	uint64_t seed;
	size_t host_sent, host_got, guest_sent, guest_got;
	bool guest_eof_sent, guest_saw_eof, host_eof_sent, host_saw_eof, reset;
};

static void bulk_host(struct bulk *b)
{
	uint8_t buf[40000];
	ssize_t n;

	if (rnd(&b->seed) % 3 && b->host_sent < BULK) {
		size_t want = MIN(rnd(&b->seed) % 50000 + 1, (uint64_t)(BULK - b->host_sent));

		n = send(b->fd, pattern + b->host_sent, want, MSG_NOSIGNAL | MSG_DONTWAIT);
		CHECK(n > 0 || errno == EAGAIN);
		b->host_sent += n > 0 ? (size_t)n : 0;
	}
	if (b->host_sent == BULK && !b->host_eof_sent) {
		CHECK(shutdown(b->fd, SHUT_WR) == 0);
		b->host_eof_sent = true;
	}
	if (rnd(&b->seed) % 3 == 0)
		return;
	n = recv(b->fd, buf, rnd(&b->seed) % sizeof(buf) + 1, MSG_DONTWAIT);
	if (n > 0) {
		CHECK(!memcmp(buf, pattern + b->host_got, (size_t)n));
		b->host_got += (size_t)n;
	} else if (n == 0) {
		b->host_saw_eof = true;
	} else {
		CHECK_EQ(errno, EAGAIN);
	}
}

static void bulk_guest_in(struct bulk *b)
{
	unsigned int n = (unsigned int)(rnd(&b->seed) % 8);

	while (n--) {
		const struct vsock_hdr *h = guest_recv(b->g);

		if (!h)
			return;
		guest_learn(&b->s, h);
		if (h->op == VSOCK_OP_RW) {
			CHECK(!b->guest_saw_eof);
			CHECK(!memcmp(h + 1, pattern + b->guest_got, h->len));
			b->guest_got += h->len;
			CHECK(b->guest_got - b->s.fwd_cnt <= b->s.buf_alloc);
		} else if (h->op == VSOCK_OP_SHUTDOWN) {
			CHECK(h->flags & VSOCK_SHUTDOWN_SEND);
			b->guest_saw_eof = true;
		} else if (h->op == VSOCK_OP_RST) {
			b->reset = true;
		} else {
			CHECK(h->op == VSOCK_OP_CREDIT_UPDATE || h->op == VSOCK_OP_CREDIT_REQUEST);
		}
	}
}

static void bulk_guest_out(struct bulk *b)
{
	uint64_t want = MIN(rnd(&b->seed) % GUEST_TX_LEN + 1, (uint64_t)(BULK - b->guest_sent));

	/* The reader's pace: tell of room only now and then. */
	if (rnd(&b->seed) % 4 == 0 && b->s.fwd_cnt != b->guest_got) {
		b->s.fwd_cnt = (uint32_t)b->guest_got;
		CHECK(guest_send(b->g, &b->s, VSOCK_OP_CREDIT_UPDATE, 0, NULL, 0) || true);
	}
	want = MIN(want, (uint64_t)guest_credit(&b->s));
	if (want &&
	    guest_send(b->g, &b->s, VSOCK_OP_RW, 0, pattern + b->guest_sent, (uint32_t)want)) {
		b->guest_sent += want;
		b->s.sent += (uint32_t)want;
	}
	if (b->guest_sent == BULK && !b->guest_eof_sent)
		b->guest_eof_sent =
		    guest_send(b->g, &b->s, VSOCK_OP_SHUTDOWN, VSOCK_SHUTDOWN_SEND, NULL, 0);
}

static void test_bulk(uint64_t features, uint64_t seed)
{
	struct guest_vsock g;
	struct bulk b = {.g = &g, .seed = seed};

	guest_vsock_open(&g, features);
	b.fd = host_connected(&g, &b.s, 5000);
	for (unsigned int i = 0; !(b.host_saw_eof && b.guest_saw_eof); i++) {
		CHECK(i < 1000000); /* else somebody waits for ever */
		bulk_host(&b);
		bulk_guest_in(&b);
		bulk_guest_out(&b);
		if (rnd(&b.seed) % 2)
			loop_once(g.loop, 0);
	}
	CHECK_EQ(b.host_got, BULK);
	CHECK_EQ(b.guest_got, BULK);
	CHECK(!b.reset);
	/* The guest's close: SHUTDOWN of both is answered with RST, and the host sees a close. */
	while (!guest_send(&g, &b.s, VSOCK_OP_SHUTDOWN, VSOCK_SHUTDOWN_BOTH, NULL, 0))
		guest_run(&g);
	while (!b.reset) {
		loop_once(g.loop, 0);
		bulk_guest_in(&b);
	}
	close(b.fd);
	guest_run(&g);
	CHECK_EQ(container_of(g.drv.d, struct virtio_vsock, dev)->n_conns, 0);
	CHECK(g.drv.irqs > 0);
	guest_vsock_close(&g);
}

/* --- single facts --- */

static void read_all(struct guest_vsock *g, int fd, char *buf, size_t len)
{
	for (size_t got = 0; got < len;) {
		ssize_t n = recv(fd, buf + got, len - got, MSG_DONTWAIT);

		CHECK(n != 0);
		got += n > 0 ? (size_t)n : 0;
		guest_run(g);
	}
}

/* A guest connects to the host; what it sent before it closed arrives, even at a slow reader. */
static void test_guest_connects(struct guest_vsock *g)
{
	struct guest_sock s = {.port = 900, .peer_port = 1024, .buf_alloc = 65536};
	static uint8_t out[200000];
	static char in[sizeof(out)];
	int l = host_listener(g, 1024), fd;
	const struct vsock_hdr *h;
	size_t sent = 0;
	char path[128];

	memcpy(out, pattern, sizeof(out));
	CHECK(guest_send(g, &s, VSOCK_OP_REQUEST, 0, NULL, 0));
	h = guest_wait(g);
	CHECK_EQ(h->op, VSOCK_OP_RESPONSE);
	guest_learn(&s, h);
	fd = accept(l, NULL, NULL);
	CHECK(fd >= 0);
	while (sent < sizeof(out)) {
		uint32_t n = (uint32_t)MIN(sizeof(out) - sent, (size_t)GUEST_TX_LEN);

		CHECK(guest_send(g, &s, VSOCK_OP_RW, 0, out + sent, n));
		sent += n;
	}
	CHECK(guest_send(g, &s, VSOCK_OP_SHUTDOWN, VSOCK_SHUTDOWN_BOTH, NULL, 0));
	do {
		h = guest_wait(g);
	} while (h->op == VSOCK_OP_CREDIT_UPDATE);
	CHECK_EQ(h->op, VSOCK_OP_RST); /* at once: the guest need not wait for the reader */
	read_all(g, fd, in, sizeof(in));
	CHECK(!memcmp(in, out, sizeof(in)));
	CHECK_EQ(recv(fd, in, 1, 0), 0);
	close(fd);
	close(l);
	snprintf(path, sizeof(path), "%s_1024", g->path);
	unlink(path);
	guest_run(g);
}

static void expect(struct guest_vsock *g, enum vsock_op op, uint32_t flags)
{
	const struct vsock_hdr *h = guest_wait(g);

	CHECK_EQ(h->op, op);
	CHECK_EQ(h->flags, flags);
}

static void expect_eof(struct guest_vsock *g, int fd)
{
	char c;
	ssize_t n;

	guest_run(g);
	n = recv(fd, &c, 1, MSG_DONTWAIT);
	CHECK(n == 0 || (n < 0 && errno == ECONNRESET));
	close(fd);
}

static void test_refusals(struct guest_vsock *g)
{
	static const char *const lines[] = {
	    "CONNECT\n",     "CONNECT -1\n",       "CONNECT 4294967296\n",
	    "CONNECT 1 2\n", "GET / HTTP/1.0\r\n", "CONNECT 00000000000000000000000000000001"};
	struct guest_sock s = {.port = 900, .peer_port = 77, .buf_alloc = 65536};
	struct guest_sock t;
	int fd;

	/* Nobody listens at PATH_77. */
	CHECK(guest_send(g, &s, VSOCK_OP_REQUEST, 0, NULL, 0));
	expect(g, VSOCK_OP_RST, 0);
	/* The guest refuses a host program. */
	fd = host_open(g, 5);
	t = (struct guest_sock){.port = 5, .peer_port = guest_wait(g)->src_port};
	CHECK(guest_send(g, &t, VSOCK_OP_RST, 0, NULL, 0));
	expect_eof(g, fd);
	/* A host program that gives up before the guest answered. */
	fd = host_open(g, 6);
	CHECK_EQ(guest_wait(g)->op, VSOCK_OP_REQUEST);
	close(fd);
	expect(g, VSOCK_OP_RST, 0);
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		fd = host_say(g, lines[i]);
		expect_eof(g, fd);
	}
	CHECK(!guest_recv(g));
}

static void test_shutdowns(struct guest_vsock *g)
{
	struct guest_sock s;
	int fd = host_connected(g, &s, 10);

	/* The host program closes: nothing can be read or written any more. */
	CHECK(write(fd, "bye", 3) == 3);
	close(fd);
	expect(g, VSOCK_OP_SHUTDOWN, VSOCK_SHUTDOWN_RCV);
	CHECK_EQ(guest_wait(g)->len, 3);
	expect(g, VSOCK_OP_SHUTDOWN, VSOCK_SHUTDOWN_BOTH);
	CHECK(guest_send(g, &s, VSOCK_OP_RST, 0, NULL, 0));
	guest_run(g);
	CHECK_EQ(container_of(g->drv.d, struct virtio_vsock, dev)->n_conns, 0);
	/* The guest will read no more: the host's writes fail. */
	fd = host_connected(g, &s, 11);
	CHECK(guest_send(g, &s, VSOCK_OP_SHUTDOWN, VSOCK_SHUTDOWN_RCV, NULL, 0));
	guest_run(g);
	CHECK(send(fd, "x", 1, MSG_NOSIGNAL) < 0 && errno == EPIPE);
	/* ... but the other direction lives on. */
	CHECK(guest_send(g, &s, VSOCK_OP_RW, 0, "still", 5));
	guest_run(g);
	{
		char buf[8];

		CHECK_EQ(recv(fd, buf, sizeof(buf), MSG_DONTWAIT), 5);
	}
	CHECK(guest_send(g, &s, VSOCK_OP_RST, 0, NULL, 0));
	expect_eof(g, fd);
}

/* A slow reader on the host stalls the guest at the credit; one on the guest stalls the host. */
static void test_stalls(struct guest_vsock *g)
{
	static uint8_t chunk[GUEST_TX_LEN];
	struct guest_sock s;
	int fd = host_connected(g, &s, 12);
	size_t queued = 0;
	const struct vsock_hdr *h;

	for (;;) {
		uint32_t n = MIN(guest_credit(&s), (uint32_t)sizeof(chunk));

		if (!n)
			break;
		CHECK(guest_send(g, &s, VSOCK_OP_RW, 0, chunk, n));
		s.sent += n;
		guest_run(g);
		while ((h = guest_recv(g)))
			guest_learn(&s, h);
		CHECK(s.sent < 4u << 20);
	}
	s.buf_alloc = 10000;
	CHECK(guest_send(g, &s, VSOCK_OP_CREDIT_REQUEST, 0, NULL, 0));
	expect(g, VSOCK_OP_CREDIT_UPDATE, 0);
	while (send(fd, chunk, sizeof(chunk), MSG_DONTWAIT) > 0)
		;
	for (unsigned int i = 0; i < 20; i++) {
		guest_run(g);
		while ((h = guest_recv(g)))
			queued += h->op == VSOCK_OP_RW ? h->len : 0;
	}
	CHECK_EQ(queued, 10000);
	CHECK(guest_send(g, &s, VSOCK_OP_RST, 0, NULL, 0));
	guest_run(g);
	close(fd);
	guest_run(g);
}

/* --- hostile guests --- */

static void test_hostile(struct guest_vsock *g)
{
	struct vsock_hdr h = {.src_cid = GUEST_CID,
			      .dst_cid = VSOCK_HOST_CID,
			      .src_port = 1,
			      .dst_port = 2,
			      .type = VSOCK_TYPE_STREAM,
			      .op = VSOCK_OP_RW};
	struct vsock_hdr bad;
	struct guest_sock s;
	int fd;

	CHECK(guest_send_raw(g, &h, "x", 1)); /* no such connection */
	expect(g, VSOCK_OP_RST, 0);
	bad = h, bad.dst_cid = 9;
	CHECK(guest_send_raw(g, &bad, NULL, 0));
	CHECK_EQ(guest_wait(g)->src_cid, 9);
	bad = h, bad.src_cid = 43;
	CHECK(guest_send_raw(g, &bad, NULL, 0));
	expect(g, VSOCK_OP_RST, 0);
	bad = h, bad.type = 2, bad.op = VSOCK_OP_REQUEST;
	CHECK(guest_send_raw(g, &bad, NULL, 0));
	expect(g, VSOCK_OP_RST, 0);
	bad = h, bad.op = VSOCK_OP_RST;
	CHECK(guest_send_raw(g, &bad, NULL, 0)); /* not answered */
	for (unsigned int kind = 0; kind < 6; kind++) {
		fd = host_connected(g, &s, 20 + kind);
		bad = h, bad.src_port = s.port, bad.dst_port = s.peer_port;
		bad.buf_alloc = 65536;
		switch (kind) {
		case 0: /* longer than the packet */
			bad.len = 100;
			break;
		case 1:
			bad.op = 99;
			break;
		case 2:
			bad.op = VSOCK_OP_REQUEST;
			break;
		case 3:
			bad.op = VSOCK_OP_RESPONSE;
			break;
		case 4: /* data after its own end */
			CHECK(guest_send(g, &s, VSOCK_OP_SHUTDOWN, VSOCK_SHUTDOWN_SEND, NULL, 0));
			break;
		default: /* length 2^32 - 1 */
			bad.len = UINT32_MAX;
		}
		CHECK(guest_send_raw(g, &bad, "x", 1));
		expect(g, VSOCK_OP_RST, 0);
		expect_eof(g, fd);
	}
	CHECK(!guest_recv(g));
}

static void test_credit_overrun(struct guest_vsock *g)
{
	static uint8_t chunk[GUEST_TX_LEN];
	struct guest_sock s;
	int fd = host_connected(g, &s, 30);
	const struct vsock_hdr *h = NULL;

	for (unsigned int i = 0; i < 100 && !(h && h->op == VSOCK_OP_RST); i++) {
		(void)guest_send(g, &s, VSOCK_OP_RW, 0, chunk, sizeof(chunk));
		guest_run(g);
		while ((h = guest_recv(g)) && h->op != VSOCK_OP_RST)
			;
	}
	CHECK(h && h->op == VSOCK_OP_RST);
	close(fd);
	guest_run(g);
}

/* Packets that owe more resets than the device remembers: it waits instead of forgetting. */
static void test_reset_flood(struct guest_vsock *g)
{
	struct guest_sock s = {.port = 1, .peer_port = 2};
	unsigned int sent = 0, got = 0;

	while (sent < 2000) {
		s.port = sent;
		if (guest_send(g, &s, VSOCK_OP_RW, 0, NULL, 0))
			sent++;
		else
			loop_once(g->loop, 0);
		while (sent % 700 == 0 && guest_recv(g))
			got++;
		if (sent - got > 320) {
			while (guest_recv(g))
				got++;
		}
	}
	for (unsigned int i = 0; i < 100 && got < sent; i++) {
		guest_run(g);
		while (guest_recv(g))
			got++;
	}
	CHECK_EQ(got, sent);
}

/* More connections than the device holds: the surplus is refused, and all end when asked to. */
static void test_storm(struct guest_vsock *g)
{
	static int fds[VSOCK_CONN_MAX + 50];
	struct virtio_vsock *v = container_of(g->drv.d, struct virtio_vsock, dev);
	unsigned int refused = 0, asked = 0;

	for (unsigned int i = 0; i < ARRAY_SIZE(fds); i++) {
		const struct vsock_hdr *h;

		fds[i] = host_open(g, i);
		guest_run(g);
		h = guest_recv(g);
		asked += h && h->op == VSOCK_OP_REQUEST;
		refused += !h;
	}
	CHECK_EQ(asked, VSOCK_CONN_MAX);
	CHECK_EQ(refused, 50);
	for (unsigned int i = 0; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
	for (unsigned int i = 0; v->n_conns; i++) {
		CHECK(i < 10000);
		loop_once(g->loop, 0);
		while (guest_recv(g))
			;
	}
}

static void test_reset(struct guest_vsock *g)
{
	struct virtio_vsock *v = container_of(g->drv.d, struct virtio_vsock, dev);
	struct guest_sock s;
	int fd = host_connected(g, &s, 40);

	virtio_lock(g->drv.d);
	virtio_reset(g->drv.d);
	virtio_unlock(g->drv.d);
	guest_run(g);
	CHECK_EQ(v->n_conns, 0);
	expect_eof(g, fd);
	/* No driver: a host program is turned away at once. */
	fd = host_open(g, 41);
	expect_eof(g, fd);
	CHECK_EQ(v->n_conns, 0);
}

/* A restored machine's driver is told that its connections are gone.  Who connects meanwhile has to
 * wait for the driver, which would count him among those. */
static void test_restore(uint64_t features)
{
	struct guest_vsock g;
	struct strbuf saved = {0};
	struct err e = {0};
	struct drv_buf event;
	uint16_t head;
	uint32_t len;
	size_t used;
	int fd;

	guest_vsock_open(&g, features);
	event = (struct drv_buf){g.event_buf, 4};
	CHECK(drv_post(&g.drv, 2, &event, 0, 1, 0) >= 0);
	drv_kick(&g.drv, 2);
	guest_run(&g);
	CHECK(!drv_used(&g.drv, 2, &head, &len));
	virtio_save(g.drv.d, &saved);
	CHECK(virtio_load(g.drv.d, saved.data, saved.len, &used, &e) == 0);
	CHECK_EQ(used, saved.len);
	guest_run(&g);
	CHECK(drv_used(&g.drv, 2, &head, &len));
	CHECK_EQ(len, 4);
	fd = host_open(&g, 7);
	guest_run(&g);
	CHECK(guest_recv(&g) == NULL);
	CHECK(drv_post(&g.drv, 2, &event, 0, 1, 0) >= 0);
	drv_kick(&g.drv, 2);
	CHECK_EQ(guest_wait(&g)->op, VSOCK_OP_REQUEST);
	close(fd);
	strbuf_fini(&saved);
	guest_vsock_close(&g);
}

static void test_path_in_use(struct guest_vsock *g)
{
	struct virtio_dev *d;
	struct err e = {0};

	CHECK(virtio_vsock_new(g->drv.m, g->loop, 5, g->path, -1, &d, &e) == -EADDRINUSE);
	CHECK(strstr(e.msg, g->path));
	CHECK(virtio_vsock_new(g->drv.m, g->loop, 2, "/tmp/x", -1, &d, &e) == -EINVAL);
}

int main(void)
{
	struct guest_vsock g;
	uint64_t seed = 12345;

	pattern = malloc(BULK);
	for (size_t i = 0; i < BULK; i += 8)
		store_le64(pattern + i, rnd(&seed));
	test_bulk(VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC, 1);
	test_bulk(0, 2);
	guest_vsock_open(&g, VIRTIO_F_EVENT_IDX);
	test_guest_connects(&g);
	test_refusals(&g);
	test_shutdowns(&g);
	test_stalls(&g);
	test_hostile(&g);
	test_credit_overrun(&g);
	test_reset_flood(&g);
	test_storm(&g);
	test_path_in_use(&g);
	test_reset(&g);
	guest_vsock_close(&g);
	test_restore(0);
	test_restore(VIRTIO_F_EVENT_IDX);
	free(pattern);
	return 0;
}
