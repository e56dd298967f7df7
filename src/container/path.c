/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container/path.c - paths below a container's root file system
 */
#include "container/path.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

#define MAX_DEPTH     255 /* directories to make and dangling links on the way, together */
#define PROC_ROOT_INO 1

static int open_resolve(int dir, const char *path, int flags, uint64_t resolve)
{
	struct open_how how = {.flags = (uint64_t)(unsigned int)flags | O_CLOEXEC,
			       .resolve = resolve};

	for (unsigned int i = 0; i < 64; i++) {
		long fd = syscall(SYS_openat2, dir, path, &how, sizeof(how));

		/* The kernel could not tell whether ".." stayed inside: renames went on. */
		if (fd < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		return fd < 0 ? -errno : (int)fd;
	}
	return -EAGAIN;
}

int path_open(int root, const char *path, int flags)
{
	return open_resolve(root, path, flags, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
}

bool path_has_dots(const char *path)
{
	for (const char *p = path; *p;) {
		size_t n = strcspn(p, "/");

		if ((n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.'))
			return true;
		p += n + (p[n] == '/');
	}
	return false;
}

/* Splits off the last part; trailing slashes do not count.  NULL when there is none to make. */
static char *split(const char *path, char **dir)
{
	size_t end = strlen(path), start;

	while (end && path[end - 1] == '/')
		end--;
	for (start = end; start && path[start - 1] != '/';)
		start--;
	if (start == end || (end - start == 1 && path[start] == '.') ||
	    (end - start == 2 && path[start] == '.' && path[start + 1] == '.'))
		return NULL;
	*dir = xasprintf("/%.*s", (int)start, path);
	return xasprintf("%.*s", (int)(end - start), path + start);
}

static int make(int root, const char *path, enum path_kind kind, unsigned int depth);

/* @name of @parent is there, but what it leads to is not, or came this moment. */
static int make_past(int root, int parent, const char *dir, const char *name, enum path_kind kind,
		     unsigned int depth)
{
	autofree char *link = xcalloc(1, PATH_MAX + 1), *next = NULL;
	ssize_t n = readlinkat(parent, name, link, PATH_MAX);

	if (n < 0)
		next = xasprintf("%s/%s", dir, name);
	else if (link[0] == '/')
		next = xstrdup(link);
	else
		next = xasprintf("%s/%s", dir, link);
	return make(root, next, kind, depth + 1);
}

static int make(int root, const char *path, enum path_kind kind, unsigned int depth)
{
	autofree char *dir = NULL, *name = NULL;
	autoclose int parent = -1, made = -1;
	int fd = path_open(root, path, O_PATH | (kind == PATH_DIR ? O_DIRECTORY : 0));

	if (fd != -ENOENT)
		return fd;
	if (depth > MAX_DEPTH)
		return -ELOOP;
	name = split(path, &dir);
	if (!name)
		return -EINVAL;
	parent = make(root, dir, PATH_DIR, depth + 1);
	if (parent < 0)
		return parent;
	if (kind == PATH_DIR) {
		if (mkdirat(parent, name, 0755) < 0)
			return errno == EEXIST ? make_past(root, parent, dir, name, kind, depth)
					       : -errno;
	} else {
		made = openat(parent, name, O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC,
			      0644);
		if (made < 0)
			return errno == EEXIST ? make_past(root, parent, dir, name, kind, depth)
					       : -errno;
	}
	return open_resolve(parent, name, O_PATH | O_NOFOLLOW,
			    RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
}

int path_make(int root, const char *path, enum path_kind kind)
{
	return make(root, path, kind, 0);
}

int path_make_parent(int root, const char *path, char **name)
{
	autofree char *dir = NULL, *last = split(path, &dir);
	int fd;

	if (!last)
		return -EINVAL;
	fd = make(root, dir, PATH_DIR, 0);
	if (fd >= 0)
		*name = steal_ptr(&last);
	return fd;
}

int path_open_proc(struct err *e)
{
	int fd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct statfs fs;
	struct stat st;

	if (fd < 0)
		return err_set(e, -errno, "open /proc");
	if (fstatfs(fd, &fs) < 0 || fstat(fd, &st) < 0 || fs.f_type != PROC_SUPER_MAGIC ||
	    st.st_ino != PROC_ROOT_INO) {
		close(fd);
		return err_msg(e, -EINVAL, "/proc is no procfs");
	}
	return fd;
}

int path_open_in_proc(int proc, const char *path, int flags)
{
	return open_resolve(proc, path, flags,
			    RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS);
}

int path_write_in_proc(int proc, const char *path, const char *text)
{
	autoclose int fd = path_open_in_proc(proc, path, O_WRONLY);
	size_t len = strlen(text);

	if (fd < 0)
		return fd;
	return write(fd, text, len) == (ssize_t)len ? 0 : -errno;
}
