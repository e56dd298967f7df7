/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/cli/test_session_agent.c - frames of the guest's agent: the command's status, and what
 * a hostile guest says instead
 */
#include "base/exit.h"
#include "cli/session.h"
#include "cli/ui.h"
#include "test.h"

#include <sys/socket.h>
#include <unistd.h>

static unsigned int errors;

int ui_error(int exit_status, const char *fmt, ...)
{
	errors++;
	return exit_status;
}

void ui_event(const char *format, ...)
{
}

struct fixture {
	struct run_config run;
	struct session_config cfg;
	struct vm vm;
	struct session s;
	int guest;
};

static void start(struct fixture *f)
{
	int fd[2];

	*f = (struct fixture){.cfg = {.run = &f->run, .agent = true}};
	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
	f->s = (struct session){
	    .cfg = &f->cfg, .vm = &f->vm, .agent = fd[0], .state = SESSION_CONNECTING};
	f->guest = fd[1];
	CHECK_EQ(write(f->guest, "OK 1\n", 5), 5);
	session_agent_read(&f->s);
	CHECK(f->s.accepted);
	errors = 0;
}

static void say(struct fixture *f, enum agent_frame type, const char *text)
{
	struct strbuf b = {0};

	agent_frame_put(&b, type, text, strlen(text));
	CHECK_EQ(write(f->guest, b.data, b.len), b.len);
	session_agent_read(&f->s);
	strbuf_fini(&b);
}

static void stop(struct fixture *f)
{
	session_agent_lost(&f->s);
	close(f->guest);
	strbuf_fini(&f->s.in);
	strbuf_fini(&f->s.out);
	strbuf_fini(&f->s.stdout_text);
	strbuf_fini(&f->s.stderr_text);
}

static void check_status(const char *payload, int status, unsigned int n_errors)
{
	struct fixture f;

	start(&f);
	say(&f, AGENT_STARTED, "{\"pid\":5}");
	CHECK_EQ(f.s.state, SESSION_RUNNING);
	say(&f, AGENT_EXIT, payload);
	CHECK_EQ(f.s.state, SESSION_ENDING);
	CHECK(f.s.status_known);
	CHECK_EQ(f.s.status, status);
	CHECK_EQ(errors, n_errors);
	stop(&f);
}

static void test_status(void)
{
	check_status("{\"code\":0}", 0, 0);
	check_status("{\"code\":255}", 255, 0);
	check_status("{\"signal\":15}", 143, 0);
}

/* 256 would look like success, INT_MAX does not even add up. */
static void test_status_out_of_range(void)
{
	check_status("{\"code\":256}", EXIT_FAIL, 1);
	check_status("{\"code\":-1}", EXIT_FAIL, 1);
	check_status("{\"code\":\"0\"}", EXIT_FAIL, 1);
	check_status("{\"signal\":2147483647}", EXIT_FAIL, 1);
	check_status("{\"signal\":-9223372036854775808}", EXIT_FAIL, 1);
	check_status("nonsense", EXIT_FAIL, 1);
}

static void test_talks_on_after_exit(void)
{
	struct fixture f;

	start(&f);
	say(&f, AGENT_STARTED, "{\"pid\":5}");
	say(&f, AGENT_STDOUT, "before");
	say(&f, AGENT_EXIT, "{\"code\":3}");
	say(&f, AGENT_STDOUT, "after");
	say(&f, AGENT_STARTED, "{\"pid\":6}");
	say(&f, AGENT_EXIT, "{\"code\":4}");
	CHECK_EQ(f.s.state, SESSION_ENDING);
	CHECK_EQ(f.s.status, 3);
	CHECK_EQ(f.s.stdout_text.len, 6);
	say(&f, AGENT_GOODBYE, "{\"mode\":\"poweroff\"}");
	CHECK(f.s.goodbye);
	stop(&f);
}

int main(void)
{
	test_status();
	test_status_out_of_range();
	test_talks_on_after_exit();
	return 0;
}
