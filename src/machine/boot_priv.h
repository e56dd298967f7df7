/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine/boot_priv.h - what the loaders of the boot protocols share
 */
#pragma once

#include "machine/boot.h"

struct boot_kernel {
	const uint8_t *data;
	uint64_t size;
};

/* -ENOEXEC without a message when the file is of another kind. */
must_check int boot_linux(const struct boot_config *b, const struct boot_kernel *k, struct cpu *bsp,
			  struct err *e);
must_check int boot_pvh(const struct boot_config *b, const struct boot_kernel *k, struct cpu *bsp,
			struct err *e);
must_check int boot_multiboot(const struct boot_config *b, const struct boot_kernel *k,
			      struct cpu *bsp, struct err *e);

/* Bytes of RAM at gpa 0: kernels and initrds go there. */
uint64_t boot_low_ram(const struct boot_config *b);
/* The kernel's [gpa, gpa+size) must be in low RAM above 1 MiB. */
must_check int boot_check_place(const struct boot_config *b, uint64_t gpa, uint64_t size,
				struct err *e);
/*
 * Reads the initrd to the highest page below @limit that keeps clear of [keep, keep_end).  No
 * initrd: @size 0.
 */
must_check int boot_load_initrd(const struct boot_config *b, uint64_t limit, uint64_t keep,
				uint64_t keep_end, uint64_t *gpa, uint64_t *size, struct err *e);
must_check int boot_load_cmdline(const struct boot_config *b, const char *text, size_t max,
				 struct err *e);

/* Flat segments: selector 0x10 code, 0x18 data, 0x20 TSS; paging off. */
must_check int boot_enter32(const struct boot_config *b, struct cpu *c, uint32_t entry,
			    struct err *e);
/* The same selectors in long mode, the first 4 GiB mapped one to one. */
must_check int boot_enter64(const struct boot_config *b, struct cpu *c, uint64_t entry,
			    struct err *e);
