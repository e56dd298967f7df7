/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio/ninep_name.c - 9P: making, moving and removing names
 *
 * Every name is one component in a directory that a fid stands for, so the kernel resolves no path.
 */
#include "virtio/ninep_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

/* The directory of a mutation: its descriptor, or why not. */
static int dir_for(struct p9_session *s, const struct p9_fid *dir)
{
	if (!dir)
		return -EBADF;
	if (s->read_only)
		return -EROFS;
	if (dir->node->mode != S_IFDIR)
		return -ENOTDIR;
	return node_fd(s, dir->node);
}

/* Owner, exact mode (unless @mode is none) and qid of what was just made. */
static int finish_new(struct p9_session *s, const struct p9_fid *dir, const char *name,
		      uint32_t mode, uint32_t gid, struct msg_out *out)
{
	struct p9_node *n;
	struct p9_qid qid;
	struct stat st;
	char proc[16];
	int r = node_walk(s, dir->node, name, &n);

	if (r < 0)
		return r;
	r = node_proc_name(s, n, proc);
	if (r == 0 && s->as_root && fchownat(n->fd, "", dir->uid, gid, AT_EMPTY_PATH) < 0)
		r = -errno;
	if (r == 0 && n->mode != S_IFLNK && fchmodat(s->proc_fd, proc, mode & 07777, 0) < 0)
		r = -errno;
	if (r == 0)
		r = node_stat(s, n, &st);
	node_put(s, n);
	if (r < 0)
		return r;
	qid = qid_of(s, &st);
	put_qid(out, &qid);
	return 0;
}

int p9_symlink(struct p9_session *s, struct msg_in *in, struct msg_out *out)
{
	struct p9_fid *dir = get_fid(s, in);
	char name[P9_NAME_MAX + 1], target[P9_PATH_MAX + 1];
	uint32_t gid;
	int fd;

	get_str(in, name, P9_NAME_MAX);
	get_str(in, target, P9_PATH_MAX);
	gid = get32(in);
	if (in->bad || !name_ok(name))
		return -EINVAL;
	fd = dir_for(s, dir);
	if (fd < 0)
		return fd;
	/* Any target is fine: nobody on the host follows it for the guest. */
	if (symlinkat(target, fd, name) < 0)
		return -errno;
	return finish_new(s, dir, name, 0777, gid, out);
}

int p9_mknod(struct p9_session *s, struct msg_in *in, struct msg_out *out)
{
	struct p9_fid *dir = get_fid(s, in);
	char name[P9_NAME_MAX + 1];
	uint32_t mode, gid;
	int fd;

	get_str(in, name, P9_NAME_MAX);
	mode = get32(in);
	(void)get64(in); /* major, minor */
	gid = get32(in);
	if (in->bad || !name_ok(name))
		return -EINVAL;
	fd = dir_for(s, dir);
	if (fd < 0)
		return fd;
	if (!S_ISREG(mode) && !S_ISFIFO(mode) && !S_ISSOCK(mode))
		return -EPERM;
	if (mknodat(fd, name, (mode & S_IFMT) | 0600, 0) < 0)
		return -errno;
	return finish_new(s, dir, name, mode, gid, out);
}

int p9_mkdir(struct p9_session *s, struct msg_in *in, struct msg_out *out)
{
	struct p9_fid *dir = get_fid(s, in);
	char name[P9_NAME_MAX + 1];
	uint32_t mode, gid;
	int fd;

	get_str(in, name, P9_NAME_MAX);
	mode = get32(in);
	gid = get32(in);
	if (in->bad || !name_ok(name))
		return -EINVAL;
	fd = dir_for(s, dir);
	if (fd < 0)
		return fd;
	if (mkdirat(fd, name, 0700) < 0)
		return -errno;
	return finish_new(s, dir, name, mode, gid, out);
}

int p9_link(struct p9_session *s, struct msg_in *in, struct msg_out *out)
{
	struct p9_fid *dir = get_fid(s, in), *f = get_fid(s, in);
	char name[P9_NAME_MAX + 1], proc[16];
	int fd, r;

	get_str(in, name, P9_NAME_MAX);
	if (in->bad || !name_ok(name))
		return -EINVAL;
	fd = dir_for(s, dir);
	if (fd < 0)
		return fd;
	if (!f)
		return -EBADF;
	r = node_proc_name(s, f->node, proc);
	if (r < 0)
		return r;
	return linkat(s->proc_fd, proc, fd, name, AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
}

static int do_rename(struct p9_session *s, struct p9_node *dir, const char *name,
		     struct p9_node *new_dir, const char *new_name)
{
	int from, to;

	if (s->read_only)
		return -EROFS;
	if (dir->mode != S_IFDIR || new_dir->mode != S_IFDIR)
		return -ENOTDIR;
	from = node_fd(s, dir);
	if (from < 0)
		return from;
	to = node_fd(s, new_dir);
	if (to < 0)
		return to;
	if (renameat(from, name, to, new_name) < 0)
		return -errno;
	nodes_renamed(s, dir, name, new_dir, new_name);
	return 0;
}

int p9_rename(struct p9_session *s, struct msg_in *in, struct msg_out *out)
{
	struct p9_fid *f = get_fid(s, in), *dir = get_fid(s, in);
	char name[P9_NAME_MAX + 1], old[P9_NAME_MAX + 1];
	struct p9_node *parent;
	int r;

	get_str(in, name, P9_NAME_MAX);
	if (in->bad || !name_ok(name))
		return -EINVAL;
	if (!f || !dir)
		return -EBADF;
	if (!f->node->parent)
		return -EBUSY;
	/* The renaming changes both in the node itself. */
	parent = node_get(f->node->parent);
	snprintf(old, sizeof(old), "%s", f->node->name);
	r = do_rename(s, parent, old, dir->node, name);
	node_put(s, parent);
	return r;
}

int p9_renameat(struct p9_session *s, struct msg_in *in, struct msg_out *out)
{
	struct p9_fid *dir = get_fid(s, in), *new_dir;
	char name[P9_NAME_MAX + 1], new_name[P9_NAME_MAX + 1];

	get_str(in, name, P9_NAME_MAX);
	new_dir = get_fid(s, in);
	get_str(in, new_name, P9_NAME_MAX);
	if (in->bad || !name_ok(name) || !name_ok(new_name))
		return -EINVAL;
	if (!dir || !new_dir)
		return -EBADF;
	return do_rename(s, dir->node, name, new_dir->node, new_name);
}

int p9_unlinkat(struct p9_session *s, struct msg_in *in, struct msg_out *out)
{
	struct p9_fid *dir = get_fid(s, in);
	char name[P9_NAME_MAX + 1];
	uint32_t flags;
	int fd;

	get_str(in, name, P9_NAME_MAX);
	flags = get32(in);
	if (in->bad || !name_ok(name))
		return -EINVAL;
	fd = dir_for(s, dir);
	if (fd < 0)
		return fd;
	return unlinkat(fd, name, flags & AT_REMOVEDIR ? AT_REMOVEDIR : 0) < 0 ? -errno : 0;
}

/* The fid goes away even when the file cannot. */
int p9_remove(struct p9_session *s, struct msg_in *in, struct msg_out *out)
{
	struct p9_fid *f = get_fid(s, in);
	struct p9_node *n;
	int fd, r = 0;

	if (!f)
		return -EBADF;
	n = node_get(f->node);
	fid_free(s, f);
	if (s->read_only)
		r = -EROFS;
	else if (!n->parent)
		r = -EBUSY;
	else if ((fd = node_fd(s, n->parent)) < 0)
		r = fd;
	else if (unlinkat(fd, n->name, n->mode == S_IFDIR ? AT_REMOVEDIR : 0) < 0)
		r = -errno;
	node_put(s, n);
	return r;
}
