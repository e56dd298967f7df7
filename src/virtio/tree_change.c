/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio/tree_change.c - making, opening, moving and removing objects; their attributes
 *
 * Every name is one component in a directory that a node stands for, so the kernel resolves no
 * path.
 *
 * Owners.  A VMM that runs as root shows user and group ids unchanged, and if it has its privileges
 * makes files of any user.  Any other only makes files of its own: those look like root's to the
 * guest, and all others like nobody's.
 */
#include "virtio/tree_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

/* Open flags of both protocols are Linux's own; these make sense for us to hand on. */
#define OPEN_FLAGS (O_ACCMODE | O_APPEND | O_DSYNC | O_SYNC)

/* The directory of a change: its descriptor, or why not. */
static int dir_for(struct tree *t, struct tree_node *dir)
{
	if (t->read_only)
		return -EROFS;
	if (dir->mode != S_IFDIR)
		return -ENOTDIR;
	return node_fd(t, dir);
}

/* --- making --- */

static int make_name(int dir, const char *name, const struct tree_new *what)
{
	switch (what->mode & S_IFMT) {
	case S_IFDIR:
		return mkdirat(dir, name, 0700) < 0 ? -errno : 0;
	case S_IFLNK:
		/* Any target is fine: nobody on the host follows it for the guest. */
		return symlinkat(what->target, dir, name) < 0 ? -errno : 0;
	case S_IFREG:
	case S_IFIFO:
	case S_IFSOCK:
		return mknodat(dir, name, (what->mode & S_IFMT) | 0600, 0) < 0 ? -errno : 0;
	default:
		return -EPERM;
	}
}

/* Owner and exact mode of what was just made, whatever our umask is; the owner first, since that
 * clears bits. */
static int finish_new(struct tree *t, struct tree_node *n, const struct tree_new *what)
{
	char proc[16];
	int r;

	if (n->mode != (what->mode & S_IFMT))
		return -ESTALE; /* the host has put something else there */
	r = node_proc_name(t, n, proc);
	if (r < 0)
		return r;
	if (t->can_give && fchownat(n->fd, "", what->uid, what->gid, AT_EMPTY_PATH) < 0)
		return -errno;
	if (n->mode != S_IFLNK && fchmodat(t->proc_fd, proc, what->mode & 07777, 0) < 0)
		return -errno;
	return 0;
}

int tree_make(struct tree *t, struct tree_node *dir, const char *name, const struct tree_new *what,
	      struct tree_node **ret)
{
	struct tree_node *n;
	int fd = dir_for(t, dir), r;

	if (fd < 0)
		return fd;
	r = make_name(fd, name, what);
	if (r == 0)
		r = node_walk(t, dir, name, &n);
	if (r < 0)
		return r;
	r = finish_new(t, n, what);
	if (r < 0)
		node_put(t, n);
	else
		*ret = n;
	return r;
}

/* --- opening --- */

int tree_open_node(struct tree *t, struct tree_node *n, uint32_t flags)
{
	bool write = (flags & O_ACCMODE) != O_RDONLY || (flags & (O_TRUNC | O_CREAT));
	int fd;

	if (t->read_only && write)
		return -EROFS;
	if (n->mode == S_IFDIR && write)
		return -EISDIR;
	if ((flags & O_DIRECTORY) && n->mode != S_IFDIR)
		return -ENOTDIR;
	fd = node_open(t, n, (int)(flags & OPEN_FLAGS));
	if (fd >= 0 && (flags & O_TRUNC) && ftruncate(fd, 0) < 0) {
		int r = -errno;

		close(fd);
		return r;
	}
	return fd;
}

/* An existing file. */
static int open_there(struct tree *t, struct tree_node *dir, const char *name, uint32_t flags,
		      struct tree_node **ret)
{
	struct tree_node *n;
	int r = node_walk(t, dir, name, &n), fd;

	if (r < 0)
		return r;
	fd = tree_open_node(t, n, flags & ~(uint32_t)O_DIRECTORY);
	if (fd < 0)
		node_put(t, n);
	else
		*ret = n;
	return fd;
}

int tree_create(struct tree *t, struct tree_node *dir, const char *name, uint32_t flags,
		const struct tree_new *what, struct tree_node **ret)
{
	int keep = (int)(flags & OPEN_FLAGS), dir_fd = dir_for(t, dir), r;
	struct tree_node *n = NULL;
	autoclose int fd = -1;

	if (dir_fd < 0)
		return dir_fd;
	fd = openat(dir_fd, name,
		    keep | O_CREAT | O_EXCL | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK | O_CLOEXEC,
		    what->mode & 0777);
	if (fd < 0) {
		if (errno != EEXIST || (flags & O_EXCL))
			return -errno;
		return open_there(t, dir, name, flags & ~(uint32_t)O_CREAT, ret);
	}
	if (t->can_give && fchown(fd, what->uid, what->gid) < 0)
		return -errno;
	if (fchmod(fd, what->mode & 07777) < 0)
		return -errno;
	r = node_walk(t, dir, name, &n);
	if (r < 0)
		return r;
	*ret = n;
	return steal_fd(&fd);
}

/* --- names --- */

int tree_link(struct tree *t, struct tree_node *n, struct tree_node *dir, const char *name)
{
	int fd = dir_for(t, dir), r;
	char proc[16];

	if (fd < 0)
		return fd;
	r = node_proc_name(t, n, proc);
	if (r < 0)
		return r;
	return linkat(t->proc_fd, proc, fd, name, AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
}

int tree_rename(struct tree *t, struct tree_node *dir, const char *name, struct tree_node *new_dir,
		const char *new_name, unsigned int flags)
{
	int from = dir_for(t, dir), to, r;

	if (from < 0)
		return from;
	to = dir_for(t, new_dir);
	if (to < 0)
		return to;
	if (flags & ~RENAME_NOREPLACE)
		return -EINVAL;
	r = flags ? renameat2(from, name, to, new_name, flags) : renameat(from, name, to, new_name);
	if (r < 0)
		return -errno;
	nodes_renamed(t, dir, name, new_dir, new_name);
	return 0;
}

int tree_unlink(struct tree *t, struct tree_node *dir, const char *name, bool is_dir)
{
	int fd = dir_for(t, dir);

	if (fd < 0)
		return fd;
	return unlinkat(fd, name, is_dir ? AT_REMOVEDIR : 0) < 0 ? -errno : 0;
}

/* --- attributes --- */

static uint32_t shown_id(const struct tree *t, uint32_t id, uint32_t own)
{
	if (t->as_root)
		return id;
	return id == own ? 0 : TREE_NOBODY;
}

uint32_t tree_shown_uid(const struct tree *t, uint32_t uid)
{
	return shown_id(t, uid, t->uid);
}

uint32_t tree_shown_gid(const struct tree *t, uint32_t gid)
{
	return shown_id(t, gid, t->gid);
}

int node_set_owner(struct tree *t, struct tree_node *n, uint32_t uid, uint32_t gid)
{
	int fd;

	if (t->read_only)
		return -EROFS;
	fd = node_fd(t, n);
	if (fd < 0)
		return fd;
	if (!t->can_give) {
		/* They are the user's, shown as 0, and stay so. */
		bool ok = (uid == UINT32_MAX || !uid) && (gid == UINT32_MAX || !gid);

		return ok ? 0 : -EPERM;
	}
	return fchownat(fd, "", uid, gid, AT_EMPTY_PATH) < 0 ? -errno : 0;
}

int node_set_mode(struct tree *t, struct tree_node *n, uint32_t mode)
{
	char name[16];
	int r;

	if (t->read_only)
		return -EROFS;
	if (n->mode == S_IFLNK)
		return -EOPNOTSUPP;
	r = node_proc_name(t, n, name);
	if (r < 0)
		return r;
	return fchmodat(t->proc_fd, name, mode & 07777, 0) < 0 ? -errno : 0;
}

int node_set_size(struct tree *t, struct tree_node *n, int fd, uint64_t size)
{
	autoclose int own = -1;

	if (t->read_only)
		return -EROFS;
	if (n->mode != S_IFREG)
		return n->mode == S_IFDIR ? -EISDIR : -EINVAL;
	if (size > INT64_MAX)
		return -EFBIG;
	if (fd < 0)
		fd = own = node_open(t, n, O_WRONLY);
	if (fd < 0)
		return fd;
	return ftruncate(fd, (off_t)size) < 0 ? -errno : 0;
}

int node_set_times(struct tree *t, struct tree_node *n, const struct timespec times[2])
{
	char name[16];
	int r;

	if (t->read_only)
		return -EROFS;
	r = node_proc_name(t, n, name);
	if (r < 0)
		return r;
	/* Through the magic link to the very object, and not further if that is a symlink. */
	return utimensat(t->proc_fd, name, times, 0) < 0 ? -errno : 0;
}
