/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container/ns.h - the namespaces of a container: made, or joined by path (namespaces(7))
 *
 * Usually one clone3 makes all.  Joining a user or pid namespace, setting a clock's offset, and
 * joining with a new user namespace need an order that one call has not: then a process in between
 * does it, and makes the container's process as its sibling.
 */
#pragma once

#include "container/cgroup.h"
#include "container/spec.h"

extern const char *const ns_files[SPEC_NS_COUNT]; /* in /proc/PID/ns */
extern const int ns_flags[SPEC_NS_COUNT];         /* CLONE_NEW... */

struct ns_plan {
	const struct spec *spec;
	int join[SPEC_NS_COUNT]; /* -1 = none */
	unsigned int create;     /* CLONE_NEW..., without the cgroup namespace */
	bool staged;
};

/* A namespace that is joined by path and is the one we are in already counts as not asked for: what
 * it holds is the host's, not the container's own. */
void ns_forget_own(struct spec *s);

/* Opens what is to be joined, and checks its kind.  Closed with ns_plan_fini, in every case. */
must_check int ns_plan_init(struct ns_plan *p, const struct spec *s, struct err *e);
void ns_plan_fini(struct ns_plan *p);

/*
 * Starts the process that runs @fn(@arg) in the namespaces and in control group @c (its entries are
 * open); @ret is its pid as we see it.
 * @socks: our end and its end of a pair (container/sync.h).  @proc: the host's procfs.  The
 * process is root of its user namespace.
 */
must_check int ns_start(const struct ns_plan *p, const struct cgroup *c, const int socks[2],
			int proc, void (*fn)(void *arg), void *arg, pid_t *ret, struct err *e);
/* clone3; @cgroup -1 = the caller's own. */
pid_t ns_clone(unsigned int flags, int cgroup);

/* In the container's process: errors go over @sync, and the process ends. */
void ns_die(int sync, const struct err *e) __attribute__((noreturn));
