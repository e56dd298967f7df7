/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oci/runner_priv.h - the parts of running a container
 */
#pragma once

#include "oci/runner.h"

#include <signal.h>

/* Writes DIR/config.json for the root file system DIR/rootfs, and the files that are bound into
 * it. */
must_check int bundle_write(const char *dir, const char *cgroup, const struct image_config *image,
			    const struct container_options *o, struct err *e);

/* The control group of the container in @dir, absolute; its name tells this cache's from others'.
 */
char *cgroup_path(const struct oci_store *s, const char *dir);
/* Removes control groups of containers that were killed with all that looked after them. */
void cgroup_sweep(const struct oci_store *s);

/* Mounts the layers with a writable one below @dir at DIR/rootfs: by overlayfs, fuse-overlayfs, or
 * a copy. */
must_check int rootfs_mount(const struct oci_store *s, const struct image_config *image,
			    const char *dir, struct err *e);
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
