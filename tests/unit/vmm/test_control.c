/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/vmm/test_control.c - the control socket: replies, errors, events, clients that
 * misbehave
 */
#include "serve/control.h"

#include "base/fd.h"
#include "serve/listen.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

struct fixture {
	struct loop *loop;
	struct control *control;
	char dir[32], path[64];
	uint64_t deferred[4];
	unsigned int n_deferred;
};

static int run(void *opaque, const char *command, json_t *args, struct control_fds *fds,
	       json_t **ret, struct err *e)
{
	if (strcmp(command, "echo") == 0) {
		*ret = json_incref(args);
		return 0;
	}
	if (strcmp(command, "nothing") == 0)
		return 0;
	if (strcmp(command, "read") == 0) { /* of what came along */
		char text[16] = "";

		autoclose int fd = control_take_fd(fds, 0, NULL);

		if (fd >= 0)
			CHECK(read(fd, text, sizeof(text) - 1) >= 0);
		*ret = json_pack("{ss}", "text", text);
		return 0;
	}
	if (strcmp(command, "later") == 0) {
		struct fixture *f = opaque;

		f->deferred[f->n_deferred++] = control_defer(f->control);
		return CONTROL_LATER;
	}
	return err_msg(e, -ENOSYS, "unknown command '%s'", command);
}

static const struct control_ops ops = {.run = run};

static void setup(struct fixture *f)
{
	struct err e = {0};

	f->n_deferred = 0;
	strcpy(f->dir, "/tmp/insula-ctl-XXXXXX");
	CHECK(mkdtemp(f->dir));
	snprintf(f->path, sizeof(f->path), "%s/sock", f->dir);
	CHECK_EQ(loop_new(&f->loop, &e), 0);
	CHECK_EQ(control_new(f->loop, f->path, -1, &ops, f, &f->control, &e), 0);
}

static void teardown(struct fixture *f)
{
	control_free(f->control);
	CHECK(access(f->path, F_OK) < 0);
	CHECK_EQ(rmdir(f->dir), 0);
	loop_free(f->loop);
}

static int dial(const char *path)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	strcpy(sa.sun_path, path);
	CHECK_EQ(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	return fd;
}

static void say(int fd, const char *text)
{
	CHECK_EQ(write_full(fd, text, strlen(text)), 0);
}

/* The next line, or "" at the end of the stream. */
static const char *hear(struct fixture *f, int fd)
{
	static char line[4096];
	size_t n = 0;

	for (int i = 0; i < 1000; i++) {
		ssize_t r = read(fd, line + n, 1);

		if (r == 0)
			break;
		if (r < 0) {
			CHECK(errno == EAGAIN || errno == ECONNRESET);
			if (errno == ECONNRESET)
				break;
			loop_once(f->loop, 5);
			continue;
		}
		if (line[n] == '\n') {
			line[n] = '\0';
			return line;
		}
		CHECK(++n < sizeof(line));
	}
	return "";
}

static void test_requests(void)
{
	struct fixture f;
	int fd;

	setup(&f);
	fd = dial(f.path);
	say(fd, "{\"id\":1,\"command\":\"echo\",\"arguments\":{\"a\":[1]}}\n");
	CHECK_STR(hear(&f, fd), "{\"id\":1,\"return\":{\"a\":[1]}}");
	say(fd, "{\"id\":\"x\",\"command\":\"nothing\"}\n\n{\"command\":\"nothing\"}\n");
	CHECK_STR(hear(&f, fd), "{\"id\":\"x\",\"return\":{}}");
	CHECK_STR(hear(&f, fd), "{\"return\":{}}");
	say(fd, "{\"id\":2,\"command\":\"no\"}\n");
	CHECK_STR(hear(&f, fd), "{\"id\":2,\"error\":{\"code\":\"unknown-command\","
				"\"message\":\"unknown command 'no'\"}}");
	say(fd, "{\"id\":3}\n");
	CHECK_STR(hear(&f, fd), "{\"id\":3,\"error\":{\"code\":\"invalid-argument\","
				"\"message\":\"command: must be a string\"}}");
	say(fd, "{\"id\":3,\"command\":\"echo\",\"arguments\":7}\n");
	CHECK(strstr(hear(&f, fd), "arguments: must be an object"));
	say(fd, "{\"id\":3,\"command\":\"echo\",\"more\":7}\n");
	CHECK(strstr(hear(&f, fd), "more: unknown key"));
	say(fd, "nonsense\n[1]\n");
	CHECK(strstr(hear(&f, fd), "\"not-json\""));
	CHECK(strstr(hear(&f, fd), "\"not an object\""));
	say(fd, "{\"id\":4,\"comm");
	loop_once(f.loop, 10);
	say(fd, "and\":\"nothing\"}\n");
	CHECK_STR(hear(&f, fd), "{\"id\":4,\"return\":{}}");
	close(fd);
	loop_once(f.loop, 10);
	teardown(&f);
}

static void say_with(int fd, const char *text, int pass)
{
	char control[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8))) = {0};
	struct iovec iov = {(void *)(uintptr_t)text, strlen(text)};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = control,
			     .msg_controllen = sizeof(control)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &pass, sizeof(int));
	CHECK_EQ(sendmsg(fd, &msg, MSG_NOSIGNAL), (ssize_t)strlen(text));
}

/* Answers that come later, in any order, to those who still listen. */
static void test_deferred(void)
{
	struct err e = {.msg = "too late"};
	struct fixture f;
	int a, b;

	setup(&f);
	a = dial(f.path);
	b = dial(f.path);
	say(a, "{\"id\":1,\"command\":\"later\"}\n{\"id\":2,\"command\":\"later\"}\n");
	say(b, "{\"command\":\"later\"}\n");
	for (unsigned int i = 0; i < 50 && f.n_deferred < 3; i++)
		loop_once(f.loop, 10);
	CHECK_EQ(f.n_deferred, 3);
	control_answer(f.control, f.deferred[1], -EBUSY, NULL, &e);
	CHECK_STR(hear(&f, a),
		  "{\"id\":2,\"error\":{\"code\":\"wrong-state\",\"message\":\"too late\"}}");
	control_answer(f.control, f.deferred[0], 0, json_pack("{sb}", "done", 1), NULL);
	CHECK_STR(hear(&f, a), "{\"id\":1,\"return\":{\"done\":true}}");
	close(b);
	loop_once(f.loop, 10);
	control_answer(f.control, f.deferred[2], 0, NULL, NULL); /* nobody is there */
	control_answer(f.control, 99, 0, NULL, NULL);
	say(a, "{\"command\":\"later\"}\n"); /* never answered */
	loop_once(f.loop, 10);
	close(a);
	teardown(&f);
}

/* A descriptor is its request's, and nobody's afterwards. */
static void test_descriptor(void)
{
	struct fixture f;
	int fd, pipes[2];

	setup(&f);
	fd = dial(f.path);
	CHECK(pipe2(pipes, O_CLOEXEC) == 0 && write(pipes[1], "hello", 5) == 5);
	say_with(fd, "{\"command\":\"read\"}\n", pipes[0]);
	CHECK_STR(hear(&f, fd), "{\"return\":{\"text\":\"hello\"}}");
	say(fd, "{\"command\":\"read\"}\n");
	CHECK_STR(hear(&f, fd), "{\"return\":{\"text\":\"\"}}");
	/* Closed there: with our end gone, writing finds no reader. */
	close(pipes[0]);
	CHECK(write(pipes[1], "x", 1) < 0 && errno == EPIPE);
	say_with(fd, "{\"comm", pipes[1]); /* and when its sender goes in between */
	loop_once(f.loop, 10);
	close(fd);
	loop_once(f.loop, 10);
	close(pipes[1]);
	teardown(&f);
}

static void test_events(void)
{
	struct fixture f;
	int a, b;

	setup(&f);
	a = dial(f.path);
	b = dial(f.path);
	say(a, "{\"command\":\"nothing\"}\n");
	say(b, "{\"command\":\"nothing\"}\n");
	CHECK_STR(hear(&f, a), "{\"return\":{}}");
	CHECK_STR(hear(&f, b), "{\"return\":{}}");
	control_event(f.control, json_pack("{ss}", "event", "paused"));
	CHECK_STR(hear(&f, a), "{\"event\":\"paused\"}");
	CHECK_STR(hear(&f, b), "{\"event\":\"paused\"}");
	close(a);
	close(b);
	teardown(&f);
}

/* An endless line, and one who never reads. */
static void test_hostile(void)
{
	static char junk[1 << 20];
	struct fixture f;
	int fd;

	setup(&f);
	fd = dial(f.path);
	memset(junk, 'x', sizeof(junk));
	for (int i = 0; i < 64; i++) {
		(void)!send(fd, junk, sizeof(junk), MSG_NOSIGNAL);
		for (int k = 0; k < 20; k++)
			loop_once(f.loop, 0);
	}
	CHECK_EQ(send(fd, "x", 1, MSG_NOSIGNAL), -1);
	close(fd);
	fd = dial(f.path);
	loop_once(f.loop, 10);
	for (int i = 0; i < 100000; i++)
		control_event(f.control, json_pack("{ss}", "event", "a rather long event name"));
	loop_once(f.loop, 10);
	close(fd);
	fd = dial(f.path);
	say(fd, "{\"command\":\"nothing\"}\n");
	CHECK_STR(hear(&f, fd), "{\"return\":{}}");
	close(fd);
	teardown(&f);
}

static void test_socket(void)
{
	struct fixture f;
	struct err e = {0};
	struct stat st;
	int fd;

	setup(&f);
	CHECK_EQ(stat(f.path, &st), 0);
	CHECK_EQ(st.st_mode & 0777, 0600);
	CHECK_EQ(listen_unix(f.path, &e), -EADDRINUSE);
	teardown(&f);
	/* A stale one is replaced, a file is not. */
	CHECK(mkdtemp(strcpy(f.dir, "/tmp/insula-ctl-XXXXXX")));
	snprintf(f.path, sizeof(f.path), "%s/sock", f.dir);
	fd = listen_unix(f.path, &e);
	CHECK(fd >= 0);
	close(fd);
	fd = listen_unix(f.path, &e);
	CHECK(fd >= 0);
	close(fd);
	unlink(f.path);
	fd = open(f.path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	close(fd);
	CHECK_EQ(listen_unix(f.path, &e), -EADDRINUSE);
	unlink(f.path);
	rmdir(f.dir);
}

int main(void)
{
	test_requests();
	signal(SIGPIPE, SIG_IGN);
	test_deferred();
	test_descriptor();
	test_events();
	test_hostile();
	test_socket();
	return 0;
}
