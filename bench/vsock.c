/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench/vsock.c - throughput of the socket device between a fake driver and a unix socket
 *
 * One thread plays guest, device and host in turns, so this is the cost per byte of all three.
 * Prints one line of JSON: {"host_to_guest_mb_s":..,"guest_to_host_mb_s":..}
 */
#include "base/clock.h"
#include "test.h"
#include "virtio/guest_vsock.h"

#include <sys/socket.h>

#define TOTAL (256u << 20)
#define CHUNK (64u << 10)

static uint8_t chunk[CHUNK];

static double rate(uint64_t start)
{
	return TOTAL / 1e6 / ((double)(clock_now() - start) / 1e9);
}

static double host_to_guest(struct guest_vsock *g, struct guest_sock *s, int fd)
{
	uint64_t start = clock_now();
	size_t got = 0;

	while (got < TOTAL) {
		const struct vsock_hdr *h;

		(void)!send(fd, chunk, CHUNK, MSG_DONTWAIT | MSG_NOSIGNAL);
		loop_once(g->loop, 0);
		while ((h = guest_recv(g))) {
			got += h->len;
			s->fwd_cnt += h->len;
		}
		CHECK(guest_send(g, s, VSOCK_OP_CREDIT_UPDATE, 0, NULL, 0));
	}
	return rate(start);
}

static double guest_to_host(struct guest_vsock *g, struct guest_sock *s, int fd)
{
	uint64_t start = clock_now();
	size_t got = 0;

	while (got < TOTAL) {
		const struct vsock_hdr *h;
		ssize_t n;

		while (guest_credit(s) >= CHUNK && guest_send(g, s, VSOCK_OP_RW, 0, chunk, CHUNK))
			s->sent += CHUNK;
		loop_once(g->loop, 0);
		while ((h = guest_recv(g)))
			guest_learn(s, h);
		while ((n = recv(fd, chunk, CHUNK, MSG_DONTWAIT)) > 0)
			got += (size_t)n;
	}
	return rate(start);
}

int main(void)
{
	struct guest_vsock g;
	struct guest_sock s;
	double in, out;
	int fd;

	guest_vsock_open(&g, VIRTIO_F_EVENT_IDX);
	fd = host_connected(&g, &s, 1);
	s.buf_alloc = 256u << 10;
	in = host_to_guest(&g, &s, fd);
	out = guest_to_host(&g, &s, fd);
	printf("{\"host_to_guest_mb_s\":%.0f,\"guest_to_host_mb_s\":%.0f}\n", in, out);
	close(fd);
	guest_vsock_close(&g);
	return 0;
}
