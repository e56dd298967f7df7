/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio/ninep_xattr.c - 9P: extended attributes
 *
 * Only the `user.` ones: the others carry meaning for the host (capabilities, labels, ACLs), which
 * a guest is not to set, and which do not fit the guest's users when read.
 */
#include "virtio/ninep_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/xattr.h>

#define VALUE_MAX 65536

static bool is_user(const char *name)
{
	return strncmp(name, "user.", 5) == 0 && name[5];
}

static struct p9_xattr *xattr_alloc(size_t cap)
{
	struct p9_xattr *x = calloc(1, sizeof(*x) + cap);

	if (x)
		x->cap = cap;
	return x;
}

/* Drops from a list of NUL-terminated names all but the user's. */
static void filter_list(struct p9_xattr *x)
{
	size_t to = 0;

	for (size_t at = 0; at < x->len;) {
		const char *name = (const char *)x->data + at;
		size_t n = strnlen(name, x->len - at) + 1;

		if (at + n <= x->len && is_user(name)) {
			memmove(x->data + to, name, n);
			to += n;
		}
		at += n;
	}
	x->len = to;
}

static int fetch(struct p9_session *s, struct p9_node *node, const char *name,
		 struct p9_xattr **ret)
{
	autoclose int fd = node_open(s, node, O_RDONLY);
	autofree struct p9_xattr *x = xattr_alloc(VALUE_MAX);
	ssize_t n;

	/* A symlink or a device has no user attributes. */
	if (fd == -ELOOP || fd == -EACCES)
		n = *name ? -1 : 0;
	else if (fd < 0)
		return fd;
	else if (*name)
		n = fgetxattr(fd, name, x ? x->data : NULL, x ? x->cap : 0);
	else
		n = flistxattr(fd, x ? (char *)x->data : NULL, x ? x->cap : 0);
	if (!x)
		return -ENOMEM;
	if (n < 0)
		return fd < 0 ? -ENODATA : -errno;
	x->len = (size_t)n;
	if (!*name)
		filter_list(x);
	*ret = steal_ptr(&x);
	return 0;
}

int p9_xattrwalk(struct p9_session *s, struct msg_in *in, struct msg_out *out)
{
	struct p9_fid *f = get_fid(s, in), *t;
	uint32_t id = get32(in);
	char name[P9_NAME_MAX + 1];
	struct p9_xattr *x = NULL;
	int r;

	get_str(in, name, P9_NAME_MAX);
	if (in->bad)
		return -EINVAL;
	if (!f || fid_find(s, id))
		return -EBADF;
	if (*name && !is_user(name))
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
	char name[P9_NAME_MAX + 1];
	struct p9_xattr *x;
	uint64_t size;
	uint32_t flags;

	get_str(in, name, P9_NAME_MAX);
	size = get64(in);
	flags = get32(in);
	if (in->bad || (flags & ~(uint32_t)(XATTR_CREATE | XATTR_REPLACE)))
		return -EINVAL;
	if (!f || f->fd >= 0 || f->xattr)
		return -EBADF;
	if (s->read_only)
		return -EROFS;
	if (!is_user(name))
		return -EOPNOTSUPP;
	if (size > VALUE_MAX)
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
	autoclose int fd = -1;
	int r;

	if (x->len != x->cap)
		return -EINVAL; /* less was written than announced */
	fd = node_open(s, f->node, O_RDONLY);
	if (fd < 0)
		return fd;
	/* An empty value with REPLACE is how the client removes one. */
	if (!x->cap && (x->flags & XATTR_REPLACE))
		r = fremovexattr(fd, x->name);
	else
		r = fsetxattr(fd, x->name, x->data, x->len, x->flags);
	return r < 0 ? -errno : 0;
}
