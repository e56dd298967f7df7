/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/image/test_initrd.c - which modules an initramfs gets, in which order
 */
#include "base/fd.h"
#include "image/image_priv.h"
#include "test.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>

static void put(const char *dir, const char *name, const char *text)
{
	autofree char *path = xasprintf("%s/lib/modules/6.1/%s", dir, name);
	autofree char *parent = xstrdup(path);
	autoclose int fd = -1;

	*strrchr(parent, '/') = '\0';
	CHECK_EQ(make_dir(parent, 0755, NULL), 0);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	CHECK(fd >= 0);
	CHECK_EQ(write_full(fd, text, strlen(text)), 0);
}

/* The content of a file in the archive, as text. */
static char *content(const char *archive, const char *name)
{
	struct archive *a = archive_read_new();
	struct archive_entry *entry;
	char *text = NULL;

	CHECK_EQ(archive_read_support_format_cpio(a), ARCHIVE_OK);
	CHECK_EQ(archive_read_open_filename(a, archive, 4096), ARCHIVE_OK);
	while (!text && archive_read_next_header(a, &entry) == ARCHIVE_OK) {
		if (strcmp(archive_entry_pathname(entry), name) != 0)
			continue;
		text = xcalloc(1, (size_t)archive_entry_size(entry) + 1);
		CHECK_EQ(archive_read_data(a, text, (size_t)archive_entry_size(entry)),
			 archive_entry_size(entry));
	}
	archive_read_free(a);
	return text;
}

int main(void)
{
	char dir[] = "/tmp/insula-test-XXXXXX";
	autofree char *out = NULL, *list = NULL, *shares = NULL, *module = NULL, *none = NULL;
	struct err e = {0};

	CHECK(mkdtemp(dir));
	out = xasprintf("%s/initrd", dir);
	CHECK(initrd_write(dir, "6.1", out, &e) < 0); /* no modules.dep */
	put(dir, "modules.dep",
	    "kernel/a/virtio_ring.ko:\n"
	    "kernel/a/virtio.ko: kernel/a/virtio_ring.ko\n"
	    "kernel/a/virtio_blk.ko: kernel/a/virtio.ko kernel/a/virtio_ring.ko\n"
	    "kernel/a/virtio-rng.ko: kernel/a/virtio.ko kernel/a/virtio_ring.ko\n"
	    "kernel/n/9pnet.ko:\n"
	    "kernel/n/9pnet_virtio.ko: kernel/n/9pnet.ko kernel/a/virtio.ko "
	    "kernel/a/virtio_ring.ko\n"
	    "kernel/x/unwanted.ko:\n");
	put(dir, "kernel/a/virtio_ring.ko", "ring");
	put(dir, "kernel/a/virtio.ko", "virtio");
	put(dir, "kernel/a/virtio_blk.ko", "blk");
	put(dir, "kernel/a/virtio-rng.ko", "rng");
	put(dir, "kernel/n/9pnet.ko", "9pnet");
	put(dir, "kernel/n/9pnet_virtio.ko", "9pnet_virtio");
	put(dir, "kernel/x/unwanted.ko", "unwanted");
	if (initrd_write(dir, "6.1", out, &e) < 0) {
		fprintf(stderr, "%s\n", e.msg);
		return 1;
	}
	list = content(out, "insula/modules.list");
	CHECK_STR(list, "/insula/modules/virtio_ring.ko\n/insula/modules/virtio.ko\n"
			"/insula/modules/virtio_blk.ko\n/insula/modules/virtio-rng.ko\n");
	shares = content(out, "insula/modules.shares");
	CHECK_STR(shares, "/insula/modules/9pnet.ko\n/insula/modules/9pnet_virtio.ko\n");
	CHECK(initrd_has_module(out, "9pnet") && !initrd_has_module(out, "unwanted"));
	CHECK(!initrd_has_module(out, "virtio_bl"));
	module = content(out, "insula/modules/virtio_blk.ko");
	CHECK_STR(module, "blk");
	none = content(out, "insula/modules/unwanted.ko");
	CHECK(!none);
	exec_remove_tree(dir);
	return 0;
}
