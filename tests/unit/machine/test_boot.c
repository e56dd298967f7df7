/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/machine/test_boot.c - kernel loaders on small made-up images: good, truncated, hostile
 */
#include "machine/boot.h"

#include "base/exit.h"
#include "base/fd.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

#define RAM (UINT64_C(64) << 20)

struct image {
	uint8_t data[16384];
	size_t len;
};

static int file_with(const void *data, size_t len)
{
	int fd = memfd_create("image", MFD_CLOEXEC);

	CHECK(fd >= 0);
	CHECK_EQ(write_full(fd, data, len), 0);
	return fd;
}

static struct boot_config config(struct gmem *m, const char *cmdline)
{
	struct boot_config b = {
	    .mem = m,
	    .kernel = "k",
	    .kernel_fd = -1,
	    .initrd_fd = -1,
	    .cmdline = cmdline,
	    .rsdp = 0xf0000,
	};

	b.map.range[0] = (struct boot_range){0, BOOT_LOW_END, BOOT_RAM};
	b.map.range[1] = (struct boot_range){BOOT_HIGH_START, RAM - BOOT_HIGH_START, BOOT_RAM};
	b.map.n = 2;
	return b;
}

static struct gmem *ram(void)
{
	struct gmem *m;

	CHECK_EQ(gmem_new(RAM, 0x80000000, &m, NULL), 0);
	return m;
}

static int load(struct boot_config *b, const void *data, size_t len, struct cpu *c, struct err *e)
{
	int r;

	memset(c, 0, sizeof(*c));
	*e = (struct err){0};
	b->kernel_fd = file_with(data, len);
	r = boot_load(b, c, e);
	close(b->kernel_fd);
	if (r < 0) {
		CHECK(e->msg[0]);
		CHECK(e->exit_code == EXIT_BAD_KERNEL || e->exit_code == EXIT_BAD_MEMORY);
	}
	return r;
}

static uint32_t peek32(struct gmem *m, uint64_t gpa)
{
	uint32_t v;

	CHECK_EQ(gmem_read(m, gpa, &v, 4), 0);
	return v;
}

static void check_text(struct gmem *m, uint64_t gpa, const char *want)
{
	char text[64] = "";

	CHECK_EQ(gmem_read(m, gpa, text, strlen(want) + 1), 0);
	CHECK_STR(text, want);
}

/* --- bzImage ------------------------------------------------------------------------------------
 */

static struct image *bzimage(bool has64)
{
	static struct image i;
	uint8_t *h = i.data;

	memset(&i, 0, sizeof(i));
	i.len = 1024 + 4096;
	h[0x1f1] = 1;
	store_le32(h + 0x1f4, 4096 / 16);
	store_le16(h + 0x1fe, 0xaa55);
	h[0x200] = 0xeb;
	h[0x201] = 0x66;
	memcpy(h + 0x202, "HdrS", 4);
	store_le16(h + 0x206, 0x20f);
	h[0x211] = 1;
	store_le32(h + 0x214, 0x100000);
	store_le32(h + 0x22c, 0x7fffffff);
	store_le32(h + 0x230, 0x200000);
	h[0x234] = 1;
	store_le16(h + 0x236, has64 ? 1 : 0);
	store_le32(h + 0x238, 2047);
	store_le64(h + 0x258, 0x1000000);
	store_le32(h + 0x260, 0x800000);
	memcpy(h + 1024, "kernel code", 12);
	return &i;
}

static void test_bzimage64(void)
{
	struct gmem *m = ram();
	struct boot_config b = config(m, "console=ttyS0");
	struct image *i = bzimage(true);
	uint32_t initrd;
	struct cpu c;
	struct err e;

	b.initrd = "i";
	b.initrd_fd = file_with("initrd bytes", 13);
	CHECK_EQ(load(&b, i->data, i->len, &c, &e), 0);
	CHECK_EQ(c.rip, 0x1000200);
	CHECK_EQ(c.gpr[RSI], BOOT_INFO);
	CHECK_EQ(c.efer, EFER_LME | EFER_LMA);
	CHECK(c.cr0 & CR0_PG);
	CHECK(c.seg[SEG_CS].attr & SEG_L);
	check_text(m, 0x1000000, "kernel code");
	check_text(m, BOOT_CMDLINE, "console=ttyS0");
	CHECK_EQ(peek32(m, BOOT_INFO + 0x228), BOOT_CMDLINE);
	CHECK_EQ(peek32(m, BOOT_INFO + 0x70), 0xf0000);
	CHECK_EQ(peek32(m, BOOT_INFO + 0x1e8) & 0xff, 2);
	CHECK_EQ(peek32(m, BOOT_INFO + 0x2d0 + 20), BOOT_HIGH_START);
	CHECK_EQ(peek32(m, BOOT_INFO + 0x21c), 13);
	initrd = peek32(m, BOOT_INFO + 0x218);
	CHECK_EQ(initrd, RAM - 4096);
	check_text(m, initrd, "initrd bytes");
	/* Identity map: 3 GiB + 2 MiB. */
	CHECK_EQ(peek32(m, c.cr3 + 5 * 4096 + 8), 0xc0200083);
	close(b.initrd_fd);
	gmem_free(m);
}

static void test_bzimage32(void)
{
	struct gmem *m = ram();
	struct boot_config b = config(m, "");
	struct image *i = bzimage(false);
	struct cpu c;
	struct err e;

	CHECK_EQ(load(&b, i->data, i->len, &c, &e), 0);
	CHECK_EQ(c.rip, 0x1000000);
	CHECK_EQ(c.cr0, CR0_PE | CR0_ET);
	CHECK_EQ(c.efer, 0);
	CHECK(c.seg[SEG_CS].attr & SEG_DB);
	CHECK_EQ(c.seg[SEG_CS].sel, 0x10);
	gmem_free(m);
}

static void test_bzimage_placement(void)
{
	struct gmem *m = ram();
	struct boot_config b = config(m, "");
	struct image *i = bzimage(true);
	struct cpu c;
	struct err e;

	store_le64(i->data + 0x258, 0x40000000); /* preferred address is outside: relocated */
	CHECK_EQ(load(&b, i->data, i->len, &c, &e), 0);
	CHECK_EQ(c.rip, 0x200200);
	store_le32(i->data + 0x260, 0x7f000000);
	CHECK(load(&b, i->data, i->len, &c, &e) < 0);
	CHECK_EQ(e.exit_code, EXIT_BAD_MEMORY);
	gmem_free(m);
}

static void test_bzimage_bad(void)
{
	static char line[3000];
	struct gmem *m = ram();
	struct boot_config b = config(m, "");
	struct image *i = bzimage(true);
	struct cpu c;
	struct err e;

	for (size_t n = 0; n < i->len; n++)
		CHECK(load(&b, i->data, n, &c, &e) < 0);
	memset(line, 'a', sizeof(line) - 1);
	b.cmdline = line;
	CHECK_EQ(load(&b, i->data, i->len, &c, &e), -E2BIG);
	CHECK_STR(e.msg, "kernel k: the command line has 2999 characters, this kernel takes 2047");
	b.cmdline = "";
	/* Each header byte at its extremes: refused or loaded, never out of bounds. */
	for (size_t at = 0x1f1; at < 0x290; at++) {
		uint8_t keep = i->data[at];

		for (unsigned int v = 0; v < 256; v += 85) {
			i->data[at] = (uint8_t)v;
			(void)!load(&b, i->data, i->len, &c, &e);
		}
		i->data[at] = keep;
	}
	gmem_free(m);
}

static void test_initrd_too_big(void)
{
	struct gmem *m = ram();
	struct boot_config b = config(m, "");
	struct image *i = bzimage(true);
	struct cpu c;
	struct err e;

	b.initrd = "big";
	b.initrd_fd = file_with("", 0);
	CHECK_EQ(ftruncate(b.initrd_fd, (off_t)RAM), 0);
	CHECK(load(&b, i->data, i->len, &c, &e) < 0);
	CHECK_EQ(e.exit_code, EXIT_BAD_MEMORY);
	/* Above the kernel is no room for 50 MiB, below neither; 14 MiB fit below. */
	CHECK_EQ(ftruncate(b.initrd_fd, 14 << 20), 0);
	store_le64(i->data + 0x258, 0x3000000);
	CHECK_EQ(load(&b, i->data, i->len, &c, &e), 0);
	CHECK_EQ(peek32(m, BOOT_INFO + 0x218), 0x3000000 - (14 << 20));
	close(b.initrd_fd);
	gmem_free(m);
}

/* --- ELF ----------------------------------------------------------------------------------------
 */

static struct image *elf64(bool pvh)
{
	static struct image i;
	uint8_t *d = i.data, *p = d + 64;

	memset(&i, 0, sizeof(i));
	i.len = 8192;
	memcpy(d, "\177ELF\2\1\1", 7);
	store_le16(d + 18, 62);
	store_le64(d + 24, 0x200000);
	store_le64(d + 32, 64);
	store_le16(d + 54, 56);
	store_le16(d + 56, 2);
	store_le32(p, 1); /* PT_LOAD, 4096 bytes from 4096 to 2 MiB, 8192 in memory */
	store_le64(p + 8, 4096);
	store_le64(p + 24, 0x200000);
	store_le64(p + 32, 4096);
	store_le64(p + 40, 8192);
	p += 56;
	store_le32(p, 4); /* PT_NOTE */
	store_le64(p + 8, 512);
	store_le64(p + 32, pvh ? 24 : 0);
	store_le64(p + 48, 4);
	p = d + 512;
	store_le32(p, 4);
	store_le32(p + 4, 8);
	store_le32(p + 8, 18);
	memcpy(p + 12, "Xen", 4);
	store_le64(p + 16, 0x200040);
	memcpy(d + 4096, "elf code", 9);
	return &i;
}

static void test_pvh(void)
{
	struct gmem *m = ram();
	struct boot_config b = config(m, "root=/dev/vda");
	struct image *i = elf64(true);
	struct cpu c;
	struct err e;

	CHECK_EQ(load(&b, i->data, i->len, &c, &e), 0);
	CHECK_EQ(c.rip, 0x200040);
	CHECK_EQ(c.gpr[RBX], BOOT_INFO);
	CHECK_EQ(peek32(m, BOOT_INFO), 0x336ec578);
	CHECK_EQ(peek32(m, BOOT_INFO + 24), BOOT_CMDLINE);
	CHECK_EQ(peek32(m, BOOT_INFO + 32), 0xf0000);
	CHECK_EQ(peek32(m, BOOT_INFO + 48), 2);
	CHECK_EQ(peek32(m, peek32(m, BOOT_INFO + 40) + 24), BOOT_HIGH_START);
	check_text(m, 0x200000, "elf code");
	for (size_t n = 0; n < i->len; n += 13)
		CHECK(load(&b, i->data, n, &c, &e) < 0);
	for (size_t at = 0; at < 0x218; at++) {
		uint8_t keep = i->data[at];

		for (unsigned int v = 0; v < 256; v += 85) {
			i->data[at] = (uint8_t)v;
			(void)!load(&b, i->data, i->len, &c, &e);
		}
		i->data[at] = keep;
	}
	gmem_free(m);
}

static void put_header(uint8_t *h, uint32_t flags)
{
	store_le32(h, 0x1badb002);
	store_le32(h + 4, flags);
	store_le32(h + 8, -(0x1badb002 + flags));
}

static void test_multiboot(void)
{
	struct gmem *m = ram();
	struct boot_config b = config(m, "arg");
	struct image *i = elf64(false);
	uint32_t map;
	struct cpu c;
	struct err e;

	CHECK(load(&b, i->data, i->len, &c, &e) < 0);
	CHECK_STR(e.msg, "kernel k: not a kernel: no bzImage, no ELF with a PVH entry, "
			 "no multiboot image");
	put_header(i->data + 4096, 3);
	CHECK_EQ(load(&b, i->data, i->len, &c, &e), 0);
	CHECK_EQ(c.gpr[RAX], 0x2badb002);
	CHECK_EQ(c.rip, 0x200000);
	check_text(m, peek32(m, c.gpr[RBX] + 16), "k arg");
	map = peek32(m, c.gpr[RBX] + 48);
	CHECK_EQ(peek32(m, map), 20);
	CHECK_EQ(peek32(m, map + 24 + 4), BOOT_HIGH_START);
	put_header(i->data + 4096, 0x8003);
	CHECK(load(&b, i->data, i->len, &c, &e) < 0);
	gmem_free(m);
}

static void test_multiboot_flat(void)
{
	struct gmem *m = ram();
	struct boot_config b = config(m, "");
	uint8_t d[512] = {0};
	struct cpu c;
	struct err e;

	put_header(d + 16, 1 << 16);
	store_le32(d + 28, 0x100010);
	store_le32(d + 32, 0x100000);
	store_le32(d + 40, 0x101000);
	store_le32(d + 44, 0x100040);
	memcpy(d + 64, "flat", 5);
	CHECK_EQ(load(&b, d, sizeof(d), &c, &e), 0);
	CHECK_EQ(c.rip, 0x100040);
	check_text(m, 0x100040, "flat");
	for (size_t n = 0; n < 48; n++)
		CHECK(load(&b, d, n, &c, &e) < 0);
	for (size_t at = 28; at < 48; at++) {
		uint8_t keep = d[at];

		for (unsigned int v = 0; v < 256; v += 85) {
			d[at] = (uint8_t)v;
			(void)!load(&b, d, sizeof(d), &c, &e);
		}
		d[at] = keep;
	}
	gmem_free(m);
}

int main(void)
{
	test_bzimage64();
	test_bzimage32();
	test_bzimage_placement();
	test_bzimage_bad();
	test_initrd_too_big();
	test_pvh();
	test_multiboot();
	test_multiboot_flat();
	return 0;
}
