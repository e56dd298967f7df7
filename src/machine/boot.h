/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine/boot.h - putting a kernel into guest memory and the boot CPU at its entry
 *
 * Three protocols, told apart by content: Linux bzImage (64-bit entry, or 32-bit for kernels
 * without one), ELF with a PVH entry note, ELF or flat images with a multiboot 1 header.
 *
 * Where things go (all below 1 MiB but the kernel and the initrd):
 *
 *	0x01000  GDT                         0x10000  command line (at most 64 KiB)
 *	0x02000  start info / zero page      0x9fc00  end of usable conventional memory
 *	0x03000  memory map, module list     0xe0000  ACPI tables      (machine/acpi.h)
 *	0x09000  page tables, 6 pages        0xf0000  RSDP, SMBIOS
 */
#pragma once

#include "base/err.h"
#include "engine/x86/cpu.h"
#include "guest/gmem.h"

#define BOOT_GDT          0x1000u
#define BOOT_INFO         0x2000u
#define BOOT_LISTS        0x3000u
#define BOOT_TABLES       0x9000u
#define BOOT_CMDLINE      0x10000u
#define BOOT_CMDLINE_SIZE 0x10000u
#define BOOT_LOW_END      0x9fc00u
#define BOOT_HIGH_START   0x100000u

/* Kernels larger than this are refused before they are read. */
#define BOOT_KERNEL_MAX (UINT64_C(512) << 20)

/* No machine has less. */
#define BOOT_RAM_MIN (UINT64_C(4) << 20)

enum boot_range_type { BOOT_RAM = 1, BOOT_RESERVED = 2 }; /* as in e820 */

struct boot_range {
	uint64_t gpa, size;
	enum boot_range_type type;
};

#define BOOT_MAP_MAX 16
struct boot_map {
	struct boot_range range[BOOT_MAP_MAX]; /* sorted, not overlapping */
	unsigned int n;
};

struct boot_config {
	struct gmem *mem;
	struct boot_map map;
	const char *kernel, *initrd; /* paths, for messages; initrd NULL = none */
	int kernel_fd, initrd_fd;    /* open for reading, not owned */
	const char *cmdline;
	uint64_t rsdp; /* gpa; 0 = no ACPI */
};

/*
 * Loads everything and points @bsp, which is after RESET, at the kernel.  May be called again for a
 * reset of the machine: the files are read again.  Errors name the file, with EXIT_BAD_KERNEL or
 * EXIT_BAD_MEMORY.
 */
must_check int boot_load(const struct boot_config *b, struct cpu *bsp, struct err *e);
