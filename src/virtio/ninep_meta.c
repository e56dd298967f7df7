/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio/ninep_meta.c - 9P: attributes of files and of the file system
 *
 * Owners.  A VMM that runs as root hands user and group ids through unchanged.  Any other can only
 * make files of its own user: those look like root's to the guest, and all others like nobody's.
 */
#include "virtio/ninep_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/statfs.h>

#define GETATTR_BASIC 0x7ffu
#define V9FS_MAGIC    0x01021997u
#define NOBODY        65534

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

static uint32_t shown_id(const struct p9_session *s, uint32_t id, uint32_t own)
{
	if (s->as_root)
		return id;
	return id == own ? 0 : NOBODY;
}

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
	r = f->fd >= 0 ? (fstat(f->fd, &st) < 0 ? -errno : 0) : node_stat(s, f->node, &st);
	if (r < 0)
		return r;
	qid = qid_of(s, &st);
	put64(out, GETATTR_BASIC);
	put_qid(out, &qid);
	put32(out, st.st_mode);
	put32(out, shown_id(s, st.st_uid, geteuid()));
	put32(out, shown_id(s, st.st_gid, getegid()));
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

/* --- setattr ---------------------------------------------------------------------------------- */

struct new_attr {
	uint32_t valid, mode, uid, gid;
	uint64_t size;
	struct timespec atime, mtime;
};

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

static int set_owner(struct p9_session *s, struct p9_node *n, const struct new_attr *a)
{
	uid_t uid = a->valid & SET_UID ? a->uid : (uid_t)-1;
	gid_t gid = a->valid & SET_GID ? a->gid : (gid_t)-1;
	int fd = node_fd(s, n);

	if (fd < 0)
		return fd;
	if (!s->as_root) {
		/* They are the user's, shown as 0, and stay so. */
		bool ok = (!(a->valid & SET_UID) || !uid) && (!(a->valid & SET_GID) || !gid);

		return ok ? 0 : -EPERM;
	}
	return fchownat(fd, "", uid, gid, AT_EMPTY_PATH) < 0 ? -errno : 0;
}

static int set_mode(struct p9_session *s, struct p9_node *n, uint32_t mode)
{
	char name[16];
	int r;

	if (n->mode == S_IFLNK)
		return -EOPNOTSUPP;
	r = node_proc_name(s, n, name);
	if (r < 0)
		return r;
	return fchmodat(s->proc_fd, name, mode & 07777, 0) < 0 ? -errno : 0;
}

static int set_size(struct p9_session *s, struct p9_fid *f, uint64_t size)
{
	autoclose int fd = -1;
	int use = f->fd;

	if (f->node->mode != S_IFREG)
		return f->node->mode == S_IFDIR ? -EISDIR : -EINVAL;
	if (size > INT64_MAX)
		return -EFBIG;
	if (use < 0 || !f->writable)
		use = fd = node_open(s, f->node, O_WRONLY);
	if (use < 0)
		return use;
	return ftruncate(use, (off_t)size) < 0 ? -errno : 0;
}

static int set_times(struct p9_session *s, struct p9_node *n, const struct new_attr *a)
{
	struct timespec t[2] = {a->atime, a->mtime};
	char name[16];
	int r = node_proc_name(s, n, name);

	if (r < 0)
		return r;
	/* Through the magic link to the very object, and not further if that is a symlink. */
	return utimensat(s->proc_fd, name, t, 0) < 0 ? -errno : 0;
}

int p9_setattr(struct p9_session *s, struct msg_in *in, struct msg_out *out)
{
	struct p9_fid *f = get_fid(s, in);
	struct new_attr a = {.valid = get32(in)};
	int r = 0;

	a.mode = get32(in);
	a.uid = get32(in);
	a.gid = get32(in);
	a.size = get64(in);
	get_time(in, &a.atime, a.valid, SET_ATIME, SET_ATIME_TO);
	get_time(in, &a.mtime, a.valid, SET_MTIME, SET_MTIME_TO);
	if (in->bad)
		return -EINVAL;
	if (!f)
		return -EBADF;
	if (s->read_only)
		return -EROFS;
	if (a.valid & SET_SIZE)
		r = set_size(s, f, a.size);
	if (r == 0 && (a.valid & (SET_UID | SET_GID)))
		r = set_owner(s, f->node, &a);
	/* After the owner, whose change clears set-id bits. */
	if (r == 0 && (a.valid & SET_MODE))
		r = set_mode(s, f->node, a.mode);
	if (r == 0 && (a.valid & (SET_ATIME | SET_MTIME)))
		r = set_times(s, f->node, &a);
	return r;
}

/* --- the rest --------------------------------------------------------------------------------- */

int p9_statfs(struct p9_session *s, struct msg_in *in, struct msg_out *out)
{
	struct p9_fid *f = get_fid(s, in);
	struct statfs st;
	int fd;

	if (!f)
		return -EBADF;
	fd = node_fd(s, f->node);
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
	put32(out, P9_NAME_MAX);
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
	fd = node_fd(s, f->node);
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
