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
	fd = tree_open_node(&s->tree, f->node, flags);
	if (fd < 0)
		return fd;
	r = fid_set_fd(s, f, fd, (int)flags);
	return r < 0 ? r : put_opened(s, f, out);
}

int p9_lcreate(struct p9_session *s, struct msg_in *in, struct msg_out *out)
{
	struct p9_fid *f = get_fid(s, in);
	char name[TREE_NAME_MAX + 1];
	struct tree_new what = {0};
	struct tree_node *node;
	uint32_t flags;
	int fd, r;

	get_str(in, name, TREE_NAME_MAX);
	flags = get32(in);
	what.mode = S_IFREG | (get32(in) & 07777);
	what.gid = get32(in);
	if (in->bad || !name_ok(name))
		return -EINVAL;
	if (!f || f->fd >= 0 || f->xattr)
		return -EBADF;
	what.uid = f->uid;
	fd = tree_create(&s->tree, f->node, name, flags, &what, &node);
	if (fd < 0)
		return fd;
	node_put(&s->tree, f->node);
	f->node = node;
	r = fid_set_fd(s, f, fd, (int)flags);
	return r < 0 ? r : put_opened(s, f, out);
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

/* --- locks --- */

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
	char client[TREE_NAME_MAX + 1];
	uint64_t start, length;
	uint32_t proc;

	(void)get8(in);
	start = get64(in);
	length = get64(in);
	proc = get32(in);
	get_str(in, client, TREE_NAME_MAX);
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

/* --- directories --- */

static void put_entry(struct p9_session *s, const struct p9_fid *f, const struct dirent64 *d,
		      struct msg_out *out)
{
	struct stat st = {
	    .st_ino = d->d_ino, .st_mode = DTTOIF(d->d_type), .st_dev = f->node->id.dev};
	struct p9_qid qid;

	/* What lies above the share is none of the guest's business, its inode number neither. */
	if (!f->node->parent && strcmp(d->d_name, "..") == 0)
		st.st_ino = f->node->id.ino;
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
