/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oci/runner_cgroup.c - control groups of containers, and of those that are no more
 */
#include "oci/runner_parts.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>

#define CGROUP_ROOT "/sys/fs/cgroup"

/* What the names of all groups of this cache begin with. */
static char *prefix(const struct oci_store *s)
{
	struct digest_text d = digest_of(s->cache->dir, strlen(s->cache->dir));

	return xasprintf("insula-%.8s-", digest_hex(d.s));
}

char *cgroup_path(const struct oci_store *s, const char *dir)
{
	autofree char *begin = prefix(s);

	return xasprintf("/%s%s", begin, strrchr(dir, '/') + 1);
}

/* Those without a place in the cache's tmp/; one with processes stays, the kernel sees to that. */
static void sweep_in(const struct oci_store *s, const char *path)
{
	autofree char *begin = prefix(s);
	size_t n = strlen(begin);
	DIR *d = opendir(path);
	struct dirent *de;

	while (d && (de = readdir(d))) {
		autofree char *place = NULL;

		if (strncmp(de->d_name, begin, n) != 0)
			continue;
		place = xasprintf("%s/tmp/%s", s->cache->dir, de->d_name + n);
		if (access(place, F_OK) < 0)
			unlinkat(dirfd(d), de->d_name, AT_REMOVEDIR);
	}
	if (d)
		closedir(d);
}

void cgroup_sweep(const struct oci_store *s)
{
	DIR *d = opendir(CGROUP_ROOT);
	struct dirent *de;

	sweep_in(s, CGROUP_ROOT);
	while (d && (de = readdir(d))) {
		autofree char *path = xasprintf(CGROUP_ROOT "/%s", de->d_name);

		if (de->d_type == DT_DIR && de->d_name[0] != '.')
			sweep_in(s, path);
	}
	if (d)
		closedir(d);
}
