/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine/boot_pvh.c - ELF kernels with a PVH entry (Xen's docs/misc/pvh.pandoc and the public
 * header start_info.h, version 1)
 *
 * The note XEN_ELFNOTE_PHYS32_ENTRY names a 32-bit entry; EBX points at hvm_start_info:
 *
 *	BOOT_INFO:  start info (56 bytes)      BOOT_LISTS:  one module, then the memory map
 */
#include "machine/boot_priv.h"
#include "machine/elf.h"

#include <errno.h>
#include <inttypes.h>

#define NOTE_PHYS32_ENTRY 18
#define START_MAGIC       0x336ec578u

struct start_info {
	uint32_t magic, version, flags, n_modules;
	uint64_t modules, cmdline, rsdp, memmap;
	uint32_t memmap_entries, reserved;
};

struct start_module {
	uint64_t gpa, size, cmdline, reserved;
};

struct start_range {
	uint64_t gpa, size;
	uint32_t type, reserved;
};

struct start_lists {
	struct start_module module;
	struct start_range map[BOOT_MAP_MAX];
};

static int store_info(const struct boot_config *b, uint64_t initrd, uint64_t initrd_size)
{
	struct start_info s = {
	    .magic = START_MAGIC,
	    .version = 1,
	    .n_modules = initrd_size ? 1 : 0,
	    .modules = BOOT_LISTS,
	    .cmdline = BOOT_CMDLINE,
	    .rsdp = b->rsdp,
	    .memmap = BOOT_LISTS + offsetof(struct start_lists, map),
	    .memmap_entries = b->map.n,
	};
	struct start_lists lists = {.module = {.gpa = initrd, .size = initrd_size}};
	int r;

	for (unsigned int i = 0; i < b->map.n; i++) {
		lists.map[i].gpa = b->map.range[i].gpa;
		lists.map[i].size = b->map.range[i].size;
		lists.map[i].type = b->map.range[i].type;
	}
	r = gmem_load(b->mem, BOOT_LISTS, &lists, sizeof(lists));
	return r < 0 ? r : gmem_load(b->mem, BOOT_INFO, &s, sizeof(s));
}

static int find_entry(const struct elf *f, uint32_t *ret, struct err *e)
{
	const uint8_t *d;
	uint32_t len;

	d = elf_note(f, "Xen", NOTE_PHYS32_ENTRY, &len);
	if (!d)
		return -ENOEXEC;
	if (len != 4 && len != 8)
		return err_msg(e, -EINVAL, "PVH entry note of %u bytes", len);
	if (len == 8 && load_le32(d + 4))
		return err_msg(e, -EINVAL, "PVH entry above 4 GiB");
	*ret = load_le32(d);
	return 0;
}

int boot_pvh(const struct boot_config *b, const struct boot_kernel *k, struct cpu *bsp,
	     struct err *e)
{
	uint64_t low, high, initrd, initrd_size;
	struct elf f;
	uint32_t entry = 0;
	int r;

	r = elf_open(&f, k->data, k->size, e);
	if (r == 0)
		r = find_entry(&f, &entry, e);
	if (r == 0)
		r = elf_extent(&f, &low, &high, e);
	if (r == 0)
		r = boot_check_place(b, low, high - low, e);
	if (r < 0)
		return r;
	if (entry < low || entry >= high)
		return err_msg(e, -EINVAL, "PVH entry 0x%x lies outside the kernel", entry);
	r = elf_load(&f, b->mem, e);
	if (r == 0)
		r = boot_load_cmdline(b, b->cmdline, BOOT_CMDLINE_SIZE - 1, e);
	if (r == 0)
		r = boot_load_initrd(b, UINT64_C(1) << 32, low, high, &initrd, &initrd_size, e);
	if (r < 0)
		return r;
	r = store_info(b, initrd, initrd_size);
	if (r < 0)
		return err_set(e, r, "store the start info");
	bsp->gpr[RBX] = BOOT_INFO;
	return boot_enter32(b, bsp, entry, e);
}
