/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio/tree_xattr.c - extended attributes of the guest's own
 */
#include "virtio/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/xattr.h>

bool xattr_is_user(const char *name)
{
	return strncmp(name, "user.", 5) == 0 && name[5];
}

/* Drops from a list of NUL-terminated names all but the user's. */
static size_t filter_list(char *list, size_t len)
{
	size_t to = 0;

	for (size_t at = 0; at < len;) {
		const char *name = list + at;
		size_t n = strnlen(name, len - at) + 1;

		if (at + n <= len && xattr_is_user(name)) {
			memmove(list + to, name, n);
			to += n;
		}
		at += n;
	}
	return to;
}

/* A symlink or a device has no user attributes. */
static bool has_none(const struct tree_node *n)
{
	return n->mode != S_IFREG && n->mode != S_IFDIR;
}

ssize_t node_get_xattr(struct tree *t, struct tree_node *n, const char *name, void *buf, size_t cap)
{
	autoclose int fd = -1;
	ssize_t len;

	if (has_none(n) || !xattr_is_user(name))
		return -ENODATA;
	fd = node_open(t, n, O_RDONLY);
	if (fd < 0)
		return fd;
	len = fgetxattr(fd, name, buf, cap);
	return len < 0 ? -errno : len;
}

ssize_t node_list_xattr(struct tree *t, struct tree_node *n, char *buf, size_t cap)
{
	autoclose int fd = -1;
	ssize_t len;

	if (has_none(n))
		return 0;
	fd = node_open(t, n, O_RDONLY);
	if (fd < 0)
		return fd;
	len = flistxattr(fd, buf, cap);
	return len < 0 ? -errno : (ssize_t)filter_list(buf, (size_t)len);
}

static int open_for_change(struct tree *t, struct tree_node *n, const char *name)
{
	if (t->read_only)
		return -EROFS;
	if (!xattr_is_user(name))
		return -EOPNOTSUPP;
	return node_open(t, n, O_RDONLY);
}

int node_set_xattr(struct tree *t, struct tree_node *n, const char *name, const void *value,
		   size_t len, int flags)
{
	autoclose int fd = open_for_change(t, n, name);

	if (fd < 0)
		return fd;
	return fsetxattr(fd, name, value, len, flags) < 0 ? -errno : 0;
}

int node_remove_xattr(struct tree *t, struct tree_node *n, const char *name)
{
	autoclose int fd = open_for_change(t, n, name);

	if (fd < 0)
		return fd;
	return fremovexattr(fd, name) < 0 ? -errno : 0;
}
