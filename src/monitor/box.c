/* SPDX-License-Identifier: Apache-2.0 */
/*
 * monitor/box.c - the container itself: started by insula-oci, whose orphan it becomes, so that it
 * is our child; ended and started again
 */
#include "monitor/monitor_priv.h"

#include "base/clock.h"
#include "base/exit.h"
#include "base/fd.h"
#include "container/container.h"
#include "container/proc.h"
#include "container/sync.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define TERMINAL_MS 10000

static const struct container_runtime *runtime(const struct box *b)
{
	static struct container_runtime rt;

	rt.root = b->state;
	return &rt;
}

/* --- starting --- */

/* The image may name another signal for its polite end. */
static int stop_signal(const struct box *b)
{
	int n = proc_parse_signal(b->d.image.stop_signal);

	return n > 0 ? n : SIGTERM;
}

static void exec_runtime(const struct box *b, const char *pid_file, const char *tty, int out)
    __attribute__((noreturn));
static void exec_runtime(const struct box *b, const char *pid_file, const char *tty, int out)
{
	const char *const argv[] = {"insula-oci", "--root",   b->state,
				    "--log",      b->log,     "run",
				    "--detach",   "--bundle", b->d.dir,
				    "--pid-file", pid_file,   tty ? "--console-socket" : BOX_ID,
				    tty,          BOX_ID,     NULL};
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	proc_reset_signals();
	if (geteuid() != 0)
		setgroups(0, NULL);
	dup2(null, STDIN_FILENO);
	dup2(out < 0 ? null : out, STDOUT_FILENO);
	dup2(out < 0 ? null : out, STDERR_FILENO);
	execv(b->d.options.runtime, (char *const *)argv);
	_exit(EXIT_NOT_FOUND);
}

/* The words of the runtime's log: time="..." level=error msg="WORDS". */
static int runtime_failed(const struct box *b, struct err *e)
{
	autostrbuf struct strbuf text = {0};
	char *msg, *end;

	if (read_file(b->log, 65536, &text) < 0 || !text.len)
		return err_msg(e, -EIO, "insula-oci failed without a word");
	msg = strstr(text.data, "msg=\"");
	msg = msg ? msg + 5 : text.data;
	end = strrchr(msg, '"');
	if (strstr(msg, "not found") || strstr(msg, "No such file"))
		err_exit(e, 0, EXIT_NOT_FOUND);
	else if (strstr(msg, "Permission denied"))
		err_exit(e, 0, EXIT_NOT_EXECUTABLE);
	return err_msg(e, -EIO, "%.*s", end ? (int)(end - msg) : (int)strcspn(msg, "\n"), msg);
}

static int read_pid(const char *path, pid_t *ret, struct err *e)
{
	autostrbuf struct strbuf text = {0};
	int r = read_file(path, 32, &text);

	*ret = r == 0 && text.len ? atoi(text.data) : 0;
	return *ret > 0 ? 0 : err_msg(e, -EIO, "insula-oci told no process");
}

/* The runtime connects and sends the terminal's master. */
static int take_terminal(int listener, int *ret, struct err *e)
{
	struct pollfd p = {.fd = listener, .events = POLLIN};
	autoclose int fd =
	    poll(&p, 1, TERMINAL_MS) == 1 ? accept4(listener, NULL, NULL, SOCK_CLOEXEC) : -1;
	int r = fd < 0 ? -ETIMEDOUT : sync_receive_fd(fd, ret);

	return r < 0 ? err_set(e, r, "the container's terminal") : 0;
}

/* The caller's ends of what the runtime gets: @listener for a terminal, else a pipe. */
struct streams {
	int listener, pipe[2];
};

static int open_streams(const struct box *b, const char *tty, struct streams *s, struct err *e)
{
	if (b->d.options.tty) {
		s->listener = listen_unix(tty, e);
		return MIN(s->listener, 0);
	}
	return pipe2(s->pipe, O_CLOEXEC) < 0 ? err_set(e, -errno, "pipe") : 0;
}

static void close_streams(struct streams *s)
{
	close_p(&s->listener);
	close_p(&s->pipe[0]);
	close_p(&s->pipe[1]);
}

static int run_runtime(struct box *b, const char *pid_file, const char *tty, struct streams *s,
		       struct err *e)
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0)
		exec_runtime(b, pid_file, b->d.options.tty ? tty : NULL, s->pipe[1]);
	if (pid < 0)
		return err_set(e, -errno, "fork");
	/* The terminal comes while the runtime works, and fits into the socket until we look. */
	(void)!proc_wait(pid, &status);
	return status == 0 ? 0 : runtime_failed(b, e);
}

int box_start(struct box *b, struct err *e)
{
	autofree char *pid_file = xasprintf("%s/pid", b->d.dir);
	autofree char *tty = xasprintf("%s/tty", b->d.dir);
	struct streams s = {-1, {-1, -1}};
	int output = -1, r;

	unlink(b->log);
	r = open_streams(b, tty, &s, e);
	if (r == 0)
		r = run_runtime(b, pid_file, tty, &s, e);
	if (r == 0)
		r = read_pid(pid_file, &b->pid, e);
	if (r == 0 && b->d.options.tty)
		r = take_terminal(s.listener, &output, e);
	else if (r == 0)
		output = steal_fd(&s.pipe[0]);
	close_streams(&s);
	unlink(tty);
	if (r < 0)
		return r;
	fd_set_nonblock(output, true);
	b->console.output = output;
	b->console.tty = b->d.options.tty;
	b->console.slave =
	    b->console.tty ? ioctl(output, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC) : -1;
	b->ended = b->paused = false;
	b->wish = WISH_NONE;
	b->started = clock_now();
	return 0;
}

void box_clear(struct box *b)
{
	struct err e = {0};

	console_drain(&b->console);
	if (container_delete(runtime(b), BOX_ID, true, &e) < 0)
		log_warn("%s", e.msg);
}

/* --- what may be done to it --- */

int box_pause(struct box *b, bool on, struct err *e)
{
	int r = b->paused == on ? 0 : container_pause(runtime(b), BOX_ID, on, e);

	if (r == 0)
		b->paused = on;
	return r;
}

int box_signal(struct box *b, int signal, struct err *e)
{
	int r = b->ended || kill(b->pid, signal) == 0 ? 0 : err_set(e, -errno, "signal");

	return r == 0 && b->paused ? box_pause(b, false, e) : r;
}

/* --- life --- */

static int prepare(struct box *b, int go, struct err *e)
{
	autofree char *upper = xasprintf("%s/upper", b->d.dir);
	autofree char *work = xasprintf("%s/work", b->d.dir);
	int r = runner_enter(go, e);

	if (r == 0 && (symlink(b->d.upper, upper) < 0 || symlink(b->d.work, work) < 0))
		r = err_set(e, -errno, "links in %s", b->d.dir);
	if (r == 0)
		r = layers_mount(&b->d.layers, b->d.dir, e);
	if (r == 0)
		r = bundle_write(b->d.dir, b->d.cgroup, &b->d.image, &b->d.options, e);
	if (r == 0)
		r = keeplog_open(&b->console.log, b->d.console_log, e);
	return r;
}

/* How the container's first process ended.  What shuts a container's system down tells its
 * first process by these signals (reboot(2), "Behavior inside PID namespaces"). */
static void conclude(const struct box *b, struct report *ret)
{
	int signal = WIFSIGNALED(b->status) ? WTERMSIG(b->status) : 0;

	ret->status = proc_exit_status(b->status);
	snprintf(ret->reason, sizeof(ret->reason), "exit");
	if (signal == SIGINT) {
		ret->status = EXIT_OK;
		snprintf(ret->reason, sizeof(ret->reason), "poweroff");
	} else if (b->wish == WISH_STOP) {
		ret->status = EXIT_OK;
		snprintf(ret->reason, sizeof(ret->reason), "stop");
	}
}

static bool again(const struct box *b)
{
	bool reboot = WIFSIGNALED(b->status) && WTERMSIG(b->status) == SIGHUP;

	return b->wish == WISH_RESTART || (b->wish == WISH_NONE && reboot);
}

void box_run(struct box *b, int go, int ready, struct report *ret)
{
	bool first = true;

	b->state = xasprintf("%s/state", b->d.dir);
	b->log = xasprintf("%s/log", b->d.dir);
	b->stop_signal = stop_signal(b);
	ret->r = prepare(b, go, &ret->e);
	while (ret->r == 0 && (first || again(b))) {
		ret->r = box_start(b, &ret->e);
		if (ret->r < 0)
			break;
		if (first)
			(void)!write(ready, "ready\n", 6);
		else
			control_event(b->control, json_pack("{s:s}", "event", "reset"));
		first = false;
		serve(b);
		box_clear(b);
	}
	if (ret->r == 0)
		conclude(b, ret);
	serve_close(b);
}
