/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container/rootfs_priv.h - between the parts that make the container's file system
 */
#pragma once

#include "container/mount_opts.h"
#include "container/rootfs.h"

/* Attaches a detached mount to what @target holds. */
must_check int mount_attach(int mnt, int target);
/* mount_setattr on the mount that @fd is the root of. */
must_check int mount_change(int fd, bool rec, uint64_t set, uint64_t clear, uint64_t propagation);
/* A detached copy of the mount at @path below @dir (with AT_EMPTY_PATH: @dir itself). */
must_check int mount_clone(int dir, const char *path, bool rec);
/* A detached file system; options as "key=value" or "key".  @source may be NULL. */
must_check int mount_new(const char *type, const char *source, const char *const *data,
			 size_t n_data, uint64_t attr);

/* The container's view of control groups at @target. */
must_check int mount_cgroups(struct rootfs *fs, const struct mount_opts *o, int target,
			     struct err *e);
/* Copies what is in @from into the (empty, detached) mount @to; neither leaves its own tree. */
must_check int copy_up(int from, int to);
