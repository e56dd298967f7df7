/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image/copy.c - a machine's own copy of an image's disk
 */
#include "image/image.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

/* Only what is allocated: images are mostly holes. */
static int copy_sparse(int from, int to)
{
	struct stat st;
	off_t at = 0;
	int r;

	if (ioctl(to, FICLONE, from) == 0)
		return 0;
	if (fstat(from, &st) < 0 || ftruncate(to, st.st_size) < 0)
		return -errno;
	while (at < st.st_size) {
		off_t data = lseek(from, at, SEEK_DATA), hole;

		if (data < 0)
			return errno == ENXIO ? 0 : -errno;
		hole = lseek(from, data, SEEK_HOLE);
		if (hole < 0)
			return -errno;
		r = fd_copy_range(from, to, data, hole);
		if (r < 0)
			return r;
		at = hole;
	}
	return 0;
}

int image_copy(const char *from, const char *to, struct err *e)
{
	autofree char *part = xasprintf("%s.part", to);
	autoclose int in = open(from, O_RDONLY | O_CLOEXEC);
	autoclose int out = open(part, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	int r = in < 0 || out < 0 ? -errno : copy_sparse(in, out);

	if (r == 0 && (fsync(out) < 0 || rename(part, to) < 0))
		r = -errno;
	if (r == 0)
		return 0;
	unlink(part);
	return err_set(e, r, "make a private copy of %s", from);
}

int image_install(const struct image *i, const char *dir, struct err *e)
{
	const struct {
		const char *from, *to;
	} files[] = {{i->root, "disk.raw"}, {i->kernel, "kernel"}, {i->initrd, "modules"}};
	int r = 0;

	for (size_t k = 0; k < ARRAY_SIZE(files) && r == 0; k++) {
		autofree char *to = xasprintf("%s/%s", dir, files[k].to);

		/* What nobody writes to may be the cache's own file, which is never changed. */
		if (k == 0 || link(files[k].from, to) < 0)
			r = image_copy(files[k].from, to, e);
	}
	return r;
}
