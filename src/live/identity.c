/* SPDX-License-Identifier: Apache-2.0 */
/*
 * live/identity.c - what a copy of a machine must not have in common with it
 */
#include "live/identity.h"

#include "base/clock.h"
#include "base/fd.h"
#include "codec/agent_proto.h"

#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>

#define SCRIPT_MS 20000 /* keys take their time on a busy host */

/* $1 = host name, $2 = address or nothing, $3 = machine-id.  Each step where the system has it.  It
 * may be cut off and run again: a file says that keys were there and are still to be made. */
static const char script[] =
    "hostname \"$1\" 2>/dev/null; [ -w /etc/hostname ] && echo \"$1\" >/etc/hostname\n"
    "if [ -e /etc/machine-id ]; then\n"
    "  echo \"$3\" >/etc/machine-id\n"
    "fi\n"
    "if ls /etc/ssh/ssh_host_*_key /etc/ssh/.new-keys 2>/dev/null | grep -q .; then\n"
    "  : >/etc/ssh/.new-keys; rm -f /etc/ssh/ssh_host_*\n"
    "  ssh-keygen -A >/dev/null 2>&1; rm -f /etc/ssh/.new-keys\n"
    "fi\n"
    "for dev in /sys/class/net/e*; do\n"
    "  [ -n \"$2\" ] && [ -e \"$dev\" ] && ip link set dev \"${dev##*/}\" address \"$2\"; break\n"
    "done\n"
    "exit 0\n";

static int connect_agent(const char *vsock)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	struct timeval patience = {.tv_sec = 2};
	autoclose int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char hello[32], line[64];
	size_t n = 0;

	if (fd < 0 || strlen(vsock) >= sizeof(a.sun_path))
		return -ENAMETOOLONG;
	snprintf(a.sun_path, sizeof(a.sun_path), "%s", vsock);
	snprintf(hello, sizeof(hello), "CONNECT %u\n", AGENT_PORT);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		return -errno;
	if (write_full(fd, hello, strlen(hello)) < 0)
		return -EPIPE;
	do {
		if (read(fd, line + n, 1) != 1)
			return -EAGAIN; /* nobody listens in the guest yet */
	} while (line[n++] != '\n' && n < sizeof(line));
	return memcmp(line, "OK", 2) == 0 ? steal_fd(&fd) : -EPROTO;
}

/* Random hexadecimal digits of the host's: until the guest has been reseeded, its own are its
 * source's. */
static void random_digits(char *ret, size_t bytes)
{
	uint8_t raw[32];

	while (getrandom(raw, bytes, 0) != (ssize_t)bytes)
		;
	for (size_t i = 0; i < bytes; i++)
		snprintf(ret + 2 * i, 3, "%02x", raw[i]);
}

static int send_script(int fd, const char *name, const char *mac)
{
	char entropy[65], id[33];
	autostrbuf struct strbuf out = {0};
	autofree char *text = NULL;
	json_t *o;

	random_digits(entropy, 32);
	random_digits(id, 16);
	o = json_pack("{s:[s, s, s, s, s, s, s], s:[], s:b, s:i, s:i, s:s}", "argv", "sh", "-c",
		      script, "sh", name, mac ? mac : "", id, "env", "tty", 0, "rows", 24, "cols",
		      80, "entropy", entropy);
	text = json_dumps(o, JSON_COMPACT);
	json_decref(o);
	agent_frame_put(&out, AGENT_EXEC, text, strlen(text));
	agent_frame_put(&out, AGENT_STDIN_EOF, NULL, 0);
	return write_full(fd, out.data, out.len);
}

/* Until the script's end; what it says is of no interest. */
static int wait_exit(int fd, uint64_t give_up)
{
	autostrbuf struct strbuf in = {0};

	while (clock_now() < give_up) {
		enum agent_frame type;
		const uint8_t *payload;
		char chunk[4096];
		size_t len, used;
		ssize_t n;
		int r = agent_frame_get(&in, &type, &payload, &len, &used);

		if (r < 0)
			return r;
		if (r > 0) {
			if (type == AGENT_EXIT)
				return 0;
			if (type == AGENT_ERROR)
				return -EIO;
			strbuf_consume(&in, used);
			continue;
		}
		n = read(fd, chunk, sizeof(chunk));
		if (n == 0)
			return -ECONNRESET;
		if (n > 0)
			strbuf_add(&in, chunk, (size_t)n);
		else if (errno != EINTR && errno != EAGAIN)
			return -errno;
	}
	return -ETIMEDOUT;
}

int live_new_identity(const char *vsock, const char *name, const char *mac,
		      unsigned int patience_ms, struct err *e)
{
	uint64_t give_up = clock_now() + patience_ms * NSEC_PER_MSEC;
	int r = -ETIMEDOUT;

	while (clock_now() < give_up) {
		autoclose int fd = connect_agent(vsock);

		if (fd < 0) {
			poll(NULL, 0, 20);
			continue;
		}
		give_up = clock_now() + SCRIPT_MS * NSEC_PER_MSEC;
		r = send_script(fd, name, mac);
		if (r == 0)
			r = wait_exit(fd, give_up);
		break;
	}
	return r < 0 ? err_set(e, r, "give '%s' an identity of its own", name) : 0;
}
