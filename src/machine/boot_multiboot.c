/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine/boot_multiboot.c - multiboot 1 images (Multiboot Specification 0.6.96)
 *
 * The header stands 4-aligned in the file's first 8 KiB.  ELF images load by their segments, others
 * by the header's address fields (flag bit 16).  EBX points at the information structure; the
 * command line starts with the file's name, as boot loaders do it.
 */
#include "machine/boot_priv.h"
#include "machine/elf.h"

#include "base/strbuf.h"

#include <errno.h>
#include <inttypes.h>

#define HEADER_MAGIC  0x1badb002u
#define LOADER_MAGIC  0x2badb002u
#define SEARCH_SIZE   8192u
#define MULTIBOOT_LOW 0x8000u /* past struct mb_lists */
#define FLAG_VIDEO    (1u << 2)
#define FLAG_ADDRESS  (1u << 16)
#define FLAGS_NEEDED  0xffffu /* low half: unknown ones must be refused */
#define FLAGS_KNOWN   3u      /* page-aligned modules, memory information */

#define INFO_MEMORY  (1u << 0)
#define INFO_CMDLINE (1u << 2)
#define INFO_MODS    (1u << 3)
#define INFO_MMAP    (1u << 6)
#define INFO_NAME    (1u << 9)

struct mb_info {
	uint32_t flags, mem_lower, mem_upper, boot_device, cmdline, mods_count, mods_addr;
	uint32_t syms[4];
	uint32_t mmap_length, mmap_addr, drives_length, drives_addr, config_table;
	uint32_t loader_name, apm_table, vbe[4];
};

struct mb_module {
	uint32_t start, end, string, reserved;
};

struct mb_range {
	uint32_t size; /* of what follows */
	uint64_t gpa, length;
	uint32_t type;
} __attribute__((packed));

struct mb_lists {
	struct mb_module module;
	char loader_name[16];
	char empty[16];
	struct mb_range map[BOOT_MAP_MAX];
};

_Static_assert(BOOT_LISTS + sizeof(struct mb_lists) <= MULTIBOOT_LOW, "lists end below images");

static const uint8_t *find_header(const struct boot_kernel *k)
{
	uint64_t end = MIN(k->size, (uint64_t)SEARCH_SIZE);

	for (uint64_t at = 0; at + 12 <= end; at += 4) {
		const uint8_t *h = k->data + at;

		if (load_le32(h) == HEADER_MAGIC &&
		    load_le32(h) + load_le32(h + 4) + load_le32(h + 8) == 0)
			return h;
	}
	return NULL;
}

/*
 * Small real-mode programs ask for low memory: they get what lies between our lists and the command
 * line, where only page tables would be, which a 32-bit entry does not need.
 */
static int check_place(const struct boot_config *b, uint64_t low, uint64_t high, struct err *e)
{
	if (low >= MULTIBOOT_LOW && low <= high && high <= BOOT_CMDLINE)
		return 0;
	return boot_check_place(b, low, high - low, e);
}

/* Header's address fields: header_addr, load_addr, load_end_addr, bss_end_addr, entry_addr. */
static int load_by_address(const struct boot_config *b, const struct boot_kernel *k,
			   const uint8_t *h, uint64_t *low, uint64_t *high, uint32_t *entry,
			   struct err *e)
{
	uint64_t at = (uint64_t)(h - k->data), header, load, load_end, bss_end, off, len;
	int r;

	if (!range_ok(at, 32, k->size))
		return err_msg(e, -EINVAL, "multiboot header is cut off");
	header = load_le32(h + 12);
	load = load_le32(h + 16);
	load_end = load_le32(h + 20);
	bss_end = load_le32(h + 24);
	*entry = load_le32(h + 28);
	if (header < load || header - load > at)
		return err_msg(e, -EINVAL, "multiboot header with impossible addresses");
	off = at - (header - load);
	len = load_end ? load_end - load : k->size - off;
	if ((load_end && load_end < load) || !range_ok(off, len, k->size))
		return err_msg(e, -EINVAL, "multiboot image is cut off");
	*low = load;
	*high = MAX(load + len, bss_end);
	r = check_place(b, *low, *high, e);
	if (r < 0)
		return r;
	return gmem_load(b->mem, load, k->data + off, len);
}

static int load_image(const struct boot_config *b, const struct boot_kernel *k, const uint8_t *h,
		      uint64_t *low, uint64_t *high, uint32_t *entry, struct err *e)
{
	struct elf f;
	int r;

	if (load_le32(h + 4) & FLAG_ADDRESS)
		return load_by_address(b, k, h, low, high, entry, e);
	r = elf_open(&f, k->data, k->size, e);
	if (r == -ENOEXEC)
		return err_msg(e, -EINVAL, "multiboot image is neither ELF nor has addresses");
	if (r == 0)
		r = elf_extent(&f, low, high, e);
	if (r == 0)
		r = check_place(b, *low, *high, e);
	if (r < 0)
		return r;
	if (f.entry > UINT32_MAX)
		return err_msg(e, -EINVAL, "multiboot entry above 4 GiB");
	*entry = (uint32_t)f.entry;
	return elf_load(&f, b->mem, e);
}

static int store_info(const struct boot_config *b, uint64_t initrd, uint64_t initrd_size)
{
	struct mb_lists lists = {
	    .module = {.start = (uint32_t)initrd,
		       .end = (uint32_t)(initrd + initrd_size),
		       .string = BOOT_LISTS + offsetof(struct mb_lists, empty)},
	    .loader_name = "insula",
	};
	struct mb_info info = {
	    .flags = INFO_MEMORY | INFO_CMDLINE | INFO_MODS | INFO_MMAP | INFO_NAME,
	    .mem_lower = BOOT_LOW_END >> 10,
	    .mem_upper = (uint32_t)((boot_low_ram(b) - BOOT_HIGH_START) >> 10),
	    .cmdline = BOOT_CMDLINE,
	    .mods_count = initrd_size ? 1 : 0,
	    .mods_addr = BOOT_LISTS,
	    .mmap_length = (uint32_t)(b->map.n * sizeof(struct mb_range)),
	    .mmap_addr = BOOT_LISTS + offsetof(struct mb_lists, map),
	    .loader_name = BOOT_LISTS + offsetof(struct mb_lists, loader_name),
	};
	int r;

	for (unsigned int i = 0; i < b->map.n; i++)
		lists.map[i] = (struct mb_range){
		    .size = sizeof(struct mb_range) - 4,
		    .gpa = b->map.range[i].gpa,
		    .length = b->map.range[i].size,
		    .type = b->map.range[i].type,
		};
	r = gmem_load(b->mem, BOOT_LISTS, &lists, sizeof(lists));
	return r < 0 ? r : gmem_load(b->mem, BOOT_INFO, &info, sizeof(info));
}

int boot_multiboot(const struct boot_config *b, const struct boot_kernel *k, struct cpu *bsp,
		   struct err *e)
{
	uint64_t low, high, initrd, initrd_size;
	autostrbuf struct strbuf cmdline = {0};
	const uint8_t *h = find_header(k);
	uint32_t entry = 0, flags;
	int r;

	if (!h)
		return -ENOEXEC;
	flags = load_le32(h + 4);
	if (flags & FLAGS_NEEDED & ~(FLAGS_KNOWN | FLAG_VIDEO))
		return err_msg(e, -EINVAL, "multiboot flags 0x%x are not supported", flags);
	r = load_image(b, k, h, &low, &high, &entry, e);
	if (r < 0)
		return r;
	if (entry < low || entry >= high)
		return err_msg(e, -EINVAL, "multiboot entry 0x%x lies outside the image", entry);
	strbuf_printf(&cmdline, "%s%s%s", b->kernel, b->cmdline[0] ? " " : "", b->cmdline);
	r = boot_load_cmdline(b, cmdline.data, BOOT_CMDLINE_SIZE - 1, e);
	if (r == 0)
		r = boot_load_initrd(b, UINT64_C(1) << 32, low, high, &initrd, &initrd_size, e);
	if (r < 0)
		return r;
	r = store_info(b, initrd, initrd_size);
	if (r < 0)
		return err_set(e, r, "store the boot information");
	bsp->gpr[RAX] = LOADER_MAGIC;
	bsp->gpr[RBX] = BOOT_INFO;
	return boot_enter32(b, bsp, entry, e);
}
