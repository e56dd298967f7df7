/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine/elf.c - bounded reader of ELF kernels
 *
 * Every offset and length is the file's word and checked before use; sums are checked for wrap.
 */
#include "machine/elf.h"

#include <errno.h>
#include <inttypes.h>

#define EM_386       3
#define EM_X86_64    62
#define MAX_SEGMENTS 64

int elf_open(struct elf *f, const void *data, uint64_t size, struct err *e)
{
	const uint8_t *d = data;
	uint16_t machine;

	if (size < 52 || memcmp(d, "\177ELF", 4) != 0)
		return -ENOEXEC;
	if ((d[4] != 1 && d[4] != 2) || d[5] != 1)
		return err_msg(e, -EINVAL, "ELF file of an unknown class or byte order");
	*f = (struct elf){.data = d, .size = size, .is64 = d[4] == 2};
	if (f->is64 && size < 64)
		return err_msg(e, -EINVAL, "ELF header is cut off");
	machine = load_le16(d + 18);
	if (machine != EM_386 && machine != EM_X86_64)
		return err_msg(e, -EINVAL, "ELF file for another processor (machine %u)", machine);
	f->entry = f->is64 ? load_le64(d + 24) : load_le32(d + 24);
	f->phoff = f->is64 ? load_le64(d + 32) : load_le32(d + 28);
	f->ph_size = load_le16(d + (f->is64 ? 54 : 42));
	f->n_ph = load_le16(d + (f->is64 ? 56 : 44));
	if (f->n_ph > MAX_SEGMENTS)
		return err_msg(e, -EINVAL, "ELF file with %u program headers", f->n_ph);
	if (f->n_ph && f->ph_size < (f->is64 ? 56u : 32u))
		return err_msg(e, -EINVAL, "ELF program headers of %u bytes", f->ph_size);
	if (!range_ok(f->phoff, (uint64_t)f->n_ph * f->ph_size, size))
		return err_msg(e, -EINVAL, "ELF program headers lie outside the file");
	return 0;
}

int elf_get_segment(const struct elf *f, unsigned int i, struct elf_segment *ret, struct err *e)
{
	const uint8_t *p = f->data + f->phoff + (uint64_t)i * f->ph_size;
	struct elf_segment s = {.type = load_le32(p)};
	uint64_t end;

	if (f->is64) {
		s.offset = load_le64(p + 8);
		s.paddr = load_le64(p + 24);
		s.filesz = load_le64(p + 32);
		s.memsz = load_le64(p + 40);
		s.align = load_le64(p + 48);
	} else {
		s.offset = load_le32(p + 4);
		s.paddr = load_le32(p + 12);
		s.filesz = load_le32(p + 16);
		s.memsz = load_le32(p + 20);
		s.align = load_le32(p + 28);
	}
	if (s.type == ELF_PT_LOAD || s.type == ELF_PT_NOTE) {
		if (!range_ok(s.offset, s.filesz, f->size))
			return err_msg(e, -EINVAL, "ELF segment %u lies outside the file", i);
		if (s.type == ELF_PT_LOAD &&
		    (s.memsz < s.filesz || __builtin_add_overflow(s.paddr, s.memsz, &end)))
			return err_msg(e, -EINVAL, "ELF segment %u has an impossible size", i);
	}
	*ret = s;
	return 0;
}

int elf_extent(const struct elf *f, uint64_t *low, uint64_t *high, struct err *e)
{
	uint64_t lo = UINT64_MAX, hi = 0;
	struct elf_segment s;

	for (unsigned int i = 0; i < f->n_ph; i++) {
		int r = elf_get_segment(f, i, &s, e);

		if (r < 0)
			return r;
		if (s.type != ELF_PT_LOAD || !s.memsz)
			continue;
		lo = MIN(lo, s.paddr);
		hi = MAX(hi, s.paddr + s.memsz);
	}
	if (!hi)
		return err_msg(e, -EINVAL, "ELF file without anything to load");
	*low = lo;
	*high = hi;
	return 0;
}

static int clear(struct gmem *m, uint64_t gpa, uint64_t len)
{
	static const uint8_t zero[4096];

	while (len) {
		size_t n = (size_t)MIN(len, (uint64_t)sizeof(zero));
		int r = gmem_load(m, gpa, zero, n);

		if (r < 0)
			return r;
		gpa += n;
		len -= n;
	}
	return 0;
}

int elf_load(const struct elf *f, struct gmem *m, struct err *e)
{
	struct elf_segment s;

	for (unsigned int i = 0; i < f->n_ph; i++) {
		int r = elf_get_segment(f, i, &s, e);

		if (r < 0)
			return r;
		if (s.type != ELF_PT_LOAD)
			continue;
		r = gmem_load(m, s.paddr, f->data + s.offset, s.filesz);
		if (r == 0)
			r = clear(m, s.paddr + s.filesz, s.memsz - s.filesz);
		if (r < 0)
			return err_msg(e, r, "ELF segment %u at 0x%" PRIx64 " is not in memory", i,
				       s.paddr);
	}
	return 0;
}

static const uint8_t *note_in(const uint8_t *p, uint64_t size, uint64_t align, const char *owner,
			      uint32_t type, uint32_t *len)
{
	while (size >= 12) {
		uint64_t namesz = load_le32(p), descsz = load_le32(p + 4);
		uint64_t name_end = 12 + ALIGN_UP(namesz, align);
		uint64_t desc_end = name_end + ALIGN_UP(descsz, align);

		if (name_end > size || !range_ok(name_end, descsz, size))
			return NULL;
		if (load_le32(p + 8) == type && namesz == strlen(owner) + 1 &&
		    memcmp(p + 12, owner, namesz) == 0) {
			*len = (uint32_t)descsz;
			return p + name_end;
		}
		if (desc_end >= size)
			return NULL;
		p += desc_end;
		size -= desc_end;
	}
	return NULL;
}

const uint8_t *elf_note(const struct elf *f, const char *owner, uint32_t type, uint32_t *len)
{
	struct elf_segment s;

	for (unsigned int i = 0; i < f->n_ph; i++) {
		const uint8_t *d;

		if (elf_get_segment(f, i, &s, NULL) < 0 || s.type != ELF_PT_NOTE)
			continue;
		d = note_in(f->data + s.offset, s.filesz, s.align == 8 ? 8 : 4, owner, type, len);
		if (d)
			return d;
	}
	return NULL;
}
