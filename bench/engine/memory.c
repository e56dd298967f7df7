/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench/engine/memory.c - a pointer chase, a large copy, fresh pages
 */
#include "rows.h"

#include <string.h>
#include <sys/mman.h>

static struct line {
	struct line *next;
	uint64_t number;
	char rest[48];
} lines[CHASE_ITEMS] __attribute__((aligned(4096)));

/* One cycle through all lines (Sattolo's shuffle), so that no prefetcher knows the next one. */
static void chase_fill(void)
{
	static uint32_t order[CHASE_ITEMS];
	uint32_t state = 1;

	for (uint32_t i = 0; i < CHASE_ITEMS; i++)
		order[i] = i;
	for (uint32_t i = CHASE_ITEMS - 1; i > 0; i--) {
		uint32_t j = rand_next(&state) % i, t = order[i];

		order[i] = order[j];
		order[j] = t;
	}
	for (uint32_t i = 0; i < CHASE_ITEMS; i++) {
		lines[i].number = i;
		lines[i].next = &lines[order[i]];
	}
}

__attribute__((noipa)) static const struct line *chase(const struct line *l, int steps)
{
	for (; steps; steps--)
		l = l->next;
	return l;
}

uint64_t row_chase(uint64_t n)
{
	const struct line *l = lines;

	if (!lines[0].next)
		chase_fill();
	for (; n; n--)
		l = chase(l, CHASE_ITEMS - 1);
	/* One step less than the cycle has: each time the line before the last one's. */
	for (; l->next != lines; l = l->next)
		;
	return l->number;
}

uint64_t row_memcpy(uint64_t n)
{
	static char from[1 << 20], to[1 << 20];

	if (!from[0])
		memset(from, 1, sizeof(from));
	for (; n; n--) {
		memcpy(to, from, sizeof(to));
		__asm__ volatile("" : : "r"(to) : "memory");
	}
	return (uint64_t)to[sizeof(to) - 1];
}

/* Its 2 MiB hold another page too, as those of any larger program do: page tables come and go in
 * other programs' starts and ends, not here. */
uint64_t row_mmap(uint64_t n)
{
	const size_t area = 2u << 20;
	char *at = mmap(NULL, 2 * area, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uint64_t sum = 0;

	must(at != MAP_FAILED, "mmap");
	at += -(uintptr_t)at & (area - 1);
	must(madvise(at, area, MADV_NOHUGEPAGE) == 0, "madvise");
	*(volatile char *)at = 1;
	at += 65536;
	must(munmap(at, 4096) == 0, "munmap");
	for (; n; n--) {
		char *p = mmap(at, 4096, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

		must(p == at, "mmap");
		*(volatile char *)p = 1;
		sum = (uint64_t)*p;
		must(munmap(p, 4096) == 0, "munmap");
	}
	return sum;
}
