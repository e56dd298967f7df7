/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daemon/paths.c - where a machine's files are, and its link by name
 *
 * The link is for `insula run --name`, screenshot and the like, which find a machine by it without
 * asking us; it follows the store and is repaired from it.
 */
#include "daemon/daemon_priv.h"

#include "base/dirs.h"
#include "image/exec.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

char *path_guest(const struct daemon *d, const char *uuid, const char *file)
{
	return xasprintf("%s/guests/%s%s%s", d->data_dir, uuid, file ? "/" : "", file ? file : "");
}

char *path_run(const struct daemon *d, const char *uuid, const char *file)
{
	return xasprintf("%s/vm/%s%s%s", d->run_dir, uuid, file ? "/" : "", file ? file : "");
}

char *path_link(const struct daemon *d, const char *name)
{
	return xasprintf("%s/machines/%s", d->data_dir, name);
}

int path_sync(const char *dir, struct err *e)
{
	autoclose int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 || fsync(fd) < 0 ? err_set(e, -errno, "sync %s", dir) : 0;
}

void path_guest_remove(const struct daemon *d, const char *uuid)
{
	autofree char *dir = path_guest(d, uuid, NULL);

	dirs_remove(dir);
	if (access(dir, F_OK) == 0)
		exec_remove_tree(dir);
}

static bool links_to(const char *link, const char *uuid)
{
	autofree char *want = xasprintf("../guests/%s", uuid);
	char target[128];
	ssize_t n = readlink(link, target, sizeof(target) - 1);

	target[n < 0 ? 0 : n] = '\0';
	return n >= 0 && strcmp(target, want) == 0;
}

void path_link_make(const struct daemon *d, const char *name, const char *uuid)
{
	autofree char *link = path_link(d, name);
	autofree char *target = xasprintf("../guests/%s", uuid);
	struct stat st;

	if (links_to(link, uuid))
		return;
	if (lstat(link, &st) == 0 && S_ISLNK(st.st_mode))
		unlink(link);
	(void)!symlink(target, link);
}

void path_link_remove(const struct daemon *d, const char *name, const char *uuid)
{
	autofree char *link = path_link(d, name);

	if (links_to(link, uuid))
		unlink(link);
}
