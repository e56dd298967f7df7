/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve/keeplog.c - a file that keeps the end of what a guest says, and never grows past 1 MiB
 */
#include "serve/keeplog.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#define LOG_MAX (1u << 20)

int keeplog_take(struct keeplog *k, int fd, struct err *e)
{
	struct stat st;

	if (fstat(fd, &st) < 0) {
		int r = err_set(e, -errno, "the log");

		close(fd);
		return r;
	}
	k->len = (uint64_t)st.st_size;
	k->fd = fd;
	return 0;
}

int keeplog_open(struct keeplog *k, const char *path, struct err *e)
{
	int fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

	return fd < 0 ? err_set(e, -errno, "open %s", path) : keeplog_take(k, fd, e);
}

/* The file is full: its second half becomes the whole. */
static int shorten(struct keeplog *k)
{
	autofree char *half = malloc(LOG_MAX / 2);
	int r = half ? pread_full(k->fd, half, LOG_MAX / 2, k->len - LOG_MAX / 2) : -ENOMEM;

	if (r == 0 && ftruncate(k->fd, 0) < 0)
		r = -errno;
	if (r == 0)
		r = write_full(k->fd, half, LOG_MAX / 2);
	k->len = LOG_MAX / 2;
	return r;
}

void keeplog_add(struct keeplog *k, const void *data, size_t len)
{
	int r;

	if (k->fd < 0)
		return;
	r = write_full(k->fd, data, len);
	k->len += len;
	if (r == 0 && k->len > LOG_MAX)
		r = shorten(k);
	if (r < 0)
		keeplog_close(k);
}

void keeplog_close(struct keeplog *k)
{
	close_p(&k->fd);
	k->fd = -1;
}
