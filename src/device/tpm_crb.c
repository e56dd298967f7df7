/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/tpm_crb.c - the TPM's registers and buffer, and swtpm behind them
 *
 *	guest: START = 1  ->  start_work (loop): command to swtpm  ->  on_answer: buffer, START = 0
 *
 * While START is 1 the buffer is swtpm's: the guest's writes are dropped.
 */
#include "device/tpm_crb.h"

#include "base/fd.h"
#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#define BUFFER      0x80u
#define BUFFER_SIZE (TPM_CRB_SIZE - BUFFER)
#define HEADER      10u /* of commands and answers: tag, size, code; the size is big-endian */
#define PATIENCE    10  /* seconds for swtpm to answer its control socket */

enum { /* 6.5.3.1 */
       LOC_STATE = 0x00,
       LOC_CTRL = 0x08,
       LOC_STS = 0x0c,
       INTF_ID = 0x30,
       CTRL_REQ = 0x40,
       CTRL_STS = 0x44,
       CTRL_CANCEL = 0x48,
       CTRL_START = 0x4c,
       CMD_SIZE = 0x58,
       CMD_LADDR = 0x5c,
       RSP_SIZE = 0x64,
       RSP_ADDR = 0x68,
};
#define STATE_ASSIGNED 0x80u /* and valid */
#define STATE_LOCALITY 0x02u
#define CTRL_REQUEST   0x01u
#define CTRL_GIVE_BACK 0x02u
#define REQ_READY      0x01u
#define REQ_IDLE       0x02u
#define STS_FAILED     0x01u
#define STS_IDLE       0x02u
/* CRB, active; version 1; one locality; 64-byte transfers. */
#define INTF_ID_LOW (1u | 1u << 4 | 1u << 14 | 1u << 17 | 3u << 11)
#define INTF_VENDOR 0x1014u

/* swtpm's control commands, numbers and answers big-endian (swtpm_ioctls(3)) */
enum { TPM_INIT = 2, TPM_SET_DATAFD = 16 };

struct tpm_crb {
	struct device dev;
	struct loop *loop;
	int control, data; /* owned */
	struct loop_fd watch;
	struct loop_work start;
	bool watching, locality, idle, failed, busy;
	uint8_t buffer[BUFFER_SIZE];
	uint32_t have; /* of the answer, bytes */
};

static uint32_t load_be32(const uint8_t *p)
{
	return __builtin_bswap32(load_le32(p));
}

/* --- swtpm --- */

/* Sends @n big-endian words, and @fd if it is not -1; its answer is a result of 0. */
static int control(const struct tpm_crb *t, const uint32_t *words, unsigned int n, int fd,
		   struct err *e)
{
	uint32_t bytes[2], result;
	struct iovec iov = {bytes, 4 * (size_t)n};
	char space[CMSG_SPACE(sizeof(fd))] = {0};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t got;

	for (unsigned int i = 0; i < n; i++)
		bytes[i] = __builtin_bswap32(words[i]);
	if (fd >= 0) {
		struct cmsghdr *c;

		msg.msg_control = space;
		msg.msg_controllen = sizeof(space);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(fd));
		memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	}
	if (sendmsg(t->control, &msg, MSG_NOSIGNAL) < 0)
		return err_set(e, -errno, "tpm: swtpm");
	got = recv(t->control, &result, sizeof(result), MSG_WAITALL);
	if (got != sizeof(result))
		return err_msg(e, -EIO, "tpm: swtpm does not answer");
	return result ? err_msg(e, -EIO, "tpm: swtpm answers command %u with %08x", words[0],
				__builtin_bswap32(result))
		      : 0;
}

static void fail(struct tpm_crb *t, const char *why)
{
	if (!t->failed)
		log_warn("tpm: %s", why);
	t->failed = true;
	t->busy = false;
}

static uint32_t answer_size(const struct tpm_crb *t)
{
	return t->have < HEADER ? HEADER : load_be32(t->buffer + 2);
}

/* False: nothing more now. */
static bool take_answer(struct tpm_crb *t)
{
	uint32_t want = answer_size(t);
	ssize_t n;

	if (want < HEADER || want > BUFFER_SIZE) {
		fail(t, "swtpm's answer has an impossible size");
		return false;
	}
	if (t->have >= HEADER && t->have == want) {
		t->busy = false;
		return false;
	}
	n = recv(t->data, t->buffer + t->have, want - t->have, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n <= 0) {
		fail(t, "swtpm has ended");
		return false;
	}
	t->have += (uint32_t)n;
	return true;
}

static void on_answer(void *opaque, uint32_t events)
{
	struct tpm_crb *t = opaque;
	uint8_t sink[64];

	device_lock(&t->dev);
	if (t->busy) {
		while (take_answer(t))
			;
	} else if (recv(t->data, sink, sizeof(sink), MSG_DONTWAIT) == 0) {
		fail(t, "swtpm has ended"); /* and must not be watched for ever */
	}
	if (t->failed && t->watching) {
		loop_remove(t->loop, &t->watch);
		t->watching = false;
	}
	device_unlock(&t->dev);
}

static void start_work(void *opaque)
{
	struct tpm_crb *t = opaque;
	uint8_t command[BUFFER_SIZE];
	uint32_t size;

	device_lock(&t->dev);
	size = load_be32(t->buffer + 2);
	if (t->busy && (size < HEADER || size > BUFFER_SIZE)) {
		guest_warn("tpm: a command of %u bytes", size);
		t->busy = false;
	} else if (t->busy) {
		memcpy(command, t->buffer, size);
		t->have = 0;
		if (send(t->data, command, size, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)size)
			fail(t, "swtpm takes no command");
	}
	device_unlock(&t->dev);
}

/* --- registers --- */

static uint32_t reg_read(const struct tpm_crb *t, unsigned int off)
{
	switch (off) {
	case LOC_STATE:
		return STATE_ASSIGNED | (t->locality ? STATE_LOCALITY : 0);
	case LOC_STS:
		return t->locality ? 1 : 0;
	case INTF_ID:
		return INTF_ID_LOW;
	case INTF_ID + 4:
		return INTF_VENDOR << 16;
	case CTRL_STS:
		return (t->failed ? STS_FAILED : 0) | (t->idle ? STS_IDLE : 0);
	case CTRL_START:
		return t->busy;
	case CMD_SIZE:
	case RSP_SIZE:
		return BUFFER_SIZE;
	case CMD_LADDR:
	case RSP_ADDR:
		return TPM_CRB_BASE + BUFFER;
	}
	return 0;
}

static void reg_write(struct tpm_crb *t, unsigned int off, uint32_t v)
{
	switch (off) {
	case LOC_CTRL:
		if (v & CTRL_REQUEST)
			t->locality = true;
		else if (v & CTRL_GIVE_BACK)
			t->locality = false;
		break;
	case CTRL_REQ:
		if (v & REQ_READY)
			t->idle = false;
		else if ((v & REQ_IDLE) && !t->busy)
			t->idle = true;
		break;
	case CTRL_START:
		if ((v & 1) && !t->busy && !t->failed) {
			t->busy = true;
			loop_post(t->loop, &t->start);
		}
		break;
	}
}

static uint64_t tpm_read(void *opaque, uint64_t off, unsigned int size)
{
	const struct tpm_crb *t = opaque;
	uint64_t v = 0;

	if (off >= BUFFER) {
		memcpy(&v, t->buffer + off - BUFFER, size);
		return v;
	}
	for (unsigned int i = 0; i < size; i += 4)
		v |= (uint64_t)(reg_read(t, (unsigned int)(off + i) & ~3u) >> (off & 3) * 8)
		     << 8 * i;
	return v;
}

static void tpm_write(void *opaque, uint64_t off, unsigned int size, uint64_t value)
{
	struct tpm_crb *t = opaque;

	if (off >= BUFFER && !t->busy)
		memcpy(t->buffer + off - BUFFER, &value, size);
	else if (off < BUFFER && size >= 4)
		reg_write(t, (unsigned int)off, (uint32_t)value);
}

static const struct bus_ops tpm_ops = {.read = tpm_read, .write = tpm_write};

/* --- life --- */

/* A restart of the machine is one of its TPM, too: its PCRs begin anew. */
static void tpm_reset(void *opaque)
{
	static const uint32_t init[2] = {TPM_INIT, 0};
	struct tpm_crb *t = opaque;
	struct err e = {0};
	uint8_t sink[256];

	while (t->data >= 0 && recv(t->data, sink, sizeof(sink), MSG_DONTWAIT) > 0)
		; /* an answer that nobody waits for any more */
	t->locality = t->busy = false;
	t->idle = true;
	t->have = 0;
	memset(t->buffer, 0, sizeof(t->buffer));
	if (!t->failed && control(t, init, 2, -1, &e) < 0)
		fail(t, e.msg);
}

static void tpm_fini(void *opaque)
{
	struct tpm_crb *t = opaque;

	loop_unpost(t->loop, &t->start);
	if (t->watching)
		loop_remove(t->loop, &t->watch);
	close_p(&t->data);
	close_p(&t->control);
}

static int connect_control(struct tpm_crb *t, const char *path, struct err *e)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct timeval patience = {.tv_sec = PATIENCE};

	if (strlen(path) >= sizeof(addr.sun_path))
		return err_msg(e, -EINVAL, "tpm: %s is too long for a socket", path);
	strcpy(addr.sun_path, path);
	t->control = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (t->control < 0 ||
	    connect(t->control, (const struct sockaddr *)&addr, sizeof(addr)) < 0 ||
	    setsockopt(t->control, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) < 0)
		return err_set(e, -errno, "tpm: connect to %s", path);
	return 0;
}

static int open_swtpm(struct tpm_crb *t, const char *path, struct err *e)
{
	static const uint32_t set_data[] = {TPM_SET_DATAFD};
	autoclose int theirs = -1;
	int pair[2];
	int r = connect_control(t, path, e);

	if (r < 0)
		return r;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return err_set(e, -errno, "tpm: sockets");
	t->data = pair[0];
	theirs = pair[1];
	r = control(t, set_data, 1, theirs, e);
	if (r < 0)
		return r;
	r = loop_add(t->loop, &t->watch, t->data, EPOLLIN, on_answer, t);
	t->watching = r == 0;
	return r < 0 ? err_set(e, r, "tpm") : 0;
}

int tpm_crb_new(const char *socket, struct loop *loop, struct device **ret, struct err *e)
{
	struct tpm_crb *t = device_alloc(sizeof(*t), "tpm", NULL, tpm_reset, tpm_fini);
	int r;

	if (!t)
		return err_set(e, -ENOMEM, "tpm");
	t->loop = loop;
	t->control = t->data = -1;
	t->idle = true;
	loop_work_init(&t->start, start_work, t);
	device_region(&t->dev, "tpm", BUS_MMIO, TPM_CRB_BASE, TPM_CRB_SIZE, &tpm_ops);
	r = open_swtpm(t, socket, e);
	if (r < 0) {
		device_free(&t->dev);
		return r;
	}
	*ret = &t->dev;
	return 0;
}
