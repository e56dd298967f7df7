/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio/ninep_meta.c - 9P: attributes of files and of the file system
 */
#include "virtio/ninep_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/statfs.h>

#define GETATTR_BASIC 0x7ffu
#define V9FS_MAGIC    0x01021997u

enum setattr_valid {
	SET_MODE = 1 << 0,
	SET_UID = 1 << 1,
	SET_GID = 1 << 2,
	SET_SIZE = 1 << 3,
	SET_ATIME = 1 << 4,
	SET_MTIME = 1 << 5,
	SET_CTIME = 1 << 6,
	SET_ATIME_TO = 1 << 7, /* else: now */
	SET_MTIME_TO = 1 << 8,
};

static void put_time(struct msg_out *out, const struct timespec *t)
{
	put64(out, (uint64_t)t->tv_sec);
	put64(out, (uint64_t)t->tv_nsec);
}

int p9_getattr(struct p9_session *s, struct msg_in *in, struct msg_out *out)
{
	struct p9_fid *f = get_fid(s, in);
	struct timespec none = {0};
	struct p9_qid qid;
	struct stat st;
	int r;

	if (!f)
		return -EBADF;
	/* The open file, even when its name is gone. */
	r = f->fd >= 0 ? (fstat(f->fd, &st) < 0 ? -errno : 0) : node_stat(&s->tree, f->node, &st);
	if (r < 0)
		return r;
	qid = qid_of(s, &st);
	put64(out, GETATTR_BASIC);
	put_qid(out, &qid);
	put32(out, st.st_mode);
	put32(out, tree_shown_uid(&s->tree, st.st_uid));
	put32(out, tree_shown_gid(&s->tree, st.st_gid));
	put64(out, st.st_nlink);
	put64(out, st.st_rdev);
	put64(out, (uint64_t)st.st_size);
	put64(out, (uint64_t)st.st_blksize);
	put64(out, (uint64_t)st.st_blocks);
	put_time(out, &st.st_atim);
	put_time(out, &st.st_mtim);
	put_time(out, &st.st_ctim);
	put_time(out, &none); /* btime, gen, data_version: not in the valid mask */
	put64(out, 0);
	put64(out, 0);
	return 0;
}

/* --- setattr --- */

static void get_time(struct msg_in *in, struct timespec *t, uint32_t valid, uint32_t set,
		     uint32_t to)
{
	t->tv_sec = (time_t)get64(in);
	t->tv_nsec = (long)get64(in);
	if (!(valid & set))
		t->tv_nsec = UTIME_OMIT;
	else if (!(valid & to))
		t->tv_nsec = UTIME_NOW;
}

int p9_setattr(struct p9_session *s, struct msg_in *in, struct msg_out *out)
{
	struct p9_fid *f = get_fid(s, in);
	uint32_t valid = get32(in), mode = get32(in), uid = get32(in), gid = get32(in);
	uint64_t size = get64(in);
	struct timespec times[2];
	int r = 0;

	get_time(in, &times[0], valid, SET_ATIME, SET_ATIME_TO);
	get_time(in, &times[1], valid, SET_MTIME, SET_MTIME_TO);
	if (in->bad)
		return -EINVAL;
	if (!f)
		return -EBADF;
	if (s->tree.read_only)
		return -EROFS;
	if (valid & SET_SIZE)
		r = node_set_size(&s->tree, f->node, f->writable ? f->fd : -1, size);
	if (r == 0 && (valid & (SET_UID | SET_GID)))
		r = node_set_owner(&s->tree, f->node, valid & SET_UID ? uid : UINT32_MAX,
				   valid & SET_GID ? gid : UINT32_MAX);
	/* After the owner, whose change clears set-id bits. */
	if (r == 0 && (valid & SET_MODE))
		r = node_set_mode(&s->tree, f->node, mode);
	if (r == 0 && (valid & (SET_ATIME | SET_MTIME)))
		r = node_set_times(&s->tree, f->node, times);
	return r;
}

/* --- the rest --- */

int p9_statfs(struct p9_session *s, struct msg_in *in, struct msg_out *out)
{
	struct p9_fid *f = get_fid(s, in);
	struct statfs st;
	int fd;

	if (!f)
		return -EBADF;
	fd = node_fd(&s->tree, f->node);
	if (fd < 0)
		return fd;
	if (fstatfs(fd, &st) < 0)
		return -errno;
	put32(out, V9FS_MAGIC);
	put32(out, (uint32_t)st.f_bsize);
	put64(out, st.f_blocks);
	put64(out, st.f_bfree);
	put64(out, st.f_bavail);
	put64(out, st.f_files);
	put64(out, st.f_ffree);
	put64(out, 0); /* fsid: the guest makes its own */
	put32(out, TREE_NAME_MAX);
	return 0;
}

int p9_readlink(struct p9_session *s, struct msg_in *in, struct msg_out *out)
{
	struct p9_fid *f = get_fid(s, in);
	char target[P9_PATH_MAX];
	ssize_t n;
	int fd;

	if (!f)
		return -EBADF;
	fd = node_fd(&s->tree, f->node);
	if (fd < 0)
		return fd;
	if (f->node->mode != S_IFLNK)
		return -EINVAL;
	n = readlinkat(fd, "", target, sizeof(target));
	if (n < 0)
		return -errno;
	put_str(out, target, (size_t)n);
	return 0;
}
