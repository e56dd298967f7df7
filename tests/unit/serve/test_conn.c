/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/serve/test_conn.c - a connection with a command behind it: greeting, frames, bad ones
 */
#include "serve/conn.h"
#include "test.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>

static int start(void *opaque, const json_t *request, struct proc **ret, const char **what,
		 struct err *e)
{
	++*(unsigned int *)opaque;
	return proc_start(request, ret, what, e);
}

static unsigned int started;

static struct conn *connect_to(int *other, bool greeting)
{
	int fds[2];
	struct conn *c;

	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	c = conn_new(fds[0], false, start, &started);
	c->greeting = greeting;
	*other = fds[1];
	return c;
}

/* One round, as whoever serves makes it. */
static void step(struct conn *c)
{
	struct pollfd polls[CONN_POLLS];
	int status;
	pid_t pid;
	size_t n = conn_prepare(c, polls);

	CHECK(poll(polls, n, 50) >= 0);
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		conn_child_ended(c, pid, status);
	conn_step(c, 0);
}

static void say(int fd, const char *text)
{
	CHECK_EQ(write(fd, text, strlen(text)), strlen(text));
}

static void test_greeting(void)
{
	char answer[32] = "";
	int fd;
	struct conn *c = connect_to(&fd, true);

	say(fd, "CONNECT 10");
	step(c);
	CHECK(!c->closing && c->greeting);
	say(fd, "24\n");
	step(c);
	step(c);
	CHECK(!c->closing && !c->greeting);
	CHECK(read(fd, answer, sizeof(answer) - 1) > 0);
	CHECK_STR(answer, "OK 1024\n");
	close(fd);
	conn_free(c);
}

/* Neither who says something else, nor who never ends its line, gets anywhere. */
static void test_bad_greetings(void)
{
	static const char *const bad[] = {
	    "HELLO\n", "\n",
	    "CONNECT 1111111111111111111111111111111111111111111111111111111111111111111111"};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		int fd;
		struct conn *c = connect_to(&fd, true);

		say(fd, bad[i]);
		step(c);
		CHECK(c->closing);
		close(fd);
		conn_free(c);
	}
}

/* A frame longer than any, behind a greeting in the same breath. */
static void test_bad_frame(void)
{
	static const char text[] = "CONNECT 1\n\1\xff\xff\xff\x7f";
	int fd;
	struct conn *c = connect_to(&fd, true);

	CHECK_EQ(write(fd, text, sizeof(text) - 1), sizeof(text) - 1);
	step(c);
	CHECK(c->closing);
	CHECK_EQ(started, 0);
	close(fd);
	conn_free(c);
}

static void test_command(void)
{
	static const char request[] = "{\"argv\":[\"sh\",\"-c\",\"cat; exit 7\"],\"env\":[]}";
	autostrbuf struct strbuf out = {0}, in = {0};
	const uint8_t *payload;
	enum agent_frame type = 0;
	size_t len, used;
	char chunk[4096], said[16] = "";
	int fd;
	struct conn *c = connect_to(&fd, false);

	agent_frame_put(&out, AGENT_EXEC, request, strlen(request));
	agent_frame_put(&out, AGENT_STDIN, "words", 5);
	agent_frame_put(&out, AGENT_STDIN_EOF, NULL, 0);
	CHECK_EQ(write(fd, out.data, out.len), out.len);
	while (type != AGENT_EXIT) {
		ssize_t n;

		step(c);
		n = recv(fd, chunk, sizeof(chunk), MSG_DONTWAIT);
		if (n > 0)
			strbuf_add(&in, chunk, (size_t)n);
		while (agent_frame_get(&in, &type, &payload, &len, &used) == 1) {
			if (type == AGENT_STDOUT && len < sizeof(said))
				memcpy(said, payload, len);
			if (type == AGENT_EXIT)
				CHECK(len == 10 && memcmp(payload, "{\"code\":7}", 10) == 0);
			strbuf_consume(&in, used);
		}
	}
	CHECK_STR(said, "words");
	CHECK_EQ(started, 1);
	close(fd);
	conn_free(c);
}

int main(void)
{
	test_greeting();
	test_bad_greetings();
	test_bad_frame();
	test_command();
	return 0;
}
