/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container/exec.c - another process in a running container
 *
 * A process in between enters the control group, joins the namespaces of the container's first
 * process, and makes ours as its sibling.
 */
#include "container/container_priv.h"

#include "base/exit.h"
#include "container/caps.h"
#include "container/init.h"
#include "container/ns.h"
#include "container/path.h"
#include "container/proc.h"
#include "container/sync.h"
#include "container/terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

struct execing {
	const struct container_exec *x;
	struct handle h;
	struct spec spec;
	struct spec_process process; /* borrows from spec and x */
	struct spec_strings env;
	struct process p;
	int console_socket, relay[2], socks[2];
	int pidfd; /* of the container's first process */
	int root;  /* its root, where it has no mount namespace of its own; else -1 */
	int flags; /* its namespaces that are not ours */
	pid_t pid; /* of the new process */
};

/* Which of the namespaces of @pid are not our own. */
static int foreign_namespaces(pid_t pid)
{
	int flags = 0;

	for (unsigned int i = 0; i < SPEC_NS_COUNT; i++) {
		char theirs[64], ours[64];
		struct stat a, b;

		snprintf(theirs, sizeof(theirs), "/proc/%d/ns/%s", pid, ns_files[i]);
		snprintf(ours, sizeof(ours), "/proc/self/ns/%s", ns_files[i]);
		if (stat(theirs, &a) == 0 && stat(ours, &b) == 0 &&
		    (a.st_ino != b.st_ino || a.st_dev != b.st_dev))
			flags |= ns_flags[i];
	}
	return flags;
}

static void add_caps(struct spec_caps *c, const char *const *names)
{
	for (; names && *names; names++) {
		uint64_t bit = caps_parse_warn(*names);

		c->bounding |= bit;
		c->effective |= bit;
		c->permitted |= bit;
	}
}

/* The container's own process with what the caller wants otherwise. */
static void derive_process(struct execing *x)
{
	const struct container_exec *o = x->x;
	struct spec_process *p = &x->process;
	size_t n = 0;

	if (o->process) {
		*p = *o->process;
		return;
	}
	*p = x->spec.process;
	p->terminal = o->terminal;
	while (o->args && o->args[n])
		n++;
	p->args = (struct spec_strings){.v = (const char **)o->args, .n = n};
	if (o->cwd)
		p->cwd = o->cwd;
	for (n = 0; o->env && o->env[n];)
		n++;
	/* Later ones win in no defined way: ours take the place of those of the same name. */
	x->env.v = xnew_n(const char *, p->env.n + n + 1);
	for (size_t i = 0; i < p->env.n; i++) {
		size_t k = 0, len = strcspn(p->env.v[i], "=");

		while (k < n &&
		       !(strncmp(o->env[k], p->env.v[i], len) == 0 && o->env[k][len] == '='))
			k++;
		if (k == n)
			x->env.v[x->env.n++] = p->env.v[i];
	}
	for (size_t i = 0; i < n; i++)
		x->env.v[x->env.n++] = o->env[i];
	p->env = x->env;
	if (o->has_user) {
		p->uid = o->uid;
		p->gid = o->gid;
		p->n_groups = 0;
	}
	add_caps(&p->caps, o->more_caps);
	p->no_new_privileges |= o->no_new_privileges;
	if (o->apparmor)
		p->apparmor = o->apparmor;
	if (o->selinux)
		p->selinux = o->selinux;
}

static int become_root_there(struct err *e)
{
	if (setgroups(0, NULL) < 0 && errno != EPERM)
		return err_set(e, -errno, "drop groups");
	if (setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0)
		return err_set(e, -errno, "become root of the container");
	return 0;
}

/* From the host's root the user namespace comes last, for its root may not join all of the others;
 * without root it comes first, for only its root may. */
static int join(const struct execing *x, struct err *e)
{
	int others = x->flags & ~CLONE_NEWUSER, user = x->flags & CLONE_NEWUSER;

	if (others && setns(x->pidfd, others) == 0)
		others = 0;
	else if (others && (errno != EPERM || !user))
		return err_set(e, -errno, "join the namespaces of the container");
	if (user && setns(x->pidfd, user) < 0)
		return err_set(e, -errno, "join the user namespace of the container");
	if (others && setns(x->pidfd, others) < 0)
		return err_set(e, -errno, "join the namespaces of the container");
	if (x->root >= 0 && (fchdir(x->root) < 0 || chroot(".") < 0))
		return err_set(e, -errno, "enter the root of the container");
	return user ? become_root_there(e) : 0;
}

static int take_terminal(struct execing *x, struct err *e)
{
	autoclose int root = -1, master = -1, slave = -1;
	int r;

	if (!x->process.terminal)
		return 0;
	root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return err_set(e, -errno, "open /");
	r = terminal_open(root, &x->process, &master, &slave, e);
	return r < 0 ? r : terminal_take(x->console_socket, master, slave, e);
}

static void run(struct execing *x, int sync)
{
	struct err e = {0};
	int r;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	r = sync_expect(sync, SYNC_GO, NULL, &e);
	if (r < 0)
		_exit(1);
	proc_reset_signals();
	proc_cloexec_from(3 + x->p.keep);
	r = setsid() < 0 ? err_set(&e, -errno, "session") : take_terminal(x, &e);
	if (r == 0)
		r = process_prepare(&x->p, NULL, &e);
	prctl(PR_SET_PDEATHSIG, 0);
	if (r == 0)
		r = process_exec(&x->p, sync, &e);
	ns_die(sync, &e);
}

static void stage(struct execing *x, int sync)
{
	struct err e = {0};
	pid_t pid;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* What runs in there shall not see into us (CVE-2019-5736). */
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0) {
		err_set(&e, -errno, "hide");
		ns_die(sync, &e);
	}
	if (cgroup_enter(&x->h.cgroup, &e) < 0 || join(x, &e) < 0)
		ns_die(sync, &e);
	pid = ns_clone(CLONE_PARENT, -1);
	if (pid == 0)
		run(x, sync);
	if (pid < 0) {
		err_set(&e, -errno, "fork in the container");
		ns_die(sync, &e);
	}
	(void)!sync_send(sync, SYNC_PID, pid, NULL);
	_exit(0);
}

/* The container handed its group's controllers down to groups of its own, so that no process may be
 * in it any more: where its first process is. */
static int enter_beside(struct execing *x, struct err *e)
{
	struct cgroup *c = &x->h.cgroup;
	char *path = cgroup_path_of(x->h.state.pid);

	if (!path)
		return -ESRCH;
	free(c->path);
	c->path = path;
	return cgroup_open_entries(c, NULL, e);
}

/* Of a program that is not there, or not to be executed, as shells tell it. */
static int await_exec(struct execing *x, struct err *e)
{
	int r = follow_exec(x->socks[0], &x->spec.seccomp, &x->h.state, x->pid, &x->spec, e);

	if (r == -ENOENT)
		err_exit(e, 0, EXIT_NOT_FOUND);
	else if (r == -EACCES)
		err_exit(e, 0, EXIT_NOT_EXECUTABLE);
	return r;
}

static int start_process(struct execing *x, struct err *e)
{
	int32_t pid = 0;
	int r = cgroup_open_entries(&x->h.cgroup, x->x->cgroup, e), status;
	pid_t between;

	if (r == 0)
		r = sync_pair(x->socks, e);
	if (r < 0)
		return r;
	between = ns_clone(0, cgroup_clone_fd(&x->h.cgroup));
	if (between < 0 && errno == EBUSY && enter_beside(x, e) == 0)
		between = ns_clone(0, cgroup_clone_fd(&x->h.cgroup));
	if (between == 0) {
		close(x->socks[0]);
		stage(x, x->socks[1]);
	}
	close(x->socks[1]);
	x->socks[1] = -1;
	if (between < 0)
		return err_set(e, -errno, "fork");
	if (x->p.seccomp_fd >= 0)
		r = seccomp_compile(&x->spec.seccomp, x->p.seccomp_fd, e);
	if (r == 0)
		r = sync_expect(x->socks[0], SYNC_PID, &pid, e);
	if (r < 0)
		kill(between, SIGKILL);
	(void)!proc_wait(between, &status);
	if (r < 0)
		return r;
	x->pid = pid;
	r = process_favour(&x->process, x->pid, x->p.proc, e);
	if (!x->x->detach)
		hold_signals();
	if (r == 0)
		r = sync_send(x->socks[0], SYNC_GO, 0, NULL);
	if (r == 0)
		r = await_exec(x, e);
	if (r == 0 && x->x->pid_file)
		r = pid_file_write(x->x->pid_file, x->pid, e);
	if (r < 0) {
		kill(x->pid, SIGKILL);
		(void)!proc_wait(x->pid, &status);
	}
	return r;
}

static int open_console(struct execing *x, struct err *e)
{
	if (!x->process.terminal)
		return 0;
	if (x->x->console_socket) {
		x->console_socket = terminal_connect(x->x->console_socket, e);
		return MIN(x->console_socket, 0);
	}
	if (x->x->detach)
		return err_msg(e, -EINVAL, "a terminal needs a console socket when detached");
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, x->relay) < 0)
		return err_set(e, -errno, "socket pair");
	x->console_socket = steal_fd(&x->relay[1]);
	return 0;
}

static int check_status(const struct execing *x, struct err *e)
{
	switch (x->h.status) {
	case STATE_CREATED:
	case STATE_RUNNING:
		return 0;
	case STATE_PAUSED:
		if (x->x->ignore_paused)
			return 0;
		/* fallthrough */
	default:
		return err_msg(e, -EINVAL, "container '%s' is %s, not running", x->h.state.id,
			       state_status_names[x->h.status]);
	}
}

static int make_ready(struct execing *x, struct err *e)
{
	int r = check_status(x, e);

	if (r == 0)
		r = spec_load(x->h.dir, "config.json", &x->spec, e);
	if (r < 0)
		return r;
	derive_process(x);
	x->p.spec = &x->process;
	x->p.keep = x->x->preserve_fds;
	x->p.proc = path_open_proc(e);
	if (x->p.proc < 0)
		return x->p.proc;
	if (x->spec.seccomp.set) {
		x->p.seccomp = &x->spec.seccomp;
		r = seccomp_check(&x->spec.seccomp, &x->p.seccomp_flags, e);
		if (r < 0)
			return r;
		x->p.seccomp_fd = memfd_create("seccomp", MFD_CLOEXEC);
		if (x->p.seccomp_fd < 0)
			return err_set(e, -errno, "seccomp program");
	}
	x->pidfd = proc_open(x->h.state.pid, x->h.state.start_time);
	if (x->pidfd < 0)
		return err_set(e, x->pidfd, "container '%s'", x->h.state.id);
	x->flags = foreign_namespaces(x->h.state.pid);
	if (!x->spec.ns[SPEC_NS_MOUNT].wanted || x->spec.ns[SPEC_NS_MOUNT].path) {
		autofree char *path = xasprintf("/proc/%d/root", x->h.state.pid);

		x->root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (x->root < 0)
			return err_set(e, -errno, "root of the container");
	}
	return open_console(x, e);
}

static int follow(struct execing *x, int *status, struct err *e)
{
	autoclose int master = -1, pidfd = -1;
	int r = 0;

	if (x->relay[0] >= 0) {
		r = sync_receive_fd(x->relay[0], &master);
		if (r < 0)
			return err_set(e, r, "the terminal");
		pidfd = (int)syscall(SYS_pidfd_open, x->pid, 0);
		r = terminal_relay(master, pidfd, e);
	}
	return r < 0 ? r : wait_forwarding(x->pid, status, e);
}

int container_exec(const struct container_runtime *rt, const struct container_exec *o, int *status,
		   struct err *e)
{
	struct execing x = {.x = o,
			    .p = {.seccomp_fd = -1, .proc = -1},
			    .console_socket = -1,
			    .relay = {-1, -1},
			    .socks = {-1, -1},
			    .pidfd = -1,
			    .root = -1};
	int r;

	if (!proc_are_open(o->preserve_fds))
		return err_msg(e, -EINVAL, "%u descriptors are to be kept, but are not open",
			       o->preserve_fds);
	r = handle_open(rt, o->id, false, &x.h, e);
	if (r == 0)
		r = make_ready(&x, e);
	if (r == 0)
		r = start_process(&x, e);
	if (r == 0 && !o->detach)
		r = follow(&x, status, e);
	close_p(&x.p.seccomp_fd);
	close_p(&x.p.proc);
	close_p(&x.console_socket);
	close_p(&x.relay[0]);
	close_p(&x.relay[1]);
	close_p(&x.socks[0]);
	close_p(&x.pidfd);
	close_p(&x.root);
	free(x.env.v);
	spec_fini(&x.spec);
	handle_close(&x.h);
	return r;
}
