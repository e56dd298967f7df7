/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve/conn.c - one connection from the host, and the command it carries
 *
 * Flow control: a full buffer towards the host stops reading the command's output, a full buffer
 * towards the command stops reading from the host.  So both buffers stay small, whatever runs.
 */
#include "serve/conn.h"

#include "base/clock.h"
#include "base/fd.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>

#define BUFFER_LIMIT (256u << 10)
#define GREETING_MAX 64

struct conn *conn_new(int fd, bool serial, conn_start_fn *start, void *opaque)
{
	struct conn *c = xnew(struct conn);

	list_init(&c->node);
	c->fd = fd;
	c->serial = serial;
	c->start = start;
	c->opaque = opaque;
	fd_set_nonblock(fd, true);
	return c;
}

void conn_free(struct conn *c)
{
	list_remove(&c->node);
	proc_free(c->proc);
	close_p(&c->fd);
	strbuf_fini(&c->in);
	strbuf_fini(&c->out);
	free(c);
}

/* Takes @payload over. */
void conn_send_json(struct conn *c, enum agent_frame type, json_t *payload)
{
	autofree char *text = json_dumps(payload, JSON_COMPACT);

	json_decref(payload);
	if (text)
		agent_frame_put(&c->out, type, text, MIN(strlen(text), (size_t)AGENT_MAX_PAYLOAD));
}

static void send_error(struct conn *c, const char *what, const struct err *e)
{
	conn_send_json(
	    c, AGENT_ERROR,
	    json_pack("{s:s, s:i, s:s}", "what", what, "errno", -e->code, "message", e->msg));
}

static void handle_exec(struct conn *c, const uint8_t *payload, size_t len)
{
	json_t *request = json_loadb((const char *)payload, len, 0, NULL);
	const char *what = "request";
	struct err e = {0};

	if (!request || c->proc) {
		err_msg(&e, -EINVAL, c->proc ? "a command runs already" : "not a JSON request");
		send_error(c, what, &e);
	} else if (c->start(c->opaque, request, &c->proc, &what, &e) < 0) {
		send_error(c, what, &e);
	} else {
		conn_send_json(c, AGENT_STARTED, json_pack("{s:i}", "pid", (int)c->proc->pid));
	}
	json_decref(request);
}

/* A whole session at once: the command may have started process groups of its own, but what reads
 * the terminal is in the foreground one.  Without a terminal, the command's group. */
static void handle_signal(struct conn *c, const uint8_t *payload, size_t len)
{
	pid_t pid = c->proc ? c->proc->pid : 0;

	if (len == 5)
		pid = (pid_t)load_le32(payload + 1);
	if ((len != 1 && len != 5) || payload[0] >= NSIG || pid <= 1)
		return;
	kill(-pid, payload[0]);
}

static void handle_shutdown(struct conn *c, const uint8_t *payload, size_t len)
{
	json_t *request = json_loadb((const char *)payload, len, 0, NULL);
	const char *mode = json_string_value(json_object_get(request, "mode"));

	c->power = mode && strcmp(mode, "reboot") == 0 ? POWER_REBOOT : POWER_OFF;
	c->power_wanted = true;
	json_decref(request);
}

static void send_pong(struct conn *c)
{
	struct timespec up, wall;
	char host[65] = "";

	clock_gettime(CLOCK_BOOTTIME, &up);
	clock_gettime(CLOCK_REALTIME, &wall);
	gethostname(host, sizeof(host) - 1);
	conn_send_json(c, AGENT_PONG,
		       json_pack("{s:s, s:s, s:f, s:I}", "version", INSULA_VERSION, "hostname",
				 host, "uptime", (double)up.tv_sec + (double)up.tv_nsec / 1e9,
				 "time", (json_int_t)wall.tv_sec));
}

static void handle_frame(struct conn *c, enum agent_frame type, const uint8_t *p, size_t len)
{
	switch (type) {
	case AGENT_EXEC:
		handle_exec(c, p, len);
		break;
	case AGENT_STDIN:
		if (c->proc && c->proc->in >= 0 && !c->proc->eof_wanted)
			strbuf_add(&c->proc->to_child, p, len);
		break;
	case AGENT_STDIN_EOF:
		if (c->proc)
			c->proc->eof_wanted = true;
		break;
	case AGENT_WINSIZE:
		if (c->proc && len == 4)
			proc_winsize(c->proc, load_le16(p), load_le16(p + 2));
		break;
	case AGENT_SIGNAL:
		handle_signal(c, p, len);
		break;
	case AGENT_SHUTDOWN:
		handle_shutdown(c, p, len);
		break;
	case AGENT_PING:
		send_pong(c);
		break;
	default:
		c->closing = true; /* not a host that we understand */
		break;
	}
}

static bool input_full(const struct conn *c)
{
	return c->proc && c->proc->to_child.len >= BUFFER_LIMIT;
}

/* A person of the host's reaches an agent through insula-vmm's socket, which speaks so. */
static bool take_greeting(struct conn *c)
{
	static const char hello[] = "CONNECT ";
	char *end = c->in.len ? memchr(c->in.data, '\n', c->in.len) : NULL;

	if (!end) {
		c->closing = c->closing || c->in.len > GREETING_MAX;
		return false;
	}
	if (strncmp(c->in.data, hello, sizeof(hello) - 1) != 0) {
		c->closing = true;
		return false;
	}
	strbuf_printf(&c->out, "OK %u\n", AGENT_PORT);
	strbuf_consume(&c->in, (size_t)(end - c->in.data) + 1);
	c->greeting = false;
	return true;
}

/* Handles whole frames for as long as their content has room. */
static void take_frames(struct conn *c)
{
	enum agent_frame type;
	const uint8_t *payload;
	size_t len, used;
	int r = 0;

	if (c->greeting && !take_greeting(c))
		return;
	while (!c->closing && !input_full(c) &&
	       (r = agent_frame_get(&c->in, &type, &payload, &len, &used)) == 1) {
		handle_frame(c, type, payload, len);
		strbuf_consume(&c->in, used);
	}
	if (r < 0)
		c->closing = true;
}

/* The host went away.  A port stays, ready for the next host. */
static void hung_up(struct conn *c)
{
	if (!c->serial) {
		c->closing = true;
		return;
	}
	proc_free(c->proc);
	c->proc = NULL;
	strbuf_consume(&c->in, c->in.len);
	strbuf_consume(&c->out, c->out.len);
}

static void read_host(struct conn *c)
{
	static char chunk[AGENT_MAX_PAYLOAD + AGENT_HEADER_BYTES];
	ssize_t n = read(c->fd, chunk, sizeof(chunk));

	if (n > 0)
		strbuf_add(&c->in, chunk, (size_t)n);
	else if (n == 0 || (errno != EAGAIN && errno != EINTR))
		hung_up(c);
}

static void write_host(struct conn *c)
{
	while (c->out.len) {
		ssize_t n = write(c->fd, c->out.data, c->out.len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			if (errno != EAGAIN)
				hung_up(c);
			return;
		}
		strbuf_consume(&c->out, (size_t)n);
	}
}

/* Passes on one piece of output.  Returns false at its end, which closes it. */
static bool pump_output(struct conn *c, int fd, enum agent_frame type)
{
	static uint8_t chunk[AGENT_MAX_PAYLOAD];
	ssize_t n = read(fd, chunk, sizeof(chunk));

	if (n > 0)
		agent_frame_put(&c->out, type, chunk, (size_t)n);
	/* A terminal whose last user is gone says EIO. */
	return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

static void close_output(struct proc *p, int *fd)
{
	if (fd == &p->out && p->out == p->in)
		p->in = -1;
	close(*fd);
	*fd = -1;
}

static void send_exit(struct conn *c)
{
	int s = c->proc->status;

	conn_send_json(c, AGENT_EXIT,
		       WIFSIGNALED(s) ? json_pack("{s:i}", "signal", WTERMSIG(s))
				      : json_pack("{s:i}", "code", WEXITSTATUS(s)));
	proc_free(c->proc);
	c->proc = NULL;
}

/* Everything that is readable now.  After the command's end that is all its output: what it left
 * running in the background may hold the pipes for ever. */
static void pump_outputs(struct conn *c)
{
	struct proc *p = c->proc;
	int *const fds[] = {&p->out, &p->err};
	static const enum agent_frame types[] = {AGENT_STDOUT, AGENT_STDERR};
	bool more = true;

	while (more && c->out.len < BUFFER_LIMIT) {
		more = false;
		for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
			size_t before = c->out.len;

			if (*fds[i] >= 0 && !pump_output(c, *fds[i], types[i]))
				close_output(p, fds[i]);
			more = more || c->out.len > before;
		}
	}
	if (p->exited && !more)
		send_exit(c);
}

static void wait_for(struct conn *c, struct pollfd *polls, size_t *n, size_t slot, int fd,
		     short events)
{
	polls[*n] = (struct pollfd){.fd = fd, .events = events};
	c->polls[slot] = &polls[(*n)++];
}

size_t conn_prepare(struct conn *c, struct pollfd *polls)
{
	struct proc *p = c->proc;
	short events = 0;
	size_t n = 0;

	memset(c->polls, 0, sizeof(c->polls));
	if (!input_full(c))
		events |= POLLIN;
	if (c->out.len)
		events |= POLLOUT;
	wait_for(c, polls, &n, 0, c->fd, events);
	if (!p)
		return n;
	if (p->out >= 0 && c->out.len < BUFFER_LIMIT)
		wait_for(c, polls, &n, 1, p->out, POLLIN);
	if (p->err >= 0 && c->out.len < BUFFER_LIMIT)
		wait_for(c, polls, &n, 2, p->err, POLLIN);
	if (p->in >= 0 && p->to_child.len)
		wait_for(c, polls, &n, 3, p->in, POLLOUT);
	return n;
}

void conn_step(struct conn *c, uint64_t now)
{
	const struct pollfd *host = c->polls[0];

	if (host && (host->revents & (POLLIN | POLLHUP | POLLERR)) && !input_full(c))
		read_host(c);
	take_frames(c);
	if (c->proc)
		proc_feed(c->proc, now);
	take_frames(c); /* feeding may have made room */
	if (c->proc && c->out.len < BUFFER_LIMIT)
		pump_outputs(c);
	write_host(c);
}

void conn_child_ended(struct conn *c, pid_t pid, int status)
{
	if (!c->proc || c->proc->pid != pid)
		return;
	c->proc->exited = true;
	c->proc->status = status;
}
