/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oci/runner_parts.h - the parts of running a container: of runner.c, and of insula-monitor
 */
#pragma once

#include "oci/runner.h"

#include <jansson.h>
#include <signal.h>

/* Writes DIR/config.json for the root file system DIR/rootfs, and the files that are bound into
 * it. */
must_check int bundle_write(const char *dir, const char *cgroup, const struct image_config *image,
			    const struct container_options *o, struct err *e);

/* Another process for that container, as `insula-oci exec --process` reads it; once the root file
 * system is mounted. */
must_check int bundle_process(const char *dir, const struct image_config *image,
			      const struct container_options *o, json_t **ret, struct err *e);
/* The limits alone, as `insula-oci update` reads them. */
json_t *bundle_limits(const struct container_options *o);
/* Root's shell as the image has it; to be freed. */
char *bundle_shell(const char *dir);

/* The control group of the container in @dir, absolute; its name tells this cache's from others'.
 */
char *cgroup_path(const struct oci_store *s, const char *dir);
/* Removes control groups of containers that were killed with all that looked after them. */
void cgroup_sweep(const struct oci_store *s);

struct root_layers {
	char **v; /* directories, the lowest first */
	size_t n;
	const char *unpacker; /* insula-unpack */
};
/* Mounts them with a writable one at DIR/rootfs, and makes @dir the working directory: by
 * overlayfs, fuse-overlayfs, or a copy.  What is written stays in DIR/upper and DIR/work, which may
 * be links. */
must_check int layers_mount(const struct root_layers *l, const char *dir, struct err *e);
/* Runs a program to its end; 0 if it was content. */
must_check int program_run(const char *const *argv);

struct slirp {
	pid_t pid;
	int alive; /* closed: it ends */
};
/* A user-mode network in the network namespace of @pid, with ports of the host. */
must_check int slirp_start(pid_t pid, const char *dir, const struct container_options *o,
			   struct slirp *ret, struct err *e);
void slirp_stop(struct slirp *s);

/* --- runner_ns.c --- */

/* A process in new namespaces (user without root, mount, pid, network): 0 there, its number
 * here. */
pid_t runner_clone(void);
/* There: waits for a byte from @go, becomes root, mounts /proc; dies with its parent from now on.
 * -ECANCELED when the other end closed. */
must_check int runner_enter(int go, struct err *e);
/* Here, without root: our subordinate ids for it.  @login is our name, NULL = none: the static
 * insula-monitor cannot look it up. */
must_check int runner_map_ids(pid_t pid, const char *login, struct err *e);
/* Signals that runner_wait takes. */
void runner_block_signals(sigset_t *set);
/* Waits for @pid, reaping whoever else ends, and hands signals on.  Those of the terminal reach all
 * of us from the kernel.  Status as a shell tells it. */
int runner_wait(pid_t pid, const sigset_t *set);
