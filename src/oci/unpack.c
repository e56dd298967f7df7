/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oci/unpack.c - a layer's archive becomes a directory
 */
#include "oci/unpack.h"

#include "base/fd.h"
#include "container/path.h"
#include "container/userns.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#define CHUNK (256u << 10)

/* Two readers, one in the other: the inner decompresses, counts and hashes, the outer reads tar. */
struct unpack {
	struct archive *inner, *outer;
	const struct unpack_limits *limits;
	struct sha256_ctx hash;
	uint64_t bytes, entries;
	int blob, root;
	char *in, *out;
	struct dir_time {
		char *path;
		struct timespec mtime;
	} * dirs;
	size_t n_dirs;
	struct err *e;
	int error; /* of a callback */
};

const char *unpack_xattr_prefix(void)
{
	static const char *prefix;

	if (!prefix)
		prefix = userns_is_host_root() ? "trusted.overlay." : "user.overlay.";
	return prefix;
}

static la_ssize_t read_blob(struct archive *a, void *opaque, const void **ret)
{
	struct unpack *u = opaque;
	ssize_t n;

	do
		n = read(u->blob, u->in, CHUNK);
	while (n < 0 && errno == EINTR);
	*ret = u->in;
	if (n < 0)
		archive_set_error(a, errno, "%s", strerror(errno));
	return n;
}

static int check_size(struct unpack *u)
{
	const struct unpack_limits *l = u->limits;
	uint64_t compressed = (uint64_t)MAX(archive_filter_bytes(u->inner, -1), 1);

	if (u->bytes > l->bytes)
		return err_msg(u->e, -EFBIG, "it is larger than %llu MiB uncompressed",
			       (unsigned long long)l->bytes >> 20);
	if (u->bytes > l->free_bytes && u->bytes / l->ratio > compressed)
		return err_msg(u->e, -EFBIG,
			       "it grows more than %llu times when uncompressed, as a "
			       "decompression bomb does",
			       (unsigned long long)l->ratio);
	return 0;
}

static la_ssize_t read_plain(struct archive *a, void *opaque, const void **ret)
{
	struct unpack *u = opaque;
	la_ssize_t n = archive_read_data(u->inner, u->out, CHUNK);

	*ret = u->out;
	if (n < 0) {
		u->error = err_msg(u->e, -EBADMSG, "it cannot be uncompressed: %s",
				   archive_error_string(u->inner));
		archive_set_error(a, EBADMSG, "uncompressing failed");
		return -1;
	}
	u->bytes += (uint64_t)n;
	sha256_update(&u->hash, (size_t)n, (const uint8_t *)u->out);
	u->error = check_size(u);
	if (u->error < 0) {
		archive_set_error(a, EFBIG, "too large");
		return -1;
	}
	return n;
}

static int open_readers(struct unpack *u)
{
	struct archive_entry *entry;
	int r;

	u->inner = archive_read_new();
	u->outer = archive_read_new();
	archive_read_support_filter_gzip(u->inner);
	archive_read_support_filter_zstd(u->inner);
	archive_read_support_format_raw(u->inner);
	archive_read_support_format_tar(u->outer);
	r = archive_read_open(u->inner, u, NULL, read_blob, NULL);
	if (r == ARCHIVE_OK)
		r = archive_read_next_header(u->inner, &entry);
	if (r != ARCHIVE_OK)
		return err_msg(u->e, -EBADMSG, "it cannot be uncompressed: %s",
			       r == ARCHIVE_EOF ? "it is empty" : archive_error_string(u->inner));
	if (archive_read_open(u->outer, u, NULL, read_plain, NULL) != ARCHIVE_OK)
		return u->error ? u->error
				: err_msg(u->e, -EBADMSG, "it is no tar archive: %s",
					  archive_error_string(u->outer));
	return 0;
}

/* What a name leads to, itself not followed. */
static bool look(int dir, const char *name, struct stat *st)
{
	return fstatat(dir, name, st, AT_SYMLINK_NOFOLLOW) == 0;
}

/* An archive may name a thing twice; the later counts. */
static int make_room(int dir, const char *name)
{
	if (unlinkat(dir, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return -errno;
	return unlinkat(dir, name, AT_REMOVEDIR) < 0 ? -errno : 0;
}

static int set_xattrs(int fd, struct archive_entry *entry)
{
	const char *name;
	const void *value;
	size_t size;

	archive_entry_xattr_reset(entry);
	while (archive_entry_xattr_next(entry, &name, &value, &size) == ARCHIVE_OK) {
		/* Others are the host's business; overlayfs' own would be signs to it. */
		bool keep =
		    name &&
		    (strcmp(name, "security.capability") == 0 ||
		     (strncmp(name, "user.", 5) == 0 && strncmp(name, "user.overlay.", 13) != 0));

		if (keep && fsetxattr(fd, name, value, size, 0) < 0 && errno != ENOTSUP)
			return -errno;
	}
	return 0;
}

static struct timespec mtime_of(struct archive_entry *entry)
{
	return (struct timespec){.tv_sec = archive_entry_mtime(entry),
				 .tv_nsec = archive_entry_mtime_nsec(entry)};
}

/* @fd may be -1: what cannot be opened, such as a link. */
static int set_owner(int dir, const char *name, int fd, struct archive_entry *entry)
{
	struct timespec times[2] = {mtime_of(entry), mtime_of(entry)};
	mode_t mode = archive_entry_perm(entry);
	la_int64_t uid = archive_entry_uid(entry), gid = archive_entry_gid(entry);
	int r = 0;

	if (uid < 0 || uid >= UINT32_MAX || gid < 0 || gid >= UINT32_MAX)
		return -EINVAL;
	if (fchownat(dir, name, (uid_t)uid, (gid_t)gid, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (archive_entry_filetype(entry) != AE_IFLNK && fchmodat(dir, name, mode, 0) < 0)
		return -errno;
	if (fd >= 0)
		r = set_xattrs(fd, entry);
	if (r == 0 && utimensat(dir, name, times, AT_SYMLINK_NOFOLLOW) < 0)
		r = -errno;
	return r;
}

static int write_data(struct unpack *u, int fd, struct archive_entry *entry)
{
	uint64_t size = (uint64_t)archive_entry_size(entry);
	const void *data;
	size_t len;
	la_int64_t at;
	int r;

	if (archive_entry_size(entry) < 0 || size > u->limits->bytes)
		return -EFBIG;
	while ((r = archive_read_data_block(u->outer, &data, &len, &at)) == ARCHIVE_OK) {
		if (at < 0 || !range_ok((uint64_t)at, len, size))
			return -EBADMSG;
		r = pwrite_full(fd, data, len, (uint64_t)at);
		if (r < 0)
			return r;
	}
	if (r != ARCHIVE_EOF)
		return u->error ? u->error : -EBADMSG;
	return ftruncate(fd, (off_t)size) < 0 ? -errno : 0;
}

static int add_file(struct unpack *u, int dir, const char *name, struct archive_entry *entry)
{
	autoclose int fd = -1;
	int r = make_room(dir, name);

	if (r < 0)
		return r;
	fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	r = fd < 0 ? -errno : write_data(u, fd, entry);
	return r < 0 ? r : set_owner(dir, name, fd, entry);
}

static int add_dir(struct unpack *u, int dir, const char *name, struct archive_entry *entry)
{
	autoclose int fd = -1;
	struct stat st;
	int r = 0;

	if (look(dir, name, &st) && !S_ISDIR(st.st_mode))
		r = make_room(dir, name);
	if (r == 0 && mkdirat(dir, name, 0700) < 0 && errno != EEXIST)
		r = -errno;
	if (r < 0)
		return r;
	fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	r = fd < 0 ? -errno : set_owner(dir, name, fd, entry);
	if (r < 0)
		return r;
	/* What comes into it later changes its time. */
	if ((u->n_dirs & (u->n_dirs - 1)) == 0) {
		size_t room = u->n_dirs ? u->n_dirs * 2 : 1;

		u->dirs = reallocarray(u->dirs, room, sizeof(*u->dirs));
		if (!u->dirs)
			abort();
	}
	u->dirs[u->n_dirs++] = (struct dir_time){.path = xstrdup(archive_entry_pathname(entry)),
						 .mtime = mtime_of(entry)};
	return 0;
}

static int add_symlink(int dir, const char *name, struct archive_entry *entry)
{
	const char *target = archive_entry_symlink(entry);
	int r = make_room(dir, name);

	if (r == 0 && (!target || symlinkat(target, dir, name) < 0))
		r = target ? -errno : -EBADMSG;
	return r < 0 ? r : set_owner(dir, name, -1, entry);
}

/* To a file of the same layer; the last part of neither name is followed. */
static int add_hardlink(struct unpack *u, int dir, const char *name, const char *target)
{
	autofree char *last = NULL;
	autoclose int from = path_make_parent(u->root, target, &last);
	struct stat st, self;
	int r;

	if (from < 0)
		return from;
	if (!look(from, last, &st))
		return -ENOENT;
	if (S_ISDIR(st.st_mode))
		return -EISDIR;
	if (look(dir, name, &self) && self.st_ino == st.st_ino && self.st_dev == st.st_dev)
		return 0;
	r = make_room(dir, name);
	return r == 0 && linkat(from, last, dir, name, 0) < 0 ? -errno : r;
}

static int add_fifo(int dir, const char *name, struct archive_entry *entry)
{
	int r = make_room(dir, name);

	if (r == 0 && mkfifoat(dir, name, 0600) < 0)
		r = -errno;
	return r < 0 ? r : set_owner(dir, name, -1, entry);
}

static int keep_sign(int dir, const char *name)
{
	autoclose int fd = openat(dir, name, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);

	return fd < 0 ? -errno : 0;
}

/* ".wh.NAME": lower layers' NAME is gone; ".wh..wh..opq": all of theirs here is. */
static int add_whiteout(int dir, const char *name)
{
	const char *what = name + strlen(WHITEOUT_PREFIX);
	struct stat st;

	if (strcmp(name, WHITEOUT_OPAQUE) == 0) {
		autofree char *key = xasprintf("%sopaque", unpack_xattr_prefix());
		autoclose int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		return fd >= 0 && fsetxattr(fd, key, "y", 1, 0) == 0 ? 0 : keep_sign(dir, name);
	}
	/* aufs kept notes of its own under such names. */
	if (strncmp(what, WHITEOUT_PREFIX, strlen(WHITEOUT_PREFIX)) == 0)
		return 0;
	if (!what[0] || strcmp(what, ".") == 0 || strcmp(what, "..") == 0)
		return -EINVAL;
	/* What this layer itself brings stays: a whiteout is about lower ones. */
	if (look(dir, what, &st))
		return 0;
	return mknodat(dir, what, S_IFCHR, 0) == 0 ? 0 : keep_sign(dir, name);
}

static int add_named(struct unpack *u, int dir, const char *name, struct archive_entry *entry)
{
	const char *hardlink = archive_entry_hardlink(entry);

	if (strncmp(name, WHITEOUT_PREFIX, strlen(WHITEOUT_PREFIX)) == 0)
		return add_whiteout(dir, name);
	if (hardlink)
		return add_hardlink(u, dir, name, hardlink);
	switch (archive_entry_filetype(entry)) {
	case AE_IFREG:
		return add_file(u, dir, name, entry);
	case AE_IFDIR:
		return add_dir(u, dir, name, entry);
	case AE_IFLNK:
		return add_symlink(dir, name, entry);
	case AE_IFIFO:
		return add_fifo(dir, name, entry);
	default:
		return 0; /* device nodes and sockets */
	}
}

/* "." and "./" are the layer's root. */
static bool is_root(const char *path)
{
	return path[strspn(path, "./")] == '\0' && !strstr(path, "..");
}

static int add_entry(struct unpack *u, struct archive_entry *entry)
{
	const char *path = archive_entry_pathname(entry);
	autofree char *name = NULL;
	autoclose int dir = -1;
	int r;

	if (++u->entries > u->limits->entries)
		return err_msg(u->e, -EFBIG, "it has more than %llu entries",
			       (unsigned long long)u->limits->entries);
	if (!path || !path[0])
		return err_msg(u->e, -EBADMSG, "an entry has no name");
	if (is_root(path)) {
		r = archive_entry_filetype(entry) == AE_IFDIR ? set_owner(u->root, ".", -1, entry)
							      : 0;
	} else if (path_has_dots(path[0] == '.' && path[1] == '/' ? path + 2 : path)) {
		return err_msg(u->e, -EBADMSG, "the name '%.200s' leads up", path);
	} else {
		dir = path_make_parent(u->root, path, &name);
		r = dir < 0 ? dir : add_named(u, dir, name, entry);
	}
	if (r < 0 && u->error == 0)
		return err_set(u->e, r, "'%.200s'", path);
	return r;
}

static void restore_dir_times(struct unpack *u)
{
	for (size_t i = u->n_dirs; i--;) {
		struct timespec times[2] = {u->dirs[i].mtime, u->dirs[i].mtime};
		autoclose int fd = path_open(u->root, u->dirs[i].path, O_RDONLY | O_DIRECTORY);

		if (fd >= 0)
			(void)!futimens(fd, times);
	}
}

static int unpack_entries(struct unpack *u)
{
	struct archive_entry *entry;
	int r, status;

	while ((status = archive_read_next_header(u->outer, &entry)) == ARCHIVE_OK ||
	       status == ARCHIVE_WARN) {
		r = add_entry(u, entry);
		if (r < 0)
			return r;
	}
	if (status != ARCHIVE_EOF)
		return u->error ? u->error
				: err_msg(u->e, -EBADMSG, "it is damaged: %s",
					  archive_error_string(u->outer));
	/* The digest is of all bytes, padding past the end of the archive too. */
	do {
		const void *rest;
		la_ssize_t n = read_plain(u->outer, u, &rest);

		if (n == 0)
			return 0;
	} while (u->error == 0);
	return u->error;
}

int unpack_layer(int blob, int root, const struct unpack_limits *limits,
		 struct digest_text *diff_id, struct err *e)
{
	struct unpack u = {.blob = blob, .root = root, .limits = limits, .e = e};
	mode_t mask = umask(0);
	int r;

	u.in = xcalloc(1, CHUNK);
	u.out = xcalloc(1, CHUNK);
	sha256_init(&u.hash);
	r = open_readers(&u);
	if (r == 0)
		r = unpack_entries(&u);
	if (r == 0) {
		restore_dir_times(&u);
		*diff_id = digest_final(&u.hash);
	}
	archive_read_free(u.outer);
	archive_read_free(u.inner);
	for (size_t i = 0; i < u.n_dirs; i++)
		free(u.dirs[i].path);
	free(u.dirs);
	free(u.in);
	free(u.out);
	umask(mask);
	return r;
}
