/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daemon/agent.c - requests to the agent in a guest, through its machine's vsock (docs/agent.md)
 */
#include "daemon/daemon_priv.h"

#include "base/clock.h"
#include "codec/agent_proto.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>

#define ANSWER_MS  3000
#define ANSWER_MAX 64 /* bytes of "OK 1073741824" */

int agent_connect(struct daemon *d, const char *uuid, struct err *e)
{
	autofree char *path = path_run(d, uuid, "vsock");
	autoclose int fd = vmm_connect(path, e);
	char hello[32];
	int n = snprintf(hello, sizeof(hello), "CONNECT %u\n", AGENT_PORT);

	if (fd < 0)
		return fd;
	if (send(fd, hello, (size_t)n, MSG_NOSIGNAL) != n)
		return err_set(e, -errno, "connect to the guest");
	return steal_fd(&fd);
}

/* More bytes into @in before @give_up. */
static bool receive(int fd, struct strbuf *in, uint64_t give_up)
{
	uint64_t now = clock_now();
	struct pollfd p = {.fd = fd, .events = POLLIN};
	char chunk[4096];
	ssize_t n;

	if (now >= give_up || poll(&p, 1, (int)((give_up - now) / NSEC_PER_MSEC) + 1) != 1)
		return false;
	n = recv(fd, chunk, sizeof(chunk), 0);
	if (n > 0)
		strbuf_add(in, chunk, (size_t)n);
	return n > 0;
}

static bool take_ok(int fd, struct strbuf *in, uint64_t give_up)
{
	char *end;

	while (!in->len || !(end = memchr(in->data, '\n', in->len))) {
		if (in->len > ANSWER_MAX || !receive(fd, in, give_up))
			return false;
	}
	if (strncmp(in->data, "OK", 2) != 0)
		return false;
	strbuf_consume(in, (size_t)(end - in->data) + 1);
	return true;
}

/* Sends one request and waits for a frame of type @answer. */
static bool ask(struct daemon *d, const char *uuid, enum agent_frame type, const char *payload,
		enum agent_frame answer, unsigned int ms)
{
	uint64_t give_up = clock_now() + ms * NSEC_PER_MSEC;
	autoclose int fd = agent_connect(d, uuid, NULL);
	autostrbuf struct strbuf in = {0}, out = {0};
	enum agent_frame got;
	const uint8_t *p;
	size_t len, used;
	int r;

	if (fd < 0 || !take_ok(fd, &in, give_up))
		return false;
	agent_frame_put(&out, type, payload, payload ? strlen(payload) : 0);
	if (send(fd, out.data, out.len, MSG_NOSIGNAL) != (ssize_t)out.len)
		return false;
	for (;;) {
		while ((r = agent_frame_get(&in, &got, &p, &len, &used)) == 1) {
			strbuf_consume(&in, used);
			if (got == answer)
				return true;
		}
		if (r < 0 || !receive(fd, &in, give_up))
			return false;
	}
}

bool agent_ping(struct daemon *d, const char *uuid, unsigned int ms)
{
	return ask(d, uuid, AGENT_PING, NULL, AGENT_PONG, ms);
}

int agent_shutdown(struct daemon *d, const char *uuid, const char *mode, struct err *e)
{
	autofree char *payload = xasprintf("{\"mode\":\"%s\"}", mode);

	if (ask(d, uuid, AGENT_SHUTDOWN, payload, AGENT_GOODBYE, ANSWER_MS))
		return 0;
	return err_msg(e, -EAGAIN, "the guest's agent does not answer");
}
