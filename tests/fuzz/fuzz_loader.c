/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/fuzz/fuzz_loader.c - kernel images of every kind with altered headers, and raw ones
 *
 * The first byte chooses a bzImage, an ELF file, a flat multiboot image, or the input as it is;
 * then come changes to its first bytes, position (u16) and value.  Whatever comes out loads or is
 * refused.
 */
#include "fuzz.h"

#include "base/fd.h"
#include "machine/boot.h"

#include <assert.h>
#include <sys/mman.h>

#define RAM   (UINT64_C(8) << 20)
#define IMAGE 8192

static uint8_t image[IMAGE];

static void make_bzimage(uint8_t *h)
{
	h[0x1f1] = 1;
	store_le32(h + 0x1f4, (IMAGE - 1024) / 16);
	store_le16(h + 0x1fe, 0xaa55);
	h[0x201] = 0x66;
	memcpy(h + 0x202, "HdrS", 4);
	store_le16(h + 0x206, 0x20f);
	h[0x211] = 1;
	store_le32(h + 0x22c, 0x7fffffff);
	store_le32(h + 0x230, 0x100000);
	h[0x234] = 1;
	h[0x236] = 1;
	store_le32(h + 0x238, 2047);
	store_le64(h + 0x258, 0x200000);
	store_le32(h + 0x260, 0x100000);
}

static void make_elf(uint8_t *d)
{
	uint8_t *p = d + 64;

	memcpy(d, "\177ELF\2\1\1", 7);
	store_le16(d + 18, 62);
	store_le64(d + 24, 0x200000);
	store_le64(d + 32, 64);
	store_le16(d + 54, 56);
	store_le16(d + 56, 2);
	store_le32(p, 1);
	store_le64(p + 8, 4096);
	store_le64(p + 24, 0x200000);
	store_le64(p + 32, 4096);
	store_le64(p + 40, 8192);
	p += 56;
	store_le32(p, 4);
	store_le64(p + 8, 512);
	store_le64(p + 32, 24);
	store_le64(p + 48, 4);
	store_le32(d + 512, 4);
	store_le32(d + 516, 8);
	store_le32(d + 520, 18);
	memcpy(d + 524, "Xen", 4);
	store_le64(d + 528, 0x200040);
}

static void make_multiboot(uint8_t *d)
{
	store_le32(d, 0x1badb002);
	store_le32(d + 4, 1 << 16);
	store_le32(d + 8, -(0x1badb002u + (1u << 16)));
	store_le32(d + 12, 0x100000);
	store_le32(d + 16, 0x100000);
	store_le32(d + 28, 0x100040);
}

static void load(const void *data, size_t len, bool with_initrd)
{
	struct boot_config b = {
	    .kernel = "k", .cmdline = "a b", .initrd = with_initrd ? "i" : NULL};
	struct cpu c = {0};
	struct err e = {0};

	b.kernel_fd = memfd_create("kernel", MFD_CLOEXEC);
	b.initrd_fd = memfd_create("initrd", MFD_CLOEXEC);
	assert(b.kernel_fd >= 0 && b.initrd_fd >= 0);
	assert(write_full(b.kernel_fd, data, len) == 0 && write_full(b.initrd_fd, "init", 4) == 0);
	assert(gmem_new(RAM, RAM, &b.mem, &e) == 0);
	b.map.range[0] = (struct boot_range){0, RAM, BOOT_RAM};
	b.map.n = 1;
	assert(boot_load(&b, &c, &e) == 0 || (e.msg[0] && e.exit_code));
	gmem_free(b.mem);
	close(b.kernel_fd);
	close(b.initrd_fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t kind;

	if (!size)
		return 0;
	kind = *data++;
	size--;
	if ((kind & 3) == 3) {
		load(data, size, kind & 4);
		return 0;
	}
	memset(image, 0, sizeof(image));
	(kind & 3) == 0   ? make_bzimage(image)
	: (kind & 3) == 1 ? make_elf(image)
			  : make_multiboot(image);
	for (unsigned int n = kind >> 4; n && size >= 3; n--, data += 3, size -= 3)
		image[load_le16(data) % 1024] = data[2];
	load(image, kind & 8 ? IMAGE / 2 : IMAGE, kind & 4);
	return 0;
}
