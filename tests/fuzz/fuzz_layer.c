/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/fuzz/fuzz_layer.c - layers of images: archives of hostile entries, whole and damaged
 *
 * Nothing outside the directory changes, no device node but a whiteout comes of it, and what was
 * written is bounded.
 */
#include "fuzz.h"

#include "base/fd.h"
#include "oci/unpack.h"

#include <archive.h>
#include <archive_entry.h>
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define BYTES_MAX 65536

static const char *const names[] = {
    "a",      "b",      "a/b",        "a/b/c",  "../out/x", "/out/x",       "./",      ".",
    "..",     "a/../b", "link",       "link/x", ".wh.a",    ".wh..wh..opq", "a/.wh.b", ".wh..",
    ".wh...", ".wh.",   "link/.wh.x", "a/./b",  "//a",      "up/x",         "up",      "b/link",
};
static const char *const targets[] = {"/",    "..",  "../out",      "../out/canary",   "a",
				      "link", "b/c", "/out/canary", "../../../../etc", "",
				      "up"};
static const uint32_t types[] = {AE_IFREG, AE_IFDIR, AE_IFLNK, AE_IFCHR,
				 AE_IFBLK, AE_IFIFO, AE_IFREG};

/* Entries from the input, in a memory file. */
static int make_layer(struct fuzz_input *in)
{
	int fd = memfd_create("layer", MFD_CLOEXEC);
	struct archive *a = archive_write_new();
	unsigned int n = fuzz_u8(in) % 12;

	archive_write_set_format_pax_restricted(a);
	assert(fd >= 0 && archive_write_open_fd(a, fd) == ARCHIVE_OK);
	while (n--) {
		struct archive_entry *e = archive_entry_new();
		size_t size = fuzz_u8(in);
		uint8_t type = fuzz_u8(in);
		char data[256] = {0};

		archive_entry_set_pathname(e, names[fuzz_u8(in) % ARRAY_SIZE(names)]);
		archive_entry_set_filetype(e, types[type % ARRAY_SIZE(types)]);
		archive_entry_set_perm(e, fuzz_u8(in));
		archive_entry_set_size(e, type % ARRAY_SIZE(types) == 0 ? (la_int64_t)size : 0);
		if (type % ARRAY_SIZE(types) == 2)
			archive_entry_set_symlink(e, targets[fuzz_u8(in) % ARRAY_SIZE(targets)]);
		if (type % ARRAY_SIZE(types) == 6)
			archive_entry_set_hardlink(e, targets[fuzz_u8(in) % ARRAY_SIZE(targets)]);
		if (type & 0x80)
			archive_entry_xattr_add_entry(e, "user.overlay.opaque", "y", 1);
		if (archive_write_header(a, e) >= ARCHIVE_WARN && type % ARRAY_SIZE(types) == 0)
			(void)archive_write_data(a, data, size);
		archive_entry_free(e);
	}
	archive_write_close(a);
	archive_write_free(a);
	return fd;
}

static void damage(int fd, struct fuzz_input *in)
{
	struct stat st;

	assert(fstat(fd, &st) == 0);
	for (unsigned int n = fuzz_u8(in) & 3; n && st.st_size; n--) {
		uint8_t b[3];

		fuzz_bytes(in, b, sizeof(b));
		(void)!pwrite(fd, b + 2, 1, (b[0] | b[1] << 8) % st.st_size);
	}
	lseek(fd, 0, SEEK_SET);
}

static void check_and_remove(int dir, unsigned int depth)
{
	DIR *d = fdopendir(openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	struct dirent *de;

	assert(d && depth < 300);
	while ((de = readdir(d))) {
		struct stat st;

		if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0)
			continue;
		assert(fstatat(dir, de->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0);
		assert(!S_ISBLK(st.st_mode) && (!S_ISCHR(st.st_mode) || st.st_rdev == 0));
		assert(!S_ISREG(st.st_mode) || st.st_size <= BYTES_MAX);
		if (S_ISDIR(st.st_mode)) {
			int sub;

			(void)!fchmodat(dir, de->d_name, 0700, 0);
			sub = openat(dir, de->d_name,
				     O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
			assert(sub >= 0);
			check_and_remove(sub, depth + 1);
			close(sub);
			assert(unlinkat(dir, de->d_name, AT_REMOVEDIR) == 0);
		} else {
			assert(unlinkat(dir, de->d_name, 0) == 0);
		}
	}
	closedir(d);
}

static char top[] = "/tmp/insula-fuzz-layer.XXXXXX";

static void remove_top(void)
{
	int fd = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd >= 0) {
		check_and_remove(fd, 0);
		close(fd);
	}
	rmdir(top);
}

/* TOP/in is unpacked to, TOP/out/canary must stay as it is. */
static void set_up(void)
{
	int fd;

	if (top[strlen(top) - 1] != 'X')
		return;
	assert(mkdtemp(top) && chdir(top) == 0);
	assert(mkdir("in", 0700) == 0 && mkdir("out", 0700) == 0);
	fd = open("out/canary", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert(fd >= 0 && write(fd, "canary", 6) == 6);
	close(fd);
	atexit(remove_top);
}

static void check_outside(void)
{
	struct stat st;
	DIR *d = opendir("out");
	unsigned int n = 0;

	assert(stat("out/canary", &st) == 0 && st.st_size == 6 && st.st_nlink == 1);
	assert((st.st_mode & 07777) == 0600);
	while (d && readdir(d))
		n++;
	closedir(d);
	assert(n == 3);
	d = opendir(".");
	for (n = 0; readdir(d);)
		n++;
	closedir(d);
	assert(n == 4);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct unpack_limits limits = {
	    .bytes = BYTES_MAX, .entries = 20, .free_bytes = 32768, .ratio = 20};
	struct fuzz_input in = {.data = data, .len = size};
	struct digest_text diff_id = {0};
	struct err e = {0};
	int blob, root;

	set_up();
	blob = make_layer(&in);
	damage(blob, &in);
	root = open("in", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (unpack_layer(blob, root, &limits, &diff_id, &e) < 0)
		assert(e.msg[0] && !diff_id.s[0]);
	else
		assert(digest_is_valid(diff_id.s));
	fchmod(root, 0700);
	check_outside();
	check_and_remove(root, 0);
	close(root);
	close(blob);
	return 0;
}
