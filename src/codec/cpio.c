/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec/cpio.c - writes the "newc" cpio format of Linux initramfs archives
 */
#include "codec/cpio.h"

#include <sys/stat.h>

static void pad(struct strbuf *out, size_t align)
{
	while (out->len % align)
		strbuf_putc(out, 0);
}

struct entry {
	uint32_t mode, nlink, len, major, minor;
};

/* Thirteen fields of eight hex digits after the magic, the name with its NUL, the data; name and
 * data each padded to four bytes from the start of the archive. */
static void put_entry(struct cpio *c, const char *name, const struct entry *e, const void *data)
{
	strbuf_printf(c->out, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X",
		      ++c->inode, e->mode, 0, 0, e->nlink, 0, e->len, 0, 0, e->major, e->minor,
		      (unsigned int)strlen(name) + 1, 0);
	strbuf_add(c->out, name, strlen(name) + 1);
	pad(c->out, 4);
	if (e->len)
		strbuf_add(c->out, data, e->len);
	pad(c->out, 4);
}

void cpio_dir(struct cpio *c, const char *name, uint32_t mode)
{
	struct entry e = {.mode = S_IFDIR | mode, .nlink = 2};

	put_entry(c, name, &e, NULL);
}

void cpio_file(struct cpio *c, const char *name, uint32_t mode, const void *data, uint32_t len)
{
	struct entry e = {.mode = S_IFREG | mode, .nlink = 1, .len = len};

	put_entry(c, name, &e, data);
}

void cpio_link(struct cpio *c, const char *name, const char *target)
{
	struct entry e = {.mode = S_IFLNK | 0777, .nlink = 1, .len = (uint32_t)strlen(target)};

	put_entry(c, name, &e, target);
}

void cpio_chardev(struct cpio *c, const char *name, uint32_t mode, uint32_t major, uint32_t minor)
{
	struct entry e = {.mode = S_IFCHR | mode, .nlink = 1, .major = major, .minor = minor};

	put_entry(c, name, &e, NULL);
}

void cpio_end(struct cpio *c)
{
	struct entry e = {.nlink = 1};

	put_entry(c, "TRAILER!!!", &e, NULL);
	pad(c->out, 512);
}
