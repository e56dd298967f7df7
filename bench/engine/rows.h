/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench/engine/rows.h - the small loops of the table, one function each
 *
 * Every function does its work @n times and returns a number that depends on all of it and not on
 * @n: the same on every machine, so that a figure never comes from wrong work.
 */
#ifndef BENCH_ROWS_H
#define BENCH_ROWS_H

#include <stdint.h>

/* integers.c */
uint64_t row_sort(uint64_t n);
uint64_t row_qsort(uint64_t n);
uint64_t row_fib(uint64_t n);
uint64_t row_crc(uint64_t n);

/* floats.c */
uint64_t row_matmul(uint64_t n);
uint64_t row_fpsum(uint64_t n);
uint64_t row_x87(uint64_t n);

/* memory.c */
uint64_t row_chase(uint64_t n);
uint64_t row_memcpy(uint64_t n);
uint64_t row_mmap(uint64_t n);

/* calls.c */
uint64_t row_getppid(uint64_t n);
uint64_t row_read(uint64_t n);
uint64_t row_pipe(uint64_t n);
uint64_t row_fork(uint64_t n);
uint64_t row_exec(uint64_t n);
uint64_t row_switch(uint64_t n);

#define FIB_ARG   20
#define FIB_CALLS 21891 /* 2 * fib(FIB_ARG + 1) - 1 */

#define SORT_ITEMS  200000
#define CRC_BYTES   65536
#define MATMUL_SIDE 256
#define FPSUM_ITEMS 32768
#define X87_STEPS   10000
#define CHASE_ITEMS 65536 /* cache lines: 4 MiB */

/* What the system refuses is the end of the run: the row is then missing, which its reader sees. */
void must(int good, const char *what);

/* A step of a generator that is good enough to fill arrays. */
static inline uint32_t rand_next(uint32_t *state)
{
	*state = *state * 1664525 + 1013904223;
	return *state >> 8;
}

#endif
