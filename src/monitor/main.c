/* SPDX-License-Identifier: Apache-2.0 */
/*
 * monitor/main.c - insula-monitor: options, and the outer process
 */
#include "monitor/monitor_priv.h"

#include "base/exit.h"
#include "base/fd.h"
#include "container/cgroup.h"
#include "container/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/signalfd.h>

static const char usage[] =
    "Usage: insula-monitor --description FILE [OPTIONS]\n"
    "Runs one container as its JSON description says, for insulad (docs/containers.md).\n"
    "\n"
    "  -d, --description FILE  the container's description\n"
    "      --ready-fd N        write \"ready\" there when it runs\n"
    "      --exit-fd N         write there how it ended: STATUS REASON WORDS\n"
    "  -h, --help              this text\n"
    "      --version           the version\n";

enum { OPT_READY_FD = 256, OPT_EXIT_FD, OPT_VERSION };

static const struct option options[] = {
    {"description", required_argument, NULL, 'd'},
    {"ready-fd", required_argument, NULL, OPT_READY_FD},
    {"exit-fd", required_argument, NULL, OPT_EXIT_FD},
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, OPT_VERSION},
    {0},
};

struct arguments {
	const char *description;
	int ready_fd, exit_fd;
};

static int parse_fd(const char *text)
{
	char *end;
	long n;

	errno = 0;
	n = strtol(text, &end, 10);
	if (errno || end == text || *end || n < 0 || n > INT_MAX || fcntl((int)n, F_GETFD) < 0) {
		log_error("'%s' is not an open descriptor", text);
		return -1;
	}
	return (int)n;
}

/* -1 = go on, else the status to exit with. */
static int parse_arguments(int argc, char **argv, struct arguments *a)
{
	int c;

	while ((c = getopt_long(argc, argv, "d:h", options, NULL)) != -1) {
		switch (c) {
		case 'd':
			a->description = optarg;
			break;
		case OPT_READY_FD:
			if ((a->ready_fd = parse_fd(optarg)) < 0)
				return EXIT_USAGE;
			break;
		case OPT_EXIT_FD:
			if ((a->exit_fd = parse_fd(optarg)) < 0)
				return EXIT_USAGE;
			break;
		case 'h':
			fputs(usage, stdout);
			return EXIT_OK;
		case OPT_VERSION:
			puts("insula-monitor " INSULA_VERSION);
			return EXIT_OK;
		default:
			return EXIT_USAGE;
		}
	}
	if (optind < argc || !a->description) {
		log_error("--description FILE is needed, and nothing else (see --help)");
		return EXIT_USAGE;
	}
	return -1;
}

/* What both processes have before they part. */
struct outer {
	struct box box;
	int control;   /* listening */
	int go[2];     /* closed without a byte: give up */
	int report[2]; /* a struct report comes back */
	struct slirp net;
	sigset_t set;
};

static int open_outer(struct outer *o, struct err *e)
{
	struct box *b = &o->box;

	o->control = listen_unix(b->d.control, e);
	if (o->control < 0)
		return o->control;
	b->agent = listen_unix(b->d.agent, e);
	if (b->agent < 0)
		return b->agent;
	b->console.listener = listen_unix(b->d.console, e);
	if (b->console.listener < 0)
		return b->console.listener;
	/* Each of the two processes reads its own signals from it. */
	runner_block_signals(&o->set);
	b->signals = signalfd(-1, &o->set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (b->signals < 0)
		return err_set(e, -errno, "signals");
	if (pipe2(o->go, O_CLOEXEC) < 0 || pipe2(o->report, O_CLOEXEC) < 0)
		return err_set(e, -errno, "pipe");
	return 0;
}

static void run_inner(struct outer *o, const struct arguments *a) __attribute__((noreturn));
static void run_inner(struct outer *o, const struct arguments *a)
{
	struct box *b = &o->box;
	/* Not the lock of the machine's files: it tells whether the outer process is there. */
	int keep[] = {o->go[0], o->report[1], a->ready_fd,         o->control,
		      b->agent, b->signals,   b->console.listener, -1};
	struct report report = {0};

	proc_close_from(3, keep, ARRAY_SIZE(keep));
	report.r = serve_open(b, o->control, &report.e);
	if (report.r == 0)
		box_run(b, o->go[0], a->ready_fd, &report);
	(void)!write(o->report[1], &report, sizeof(report));
	_exit(0);
}

static void close_end(int *fd)
{
	close_p(fd);
	*fd = -1;
}

/* Hands signals on until the inner process reported, true, or died without. */
static bool await_report(const struct outer *o, pid_t pid, struct report *ret)
{
	for (;;) {
		struct pollfd p[] = {{.fd = o->report[0], .events = POLLIN},
				     {.fd = o->box.signals, .events = POLLIN}};
		struct signalfd_siginfo si;

		if (poll(p, ARRAY_SIZE(p), -1) < 0 && errno != EINTR)
			return false;
		if (p[1].revents && read(p[1].fd, &si, sizeof(si)) == sizeof(si) &&
		    si.ssi_signo != SIGCHLD)
			kill(pid, (int)si.ssi_signo);
		if (p[0].revents)
			return read_full(p[0].fd, ret, sizeof(*ret)) == 0;
	}
}

/* An inner process that was killed takes all of the container along, but waits for what is frozen:
 * that has to thaw for its end. */
static void clear_group(const char *path)
{
	struct cgroup c;
	struct err e = {0};

	if (cgroup_init(&c, &e) == 0 && cgroup_place(&c, path, BOX_ID, &e) == 0 &&
	    cgroup_destroy(&c, &e) == 0)
		e = (struct err){0};
	if (e.code)
		log_warn("%s", e.msg);
	cgroup_fini(&c);
}

/* Until the container has ended; how, in @ret. */
static int run_outer(struct outer *o, const struct arguments *a, struct report *ret, struct err *e)
{
	struct box *b = &o->box;
	bool told;
	pid_t pid;
	int r, status;

	pid = runner_clone();
	if (pid == 0)
		run_inner(o, a);
	close_end(&o->go[0]);
	close_end(&o->report[1]);
	if (pid < 0)
		return err_set(e, -errno, "new namespaces");
	r = runner_map_ids(pid, b->d.login, e);
	if (r == 0 && b->d.options.net)
		r = slirp_start(pid, b->d.dir, &b->d.options, &o->net, e);
	if (r == 0 && write(o->go[1], "", 1) != 1)
		r = err_set(e, -errno, "start the container");
	if (r < 0)
		kill(pid, SIGKILL);
	told = r == 0 && await_report(o, pid, ret);
	if (!told)
		clear_group(b->d.cgroup);
	status = runner_wait(pid, &o->set);
	slirp_stop(&o->net);
	if (r == 0 && !told) {
		*ret = (struct report){.status = status};
		snprintf(ret->reason, sizeof(ret->reason), "killed");
	}
	return r;
}

static void tell_end(int fd, int status, const char *reason, const char *words)
{
	if (fd >= 0)
		dprintf(fd, "%d %s %s\n", status, reason, words);
}

static int fail(const struct arguments *a, const struct err *e)
{
	int status = e->exit_code ? e->exit_code : EXIT_FAIL;

	log_error("%s", e->msg);
	tell_end(a->exit_fd, status, "error", e->msg);
	return status;
}

static int read_description(const char *path, struct desc *ret, struct err *e)
{
	autostrbuf struct strbuf text = {0};
	int r = read_file(path, DESC_MAX_TEXT, &text);

	if (r < 0)
		return err_set(e, r, "read %s", path);
	return desc_parse(text.data ? text.data : "", text.len, ret, e);
}

int main(int argc, char **argv)
{
	struct arguments a = {.ready_fd = -1, .exit_fd = -1};
	struct outer o = {.control = -1, .go = {-1, -1}, .report = {-1, -1}};
	struct report report = {0};
	struct err e = {0};
	int r;

	log_init("insula-monitor", LOG_WARN);
	r = parse_arguments(argc, argv, &a);
	if (r >= 0)
		return r;
	signal(SIGPIPE, SIG_IGN);
	proc_cloexec_from(3);
	o.box.agent = o.box.signals = o.box.console.listener = -1;
	o.box.console.slave = o.box.console.output = o.box.console.client = o.box.console.log.fd =
	    -1;
	list_init(&o.box.conns);
	r = read_description(a.description, &o.box.d, &e);
	if (r == 0)
		r = open_outer(&o, &e);
	if (r == 0)
		r = run_outer(&o, &a, &report, &e);
	if (r < 0)
		return fail(&a, &e);
	report.e.msg[sizeof(report.e.msg) - 1] = '\0';
	if (report.r < 0)
		return fail(&a, &report.e);
	tell_end(a.exit_fd, report.status, report.reason, "");
	return report.status;
}
