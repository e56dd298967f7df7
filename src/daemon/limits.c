/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daemon/limits.c - what a machine may take of the host: a control group for its process
 *
 * Only a machine with limits has one, insula-vm.UUID, and every container; it goes with the
 * machine's run directory.
 */
#include "daemon/daemon_priv.h"

#include "base/dirs.h"
#include "base/log.h"
#include "container/cgroup.h"

#include <errno.h>

#define PERIOD_US      100000
#define DEFAULT_SHARES 1024 /* version 1's; a weight of 100 */

static int open_group(const char *uuid, struct cgroup *ret, struct err *e)
{
	autofree char *path = xasprintf("/" LIMITS_GROUP, uuid);
	int r = cgroup_init(ret, e);

	if (r == 0)
		r = cgroup_place(ret, path, uuid, e);
	if (r < 0)
		cgroup_fini(ret);
	return r;
}

/* @reset: what is not limited is put back to no limit. */
static void to_resources(const struct machine_limits *l, bool reset, struct spec_resources *r)
{
	if (l->cpu_percent || reset) {
		r->cpu.period.set = r->cpu.quota.set = true;
		r->cpu.period.v = PERIOD_US;
		r->cpu.quota.v = l->cpu_percent ? l->cpu_percent * PERIOD_US / 100 : -1;
	}
	if (l->cpu_weight || reset) {
		r->cpu.shares.set = true;
		r->cpu.shares.v =
		    l->cpu_weight ? MAX((uint64_t)l->cpu_weight * DEFAULT_SHARES / 100, UINT64_C(2))
				  : DEFAULT_SHARES;
	}
	if (l->memory || reset) {
		r->memory.limit.set = true;
		r->memory.limit.v = l->memory ? (int64_t)l->memory : -1;
	}
}

static bool has_limits(const struct machine_limits *l)
{
	return l->cpu_percent || l->cpu_weight || l->memory;
}

int limits_apply(const char *uuid, const struct machine_limits *l, pid_t pid, bool changed,
		 struct err *e)
{
	static const char *const controllers[] = {"cpu", "memory", NULL};
	struct spec_resources resources = {0};
	struct cgroup c;
	int r;

	if (!has_limits(l) && !changed)
		return 0;
	r = open_group(uuid, &c, e);
	if (r < 0)
		return r;
	cgroup_restrict(&c, controllers);
	to_resources(l, changed, &resources);
	if (!c.n_trees)
		r = err_msg(e, -ENOTSUP, "this host has no control groups");
	if (r == 0)
		r = cgroup_make(&c, false, e);
	if (r == 0)
		r = cgroup_apply(&c, &resources, e);
	if (r == 0)
		r = cgroup_attach(&c, pid, e);
	cgroup_fini(&c);
	return r < 0 ? err_wrap(e, r, "limits") : 0;
}

void limits_remove(const char *uuid)
{
	struct cgroup c;
	struct err e = {0};

	if (open_group(uuid, &c, &e) < 0)
		return;
	/* A container's outlives a monitor that was killed by moments. */
	if (cgroup_destroy(&c, &e) < 0)
		log_debug("%s", e.msg);
	cgroup_fini(&c);
}

void run_dir_remove(struct daemon *d, const char *uuid)
{
	autofree char *run = path_run(d, uuid, NULL);

	limits_remove(uuid);
	dirs_remove(run);
}
