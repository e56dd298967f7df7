/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio/fs_file.c - FUSE: open files
 *
 * Data moves directly between the file and the guest's pages.
 */
#include "virtio/fs_priv.h"
#include "virtio/virtio.h"

#include <errno.h>
#include <fcntl.h>

#define COPY_MAX (16u << 20) /* at once, so that others get their turn */
#define MODES    (FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)

static bool same_time(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

/*
 * May the guest keep what it has cached of the file?  Only if it is as it was when opened before,
 * and if a change in the meantime would show: times tick so slowly that two changes close together
 * may bear the same.
 */
static bool is_unchanged(struct fs_inode *i, int fd)
{
	struct timespec now;
	struct stat st;
	bool same;

	if (fstat(fd, &st) < 0)
		return false;
	clock_gettime(CLOCK_REALTIME, &now);
	same = st.st_size == i->seen_size && same_time(&st.st_mtim, &i->seen_mtime) &&
	       same_time(&st.st_ctim, &i->seen_ctime);
	i->seen_size = now.tv_sec - st.st_ctim.tv_sec >= 2 ? st.st_size : -1;
	i->seen_mtime = st.st_mtim;
	i->seen_ctime = st.st_ctim;
	return same;
}

int fs_open(struct fs_session *s, struct fs_call *c)
{
	struct fuse_open_out o = {0};
	struct fuse_open_in in;
	int fd, r;

	fs_take(c, &in, sizeof(in));
	if (c->inode->node->mode == S_IFDIR)
		return -EISDIR;
	fd = tree_open_node(&s->tree, c->inode->node, in.flags);
	if (fd < 0)
		return fd;
	if ((in.flags & O_TRUNC) && (in.open_flags & FUSE_OPEN_KILL_SUIDGID)) {
		r = fs_kill_suidgid(fd);
		if (r < 0) {
			close(fd);
			return r;
		}
	}
	if (is_unchanged(c->inode, fd))
		o.open_flags = FOPEN_KEEP_CACHE;
	r = fs_handle_new(s, c->inode, fd, (in.flags & O_ACCMODE) != O_RDONLY, &o.fh);
	return r < 0 ? r : fs_put(c, &o, sizeof(o));
}

int fs_read(struct fs_session *s, struct fs_call *c)
{
	const size_t head = sizeof(struct fuse_out_header);
	struct iovec iov[VQ_CHAIN_MAX];
	struct fuse_read_in in;
	struct fs_handle *h;
	unsigned int n;
	ssize_t got;

	fs_take(c, &in, sizeof(in));
	h = fs_handle_find(s, in.fh);
	if (!h)
		return -EBADF;
	if (h->inode->node->mode != S_IFREG)
		return -EISDIR;
	n = iov_slice(iov, VQ_CHAIN_MAX, s->in, s->n_in, head, in.size);
	do {
		got = preadv(h->fd, iov, (int)n, (off_t)in.offset);
	} while (got < 0 && errno == EINTR);
	if (got < 0)
		return -errno;
	s->direct = (size_t)got;
	return 0;
}

int fs_write(struct fs_session *s, struct fs_call *c)
{
	const size_t head = sizeof(struct fuse_in_header) + sizeof(struct fuse_write_in);
	struct iovec iov[VQ_CHAIN_MAX];
	struct fuse_write_out o = {0};
	struct fuse_write_in in;
	struct fs_handle *h;
	unsigned int n;
	ssize_t put;
	int r;

	fs_take(c, &in, sizeof(in));
	h = fs_handle_find(s, in.fh);
	if (in.size > c->data_len)
		return -EINVAL;
	if (!h || !h->writable || h->inode->node->mode != S_IFREG)
		return -EBADF;
	if (in.write_flags & FUSE_WRITE_KILL_SUIDGID) {
		r = fs_kill_suidgid(h->fd);
		if (r < 0)
			return r;
	}
	n = iov_slice(iov, VQ_CHAIN_MAX, s->out, s->n_out, head, in.size);
	do {
		put = pwritev(h->fd, iov, (int)n, (off_t)in.offset);
	} while (put < 0 && errno == EINTR);
	if (put < 0)
		return -errno;
	o.size = (uint32_t)put;
	return fs_put(c, &o, sizeof(o));
}

/* Directories, too. */
int fs_release(struct fs_session *s, struct fs_call *c)
{
	struct fuse_release_in in;
	struct fs_handle *h;

	fs_take(c, &in, sizeof(in));
	h = fs_handle_find(s, in.fh);
	if (!h)
		return -EBADF;
	fs_handle_free(s, h);
	return 0;
}

/* Directories, too. */
int fs_fsync(struct fs_session *s, struct fs_call *c)
{
	struct fuse_fsync_in in;
	struct fs_handle *h;

	fs_take(c, &in, sizeof(in));
	h = fs_handle_find(s, in.fh);
	if (!h)
		return -EBADF;
	if ((in.fsync_flags & FUSE_FSYNC_FDATASYNC ? fdatasync(h->fd) : fsync(h->fd)) < 0)
		return -errno;
	return 0;
}

int fs_lseek(struct fs_session *s, struct fs_call *c)
{
	struct fuse_lseek_out o;
	struct fuse_lseek_in in;
	struct fs_handle *h;
	off_t at;

	fs_take(c, &in, sizeof(in));
	h = fs_handle_find(s, in.fh);
	if (!h || h->inode->node->mode != S_IFREG)
		return -EBADF;
	/* The guest does the others itself. */
	if (in.whence != SEEK_DATA && in.whence != SEEK_HOLE)
		return -EINVAL;
	at = lseek(h->fd, (off_t)in.offset, (int)in.whence);
	if (at < 0)
		return -errno;
	o.offset = (uint64_t)at;
	return fs_put(c, &o, sizeof(o));
}

int fs_fallocate(struct fs_session *s, struct fs_call *c)
{
	struct fuse_fallocate_in in;
	struct fs_handle *h;
	int r;

	fs_take(c, &in, sizeof(in));
	h = fs_handle_find(s, in.fh);
	if (!h || !h->writable)
		return -EBADF;
	if (in.mode & ~(uint32_t)MODES)
		return -EOPNOTSUPP;
	do {
		r = fallocate(h->fd, (int)in.mode, (off_t)in.offset, (off_t)in.length);
	} while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}

int fs_copy_file_range(struct fs_session *s, struct fs_call *c)
{
	struct fuse_copy_file_range_in in;
	struct fuse_write_out o = {0};
	struct fs_handle *from, *to;
	off64_t off_in, off_out;
	ssize_t n;

	fs_take(c, &in, sizeof(in));
	from = fs_handle_find(s, in.fh_in);
	to = fs_handle_find(s, in.fh_out);
	if (!from || !to || !to->writable)
		return -EBADF;
	if (in.flags)
		return -EINVAL;
	off_in = (off64_t)in.off_in;
	off_out = (off64_t)in.off_out;
	n = copy_file_range(from->fd, &off_in, to->fd, &off_out,
			    (size_t)MIN(in.len, (uint64_t)COPY_MAX), 0);
	if (n < 0)
		return -errno;
	o.size = (uint32_t)n;
	return fs_put(c, &o, sizeof(o));
}
