/* SPDX-License-Identifier: Apache-2.0 */
/*
 * block/raw.c - a file or block device, byte for byte
 *
 * Two descriptors of one file: `direct_fd` (O_DIRECT) serves requests of whole pages whose buffers
 * are aligned as the file system wants them, `fd` all others through the page cache.  The kernel
 * keeps the two coherent, but by pages: of a page that one request changes in the cache while
 * another writes a different sector of it past the cache, one change may be lost.  So no page is
 * ever written in part past the cache; requests in flight for the same bytes have no defined
 * outcome on any disk.  Nothing needs a bounce buffer or a read-modify-write.
 */
#include "base/fd.h"
#include "block/aio.h"
#include "block/block.h"
#include "block/node_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define PAGE       4096u
#define ZERO_CHUNK (64u << 10)
#define ZERO_IOVS  64 /* 4 MiB of zeroes a write */

struct raw {
	struct blk blk;
	struct aio *aio;
	int fd, direct_fd;
	uint64_t align; /* of direct_fd */
	bool growable;  /* a file that holds a format's structures */
};

/* What a request is doing at the moment. */
enum raw_step { STEP_IO, STEP_SYNC, STEP_PUNCH, STEP_ZERO_RANGE, STEP_ZERO_WRITE };

struct raw_io {
	struct aio_req aio;
	struct raw *raw;
	struct blk_req *req;
	enum raw_step step;
	uint64_t done;      /* bytes moved so far */
	struct iovec *tail; /* of a request that came back short */
};

static const uint8_t zeroes[ZERO_CHUNK];

static void raw_finish(struct raw_io *io, int result)
{
	struct blk *b = &io->raw->blk;
	struct blk_req *req = io->req;

	free(io->tail);
	free(io);
	blk_complete(b, req, result);
}

static bool is_aligned(const struct raw *raw, const struct blk_req *r)
{
	uint64_t bits = 0;

	if ((r->offset | r->len) & (PAGE - 1))
		return false;
	for (unsigned int i = 0; i < r->n_iov; i++)
		bits |= (uintptr_t)r->iov[i].iov_base | r->iov[i].iov_len;
	return !(bits & (raw->align - 1));
}

static void start_rw(struct raw_io *io)
{
	const struct blk_req *r = io->req;
	bool direct = io->raw->direct_fd >= 0 && is_aligned(io->raw, r);

	io->step = STEP_IO;
	io->aio.op = r->op == BLK_READ ? AIO_READ : AIO_WRITE;
	io->aio.fd = direct ? io->raw->direct_fd : io->raw->fd;
	io->aio.iov = r->iov;
	io->aio.n_iov = r->n_iov;
	io->aio.off = r->offset;
	aio_submit(io->raw->aio, &io->aio);
}

static void start_sync(struct raw_io *io)
{
	io->step = STEP_SYNC;
	io->aio.op = AIO_SYNC;
	io->aio.fd = io->raw->fd;
	aio_submit(io->raw->aio, &io->aio);
}

static void start_allocate(struct raw_io *io, enum raw_step step)
{
	io->step = step;
	io->aio.op = AIO_ALLOCATE;
	io->aio.fd = io->raw->fd;
	io->aio.mode = FALLOC_FL_KEEP_SIZE |
		       (step == STEP_PUNCH ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE);
	io->aio.off = io->req->offset;
	io->aio.len = io->req->len;
	aio_submit(io->raw->aio, &io->aio);
}

/* The next piece of zeroes, or the end of them. */
static void zero_write(struct raw_io *io)
{
	uint64_t left = io->req->len - io->done;
	unsigned int n = 0;

	io->step = STEP_ZERO_WRITE;
	if (!left) {
		raw_finish(io, 0);
		return;
	}
	for (; left && n < ZERO_IOVS; n++) {
		size_t part = (size_t)MIN(left, (uint64_t)ZERO_CHUNK);

		io->tail[n] = (struct iovec){(void *)(uintptr_t)zeroes, part};
		left -= part;
	}
	io->aio.op = AIO_WRITE;
	io->aio.fd = io->raw->fd;
	io->aio.iov = io->tail;
	io->aio.n_iov = n;
	io->aio.off = io->req->offset + io->done;
	aio_submit(io->raw->aio, &io->aio);
}

static void start_zero_write(struct raw_io *io)
{
	io->tail = xcalloc(ZERO_IOVS, sizeof(*io->tail));
	zero_write(io);
}

/* The rest of a short transfer; through the page cache, since alignment may be lost. */
static void continue_rw(struct raw_io *io)
{
	const struct blk_req *r = io->req;
	uint64_t skip = io->done;
	unsigned int n = 0;

	if (!io->tail)
		io->tail = xcalloc(r->n_iov, sizeof(*io->tail));
	for (unsigned int i = 0; i < r->n_iov; i++) {
		if (skip >= r->iov[i].iov_len) {
			skip -= r->iov[i].iov_len;
			continue;
		}
		io->tail[n].iov_base = (char *)r->iov[i].iov_base + skip;
		io->tail[n++].iov_len = r->iov[i].iov_len - skip;
		skip = 0;
	}
	io->aio.fd = io->raw->fd;
	io->aio.iov = io->tail;
	io->aio.n_iov = n;
	io->aio.off = r->offset + io->done;
	aio_submit(io->raw->aio, &io->aio);
}

/* What is past the end of a growing file was never written. */
static void zero_rest(const struct raw_io *io)
{
	const struct blk_req *r = io->req;
	uint64_t skip = io->done;

	for (unsigned int i = 0; i < r->n_iov; i++) {
		uint64_t part = MIN(skip, (uint64_t)r->iov[i].iov_len);

		memset((char *)r->iov[i].iov_base + part, 0, r->iov[i].iov_len - part);
		skip -= part;
	}
}

static void rw_done(struct raw_io *io, int64_t result)
{
	const struct blk_req *r = io->req;

	if (result == 0 && r->op == BLK_READ && io->raw->growable) {
		zero_rest(io);
		raw_finish(io, 0);
		return;
	}
	if (result <= 0) {
		/* 0: somebody cut the file short under us. */
		raw_finish(io, result < 0 ? (int)result : -EIO);
		return;
	}
	io->done += (uint64_t)result;
	if (io->done < r->len)
		continue_rw(io);
	else if (r->op == BLK_WRITE && (r->flags & BLK_FUA))
		start_sync(io);
	else
		raw_finish(io, 0);
}

static bool unsupported(int64_t result)
{
	return result == -EOPNOTSUPP || result == -EINVAL || result == -ENODEV || result == -ENOSYS;
}

/* What the file system cannot deallocate is zeroed, and at last written (a discard is just a hint).
 */
static void allocate_done(struct raw_io *io, int64_t result)
{
	if (!unsupported(result))
		raw_finish(io, (int)result);
	else if (io->req->op == BLK_DISCARD)
		raw_finish(io, 0);
	else if (io->step == STEP_PUNCH)
		start_allocate(io, STEP_ZERO_RANGE);
	else
		start_zero_write(io);
}

static void aio_done(struct aio_req *a, int64_t result)
{
	struct raw_io *io = container_of(a, struct raw_io, aio);

	if (result == -EAGAIN || result == -EINTR) {
		aio_submit(io->raw->aio, a);
		return;
	}
	switch (io->step) {
	case STEP_IO:
		rw_done(io, result);
		break;
	case STEP_SYNC:
		raw_finish(io, (int)result);
		break;
	case STEP_PUNCH:
	case STEP_ZERO_RANGE:
		allocate_done(io, result);
		break;
	case STEP_ZERO_WRITE:
		if (result <= 0) {
			raw_finish(io, result < 0 ? (int)result : -EIO);
			break;
		}
		io->done += (uint64_t)result;
		zero_write(io);
		break;
	}
}

static void raw_submit(struct blk *b, struct blk_req *r)
{
	struct raw_io *io = xnew(struct raw_io);

	io->raw = container_of(b, struct raw, blk);
	io->req = r;
	io->aio.done = aio_done;
	switch (r->op) {
	case BLK_READ:
	case BLK_WRITE:
		start_rw(io);
		break;
	case BLK_FLUSH:
		start_sync(io);
		break;
	case BLK_DISCARD:
		start_allocate(io, STEP_PUNCH);
		break;
	case BLK_WRITE_ZEROES:
		start_allocate(io, r->flags & BLK_UNMAP ? STEP_PUNCH : STEP_ZERO_RANGE);
		break;
	}
}

static void raw_poll(struct blk *b, int timeout_ms)
{
	aio_poll(container_of(b, struct raw, blk)->aio, timeout_ms);
}

static void raw_close(struct blk *b)
{
	struct raw *raw = container_of(b, struct raw, blk);

	aio_free(raw->aio);
	close_p(&raw->fd);
	close_p(&raw->direct_fd);
	blk_fini(&raw->blk);
	free(raw);
}

static int raw_share(struct blk *b)
{
	struct raw *raw = container_of(b, struct raw, blk);

	b->info.read_only = true;
	return blk_lock_file(raw->fd, "", false, NULL);
}

/* Holes.  Writes in flight do not count: who asks has none. */
static uint64_t raw_known_zeroes(struct blk *b, uint64_t offset)
{
	const struct raw *raw = container_of(b, struct raw, blk);
	off_t data = lseek(raw->fd, (off_t)offset, SEEK_DATA);

	if (data < 0)
		return errno == ENXIO && offset < b->info.size ? b->info.size - offset : 0;
	return MIN((uint64_t)data, b->info.size) - MIN(offset, b->info.size);
}

static const struct blk_ops raw_ops = {
    .share = raw_share,
    .known_zeroes = raw_known_zeroes,
    .name = "raw",
    .submit = raw_submit,
    .poll = raw_poll,
    .close = raw_close,
};

/* Smallest alignment of offset, length and memory that a direct read accepts; 0 = none does. */
static uint64_t probe_align(int fd)
{
	uint8_t *page =
	    mmap(NULL, 16384, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t found = 0;

	if (page == MAP_FAILED)
		return 0;
	for (uint64_t align = 512; align <= 4096 && !found; align *= 2) {
		/* An odd multiple of the alignment, so that a coarser need shows. */
		if (pread(fd, page + align, align, (off_t)align) >= 0)
			found = align;
	}
	munmap(page, 16384);
	return found;
}

/* The same file once more, with O_DIRECT; works for unlinked and renamed files too. */
static void open_direct(struct raw *raw)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", raw->fd);
	raw->direct_fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
	if (raw->direct_fd < 0)
		return;
	raw->align = probe_align(raw->direct_fd);
	if (!raw->align) {
		close(raw->direct_fd);
		raw->direct_fd = -1;
	}
}

static int find_size(struct raw *raw, const char *name, struct err *e)
{
	struct blk_info *info = &raw->blk.info;
	struct stat st;
	int sector = 512;

	if (fstat(raw->fd, &st) < 0)
		return err_set(e, -errno, "disk '%s'", name);
	if (S_ISBLK(st.st_mode)) {
		if (ioctl(raw->fd, BLKGETSIZE64, &info->size) < 0 ||
		    ioctl(raw->fd, BLKSSZGET, &sector) < 0)
			return err_set(e, -errno, "disk '%s': size", name);
	} else {
		info->size = (uint64_t)st.st_size;
	}
	info->block_size = (uint32_t)sector;
	if (!info->size)
		return err_msg(e, -EINVAL, "disk '%s' is empty", name);
	if (info->size % info->block_size)
		return err_msg(e, -EINVAL,
			       "disk '%s': its size of %llu bytes is not a multiple of %u; "
			       "enlarge it with truncate",
			       name, (unsigned long long)info->size, info->block_size);
	return 0;
}

/* --- calls that block --- */

static int sync_read(struct blk *b, void *buf, size_t len, uint64_t off)
{
	const struct raw *raw = container_of(b, struct raw, blk);
	char *at = buf;

	while (len) {
		ssize_t n = pread(raw->fd, at, len, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		at += n;
		off += (uint64_t)n;
		len -= (size_t)n;
	}
	memset(at, 0, len);
	return 0;
}

static int sync_write(struct blk *b, const void *buf, size_t len, uint64_t off)
{
	return pwrite_full(container_of(b, struct raw, blk)->fd, buf, len, off);
}

static int sync_flush(struct blk *b)
{
	return fdatasync(container_of(b, struct raw, blk)->fd) < 0 ? -errno : 0;
}

static int sync_size(struct blk *b, uint64_t *ret)
{
	off_t end = lseek(container_of(b, struct raw, blk)->fd, 0, SEEK_END);

	if (end < 0)
		return -errno;
	*ret = (uint64_t)end;
	return 0;
}

static int sync_truncate(struct blk *b, uint64_t size)
{
	return ftruncate(container_of(b, struct raw, blk)->fd, (off_t)size) < 0 ? -errno : 0;
}

static int sync_extend(struct blk *b, uint64_t size)
{
	int fd = container_of(b, struct raw, blk)->fd;
	off_t end = lseek(fd, 0, SEEK_END);

	if (end < 0 || (uint64_t)end >= size)
		return end < 0 ? -errno : 0;
	if (fallocate(fd, 0, end, (off_t)size - end) == 0)
		return 0;
	return errno == EOPNOTSUPP ? sync_truncate(b, size) : -errno;
}

static void sync_punch(struct blk *b, uint64_t off, uint64_t len)
{
	(void)fallocate(container_of(b, struct raw, blk)->fd,
			FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)off, (off_t)len);
}

static const struct blk_sync_ops raw_sync_ops = {
    .read = sync_read,
    .write = sync_write,
    .flush = sync_flush,
    .size = sync_size,
    .truncate = sync_truncate,
    .extend = sync_extend,
    .punch = sync_punch,
};

static const struct blk_ops raw_file_ops = {
    .share = raw_share,
    .name = "file",
    .submit = raw_submit,
    .poll = raw_poll,
    .close = raw_close,
    .sync = &raw_sync_ops,
};

static int make(int fd, const char *name, bool read_only, bool direct, bool growable,
		struct loop *l, struct blk **ret, struct err *e)
{
	struct raw *raw = xnew(struct raw);
	int r = 0;

	blk_init(&raw->blk, growable ? &raw_file_ops : &raw_ops, l);
	raw->growable = growable;
	raw->fd = fd;
	raw->direct_fd = -1;
	raw->blk.info.read_only = read_only;
	raw->blk.info.discard = raw->blk.info.write_zeroes = !read_only;
	if (growable) {
		raw->blk.info.size = INT64_MAX;
		raw->blk.info.block_size = 1;
	} else {
		r = find_size(raw, name, e);
	}
	if (r == 0)
		r = aio_new(l, &raw->aio, e);
	if (r < 0) {
		raw->fd = -1; /* stays the caller's */
		raw_close(&raw->blk);
		return r;
	}
	if (direct && !read_only)
		open_direct(raw);
	*ret = &raw->blk;
	return 0;
}

int raw_new(int fd, const char *name, bool read_only, bool direct, struct loop *l, struct blk **ret,
	    struct err *e)
{
	return make(fd, name, read_only, direct, false, l, ret, e);
}

int raw_file_new(int fd, const char *name, bool read_only, bool direct, struct loop *l,
		 struct blk **ret, struct err *e)
{
	return make(fd, name, read_only, direct, true, l, ret, e);
}
