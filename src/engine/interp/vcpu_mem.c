/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/interp/vcpu_mem.c - where a vCPU's structure is
 *
 * Translated code reaches everything by GS and a constant.  Two things change with the address
 * space: the TLB sets and the jump cache in its slot.  So the structure is mapped once for each
 * slot, and that slot behind it; changing the slot is changing the GS base.
 *
 *	file     | struct ivcpu | slot 0 | slot 1 | ... | slot 7 |
 *	alias 0  | struct ivcpu | slot 0 |                           <- the one that C code uses
 *	alias 1  | struct ivcpu | slot 1 |
 *	...
 */
#include "engine/interp/interp.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096u

size_t ivcpu_slot_offset(void)
{
	return ALIGN_UP(sizeof(struct ivcpu), PAGE);
}

static size_t slot_size(void)
{
	return ALIGN_UP(sizeof(struct as_slot), PAGE);
}

static size_t alias_size(void)
{
	return ivcpu_slot_offset() + slot_size();
}

static int map(void *at, size_t size, int fd, size_t off)
{
	void *p = mmap(at, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, (off_t)off);

	return p == MAP_FAILED ? -errno : 0;
}

static int map_all(uint8_t *area, int fd)
{
	size_t head = ivcpu_slot_offset(), slot = slot_size();
	int r = 0;

	for (unsigned int k = 0; k < AS_SLOTS && r == 0; k++) {
		uint8_t *alias = area + k * alias_size();

		r = map(alias, head, fd, 0);
		if (r == 0)
			r = map(alias + head, slot, fd, head + k * slot);
	}
	return r;
}

int ivcpu_alloc(struct ivcpu **ret, struct err *e)
{
	size_t file = ivcpu_slot_offset() + AS_SLOTS * slot_size();
	int fd = memfd_create("vcpu", MFD_CLOEXEC), r = 0;
	struct ivcpu *v;
	uint8_t *area;

	if (fd < 0)
		return err_set(e, -errno, "vCPU");
	if (ftruncate(fd, (off_t)file) < 0) {
		r = err_set(e, -errno, "vCPU");
		close(fd);
		return r;
	}
	area = mmap(NULL, AS_SLOTS * alias_size(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (area == MAP_FAILED)
		r = -errno;
	else
		r = map_all(area, fd);
	close(fd);
	if (r < 0) {
		if (area != MAP_FAILED)
			munmap(area, AS_SLOTS * alias_size());
		return err_set(e, r, "vCPU");
	}
	v = (struct ivcpu *)area;
	for (unsigned int k = 0; k < AS_SLOTS; k++) {
		uint8_t *alias = area + k * alias_size();

		v->as_state[k].alias = alias;
		v->as_state[k].slot = (struct as_slot *)(alias + ivcpu_slot_offset());
	}
	*ret = v;
	return 0;
}

void ivcpu_release(struct ivcpu *v)
{
	if (v)
		munmap(v, AS_SLOTS * alias_size());
}
