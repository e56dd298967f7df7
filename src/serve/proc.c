/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve/proc.c - one command of the host's: start, terminal or pipes, input, end
 */
#include "serve/proc.h"

#include "base/clock.h"
#include "base/fd.h"
#include "codec/passwd.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/random.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <termios.h>

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/run/insula/bin"
#define MAX_ARGS     4096
#define ENTROPY_MAX  128
#define EOF_INTERVAL (500 * NSEC_PER_MSEC)
#define PIPE_BYTES   (256 << 10)

/* What the child needs, gathered before fork. */
struct plan {
	char **argv, **env;
	const char *workdir;
	bool has_user; /* another than root */
	struct passwd_user user;
	bool tty;
	struct winsize size;
	int in, out, err, report; /* the child's ends; tty: in is the slave */
};

static const char *const default_env[] = {"PATH=" DEFAULT_PATH, "HOME=/root", "USER=root",
					  "LOGNAME=root", "LANG=C.UTF-8"};

/* Root's shell as the image has it. */
static char *login_shell(void)
{
	autostrbuf struct strbuf passwd = {0};
	char *save = NULL;

	if (read_file("/etc/passwd", 1 << 20, &passwd) == 0 && passwd.len) {
		for (char *l = strtok_r(passwd.data, "\n", &save); l;
		     l = strtok_r(NULL, "\n", &save)) {
			char *shell = strrchr(l, ':');

			if (strncmp(l, "root:", 5) == 0 && shell && access(shell + 1, X_OK) == 0 &&
			    shell[1] == '/')
				return xstrdup(shell + 1);
		}
	}
	return xstrdup(access("/bin/bash", X_OK) == 0 ? "/bin/bash" : "/bin/sh");
}

static void free_strings(char **v)
{
	for (size_t i = 0; v && v[i]; i++)
		free(v[i]);
	free(v);
}

/* @list as a vector with room for @extra more; NULL if it is not an array of strings. */
static char **string_vector(const json_t *list, size_t extra)
{
	size_t n = json_array_size(list);
	char **v;

	if (n > MAX_ARGS)
		return NULL;
	v = xcalloc(n + extra + 1, sizeof(*v));
	for (size_t i = 0; i < n; i++) {
		const char *s = json_string_value(json_array_get(list, i));

		if (!s) {
			free_strings(v);
			return NULL;
		}
		v[i] = xstrdup(s);
	}
	return v;
}

static bool env_has(char **env, const char *assignment)
{
	size_t n = (size_t)(strchr(assignment, '=') - assignment) + 1;

	for (; *env; env++) {
		if (strncmp(*env, assignment, n) == 0)
			return true;
	}
	return false;
}

static int find_user(struct plan *p, const char *user, struct err *e)
{
	autostrbuf struct strbuf passwd = {0}, group = {0};

	(void)!read_file("/etc/passwd", 1 << 20, &passwd);
	(void)!read_file("/etc/group", 1 << 20, &group);
	p->has_user = true;
	return passwd_resolve(user, passwd.data ? passwd.data : "", group.data ? group.data : "",
			      &p->user, e);
}

static int plan_read(const json_t *request, struct plan *p, struct err *e)
{
	json_int_t rows = json_integer_value(json_object_get(request, "rows"));
	json_int_t cols = json_integer_value(json_object_get(request, "cols"));
	const char *user;
	size_t n;

	p->argv = string_vector(json_object_get(request, "argv"), 1);
	p->env = string_vector(json_object_get(request, "env"), ARRAY_SIZE(default_env));
	if (!p->argv || !p->env)
		return err_msg(e, -EINVAL, "the host's request is not usable");
	if (!p->argv[0])
		p->argv[0] = login_shell();
	for (n = 0; p->env[n]; n++)
		;
	user = json_string_value(json_object_get(request, "user"));
	if (user) {
		int r = find_user(p, user, e);

		if (r < 0)
			return r;
		if (!env_has(p->env, "HOME="))
			p->env[n++] = xasprintf("HOME=%s", p->user.home);
	}
	for (size_t i = 0; i < ARRAY_SIZE(default_env); i++) {
		if (!env_has(p->env, default_env[i]))
			p->env[n++] = xstrdup(default_env[i]);
	}
	p->workdir = json_string_value(json_object_get(request, "workdir"));
	p->tty = json_is_true(json_object_get(request, "tty"));
	p->size.ws_row = (unsigned short)(rows > 0 && rows < 10000 ? rows : 24);
	p->size.ws_col = (unsigned short)(cols > 0 && cols < 10000 ? cols : 80);
	return 0;
}

/* Runs in the child; the report pipe closes by itself when exec works. */
static void child_run(const struct plan *p) __attribute__((noreturn));
static void child_run(const struct plan *p)
{
	struct {
		int error, step;
	} report = {0};
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	for (int s = 1; s < NSIG; s++)
		signal(s, SIG_DFL);
	setsid();
	if (p->tty)
		ioctl(p->in, TIOCSCTTY, 0);
	dup2(p->in, 0);
	dup2(p->tty ? p->in : p->out, 1);
	dup2(p->tty ? p->in : p->err, 2);
	environ = p->env;
	if (p->has_user && (setgroups(p->user.n_groups, p->user.groups) < 0 ||
			    setgid(p->user.gid) < 0 || setuid(p->user.uid) < 0)) {
		report.error = errno;
		(void)!write(p->report, &report, sizeof(report));
		_exit(127);
	}
	/* Without a directory asked for, a missing home is no reason to fail. */
	if (chdir(p->workdir ? p->workdir : "/root") < 0 && p->workdir) {
		report.step = 1;
	} else {
		if (p->argv[0][0])
			execvp(p->argv[0], p->argv);
		else
			errno = ENOENT;
	}
	report.error = errno;
	(void)!write(p->report, &report, sizeof(report));
	_exit(127);
}

static int make_pipe(int *read_end, int *write_end)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	fcntl(fds[1], F_SETPIPE_SZ, PIPE_BYTES);
	*read_end = fds[0];
	*write_end = fds[1];
	return 0;
}

/* Our ends go to @p, the child's to @plan. */
static int make_channels(struct plan *plan, struct proc *p)
{
	int r;

	if (plan->tty) {
		int master;

		if (openpty(&master, &plan->in, NULL, NULL, &plan->size) < 0)
			return -errno;
		fcntl(master, F_SETFD, FD_CLOEXEC);
		fcntl(plan->in, F_SETFD, FD_CLOEXEC);
		p->in = p->out = master;
		return fd_set_nonblock(master, true);
	}
	r = make_pipe(&plan->in, &p->in);
	if (r == 0)
		r = make_pipe(&p->out, &plan->out);
	if (r == 0)
		r = make_pipe(&p->err, &plan->err);
	if (r == 0)
		r = fd_set_nonblock(p->in, true);
	if (r == 0)
		r = fd_set_nonblock(p->out, true);
	if (r == 0)
		r = fd_set_nonblock(p->err, true);
	return r;
}

static int spawn(struct plan *plan, struct proc *p, const char **what, struct err *e)
{
	struct {
		int error, step;
	} report;
	autoclose int answer = -1;
	int r = make_channels(plan, p);

	if (r == 0)
		r = make_pipe(&answer, &plan->report);
	if (r < 0)
		return err_set(e, r, "prepare the command");
	p->pid = fork();
	if (p->pid == 0)
		child_run(plan);
	if (p->pid < 0)
		return err_set(e, -errno, "fork");
	close_p(&plan->report);
	plan->report = -1;
	if (read_full(answer, &report, sizeof(report)) < 0)
		return 0; /* the pipe closed: it runs */
	p->pid = 0;       /* reaped with the orphans */
	*what = report.step == 1 ? "workdir" : "exec";
	return err_set(e, -report.error, "%s", report.step == 1 ? plan->workdir : plan->argv[0]);
}

/* A copy of a machine has its source's random generator: what the host says sets it apart before
 * anything is drawn from it.  Writing to /dev/urandom alone would count only minutes later. */
static void reseed(const char *entropy)
{
	struct {
		int bits, bytes;
		char data[ENTROPY_MAX];
	} pool = {.bytes = (int)MIN(strlen(entropy), (size_t)ENTROPY_MAX)};
	autoclose int fd = open("/dev/urandom", O_WRONLY | O_CLOEXEC);

	memcpy(pool.data, entropy, (size_t)pool.bytes);
	pool.bits = 4 * pool.bytes; /* hexadecimal digits */
	if (fd < 0 || ioctl(fd, RNDADDENTROPY, &pool) < 0 || ioctl(fd, RNDRESEEDCRNG) < 0)
		fprintf(stderr, "insula-agent: no new random numbers: %s\n", strerror(errno));
}

int proc_start(const json_t *request, struct proc **ret, const char **what, struct err *e)
{
	struct plan plan = {.in = -1, .out = -1, .err = -1, .report = -1};
	struct proc *p = xnew(struct proc);
	int r;

	*what = "request";
	p->in = p->out = p->err = -1;
	r = plan_read(request, &plan, e);
	if (r == 0) {
		const char *entropy = json_string_value(json_object_get(request, "entropy"));

		if (entropy)
			reseed(entropy);
		p->tty = plan.tty;
		r = spawn(&plan, p, what, e);
	}
	close_p(&plan.in);
	close_p(&plan.out);
	close_p(&plan.err);
	close_p(&plan.report);
	free_strings(plan.argv);
	free_strings(plan.env);
	if (r < 0)
		proc_free(p);
	else
		*ret = p;
	return r;
}

void proc_free(struct proc *p)
{
	if (!p)
		return;
	if (p->pid > 0 && !p->exited) {
		kill(-p->pid, SIGHUP);
		kill(-p->pid, SIGCONT);
	}
	if (p->out != p->in)
		close_p(&p->out);
	close_p(&p->in);
	close_p(&p->err);
	strbuf_fini(&p->to_child);
	free(p);
}

/* A terminal's end of file is a character, which only counts while the reader is in line mode; a
 * shell that is just starting may miss it, so it is typed again until the command ends. */
static void type_eof(struct proc *p, uint64_t now)
{
	struct termios t;
	char c = 4;

	if (now < p->next_eof)
		return;
	if (tcgetattr(p->in, &t) == 0 && t.c_cc[VEOF])
		c = (char)t.c_cc[VEOF];
	(void)!write(p->in, &c, 1);
	p->next_eof = now + EOF_INTERVAL;
}

void proc_feed(struct proc *p, uint64_t now)
{
	while (p->in >= 0 && p->to_child.len) {
		ssize_t n = write(p->in, p->to_child.data, p->to_child.len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		/* Nobody reads it any more: drop it, as a pipeline's writer would learn by SIGPIPE.
		 */
		strbuf_consume(&p->to_child, n < 0 ? p->to_child.len : (size_t)n);
	}
	if (!p->eof_wanted || p->in < 0)
		return;
	if (p->tty) {
		type_eof(p, now);
	} else {
		close(p->in);
		p->in = -1;
	}
}

void proc_winsize(struct proc *p, unsigned int rows, unsigned int cols)
{
	struct winsize ws = {.ws_row = (unsigned short)rows, .ws_col = (unsigned short)cols};

	if (p->tty && p->in >= 0)
		ioctl(p->in, TIOCSWINSZ, &ws);
}
