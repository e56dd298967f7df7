/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio/fs_dir.c - FUSE: reading directories
 *
 * READDIRPLUS brings the attributes of what it lists, which counts as a lookup of each.
 */
#include "virtio/fs_priv.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>

#define RAW_MAX 16384
#define RAW_MIN 1024 /* an entry has at most 280 bytes */

/* For what is listed, so long a name need not be looked up: `ls -l` asks right after. */
#define ENTRY_NSEC 100000000

int fs_opendir(struct fs_session *s, struct fs_call *c)
{
	struct fuse_open_out o = {0};
	int fd, r;

	if (c->inode->node->mode != S_IFDIR)
		return -ENOTDIR;
	fd = node_open(&s->tree, c->inode->node, O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return fd;
	r = fs_handle_new(s, c->inode, fd, false, &o.fh);
	return r < 0 ? r : fs_put(c, &o, sizeof(o));
}

static bool is_dots(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* What is gone meanwhile, or cannot be reached, is listed without a node. */
static void look_up(struct fs_session *s, const struct fs_handle *h, const char *name,
		    struct fuse_entry_out *o)
{
	struct tree_node *n;
	struct fs_inode *i;

	if (node_walk(&s->tree, h->inode->node, name, &n) < 0 || fs_inode_of(s, n, &i) < 0)
		return;
	if (fs_fill_entry(s, i, o) < 0)
		fs_inode_forget(s, i, 1);
	else
		o->entry_valid_nsec = ENTRY_NSEC;
}

/* The entry with its head and padding, or false when it does not fit. */
static bool put_entry(struct fs_session *s, const struct fs_handle *h, const struct dirent64 *d,
		      bool plus, struct fs_call *c)
{
	size_t head = (plus ? sizeof(struct fuse_entry_out) : 0) + FUSE_NAME_OFFSET;
	size_t len = strlen(d->d_name), pad = FUSE_REC_ALIGN(head + len) - head - len;
	struct tree_node *dir = h->inode->node;
	struct fuse_dirent entry = {
	    .ino = tree_ino(&s->tree, dir->id.dev, d->d_ino),
	    .off = (uint64_t)d->d_off,
	    .namelen = (uint32_t)len,
	    .type = d->d_type,
	};
	struct fuse_entry_out o = {0};

	if (c->cap - c->len < head + len + pad)
		return false;
	/* What lies above the share is none of the guest's business, its inode number neither. */
	if (!dir->parent && strcmp(d->d_name, "..") == 0)
		entry.ino = tree_ino(&s->tree, dir->id.dev, dir->id.ino);
	if (plus) {
		if (!is_dots(d->d_name))
			look_up(s, h, d->d_name, &o);
		memcpy(c->buf + c->len, &o, sizeof(o));
		c->len += sizeof(o);
	}
	memcpy(c->buf + c->len, &entry, FUSE_NAME_OFFSET);
	memcpy(c->buf + c->len + FUSE_NAME_OFFSET, d->d_name, len);
	memset(c->buf + c->len + FUSE_NAME_OFFSET + len, 0, pad);
	c->len += FUSE_NAME_OFFSET + len + pad;
	return true;
}

static int list(struct fs_session *s, struct fs_call *c, bool plus)
{
	uint8_t raw[RAW_MAX] __attribute__((aligned(8)));
	struct fuse_read_in in;
	struct fs_handle *h;
	size_t want;
	long n;

	fs_take(c, &in, sizeof(in));
	h = fs_handle_find(s, in.fh);
	if (!h)
		return -EBADF;
	if (h->inode->node->mode != S_IFDIR)
		return -ENOTDIR;
	c->cap = MIN(c->cap, (size_t)in.size);
	/* Not much more than fits, since the rest is read again next time. */
	want = MAX((size_t)RAW_MIN, MIN((size_t)RAW_MAX, plus ? c->cap / 4 : c->cap));
	if (lseek(h->fd, (off_t)in.offset, SEEK_SET) < 0)
		return -errno;
	for (;;) {
		n = syscall(SYS_getdents64, h->fd, raw, want);
		if (n <= 0)
			break;
		for (long at = 0; at < n;) {
			const struct dirent64 *d = (const void *)(raw + at);

			if (!put_entry(s, h, d, plus, c))
				return c->len ? 0 : -EINVAL; /* not even one fits */
			at += d->d_reclen;
		}
	}
	return n < 0 && !c->len ? -errno : 0;
}

int fs_readdir(struct fs_session *s, struct fs_call *c)
{
	return list(s, c, false);
}

int fs_readdirplus(struct fs_session *s, struct fs_call *c)
{
	return list(s, c, true);
}
