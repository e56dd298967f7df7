/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container/init.c - the process that becomes the container's first program
 *
 *	runtime					this process, in the new namespaces
 *	control group, attach			mounts, devices
 *	GO (our pid)			->	cgroup namespace, mounts of control groups, terminal
 *	hooks prestart, createRuntime	<-	HOOKS
 *	GO				->	hooks createContainer; masks; pivot_root; sysctl;
 *program state is "created"		<-	READY wait GO (of start, or run)		->
 *hooks startContainer; labels, limits, filter, user; exec
 *
 * Up to READY it dies with the runtime.  It holds the host's procfs and, until pivot_root, the
 * bundle; every descriptor closes at exec.
 */
#include "container/init.h"

#include "container/hooks.h"
#include "container/mount_opts.h"
#include "container/ns.h"
#include "container/path.h"
#include "container/proc.h"
#include "container/rootfs_priv.h"
#include "container/state.h"
#include "container/sync.h"
#include "container/terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

static int join_keyring(struct init *in, struct err *e)
{
	autofree char *name = xasprintf("_ses.%s", in->id);

	if (in->no_new_keyring)
		return 0;
	/* A kernel without keys, or a filter around us, is no reason to fail. */
	if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name) < 0 && errno != ENOSYS &&
	    errno != EPERM && errno != EDQUOT)
		return err_set(e, -errno, "session keyring");
	return 0;
}

static int name_host(const struct spec *s, struct err *e)
{
	if (s->hostname && sethostname(s->hostname, strlen(s->hostname)) < 0)
		return err_set(e, -errno, "hostname '%s'", s->hostname);
	if (s->domainname && setdomainname(s->domainname, strlen(s->domainname)) < 0)
		return err_set(e, -errno, "domainname '%s'", s->domainname);
	return 0;
}

static int loopback_up(const struct spec *s, struct err *e)
{
	autoclose int fd = -1;
	struct ifreq r = {.ifr_name = "lo"};

	if (!s->ns[SPEC_NS_NET].wanted || s->ns[SPEC_NS_NET].path)
		return 0;
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_set(e, -errno, "socket");
	r.ifr_flags = IFF_UP | IFF_RUNNING;
	return ioctl(fd, SIOCSIFFLAGS, &r) < 0 ? err_set(e, -errno, "loopback interface") : 0;
}

/* The root of the new namespace is the control group that we are in now. */
static int new_cgroup_namespace(struct init *in, struct err *e)
{
	int r = in->await_scope ? sync_expect(in->sync, SYNC_GO, NULL, e) : 0;

	if (r == 0 && in->spec->ns[SPEC_NS_CGROUP].wanted && !in->spec->ns[SPEC_NS_CGROUP].path &&
	    unshare(CLONE_NEWCGROUP) < 0)
		r = err_set(e, -errno, "make a cgroup namespace");
	return r;
}

/* Where the process sends "READY=1"; the other end is in the state directory. */
static int mount_notify(struct init *in, struct err *e)
{
	autoclose int target = -1;
	int r;

	if (in->notify < 0)
		return 0;
	target = r = path_make(in->fs.root, "/run/notify", PATH_DIR);
	if (target >= 0)
		r = mount_attach(in->notify, target);
	return r < 0 ? err_set(e, r, "mount the notify socket") : 0;
}

static int make_file_system(struct init *in, struct err *e)
{
	const struct spec *s = in->spec;
	int r = rootfs_attach(&in->fs, e);

	for (size_t i = 0; r == 0 && i < s->n_mounts; i++)
		r = rootfs_mount(&in->fs, i, e);
	rootfs_close_sources(&in->fs);
	if (r == 0)
		r = rootfs_make_devices(&in->fs, e);
	return r < 0 ? r : mount_notify(in, e);
}

static int take_terminal(struct init *in, struct err *e)
{
	autoclose int master = -1, slave = -1;
	int r;

	if (!in->process.spec->terminal)
		return 0;
	r = terminal_open(in->fs.root, in->process.spec, &master, &slave, e);
	if (r == 0)
		r = terminal_bind_console(in->fs.root, slave, e);
	if (r == 0)
		r = terminal_take(in->console_socket, master, slave, e);
	close(in->console_socket);
	in->console_socket = -1;
	return r;
}

static int run_hooks(struct init *in, enum spec_hook_kind kind, enum state_status status,
		     struct err *e)
{
	struct state s = {.id = (char *)in->id,
			  .bundle = (char *)in->bundle,
			  .version = (char *)in->version,
			  .pid = in->pid};
	autostrbuf struct strbuf text = {0};

	if (!in->spec->hooks[kind].n)
		return 0;
	state_format(&s, status, &in->spec->annotations, &text);
	return hooks_run(in->spec, kind, text.data,
			 kind == SPEC_HOOK_CREATE_CONTAINER ? in->bundle : NULL, e);
}

/* The runtime does its share, and tells the number that it knows us by, for the hooks. */
static int await_runtime(struct init *in, struct err *e)
{
	int32_t pid = 0;
	int r = sync_send(in->sync, SYNC_MOUNTED, 0, NULL);

	if (r < 0)
		return err_set(e, r, "the runtime ended");
	r = sync_expect(in->sync, SYNC_GO, &pid, e);
	in->pid = pid;
	return r;
}

/* Only what belongs to a namespace that the container has to itself: all else is the host's. */
static bool sysctl_is_own(const struct spec *s, const char *path)
{
	static const char *const ipc[] = {"kernel/msgmax", "kernel/msgmnb",         "kernel/msgmni",
					  "kernel/sem",    "kernel/shmall",         "kernel/shmmax",
					  "kernel/shmmni", "kernel/shm_rmid_forced"};

	if (path_has_dots(path))
		return false;
	if (strncmp(path, "net/", 4) == 0)
		return s->ns[SPEC_NS_NET].wanted;
	if (strcmp(path, "kernel/domainname") == 0 || strcmp(path, "kernel/hostname") == 0)
		return s->ns[SPEC_NS_UTS].wanted;
	if (strncmp(path, "user/", 5) == 0)
		return s->ns[SPEC_NS_USER].wanted;
	if (strncmp(path, "fs/mqueue/", 10) == 0)
		return s->ns[SPEC_NS_IPC].wanted;
	for (size_t i = 0; i < ARRAY_SIZE(ipc); i++)
		if (strcmp(path, ipc[i]) == 0)
			return s->ns[SPEC_NS_IPC].wanted;
	return false;
}

/* Both ways of writing it are in use: which of the two comes first parts its words, and the other
 * belongs to one ("net.ipv4.conf.eth0/1.forwarding"). */
static char *sysctl_path(const char *name)
{
	char *path = xstrdup(name), *p = path + strcspn(path, "./");

	if (*p == '.')
		for (; *p; p++)
			*p = *p == '.' ? '/' : *p == '/' ? '.' : *p;
	return path;
}

static int set_sysctls(struct init *in, struct err *e)
{
	const struct spec *s = in->spec;

	for (size_t i = 0; i < s->sysctl.n; i++) {
		const struct spec_pair *v = &s->sysctl.v[i];
		autofree char *path = sysctl_path(v->key), *file = xasprintf("sys/%s", path);
		int r;

		if (!sysctl_is_own(s, path))
			return err_msg(e, -EPERM,
				       "linux.sysctl: '%s' is in no namespace of the container's "
				       "own",
				       v->key);
		r = path_write_in_proc(in->process.proc, file, v->value);
		if (r < 0)
			return err_set(e, r, "sysctl %s = %s", v->key, v->value);
	}
	return 0;
}

static int prepare_process(struct init *in, struct err *e)
{
	autofree char *fds = in->listen_fds ? xasprintf("LISTEN_FDS=%u", in->listen_fds) : NULL;
	const char *more[4] = {NULL};
	size_t n = 0;

	if (fds) {
		more[n++] = fds;
		more[n++] = "LISTEN_PID=1";
	}
	if (getenv("NOTIFY_SOCKET"))
		more[n++] = "NOTIFY_SOCKET=/run/notify/notify.sock";
	return process_prepare(&in->process, more, e);
}

static int prepare(struct init *in, struct err *e)
{
	int r = join_keyring(in, e);

	if (r == 0)
		r = name_host(in->spec, e);
	if (r == 0)
		r = loopback_up(in->spec, e);
	if (r == 0)
		r = new_cgroup_namespace(in, e);
	if (r == 0)
		r = make_file_system(in, e);
	if (r == 0)
		r = await_runtime(in, e);
	if (r == 0)
		r = run_hooks(in, SPEC_HOOK_CREATE_CONTAINER, STATE_CREATING, e);
	if (r == 0)
		r = take_terminal(in, e);
	if (r == 0)
		r = set_sysctls(in, e);
	if (r == 0)
		r = rootfs_protect(&in->fs, e);
	if (r == 0)
		r = rootfs_enter(&in->fs, in->no_pivot, e);
	close_p(&in->fs.bundle);
	if (r == 0 && in->spec->personality.set &&
	    personality((unsigned long)in->spec->personality.v) < 0)
		r = err_set(e, -errno, "personality");
	return r < 0 ? r : prepare_process(in, e);
}

static void on_signal(int signal)
{
	_exit(128 + signal);
}

/* As first process of a pid namespace we would not hear what has no handler. */
static void listen_to_signals(void)
{
	struct sigaction sa = {.sa_handler = on_signal};
	static const int signals[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGALRM};

	proc_reset_signals();
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
		sigaction(signals[i], &sa, NULL);
}

/* The connection of who starts us: the start socket's, or sync. */
static int wait_for_start(struct init *in)
{
	struct err ignored;
	int conn = in->sync;

	if (in->start_socket >= 0) {
		close(in->sync); /* the runtime has ended */
		do
			conn = accept4(in->start_socket, NULL, NULL, SOCK_CLOEXEC);
		while (conn < 0 && (errno == EINTR || errno == ECONNABORTED));
		close(in->start_socket);
	}
	/* Who wanted to start us died: then nobody knows whether we run, and we end. */
	if (conn < 0 || sync_expect(conn, SYNC_GO, NULL, &ignored) < 0)
		_exit(1);
	return conn;
}

/* While we wait we hold what we need, and nothing of the host's; above all not the state's lock. */
static void close_others(const struct init *in)
{
	int keep[] = {in->sync, in->start_socket, in->process.proc, in->process.seccomp_fd};

	proc_close_from(3 + in->process.keep, keep, ARRAY_SIZE(keep));
}

void init_main(void *arg)
{
	struct init *in = arg;
	struct err e = {0};
	int r, conn;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	proc_cloexec_from(3 + in->process.keep);
	listen_to_signals();
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		r = err_set(&e, -errno, "hide");
	else
		r = setsid() < 0 ? err_set(&e, -errno, "session") : prepare(in, &e);
	if (r < 0)
		ns_die(in->sync, &e);
	close_others(in);
	prctl(PR_SET_PDEATHSIG, 0);
	if (sync_send(in->sync, SYNC_READY, 0, NULL) < 0)
		_exit(1);
	conn = wait_for_start(in);
	r = run_hooks(in, SPEC_HOOK_START_CONTAINER, STATE_CREATED, &e);
	if (r == 0)
		r = process_exec(&in->process, conn, &e);
	ns_die(conn, &e);
}
