/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container/cgroup.h - the control group of one container (cgroups(7))
 *
 * Version 1 has a tree for each set of controllers, and the container has a directory of the same
 * path in each; version 2 has one tree.  Where a host has both (hybrid), the controllers of version
 * 1 are used.  All access is below descriptors of the trees' roots.
 */
#pragma once

#include "base/strbuf.h"
#include "container/spec.h"

#define CGROUP_MOUNT_POINT "/sys/fs/cgroup"
#define CGROUP_MAX_TREES   16

struct cgroup_tree {
	char *controllers; /* "cpu,cpuacct", "name=systemd"; "" of version 2 */
	char *name;        /* of its directory in /sys/fs/cgroup; "" of version 2 */
	int root;          /* O_PATH */
	int entry;         /* what cgroup_enter writes to, -1 = closed */
	bool absent;       /* we may not make ours in it (rootless) */
};

struct cgroup {
	bool v2;
	char *path; /* from a tree's root, "/a/b"; NULL = none */
	char *unit; /* systemd's scope that it belongs to; NULL = ours */
	struct cgroup_tree trees[CGROUP_MAX_TREES];
	size_t n_trees;
};

/* What the host has.  A host without control groups gives a cgroup without trees. */
must_check int cgroup_init(struct cgroup *c, struct err *e);
void cgroup_fini(struct cgroup *c);

/* Sets the path: as the configuration says, or of our own choice for container @id. */
must_check int cgroup_place(struct cgroup *c, const char *wanted, const char *id, struct err *e);
/* -EBUSY when there are processes in it: they are not ours, and would be killed with ours.  Before
 * anything remembers the path. */
must_check int cgroup_check_unused(const struct cgroup *c, struct err *e);
/* Makes it.  With @lenient, trees that may not be written are left out. */
must_check int cgroup_make(struct cgroup *c, bool lenient, struct err *e);
/*
 * The calling process, and so every one that it makes, goes into it - or into a group below it
 * (@below "a/b"; NULL = itself).  cgroup_open_entries opens the doors while we may; entering takes
 * nothing but them.
 *
 * A process moves itself: moving another makes the kernel wait for a grace period of RCU (8 ms
 * here), for it might fork or exec meanwhile.
 */
must_check int cgroup_open_entries(struct cgroup *c, const char *below, struct err *e);
must_check int cgroup_enter(const struct cgroup *c, struct err *e);
/* Another process, with all its threads. */
must_check int cgroup_attach(const struct cgroup *c, pid_t pid, struct err *e);
/* Of the host's trees only those that control one of @controllers (ends with NULL) are used. */
void cgroup_restrict(struct cgroup *c, const char *const *controllers);
/* Version 2 has a better way, clone3 with CLONE_INTO_CGROUP: the directory for it, else -1. */
int cgroup_clone_fd(const struct cgroup *c);
/* Where @pid is, in systemd's tree or the one of version 2; to be freed, NULL when it is gone. */
char *cgroup_path_of(pid_t pid);
/* Limits; those that are not given stay.  A limit whose controller is absent is an error. */
must_check int cgroup_apply(const struct cgroup *c, const struct spec_resources *r, struct err *e);
/* The devices that every container may use are added to the rules; call before a process that is
 * not ours is attached. */
must_check int cgroup_apply_devices(const struct cgroup *c, const struct spec_resources *r,
				    struct err *e);

must_check int cgroup_freeze(const struct cgroup *c, bool on, struct err *e);
bool cgroup_is_frozen(const struct cgroup *c);
/* Every process in it and below; @ret is an array to be freed. */
must_check int cgroup_pids(const struct cgroup *c, pid_t **ret, size_t *n, struct err *e);
/* Sends @signal to all of them, those that fork meanwhile too. */
must_check int cgroup_signal(const struct cgroup *c, int signal, struct err *e);
/* With all groups below; waits a little for the dying.  One that is gone is fine. */
must_check int cgroup_remove(const struct cgroup *c, struct err *e);
/* Ends everything in it, frozen or not, and removes it. */
must_check int cgroup_destroy(const struct cgroup *c, struct err *e);
/* Appends a JSON object of usage. */
void cgroup_stats(const struct cgroup *c, struct strbuf *out);

/* Through systemd (busctl): a transient scope with @pid in it; sets path and unit. */
must_check int cgroup_start_scope(struct cgroup *c, const char *wanted, const char *id, pid_t pid,
				  const struct spec_resources *r, struct err *e);
