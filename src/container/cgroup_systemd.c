/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container/cgroup_systemd.c - a control group that systemd owns: a transient scope
 *
 * Where systemd manages the tree, nobody else may make groups in it.  We ask it for a scope with
 * our process in it, by busctl, which is there wherever systemd is; the limits that are known only
 * to the kernel's files are written afterwards, which a delegated scope allows.
 */
#include "container/cgroup_priv.h"

#include "container/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

struct words {
	char *v[96];
	size_t n;
};

static void add(struct words *w, const char *fmt, ...) printf_like(2, 3);

static void add(struct words *w, const char *fmt, ...)
{
	va_list ap;

	if (w->n + 1 >= ARRAY_SIZE(w->v))
		abort(); /* there are fewer properties than room */
	va_start(ap, fmt);
	if (vasprintf(&w->v[w->n++], fmt, ap) < 0)
		abort();
	va_end(ap);
}

static void add_u64(struct words *w, const char *name, uint64_t v)
{
	add(w, "%s", name);
	add(w, "t");
	add(w, "%" PRIu64, v);
}

/* "slice:prefix:name"; the slice may be empty, and without colons it is all a name. */
static int split(const char *wanted, const char *id, char **slice, char **unit, struct err *e)
{
	const char *first = wanted ? strchr(wanted, ':') : NULL;
	const char *second = first ? strchr(first + 1, ':') : NULL;

	if (wanted && !second)
		return err_msg(e, -EINVAL,
			       "linux.cgroupsPath: '%s' is not slice:prefix:name, as systemd's "
			       "control groups need it",
			       wanted);
	if (!wanted) {
		*slice = xstrdup("");
		*unit = xasprintf("insula-oci-%s.scope", id);
		return 0;
	}
	*slice = xasprintf("%.*s", (int)(first - wanted), wanted);
	if (strlen(second + 1) > 6 && strcmp(second + strlen(second) - 6, ".slice") == 0)
		*unit = xstrdup(second + 1);
	else
		*unit = xasprintf("%.*s%s%s.scope", (int)(second - first - 1), first + 1,
				  second > first + 1 ? "-" : "", second + 1);
	return 0;
}

/* Those that systemd would otherwise set back at its next reload. */
static size_t add_limits(struct words *w, bool v2, const struct spec_resources *r)
{
	size_t n = 0;

	if (r->memory.limit.set && r->memory.limit.v) {
		add_u64(w, v2 ? "MemoryMax" : "MemoryLimit",
			r->memory.limit.v < 0 ? UINT64_MAX : (uint64_t)r->memory.limit.v);
		n++;
	}
	if (r->pids.set) {
		add_u64(w, "TasksMax", r->pids.v <= 0 ? UINT64_MAX : (uint64_t)r->pids.v);
		n++;
	}
	if (!v2 && r->cpu.shares.set && r->cpu.shares.v) {
		add_u64(w, "CPUShares", r->cpu.shares.v);
		n++;
	}
	if (r->cpu.quota.set && r->cpu.quota.v > 0) {
		uint64_t period = r->cpu.period.set && r->cpu.period.v ? r->cpu.period.v : 100000;

		add_u64(w, "CPUQuotaPerSecUSec", (uint64_t)r->cpu.quota.v * 1000000 / period);
		n++;
	}
	return n;
}

static int call(struct words *w, struct err *e)
{
	int status = 0, r;
	pid_t pid = fork();

	if (pid == 0) {
		proc_reset_signals();
		proc_cloexec_from(3);
		dup2(STDERR_FILENO, STDOUT_FILENO);
		execvp(w->v[0], w->v);
		_exit(127);
	}
	r = pid < 0 ? -errno : proc_wait(pid, &status);
	if (r < 0)
		return err_set(e, r, "run busctl");
	if (status)
		return err_msg(e, -EIO, "systemd refused the scope (busctl: exit status %d)",
			       proc_exit_status(status));
	return 0;
}

static bool ends_with(const char *s, const char *end)
{
	size_t a = strlen(s), b = strlen(end);

	return a >= b && strcmp(s + a - b, end) == 0;
}

int cgroup_start_scope(struct cgroup *c, const char *wanted, const char *id, pid_t pid,
		       const struct spec_resources *res, struct err *e)
{
	const struct timespec pause = {.tv_nsec = 5000000};
	autofree char *slice = NULL, *unit = NULL;
	struct words w = {.n = 0}, limits = {.n = 0};
	size_t n_limits;
	int r = split(wanted, id, &slice, &unit, e);

	if (r < 0)
		return r;
	n_limits = add_limits(&limits, c->v2, res);
	add(&w, "busctl");
	if (geteuid() != 0)
		add(&w, "--user");
	add(&w, "call");
	add(&w, "org.freedesktop.systemd1");
	add(&w, "/org/freedesktop/systemd1");
	add(&w, "org.freedesktop.systemd1.Manager");
	add(&w, "StartTransientUnit");
	add(&w, "ssa(sv)a(sa(sv))");
	add(&w, "%s", unit);
	add(&w, "replace");
	add(&w, "%zu", 4 + (slice[0] ? 1 : 0) + n_limits);
	add(&w, "PIDs");
	add(&w, "au");
	add(&w, "1");
	add(&w, "%d", pid);
	add(&w, "Delegate");
	add(&w, "b");
	add(&w, "true");
	add(&w, "DefaultDependencies");
	add(&w, "b");
	add(&w, "false");
	add(&w, "Description");
	add(&w, "s");
	add(&w, "insula container %s", id);
	if (slice[0]) {
		add(&w, "Slice");
		add(&w, "s");
		add(&w, "%s", slice);
	}
	for (size_t i = 0; i < limits.n; i++)
		add(&w, "%s", limits.v[i]);
	add(&w, "0");
	r = call(&w, e);
	/* The call returns when the job is queued. */
	for (unsigned int i = 0; r == 0 && i < 2000; i++) {
		free(c->path);
		c->path = cgroup_path_of(pid);
		if (c->path && ends_with(c->path, unit))
			break;
		nanosleep(&pause, NULL);
	}
	if (r == 0 && !(c->path && ends_with(c->path, unit)))
		r = err_msg(e, -ETIMEDOUT, "systemd did not start %s", unit);
	if (r == 0)
		c->unit = steal_ptr(&unit);
	for (size_t i = 0; i < w.n; i++)
		free(w.v[i]);
	for (size_t i = 0; i < limits.n; i++)
		free(limits.v[i]);
	return r;
}
