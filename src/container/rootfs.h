/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container/rootfs.h - the container's file system, made inside its mount namespace
 *
 * Mounts are made detached (fsopen, open_tree), given their attributes, and only then attached to a
 * place that openat2 found below the root: at no moment is there a path that a container could bend
 * in between, nor a mount that is writable for a moment.  Linux 5.12 (mount_setattr) is needed.
 */
#pragma once

#include "container/cgroup.h"
#include "container/spec.h"

struct rootfs {
	const struct spec *spec;
	const char *bundle_path;
	int bundle;  /* where relative sources are, in the caller's mount namespace */
	int proc;    /* the host's procfs */
	int root;    /* the container's root: attached by rootfs_attach */
	bool userns; /* we are root of a user namespace only */
	/* One for each of spec->mounts: a detached mount made by the runtime, or -1; NULL = all are
	 * -1. */
	int *sources;
	int dev_null; /* the host's, for masked files */
	const struct cgroup *cgroup;
};

/* In the runtime, before the container's process is there: bind sources that only it may open or
 * map ids of.  Closed with rootfs_close_sources. */
must_check int rootfs_open_sources(struct rootfs *fs, struct err *e);
void rootfs_close_sources(struct rootfs *fs);

/* In the container's process, in this order.  The mounts of the host turn slaves; the root
 * file system is attached. */
must_check int rootfs_attach(struct rootfs *fs, struct err *e);
/* The i-th of spec->mounts. */
must_check int rootfs_mount(struct rootfs *fs, size_t i, struct err *e);
/* Devices of the configuration and those that every container has, and links in /dev. */
must_check int rootfs_make_devices(struct rootfs *fs, struct err *e);
/* Masked paths, read-only paths, read-only root. */
must_check int rootfs_protect(struct rootfs *fs, struct err *e);
/* The root becomes "/", and the host's is out of reach. */
must_check int rootfs_enter(struct rootfs *fs, bool no_pivot, struct err *e);
