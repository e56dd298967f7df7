/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oci/runner_cgroup.c - control groups of containers, and of those that are no more
 */
#include "oci/runner_priv.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>

#define CGROUP_ROOT "/sys/fs/cgroup"

static char *parent_path(const struct oci_store *s)
{
	struct digest_text d = digest_of(s->cache->dir, strlen(s->cache->dir));

	return xasprintf("/insula-%.8s", digest_hex(d.s));
}

char *cgroup_path(const struct oci_store *s, const char *dir)
{
	autofree char *parent = parent_path(s);

	return xasprintf("%s/%s", parent, strrchr(dir, '/') + 1);
}

/* Those without a place in the cache's tmp/; one with processes stays, the kernel sees to that. */
static void sweep_below(const struct oci_store *s, const char *parent)
{
	DIR *d = opendir(parent);
	struct dirent *de;

	while (d && (de = readdir(d))) {
		autofree char *place = xasprintf("%s/tmp/%s", s->cache->dir, de->d_name);

		if (de->d_type == DT_DIR && de->d_name[0] != '.' && access(place, F_OK) < 0)
			unlinkat(dirfd(d), de->d_name, AT_REMOVEDIR);
	}
	if (d)
		closedir(d);
}

void cgroup_sweep(const struct oci_store *s)
{
	autofree char *parent = parent_path(s);
	autofree char *unified = xasprintf(CGROUP_ROOT "%s", parent);
	DIR *d = opendir(CGROUP_ROOT);
	struct dirent *de;

	sweep_below(s, unified);
	while (d && (de = readdir(d))) {
		autofree char *path = xasprintf(CGROUP_ROOT "/%s%s", de->d_name, parent);

		if (de->d_name[0] != '.')
			sweep_below(s, path);
	}
	if (d)
		closedir(d);
}
