/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/net/test_user.c - the user-mode network, spoken to in raw frames as a guest does
 */
#include "base/clock.h"
#include "base/exit.h"
#include "net/net.h"
#include "test.h"

#include <arpa/inet.h>
#include <errno.h>
#include <sys/socket.h>

#define ETH_LEN 14
#define IP_LEN  20
#define TCP_LEN 20
#define UDP_LEN 8

#define TCP_FIN 1
#define TCP_SYN 2
#define TCP_ACK 16

#define GUEST_IP 0x0a00020f
#define HOST_IP  0x0a000202

static const uint8_t guest_mac[6] = {0x52, 0x54, 0, 0x12, 0x34, 0x56};
static uint8_t host_mac[6];

static struct loop *loop;
static struct net *user;

/* What came in, and how much the "card" takes. */
static struct {
	uint8_t data[NET_FRAME_MAX];
	size_t len;
} in[64];
static unsigned int in_head, in_tail, in_room = 64;

static bool on_rx(void *opaque, const void *frame, size_t len)
{
	if (in_tail - in_head >= in_room)
		return false;
	CHECK(len <= NET_FRAME_MAX);
	memcpy(in[in_tail % 64].data, frame, len);
	in[in_tail++ % 64].len = len;
	return true;
}

static void put16(uint8_t *p, unsigned int v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static void put32(uint8_t *p, uint32_t v)
{
	put16(p, v >> 16);
	put16(p + 2, v & 0xffff);
}

static unsigned int get16(const uint8_t *p)
{
	return (unsigned int)p[0] << 8 | p[1];
}

static uint32_t get32(const uint8_t *p)
{
	return (uint32_t)get16(p) << 16 | get16(p + 2);
}

static uint32_t sum(uint32_t s, const uint8_t *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		s += i & 1 ? p[i] : (uint32_t)p[i] << 8;
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return s;
}

/* Of the payload of an IP packet, pseudo header included. */
static uint32_t ip_payload_sum(const uint8_t *ip, size_t len)
{
	return sum(sum((uint32_t)ip[9] + (uint32_t)len, ip + 12, 8), ip + IP_LEN, len);
}

/* --- frames --- */

static void send_ip(uint8_t *frame, unsigned int proto, uint32_t src, uint32_t dst, size_t len)
{
	uint8_t *ip = frame + ETH_LEN, *csum = ip + IP_LEN + (proto == IPPROTO_TCP ? 16 : 6);

	memset(frame, 0xff, 6);
	if (dst != UINT32_MAX)
		memcpy(frame, host_mac, 6);
	memcpy(frame + 6, guest_mac, 6);
	put16(frame + 12, 0x0800);
	memset(ip, 0, IP_LEN);
	ip[0] = 0x45;
	put16(ip + 2, (unsigned int)(IP_LEN + len));
	ip[8] = 64;
	ip[9] = (uint8_t)proto;
	put32(ip + 12, src);
	put32(ip + 16, dst);
	put16(ip + 10, ~sum(0, ip, IP_LEN) & 0xffff);
	put16(csum, 0);
	put16(csum, ~ip_payload_sum(ip, len) & 0xffff);
	net_send(user, frame, ETH_LEN + IP_LEN + len);
}

static void send_udp(uint32_t src, uint32_t dst, unsigned int sport, unsigned int dport,
		     const void *data, size_t len)
{
	uint8_t frame[2048] = {0}, *udp = frame + ETH_LEN + IP_LEN;

	put16(udp, sport);
	put16(udp + 2, dport);
	put16(udp + 4, (unsigned int)(UDP_LEN + len));
	memcpy(udp + UDP_LEN, data, len);
	send_ip(frame, IPPROTO_UDP, src, dst, UDP_LEN + len);
}

/* Next frame of @proto to @dport (0: any); ARP questions for the guest are answered on the way. */
static const uint8_t *wait_ip(unsigned int proto, unsigned int dport)
{
	for (uint64_t end = clock_now() + 5 * NSEC_PER_SEC; clock_now() < end;) {
		const uint8_t *f = in[in_head % 64].data, *ip = f + ETH_LEN;
		size_t len;

		if (in_head == in_tail) {
			loop_once(loop, 10);
			continue;
		}
		len = in[in_head++ % 64].len;
		CHECK(len >= ETH_LEN + IP_LEN);
		if (get16(f + 12) == 0x0806 && get16(ip + 6) == 1 && get32(ip + 24) == GUEST_IP) {
			uint8_t reply[ETH_LEN + 28];

			memcpy(reply, f + 6, 6);
			memcpy(reply + 6, guest_mac, 6);
			put16(reply + 12, 0x0806);
			memcpy(reply + ETH_LEN, ip, 8);
			put16(reply + ETH_LEN + 6, 2);
			memcpy(reply + ETH_LEN + 8, guest_mac, 6);
			put32(reply + ETH_LEN + 14, GUEST_IP);
			memcpy(reply + ETH_LEN + 18, ip + 8, 10);
			net_send(user, reply, sizeof(reply));
			continue;
		}
		if (get16(f + 12) != 0x0800 || ip[9] != proto)
			continue;
		/* net.good_csum is a promise. */
		CHECK_EQ(sum(0, ip, IP_LEN), 0xffff);
		CHECK_EQ(ip_payload_sum(ip, get16(ip + 2) - IP_LEN), 0xffff);
		if (!dport || get16(ip + IP_LEN + 2) == dport)
			return ip;
	}
	CHECK(!"a packet came");
	return NULL;
}

/* --- TCP, just enough --- */

struct tcp {
	unsigned int port, peer_port;
	uint32_t seq, ack;
};

static void tcp_send(struct tcp *t, unsigned int flags, const void *data, size_t len)
{
	static uint8_t frame[NET_FRAME_MAX];
	uint8_t *tcp = frame + ETH_LEN + IP_LEN;

	memset(tcp, 0, TCP_LEN);
	put16(tcp, t->port);
	put16(tcp + 2, t->peer_port);
	put32(tcp + 4, t->seq);
	put32(tcp + 8, t->ack);
	tcp[12] = TCP_LEN / 4 << 4;
	tcp[13] = (uint8_t)flags;
	put16(tcp + 14, 60000);
	if (len)
		memcpy(tcp + TCP_LEN, data, len);
	send_ip(frame, IPPROTO_TCP, GUEST_IP, HOST_IP, TCP_LEN + len);
	t->seq += (uint32_t)len + !!(flags & (TCP_SYN | TCP_FIN));
}

/* Next segment with the data or flags wanted; returns the payload's length. */
static size_t tcp_wait(struct tcp *t, unsigned int flags, bool data, const uint8_t **payload)
{
	for (;;) {
		const uint8_t *ip = wait_ip(IPPROTO_TCP, t->port), *tcp = ip + IP_LEN;
		size_t head = (size_t)(tcp[12] >> 4) * 4, len = get16(ip + 2) - IP_LEN - head;

		if ((tcp[13] & flags) != flags || (data && !len))
			continue;
		t->peer_port = get16(tcp);
		t->ack = get32(tcp + 4) + (uint32_t)len + !!(tcp[13] & (TCP_SYN | TCP_FIN));
		*payload = tcp + head;
		return len;
	}
}

/* --- tests --- */

static const uint8_t *dhcp_option(const uint8_t *dhcp, unsigned int code)
{
	for (const uint8_t *o = dhcp + 240; o < dhcp + 548 && *o != 255; o += *o ? o[1] + 2 : 1) {
		if (*o == code)
			return o;
	}
	return NULL;
}

static const uint8_t *dhcp_ask(unsigned int type)
{
	uint8_t m[300] = {1, 1, 6};
	const uint8_t *ip;

	put32(m + 4, 0x12345678);
	memcpy(m + 28, guest_mac, 6);
	put32(m + 236, 0x63825363);
	m[240] = 53, m[241] = 1, m[242] = (uint8_t)type;
	m[243] = 50, m[244] = 4;
	put32(m + 245, GUEST_IP);
	m[249] = 255;
	send_udp(0, UINT32_MAX, 68, 67, m, sizeof(m));
	ip = wait_ip(IPPROTO_UDP, 68);
	memcpy(host_mac, ip - 8, 6);
	return ip + IP_LEN + UDP_LEN;
}

static void test_dhcp(void)
{
	const uint8_t *m = dhcp_ask(1), *o;

	CHECK_EQ(get32(m + 16), GUEST_IP);
	CHECK_EQ(dhcp_option(m, 53)[2], 2);
	m = dhcp_ask(3);
	CHECK_EQ(dhcp_option(m, 53)[2], 5);
	CHECK_EQ(get32(dhcp_option(m, 3) + 2), HOST_IP);
	CHECK_EQ(get32(dhcp_option(m, 6) + 2), 0x0a000203);
	o = dhcp_option(m, 12);
	CHECK(o && o[1] == 5 && !memcmp(o + 2, "alpha", 5));
}

static int host_server(int type, unsigned int *port)
{
	int fd = socket(AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);

	CHECK(bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0);
	CHECK(getsockname(fd, (struct sockaddr *)&a, &len) == 0);
	CHECK(type != SOCK_STREAM || listen(fd, 4) == 0);
	*port = ntohs(a.sin_port);
	return fd;
}

/* Runs the loop until @fd has something. */
static ssize_t host_recv(int fd, void *buf, size_t len, struct sockaddr_in *from)
{
	socklen_t from_len = sizeof(*from);

	for (unsigned int i = 0; i < 1000; i++) {
		ssize_t n = recvfrom(fd, buf, len, MSG_DONTWAIT, (struct sockaddr *)from,
				     from ? &from_len : NULL);

		if (n >= 0 || errno != EAGAIN)
			return n;
		loop_once(loop, 5);
	}
	return -1;
}

static void test_udp(void)
{
	struct sockaddr_in from;
	unsigned int port;
	int fd = host_server(SOCK_DGRAM, &port);
	const uint8_t *ip;
	char buf[16];

	send_udp(GUEST_IP, HOST_IP, 5555, port, "ping", 4);
	CHECK_EQ(host_recv(fd, buf, sizeof(buf), &from), 4);
	CHECK(!memcmp(buf, "ping", 4));
	CHECK_EQ(sendto(fd, "pong!", 5, 0, (struct sockaddr *)&from, sizeof(from)), 5);
	ip = wait_ip(IPPROTO_UDP, 5555);
	CHECK_EQ(get32(ip + 12), HOST_IP);
	CHECK_EQ(get16(ip + IP_LEN + 4), UDP_LEN + 5);
	CHECK(!memcmp(ip + IP_LEN + UDP_LEN, "pong!", 5));
	close(fd);
}

/* The guest connects to a server on the host's loopback; frames wait while the card has no room. */
static void test_tcp_out(void)
{
	struct tcp t = {.port = 40000, .seq = 1000};
	static uint8_t big[50000], back[sizeof(big)];
	const uint8_t *p;
	size_t got = 0;
	char buf[16];
	int l = host_server(SOCK_STREAM, &t.peer_port), fd;

	tcp_send(&t, TCP_SYN, NULL, 0);
	tcp_wait(&t, TCP_SYN | TCP_ACK, false, &p);
	tcp_send(&t, TCP_ACK, "hello", 5);
	fd = accept(l, NULL, NULL);
	CHECK(fd >= 0);
	CHECK_EQ(host_recv(fd, buf, sizeof(buf), NULL), 5);
	in_room = 0;
	CHECK_EQ(send(fd, "back", 4, MSG_DONTWAIT), 4);
	for (unsigned int i = 0; i < 20; i++)
		loop_once(loop, 1);
	CHECK_EQ(in_head, in_tail);
	in_room = 64;
	net_rx_ready(user);
	CHECK_EQ(tcp_wait(&t, TCP_ACK, true, &p), 4);
	CHECK(!memcmp(p, "back", 4));
	/* One frame far beyond the wire's size, as a TSO driver sends it. */
	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = (uint8_t)(i * 7 + i / 256);
	tcp_send(&t, TCP_ACK, big, sizeof(big));
	while (got < sizeof(big)) {
		ssize_t n = host_recv(fd, back + got, sizeof(big) - got, NULL);

		CHECK(n > 0);
		got += (size_t)n;
	}
	CHECK(!memcmp(big, back, sizeof(big)));
	tcp_send(&t, TCP_ACK | TCP_FIN, NULL, 0);
	CHECK_EQ(host_recv(fd, buf, sizeof(buf), NULL), 0);
	close(fd);
	close(l);
	tcp_wait(&t, TCP_FIN, false, &p);
	tcp_send(&t, TCP_ACK, NULL, 0);
}

static void test_published_tcp(unsigned int port)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
				.sin_port = htons((uint16_t)port),
				.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct tcp t = {.port = 80, .seq = 77};
	const uint8_t *p;
	char buf[16];

	CHECK(connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0);
	CHECK_EQ(send(fd, "GET", 3, 0), 3);
	tcp_wait(&t, TCP_SYN, false, &p);
	tcp_send(&t, TCP_SYN | TCP_ACK, NULL, 0);
	CHECK_EQ(tcp_wait(&t, TCP_ACK, true, &p), 3);
	CHECK(!memcmp(p, "GET", 3));
	tcp_send(&t, TCP_ACK, "200", 3);
	CHECK_EQ(host_recv(fd, buf, sizeof(buf), NULL), 3);
	CHECK(!memcmp(buf, "200", 3));
	close(fd);
}

static void test_published_udp(unsigned int port)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
				.sin_port = htons((uint16_t)port),
				.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	const uint8_t *ip;
	char buf[16];

	CHECK(connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0);
	CHECK_EQ(send(fd, "q", 1, 0), 1);
	ip = wait_ip(IPPROTO_UDP, 53);
	send_udp(GUEST_IP, get32(ip + 12), 53, get16(ip + IP_LEN), "answer", 6);
	CHECK_EQ(host_recv(fd, buf, sizeof(buf), NULL), 6);
	close(fd);
}

static void test_port_taken(void)
{
	struct net_publish p = {.guest_port = 80};
	struct net_user_spec spec = {.publish = &p, .n_publish = 1};
	unsigned int port;
	struct net *n = NULL;
	char text[32];

	for (int udp = 0; udp < 2; udp++) {
		int fd = host_server(udp ? SOCK_DGRAM : SOCK_STREAM, &port);
		struct err e = {0};

		p.udp = udp;
		p.host_port = (uint16_t)port;
		CHECK(net_user_open(&spec, loop, &n, &e) == -EADDRINUSE);
		CHECK_EQ(e.exit_code, EXIT_PORT_TAKEN);
		snprintf(text, sizeof(text), "127.0.0.1:%u/%s", port, udp ? "udp" : "tcp");
		CHECK(strstr(e.msg, text));
		CHECK(!n);
		close(fd);
	}
	snprintf(p.host_addr, sizeof(p.host_addr), "localhost");
	{
		struct err e = {0};

		CHECK(net_user_open(&spec, loop, &n, &e) == -EINVAL);
		CHECK(strstr(e.msg, "localhost"));
	}
}

/* Whatever a guest sends: no crash, and the network still answers. */
static void test_garbage(void)
{
	uint8_t frame[2000];
	uint32_t r = 1;

	for (unsigned int i = 0; i < 3000; i++) {
		size_t len;

		for (size_t k = 0; k < sizeof(frame); k++) {
			r = r * 1103515245 + 12345;
			frame[k] = (uint8_t)(r >> 16);
		}
		len = r % sizeof(frame);
		memcpy(frame, host_mac, 6);
		memcpy(frame + 6, guest_mac, 6);
		put16(frame + 12, i % 3 == 0 ? 0x0806 : i % 3 == 1 ? 0x0800 : 0x86dd);
		if (i % 3 == 1) {
			frame[14] = 0x45;
			put16(frame + 16, (unsigned int)len);
			frame[23] = i & 1 ? IPPROTO_TCP : IPPROTO_ICMP;
			/* Never to anywhere but the network itself. */
			put32(frame + 30, HOST_IP);
		}
		if (i % 3 == 2)
			frame[14] = 0x60, frame[20] = i & 1 ? 58 : 0, frame[38] = 0xfe,
			frame[39] = 0xc0;
		net_send(user, frame, len);
		if (i % 50 == 0)
			loop_once(loop, 0);
		in_head = in_tail;
	}
	loop_once(loop, 0);
	in_head = in_tail;
	test_udp();
}

int main(void)
{
	struct net_publish publish[2] = {{.guest_port = 80}, {.udp = true, .guest_port = 53}};
	struct net_user_spec spec = {.hostname = "alpha", .publish = publish, .n_publish = 2};
	unsigned int tcp_port, udp_port;
	struct err e = {0};

	close(host_server(SOCK_STREAM, &tcp_port));
	close(host_server(SOCK_DGRAM, &udp_port));
	publish[0].host_port = (uint16_t)tcp_port;
	publish[1].host_port = (uint16_t)udp_port;
	CHECK(loop_new(&loop, &e) == 0);
	CHECK(net_user_open(&spec, loop, &user, &e) == 0);
	user->rx = on_rx;
	test_dhcp();
	test_udp();
	test_tcp_out();
	test_published_tcp(tcp_port);
	test_published_udp(udp_port);
	test_port_taken();
	test_garbage();
	net_close(user);
	loop_free(loop);
	return 0;
}
