/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine/boot_linux.c - Linux bzImage (the kernel's Documentation/arch/x86/boot.rst,
 *protocol 2.06+)
 *
 *	file:  [ boot sector | setup, (setup_sects + 1) * 512 bytes in all ][ protected-mode kernel
 *]
 *
 * The real-mode setup is skipped: what it would have found out (memory map, command line, initrd)
 * is written into the zero page, and the CPU starts in the kernel's 64-bit or 32-bit entry.
 */
#include "base/exit.h"
#include "machine/boot_priv.h"

#include <errno.h>
#include <inttypes.h>

/* Offsets in the file's first sectors and in the zero page alike. */
enum {
	HDR_START = 0x1f1,
	HDR_SETUP_SECTS = 0x1f1,
	HDR_SYSSIZE = 0x1f4,
	HDR_BOOT_FLAG = 0x1fe,
	HDR_JUMP = 0x201, /* low byte of the jump: header's end - 0x202 */
	HDR_MAGIC = 0x202,
	HDR_VERSION = 0x206,
	HDR_LOADER = 0x210,
	HDR_LOADFLAGS = 0x211,
	HDR_CODE32 = 0x214,
	HDR_INITRD = 0x218,
	HDR_INITRD_SIZE = 0x21c,
	HDR_CMDLINE = 0x228,
	HDR_INITRD_MAX = 0x22c,
	HDR_ALIGN = 0x230,
	HDR_RELOCATABLE = 0x234,
	HDR_XLOADFLAGS = 0x236,
	HDR_CMDLINE_SIZE = 0x238,
	HDR_PREF_ADDRESS = 0x258,
	HDR_INIT_SIZE = 0x260,
	HDR_END_MIN = 0x264,
	HDR_END_MAX = 0x290,

	ZP_RSDP = 0x070,
	ZP_ALT_MEM_K = 0x1e0,
	ZP_E820_ENTRIES = 0x1e8,
	ZP_E820_TABLE = 0x2d0,
	ZP_SIZE = 4096,
};

#define LOADED_HIGH  0x01
#define XLF_KERNEL64 0x01
#define ENTRY64      0x200

struct linux_image {
	const uint8_t *hdr;
	const uint8_t *code;
	uint64_t code_size;
	uint64_t load, init_size;
	uint16_t version;
	bool has_entry64;
};

static int parse_header(const struct boot_kernel *k, struct linux_image *l, struct err *e)
{
	const uint8_t *h = k->data;
	uint64_t setup, sectors;

	if (k->size < HDR_VERSION + 2 || load_le16(h + HDR_BOOT_FLAG) != 0xaa55 ||
	    memcmp(h + HDR_MAGIC, "HdrS", 4) != 0)
		return -ENOEXEC;
	l->hdr = h;
	l->version = load_le16(h + HDR_VERSION);
	if (l->version < 0x206)
		return err_msg(e, -EINVAL, "boot protocol %u.%02u is too old, 2.06 is needed",
			       l->version >> 8, l->version & 0xff);
	sectors = h[HDR_SETUP_SECTS] ? h[HDR_SETUP_SECTS] : 4;
	setup = (sectors + 1) * 512;
	if (k->size < HDR_END_MIN || setup >= k->size)
		return err_msg(e, -EINVAL, "bzImage is cut off after %" PRIu64 " bytes", k->size);
	if (!(h[HDR_LOADFLAGS] & LOADED_HIGH))
		return err_msg(e, -EINVAL, "zImage (loaded low) is not supported");
	l->code = h + setup;
	l->code_size = k->size - setup;
	/* In 16-byte units; the build pads the file to them.  Signatures may follow. */
	if ((uint64_t)load_le32(h + HDR_SYSSIZE) * 16 > l->code_size)
		return err_msg(e, -EINVAL, "bzImage is cut off: %" PRIu64 " bytes of %" PRIu64,
			       k->size, setup + (uint64_t)load_le32(h + HDR_SYSSIZE) * 16);
	l->has_entry64 = l->version >= 0x20c && (load_le16(h + HDR_XLOADFLAGS) & XLF_KERNEL64) != 0;
	if (l->has_entry64 && l->code_size <= ENTRY64)
		return err_msg(e, -EINVAL, "bzImage without code at its 64-bit entry");
	return 0;
}

/* Preferred address if memory is there, else the lowest one a relocatable kernel takes. */
static int place(const struct boot_config *b, struct linux_image *l, struct err *e)
{
	uint64_t align = load_le32(l->hdr + HDR_ALIGN);

	l->load = BOOT_HIGH_START;
	l->init_size = l->code_size;
	if (l->version >= 0x20a) {
		l->load = load_le64(l->hdr + HDR_PREF_ADDRESS);
		l->init_size = MAX(l->code_size, (uint64_t)load_le32(l->hdr + HDR_INIT_SIZE));
		if (l->hdr[HDR_RELOCATABLE] && align && (align & (align - 1)) == 0 &&
		    boot_check_place(b, l->load, l->init_size, NULL) < 0)
			l->load = ALIGN_UP((uint64_t)BOOT_HIGH_START, align);
	}
	return boot_check_place(b, l->load, l->init_size, e);
}

static void put_e820(uint8_t *zp, const struct boot_map *map)
{
	uint8_t *p = zp + ZP_E820_TABLE;

	for (unsigned int i = 0; i < map->n; i++, p += 20) {
		store_le64(p, map->range[i].gpa);
		store_le64(p + 8, map->range[i].size);
		store_le32(p + 16, map->range[i].type);
	}
	zp[ZP_E820_ENTRIES] = (uint8_t)map->n;
}

static int load_zero_page(const struct boot_config *b, const struct linux_image *l, struct err *e)
{
	uint64_t limit = (uint64_t)load_le32(l->hdr + HDR_INITRD_MAX) + 1, initrd, initrd_size;
	size_t hdr_end = MIN((size_t)HDR_END_MAX, (size_t)HDR_MAGIC + l->hdr[HDR_JUMP]);
	autofree uint8_t *zp = xcalloc(1, ZP_SIZE);
	int r;

	r = boot_load_initrd(b, limit, l->load, l->load + l->init_size, &initrd, &initrd_size, e);
	if (r < 0)
		return r;
	if (hdr_end > HDR_START)
		memcpy(zp + HDR_START, l->hdr + HDR_START, hdr_end - HDR_START);
	zp[HDR_LOADER] = 0xff; /* a loader without a registered number */
	store_le32(zp + HDR_CODE32, (uint32_t)l->load);
	store_le32(zp + HDR_INITRD, (uint32_t)initrd);
	store_le32(zp + HDR_INITRD_SIZE, (uint32_t)initrd_size);
	store_le32(zp + HDR_CMDLINE, BOOT_CMDLINE);
	store_le64(zp + ZP_RSDP, b->rsdp);
	store_le32(zp + ZP_ALT_MEM_K, (uint32_t)((boot_low_ram(b) - BOOT_HIGH_START) >> 10));
	put_e820(zp, &b->map);
	r = gmem_load(b->mem, BOOT_INFO, zp, ZP_SIZE);
	return r < 0 ? err_set(e, r, "store the zero page") : 0;
}

int boot_linux(const struct boot_config *b, const struct boot_kernel *k, struct cpu *bsp,
	       struct err *e)
{
	struct linux_image l = {0};
	int r;

	r = parse_header(k, &l, e);
	if (r < 0)
		return r;
	r = place(b, &l, e);
	if (r < 0)
		return r;
	r = boot_load_cmdline(b, b->cmdline, load_le32(l.hdr + HDR_CMDLINE_SIZE), e);
	if (r < 0)
		return r;
	r = load_zero_page(b, &l, e);
	if (r < 0)
		return r;
	r = gmem_load(b->mem, l.load, l.code, l.code_size);
	if (r < 0)
		return err_set(e, r, "store the kernel at 0x%" PRIx64, l.load);
	bsp->gpr[RSI] = BOOT_INFO;
	if (l.has_entry64)
		return boot_enter64(b, bsp, l.load + ENTRY64, e);
	bsp->gpr[RBP] = bsp->gpr[RDI] = bsp->gpr[RBX] = 0;
	return boot_enter32(b, bsp, (uint32_t)l.load, e);
}
