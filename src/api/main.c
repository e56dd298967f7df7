/* SPDX-License-Identifier: Apache-2.0 */
/*
 * api/main.c - insulad: one a user, or one for the host
 *
 * The lock on RUN/insulad.lock says who it is; two starters at once leave one daemon.  A killed one
 * leaves a stale socket, which the next holder of the lock replaces.
 */
#include "api/api.h"
#include "api/remote.h"
#include "base/clock.h"
#include "base/dirs.h"
#include "base/exit.h"
#include "base/fd.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <grp.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

static const char usage[] =
    "Usage: insulad [OPTIONS]\n"
    "Keeps machines (docs/daemon.md). `insula` starts it when it needs it.\n"
    "\n"
    "      --idle-exit SECONDS  end when no machine ran and nobody asked for so long\n"
    "      --group NAME         let this group use the socket, as operators\n"
    "      --listen ADDR:PORT   answer there as well, over TLS, who shows a token; needs --tls\n"
    "      --tls FILE           certificate and its key (PEM), for --listen\n"
    "      --ready-fd N         write \"ready\" there when it answers\n"
    "      --openapi            print the OpenAPI document of the API\n"
    "  -v, --verbose            say what it does\n"
    "  -h, --help               this text\n"
    "      --version            the version\n";

enum { OPT_IDLE = 256, OPT_GROUP, OPT_READY, OPT_LISTEN, OPT_TLS, OPT_OPENAPI, OPT_VERSION };

static const struct option options[] = {
    {"idle-exit", required_argument, NULL, OPT_IDLE},
    {"group", required_argument, NULL, OPT_GROUP},
    {"listen", required_argument, NULL, OPT_LISTEN},
    {"tls", required_argument, NULL, OPT_TLS},
    {"ready-fd", required_argument, NULL, OPT_READY},
    {"openapi", no_argument, NULL, OPT_OPENAPI},
    {"verbose", no_argument, NULL, 'v'},
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, OPT_VERSION},
    {0},
};

struct insulad {
	uint64_t idle_exit; /* ns, 0 = never */
	const char *group, *listen, *tls;
	int ready, lock, signals;
	char *run, *data, *socket;
	struct loop *loop;
	struct daemon *daemon;
	struct api *api;
	struct remote *remote; /* NULL = none */
	struct loop_fd signal_watch;
	struct timer idle;
	uint64_t busy; /* when it last had something to do */
};

static int print_openapi(void)
{
	json_t *o = api_openapi();

	json_dumpf(o, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(o);
	return EXIT_OK;
}

static bool parse_number(const char *text, long max, long *ret)
{
	char *end;

	errno = 0;
	*ret = strtol(text, &end, 10);
	return !errno && end != text && !*end && *ret >= 0 && *ret <= max;
}

/* -1 = go on, else the status to exit with. */
static int parse_arguments(int argc, char **argv, struct insulad *s)
{
	enum log_level level = LOG_WARN;
	long n;
	int c;

	while ((c = getopt_long(argc, argv, "vh", options, NULL)) != -1) {
		switch (c) {
		case OPT_IDLE:
			if (!parse_number(optarg, 86400, &n)) {
				log_error("--idle-exit: '%s' is no number of seconds", optarg);
				return EXIT_USAGE;
			}
			s->idle_exit = (uint64_t)n * NSEC_PER_SEC;
			break;
		case OPT_GROUP:
			s->group = optarg;
			break;
		case OPT_READY:
			if (!parse_number(optarg, INT_MAX, &n) || fcntl((int)n, F_GETFD) < 0) {
				log_error("--ready-fd: '%s' is not an open descriptor", optarg);
				return EXIT_USAGE;
			}
			s->ready = (int)n;
			fcntl(s->ready, F_SETFD, FD_CLOEXEC);
			break;
		case OPT_LISTEN:
			s->listen = optarg;
			break;
		case OPT_TLS:
			s->tls = optarg;
			break;
		case OPT_OPENAPI:
			return print_openapi();
		case 'v':
			level = LOG_INFO;
			break;
		case 'h':
			fputs(usage, stdout);
			return EXIT_OK;
		case OPT_VERSION:
			puts("insulad " INSULA_VERSION);
			return EXIT_OK;
		default:
			return EXIT_USAGE;
		}
	}
	if (optind < argc) {
		log_error("%s: unexpected argument", argv[optind]);
		return EXIT_USAGE;
	}
	if (!s->listen != !s->tls) {
		log_error("--listen and --tls need each other: nothing is said in the clear");
		return EXIT_USAGE;
	}
	log_init("insulad", level);
	return -1;
}

/* -EALREADY when another one runs. */
static int take_lock(struct insulad *s, struct err *e)
{
	autofree char *path = xasprintf("%s/insulad.lock", s->run);

	s->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (s->lock < 0)
		return err_set(e, -errno, "open %s", path);
	if (flock(s->lock, LOCK_EX | LOCK_NB) < 0)
		return err_msg(e, errno == EWOULDBLOCK ? -EALREADY : -errno,
			       "another insulad runs in %s", s->run);
	return 0;
}

static int open_to_group(const char *path, const char *group, struct err *e)
{
	const struct group *g = getgrnam(group);

	if (!g)
		return err_msg(e, -ENOENT, "--group: there is no group '%s'", group);
	if (chown(path, (uid_t)-1, g->gr_gid) < 0 || chmod(path, 0660) < 0)
		return err_set(e, -errno, "%s", path);
	return 0;
}

/* The lock is ours, so nobody listens on what may lie there. */
static int listen_here(struct insulad *s, int *ret, struct err *e)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	autoclose int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int r = 0;

	s->socket = xasprintf("%s/insulad.sock", s->run);
	if (strlen(s->socket) >= sizeof(addr.sun_path))
		return err_set(e, -ENAMETOOLONG, "%s", s->socket);
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", s->socket);
	unlink(s->socket);
	umask(0177);
	if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return err_set(e, -errno, "listen on %s", s->socket);
	umask(077);
	if (s->group)
		r = open_to_group(s->socket, s->group, e);
	if (r == 0 && listen(fd, 128) < 0)
		r = err_set(e, -errno, "listen on %s", s->socket);
	if (r == 0)
		*ret = steal_fd(&fd);
	return r;
}

static void on_signal(void *opaque, uint32_t events)
{
	struct insulad *s = opaque;
	struct signalfd_siginfo si;

	if (read(s->signals, &si, sizeof(si)) == sizeof(si))
		loop_stop(s->loop);
}

static int watch_signals(struct insulad *s, struct err *e)
{
	sigset_t set;
	int r;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	s->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (s->signals < 0)
		return err_set(e, -errno, "signalfd");
	r = loop_add(s->loop, &s->signal_watch, s->signals, EPOLLIN, on_signal, s);
	return r < 0 ? err_set(e, r, "watch signals") : 0;
}

static void on_idle(void *opaque)
{
	struct insulad *s = opaque;
	uint64_t now = clock_now(), since;

	if (!daemon_is_idle(s->daemon) || !api_is_idle(s->api, &since))
		s->busy = now;
	else
		s->busy = MAX(s->busy, since);
	if (now - s->busy >= s->idle_exit)
		loop_stop(s->loop);
	else
		timer_set(&s->idle, now + MIN(s->idle_exit, 5 * NSEC_PER_SEC));
}

static int prepare(struct insulad *s, struct err *e)
{
	struct daemon_config cfg;
	int fd = -1, r;

	umask(077);
	s->data = dirs_data();
	r = make_dir(s->data, 0700, e);
	if (r == 0)
		r = dirs_make_run(&s->run, e);
	if (r == 0)
		r = take_lock(s, e);
	if (r == 0)
		r = loop_new(&s->loop, e);
	if (r == 0)
		r = watch_signals(s, e);
	if (r < 0)
		return r;
	cfg = (struct daemon_config){s->data, s->run, s->loop};
	r = daemon_new(&cfg, &s->daemon, e);
	if (r == 0)
		r = listen_here(s, &fd, e);
	if (r == 0)
		r = api_new(s->daemon, fd, &s->api, e);
	if (r == 0 && s->listen)
		r = remote_new(s->api, s->listen, s->tls, &s->remote, e);
	return r;
}

static void run(struct insulad *s)
{
	s->busy = clock_now();
	timer_init(&s->idle, loop_timers(s->loop), on_idle, s);
	if (s->idle_exit)
		timer_set(&s->idle, s->busy + MIN(s->idle_exit, 5 * NSEC_PER_SEC));
	daemon_start(s->daemon);
	if (s->ready >= 0 && write_full(s->ready, "ready\n", 6) < 0)
		log_info("--ready-fd: nobody reads it");
	close_p(&s->ready);
	loop_run(s->loop);
	timer_cancel(&s->idle);
	log_info("ends; machines go on");
	daemon_stop(s->daemon);
	loop_once(s->loop, 0); /* what threads posted last */
}

static void release(struct insulad *s)
{
	remote_free(s->remote);
	api_free(s->api);
	daemon_free(s->daemon);
	if (s->socket && s->api)
		unlink(s->socket);
	if (s->loop)
		loop_free(s->loop);
	close_p(&s->signals);
	close_p(&s->lock);
	free(s->socket);
	free(s->run);
	free(s->data);
}

int main(int argc, char **argv)
{
	struct insulad s = {.ready = -1, .lock = -1, .signals = -1};
	struct err e = {0};
	int r;

	log_init("insulad", LOG_WARN);
	r = parse_arguments(argc, argv, &s);
	if (r >= 0)
		return r;
	r = prepare(&s, &e);
	if (r == 0)
		run(&s);
	else if (r != -EALREADY)
		log_error("%s", e.msg);
	release(&s);
	return r == 0 ? EXIT_OK : r == -EALREADY ? EXIT_NAME_IN_USE : EXIT_FAIL;
}
