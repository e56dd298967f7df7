/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container/process.c - from a prepared process inside the namespaces to the user's program
 */
#include "container/process.h"

#include "base/log.h"
#include "container/caps.h"
#include "container/lsm.h"
#include "container/path.h"
#include "container/proc.h"
#include "container/sync.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

int process_favour(const struct spec_process *p, pid_t pid, int proc, struct err *e)
{
	if (p->oom_score_adj.set) {
		autofree char *path = xasprintf("%d/oom_score_adj", pid),
			      *text = xasprintf("%d", (int)p->oom_score_adj.v);
		int r = path_write_in_proc(proc, path, text);

		if (r < 0)
			return err_set(e, r, "oomScoreAdj = %s", text);
	}
	for (size_t i = 0; i < p->n_rlimits; i++) {
		const struct spec_rlimit *l = &p->rlimits[i];
		struct rlimit64 now;

		if (prlimit64(pid, (enum __rlimit_resource)l->resource, NULL, &now) < 0 ||
		    l->value.rlim_max <= now.rlim_max)
			continue;
		now.rlim_max = l->value.rlim_max;
		/* Where it is refused the process's own try tells so. */
		prlimit64(pid, (enum __rlimit_resource)l->resource, &now, NULL);
	}
	return 0;
}

/* --- prepare --- */

/* mkdir -p of the working directory, as images expect; then into it. */
static int enter_cwd(const char *cwd, bool *inside, struct err *e)
{
	autoclose int root = -1, fd = -1;

	*inside = true;
	if (chdir(cwd) == 0)
		return 0;
	if (errno == ENOENT) {
		root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
		fd = root < 0 ? -errno : path_make(root, cwd, PATH_DIR);
		if (fd < 0)
			return err_set(e, fd, "make the working directory %s", cwd);
		if (fchdir(fd) == 0)
			return 0;
	}
	/* The user may have rights that root has not (a mount of the user's). */
	*inside = false;
	return errno == EACCES ? 0 : err_set(e, -errno, "working directory %s", cwd);
}

/* A descriptor of the host that was left open would be a way there: /proc/self/fd/7 as a working
 * directory (CVE-2024-21626).  The kernel says whether "." is below "/". */
static int check_cwd(struct err *e)
{
	char path[PATH_MAX];

	if (syscall(SYS_getcwd, path, sizeof(path)) < 0)
		return errno == ENOENT ? 0 : err_set(e, -errno, "working directory");
	if (path[0] != '/')
		return err_msg(e, -EPERM, "the working directory is outside the container");
	return 0;
}

static const char *env_get(char *const *env, const char *name)
{
	size_t len = strlen(name);

	for (; *env; env++)
		if (strncmp(*env, name, len) == 0 && (*env)[len] == '=')
			return *env + len + 1;
	return NULL;
}

/* Sixth field of the user's line in /etc/passwd. */
static char *home_of(uint32_t uid)
{
	int fd = open("/etc/passwd", O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	char *home = NULL, line[4096];
	struct stat st;
	FILE *f;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || !(f = fdopen(fd, "r"))) {
		close_p(&fd);
		return xstrdup("/");
	}
	while (!home && fgets(line, sizeof(line), f)) {
		char *field[7], *p = line;
		unsigned int n = 0;

		while (n < ARRAY_SIZE(field) && (field[n] = strsep(&p, ":\n")))
			n++;
		if (n >= 6 && field[2][0] && strtoul(field[2], NULL, 10) == uid && field[5][0])
			home = xstrdup(field[5]);
	}
	fclose(f);
	return home ? home : xstrdup("/");
}

static void make_env(struct process *p, const char *const *more)
{
	const struct spec_process *s = p->spec;
	size_t n = 0, n_more = 0;

	while (more && more[n_more])
		n_more++;
	p->env = xnew_n(char *, s->env.n + n_more + 2);
	for (size_t i = 0; i < s->env.n; i++)
		p->env[n++] = xstrdup(s->env.v[i]);
	for (size_t i = 0; i < n_more; i++)
		p->env[n++] = xstrdup(more[i]);
	if (!env_get(p->env, "HOME")) {
		autofree char *home = home_of(s->uid);

		p->env[n++] = xasprintf("HOME=%s", home);
	}
}

static int try_program(const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return -errno;
	if (S_ISDIR(st.st_mode))
		return -EISDIR;
	return st.st_mode & 0111 ? 0 : -EACCES;
}

/* As execvp would, but before anybody waits for us. */
static int find_program(struct process *p, struct err *e)
{
	const char *name = p->spec->args.v[0], *dirs = env_get(p->env, "PATH");
	int result = -ENOENT;

	if (strchr(name, '/')) {
		result = try_program(name);
		if (result < 0)
			return err_set(e, result, "exec %s", name);
		p->path = xstrdup(name);
		return 0;
	}
	if (!dirs)
		dirs = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
	for (; *dirs; dirs += *dirs == ':') {
		size_t len = strcspn(dirs, ":");
		autofree char *path =
		    xasprintf("%.*s/%s", len ? (int)len : 1, len ? dirs : ".", name);
		int r = try_program(path);

		dirs += len;
		if (r == 0) {
			p->path = steal_ptr(&path);
			return 0;
		}
		if (r == -EACCES)
			result = r;
	}
	if (result == -ENOENT)
		return err_msg(e, result, "exec %s: executable file not found in $PATH", name);
	return err_set(e, result, "exec %s", name);
}

/* So that the user can open /dev/stdout again.  Pipes and files only: a null device is shared. */
static void own_streams(const struct spec_process *p)
{
	for (int fd = 0; fd < 3; fd++) {
		struct stat st;

		if (fstat(fd, &st) < 0 || st.st_uid == p->uid ||
		    (S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3)))
			continue;
		if (fchown(fd, p->uid, (gid_t)-1) < 0)
			log_debug("owner of descriptor %d: %s", fd, strerror(errno));
	}
}

int process_prepare(struct process *p, const char *const *more, struct err *e)
{
	int r = enter_cwd(p->spec->cwd, &p->in_cwd, e);

	if (r == 0)
		r = check_cwd(e);
	if (r < 0)
		return r;
	make_env(p, more);
	r = find_program(p, e);
	if (r == 0)
		own_streams(p->spec);
	return r;
}

/* --- the last steps --- */

static int set_scheduler(const struct spec_scheduler *s, struct err *e)
{
	struct {
		uint32_t size, policy;
		uint64_t flags;
		int32_t nice;
		uint32_t priority;
		uint64_t runtime, deadline, period;
	} attr = {
	    .size = sizeof(attr),
	    .policy = s->policy,
	    .flags = s->flags,
	    .nice = s->nice,
	    .priority = s->priority,
	    .runtime = s->runtime,
	    .deadline = s->deadline,
	    .period = s->period,
	};

	if (!s->set)
		return 0;
	return syscall(SYS_sched_setattr, 0, &attr, 0) < 0 ? err_set(e, -errno, "scheduler") : 0;
}

static int set_limits(const struct spec_process *p, struct err *e)
{
	int r = set_scheduler(&p->scheduler, e);

	if (r < 0)
		return r;
	if (p->io_priority.set &&
	    syscall(SYS_ioprio_set, 1 /* IOPRIO_WHO_PROCESS */, 0, (int)p->io_priority.v) < 0)
		return err_set(e, -errno, "ioPriority");
	for (size_t i = 0; i < p->n_rlimits; i++)
		if (setrlimit64((enum __rlimit_resource)p->rlimits[i].resource,
				&p->rlimits[i].value) < 0)
			return err_set(e, -errno, "rlimits[%zu]: soft %llu, hard %llu", i,
				       (unsigned long long)p->rlimits[i].value.rlim_cur,
				       (unsigned long long)p->rlimits[i].value.rlim_max);
	return 0;
}

static int load_filter(struct process *p, int conn, struct err *e)
{
	int listener, r;

	if (!p->seccomp || !p->seccomp->set)
		return 0;
	r = seccomp_install(p->seccomp_fd, p->seccomp_flags, &listener, e);
	if (r < 0 || listener < 0)
		return r;
	r = sync_send(conn, SYNC_LISTENER, listener, NULL);
	if (r < 0)
		return err_set(e, r, "hand over the seccomp listener");
	r = sync_expect(conn, SYNC_GO, NULL, e);
	close(listener);
	return r;
}

static int become_user(const struct spec_process *p, struct err *e)
{
	int r = caps_bound(&p->caps, e);

	if (r == 0)
		r = caps_keep(e);
	if (r < 0)
		return r;
	if (setgroups(p->n_groups, p->groups) < 0 && (p->n_groups || errno != EPERM))
		return err_set(e, -errno, "additional groups");
	if (setresgid(p->gid, p->gid, p->gid) < 0)
		return err_set(e, -errno, "group %u", p->gid);
	if (setresuid(p->uid, p->uid, p->uid) < 0)
		return err_set(e, -errno, "user %u", p->uid);
	if (p->umask.set)
		umask((mode_t)p->umask.v);
	return caps_apply(&p->caps, e);
}

int process_exec(struct process *p, int conn, struct err *e)
{
	const struct spec_process *s = p->spec;
	int r = lsm_apply(s, p->proc, e);

	if (r == 0)
		r = set_limits(s, e);
	/* Loading a filter needs one of the two: privilege, or the promise not to gain any. */
	if (r == 0 && !s->no_new_privileges)
		r = load_filter(p, conn, e);
	if (r == 0)
		r = become_user(s, e);
	if (r < 0)
		return r;
	if (!p->in_cwd) {
		if (chdir(s->cwd) < 0)
			return err_set(e, -errno, "working directory %s", s->cwd);
		r = check_cwd(e);
	}
	if (r == 0 && s->no_new_privileges) {
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
			return err_set(e, -errno, "no_new_privs");
		r = load_filter(p, conn, e);
	}
	if (r < 0)
		return r;
	execve(p->path, (char **)s->args.v, p->env);
	return err_set(e, -errno, "exec %s", p->path);
}
