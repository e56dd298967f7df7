/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/session_agent.c - the connection to insula-agent through the machine's vsock
 *
 * A host program connects to insula-vmm's socket, says "CONNECT port", gets "OK ..." and then
 * speaks with the guest.  Until the guest listens, the connection is refused: try again.
 */
#include "base/clock.h"
#include "base/exit.h"
#include "base/fd.h"
#include "cli/session.h"
#include "cli/ui.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

#define RETRY_INTERVAL     (50 * NSEC_PER_MSEC)
#define ANSWER_PATIENCE_MS 2000
#define ANSWER_MAX         64 /* bytes of "OK 1073741824" */

static int connect_guest(const struct vm *vm, struct err *e)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	autoclose int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char hello[32];

	if (vm->dial)
		return vm->dial(vm, e);
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", vm->vsock);
	snprintf(hello, sizeof(hello), "CONNECT %u\n", AGENT_PORT);
	if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
	    write_full(fd, hello, strlen(hello)) < 0)
		return -EAGAIN;
	return steal_fd(&fd);
}

void session_agent_start(struct session *s)
{
	uint64_t now = clock_now();
	struct err e = {0};

	if (s->agent >= 0 || now < s->retry_at)
		return;
	s->retry_at = now + RETRY_INTERVAL;
	strbuf_consume(&s->in, s->in.len);
	strbuf_consume(&s->out, s->out.len);
	s->accepted = false;
	s->agent = connect_guest(s->vm, &e);
	if (s->agent >= 0) {
		fd_set_nonblock(s->agent, true);
	} else if (s->agent != -EAGAIN) {
		s->status = ui_error(e.exit_code ? e.exit_code : EXIT_FAIL, "%s", e.msg);
		s->status_known = true;
		s->state = SESSION_OVER;
	}
}

static void send_exec(struct session *s)
{
	const struct run_config *run = s->cfg->run;
	json_t *argv = json_array(), *env = json_array(), *o;
	struct winsize ws = {.ws_row = 24, .ws_col = 80};
	const char *term = getenv("TERM");
	autofree char *text = NULL;

	for (char **a = s->cfg->argv; a && *a; a++)
		json_array_append_new(argv, json_stringn_nocheck(*a, strlen(*a)));
	for (size_t i = 0; i < run->n_env; i++)
		json_array_append_new(env, json_stringn_nocheck(run->env[i], strlen(run->env[i])));
	if (s->cfg->tty) {
		autofree char *t = xasprintf("TERM=%s", term && s->raw ? term : "dumb");

		json_array_append_new(env, json_string(t));
		ioctl(STDIN_FILENO, TIOCGWINSZ, &ws);
	}
	o = json_pack("{s:o, s:o, s:b, s:i, s:i}", "argv", argv, "env", env, "tty", s->cfg->tty,
		      "rows", (int)ws.ws_row, "cols", (int)ws.ws_col);
	if (run->workdir)
		json_object_set_new(o, "workdir", json_string(run->workdir));
	if (run->user)
		json_object_set_new(o, "user", json_string(run->user));
	text = json_dumps(o, JSON_COMPACT);
	json_decref(o);
	if (text && strlen(text) <= AGENT_MAX_PAYLOAD) {
		agent_frame_put(&s->out, AGENT_EXEC, text, strlen(text));
		return;
	}
	s->status = ui_error(EXIT_USAGE, "the command line is longer than %u bytes, or not UTF-8",
			     AGENT_MAX_PAYLOAD);
	s->status_known = true;
	s->state = SESSION_OVER;
}

/* The guest's word: a number that is no status must not become one by being cut off. */
static int status_of(const json_t *o)
{
	json_int_t signal = json_integer_value(json_object_get(o, "signal"));
	const json_t *code = json_object_get(o, "code");

	if (signal > 0 && signal < EXIT_SIGNAL_BASE)
		return EXIT_SIGNAL_BASE + (int)signal;
	if (json_is_integer(code) && json_integer_value(code) >= 0 &&
	    json_integer_value(code) <= 255)
		return (int)json_integer_value(code);
	return ui_error(EXIT_FAIL, "the guest tells no exit status of the command");
}

static void command_ended(struct session *s, const json_t *o)
{
	s->status = status_of(o);
	s->status_known = true;
	s->state = SESSION_ENDING;
	if (s->cfg->clean_end)
		session_shutdown_guest(s);
}

static void command_failed(struct session *s, const json_t *o)
{
	const char *what = json_string_value(json_object_get(o, "what"));
	const char *text = json_string_value(json_object_get(o, "message"));
	bool exec = what && strcmp(what, "exec") == 0;
	int status = exec && json_integer_value(json_object_get(o, "errno")) == ENOENT
			 ? EXIT_NOT_FOUND
			 : EXIT_NOT_EXECUTABLE;

	s->status = ui_error(status, "in the guest: %s%s",
			     what && strcmp(what, "workdir") == 0 ? "--workdir " : "",
			     text ? text : "the command did not start");
	s->status_known = true;
	s->state = SESSION_ENDING;
	if (s->cfg->clean_end)
		session_shutdown_guest(s);
}

static void said_goodbye(struct session *s, const json_t *o)
{
	const char *mode = json_string_value(json_object_get(o, "mode"));

	s->goodbye = true;
	s->reboot = mode && strcmp(mode, "reboot") == 0;
}

static void handle_frame(struct session *s, enum agent_frame type, const uint8_t *p, size_t len)
{
	json_t *o = NULL;

	/* After the command's end nothing of it follows; a guest that talks on is not heard. */
	if (s->state == SESSION_ENDING && type != AGENT_GOODBYE)
		return;
	if (type == AGENT_STDOUT) {
		strbuf_add(&s->stdout_text, p, len);
		return;
	}
	if (type == AGENT_STDERR) {
		strbuf_add(&s->stderr_text, p, len);
		return;
	}
	o = json_loadb((const char *)p, len, 0, NULL);
	switch (type) {
	case AGENT_STARTED:
		s->guest_pid = (unsigned int)json_integer_value(json_object_get(o, "pid"));
		s->state = SESSION_RUNNING;
		ui_event("{s:s, s:i}", "event", "started", "pid", (int)s->guest_pid);
		break;
	case AGENT_EXIT:
		command_ended(s, o);
		break;
	case AGENT_ERROR:
		command_failed(s, o);
		break;
	case AGENT_GOODBYE:
		said_goodbye(s, o);
		break;
	default:
		break; /* a newer agent's */
	}
	json_decref(o);
}

void session_agent_lost(struct session *s)
{
	close_p(&s->agent);
	s->agent = -1;
	if (s->state == SESSION_CONNECTING)
		return; /* not up yet: again */
	if (s->state == SESSION_RUNNING && s->goodbye && s->reboot && s->cfg->restart) {
		/* The guest starts again; so does the shell. */
		s->goodbye = false;
		s->state = SESSION_CONNECTING;
		s->retry_at = clock_now() + 10 * RETRY_INTERVAL;
		return;
	}
	if (s->state == SESSION_RUNNING && s->vm->remote) {
		s->status =
		    s->goodbye ? EXIT_OK
			       : ui_error(EXIT_CRASHED, "the machine ended before the command did");
		s->status_known = true;
		s->state = SESSION_OVER;
	}
	/* In RUNNING it is the end of the machine, or of the agent: session.c waits for which. */
}

/* "OK 1073741824\n" */
static bool take_answer(struct session *s)
{
	char *end = s->in.len ? memchr(s->in.data, '\n', s->in.len) : NULL;

	if (!end) {
		if (s->in.len > ANSWER_MAX)
			session_agent_lost(s);
		return false;
	}
	s->accepted = strncmp(s->in.data, "OK", 2) == 0;
	strbuf_consume(&s->in, (size_t)(end - s->in.data) + 1);
	if (!s->accepted) {
		session_agent_lost(s);
		return false;
	}
	send_exec(s);
	return true;
}

void session_agent_read(struct session *s)
{
	static char chunk[AGENT_MAX_PAYLOAD + AGENT_HEADER_BYTES];
	ssize_t n = read(s->agent, chunk, sizeof(chunk));
	enum agent_frame type;
	const uint8_t *payload;
	size_t len, used;
	int r = 0;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		session_agent_lost(s);
		return;
	}
	strbuf_add(&s->in, chunk, (size_t)n);
	if (!s->accepted && !take_answer(s))
		return;
	while (s->agent >= 0 && (r = agent_frame_get(&s->in, &type, &payload, &len, &used)) == 1) {
		handle_frame(s, type, payload, len);
		strbuf_consume(&s->in, used);
	}
	if (r < 0)
		session_agent_lost(s); /* the guest is hostile, or broken */
}

void session_agent_write(struct session *s)
{
	ssize_t n;

	if (s->agent < 0 || !s->accepted || !s->out.len)
		return;
	n = send(s->agent, s->out.data, s->out.len, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n > 0)
		strbuf_consume(&s->out, (size_t)n);
	else if (errno != EAGAIN && errno != EINTR)
		session_agent_lost(s);
}

/* One frame on a connection of its own; waits a little, since standard input may be stuck. */
static void send_request(struct session *s, enum agent_frame type, const void *p, size_t len)
{
	autoclose int fd = connect_guest(s->vm, NULL);
	struct pollfd pfd = {.fd = fd, .events = POLLIN};
	autostrbuf struct strbuf frame = {0};
	char answer[64];

	if (fd < 0 || poll(&pfd, 1, ANSWER_PATIENCE_MS) != 1)
		return;
	if (read(fd, answer, sizeof(answer)) < 2 || memcmp(answer, "OK", 2) != 0)
		return;
	agent_frame_put(&frame, type, p, len);
	/* And an answer, so that closing does not overtake it. */
	agent_frame_put(&frame, AGENT_PING, NULL, 0);
	if (send(fd, frame.data, frame.len, MSG_NOSIGNAL) > 0)
		poll(&pfd, 1, ANSWER_PATIENCE_MS);
}

void session_signal(struct session *s, int signal)
{
	uint8_t payload[5] = {(uint8_t)signal};

	store_le32(payload + 1, s->guest_pid);
	send_request(s, AGENT_SIGNAL, payload, sizeof(payload));
}

void session_shutdown_guest(struct session *s)
{
	static const char mode[] = "{\"mode\":\"poweroff\"}";

	agent_frame_put(&s->out, AGENT_SHUTDOWN, mode, strlen(mode));
	session_agent_write(s);
}
