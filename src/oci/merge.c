/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oci/merge.c - one tree out of several unpacked layers
 */
#include "oci/unpack.h"

#include "base/fd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#define MAX_DEPTH  512
#define XATTRS_MAX 65536

/* A file with several names, by the first place that it was copied to. */
struct linked {
	ino_t ino;
	char *path; /* below the tree's root */
};

struct merge {
	int to;
	const char *opaque;
	struct linked *links;
	size_t n_links;
};

static int open_dir(int dir, const char *name)
{
	int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/* Of an open directory, which stays open. */
static DIR *list_dir(int fd)
{
	int own = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = own < 0 ? NULL : fdopendir(own);

	if (!d)
		close_p(&own);
	return d;
}

static bool is_dots(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static int remove_content(int fd, unsigned int depth);

static int remove_name(int dir, const char *name, unsigned int depth)
{
	autoclose int fd = -1;
	int r;

	if (unlinkat(dir, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return -errno;
	fd = open_dir(dir, name);
	r = fd < 0 ? fd : remove_content(fd, depth + 1);
	return r == 0 && unlinkat(dir, name, AT_REMOVEDIR) < 0 ? -errno : r;
}

static int remove_content(int fd, unsigned int depth)
{
	DIR *d = depth > MAX_DEPTH ? NULL : list_dir(fd);
	struct dirent *de;
	int r = d ? 0 : -ELOOP;

	while (d && r == 0 && (de = readdir(d))) {
		if (!is_dots(de->d_name))
			r = remove_name(fd, de->d_name, depth);
	}
	if (d)
		closedir(d);
	return r;
}

static int copy_xattrs(int from, int to)
{
	static char names[XATTRS_MAX], value[XATTRS_MAX];
	ssize_t n = flistxattr(from, names, sizeof(names));

	if (n < 0)
		return errno == ENOTSUP ? 0 : -errno;
	for (const char *p = names; p < names + n; p += strlen(p) + 1) {
		ssize_t len;

		if (strncmp(p, "user.overlay.", 13) == 0 || strncmp(p, "trusted.", 8) == 0)
			continue;
		len = fgetxattr(from, p, value, sizeof(value));
		if (len < 0 || (fsetxattr(to, p, value, (size_t)len, 0) < 0 && errno != ENOTSUP))
			return -errno;
	}
	return 0;
}

static int copy_owner(int dir, const char *name, const struct stat *st)
{
	struct timespec times[2] = {st->st_mtim, st->st_mtim};

	if (fchownat(dir, name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (!S_ISLNK(st->st_mode) && fchmodat(dir, name, st->st_mode & 07777, 0) < 0)
		return -errno;
	return utimensat(dir, name, times, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

static int copy_bytes(int in, int out, uint64_t size)
{
	if (ioctl(out, FICLONE, in) == 0)
		return 0;
	return fd_copy_range(in, out, 0, (off_t)size);
}

/* A second name of what was copied before; false when it is the first. */
static int link_again(const struct merge *m, int to, const char *name, ino_t ino)
{
	for (size_t i = 0; i < m->n_links; i++) {
		if (m->links[i].ino == ino)
			return linkat(m->to, m->links[i].path, to, name, 0) < 0 ? -errno : 1;
	}
	return 0;
}

static void remember(struct merge *m, ino_t ino, const char *path, const char *name)
{
	if ((m->n_links & (m->n_links - 1)) == 0) {
		m->links =
		    reallocarray(m->links, m->n_links ? m->n_links * 2 : 1, sizeof(*m->links));
		if (!m->links)
			abort();
	}
	m->links[m->n_links++] = (struct linked){.ino = ino, .path = xasprintf("%s%s", path, name)};
}

static int copy_file(struct merge *m, int from, int to, const char *path, const char *name,
		     const struct stat *st)
{
	autoclose int in = -1, out = -1;
	int r = st->st_nlink > 1 ? link_again(m, to, name, st->st_ino) : 0;

	if (r != 0)
		return MIN(r, 0);
	in = openat(from, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	out = openat(to, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (in < 0 || out < 0)
		return -errno;
	r = copy_bytes(in, out, (uint64_t)st->st_size);
	if (r == 0)
		r = copy_owner(to, name, st);
	if (r == 0)
		r = copy_xattrs(in, out);
	if (r == 0 && st->st_nlink > 1)
		remember(m, st->st_ino, path, name);
	return r;
}

static int copy_link(int from, int to, const char *name, const struct stat *st)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(from, name, target, sizeof(target) - 1);

	if (n < 0)
		return -errno;
	target[n] = '\0';
	return symlinkat(target, to, name) < 0 ? -errno : copy_owner(to, name, st);
}

static int merge_dir(struct merge *m, int from, int to, const char *path, unsigned int depth);

static int copy_dir(struct merge *m, int from, int to, const char *path, const char *name,
		    const struct stat *st, unsigned int depth)
{
	autofree char *below = xasprintf("%s%s/", path, name);
	autoclose int in = -1, out = -1;
	struct stat had;
	char sign;
	int r = 0;

	if (fstatat(to, name, &had, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISDIR(had.st_mode))
		r = remove_name(to, name, depth);
	if (r == 0 && mkdirat(to, name, 0700) < 0 && errno != EEXIST)
		r = -errno;
	if (r < 0)
		return r;
	in = open_dir(from, name);
	out = open_dir(to, name);
	if (in < 0 || out < 0)
		return MIN(in, out);
	if (fgetxattr(in, m->opaque, &sign, 1) == 1 || faccessat(in, WHITEOUT_OPAQUE, F_OK, 0) == 0)
		r = remove_content(out, depth);
	if (r == 0)
		r = merge_dir(m, in, out, below, depth + 1);
	if (r == 0)
		r = copy_xattrs(in, out);
	return r < 0 ? r : copy_owner(to, name, st);
}

/* An archive's own sign; what the layer itself brings stays. */
static int merge_whiteout(int from, int to, const char *what, unsigned int depth)
{
	struct stat st;

	if (strncmp(what, WHITEOUT_PREFIX, strlen(WHITEOUT_PREFIX)) == 0 ||
	    fstatat(from, what, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return 0;
	return remove_name(to, what, depth);
}

static int merge_name(struct merge *m, int from, int to, const char *path, const char *name,
		      unsigned int depth)
{
	struct stat st;
	int r;

	if (strncmp(name, WHITEOUT_PREFIX, strlen(WHITEOUT_PREFIX)) == 0)
		return merge_whiteout(from, to, name + strlen(WHITEOUT_PREFIX), depth);
	if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (S_ISDIR(st.st_mode))
		return copy_dir(m, from, to, path, name, &st, depth);
	r = remove_name(to, name, depth);
	if (r < 0)
		return r;
	if (S_ISREG(st.st_mode))
		return copy_file(m, from, to, path, name, &st);
	if (S_ISLNK(st.st_mode))
		return copy_link(from, to, name, &st);
	if (S_ISFIFO(st.st_mode))
		return mkfifoat(to, name, 0600) < 0 ? -errno : copy_owner(to, name, &st);
	return 0; /* a whiteout: the name is gone */
}

static int merge_dir(struct merge *m, int from, int to, const char *path, unsigned int depth)
{
	DIR *d = depth > MAX_DEPTH ? NULL : list_dir(from);
	struct dirent *de;
	int r = d ? 0 : -ELOOP;

	while (d && r == 0 && (de = readdir(d))) {
		if (!is_dots(de->d_name))
			r = merge_name(m, from, to, path, de->d_name, depth);
	}
	if (d)
		closedir(d);
	return r;
}

int merge_layer(int from, int to, struct err *e)
{
	autofree char *opaque = xasprintf("%sopaque", unpack_xattr_prefix());
	struct merge m = {.to = to, .opaque = opaque};
	struct stat st;
	int r = merge_dir(&m, from, to, "", 0);

	if (r == 0 && fstat(from, &st) == 0)
		r = copy_owner(to, ".", &st);
	for (size_t i = 0; i < m.n_links; i++)
		free(m.links[i].path);
	free(m.links);
	return r < 0 ? err_set(e, r, "put the layers together") : 0;
}
