/* SPDX-License-Identifier: Apache-2.0 */
/*
 * block/disk.c - making, opening, resizing disk images
 */
#include "block/disk.h"

#include "base/exit.h"
#include "base/fd.h"
#include "block/node_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

static bool ends_in_qcow2(const char *s)
{
	size_t n = strlen(s);

	return n >= 6 && strcmp(s + n - 6, ".qcow2") == 0;
}

const char *disk_format(const char *path, const char *format)
{
	if (format && strcmp(format, "auto") != 0)
		return format;
	return ends_in_qcow2(path) ? "qcow2" : "raw";
}

int disk_open(const char *path, const char *format, unsigned int flags, struct disk *ret,
	      struct err *e)
{
	struct blk_spec spec = {
	    .path = path,
	    .format = format,
	    .read_only = flags & DISK_READ_ONLY,
	    .repair = flags & DISK_REPAIR,
	    .no_backing = flags & DISK_NO_BACKING,
	    .cached = true,
	};
	struct disk d = {0};
	int r = loop_new(&d.loop, e);

	if (r == 0)
		r = blk_open(&spec, d.loop, &d.blk, e);
	if (r < 0) {
		disk_close(&d);
		return r;
	}
	*ret = d;
	return 0;
}

void disk_close(struct disk *d)
{
	blk_close(d->blk);
	if (d->loop)
		loop_free(d->loop);
	*d = (struct disk){0};
}

/* --- create --- */

/* The size of what the new image builds on; its name is relative to the image. */
static int backing_size(const char *path, const struct qcow2_options *o, uint64_t *ret,
			struct err *e)
{
	const char *slash = strrchr(path, '/');
	autofree char *full = o->backing[0] == '/' || !slash
				  ? xstrdup(o->backing)
				  : xasprintf("%.*s/%s", (int)(slash - path), path, o->backing);
	struct disk d;
	int r = disk_open(full, o->backing_format, DISK_READ_ONLY, &d, e);

	if (r < 0)
		return r;
	*ret = blk_info(d.blk)->size;
	disk_close(&d);
	return 0;
}

static int make_qcow2(int fd, const char *path, const struct qcow2_options *o, struct err *e)
{
	struct loop *l = NULL;
	struct blk *file = NULL;
	int copy = dup(fd), r = copy < 0 ? err_set(e, -errno, "dup") : loop_new(&l, e);

	if (r == 0)
		r = raw_file_new(copy, path, false, false, l, &file, e);
	if (r < 0)
		close_p(&copy);
	else
		r = qcow2_create(file, o, e);
	blk_close(file);
	if (l)
		loop_free(l);
	return r;
}

int disk_create(const char *path, const char *format, const struct qcow2_options *options,
		bool force, struct err *e)
{
	struct qcow2_options o = *options;
	const char *f = disk_format(path, format);
	autoclose int fd = -1;
	bool made;
	int r = 0;

	if (strcmp(f, "raw") != 0 && strcmp(f, "qcow2") != 0)
		return err_msg(e, -EINVAL, "format '%s' is neither raw nor qcow2", f);
	if (strcmp(f, "raw") == 0 && o.backing)
		return err_msg(e, -EINVAL, "a raw disk has no backing file");
	if (o.backing) {
		uint64_t size;

		o.backing_format = disk_format(o.backing, o.backing_format);
		r = backing_size(path, &o, &size, e);
		o.size = r == 0 && !o.size ? size : o.size;
		/* A machine writes to it: it will be this image's when that machine goes on in one
		 * above, too (docs/snapshots.md). */
		if (r == -EBUSY && o.size) {
			r = 0;
			if (e)
				*e = (struct err){0};
		}
	}
	if (r < 0)
		return r;
	if (!o.size || o.size % 512 || o.size > INT64_MAX)
		return err_msg(e, -EINVAL, "size: %llu is not a multiple of 512 bytes",
			       (unsigned long long)o.size);
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	made = fd >= 0;
	if (fd < 0 && errno == EEXIST && force)
		fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return err_set(e, -errno, "%s", path);
	r = blk_lock_file(fd, path, true, e);
	if (r < 0)
		return r;
	if (strcmp(f, "qcow2") == 0)
		r = make_qcow2(fd, path, &o, e);
	else if (ftruncate(fd, 0) < 0 || ftruncate(fd, (off_t)o.size) < 0)
		r = err_set(e, -errno, "%s", path);
	if (r < 0 && made)
		unlink(path);
	return r;
}

/* --- resize --- */

static int is_hole(int fd, uint64_t from, uint64_t to)
{
	off_t data = lseek(fd, (off_t)from, SEEK_DATA);

	return (data < 0 && errno == ENXIO) || (data >= 0 && (uint64_t)data >= to);
}

static int resize_raw(const char *path, uint64_t size, bool shrink, struct err *e)
{
	struct disk d;
	struct stat st;
	autoclose int fd = -1;
	int r;

	/* For the lock, and for what it says about the file. */
	r = disk_open(path, "raw", 0, &d, e);
	if (r < 0)
		return r;
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		r = err_set(e, -errno, "%s", path);
	else if (!S_ISREG(st.st_mode))
		r = err_msg(e, -EINVAL, "%s is a device; its size is not ours to set", path);
	else if (size < blk_info(d.blk)->size && !shrink)
		r = err_msg(e, -EINVAL, "the disk has %llu bytes; --shrink makes it smaller",
			    (unsigned long long)blk_info(d.blk)->size);
	else if (size < blk_info(d.blk)->size && !is_hole(fd, size, blk_info(d.blk)->size))
		r = err_msg(e, -ENOTEMPTY,
			    "there is data behind the new end; discard it in the guest first");
	else if (ftruncate(fd, (off_t)size) < 0 || fsync(fd) < 0)
		r = err_set(e, -errno, "%s", path);
	disk_close(&d);
	return r;
}

int disk_resize(const char *path, const char *format, uint64_t size, bool shrink, struct err *e)
{
	struct disk d;
	int r;

	if (!size || size % 512 || size > INT64_MAX)
		return err_msg(e, -EINVAL, "size: %llu is not a multiple of 512 bytes",
			       (unsigned long long)size);
	if (strcmp(disk_format(path, format), "qcow2") != 0)
		return resize_raw(path, size, shrink, e);
	r = disk_open(path, format, 0, &d, e);
	if (r < 0)
		return r;
	r = qcow2_resize(d.blk, size, shrink, e);
	disk_close(&d);
	return r;
}

uint64_t disk_allocated(const char *path)
{
	struct stat st;

	return stat(path, &st) < 0 ? 0 : (uint64_t)st.st_blocks * 512;
}
