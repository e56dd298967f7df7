/* SPDX-License-Identifier: Apache-2.0 */
/*
 * block/blk.c - the front doors: opening by description, checks, completion
 */
#include "block/block.h"

#include "base/exit.h"
#include "base/fd.h"
#include "base/fd_table.h"
#include "block/node_priv.h"
#include "block/qcow2.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

/* --- requests --- */

static void run_later(void *opaque)
{
	struct blk *b = opaque;

	for (;;) {
		struct blk_req *r = NULL;

		pthread_mutex_lock(&b->later_lock);
		if (!list_empty(&b->later)) {
			r = container_of(b->later.next, struct blk_req, node);
			list_remove(&r->node);
		}
		pthread_mutex_unlock(&b->later_lock);
		if (!r)
			return;
		blk_complete(b, r, (int)(intptr_t)r->node_data);
	}
}

void blk_init(struct blk *b, const struct blk_ops *ops, struct loop *l)
{
	b->ops = ops;
	b->loop = l;
	b->in_flight = 0;
	pthread_mutex_init(&b->later_lock, NULL);
	list_init(&b->later);
	loop_work_init(&b->later_work, run_later, b);
	throttle_init(b);
}

void blk_fini(struct blk *b)
{
	loop_unpost(b->loop, &b->later_work);
	throttle_fini(b);
	pthread_mutex_destroy(&b->later_lock);
}

void blk_complete(struct blk *b, struct blk_req *r, int result)
{
	r->done(r, result);
	/* Last touch: a drainer may go on from here. */
	b->in_flight--;
}

void blk_complete_later(struct blk *b, struct blk_req *r, int result)
{
	r->node_data = (void *)(intptr_t)result;
	pthread_mutex_lock(&b->later_lock);
	list_append(&b->later, &r->node);
	pthread_mutex_unlock(&b->later_lock);
	loop_post(b->loop, &b->later_work);
}

static int check(const struct blk *b, const struct blk_req *r)
{
	uint64_t mask = b->info.block_size - 1;

	if (r->op == BLK_FLUSH)
		return 0;
	if (r->op != BLK_READ && b->info.read_only)
		return -EROFS;
	if (((r->offset | r->len) & mask) || !range_ok(r->offset, r->len, b->info.size))
		return -EINVAL;
	return 0;
}

void blk_submit(struct blk *b, struct blk_req *r)
{
	int err = check(b, r);

	b->in_flight++;
	list_init(&r->node);
	if (err < 0 || (r->op != BLK_FLUSH && !r->len))
		blk_complete_later(b, r, err);
	else if (!b->throttle.on || !throttle_hold(b, r))
		b->ops->submit(b, r);
}

void blk_poll(struct blk *b, int timeout_ms)
{
	run_later(b);
	throttle_release(b, true);
	if (b->in_flight)
		b->ops->poll(b, timeout_ms);
}

void blk_drain(struct blk *b)
{
	while (b->in_flight)
		blk_poll(b, 5);
}

void blk_close(struct blk *b)
{
	if (!b)
		return;
	blk_drain(b);
	b->ops->close(b);
}

uint64_t blk_known_zeroes(struct blk *b, uint64_t offset)
{
	return b->ops->known_zeroes ? b->ops->known_zeroes(b, offset) : 0;
}

int blk_share(struct blk *b)
{
	return b->ops->share ? b->ops->share(b) : -ENOTSUP;
}

/* --- opening --- */

/* OFD locks belong to the descriptor: they hold across threads and go away with the process. */
int blk_lock_file(int fd, const char *path, bool exclusive, struct err *e)
{
	struct flock fl = {.l_type = exclusive ? F_WRLCK : F_RDLCK, .l_whence = SEEK_SET};

	if (fcntl(fd, F_OFD_SETLK, &fl) == 0)
		return 0;
	if (errno == EAGAIN || errno == EACCES) {
		err_msg(e, -EBUSY, "disk '%s' is in use by another machine", path);
		return err_exit(e, -EBUSY, EXIT_DISK_IN_USE);
	}
	if (errno == ENOLCK || errno == EOPNOTSUPP || errno == EINVAL)
		return 0; /* a file system without locks: nobody can hold one */
	return err_exit(e, err_set(e, -errno, "disk '%s': lock", path), EXIT_BAD_DISK);
}

#define MAX_CHAIN 64

enum format { FORMAT_RAW, FORMAT_QCOW2 };

/* The files of a chain, so that none comes twice. */
struct chain {
	unsigned int n;
	struct {
		dev_t dev;
		ino_t ino;
	} files[MAX_CHAIN];
};

static bool ends_in(const char *s, const char *end)
{
	size_t n = strlen(s), m = strlen(end);

	return n >= m && strcmp(s + n - m, end) == 0;
}

static int choose_format(const char *path, const char *format, int fd, enum format *ret,
			 struct err *e)
{
	uint8_t magic[4] = {0};

	if (format && strcmp(format, "raw") == 0) {
		*ret = FORMAT_RAW;
		return 0;
	}
	if (format && strcmp(format, "qcow2") == 0) {
		*ret = FORMAT_QCOW2;
		return 0;
	}
	if (format && strcmp(format, "auto") != 0)
		return err_msg(e, -EINVAL,
			       "disk '%s': format '%s' is not supported, only raw and qcow2", path,
			       format);
	*ret = ends_in(path, ".qcow2") ? FORMAT_QCOW2 : FORMAT_RAW;
	/* A guest can write this to a raw disk, so it may not choose; but it may be a mistake. */
	if (*ret == FORMAT_RAW && pread(fd, magic, 4, 0) == 4 && memcmp(magic, "QFI\xfb", 4) == 0)
		return err_msg(e, -EINVAL,
			       "disk '%s' begins like a qcow2 image and is not named .qcow2: give "
			       "its format, qcow2 or raw",
			       path);
	return 0;
}

static int chain_add(struct chain *c, int fd, const char *path, struct err *e)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_set(e, -errno, "disk '%s'", path);
	for (unsigned int i = 0; i < c->n; i++) {
		if (c->files[i].dev == st.st_dev && c->files[i].ino == st.st_ino)
			return err_msg(e, -ELOOP, "disk '%s' is its own backing file", path);
	}
	if (c->n == MAX_CHAIN)
		return err_msg(e, -ELOOP, "disk '%s': more than %d backing files", path, MAX_CHAIN);
	c->files[c->n].dev = st.st_dev;
	c->files[c->n++].ino = st.st_ino;
	return 0;
}

/* Takes over @given; what comes back is a file or block device, locked. */
static int take_file(struct chain *c, int given, const char *path, bool read_only, struct err *e)
{
	autoclose int fd = given;
	struct stat st;
	int r;

	if (fstat(fd, &st) < 0) {
		r = err_set(e, -errno, "disk '%s'", path);
		return err_exit(e, r, EXIT_BAD_DISK);
	}
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) {
		err_msg(e, -EINVAL, "disk '%s' is neither a file nor a block device", path);
		return err_exit(e, -EINVAL, EXIT_BAD_DISK);
	}
	/* O_NONBLOCK was for FIFOs only; io_uring would fail requests instead of waiting. */
	(void)fd_set_nonblock(fd, false);
	/* Before the lock, which a chain that bites its tail would find taken by itself. */
	r = chain_add(c, fd, path, e);
	if (r < 0)
		return err_exit(e, r, EXIT_BAD_DISK);
	r = blk_lock_file(fd, path, !read_only, e);
	return r < 0 ? r : steal_fd(&fd);
}

struct opening {
	struct chain chain;
	struct loop *loop;
	const struct fd_table *given;
	bool repair, no_backing;
};

static int open_file(struct opening *o, const char *path, bool read_only, struct err *e)
{
	int fd =
	    fd_table_open(o->given, path, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return err_exit(e, err_set(e, -errno, "disk '%s'", path), EXIT_BAD_DISK);
	return take_file(&o->chain, fd, path, read_only, e);
}

static int open_node(struct opening *o, const char *path, const char *format, bool read_only,
		     bool direct, struct blk **ret, struct err *e);

/* "proto:rest" names things that are no files; "./a:b" and "/a:b" are files. */
static bool is_protocol(const char *name)
{
	size_t n = strcspn(name, ":/");

	return name[n] == ':';
}

static int open_backing(struct opening *o, struct blk *b, const char *path, struct err *e)
{
	const char *format, *name = qcow2_backing(b, &format), *slash = strrchr(path, '/');
	autofree char *full = NULL;
	struct blk *backing = NULL;
	int r;

	if (!name || o->no_backing)
		return 0;
	if (is_protocol(name))
		return err_msg(e, -ENOTSUP, "backing file '%s' is not a plain file", name);
	full = name[0] == '/' || !slash ? xstrdup(name)
					: xasprintf("%.*s/%s", (int)(slash - path), path, name);
	r = open_node(o, full, format, true, false, &backing, e);
	if (r < 0)
		return err_wrap(e, r, "backing file of '%s'", path);
	qcow2_set_backing(b, backing);
	return 0;
}

static int open_qcow2(struct opening *o, int fd, const char *path, bool read_only, bool direct,
		      struct blk **ret, struct err *e)
{
	struct blk *file = NULL, *b = NULL;
	unsigned int flags = (read_only ? QCOW2_READ_ONLY : 0) | (o->repair ? QCOW2_REPAIR : 0);
	int r = raw_file_new(fd, path, read_only, direct, o->loop, &file, e);

	if (r < 0) {
		close(fd);
		return r;
	}
	r = qcow2_new(file, path, flags, o->loop, &b, e);
	if (r < 0) {
		blk_close(file);
		return err_wrap(e, r, "disk '%s'", path);
	}
	r = open_backing(o, b, path, e);
	if (r < 0) {
		blk_close(b);
		return r;
	}
	*ret = b;
	return 0;
}

static int open_node(struct opening *o, const char *path, const char *format, bool read_only,
		     bool direct, struct blk **ret, struct err *e)
{
	autoclose int fd = open_file(o, path, read_only, e);
	enum format f;
	int r;

	if (fd < 0)
		return fd;
	r = choose_format(path, format, fd, &f, e);
	if (r == 0 && f == FORMAT_QCOW2)
		r = open_qcow2(o, steal_fd(&fd), path, read_only, direct, ret, e);
	else if (r == 0)
		r = raw_new(fd, path, read_only, direct, o->loop, ret, e);
	if (r < 0)
		return err_exit(e, r, e && e->exit_code ? e->exit_code : EXIT_BAD_DISK);
	if (f == FORMAT_RAW)
		(void)steal_fd(&fd);
	return 0;
}

/* A file without a name: the kernel gives its space back when the last user is gone, however. */
static int open_anonymous(const char *dir, struct err *e)
{
	autofree char *path = NULL;
	int fd;

	if (!dir)
		dir = getenv("TMPDIR");
	if (!dir || !*dir)
		dir = "/var/tmp";
	fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd >= 0)
		return fd;
	if (errno != EOPNOTSUPP && errno != EISDIR)
		return err_set(e, -errno, "temporary disk in '%s'", dir);
	path = xasprintf("%s/insula-disk-XXXXXX", dir);
	fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0)
		return err_set(e, -errno, "temporary disk in '%s'", dir);
	unlink(path);
	return fd;
}

static int open_top(const char *dir, uint64_t size, struct loop *l, struct blk **ret, struct err *e)
{
	autoclose int fd = open_anonymous(dir, e);
	int r;

	if (fd < 0)
		return fd;
	if (ftruncate(fd, (off_t)size) < 0)
		return err_set(e, -errno, "temporary disk");
	r = raw_new(fd, "temporary disk", false, false, l, ret, e);
	if (r == 0)
		(void)steal_fd(&fd);
	return r;
}

static int open_overlay(struct opening *o, const struct blk_spec *spec, struct loop *l,
			struct blk **ret, struct err *e)
{
	struct blk *base = NULL, *top = NULL;
	int r = open_node(o, spec->path, spec->format, true, false, &base, e);

	if (r < 0)
		return r;
	r = open_top(spec->overlay_dir, base->info.size, l, &top, e);
	if (r == 0)
		r = cow_new(base, top, l, ret, e);
	if (r < 0) {
		blk_close(top);
		blk_close(base);
		return err_exit(e, err_wrap(e, r, "disk '%s'", spec->path), EXIT_BAD_DISK);
	}
	return 0;
}

int blk_open(const struct blk_spec *spec, struct loop *l, struct blk **ret, struct err *e)
{
	struct opening o = {.loop = l,
			    .given = spec->given,
			    .repair = spec->repair,
			    .no_backing = spec->no_backing};

	if (spec->overlay && !spec->read_only)
		return open_overlay(&o, spec, l, ret, e);
	/* Private writable disks bypass the host's cache; shared read-only ones live from it. */
	return open_node(&o, spec->path, spec->format, spec->read_only,
			 !spec->read_only && !spec->cached, ret, e);
}

int blk_open_fd(int fd, const char *name, struct loop *l, struct blk **ret, struct err *e)
{
	struct chain c = {0};
	autoclose int file = take_file(&c, fd, name, true, e);
	int r;

	if (file < 0)
		return file;
	r = raw_new(file, name, true, false, l, ret, e);
	if (r < 0)
		return err_exit(e, r, EXIT_BAD_DISK);
	(void)steal_fd(&file);
	return 0;
}

/* --- overlays --- */

int blk_overlay_open(const struct blk *base, int given, const char *name, struct blk **ret,
		     struct err *e)
{
	struct chain c = {0};
	autoclose int fd = take_file(&c, given, name, false, e);
	struct blk *file = NULL, *b = NULL;
	int r;

	if (fd < 0)
		return fd;
	r = raw_file_new(fd, name, false, true, base->loop, &file, e);
	if (r < 0)
		return r;
	(void)steal_fd(&fd);
	r = qcow2_new(file, name, 0, base->loop, &b, e);
	if (r < 0) {
		blk_close(file);
		return err_wrap(e, r, "disk '%s'", name);
	}
	if (b->info.size != base->info.size) {
		blk_close(b);
		return err_msg(e, -EINVAL, "overlay '%s' is not of the disk's size", name);
	}
	*ret = b;
	return 0;
}

void blk_overlay_put(struct blk *overlay, struct blk *base)
{
	throttle_move(overlay, base);
	qcow2_set_backing(overlay, base);
}
