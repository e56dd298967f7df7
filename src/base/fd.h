/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/fd.h - whole reads and writes, small files, directories, non-blocking
 */
#pragma once

#include "base/err.h"
#include "base/strbuf.h"

#include <sys/types.h>

/* Exactly @len bytes, retrying EINTR and short counts: 0, -errno, or -ENODATA at end of file. */
must_check int read_full(int fd, void *buf, size_t len);
must_check int write_full(int fd, const void *buf, size_t len);
must_check int pread_full(int fd, void *buf, size_t len, uint64_t off);
must_check int pwrite_full(int fd, const void *buf, size_t len, uint64_t off);

/* As much of @b as the socket takes at once, off its beginning; false when it takes no more for
 * good. */
must_check bool send_buffer(int fd, struct strbuf *b);

/* A whole file of at most @max bytes; -EFBIG past that.  Appends to @ret. */
must_check int read_file(const char *path, size_t max, struct strbuf *ret);
/* The same below an open directory. */
must_check int read_file_at(int dir, const char *path, size_t max, struct strbuf *ret);
/* Into a file that is there, with one write: what /proc, /sys and control groups ask for. */
must_check int write_text_at(int dir, const char *path, const char *text);
/* A directory of this mode, its parents (0755) too; one that is there is fine. */
must_check int make_dir(const char *path, mode_t mode, struct err *e);
int fd_set_nonblock(int fd, bool on);

/* Copies bytes [@at, @end) from one file to the same place in another, on any file systems; the
 * kernel does it where it can.  -EIO if @from is shorter. */
must_check int fd_copy_range(int from, int to, off_t at, off_t end);
