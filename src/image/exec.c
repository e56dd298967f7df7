/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image/exec.c - runs the programs that make images
 */
#include "image/exec_priv.h"

#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define SEARCH_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define TICK_MS     200
#define MAX_LINE    4096

struct running {
	const struct exec *x;
	pid_t pid;
	bool contained;
	bool ended; /* with @status; its streams may be somebody else's still */
	int status;
	int out, err; /* read ends, -1 once closed */
	struct strbuf line[2];
	char last[256]; /* what it complained about last */
};

/* Is @line worth more than the complaint before it? */
static bool tells_more(const char *last, const char *line)
{
	return strncmp(line, "I: ", 3) != 0 && !strstr(last, "No space left on device") &&
	       (!last[0] || !strstr(line, "tar: Exiting with failure status"));
}

static void child_exec(const struct exec *x, const char *const *argv, bool contained, int out,
		       int err) __attribute__((noreturn));
static void child_exec(const struct exec *x, const char *const *argv, bool contained, int out,
		       int err)
{
	int null = open("/dev/null", O_RDWR);

	prctl(PR_SET_PDEATHSIG, contained ? SIGKILL : SIGTERM);
	setpgid(0, 0);
	signal(SIGPIPE, SIG_DFL);
	signal(SIGINT, SIG_DFL);
	signal(SIGTERM, SIG_DFL);
	dup2(null, 0);
	dup2(out, 1);
	dup2(err, 2);
	setenv("PATH", SEARCH_PATH, 1);
	setenv("LC_ALL", "C.UTF-8", 1);
	setenv("DEBIAN_FRONTEND", "noninteractive", 1);
	if (x->tmp_dir)
		setenv("TMPDIR", x->tmp_dir, 1);
	if (x->confine)
		exec_confine(x);
	execvp(argv[0], (char *const *)argv);
	dprintf(2, "%s: %s\n", argv[0], strerror(errno));
	_exit(127);
}

#define MAX_ARGS 64

/* Namespaces that end with the program: when insula is killed, so are all descendants, and what
 * they mounted is gone. */
static const char *const container[] = {"unshare",      "--mount",      "--pid",        "--fork",
					"--kill-child", "--mount-proc", "--propagation"};
#define N_CONTAINER (ARRAY_SIZE(container) + 1)

/*
 * Writes the words of `unshare` that work here to @argv; 0 when none do.  In a chroot, whose root
 * is no mount point, propagation cannot be changed: there the descendants still end with us.
 */
static size_t contain(const char *argv[N_CONTAINER + 2])
{
	static const char *const propagation[] = {"private", "unchanged"};
	struct exec x = {.argv = argv};

	memcpy(argv, container, sizeof(container));
	for (size_t i = 0; geteuid() == 0 && i < ARRAY_SIZE(propagation); i++) {
		struct err e = {0};

		argv[ARRAY_SIZE(container)] = propagation[i];
		argv[N_CONTAINER] = "true";
		argv[N_CONTAINER + 1] = NULL;
		if (exec_run(&x, &e) == 0)
			return N_CONTAINER;
	}
	return 0;
}

static void make_argv(struct running *r, const char *argv[MAX_ARGS])
{
	size_t n = r->x->contain ? contain(argv) : 0;

	r->contained = n > 0;
	for (const char *const *a = r->x->argv; *a && n < MAX_ARGS - 1; a++)
		argv[n++] = *a;
	argv[n] = NULL;
}

static int start(struct running *r, struct err *e)
{
	int out[2] = {-1, -1}, err[2] = {-1, -1};
	const char *argv[MAX_ARGS];

	make_argv(r, argv);
	if (pipe2(out, O_CLOEXEC) < 0 || pipe2(err, O_CLOEXEC) < 0)
		return err_set(e, -errno, "pipe");
	r->pid = fork();
	if (r->pid == 0)
		child_exec(r->x, argv, r->contained, out[1], err[1]);
	close(out[1]);
	close(err[1]);
	r->out = out[0];
	r->err = err[0];
	if (r->pid < 0)
		return err_set(e, -errno, "fork");
	setpgid(r->pid, r->pid); /* whichever of us is first */
	return 0;
}

/* Cuts lines at \n and at the \r of programs that redraw theirs. */
static void take_text(struct running *r, unsigned int stream, const char *text, size_t len)
{
	struct strbuf *b = &r->line[stream];

	for (size_t i = 0; i < len; i++) {
		if (text[i] != '\n' && text[i] != '\r') {
			if (b->len < MAX_LINE)
				strbuf_putc(b, text[i]);
			continue;
		}
		if (!b->len)
			continue;
		log_debug("%s: %s", r->x->argv[0], b->data);
		if (r->x->line)
			r->x->line(r->x->opaque, b->data);
		if (tells_more(r->last, b->data))
			snprintf(r->last, sizeof(r->last), "%s", b->data);
		strbuf_consume(b, b->len);
	}
}

static void take_output(struct running *r, int *fd, unsigned int stream)
{
	char chunk[16384];
	ssize_t n = read(*fd, chunk, sizeof(chunk));

	if (n < 0 && errno == EINTR)
		return;
	if (n <= 0) {
		close(*fd);
		*fd = -1;
	} else if (stream == 0 && r->x->out) {
		strbuf_add(r->x->out, chunk, (size_t)n);
	} else {
		take_text(r, stream, chunk, (size_t)n);
	}
}

/* Until both of its streams are closed; -EINTR when the person wants no more. */
static int watch(struct running *r)
{
	bool cancelled = false;
	int n;

	while (r->out >= 0 || r->err >= 0) {
		struct pollfd p[2] = {{.fd = r->out, .events = POLLIN},
				      {.fd = r->err, .events = POLLIN}};

		if (!cancelled && r->x->progress && progress_cancelled(r->x->progress)) {
			/* unshare(1) does not hear SIGTERM while its child runs. */
			kill(-r->pid, r->contained ? SIGKILL : SIGTERM);
			cancelled = true;
		}
		n = poll(p, 2, TICK_MS);
		if (n < 0)
			continue;
		/* A helper of unshare(1) that waits for ever keeps the streams of one that failed.
		 */
		if (n == 0 && !r->ended && waitpid(r->pid, &r->status, WNOHANG) == r->pid)
			r->ended = true;
		else if (n == 0 && r->ended)
			break;
		if (p[0].revents)
			take_output(r, &r->out, 0);
		if (p[1].revents)
			take_output(r, &r->err, 1);
		if (r->x->progress)
			progress_tick(r->x->progress);
	}
	return cancelled ? -EINTR : 0;
}

int exec_run(const struct exec *x, struct err *e)
{
	struct running run = {.x = x, .out = -1, .err = -1};
	int status, r = start(&run, e);

	if (r < 0)
		return r;
	r = watch(&run);
	while (!run.ended && waitpid(run.pid, &run.status, 0) < 0 && errno == EINTR)
		;
	if (run.out >= 0 || run.err >= 0)
		kill(-run.pid, SIGKILL);
	close_p(&run.out);
	close_p(&run.err);
	status = run.status;
	strbuf_fini(&run.line[0]);
	strbuf_fini(&run.line[1]);
	if (r < 0)
		return err_msg(e, r, "interrupted");
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127 && !exec_have(x->argv[0]))
		return err_msg(e, -ENOENT,
			       "the program '%s' is needed and not installed (`insula doctor` "
			       "lists what is missing)",
			       x->argv[0]);
	return err_msg(e, -EIO, "%s failed: %s", x->argv[0],
		       run.last[0] ? run.last : "it gave no reason");
}

bool exec_have(const char *program)
{
	autofree char *dirs = xstrdup(SEARCH_PATH);
	char *save = NULL;

	for (char *d = strtok_r(dirs, ":", &save); d; d = strtok_r(NULL, ":", &save)) {
		autofree char *path = xasprintf("%s/%s", d, program);

		if (access(path, X_OK) == 0)
			return true;
	}
	return false;
}

int exec_script_as_root(const char *script, const char *const *args, struct progress *p,
			struct err *e)
{
	const char *argv[32];
	struct exec x = {.argv = argv, .progress = p, .contain = p != NULL};
	size_t n = 0;

	if (geteuid() != 0) {
		argv[n++] = "unshare";
		argv[n++] = "--map-root-user";
		argv[n++] = "--map-auto";
	}
	argv[n++] = "sh";
	argv[n++] = "-ec";
	argv[n++] = script;
	argv[n++] = "sh";
	while (*args && n < ARRAY_SIZE(argv) - 1)
		argv[n++] = *args++;
	argv[n] = NULL;
	return exec_run(&x, e);
}

void exec_remove_tree(const char *path)
{
	const char *const args[] = {path, NULL};
	struct err e = {0};

	/* Something that a killed build left mounted in there is not ours to delete. */
	if (exec_script_as_root("rm -rf --one-file-system -- \"$1\"", args, NULL, &e) < 0)
		log_debug("remove %s: %s", path, e.msg);
}
