/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/fuzz/fuzz_agent.c - frames of the agent protocol: cut anywhere, and from a hostile guest
 *
 * The input is a list of frames: type, kind of payload, length, payload.  They are written as the
 * guest would, sent in pieces, and must come out as they went in; then `insula run` reads them as
 * those of its guest.  Whatever they say, its exit status stays one, and its buffers are bounded.
 */
#include "fuzz.h"

#include "cli/session.h"
#include "cli/ui.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>

/* --- in place of cli/ui.c: formatted, not shown --- */

int ui_error(int exit_status, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return exit_status;
}

void ui_event(const char *format, ...)
{
	json_t *o;
	va_list ap;

	va_start(ap, format);
	o = json_vpack_ex(NULL, 0, format, ap);
	va_end(ap);
	json_decref(o);
}

/* --- frames -------------------------------------------------------------------------------------
 */

static const char *const texts[] = {
    "{\"pid\":1}",
    "{\"pid\":-9223372036854775808}",
    "{\"code\":7}",
    "{\"code\":9223372036854775807}",
    "{\"code\":-1}",
    "{\"code\":\"7\"}",
    "{\"signal\":9}",
    "{\"signal\":2147483647}",
    "{\"signal\":[]}",
    "{\"what\":\"exec\",\"errno\":2,\"message\":\"no\"}",
    "{\"what\":\"workdir\",\"errno\":-2147483648}",
    "{\"mode\":\"reboot\"}",
    "{\"mode\":0}",
    "[]",
    "{",
    "",
};

static void put_frame(struct fuzz_input *in, struct strbuf *out)
{
	static const uint8_t types[] = {AGENT_STARTED, AGENT_STDOUT, AGENT_STDERR,  AGENT_EXIT,
					AGENT_ERROR,   AGENT_PONG,   AGENT_GOODBYE, AGENT_EXEC};
	static uint8_t big[AGENT_MAX_PAYLOAD];
	uint8_t type = fuzz_u8(in), kind = fuzz_u8(in);
	size_t len = fuzz_u8(in);
	const void *payload = big;

	type = type & 128 ? type : types[type % ARRAY_SIZE(types)];
	if (kind < 128) {
		payload = texts[kind % ARRAY_SIZE(texts)];
		len = strlen(payload);
	} else if (kind < 240) {
		len = MIN(len, in->len);
		payload = in->data;
		in->data += len;
		in->len -= len;
	} else {
		len = AGENT_MAX_PAYLOAD - (len & 3);
	}
	agent_frame_put(out, type, payload, len);
}

/* In pieces of any size the same frames come out. */
static void check_pieces(const struct strbuf *sent, const uint8_t *cuts, size_t n_cuts)
{
	autostrbuf struct strbuf in = {0}, again = {0};
	size_t at = 0;

	for (size_t k = 0; at < sent->len; k++) {
		size_t n = n_cuts ? (size_t)cuts[k % n_cuts] * cuts[k % n_cuts] / 3 + 1 : 100;
		enum agent_frame type;
		const uint8_t *payload;
		size_t len, used;

		n = MIN(n, sent->len - at);
		strbuf_add(&in, sent->data + at, n);
		at += n;
		while (agent_frame_get(&in, &type, &payload, &len, &used) == 1) {
			agent_frame_put(&again, type, payload, len);
			strbuf_consume(&in, used);
		}
	}
	assert(in.len == 0 && again.len == sent->len);
	assert(!sent->len || memcmp(again.data, sent->data, sent->len) == 0);
}

/* --- the session --------------------------------------------------------------------------------
 */

static void read_all(struct session *s)
{
	char byte;

	while (s->agent >= 0 && recv(s->agent, &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0)
		session_agent_read(s);
}

static void feed_session(const struct strbuf *frames, const uint8_t *data, size_t size)
{
	struct run_config run = {0};
	struct session_config cfg = {
	    .run = &run, .agent = true, .clean_end = size & 1, .restart = size & 2};
	struct vm vm = {0};
	struct session s = {.cfg = &cfg, .vm = &vm, .state = SESSION_CONNECTING};
	int fd[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fd) < 0)
		abort();
	s.agent = fd[0];
	assert(send(fd[1], "OK 1\n", 5, 0) == 5);
	read_all(&s);
	for (size_t at = 0; at < frames->len && s.agent >= 0;) {
		ssize_t n = send(fd[1], frames->data + at, frames->len - at, MSG_NOSIGNAL);

		if (n > 0)
			at += (size_t)n;
		read_all(&s);
		assert(s.in.len <= AGENT_MAX_PAYLOAD + AGENT_HEADER_BYTES);
	}
	/* And the input as it is. */
	if (s.agent >= 0 && send(fd[1], data, size, MSG_NOSIGNAL) > 0)
		read_all(&s);
	shutdown(fd[1], SHUT_WR);
	read_all(&s);
	assert(s.agent < 0);
	assert(!s.status_known || (s.status >= 0 && s.status <= 255));
	close(fd[1]);
	strbuf_fini(&s.in);
	strbuf_fini(&s.out);
	strbuf_fini(&s.stdout_text);
	strbuf_fini(&s.stderr_text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, size};
	autostrbuf struct strbuf frames = {0};

	for (unsigned int n = 0; in.len && n < 64; n++)
		put_frame(&in, &frames);
	check_pieces(&frames, data, size);
	feed_session(&frames, data, size);
	return 0;
}
