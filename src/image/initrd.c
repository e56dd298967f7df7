/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image/initrd.c - the part of the initramfs that belongs to a kernel: its modules
 *
 * The agent and its configuration are appended when a machine starts.  Nothing is compressed, on
 * purpose: unpacking costs a software CPU more than reading.
 */
#include "base/fd.h"
#include "codec/cpio.h"
#include "image/image_priv.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define MAX_MODULES 512
#define MAX_MODULE  (32u << 20)
#define MAX_INITRD  (256u << 20)

/* What a guest needs before its own modprobe can help, in groups of which the agent loads those
 * that it has use for.  Names that a kernel lacks or has built in are passed over; dependencies
 * come by themselves. */
static const struct group {
	const char *list; /* insula/modules.LIST */
	const char *wanted[20];
} groups[] = {
    {"list",
     {"virtio_pci", "virtio_mmio", "virtio_blk", "virtio_console", "virtio_net",
      "vmw_vsock_virtio_transport", "virtio_rng", "virtio_balloon", "crc32c_generic",
      "crc32c_intel", "ext4", "evdev", "button"}},
    {"shares", {"virtiofs", "9p", "9pnet_virtio"}},
    {"filesystems", {"xfs", "btrfs", "vfat", "squashfs", "erofs"}},
};

/* A line of modules.dep: "path: dependency dependency", all of them, the deepest last. */
struct row {
	char *path, *deps;
};

struct resolver {
	struct row *rows;
	size_t n_rows;
	const char *order[MAX_MODULES]; /* paths under lib/modules/VERSION, dependencies first */
	size_t n;
};

/* Compares "kernel/.../virtio-rng.ko.xz" with "virtio_rng": - and _ are the same to the kernel. */
static bool is_module(const char *path, size_t len, const char *name)
{
	const char *base = memrchr(path, '/', len);
	size_t i = 0;

	base = base ? base + 1 : path;
	for (; name[i] && base + i < path + len; i++) {
		if ((base[i] == '-' ? '_' : base[i]) != name[i])
			return false;
	}
	return !name[i] && (size_t)(path + len - base) > i + 2 && strncmp(base + i, ".ko", 3) == 0;
}

static void add_module(struct resolver *rs, const char *path)
{
	for (size_t i = 0; i < rs->n; i++) {
		if (strcmp(rs->order[i], path) == 0)
			return;
	}
	if (rs->n < MAX_MODULES)
		rs->order[rs->n++] = path;
}

static void resolve(struct resolver *rs, const char *name)
{
	for (size_t i = 0; i < rs->n_rows; i++) {
		struct row *row = &rs->rows[i];
		char *space;

		if (!is_module(row->path, strlen(row->path), name))
			continue;
		/* From the last to the first, each name cut off once it is taken. */
		while ((space = strrchr(row->deps, ' '))) {
			if (space[1])
				add_module(rs, space + 1);
			*space = '\0';
		}
		add_module(rs, row->path);
		return;
	}
}

/* Cuts @text into rows; they point into it. */
static void parse_dep(struct resolver *rs, char *text)
{
	size_t room = 0;
	char *save = NULL;

	for (char *l = strtok_r(text, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		char *colon = strchr(l, ':');

		if (!colon)
			continue;
		*colon = '\0';
		if (rs->n_rows == room) {
			room = room ? room * 2 : 1024;
			rs->rows = reallocarray(rs->rows, room, sizeof(*rs->rows));
			if (!rs->rows)
				abort();
		}
		rs->rows[rs->n_rows++] = (struct row){.path = l, .deps = colon + 1};
	}
}

/* Where it lies in the archive. */
static char *module_name(const char *path)
{
	const char *base = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;

	return xasprintf("insula/modules/%.*s.ko", (int)strcspn(base, "."), base);
}

/* Reads a module, decompressing .ko.xz, .ko.zst and .ko.gz. */
static int read_module(const char *path, struct strbuf *ret, struct err *e)
{
	struct archive *a = archive_read_new();
	struct archive_entry *entry;
	char chunk[65536];
	la_ssize_t n = -1;
	int r = 0;

	archive_read_support_filter_all(a);
	archive_read_support_format_raw(a);
	if (archive_read_open_filename(a, path, sizeof(chunk)) == ARCHIVE_OK &&
	    archive_read_next_header(a, &entry) == ARCHIVE_OK) {
		while ((n = archive_read_data(a, chunk, sizeof(chunk))) > 0 &&
		       ret->len < MAX_MODULE)
			strbuf_add(ret, chunk, (size_t)n);
	}
	if (n != 0)
		r = err_msg(e, -EIO, "kernel module %s cannot be read: %s", path,
			    n > 0 ? "too large" : archive_error_string(a));
	archive_read_free(a);
	return r;
}

/* Each module goes to insula/modules/NAME.ko, once; each group's list names all that it needs. */
static int add_files(const struct resolver *rs, const char *dir, struct cpio *c, struct err *e)
{
	for (size_t i = 0; i < rs->n; i++) {
		autofree char *path = xasprintf("%s/%s", dir, rs->order[i]);
		autofree char *name = module_name(rs->order[i]);
		autostrbuf struct strbuf data = {0};
		int r = read_module(path, &data, e);

		if (r < 0)
			return r;
		cpio_file(c, name, 0644, data.data, (uint32_t)data.len);
	}
	return 0;
}

/* The modules from @first on are the group's own; one that an earlier group brought is loaded by
 * then, since the agent always loads the first group. */
static void add_list(const struct resolver *rs, size_t first, const char *list, struct cpio *c)
{
	autofree char *file = xasprintf("insula/modules.%s", list);
	autostrbuf struct strbuf text = {0};

	for (size_t i = first; i < rs->n; i++) {
		autofree char *name = module_name(rs->order[i]);

		strbuf_printf(&text, "/%s\n", name);
	}
	cpio_file(c, file, 0644, text.data, (uint32_t)text.len);
}

bool initrd_has_module(const char *path, const char *name)
{
	autofree char *wanted = xasprintf("insula/modules/%s.ko", name);
	autostrbuf struct strbuf data = {0};

	/* As the name of a file; the lists name it with a slash before it. */
	return read_file(path, MAX_INITRD, &data) == 0 &&
	       memmem(data.data, data.len, wanted, strlen(wanted) + 1);
}

int initrd_write(const char *root, const char *version, const char *path, struct err *e)
{
	autofree char *dir = xasprintf("%s/lib/modules/%s", root, version);
	autofree char *dep = xasprintf("%s/modules.dep", dir);
	autostrbuf struct strbuf text = {0}, out = {0};
	struct cpio c = {.out = &out};
	struct resolver rs = {0};
	autoclose int fd = -1;
	int r = read_file(dep, 16u << 20, &text);

	if (r < 0)
		return err_set(e, r, "read %s", dep);
	if (text.len)
		parse_dep(&rs, text.data);
	cpio_dir(&c, "dev", 0755);
	cpio_chardev(&c, "dev/console", 0600, 5, 1);
	cpio_dir(&c, "insula", 0755);
	cpio_dir(&c, "insula/modules", 0755);
	for (size_t g = 0; g < ARRAY_SIZE(groups); g++) {
		size_t first = rs.n;

		for (const char *const *m = groups[g].wanted; *m; m++)
			resolve(&rs, *m);
		add_list(&rs, first, groups[g].list, &c);
	}
	r = add_files(&rs, dir, &c, e);
	free(rs.rows);
	if (r < 0)
		return r;
	cpio_end(&c);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	r = fd < 0 ? -errno : write_full(fd, out.data, out.len);
	return r < 0 ? err_set(e, r, "write %s", path) : 0;
}
