/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio/ninep_name.c - 9P: making, moving and removing names
 */
#include "virtio/ninep_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

static int make(struct p9_session *s, const struct p9_fid *dir, const char *name,
		struct tree_new *what, struct msg_out *out)
{
	struct tree_node *n;
	struct p9_qid qid;
	struct stat st;
	int r;

	if (!name_ok(name))
		return -EINVAL;
	if (!dir)
		return -EBADF;
	what->uid = dir->uid;
	r = tree_make(&s->tree, dir->node, name, what, &n);
	if (r < 0)
		return r;
	r = node_stat(&s->tree, n, &st);
	node_put(&s->tree, n);
	if (r < 0)
		return r;
	qid = qid_of(s, &st);
	put_qid(out, &qid);
	return 0;
}

int p9_symlink(struct p9_session *s, struct msg_in *in, struct msg_out *out)
{
	struct p9_fid *dir = get_fid(s, in);
	char name[TREE_NAME_MAX + 1], target[P9_PATH_MAX + 1];
	struct tree_new what = {.mode = S_IFLNK | 0777, .target = target};

	get_str(in, name, TREE_NAME_MAX);
	get_str(in, target, P9_PATH_MAX);
	what.gid = get32(in);
	return in->bad ? -EINVAL : make(s, dir, name, &what, out);
}

int p9_mknod(struct p9_session *s, struct msg_in *in, struct msg_out *out)
{
	struct p9_fid *dir = get_fid(s, in);
	char name[TREE_NAME_MAX + 1];
	struct tree_new what = {0};

	get_str(in, name, TREE_NAME_MAX);
	what.mode = get32(in);
	(void)get64(in); /* major, minor */
	what.gid = get32(in);
	if (in->bad)
		return -EINVAL;
	if (!S_ISREG(what.mode) && !S_ISFIFO(what.mode) && !S_ISSOCK(what.mode))
		return s->tree.read_only ? -EROFS : -EPERM;
	return make(s, dir, name, &what, out);
}

int p9_mkdir(struct p9_session *s, struct msg_in *in, struct msg_out *out)
{
	struct p9_fid *dir = get_fid(s, in);
	char name[TREE_NAME_MAX + 1];
	struct tree_new what = {0};

	get_str(in, name, TREE_NAME_MAX);
	what.mode = S_IFDIR | (get32(in) & 07777);
	what.gid = get32(in);
	return in->bad ? -EINVAL : make(s, dir, name, &what, out);
}

int p9_link(struct p9_session *s, struct msg_in *in, struct msg_out *out)
{
	struct p9_fid *dir = get_fid(s, in), *f = get_fid(s, in);
	char name[TREE_NAME_MAX + 1];

	get_str(in, name, TREE_NAME_MAX);
	if (in->bad || !name_ok(name))
		return -EINVAL;
	if (!dir || !f)
		return -EBADF;
	return tree_link(&s->tree, f->node, dir->node, name);
}

int p9_rename(struct p9_session *s, struct msg_in *in, struct msg_out *out)
{
	struct p9_fid *f = get_fid(s, in), *dir = get_fid(s, in);
	char name[TREE_NAME_MAX + 1], old[TREE_NAME_MAX + 1];
	struct tree_node *parent;
	int r;

	get_str(in, name, TREE_NAME_MAX);
	if (in->bad || !name_ok(name))
		return -EINVAL;
	if (!f || !dir)
		return -EBADF;
	if (!f->node->parent)
		return -EBUSY;
	/* The renaming changes both in the node itself. */
	parent = node_get(f->node->parent);
	snprintf(old, sizeof(old), "%s", f->node->name);
	r = tree_rename(&s->tree, parent, old, dir->node, name, 0);
	node_put(&s->tree, parent);
	return r;
}

int p9_renameat(struct p9_session *s, struct msg_in *in, struct msg_out *out)
{
	struct p9_fid *dir = get_fid(s, in), *new_dir;
	char name[TREE_NAME_MAX + 1], new_name[TREE_NAME_MAX + 1];

	get_str(in, name, TREE_NAME_MAX);
	new_dir = get_fid(s, in);
	get_str(in, new_name, TREE_NAME_MAX);
	if (in->bad || !name_ok(name) || !name_ok(new_name))
		return -EINVAL;
	if (!dir || !new_dir)
		return -EBADF;
	return tree_rename(&s->tree, dir->node, name, new_dir->node, new_name, 0);
}

int p9_unlinkat(struct p9_session *s, struct msg_in *in, struct msg_out *out)
{
	struct p9_fid *dir = get_fid(s, in);
	char name[TREE_NAME_MAX + 1];
	uint32_t flags;

	get_str(in, name, TREE_NAME_MAX);
	flags = get32(in);
	if (in->bad || !name_ok(name))
		return -EINVAL;
	if (!dir)
		return -EBADF;
	return tree_unlink(&s->tree, dir->node, name, flags & AT_REMOVEDIR);
}

/* The fid goes away even when the file cannot. */
int p9_remove(struct p9_session *s, struct msg_in *in, struct msg_out *out)
{
	struct p9_fid *f = get_fid(s, in);
	struct tree_node *n;
	int r;

	if (!f)
		return -EBADF;
	n = node_get(f->node);
	fid_free(s, f);
	if (s->tree.read_only)
		r = -EROFS;
	else if (!n->parent)
		r = -EBUSY;
	else
		r = tree_unlink(&s->tree, n->parent, n->name, n->mode == S_IFDIR);
	node_put(&s->tree, n);
	return r;
}
