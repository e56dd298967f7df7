/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio/fs_name.c - FUSE: looking up, making, moving and removing names
 */
#include "virtio/fs_priv.h"

#include <errno.h>
#include <fcntl.h>

static int put_node(struct fs_session *s, struct fs_call *c, struct tree_node *n)
{
	struct fs_inode *i;
	int r = fs_inode_of(s, n, &i);

	return r < 0 ? r : fs_put_entry(s, c, i);
}

int fs_lookup(struct fs_session *s, struct fs_call *c)
{
	const char *name = fs_take_name(c);
	struct tree_node *n;
	int r;

	if (!name)
		return -EINVAL;
	if (c->inode->node->mode != S_IFDIR)
		return -ENOTDIR;
	r = node_walk(&s->tree, c->inode->node, name, &n);
	return r < 0 ? r : put_node(s, c, n);
}

/* --- making --- */

/* Who makes it; in a set-group-id directory the group is the directory's. */
static int set_owner(struct fs_session *s, struct fs_call *c, struct tree_new *what)
{
	struct stat st;
	int r = node_stat(&s->tree, c->inode->node, &st);

	what->uid = c->head.uid;
	what->gid = c->head.gid;
	if (r == 0 && (st.st_mode & S_ISGID)) {
		what->gid = st.st_gid;
		if (S_ISDIR(what->mode))
			what->mode |= S_ISGID;
	}
	return r;
}

static int make(struct fs_session *s, struct fs_call *c, const char *name, struct tree_new *what)
{
	struct tree_node *n;
	int r;

	if (!name)
		return -EINVAL;
	r = set_owner(s, c, what);
	if (r == 0)
		r = tree_make(&s->tree, c->inode->node, name, what, &n);
	return r < 0 ? r : put_node(s, c, n);
}

int fs_mknod(struct fs_session *s, struct fs_call *c)
{
	struct tree_new what = {0};
	struct fuse_mknod_in in;

	fs_take(c, &in, sizeof(in));
	what.mode = in.mode;
	if (s->tree.read_only)
		return -EROFS;
	if (!S_ISREG(in.mode) && !S_ISFIFO(in.mode) && !S_ISSOCK(in.mode))
		return -EPERM;
	return make(s, c, fs_take_name(c), &what);
}

int fs_mkdir(struct fs_session *s, struct fs_call *c)
{
	struct tree_new what = {0};
	struct fuse_mkdir_in in;

	fs_take(c, &in, sizeof(in));
	what.mode = S_IFDIR | (in.mode & 07777);
	return make(s, c, fs_take_name(c), &what);
}

int fs_symlink(struct fs_session *s, struct fs_call *c)
{
	const char *name = fs_take_name(c);
	struct tree_new what = {.mode = S_IFLNK | 0777};

	what.target = name ? fs_take_string(c) : NULL;
	return what.target ? make(s, c, name, &what) : -EINVAL;
}

int fs_link(struct fs_session *s, struct fs_call *c)
{
	struct fuse_link_in in;
	struct fs_inode *from;
	struct tree_node *n;
	const char *name;
	int r;

	fs_take(c, &in, sizeof(in));
	name = fs_take_name(c);
	from = fs_inode_find(s, in.oldnodeid);
	if (!name)
		return -EINVAL;
	if (!from)
		return -ESTALE;
	r = tree_link(&s->tree, from->node, c->inode->node, name);
	if (r == 0)
		r = node_walk(&s->tree, c->inode->node, name, &n);
	return r < 0 ? r : put_node(s, c, n);
}

static int put_opened(struct fs_session *s, struct fs_call *c, struct fs_inode *i, int fd,
		      uint32_t flags)
{
	struct fuse_open_out o = {0};
	int r = fs_handle_new(s, i, fd, (flags & O_ACCMODE) != O_RDONLY, &o.fh);

	return r < 0 ? r : fs_put(c, &o, sizeof(o));
}

int fs_create(struct fs_session *s, struct fs_call *c)
{
	struct tree_new what = {0};
	struct fuse_create_in in;
	struct tree_node *n;
	struct fs_inode *i;
	const char *name;
	int fd, r;

	fs_take(c, &in, sizeof(in));
	name = fs_take_name(c);
	if (!name)
		return -EINVAL;
	what.mode = S_IFREG | (in.mode & 07777);
	r = set_owner(s, c, &what);
	if (r < 0)
		return r;
	fd = tree_create(&s->tree, c->inode->node, name, in.flags, &what, &n);
	if (fd < 0)
		return fd;
	r = fs_inode_of(s, n, &i);
	if (r == 0)
		r = fs_put_entry(s, c, i);
	if (r < 0) {
		close(fd);
		return r;
	}
	r = put_opened(s, c, i, fd, in.flags);
	if (r < 0)
		fs_inode_forget(s, i, 1);
	return r;
}

/* --- moving and removing --- */

int fs_unlink(struct fs_session *s, struct fs_call *c)
{
	const char *name = fs_take_name(c);

	return name ? tree_unlink(&s->tree, c->inode->node, name, false) : -EINVAL;
}

int fs_rmdir(struct fs_session *s, struct fs_call *c)
{
	const char *name = fs_take_name(c);

	return name ? tree_unlink(&s->tree, c->inode->node, name, true) : -EINVAL;
}

static int move(struct fs_session *s, struct fs_call *c, uint64_t newdir, uint32_t flags)
{
	const char *name = fs_take_name(c), *new_name = name ? fs_take_name(c) : NULL;
	struct fs_inode *to = fs_inode_find(s, newdir);

	if (!new_name)
		return -EINVAL;
	if (!to)
		return -ESTALE;
	return tree_rename(&s->tree, c->inode->node, name, to->node, new_name, flags);
}

int fs_rename(struct fs_session *s, struct fs_call *c)
{
	struct fuse_rename_in in;

	fs_take(c, &in, sizeof(in));
	return move(s, c, in.newdir, 0);
}

int fs_rename2(struct fs_session *s, struct fs_call *c)
{
	struct fuse_rename2_in in;

	fs_take(c, &in, sizeof(in));
	return move(s, c, in.newdir, in.flags);
}
