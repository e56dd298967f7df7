/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container/create.c - create and run: the runtime's side of making a container
 *
 * The process mounts while we set its limits and compile its filter.
 * At every moment the state says enough to clear away what there is, should we be killed.
 */
#include "container/container_priv.h"

#include "base/fd.h"
#include "container/hooks.h"
#include "container/init.h"
#include "container/ns.h"
#include "container/path.h"
#include "container/proc.h"
#include "container/rootfs_priv.h"
#include "container/sync.h"
#include "container/terminal.h"
#include "container/userns.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>

struct making {
	const struct container_runtime *rt;
	const struct container_create *c;
	bool run;
	struct spec spec;
	struct init init;
	struct handle h;
	struct ns_plan plan;
	int socks[2];
	int relay[2]; /* where the terminal's master comes when we are its console */
	bool rooted;  /* root of the host */
	bool hooked;  /* hooks ran: poststop is due even on failure */
};

static int read_config(struct making *m, struct err *e)
{
	autostrbuf struct strbuf text = {0};
	autoclose int out = -1;
	int from = m->c->config ? AT_FDCWD : m->init.fs.bundle, r;
	const char *name = m->c->config ? m->c->config : "config.json";

	r = read_file_at(from, name, SPEC_MAX_TEXT, &text);
	if (r < 0)
		return err_set(e, r, "read %s/%s", m->c->config ? "." : m->c->bundle, name);
	r = spec_parse(text.data ? text.data : "", text.len, &m->spec, e);
	if (r < 0)
		return err_wrap(e, r, "%s", name);
	/* What is changed in the bundle from now on has no effect. */
	out = openat(m->h.dir, "config.json", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	r = out < 0 ? -errno : write_full(out, text.data, text.len);
	return r < 0 ? err_set(e, r, "keep config.json") : 0;
}

static int check_config(struct making *m, struct err *e)
{
	const struct spec *s = &m->spec;
	struct stat st;

	if (!s->has_process)
		return err_msg(e, -EINVAL, "config.json: process: is missing");
	if (fstatat(m->init.fs.bundle, s->root_path, &st, 0) < 0)
		return err_set(e, -errno, "config.json: root.path: %s", s->root_path);
	if (!S_ISDIR(st.st_mode))
		return err_msg(e, -ENOTDIR, "config.json: root.path: %s is no directory",
			       s->root_path);
	if (s->process.terminal && !m->c->console_socket && (!m->run || m->c->detach))
		return err_msg(e, -EINVAL,
			       "config.json: process.terminal: needs a console socket when the "
			       "runtime does not stay");
	if (!s->process.terminal && m->c->console_socket)
		return err_msg(e, -EINVAL,
			       "a console socket is given, but process.terminal is not "
			       "set");
	return s->seccomp.set ? seccomp_check(&s->seccomp, &m->init.process.seccomp_flags, e) : 0;
}

static int open_state(struct making *m, struct err *e)
{
	struct state *s = &m->h.state;
	char bundle[PATH_MAX];
	int r;

	if (!state_id_ok(m->c->id))
		return err_msg(e, -EINVAL, "'%s' is no name of a container", m->c->id);
	if (!realpath(m->c->bundle, bundle))
		return err_set(e, -errno, "bundle %s", m->c->bundle);
	m->init.fs.bundle = open(bundle, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (m->init.fs.bundle < 0)
		return err_set(e, -errno, "bundle %s", bundle);
	m->h.root = state_open_root(m->rt->root, e);
	if (m->h.root < 0)
		return m->h.root;
	container_sweep(m->h.root);
	r = state_new(m->h.root, m->c->id, &m->h.dir, e);
	if (r < 0)
		return r;
	s->id = xstrdup(m->c->id);
	s->bundle = xstrdup(bundle);
	s->created = time(NULL);
	s->owner = geteuid();
	return 0;
}

static int listen_for_start(struct making *m, struct err *e)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	m->init.start_socket = fd;
	if (fd < 0)
		return err_set(e, -errno, "socket");
	/* By descriptor: the directory's own path may be too long. */
	snprintf(addr.sun_path, sizeof(addr.sun_path), "/proc/self/fd/%d/start.sock", m->h.dir);
	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, 1) < 0)
		return err_set(e, -errno, "start.sock");
	return 0;
}

static int open_notify(struct making *m, struct err *e)
{
	int r;

	if (!getenv("NOTIFY_SOCKET"))
		return 0;
	if (mkdirat(m->h.dir, "notify", 0755) < 0)
		return err_set(e, -errno, "notify directory");
	m->init.notify = r = mount_clone(m->h.dir, "notify", false);
	if (r >= 0)
		r = mount_change(m->init.notify, false, 0, 0, MS_SLAVE);
	return r < 0 ? err_set(e, r, "notify directory") : 0;
}

static int open_console(struct making *m, struct err *e)
{
	if (!m->spec.process.terminal)
		return 0;
	if (m->c->console_socket) {
		m->init.console_socket = terminal_connect(m->c->console_socket, e);
		return MIN(m->init.console_socket, 0);
	}
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, m->relay) < 0)
		return err_set(e, -errno, "socket pair");
	m->init.console_socket = steal_fd(&m->relay[1]);
	return 0;
}

/* All that needs nobody in the namespaces yet. */
static int make_ready(struct making *m, struct err *e)
{
	struct init *in = &m->init;
	int r;

	ns_forget_own(&m->spec);
	m->h.state.version = xstrdup(m->spec.version);
	in->spec = in->fs.spec = &m->spec;
	in->fs.userns = m->spec.ns[SPEC_NS_USER].wanted || !m->rooted;
	in->process.spec = &m->spec.process;
	in->process.seccomp = &m->spec.seccomp;
	in->id = m->h.state.id;
	in->version = m->h.state.version;
	in->bundle = in->fs.bundle_path = m->h.state.bundle;
	in->no_pivot = m->c->no_pivot;
	in->no_new_keyring = m->c->no_new_keyring;
	in->await_scope = m->rt->systemd_cgroup;
	r = cgroup_init(&m->h.cgroup, e);
	if (r == 0)
		r = cgroup_place(&m->h.cgroup, m->rt->systemd_cgroup ? NULL : m->spec.cgroups_path,
				 m->c->id, e);
	if (r == 0)
		r = cgroup_check_unused(&m->h.cgroup, e);
	if (r < 0) {
		free(steal_ptr(&m->h.cgroup.path)); /* not ours: undo shall not touch it */
		return r;
	}
	in->fs.cgroup = &m->h.cgroup;
	m->h.state.cgroup_path = xstrdup(m->h.cgroup.path);
	in->fs.proc = in->process.proc = path_open_proc(e);
	if (in->fs.proc < 0)
		return in->fs.proc;
	if (m->spec.seccomp.set) {
		in->process.seccomp_fd = memfd_create("seccomp", MFD_CLOEXEC);
		if (in->process.seccomp_fd < 0)
			return err_set(e, -errno, "seccomp program");
	}
	r = m->run ? 0 : listen_for_start(m, e);
	if (r == 0)
		r = open_notify(m, e);
	if (r == 0)
		r = open_console(m, e);
	if (r == 0)
		r = ns_plan_init(&m->plan, &m->spec, e);
	if (r == 0)
		r = rootfs_open_sources(&in->fs, e);
	return r == 0 ? sync_pair(m->socks, e) : r;
}

/* Before the process is there, so that it can begin inside. */
static int make_cgroup(struct making *m, struct err *e)
{
	struct cgroup *c = &m->h.cgroup;
	int r;

	if (m->rt->systemd_cgroup)
		return 0;
	r = cgroup_make(c, !m->rooted, e);
	return r < 0 ? r : cgroup_open_entries(c, NULL, e);
}

static int start_scope(struct making *m, struct err *e)
{
	struct cgroup *c = &m->h.cgroup;
	int r = cgroup_start_scope(c, m->spec.cgroups_path, m->c->id, m->h.state.pid,
				   &m->spec.resources, e);

	if (r < 0)
		return r;
	free(m->h.state.cgroup_path);
	m->h.state.cgroup_path = xstrdup(c->path);
	m->h.state.cgroup_unit = xstrdup(c->unit);
	r = state_write(m->h.dir, &m->h.state, e);
	return r == 0 ? sync_send(m->socks[0], SYNC_GO, 0, NULL) : r;
}

static int limit(struct making *m, struct err *e)
{
	int r = m->rt->systemd_cgroup ? start_scope(m, e) : 0;

	return r == 0 ? cgroup_apply(&m->h.cgroup, &m->spec.resources, e) : r;
}

static int run_hooks(struct making *m, struct err *e)
{
	autofree char *state = hook_state(&m->h.state, STATE_CREATING, &m->spec);
	/* What the old kind of hook was told when there was no other. */
	autofree char *created = hook_state(&m->h.state, STATE_CREATED, &m->spec);
	int r;

	m->hooked = true;
	r = hooks_run(&m->spec, SPEC_HOOK_PRESTART, created, NULL, e);
	return r == 0 ? hooks_run(&m->spec, SPEC_HOOK_CREATE_RUNTIME, state, NULL, e) : r;
}

/* Devices are forbidden here: after the mounts, which may be of some, while the process waits, for
 * in version 1 all are forbidden for a moment, and before the hooks, which may allow others. */
static int on_mounted(struct making *m, struct err *e)
{
	/* Without root nobody may forbid any; nor are there others than the usual. */
	int r = m->rooted ? cgroup_apply_devices(&m->h.cgroup, &m->spec.resources, e) : 0;

	if (r == 0)
		r = run_hooks(m, e);
	return r == 0 ? sync_send(m->socks[0], SYNC_GO, m->h.state.pid, NULL) : r;
}

/* Until the process is prepared. */
static int follow(struct making *m, struct err *e)
{
	struct sync_msg msg;
	int r;

	for (;;) {
		r = sync_receive(m->socks[0], &msg);
		if (r < 0)
			return err_set(e, r, "the container's process ended");
		switch (msg.type) {
		case SYNC_ERROR:
			return err_msg(e, msg.value < 0 ? msg.value : -EPROTO, "%s", msg.text);
		case SYNC_MOUNTED:
			r = on_mounted(m, e);
			break;
		case SYNC_READY:
			return 0;
		default:
			r = err_msg(e, -EPROTO, "message %d", msg.type);
		}
		if (r < 0)
			return r;
	}
}

static int start_process(struct making *m, struct err *e)
{
	struct state *s = &m->h.state;
	int r;

	m->init.sync = m->socks[1];
	r = ns_start(&m->plan, &m->h.cgroup, m->socks, m->init.fs.proc, init_main, &m->init,
		     &s->pid, e);
	close(m->socks[1]);
	m->socks[1] = -1;
	if (r < 0)
		return r;
	s->start_time = proc_start_time(s->pid);
	r = state_write(m->h.dir, s, e);
	if (r == 0)
		r = process_favour(&m->spec.process, s->pid, m->init.fs.proc, e);
	if (r == 0)
		r = limit(m, e);
	if (r == 0 && m->spec.seccomp.set)
		r = seccomp_compile(&m->spec.seccomp, m->init.process.seccomp_fd, e);
	/* Gone already: its own words tell more than our broken pipe. */
	return r == 0 || r == -EPIPE ? follow(m, e) : r;
}

static void close_making(struct making *m)
{
	struct init *in = &m->init;

	rootfs_close_sources(&in->fs);
	ns_plan_fini(&m->plan);
	for (unsigned int i = 0; i < 2; i++) {
		close_p(&m->socks[i]);
		close_p(&m->relay[i]);
	}
	close_p(&in->fs.bundle);
	close_p(&in->fs.root);
	close_p(&in->fs.proc);
	close_p(&in->process.seccomp_fd);
	close_p(&in->start_socket);
	close_p(&in->console_socket);
	close_p(&in->notify);
	handle_close(&m->h);
	spec_fini(&m->spec);
}

/* What there is of a container that failed. */
static void undo(struct making *m)
{
	struct err ignored;
	int status;

	if (m->h.state.pid) {
		(void)!handle_destroy(&m->h, &ignored);
		(void)!proc_wait(m->h.state.pid, &status);
	} else if (m->h.cgroup.path) {
		(void)!cgroup_remove(&m->h.cgroup, &ignored);
	}
	if (m->hooked) {
		autofree char *state = hook_state(&m->h.state, STATE_STOPPED, &m->spec);

		(void)!hooks_run(&m->spec, SPEC_HOOK_POSTSTOP, state, NULL, &ignored);
	}
	if (m->h.dir >= 0)
		(void)!state_remove(m->h.root, m->h.state.id, m->h.dir, &ignored);
}

static void open_making(struct making *m, const struct container_runtime *rt,
			const struct container_create *c, bool run)
{
	*m =
	    (struct making){.rt = rt,
			    .c = c,
			    .run = run,
			    .socks = {-1, -1},
			    .relay = {-1, -1},
			    .h = {.root = -1, .dir = -1},
			    .init = {.start_socket = -1,
				     .console_socket = -1,
				     .notify = -1,
				     .process = {.seccomp_fd = -1},
				     .fs = {.bundle = -1, .proc = -1, .root = -1, .dev_null = -1}}};
	for (unsigned int i = 0; i < SPEC_NS_COUNT; i++)
		m->plan.join[i] = -1;
	m->rooted = userns_is_host_root();
}

/* Descriptors that the container gets besides the standard streams: those of socket activation,
 * which an environment from elsewhere may claim in vain, and those that the caller names. */
static int keep_descriptors(struct making *m, struct err *e)
{
	const char *text = getenv("LISTEN_FDS");
	unsigned long listen = text ? strtoul(text, NULL, 10) : 0;
	struct init *in = &m->init;

	if (listen && listen <= 1024 && proc_are_open((unsigned int)listen))
		in->listen_fds = (unsigned int)listen;
	in->process.keep = m->c->preserve_fds + in->listen_fds;
	if (!proc_are_open(in->process.keep))
		return err_msg(e, -EINVAL, "%u descriptors are to be kept, but are not open",
			       in->process.keep);
	return 0;
}

/* Up to a process that waits, and a state that says so. */
static int make(struct making *m, struct err *e)
{
	int r = keep_descriptors(m, e);

	if (r == 0)
		r = open_state(m, e);
	if (r == 0)
		r = read_config(m, e);
	if (r == 0)
		r = check_config(m, e);
	if (r == 0)
		r = make_ready(m, e);
	if (r == 0)
		r = state_write(m->h.dir, &m->h.state, e);
	if (r == 0)
		r = make_cgroup(m, e);
	if (r == 0)
		r = start_process(m, e);
	if (r == 0 && m->c->pid_file)
		r = pid_file_write(m->c->pid_file, m->h.state.pid, e);
	return r == 0 ? state_commit(m->h.root, m->h.state.id, e) : r;
}

int container_create(const struct container_runtime *rt, const struct container_create *c,
		     struct err *e)
{
	struct making m;
	int r;

	open_making(&m, rt, c, false);
	r = make(&m, e);
	if (r < 0)
		undo(&m);
	close_making(&m);
	return r;
}

/* Its terminal is ours. */
static int be_console(struct making *m, struct err *e)
{
	autoclose int master = -1, pidfd = -1;
	int r;

	if (m->relay[0] < 0)
		return 0;
	r = sync_receive_fd(m->relay[0], &master);
	if (r < 0)
		return err_set(e, r, "the terminal");
	pidfd = proc_open(m->h.state.pid, m->h.state.start_time);
	return terminal_relay(master, pidfd, e);
}

static int go(struct making *m, int *status, struct err *e)
{
	struct state *s = &m->h.state;
	autofree char *state = NULL;
	int r;

	/* From its first moment on its signals are ours to hand on. */
	if (!m->c->detach)
		hold_signals();
	r = sync_send(m->socks[0], SYNC_GO, 0, NULL);
	if (r == 0)
		r = follow_exec(m->socks[0], &m->spec.seccomp, s, s->pid, &m->spec, e);
	if (r < 0)
		return r;
	state = hook_state(s, STATE_RUNNING, &m->spec);
	r = hooks_run(&m->spec, SPEC_HOOK_POSTSTART, state, NULL, e);
	if (r < 0 || m->c->detach)
		return r;
	state_unlock(m->h.dir);
	r = be_console(m, e);
	return r < 0 ? r : wait_forwarding(s->pid, status, e);
}

int container_run(const struct container_runtime *rt, const struct container_create *c, int *status,
		  struct err *e)
{
	struct making m;
	struct err ignored;
	int r;

	open_making(&m, rt, c, true);
	r = make(&m, e);
	if (r == 0)
		r = go(&m, status, e);
	if (r < 0) {
		undo(&m);
	} else if (!c->detach && !c->keep && state_lock(m.h.dir) == 0) {
		autofree char *state = hook_state(&m.h.state, STATE_STOPPED, &m.spec);

		r = handle_destroy(&m.h, e);
		(void)!hooks_run(&m.spec, SPEC_HOOK_POSTSTOP, state, NULL, &ignored);
		if (r == 0)
			r = state_remove(m.h.root, m.h.state.id, m.h.dir, e);
	}
	close_making(&m);
	return r;
}
