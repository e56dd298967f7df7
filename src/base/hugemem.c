/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/hugemem.c - memory in 2 MiB pages, where the host can
 */
#include "base/hugemem.h"

#include "base/macro.h"

#include <errno.h>
#include <sys/mman.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

void *huge_reserve(size_t size)
{
	size_t room = ALIGN_UP(size, HUGE_PAGE) + HUGE_PAGE, head;
	uint8_t *p, *start;

	p = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return NULL;
	start = (uint8_t *)ALIGN_UP((uintptr_t)p, HUGE_PAGE);
	head = (size_t)(start - p);
	if (head)
		munmap(p, head);
	size = ALIGN_UP(size, (size_t)4096);
	munmap(start + size, room - head - size);
	return start;
}

void *huge_table(size_t size)
{
	void *p = huge_reserve(size);

	if (p && mprotect(p, size, PROT_READ | PROT_WRITE) < 0) {
		int saved = errno;

		munmap(p, size);
		errno = saved;
		return NULL;
	}
	if (p)
		(void)madvise(p, size, MADV_HUGEPAGE); /* best effort */
	return p;
}

void *huge_table_late(size_t size)
{
	void *p = huge_table(size);

	if (p)
		(void)madvise(p, HUGE_PAGE, MADV_NOHUGEPAGE);
	return p;
}

/* shmem's own switch (shmem_enabled) is off on most hosts and does not concern this call. */
void huge_now(void *p, size_t size)
{
	int saved = errno;

	for (size_t off = 0; off < size; off += HUGE_PAGE) /* it wants a page table to be there */
		(void)*((volatile uint8_t *)p + off);
	(void)madvise(p, size, MADV_COLLAPSE);
	errno = saved;
}
