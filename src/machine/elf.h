/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine/elf.h - bounded reader of ELF kernels, 32 and 64 bits (System V gABI)
 */
#pragma once

#include "base/err.h"
#include "guest/gmem.h"

struct elf {
	const uint8_t *data; /* not owned */
	uint64_t size;
	bool is64;
	uint64_t entry, phoff;
	unsigned int n_ph, ph_size;
};

struct elf_segment {
	uint32_t type;
	uint64_t offset, paddr, filesz, memsz, align;
};

#define ELF_PT_LOAD 1
#define ELF_PT_NOTE 4

/* -ENOEXEC without a message when it is no ELF file. */
must_check int elf_open(struct elf *f, const void *data, uint64_t size, struct err *e);
/* Segment @i < n_ph; its bytes lie inside the file. */
must_check int elf_get_segment(const struct elf *f, unsigned int i, struct elf_segment *ret,
			       struct err *e);
/* Bounds of what the PT_LOAD segments take in memory; -EINVAL when there are none. */
must_check int elf_extent(const struct elf *f, uint64_t *low, uint64_t *high, struct err *e);
/* Copies the PT_LOAD segments to their physical addresses and clears the rest of them. */
must_check int elf_load(const struct elf *f, struct gmem *m, struct err *e);
/* Description of the note with @owner and @type, or NULL. */
const uint8_t *elf_note(const struct elf *f, const char *owner, uint32_t type, uint32_t *len);
