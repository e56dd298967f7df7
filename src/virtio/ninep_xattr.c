/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio/ninep_xattr.c - 9P: extended attributes
 */
#include "virtio/ninep_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/xattr.h>

static struct p9_xattr *xattr_alloc(size_t cap)
{
	struct p9_xattr *x = calloc(1, sizeof(*x) + cap);

	if (x)
		x->cap = cap;
	return x;
}

static int fetch(struct p9_session *s, struct tree_node *node, const char *name,
		 struct p9_xattr **ret)
{
	autofree struct p9_xattr *x = xattr_alloc(TREE_XATTR_MAX);
	ssize_t n;

	if (!x)
		return -ENOMEM;
	n = *name ? node_get_xattr(&s->tree, node, name, x->data, x->cap)
		  : node_list_xattr(&s->tree, node, (char *)x->data, x->cap);
	if (n < 0)
		return (int)n;
	x->len = (size_t)n;
	*ret = steal_ptr(&x);
	return 0;
}

int p9_xattrwalk(struct p9_session *s, struct msg_in *in, struct msg_out *out)
{
	struct p9_fid *f = get_fid(s, in), *t;
	uint32_t id = get32(in);
	char name[TREE_NAME_MAX + 1];
	struct p9_xattr *x = NULL;
	int r;

	get_str(in, name, TREE_NAME_MAX);
	if (in->bad)
		return -EINVAL;
	if (!f || fid_find(s, id))
		return -EBADF;
	if (*name && !xattr_is_user(name))
		return -ENODATA;
	r = fetch(s, f->node, name, &x);
	if (r < 0)
		return r;
	r = fid_new(s, id, f->node, f->uid, &t);
	if (r < 0) {
		free(x);
		return r;
	}
	(void)node_get(f->node);
	t->xattr = x;
	put64(out, x->len);
	return 0;
}

int p9_xattrcreate(struct p9_session *s, struct msg_in *in, struct msg_out *out)
{
	struct p9_fid *f = get_fid(s, in);
	char name[TREE_NAME_MAX + 1];
	struct p9_xattr *x;
	uint64_t size;
	uint32_t flags;

	get_str(in, name, TREE_NAME_MAX);
	size = get64(in);
	flags = get32(in);
	if (in->bad || (flags & ~(uint32_t)(XATTR_CREATE | XATTR_REPLACE)))
		return -EINVAL;
	if (!f || f->fd >= 0 || f->xattr)
		return -EBADF;
	if (s->tree.read_only)
		return -EROFS;
	if (!xattr_is_user(name))
		return -EOPNOTSUPP;
	if (size > TREE_XATTR_MAX)
		return -E2BIG;
	x = xattr_alloc(size);
	if (!x)
		return -ENOMEM;
	strcpy(x->name, name);
	x->write = true;
	x->flags = (int)flags;
	f->xattr = x;
	return 0;
}

int xattr_read(const struct p9_fid *f, uint64_t off, uint32_t count, struct msg_out *out)
{
	const struct p9_xattr *x = f->xattr;
	size_t n;

	if (off > x->len)
		return -EINVAL;
	n = MIN((size_t)count, x->len - off);
	put32(out, (uint32_t)n);
	if (out->cap - out->len < n)
		return -EMSGSIZE;
	memcpy(out->buf + out->len, x->data + off, n);
	out->len += n;
	return 0;
}

int xattr_write(struct p9_fid *f, uint64_t off, const void *data, uint32_t count)
{
	struct p9_xattr *x = f->xattr;

	if (!range_ok(off, count, x->cap))
		return -ENOSPC;
	memcpy(x->data + off, data, count);
	x->len = MAX(x->len, (size_t)off + count);
	return 0;
}

int xattr_commit(struct p9_session *s, struct p9_fid *f)
{
	const struct p9_xattr *x = f->xattr;

	if (x->len != x->cap)
		return -EINVAL; /* less was written than announced */
	/* An empty value with REPLACE is how the client removes one. */
	if (!x->cap && (x->flags & XATTR_REPLACE))
		return node_remove_xattr(&s->tree, f->node, x->name);
	return node_set_xattr(&s->tree, f->node, x->name, x->data, x->len, x->flags);
}
