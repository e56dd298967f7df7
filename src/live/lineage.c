/* SPDX-License-Identifier: Apache-2.0 */
/*
 * live/lineage.c - which disk files machines need
 */
#include "live/lineage.h"

#include "base/dirs.h"
#include "base/fd.h"
#include "block/disk.h"
#include "live/snapshots.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

void lineage_fini(struct lineage *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->path[i]);
	free(l->path);
	*l = (struct lineage){0};
}

static bool has(const struct lineage *l, const char *path)
{
	for (size_t i = 0; i < l->n; i++) {
		if (strcmp(l->path[i], path) == 0)
			return true;
	}
	return false;
}

/* Takes over @path. */
static void add(struct lineage *l, char *path)
{
	if (l->n == l->room) {
		l->room = MAX((size_t)16, l->room * 2);
		l->path = realloc(l->path, l->room * sizeof(*l->path));
		if (!l->path)
			abort();
	}
	l->path[l->n++] = path;
}

/* @disk and all below it, as far as that is not known yet. */
static int add_chain(struct lineage *l, const char *disk, struct err *e)
{
	char *path = xstrdup(disk);
	bool qcow2 = strcmp(disk_format(path, NULL), "qcow2") == 0;

	while (path && !has(l, path)) {
		char *below = NULL;
		int r = qcow2 ? qcow2_read_backing(path, &below, &qcow2, e) : 0;

		if (r < 0) {
			free(path);
			return r;
		}
		add(l, path);
		path = below;
	}
	free(path);
	return 0;
}

int lineage_add(struct lineage *l, const char *dir, struct err *e)
{
	autofree char *disk = dirs_machine_disk(dir);
	struct snapshot_record *all = NULL;
	size_t n = 0;
	int r = access(disk, F_OK) == 0 ? add_chain(l, disk, e) : 0;

	if (r == 0)
		r = snapshot_read_all(dir, &all, &n, e);
	for (size_t i = 0; i < n; i++) {
		autofree char *path = all[i].disk ? xasprintf("%s/%s", dir, all[i].disk) : NULL;

		if (path && r == 0)
			r = add_chain(l, path, e);
		snapshot_record_fini(&all[i]);
	}
	free(all);
	return r;
}

int lineage_add_all(struct lineage *l, const char *parent, struct err *e)
{
	DIR *d = opendir(parent);
	struct dirent *de;
	int r = d || errno == ENOENT ? 0 : err_set(e, -errno, "%s", parent);

	while (d && r == 0 && (de = readdir(d))) {
		autofree char *path = xasprintf("%s/%s", parent, de->d_name);
		char real[PATH_MAX];

		if (de->d_name[0] != '.' && realpath(path, real))
			r = lineage_add(l, real, e);
	}
	if (d)
		closedir(d);
	return r;
}

static bool is_in(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	return strncmp(path, dir, n) == 0 && path[n] == '/' && !strchr(path + n + 1, '/');
}

bool lineage_needs(const struct lineage *l, const char *dir)
{
	for (size_t i = 0; i < l->n; i++) {
		if (is_in(l->path[i], dir))
			return true;
	}
	return false;
}

bool lineage_is_disk(const char *name)
{
	size_t n = strlen(name);

	return strncmp(name, "disk", 4) == 0 && name[4] >= '0' && name[4] <= '9' && n > 6 &&
	       strcmp(name + n - 6, ".qcow2") == 0 && !strchr(name, '/');
}

size_t lineage_sweep(const struct lineage *l, const char *dir, bool all)
{
	DIR *d = opendir(dir);
	struct dirent *de;
	size_t needed = 0;

	while (d && (de = readdir(d))) {
		autofree char *path = xasprintf("%s/%s", dir, de->d_name);

		if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0)
			continue;
		if (has(l, path))
			needed++;
		else if (all)
			dirs_remove(path);
		else if (lineage_is_disk(de->d_name))
			unlink(path);
	}
	if (d)
		closedir(d);
	return needed;
}

int live_set_disk(const char *dir, const char *file, struct err *e)
{
	autofree char *link = xasprintf("%s/disk", dir), *temp = xasprintf("%s/disk.new", dir);
	autoclose int fd = -1;

	unlink(temp);
	if (symlink(file, temp) < 0 || rename(temp, link) < 0)
		return err_set(e, -errno, "make %s", link);
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fsync(fd) < 0)
		return err_set(e, -errno, "sync %s", dir);
	return 0;
}

int live_overlay_make(const char *dir, unsigned int number, const char *base, const char *format,
		      uint64_t size, char **ret, struct err *e)
{
	struct qcow2_options o = {
	    .size = size,
	    .refcount_order = -1,
	    .backing = base,
	    .backing_format = disk_format(base, format),
	};

	if (base[0] != '/')
		return err_msg(e, -ENOTSUP, "disk '%s': not by its whole path", base);
	for (unsigned int k = 1;; k++) {
		autofree char *path = xasprintf("%s/disk%u-%u.qcow2", dir, number, k);
		int r = disk_create(path, "qcow2", &o, false, e);

		if (r == -EEXIST)
			continue;
		if (r == 0)
			*ret = steal_ptr(&path);
		return r;
	}
}
