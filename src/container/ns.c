/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container/ns.c - the namespaces of a container
 */
#include "container/ns.h"

#include "container/path.h"
#include "container/proc.h"
#include "container/sync.h"
#include "container/userns.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/magic.h>
#include <linux/nsfs.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

const char *const ns_files[SPEC_NS_COUNT] = {"user", "pid",    "net",  "ipc",
					     "uts",  "cgroup", "time", "mnt"};
const int ns_flags[SPEC_NS_COUNT] = {CLONE_NEWUSER, CLONE_NEWPID,    CLONE_NEWNET,  CLONE_NEWIPC,
				     CLONE_NEWUTS,  CLONE_NEWCGROUP, CLONE_NEWTIME, CLONE_NEWNS};

static int open_ns(unsigned int type, const char *path, struct err *e)
{
	autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct statfs fs;

	if (fd < 0)
		return err_set(e, -errno, "namespace %s", path);
	if (fstatfs(fd, &fs) < 0 || fs.f_type != NSFS_MAGIC ||
	    ioctl(fd, NS_GET_NSTYPE) != ns_flags[type])
		return err_msg(e, -EINVAL, "%s is no %s namespace", path, ns_files[type]);
	return steal_fd(&fd);
}

void ns_forget_own(struct spec *s)
{
	for (unsigned int i = 0; i < SPEC_NS_COUNT; i++) {
		char own[64];
		struct stat a, b;

		snprintf(own, sizeof(own), "/proc/self/ns/%s", ns_files[i]);
		if (s->ns[i].wanted && s->ns[i].path && stat(own, &a) == 0 &&
		    stat(s->ns[i].path, &b) == 0 && a.st_ino == b.st_ino && a.st_dev == b.st_dev)
			s->ns[i] = (struct spec_ns_entry){0};
	}
}

int ns_plan_init(struct ns_plan *p, const struct spec *s, struct err *e)
{
	bool joins = false;

	*p = (struct ns_plan){.spec = s};
	for (unsigned int i = 0; i < SPEC_NS_COUNT; i++)
		p->join[i] = -1;
	for (unsigned int i = 0; i < SPEC_NS_COUNT; i++) {
		if (!s->ns[i].wanted)
			continue;
		if (!s->ns[i].path) {
			p->create |= (unsigned int)ns_flags[i];
			continue;
		}
		p->join[i] = open_ns(i, s->ns[i].path, e);
		if (p->join[i] < 0)
			return p->join[i];
		joins = true;
	}
	/* Only inside its control group, later (container/init.c). */
	p->create &= ~(unsigned int)CLONE_NEWCGROUP;
	p->staged = p->join[SPEC_NS_USER] >= 0 || p->join[SPEC_NS_PID] >= 0 ||
		    p->join[SPEC_NS_TIME] >= 0 || (p->create & CLONE_NEWTIME) ||
		    ((p->create & CLONE_NEWUSER) && joins);
	return 0;
}

void ns_plan_fini(struct ns_plan *p)
{
	for (unsigned int i = 0; i < SPEC_NS_COUNT; i++) {
		close_p(&p->join[i]);
		p->join[i] = -1;
	}
}

void ns_die(int sync, const struct err *e)
{
	(void)!sync_send(sync, SYNC_ERROR, e->code, e->msg);
	_exit(1);
}

pid_t ns_clone(unsigned int flags, int cgroup)
{
	struct clone_args a = {.flags = flags, .exit_signal = SIGCHLD};

	if (cgroup >= 0) {
		a.flags |= CLONE_INTO_CGROUP;
		a.cgroup = (uint64_t)cgroup;
	}

	/* With CLONE_PARENT it is the parent's own signal. */
	if (flags & CLONE_PARENT)
		a.exit_signal = 0;
	return (pid_t)syscall(SYS_clone3, &a, sizeof(a));
}

static int become_root(struct err *e)
{
	/* Refused where setgroups is denied; then there are none to drop. */
	if (setgroups(0, NULL) < 0 && errno != EPERM)
		return err_set(e, -errno, "drop groups");
	if (setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0)
		return err_set(e, -errno, "become root of the user namespace");
	return 0;
}

/* All that are not joined yet; with @maybe those that we may not join stay for later. */
static int join_all(struct ns_plan *p, bool maybe, struct err *e)
{
	for (unsigned int i = 0; i < SPEC_NS_COUNT; i++) {
		if (p->join[i] < 0 || i == SPEC_NS_USER)
			continue;
		if (setns(p->join[i], ns_flags[i]) < 0) {
			if (maybe && errno == EPERM)
				continue;
			return err_set(e, -errno, "join %s namespace %s", ns_files[i],
				       p->spec->ns[i].path);
		}
		close(p->join[i]);
		p->join[i] = -1;
	}
	return 0;
}

/* "monotonic 3 0", until the first process is in there. */
static int set_clocks(const struct spec *s, pid_t pid, int proc, struct err *e)
{
	autofree char *path = xasprintf("%d/timens_offsets", pid);

	for (size_t i = 0; i < s->time_offsets.n; i++) {
		autofree char *line =
		    xasprintf("%s %s", s->time_offsets.v[i].key, s->time_offsets.v[i].value);
		int r = path_write_in_proc(proc, path, line);

		if (r < 0)
			return err_set(e, r, "offset of clock %s", s->time_offsets.v[i].key);
	}
	return 0;
}

/* The runtime does for us what takes the host's rights. */
static int ask(int sync, enum sync_type what, struct err *e)
{
	int r = sync_send(sync, what, 0, NULL);

	return r < 0 ? err_set(e, r, "the runtime ended") : sync_expect(sync, SYNC_GO, NULL, e);
}

static int stage_user(struct ns_plan *p, int sync, struct err *e)
{
	int r;

	if (p->join[SPEC_NS_USER] >= 0) {
		/* What is in there may look at us from now on: there shall be nothing to see. */
		if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
			return err_set(e, -errno, "hide");
		if (setns(p->join[SPEC_NS_USER], CLONE_NEWUSER) < 0)
			return err_set(e, -errno, "join user namespace %s",
				       p->spec->ns[SPEC_NS_USER].path);
		return become_root(e);
	}
	if (!(p->create & CLONE_NEWUSER))
		return 0;
	if (unshare(CLONE_NEWUSER) < 0)
		return err_set(e, -errno, "make a user namespace");
	r = ask(sync, SYNC_MAPS, e);
	return r < 0 ? r : become_root(e);
}

static void stage(struct ns_plan *p, const struct cgroup *c, int sync, void (*fn)(void *arg),
		  void *arg)
{
	struct err e = {0};
	pid_t pid;
	int r = cgroup_enter(c, &e);

	/* Namespaces of the host's user namespace can be joined only from there, those of the
	 * container's only from its own. */
	if (r == 0)
		r = join_all(p, true, &e);
	if (r == 0)
		r = stage_user(p, sync, &e);
	if (r == 0)
		r = join_all(p, false, &e);
	if (r == 0 && (p->create & CLONE_NEWTIME)) {
		if (unshare(CLONE_NEWTIME) < 0)
			r = err_set(&e, -errno, "make a time namespace");
		else
			r = ask(sync, SYNC_CLOCKS, &e);
	}
	if (r < 0)
		ns_die(sync, &e);
	pid = ns_clone((p->create & ~(unsigned int)(CLONE_NEWUSER | CLONE_NEWTIME)) | CLONE_PARENT,
		       -1);
	if (pid == 0) {
		fn(arg);
		_exit(1);
	}
	if (pid < 0) {
		err_set(&e, -errno, "make namespaces");
		ns_die(sync, &e);
	}
	(void)!sync_send(sync, SYNC_PID, pid, NULL);
	_exit(0);
}

static int follow_stage(const struct ns_plan *p, int sync, int proc, pid_t stage_pid, pid_t *ret,
			struct err *e)
{
	const struct spec *s = p->spec;
	int32_t pid = 0;
	int r = 0, status;

	if (p->create & CLONE_NEWUSER) {
		r = sync_expect(sync, SYNC_MAPS, NULL, e);
		if (r == 0)
			r = userns_map(stage_pid, proc, &s->uids, &s->gids, e);
		if (r == 0)
			r = sync_send(sync, SYNC_GO, 0, NULL);
	}
	if (r == 0 && (p->create & CLONE_NEWTIME)) {
		r = sync_expect(sync, SYNC_CLOCKS, NULL, e);
		if (r == 0)
			r = set_clocks(s, stage_pid, proc, e);
		if (r == 0)
			r = sync_send(sync, SYNC_GO, 0, NULL);
	}
	if (r == 0)
		r = sync_expect(sync, SYNC_PID, &pid, e);
	if (r < 0)
		kill(stage_pid, SIGKILL);
	if (proc_wait(stage_pid, &status) < 0 && r == 0)
		r = err_msg(e, -ECHILD, "the process in between is lost");
	if (r == 0)
		*ret = pid;
	return r;
}

static void child(struct ns_plan *p, const struct cgroup *c, int sync, void (*fn)(void *arg),
		  void *arg)
{
	struct err e = {0};
	int r;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	r = cgroup_enter(c, &e);
	if (r == 0 && (p->create & CLONE_NEWUSER)) {
		r = sync_expect(sync, SYNC_GO, NULL, &e);
		if (r == 0)
			r = become_root(&e);
	}
	if (r == 0)
		r = join_all(p, false, &e);
	if (r < 0)
		ns_die(sync, &e);
	fn(arg);
	_exit(1);
}

int ns_start(const struct ns_plan *p, const struct cgroup *c, const int socks[2], int proc,
	     void (*fn)(void *arg), void *arg, pid_t *ret, struct err *e)
{
	struct ns_plan mine = *p; /* the child's descriptors are its own */
	const struct spec *s = p->spec;
	int r = 0, status;
	pid_t pid = ns_clone(p->staged ? 0 : p->create, cgroup_clone_fd(c));

	if (pid < 0)
		return err_set(e, -errno, "make namespaces");
	if (pid == 0) {
		close(socks[0]);
		if (p->staged)
			stage(&mine, c, socks[1], fn, arg);
		child(&mine, c, socks[1], fn, arg);
	}
	if (p->staged)
		return follow_stage(p, socks[0], proc, pid, ret, e);
	if (p->create & CLONE_NEWUSER) {
		r = userns_map(pid, proc, &s->uids, &s->gids, e);
		if (r == 0)
			r = sync_send(socks[0], SYNC_GO, 0, NULL);
	}
	if (r < 0) {
		kill(pid, SIGKILL);
		proc_wait(pid, &status);
		return r;
	}
	*ret = pid;
	return 0;
}
