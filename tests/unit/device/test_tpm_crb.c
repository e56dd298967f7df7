/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/device/test_tpm_crb.c - the TPM's registers before a stand-in for swtpm: commands and
 * answers in pieces, sizes that cannot be, a restart, an end; then accesses of every kind at random
 */
#include "device/tpm_crb.h"

#include "fake.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/un.h>

#define BASE   TPM_CRB_BASE
#define BUFFER (BASE + 0x80)
#define ROUNDS 200000u

static struct loop *loop;
static struct bus *bus;
static struct device *tpm;
static char path[64];
static int listener;
/* The stand-in's, which its thread alone changes while it runs. */
static int data = -1;
static _Atomic unsigned int inits;
static _Atomic uint32_t claim; /* the size that an answer says it has; 0 = its own */

/* Control commands: SET_DATAFD brings the socket, INIT is counted. */
static void *swtpm(void *unused)
{
	int control = accept(listener, NULL, NULL);
	uint32_t words[2], ok = 0;

	CHECK(control >= 0);
	for (;;) {
		char space[CMSG_SPACE(sizeof(int))];
		struct iovec iov = {words, sizeof(words)};
		struct msghdr msg = {.msg_iov = &iov,
				     .msg_iovlen = 1,
				     .msg_control = space,
				     .msg_controllen = sizeof(space)};
		ssize_t n = recvmsg(control, &msg, 0);

		if (n <= 0)
			break;
		if (__builtin_bswap32(words[0]) == 16)
			memcpy(&data, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(data));
		else
			inits += __builtin_bswap32(words[0]) == 2;
		CHECK_EQ(send(control, &ok, sizeof(ok), MSG_NOSIGNAL), 4);
	}
	close(control);
	return NULL;
}

static uint32_t rd(uint64_t off)
{
	return (uint32_t)bus_read(bus, BUS_MMIO, BASE + off, 4);
}

static void wr(uint64_t off, uint32_t v)
{
	bus_write(bus, BUS_MMIO, BASE + off, 4, v);
}

/* Takes a command and answers in two pieces: a head, then as many bytes of 5Ah. */
static void serve(uint32_t more)
{
	uint8_t command[4096], answer[4096];
	ssize_t n = recv(data, command, sizeof(command), MSG_DONTWAIT);
	uint32_t size = claim ? claim : 10 + more;

	if (n <= 0)
		return;
	memset(answer, 0x5a, sizeof(answer));
	store_le16(answer, 0x0180);
	store_le32(answer + 2, __builtin_bswap32(size));
	CHECK_EQ(send(data, answer, 7, MSG_NOSIGNAL), 7);
	loop_once(loop, 10);
	CHECK_EQ(send(data, answer + 7, 3 + more, MSG_NOSIGNAL), (ssize_t)(3 + more));
}

static void put_command(uint32_t size)
{
	bus_write(bus, BUS_MMIO, BUFFER, 2, 0x0180);
	bus_write(bus, BUS_MMIO, BUFFER + 2, 4, __builtin_bswap32(size));
}

static void settle(void)
{
	for (unsigned int i = 0; i < 5; i++)
		loop_once(loop, 0);
}

static void test_command(void)
{
	CHECK_EQ(rd(0x30) & 0xf, 1); /* CRB */
	CHECK_EQ(rd(0x00), 0x80);
	CHECK_EQ(rd(0x44), 2); /* idle */
	wr(0x08, 1);
	CHECK_EQ(rd(0x00), 0x82);
	CHECK_EQ(bus_read(bus, BUS_MMIO, BASE + 1, 1), 0);
	CHECK_EQ(bus_read(bus, BUS_MMIO, BASE + 0x5c, 4), BUFFER);
	wr(0x40, 1);
	CHECK_EQ(rd(0x44), 0);
	put_command(12);
	wr(0x4c, 1);
	CHECK_EQ(rd(0x4c), 1);
	bus_write(bus, BUS_MMIO, BUFFER, 4, 0); /* swtpm's now */
	loop_once(loop, 100);
	serve(6);
	settle();
	CHECK_EQ(rd(0x4c), 0);
	CHECK_EQ(bus_read(bus, BUS_MMIO, BUFFER, 2), 0x0180);
	CHECK_EQ(bus_read(bus, BUS_MMIO, BUFFER + 8, 8), UINT64_C(0x5a5a5a5a5a5a5a5a));
	/* Larger than the buffer, smaller than a head: nothing is sent. */
	for (unsigned int i = 0; i < 2; i++) {
		put_command(i ? 9 : 4000);
		wr(0x4c, 1);
		settle();
		CHECK_EQ(rd(0x4c), 0);
		CHECK(recv(data, &i, 1, MSG_DONTWAIT | MSG_PEEK) < 0 && errno == EAGAIN);
	}
	CHECK_EQ(rd(0x44), 0);
}

/* A restart in the middle of a command: its answer is nobody's. */
static void test_restart(void)
{
	unsigned int was = inits;

	put_command(12);
	wr(0x4c, 1);
	loop_once(loop, 100);
	serve(20);
	device_reset(tpm);
	CHECK_EQ(inits, was + 1);
	CHECK_EQ(rd(0x4c), 0);
	CHECK_EQ(rd(0x44), 2);
	settle();
	CHECK_EQ(bus_read(bus, BUS_MMIO, BUFFER, 8), 0);
}

static void test_random(void)
{
	uint64_t s = 88172645463325252u;

	for (unsigned int i = 0; i < ROUNDS; i++) {
		uint64_t off, v;
		unsigned int size;

		s ^= s << 13;
		s ^= s >> 7;
		s ^= s << 17;
		off = s >> 8 & (s & 0x80 ? 0xff : 0x3f);
		size = 1u << (s & 3);
		v = s >> 20 & (s & 64 ? 0xffffffff : 3);
		if (s & 4)
			bus_write(bus, BUS_MMIO, BASE + off, size, v);
		else
			(void)bus_read(bus, BUS_MMIO, BASE + (s >> 8 & 0xfff), size);
		if (i % 7 == 0) {
			loop_once(loop, 0);
			serve((uint32_t)(s >> 40 & 63));
		}
	}
	settle();
	CHECK_EQ(rd(0x44) & 1, 0);
}

/* An answer that is larger than can be, and an end: failed, and no more commands. */
static void test_failure(void)
{
	device_reset(tpm);
	claim = 0x7fffffff;
	put_command(12);
	wr(0x4c, 1);
	loop_once(loop, 100);
	serve(0);
	settle();
	CHECK_EQ(rd(0x44) & 1, 1);
	CHECK_EQ(rd(0x4c), 0);
	wr(0x4c, 1);
	CHECK_EQ(rd(0x4c), 0);
	close(data);
	settle();
}

int main(void)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct err e = {0};
	pthread_t thread;

	snprintf(path, sizeof(path), "/tmp/insula-tpm-%d", (int)getpid());
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	CHECK_EQ(loop_new(&loop, NULL), 0);
	CHECK_EQ(bus_new(&bus), 0);
	CHECK(tpm_crb_new(path, loop, &tpm, &e) < 0 && strstr(e.msg, path));
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK(bind(listener, (const struct sockaddr *)&addr, sizeof(addr)) == 0 &&
	      listen(listener, 1) == 0);
	CHECK_EQ(pthread_create(&thread, NULL, swtpm, NULL), 0);
	CHECK_EQ(tpm_crb_new(path, loop, &tpm, &e), 0);
	device_attach(tpm, bus);
	device_reset(tpm);
	CHECK_EQ(inits, 1);
	test_command();
	test_restart();
	test_random();
	test_failure();
	device_free(tpm);
	pthread_join(thread, NULL);
	close(listener);
	unlink(path);
	bus_free(bus);
	loop_free(loop);
	return 0;
}
