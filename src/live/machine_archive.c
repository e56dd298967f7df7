/* SPDX-License-Identifier: Apache-2.0 */
/*
 * live/machine_archive.c - a machine in one file
 */
#include "live/machine_archive.h"

#include "base/fd.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <nettle/sha2.h>
#include <stdio.h>
#include <sys/stat.h>

#define MANIFEST     "manifest.json"
#define MANIFEST_MAX (1u << 20)
#define CHUNK        (1u << 20)
#define HEX          (2 * SHA256_DIGEST_SIZE)

static void hex_of(struct sha256_ctx *c, char ret[HEX + 1])
{
	uint8_t raw[SHA256_DIGEST_SIZE];

	sha256_digest(c, sizeof(raw), raw);
	for (size_t i = 0; i < sizeof(raw); i++)
		snprintf(ret + 2 * i, 3, "%02x", raw[i]);
}

static int tick(const struct machine_archive_progress *p, uint64_t done, uint64_t total)
{
	return p ? p->tick(p->opaque, done, total) : 0;
}

/* --- writing --- */

struct writer {
	struct archive *a;
	const char *path;
	const struct machine_archive_progress *progress;
	uint64_t done, total;
	uint8_t *chunk;
};

static int fail(const struct writer *w, struct err *e)
{
	return err_msg(e, archive_errno(w->a) == ENOSPC ? -ENOSPC : -EIO, "write %s: %s", w->path,
		       archive_error_string(w->a) ? archive_error_string(w->a) : "failed");
}

static int put_header(struct writer *w, const char *name, uint64_t size, struct err *e)
{
	struct archive_entry *entry = archive_entry_new();
	int r;

	archive_entry_set_pathname(entry, name);
	archive_entry_set_size(entry, (la_int64_t)size);
	archive_entry_set_filetype(entry, AE_IFREG);
	archive_entry_set_perm(entry, 0600);
	r = archive_write_header(w->a, entry) == ARCHIVE_OK ? 0 : fail(w, e);
	archive_entry_free(entry);
	return r;
}

static int put_data(struct writer *w, int fd, uint64_t size, struct sha256_ctx *sha, struct err *e)
{
	int r = 0;

	for (uint64_t at = 0; at < size && r == 0;) {
		size_t n = (size_t)MIN((uint64_t)CHUNK, size - at);

		r = pread_full(fd, w->chunk, n, at);
		if (r < 0)
			return err_set(e, r, "read for %s", w->path);
		sha256_update(sha, n, w->chunk);
		if (archive_write_data(w->a, w->chunk, n) != (la_ssize_t)n)
			return fail(w, e);
		at += n;
		w->done += n;
		r = tick(w->progress, w->done, w->total);
		if (r < 0)
			return err_msg(e, r, "cancelled");
	}
	return r;
}

static int put_file(struct writer *w, const struct archived_file *f, json_t *files, struct err *e)
{
	autoclose int fd = open(f->path, O_RDONLY | O_CLOEXEC);
	struct sha256_ctx sha;
	char hex[HEX + 1];
	struct stat st;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set(e, -errno, "open %s", f->path);
	sha256_init(&sha);
	r = put_header(w, f->name, (uint64_t)st.st_size, e);
	if (r == 0)
		r = put_data(w, fd, (uint64_t)st.st_size, &sha, e);
	if (r < 0)
		return r;
	hex_of(&sha, hex);
	json_object_set_new(files, f->name,
			    json_pack("{s:I, s:s}", "size", (json_int_t)st.st_size, "sha256", hex));
	return 0;
}

static int put_manifest(struct writer *w, const json_t *manifest, struct err *e)
{
	autofree char *text = json_dumps(manifest, JSON_INDENT(1));
	size_t len = text ? strlen(text) : 0;
	int r = text ? put_header(w, MANIFEST, len, e) : err_set(e, -ENOMEM, "manifest");

	if (r == 0 && archive_write_data(w->a, text, len) != (la_ssize_t)len)
		r = fail(w, e);
	return r;
}

static int put_all(struct writer *w, int fd, json_t *manifest, const struct archived_file *files,
		   unsigned int n, struct err *e)
{
	json_t *list = json_object();
	int r = 0;

	json_object_set_new(manifest, "version", json_integer(MACHINE_ARCHIVE_VERSION));
	json_object_set_new(manifest, "files", list);
	archive_write_set_format_pax_restricted(w->a);
	if (archive_write_add_filter_zstd(w->a) != ARCHIVE_OK ||
	    archive_write_open_fd(w->a, fd) != ARCHIVE_OK)
		return fail(w, e);
	for (unsigned int i = 0; i < n && r == 0; i++)
		r = put_file(w, &files[i], list, e);
	if (r == 0)
		r = put_manifest(w, manifest, e);
	if (r == 0 && archive_write_close(w->a) != ARCHIVE_OK)
		r = fail(w, e);
	return r;
}

static int sync_name(const char *path, struct err *e)
{
	autofree char *copy = xstrdup(path);
	autoclose int dir = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return dir < 0 || fsync(dir) < 0 ? err_set(e, -errno, "sync %s", path) : 0;
}

int machine_archive_write(const char *path, json_t *manifest, const struct archived_file *files,
			  unsigned int n, const struct machine_archive_progress *p, struct err *e)
{
	autofree char *part = xasprintf("%s.part", path);
	autofree uint8_t *chunk = malloc(CHUNK);
	struct writer w = {.path = path, .progress = p, .chunk = chunk};
	autoclose int fd = -1;
	struct stat st;
	int r;

	if (access(path, F_OK) == 0)
		return err_set(e, -EEXIST, "%s", path);
	for (unsigned int i = 0; i < n; i++)
		w.total += stat(files[i].path, &st) == 0 ? (uint64_t)st.st_size : 0;
	fd = open(part, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || !chunk)
		return err_set(e, fd < 0 ? -errno : -ENOMEM, "make %s", part);
	w.a = archive_write_new();
	r = w.a ? put_all(&w, fd, manifest, files, n, e) : err_set(e, -ENOMEM, "%s", path);
	archive_write_free(w.a);
	if (r == 0 && (fsync(fd) < 0 || rename(part, path) < 0))
		r = err_set(e, -errno, "%s", path);
	if (r < 0)
		unlink(part);
	return r < 0 ? r : sync_name(path, e);
}

/* --- reading --- */

struct reader {
	struct archive *a;
	const char *path, *dir; /* NULL: only checked */
	const struct machine_archive_progress *progress;
	uint64_t total;
	uint8_t *chunk;
	json_t *found; /* as the manifest's files */
	json_t *manifest;
};

static int damaged(const struct reader *r, const char *how, struct err *e)
{
	return err_msg(e, -EINVAL, "%s is damaged: %s", r->path, how);
}

static bool is_name(const char *name)
{
	static const char ok[] = "abcdefghijklmnopqrstuvwxyz0123456789.-";

	return name && name[0] && name[0] != '.' && strlen(name) < 64 &&
	       strspn(name, ok) == strlen(name);
}

/* The entry's bytes to @fd (-1 = nowhere); holes of raw disks are made again. */
static int take_data(struct reader *r, int fd, uint64_t size, struct sha256_ctx *sha, struct err *e)
{
	uint64_t at = 0;

	while (at < size) {
		la_ssize_t n = archive_read_data(r->a, r->chunk, CHUNK);
		int ret;

		if (n <= 0)
			return damaged(r,
				       n < 0 && archive_error_string(r->a)
					   ? archive_error_string(r->a)
					   : "it ends too early",
				       e);
		if ((uint64_t)n > size - at)
			return damaged(r, "a file is longer than it says", e);
		sha256_update(sha, (size_t)n, r->chunk);
		ret = fd < 0 ? 0 : pwrite_full(fd, r->chunk, (size_t)n, at);
		if (ret < 0)
			return err_set(e, ret, "write to %s", r->dir);
		at += (uint64_t)n;
		ret = tick(r->progress, (uint64_t)archive_filter_bytes(r->a, -1), r->total);
		if (ret < 0)
			return err_msg(e, ret, "cancelled");
	}
	return 0;
}

static int take_file(struct reader *r, const char *name, uint64_t size, struct err *e)
{
	autofree char *path = r->dir ? xasprintf("%s/%s", r->dir, name) : NULL;
	autoclose int fd =
	    path ? open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600) : -1;
	struct sha256_ctx sha;
	char hex[HEX + 1];
	int ret;

	if (path && fd < 0)
		return err_set(e, -errno, "make %s", path);
	sha256_init(&sha);
	ret = take_data(r, fd, size, &sha, e);
	if (ret == 0 && fd >= 0 && fsync(fd) < 0)
		ret = err_set(e, -errno, "write %s", path);
	if (ret < 0)
		return ret;
	hex_of(&sha, hex);
	json_object_set_new(r->found, name,
			    json_pack("{s:I, s:s}", "size", (json_int_t)size, "sha256", hex));
	return 0;
}

static int take_manifest(struct reader *r, uint64_t size, struct err *e)
{
	autofree char *text = size <= MANIFEST_MAX ? malloc(size + 1) : NULL;

	if (!text || archive_read_data(r->a, text, size) != (la_ssize_t)size)
		return damaged(r, "its manifest is not whole", e);
	r->manifest = json_loadb(text, size, JSON_REJECT_DUPLICATES, NULL);
	if (!json_is_object(r->manifest))
		return damaged(r, "its manifest is no JSON object", e);
	if (json_integer_value(json_object_get(r->manifest, "version")) != MACHINE_ARCHIVE_VERSION)
		return err_msg(e, -ENOTSUP, "%s is of another version than %d", r->path,
			       MACHINE_ARCHIVE_VERSION);
	if (!json_equal(json_object_get(r->manifest, "files"), r->found))
		return damaged(r, "its files are not those of its manifest", e);
	return 0;
}

static int take_entry(struct reader *r, struct archive_entry *entry, struct err *e)
{
	const char *name = archive_entry_pathname(entry);
	la_int64_t size = archive_entry_size(entry);

	if (!is_name(name) || archive_entry_filetype(entry) != AE_IFREG ||
	    archive_entry_hardlink(entry) || size < 0)
		return damaged(r, "it holds what is no plain file", e);
	if (r->manifest)
		return damaged(r, "something follows its manifest", e);
	if (strcmp(name, MANIFEST) == 0)
		return take_manifest(r, (uint64_t)size, e);
	if (json_object_get(r->found, name) ||
	    json_object_size(r->found) == MACHINE_ARCHIVE_MAX_FILES)
		return damaged(r, "a file is there twice, or there are too many", e);
	return take_file(r, name, (uint64_t)size, e);
}

static int take_all(struct reader *r, struct err *e)
{
	struct archive_entry *entry;
	int ret = 0;

	archive_read_support_format_tar(r->a);
	archive_read_support_filter_zstd(r->a);
	if (archive_read_open_filename(r->a, r->path, CHUNK) != ARCHIVE_OK)
		return err_msg(e, archive_errno(r->a) == ENOENT ? -ENOENT : -EINVAL, "%s: %s",
			       r->path, archive_error_string(r->a));
	while (ret == 0) {
		int s = archive_read_next_header(r->a, &entry);

		if (s == ARCHIVE_EOF)
			break;
		ret = s == ARCHIVE_OK ? take_entry(r, entry, e)
				      : damaged(r, archive_error_string(r->a), e);
	}
	if (ret == 0 && !r->manifest)
		ret = damaged(r, "it has no manifest; it was cut short", e);
	return ret;
}

int machine_archive_read(const char *path, const char *dir,
			 const struct machine_archive_progress *p, json_t **manifest, struct err *e)
{
	autofree uint8_t *chunk = malloc(CHUNK);
	struct reader r = {.path = path, .dir = dir, .progress = p, .chunk = chunk};
	struct stat st;
	int ret;

	if (stat(path, &st) < 0)
		return err_set(e, -errno, "%s", path);
	r.total = (uint64_t)st.st_size;
	r.a = archive_read_new();
	r.found = json_object();
	ret = r.a && chunk ? take_all(&r, e) : err_set(e, -ENOMEM, "%s", path);
	archive_read_free(r.a);
	json_decref(r.found);
	if (ret == 0)
		*manifest = json_incref(r.manifest);
	json_decref(r.manifest);
	return ret;
}
