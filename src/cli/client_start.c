/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/client_start.c - the connection to insulad, which is started when nobody listens
 *
 * Two starters at once are no race: insulad's lock lets one of the two live, and both commands
 * connect to that one.
 */
#include "cli/client_start.h"

#include "base/clock.h"
#include "base/dirs.h"
#include "base/fd.h"
#include "cli/client_remote.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#define IDLE_EXIT      "300" /* seconds */
#define START_PATIENCE (60 * NSEC_PER_SEC)
#define READY_FD       3
#define CONNECT_TRIES  10

static int try_connect(const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	autoclose int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	if (strlen(path) >= sizeof(addr.sun_path))
		return -ENAMETOOLONG;
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return -errno;
	return steal_fd(&fd);
}

static void child_exec(const char *program, const char *log, int ready) __attribute__((noreturn));
static void child_exec(const char *program, const char *log, int ready)
{
	int null = open("/dev/null", O_RDWR), errors;
	sigset_t none;

	/* A session of its own, and no child of the command: it outlives both. */
	setsid();
	if (fork() != 0)
		_exit(0);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	errors = open(log, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	ready = fcntl(ready, F_DUPFD, 16);
	dup2(null, 0);
	dup2(null, 1);
	dup2(errors < 0 ? null : errors, 2);
	dup2(ready, READY_FD);
	closefrom(READY_FD + 1);
	if (chdir("/") == 0)
		execl(program, "insulad", "--idle-exit", IDLE_EXIT, "--ready-fd", "3",
		      (char *)NULL);
	_exit(127);
}

/* 1 when it said ready, 0 when it ended without; another one may have been first. */
static int start(const char *program, const char *log, struct err *e)
{
	struct pollfd p;
	int ends[2], status, r = 0;
	char word[8];
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_set(e, -errno, "pipe");
	pid = fork();
	if (pid == 0)
		child_exec(program, log, ends[1]);
	close(ends[1]);
	if (pid > 0)
		waitpid(pid, &status, 0);
	p = (struct pollfd){.fd = ends[0], .events = POLLIN};
	if (pid > 0 && poll(&p, 1, (int)(START_PATIENCE / NSEC_PER_MSEC)) == 1)
		r = read(ends[0], word, sizeof(word)) > 0;
	close(ends[0]);
	return pid < 0 ? err_set(e, -errno, "start insulad") : r;
}

/* What it complained of, or NULL; the caller's. */
static char *read_complaint(const char *log)
{
	autostrbuf struct strbuf text = {0};
	const char *error = NULL;

	if (read_file(log, 65536, &text) == 0 && text.len)
		error = strstr(text.data, "error: ");
	if (!error)
		return NULL;
	error += strlen("error: ");
	return strndup(error, strcspn(error, "\n"));
}

/* One that ended without a word found the lock taken: by one that lives and will listen, or by one
 * that is just dying, which makes room for the next try. */
static int start_and_connect(const char *path, struct err *e)
{
	autofree char *run = NULL, *program = NULL, *log = NULL;
	uint64_t give_up = clock_now() + START_PATIENCE;
	int r = dirs_make_run(&run, e);

	if (r == 0)
		r = dirs_program("insulad", &program, e);
	if (r < 0)
		return r;
	log = xasprintf("%s/insulad.log", run);
	do {
		autofree char *complaint = NULL;

		r = start(program, log, e);
		if (r < 0)
			return r;
		complaint = r == 0 ? read_complaint(log) : NULL;
		if (complaint)
			return err_msg(e, -EIO, "insulad did not start: %s", complaint);
		for (int i = 0; i < CONNECT_TRIES; i++) {
			int fd = try_connect(path);

			if (fd >= 0)
				return fd;
			poll(NULL, 0, 20);
		}
	} while (clock_now() < give_up);
	return err_msg(e, -EIO, "insulad did not start; %s may say why", log);
}

static int connect_near(struct err *e)
{
	const char *other = getenv("INSULA_SOCKET");
	autofree char *run = dirs_run(), *own = xasprintf("%s/insulad.sock", run);
	const char *path = other && other[0] ? other : own;
	int fd = try_connect(path);

	if (fd >= 0)
		return fd;
	if (path == own && (fd == -ENOENT || fd == -ECONNREFUSED))
		return start_and_connect(path, e);
	return err_set(e, fd, "connect to insulad at %s", path);
}

int client_connect(struct err *e)
{
	return client_is_remote() ? client_remote_connect(e) : connect_near(e);
}
