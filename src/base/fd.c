/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/fd.c - whole reads and writes, small files, directories
 */
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>

int read_full(int fd, void *buf, size_t len)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = read(fd, (char *)buf + done, len - done);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0)
			return -ENODATA;
		if (n > 0)
			done += (size_t)n;
	}
	return 0;
}

int write_full(int fd, const void *buf, size_t len)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = write(fd, (const char *)buf + done, len - done);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0)
			done += (size_t)n;
	}
	return 0;
}

int pread_full(int fd, void *buf, size_t len, uint64_t off)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = pread(fd, (char *)buf + done, len - done, (off_t)(off + done));

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0)
			return -ENODATA;
		if (n > 0)
			done += (size_t)n;
	}
	return 0;
}

int pwrite_full(int fd, const void *buf, size_t len, uint64_t off)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = pwrite(fd, (const char *)buf + done, len - done, (off_t)(off + done));

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0)
			done += (size_t)n;
	}
	return 0;
}

bool send_buffer(int fd, struct strbuf *b)
{
	while (b->len) {
		ssize_t n = send(fd, b->data, b->len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN;
		strbuf_consume(b, (size_t)n);
	}
	return true;
}

int read_file(const char *path, size_t max, struct strbuf *ret)
{
	return read_file_at(AT_FDCWD, path, max, ret);
}

int read_file_at(int dir, const char *path, size_t max, struct strbuf *ret)
{
	autoclose int fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
	size_t total = 0;

	if (fd < 0)
		return -errno;
	for (;;) {
		char chunk[65536];
		ssize_t n = read(fd, chunk, sizeof(chunk));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return 0;
		total += (size_t)n;
		if (total > max)
			return -EFBIG;
		strbuf_add(ret, chunk, (size_t)n);
	}
}

int write_text_at(int dir, const char *path, const char *text)
{
	autoclose int fd = openat(dir, path, O_WRONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = write(fd, text, strlen(text));
	return n < 0 ? -errno : (size_t)n < strlen(text) ? -EIO : 0;
}

int make_dir(const char *path, mode_t mode, struct err *e)
{
	autofree char *copy = xstrdup(path);

	for (char *p = copy + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		mkdir(copy, 0755);
		*p = '/';
	}
	if (mkdir(copy, mode) < 0 && errno != EEXIST)
		return err_set(e, -errno, "make directory %s", path);
	return 0;
}

int fd_set_nonblock(int fd, bool on)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0)
		return -errno;
	flags = on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
	return fcntl(fd, F_SETFL, flags) < 0 ? -errno : 0;
}

/* Between file systems that the kernel does not copy between. */
static ssize_t copy_piece(int from, int to, off_t at, size_t size)
{
	char buf[128 << 10];
	ssize_t n = pread(from, buf, MIN(size, sizeof(buf)), at), done = 0;

	while (done < n) {
		ssize_t w = pwrite(to, buf + done, (size_t)(n - done), at + done);

		if (w < 0)
			return -1;
		done += w;
	}
	return n;
}

int fd_copy_range(int from, int to, off_t at, off_t end)
{
	bool by_kernel = true;

	while (at < end) {
		size_t size = (size_t)(end - at);
		loff_t in = at, out = at;
		ssize_t n = by_kernel ? copy_file_range(from, &in, to, &out, size, 0)
				      : copy_piece(from, to, at, size);

		if (n < 0 && by_kernel && (errno == EXDEV || errno == EOPNOTSUPP)) {
			by_kernel = false;
			continue;
		}
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		at += n;
	}
	return 0;
}
