/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio/ninep_file.c - 9P: open, create, read, write, directories, locks
 */
#include "virtio/ninep_priv.h"
#include "virtio/virtio.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>

#define READ_HEAD   (P9_HEADER + 4)         /* count[4] before the data */
#define WRITE_HEAD  (P9_HEADER + 4 + 8 + 4) /* fid[4] offset[8] count[4] before it */
#define DIRENT_HEAD (13 + 8 + 1 + 2)        /* qid offset type name length */

#define LOCK_SUCCESS 0
#define LOCK_UNLOCK  2

/* The flags of 9P2000.L are Linux's own; those that make sense for us to hand on. */
#define OPEN_FLAGS (O_ACCMODE | O_APPEND | O_DSYNC | O_SYNC)

static bool wants_write(uint32_t flags)
{
	return (flags & O_ACCMODE) != O_RDONLY || (flags & (O_TRUNC | O_CREAT));
}

static int put_opened(struct p9_session *s, struct p9_fid *f, struct msg_out *out)
{
	struct p9_qid qid;
	struct stat st;

	if (fstat(f->fd, &st) < 0)
		return -errno;
	qid = qid_of(s, &st);
	put_qid(out, &qid);
	put32(out, 0); /* iounit: as large as msize allows */
	return 0;
}

int p9_lopen(struct p9_session *s, struct msg_in *in, struct msg_out *out)
{
	struct p9_fid *f = get_fid(s, in);
	uint32_t flags = get32(in);
	int fd, r;

	if (in->bad)
		return -EINVAL;
	if (!f || f->fd >= 0 || f->xattr)
		return -EBADF;
	if (s->read_only && wants_write(flags))
		return -EROFS;
	if (f->node->mode == S_IFDIR && wants_write(flags))
		return -EISDIR;
	if ((flags & O_DIRECTORY) && f->node->mode != S_IFDIR)
		return -ENOTDIR;
	fd = node_open(s, f->node, (int)(flags & OPEN_FLAGS));
	if (fd < 0)
		return fd;
	if ((flags & O_TRUNC) && ftruncate(fd, 0) < 0) {
		r = -errno;
		close(fd);
		return r;
	}
	r = fid_set_fd(s, f, fd, (int)flags);
	return r < 0 ? r : put_opened(s, f, out);
}

/* As open(O_CREAT), but an existing object is opened only if node_open() likes its kind. */
static int create_file(struct p9_session *s, struct p9_node *dir, const char *name, uint32_t flags,
		       uint32_t mode, struct p9_node **node, bool *made)
{
	int keep = (int)(flags & OPEN_FLAGS), dir_fd = node_fd(s, dir), fd, r;

	if (dir_fd < 0)
		return dir_fd;
	fd = openat(dir_fd, name,
		    keep | O_CREAT | O_EXCL | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK | O_CLOEXEC,
		    mode & 0777);
	*made = fd >= 0;
	if (fd < 0 && (errno != EEXIST || (flags & O_EXCL)))
		return -errno;
	r = node_walk(s, dir, name, node);
	if (r == 0 && fd < 0) {
		r = fd = node_open(s, *node, keep);
		if (fd >= 0 && (flags & O_TRUNC) && ftruncate(fd, 0) < 0)
			r = -errno;
		if (r < 0) {
			node_put(s, *node);
			*node = NULL;
		}
	}
	if (r < 0) {
		close_p(&fd);
		return r;
	}
	return fd;
}

int p9_lcreate(struct p9_session *s, struct msg_in *in, struct msg_out *out)
{
	struct p9_fid *f = get_fid(s, in);
	char name[P9_NAME_MAX + 1];
	uint32_t flags, mode, gid;
	struct p9_node *node = NULL;
	bool made;
	int fd, r;

	get_str(in, name, P9_NAME_MAX);
	flags = get32(in);
	mode = get32(in);
	gid = get32(in);
	if (in->bad || !name_ok(name))
		return -EINVAL;
	if (!f || f->fd >= 0 || f->xattr)
		return -EBADF;
	if (s->read_only)
		return -EROFS;
	if (f->node->mode != S_IFDIR)
		return -ENOTDIR;
	fd = create_file(s, f->node, name, flags, mode, &node, &made);
	if (fd < 0)
		return fd;
	/* Ownership and the exact mode, whatever our umask is; chown first, since it clears bits.
	 */
	if (made && s->as_root && fchown(fd, f->uid, gid) < 0)
		goto fail;
	if (made && fchmod(fd, mode & 07777) < 0)
		goto fail;
	node_put(s, f->node);
	f->node = node;
	r = fid_set_fd(s, f, fd, (int)flags);
	return r < 0 ? r : put_opened(s, f, out);
fail:
	r = -errno;
	close(fd);
	node_put(s, node);
	return r;
}

/* Straight from the file into the guest's pages; p9_handle() adds the head in front of them. */
int p9_read(struct p9_session *s, struct msg_in *in, struct msg_out *out)
{
	struct p9_fid *f = get_fid(s, in);
	uint64_t off = get64(in);
	uint32_t count = get32(in);
	struct iovec iov[VQ_CHAIN_MAX];
	unsigned int n;
	ssize_t got;

	if (in->bad)
		return -EINVAL;
	count = MIN(count, s->msize - READ_HEAD);
	count = (uint32_t)MIN((size_t)count, s->in_len - READ_HEAD);
	if (f && f->xattr && !f->xattr->write)
		return xattr_read(f, off, count, out);
	if (!f || f->fd < 0)
		return -EBADF;
	if (f->is_dir)
		return -EISDIR;
	n = iov_slice(iov, VQ_CHAIN_MAX, s->in, s->n_in, READ_HEAD, count);
	do {
		got = preadv(f->fd, iov, (int)n, (off_t)off);
	} while (got < 0 && errno == EINTR);
	if (got < 0)
		return -errno;
	put32(out, (uint32_t)got);
	s->direct = (size_t)got;
	return 0;
}

static int write_file(struct p9_session *s, const struct p9_fid *f, uint64_t off, uint32_t count,
		      struct msg_out *out)
{
	struct iovec iov[VQ_CHAIN_MAX];
	unsigned int n = iov_slice(iov, VQ_CHAIN_MAX, s->out, s->n_out, WRITE_HEAD, count);
	ssize_t put;

	do {
		put = pwritev(f->fd, iov, (int)n, (off_t)off);
	} while (put < 0 && errno == EINTR);
	if (put < 0)
		return -errno;
	put32(out, (uint32_t)put);
	return 0;
}

int p9_write(struct p9_session *s, struct msg_in *in, struct msg_out *out)
{
	struct p9_fid *f = get_fid(s, in);
	uint64_t off = get64(in);
	uint32_t count = get32(in);
	uint32_t size = load_le32(s->request);
	int r;

	if (in->bad || size < WRITE_HEAD || count > size - WRITE_HEAD)
		return -EINVAL;
	if (f && f->xattr && f->xattr->write) {
		if (count > (size_t)(in->end - in->p))
			return -ENOSPC;
		r = xattr_write(f, off, in->p, count);
		if (r == 0)
			put32(out, count);
		return r;
	}
	if (!f || f->fd < 0 || !f->writable)
		return -EBADF;
	return write_file(s, f, off, count, out);
}

int p9_fsync(struct p9_session *s, struct msg_in *in, struct msg_out *out)
{
	struct p9_fid *f = get_fid(s, in);
	uint32_t data_only = get32(in);

	if (!f || f->fd < 0)
		return -EBADF;
	if ((data_only ? fdatasync(f->fd) : fsync(f->fd)) < 0)
		return -errno;
	return 0;
}

/* --- locks ------------------------------------------------------------------------------------ */

/*
 * The guest's kernel has checked its own processes' locks before it asks.  A share is one guest's,
 * so there is nobody else to keep out: locks of the host's processes are not seen, and theirs not
 * ours.
 */
int p9_lock(struct p9_session *s, struct msg_in *in, struct msg_out *out)
{
	struct p9_fid *f = get_fid(s, in);

	if (!f || f->fd < 0)
		return -EBADF;
	put8(out, LOCK_SUCCESS);
	return 0;
}

int p9_getlock(struct p9_session *s, struct msg_in *in, struct msg_out *out)
{
	struct p9_fid *f = get_fid(s, in);
	char client[P9_NAME_MAX + 1];
	uint64_t start, length;
	uint32_t proc;

	(void)get8(in);
	start = get64(in);
	length = get64(in);
	proc = get32(in);
	get_str(in, client, P9_NAME_MAX);
	if (in->bad)
		return -EINVAL;
	if (!f || f->fd < 0)
		return -EBADF;
	put8(out, LOCK_UNLOCK);
	put64(out, start);
	put64(out, length);
	put32(out, proc);
	put_str(out, client, strlen(client));
	return 0;
}

/* --- directories ------------------------------------------------------------------------------ */

static void put_entry(struct p9_session *s, const struct p9_fid *f, const struct dirent64 *d,
		      struct msg_out *out)
{
	struct stat st = {.st_ino = d->d_ino, .st_mode = DTTOIF(d->d_type), .st_dev = f->node->dev};
	struct p9_qid qid;

	/* What lies above the share is none of the guest's business, its inode number neither. */
	if (!f->node->parent && strcmp(d->d_name, "..") == 0)
		st.st_ino = f->node->ino;
	qid = qid_of(s, &st);
	qid.version = 0;
	put_qid(out, &qid);
	put64(out, (uint64_t)d->d_off);
	put8(out, d->d_type);
	put_str(out, d->d_name, strlen(d->d_name));
}

int p9_readdir(struct p9_session *s, struct msg_in *in, struct msg_out *out)
{
	struct p9_fid *f = get_fid(s, in);
	uint64_t off = get64(in);
	uint32_t count = get32(in);
	uint8_t raw[16384] __attribute__((aligned(8)));
	size_t start = out->len, limit;
	long n;

	if (in->bad)
		return -EINVAL;
	if (!f || f->fd < 0)
		return -EBADF;
	if (!f->is_dir)
		return -ENOTDIR;
	put32(out, 0);
	if (out->full)
		return -EMSGSIZE;
	count = MIN(count, s->msize - READ_HEAD);
	limit = MIN(out->cap, out->len + count);
	if (lseek(f->fd, (off_t)off, SEEK_SET) < 0)
		return -errno;
	for (;;) {
		n = syscall(SYS_getdents64, f->fd, raw, sizeof(raw));
		if (n <= 0)
			break;
		for (long at = 0; at < n;) {
			const struct dirent64 *d = (const void *)(raw + at);

			/* What does not fit is read again from its offset next time. */
			if (limit - out->len < DIRENT_HEAD + strlen(d->d_name))
				goto out;
			put_entry(s, f, d, out);
			at += d->d_reclen;
		}
	}
	if (out->len == start + 4 && n < 0)
		return -errno;
out:
	if (out->len == start + 4 && n > 0)
		return -EINVAL; /* not even one entry fits */
	store_le32(out->buf + start, (uint32_t)(out->len - start - 4));
	return 0;
}
