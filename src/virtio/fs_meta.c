/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio/fs_meta.c - FUSE: attributes of objects and of the file system, extended attributes
 */
#include "virtio/fs_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>

/*
 * How long the guest may go without asking.  A name is looked up each time, and the answer brings
 * fresh attributes: what is reached by its path is as the host has it.  Only a file or directory
 * that is held open may be a second behind.
 */
#define ATTR_SECONDS 1

void fs_fill_attr(struct fs_session *s, const struct stat *st, struct fuse_attr *a)
{
	*a = (struct fuse_attr){
	    .ino = tree_ino(&s->tree, st->st_dev, st->st_ino),
	    .size = (uint64_t)st->st_size,
	    .blocks = (uint64_t)st->st_blocks,
	    .atime = (uint64_t)st->st_atim.tv_sec,
	    .mtime = (uint64_t)st->st_mtim.tv_sec,
	    .ctime = (uint64_t)st->st_ctim.tv_sec,
	    .atimensec = (uint32_t)st->st_atim.tv_nsec,
	    .mtimensec = (uint32_t)st->st_mtim.tv_nsec,
	    .ctimensec = (uint32_t)st->st_ctim.tv_nsec,
	    .mode = st->st_mode,
	    .nlink = (uint32_t)st->st_nlink,
	    .uid = tree_shown_uid(&s->tree, st->st_uid),
	    .gid = tree_shown_gid(&s->tree, st->st_gid),
	    /* 12 bits of major, 20 of minor, scattered as the guest's kernel has them. */
	    .rdev = (minor(st->st_rdev) & 0xff) | (major(st->st_rdev) & 0xfff) << 8 |
		    (minor(st->st_rdev) & 0xfff00) << 12,
	    .blksize = (uint32_t)st->st_blksize,
	};
}

int fs_fill_entry(struct fs_session *s, struct fs_inode *i, struct fuse_entry_out *o)
{
	struct stat st;
	int r = node_stat(&s->tree, i->node, &st);

	if (r < 0)
		return r;
	*o = (struct fuse_entry_out){.nodeid = i->id, .attr_valid = ATTR_SECONDS};
	fs_fill_attr(s, &st, &o->attr);
	return 0;
}

int fs_put_entry(struct fs_session *s, struct fs_call *c, struct fs_inode *i)
{
	struct fuse_entry_out o;
	int r = fs_fill_entry(s, i, &o);

	if (r == 0)
		r = fs_put(c, &o, sizeof(o));
	if (r < 0)
		fs_inode_forget(s, i, 1); /* the guest does not get to know it */
	return r;
}

static int put_attr(struct fs_session *s, struct fs_call *c, int fd)
{
	struct fuse_attr_out o = {.attr_valid = ATTR_SECONDS};
	struct stat st;
	int r = 0;

	if (fd < 0)
		r = node_stat(&s->tree, c->inode->node, &st);
	else if (fstat(fd, &st) < 0)
		r = -errno;
	if (r < 0)
		return r;
	fs_fill_attr(s, &st, &o.attr);
	return fs_put(c, &o, sizeof(o));
}

int fs_getattr(struct fs_session *s, struct fs_call *c)
{
	struct fuse_getattr_in in;
	struct fs_handle *h;

	fs_take(c, &in, sizeof(in));
	if (!(in.getattr_flags & FUSE_GETATTR_FH))
		return put_attr(s, c, -1);
	h = fs_handle_find(s, in.fh);
	return h ? put_attr(s, c, h->fd) : -EBADF;
}

/* --- setattr --- */

int fs_kill_suidgid(int fd)
{
	struct stat st;
	mode_t mode;

	if (fstat(fd, &st) < 0)
		return -errno;
	mode = st.st_mode & ~(mode_t)S_ISUID;
	if (mode & S_IXGRP)
		mode &= ~(mode_t)S_ISGID;
	if (mode == st.st_mode)
		return 0;
	return fchmod(fd, mode & 07777) < 0 ? -errno : 0;
}

static int set_size(struct fs_session *s, struct fs_call *c, const struct fuse_setattr_in *in)
{
	struct fs_handle *h = NULL;
	autoclose int own = -1;
	int fd, r;

	if (in->valid & FATTR_FH)
		h = fs_handle_find(s, in->fh);
	if ((in->valid & FATTR_FH) && !h)
		return -EBADF;
	fd = h && h->writable && h->inode == c->inode ? h->fd : -1;
	if (fd < 0 && c->inode->node->mode == S_IFREG) {
		fd = own = tree_open_node(&s->tree, c->inode->node, O_WRONLY);
		if (fd < 0)
			return fd;
	}
	r = node_set_size(&s->tree, c->inode->node, fd, in->size);
	if (r == 0 && (in->valid & FATTR_KILL_SUIDGID))
		r = fs_kill_suidgid(fd);
	return r;
}

static struct timespec new_time(uint64_t sec, uint32_t nsec, uint32_t valid, uint32_t set,
				uint32_t now)
{
	struct timespec t = {.tv_sec = (time_t)sec, .tv_nsec = (long)nsec};

	if (!(valid & set))
		t.tv_nsec = UTIME_OMIT;
	else if (valid & now)
		t.tv_nsec = UTIME_NOW;
	else if (nsec > 999999999)
		t.tv_nsec = 0;
	return t;
}

int fs_setattr(struct fs_session *s, struct fs_call *c)
{
	struct tree_node *n = c->inode->node;
	struct fuse_setattr_in in;
	struct timespec times[2];
	int r = 0;

	fs_take(c, &in, sizeof(in));
	if (s->tree.read_only)
		return -EROFS;
	if (in.valid & FATTR_SIZE)
		r = set_size(s, c, &in);
	if (r == 0 && (in.valid & (FATTR_UID | FATTR_GID)))
		r = node_set_owner(&s->tree, n, in.valid & FATTR_UID ? in.uid : UINT32_MAX,
				   in.valid & FATTR_GID ? in.gid : UINT32_MAX);
	/* After the owner, whose change clears set-id bits. */
	if (r == 0 && (in.valid & FATTR_MODE))
		r = node_set_mode(&s->tree, n, in.mode);
	times[0] = new_time(in.atime, in.atimensec, in.valid, FATTR_ATIME, FATTR_ATIME_NOW);
	times[1] = new_time(in.mtime, in.mtimensec, in.valid, FATTR_MTIME, FATTR_MTIME_NOW);
	if (r == 0 && (in.valid & (FATTR_ATIME | FATTR_MTIME)))
		r = node_set_times(&s->tree, n, times);
	return r < 0 ? r : put_attr(s, c, -1);
}

/* --- the rest --- */

int fs_statfs(struct fs_session *s, struct fs_call *c)
{
	struct fuse_statfs_out o = {0};
	int fd = node_fd(&s->tree, c->inode->node);
	struct statfs st;

	if (fd < 0)
		return fd;
	if (fstatfs(fd, &st) < 0)
		return -errno;
	o.st.blocks = st.f_blocks;
	o.st.bfree = st.f_bfree;
	o.st.bavail = st.f_bavail;
	o.st.files = st.f_files;
	o.st.ffree = st.f_ffree;
	o.st.bsize = (uint32_t)st.f_bsize;
	o.st.frsize = (uint32_t)st.f_frsize;
	o.st.namelen = TREE_NAME_MAX;
	return fs_put(c, &o, sizeof(o));
}

int fs_readlink(struct fs_session *s, struct fs_call *c)
{
	char target[FS_PATH_MAX];
	int fd = node_fd(&s->tree, c->inode->node);
	ssize_t n;

	if (fd < 0)
		return fd;
	if (c->inode->node->mode != S_IFLNK)
		return -EINVAL;
	n = readlinkat(fd, "", target, sizeof(target));
	return n < 0 ? -errno : fs_put(c, target, (size_t)n);
}

/* --- extended attributes --- */

int fs_setxattr(struct fs_session *s, struct fs_call *c)
{
	struct {
		uint32_t size, flags;
	} in; /* as without FUSE_SETXATTR_EXT */
	const char *name;

	fs_take(c, &in, sizeof(in));
	name = fs_take_string(c);
	if (!name || in.size > (size_t)(c->end - c->arg))
		return -EINVAL;
	return node_set_xattr(&s->tree, c->inode->node, name, c->arg, in.size, (int)in.flags);
}

/* The value if the guest has room for it; how large it is if it asks with no room. */
static int put_sized(struct fs_call *c, const void *value, ssize_t len, uint32_t room)
{
	struct fuse_getxattr_out o = {.size = (uint32_t)len};

	if (len < 0)
		return (int)len;
	if (!room)
		return fs_put(c, &o, sizeof(o));
	return (uint32_t)len > room ? -ERANGE : fs_put(c, value, (size_t)len);
}

int fs_getxattr(struct fs_session *s, struct fs_call *c)
{
	autofree void *value = NULL;
	struct fuse_getxattr_in in;
	const char *name;

	fs_take(c, &in, sizeof(in));
	name = fs_take_string(c);
	if (!name)
		return -EINVAL;
	/* ACLs and labels are asked for all the time: after this, programs stop asking. */
	if (!xattr_is_user(name))
		return -EOPNOTSUPP;
	value = malloc(TREE_XATTR_MAX);
	if (!value)
		return -ENOMEM;
	return put_sized(c, value,
			 node_get_xattr(&s->tree, c->inode->node, name, value, TREE_XATTR_MAX),
			 in.size);
}

int fs_listxattr(struct fs_session *s, struct fs_call *c)
{
	autofree char *names = malloc(TREE_XATTR_MAX);
	struct fuse_getxattr_in in;

	fs_take(c, &in, sizeof(in));
	if (!names)
		return -ENOMEM;
	return put_sized(c, names, node_list_xattr(&s->tree, c->inode->node, names, TREE_XATTR_MAX),
			 in.size);
}

int fs_removexattr(struct fs_session *s, struct fs_call *c)
{
	const char *name = fs_take_string(c);

	return name ? node_remove_xattr(&s->tree, c->inode->node, name) : -EINVAL;
}
