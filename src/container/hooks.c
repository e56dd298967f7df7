/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container/hooks.c - programs that the configuration wants run at points of a container's life
 */
#include "container/hooks.h"

#include "base/fd.h"
#include "container/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static void run_child(const struct spec_hook *h, int in, const char *cwd)
{
	static const char *no_env[] = {NULL};
	const char *argv[] = {h->path, NULL};

	proc_reset_signals();
	if (dup2(in, STDIN_FILENO) < 0 || (cwd && chdir(cwd) < 0))
		_exit(127);
	proc_cloexec_from(3);
	execve(h->path, (char **)(h->args.n ? h->args.v : argv),
	       (char **)(h->env.n ? h->env.v : no_env));
	dprintf(STDERR_FILENO, "hook %s: %s\n", h->path, strerror(errno));
	_exit(127);
}

/* Until it ends or its time is over; whole seconds, as the configuration counts. */
static int wait_child(const struct spec_hook *h, pid_t pid, struct err *e)
{
	autoclose int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct pollfd p = {.fd = pidfd, .events = POLLIN};
	int status, n;

	if (h->timeout && pidfd >= 0) {
		do
			n = poll(&p, 1, (int)MIN(h->timeout, (int64_t)2000000) * 1000);
		while (n < 0 && errno == EINTR);
		if (n == 0) {
			kill(pid, SIGKILL);
			proc_wait(pid, &status);
			return err_msg(e, -ETIMEDOUT, "hook %s: not done after %lld s", h->path,
				       (long long)h->timeout);
		}
	}
	n = proc_wait(pid, &status);
	if (n < 0)
		return err_set(e, n, "hook %s", h->path);
	if (WIFSIGNALED(status))
		return err_msg(e, -ECANCELED, "hook %s: killed by signal %d", h->path,
			       WTERMSIG(status));
	if (WEXITSTATUS(status))
		return err_msg(e, -ECANCELED, "hook %s: exit status %d", h->path,
			       WEXITSTATUS(status));
	return 0;
}

static int run_one(const struct spec_hook *h, const char *state, const char *cwd, struct err *e)
{
	int in[2], r;
	pid_t pid;

	if (pipe2(in, O_CLOEXEC) < 0)
		return err_set(e, -errno, "hook %s: pipe", h->path);
	pid = fork();
	if (pid == 0)
		run_child(h, in[0], cwd);
	close(in[0]);
	if (pid > 0)
		/* One that reads nothing is no mistake (SIGPIPE is ignored). */
		r = write_full(in[1], state, strlen(state));
	else
		r = err_set(e, -errno, "hook %s: fork", h->path);
	close(in[1]);
	return pid > 0 ? wait_child(h, pid, e) : r;
}

int hooks_run(const struct spec *s, enum spec_hook_kind kind, const char *state, const char *cwd,
	      struct err *e)
{
	const struct spec_hooks *h = &s->hooks[kind];

	for (size_t i = 0; i < h->n; i++) {
		int r = run_one(&h->v[i], state, cwd, e);

		if (r < 0)
			return err_wrap(e, r, "%s", spec_hook_names[kind]);
	}
	return 0;
}
