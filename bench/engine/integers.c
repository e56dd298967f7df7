/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench/engine/integers.c - sorting, calls, a table CRC
 */
#include "rows.h"

#include <stdlib.h>
#include <string.h>

static int unsorted[SORT_ITEMS], sorted[SORT_ITEMS];

static void sort_fill(void)
{
	uint32_t state = 1;

	if (!unsorted[1]) {
		for (int i = 0; i < SORT_ITEMS; i++)
			unsorted[i] = (int)rand_next(&state);
	}
	memcpy(sorted, unsorted, sizeof(sorted));
}

static uint64_t sort_sum(void)
{
	uint64_t sum = 0;

	for (int i = 0; i < SORT_ITEMS; i++) {
		must(i == 0 || sorted[i - 1] <= sorted[i], "sort");
		sum = sum * 31 + (uint64_t)sorted[i];
	}
	return sum;
}

__attribute__((noipa)) static void shell_sort(int *a, int n)
{
	for (int gap = n / 2; gap > 0; gap /= 2) {
		for (int i = gap; i < n; i++) {
			int v = a[i], j = i;

			for (; j >= gap && a[j - gap] > v; j -= gap)
				a[j] = a[j - gap];
			a[j] = v;
		}
	}
}

uint64_t row_sort(uint64_t n)
{
	for (; n; n--) {
		sort_fill();
		shell_sort(sorted, SORT_ITEMS);
	}
	return sort_sum();
}

static int compare(const void *a, const void *b)
{
	int x = *(const int *)a, y = *(const int *)b;

	return (x > y) - (x < y);
}

uint64_t row_qsort(uint64_t n)
{
	for (; n; n--) {
		sort_fill();
		qsort(sorted, SORT_ITEMS, sizeof(*sorted), compare);
	}
	return sort_sum();
}

/* Nothing inlined, no loop made of it: FIB_CALLS calls and returns. */
__attribute__((noipa, optimize("no-optimize-sibling-calls"))) static uint64_t fib(unsigned n)
{
	return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

uint64_t row_fib(uint64_t n)
{
	uint64_t sum = 0;

	for (; n; n--)
		sum = fib(FIB_ARG);
	return sum;
}

static uint32_t crc_table[256];
static uint8_t crc_data[CRC_BYTES];

static void crc_fill(void)
{
	uint32_t state = 1;

	for (uint32_t i = 0; i < 256; i++) {
		uint32_t c = i;

		for (int bit = 0; bit < 8; bit++)
			c = c & 1 ? c >> 1 ^ 0xedb88320 : c >> 1;
		crc_table[i] = c;
	}
	for (int i = 0; i < CRC_BYTES; i++)
		crc_data[i] = (uint8_t)rand_next(&state);
}

__attribute__((noipa)) static uint32_t crc32_table(const uint8_t *p, size_t len)
{
	uint32_t c = ~0u;

	for (; len; len--)
		c = crc_table[(c ^ *p++) & 0xff] ^ c >> 8;
	return ~c;
}

uint64_t row_crc(uint64_t n)
{
	uint64_t sum = 0;

	if (!crc_table[1])
		crc_fill();
	for (; n; n--)
		sum = crc32_table(crc_data, CRC_BYTES);
	return sum;
}
