/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/codec/test_cpio.c - an archive of ours as libarchive reads it
 */
#include "codec/cpio.h"
#include "test.h"

#include <archive.h>
#include <archive_entry.h>

static struct archive *open_archive(const struct strbuf *b)
{
	struct archive *a = archive_read_new();

	CHECK_EQ(archive_read_support_format_cpio(a), ARCHIVE_OK);
	CHECK_EQ(archive_read_open_memory(a, b->data, b->len), ARCHIVE_OK);
	return a;
}

int main(void)
{
	autostrbuf struct strbuf b = {0};
	struct cpio c = {.out = &b};
	struct archive_entry *e;
	struct archive *a;
	char text[8] = "";

	cpio_dir(&c, "dev", 0755);
	cpio_chardev(&c, "dev/console", 0600, 5, 1);
	cpio_file(&c, "init", 0755, "hello", 5);
	cpio_link(&c, "bin", "usr/bin");
	cpio_end(&c);
	CHECK_EQ(b.len % 512, 0);

	a = open_archive(&b);
	CHECK_EQ(archive_read_next_header(a, &e), ARCHIVE_OK);
	CHECK_STR(archive_entry_pathname(e), "dev");
	CHECK_EQ(archive_entry_mode(e), AE_IFDIR | 0755);
	CHECK_EQ(archive_read_next_header(a, &e), ARCHIVE_OK);
	CHECK_STR(archive_entry_pathname(e), "dev/console");
	CHECK_EQ(archive_entry_mode(e), AE_IFCHR | 0600);
	CHECK_EQ(archive_entry_rdevmajor(e), 5);
	CHECK_EQ(archive_entry_rdevminor(e), 1);
	CHECK_EQ(archive_read_next_header(a, &e), ARCHIVE_OK);
	CHECK_STR(archive_entry_pathname(e), "init");
	CHECK_EQ(archive_entry_size(e), 5);
	CHECK_EQ(archive_read_data(a, text, sizeof(text)), 5);
	CHECK_STR(text, "hello");
	CHECK_EQ(archive_read_next_header(a, &e), ARCHIVE_OK);
	CHECK_STR(archive_entry_symlink(e), "usr/bin");
	CHECK_EQ(archive_read_next_header(a, &e), ARCHIVE_EOF);
	archive_read_free(a);
	return 0;
}
