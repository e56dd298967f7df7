/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench/engine/rows.c - measures the rows named on the command line
 *
 *   rows NAME...        a line each: "ROW name nanoseconds checksum"
 *
 * One static program for the host and for every guest.  Time is CLOCK_MONOTONIC's, so a guest's
 * own.
 */
#include "rows.h"

#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BATCH_NS  40000000.0  /* one measurement lasts about so long, */
#define BUDGET_NS 300000000.0 /* all of a row's about so long, */
#define MAX_TIMES 9           /* but there are at most so many and at least three */

static const struct row {
	const char *name;
	uint64_t (*run)(uint64_t n);
	double ops;  /* operations in one of @n; the figure is a single one's time */
	bool pinned; /* more than one process takes part, or could: on one CPU, as in the guest */
} rows[] = {
    {"sort", row_sort, SORT_ITEMS, false},
    {"qsort", row_qsort, SORT_ITEMS, false},
    {"fib", row_fib, FIB_CALLS, false},
    {"crc", row_crc, CRC_BYTES, false},
    {"chase", row_chase, CHASE_ITEMS - 1, false},
    {"matmul", row_matmul, (double)MATMUL_SIDE *MATMUL_SIDE *MATMUL_SIDE, false},
    {"fpsum", row_fpsum, FPSUM_ITEMS, false},
    {"x87", row_x87, X87_STEPS, false},
    {"memcpy", row_memcpy, 1, false},
    {"read", row_read, 1, false},
    {"getppid", row_getppid, 1, false},
    {"pipe", row_pipe, 1, true},
    {"mmap", row_mmap, 1, false},
    {"fork", row_fork, 1, true},
    {"exec", row_exec, 1, true},
    {"switch", row_switch, 1, true},
};

void must(int good, const char *what)
{
	if (good)
		return;
	perror(what);
	exit(1);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static double time_of(const struct row *row, uint64_t n)
{
	double start = now();

	row->run(n);
	return now() - start;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void pin(void)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET((size_t)sched_getcpu(), &set);
	must(sched_setaffinity(0, sizeof(set), &set) == 0, "sched_setaffinity");
}

/* The first run fills caches (a translator's too) and gives the checksum; then twice the work until
 * it lasts a quarter of a batch; then batches, of which the median counts. */
static void measure(const struct row *row)
{
	uint64_t sum = row->run(1), n = 1;
	double batch = time_of(row, n), times[MAX_TIMES];
	size_t wanted;

	while (batch < BATCH_NS / 4 && n < 1u << 30) {
		n *= 2;
		batch = time_of(row, n);
	}
	if (batch < BATCH_NS) {
		double more = BATCH_NS / batch;

		n = (uint64_t)((double)n * more);
		batch *= more;
	}
	wanted = (size_t)(BUDGET_NS / batch);
	wanted = wanted < 3 ? 3 : wanted > MAX_TIMES ? MAX_TIMES : wanted;
	for (size_t i = 0; i < wanted; i++)
		times[i] = time_of(row, n);
	qsort(times, wanted, sizeof(*times), compare);
	printf("ROW %s %.4f %llx\n", row->name, times[wanted / 2] / ((double)n * row->ops),
	       (unsigned long long)sum);
}

static const struct row *row_find(const char *name)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		if (strcmp(rows[i].name, name) == 0)
			return &rows[i];
	}
	return NULL;
}

/* Each in a process of its own, so that no row changes the next one's memory or CPU. */
int main(int argc, char **argv)
{
	int status = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc == 2 && strcmp(argv[1], "--exit") == 0)
		return 5;
	for (char **name = argv + 1; *name; name++) {
		const struct row *row = row_find(*name);
		pid_t child;
		int s;

		if (!row) {
			fprintf(stderr, "rows: there is no row '%s'\n", *name);
			return 2;
		}
		child = fork();
		if (child == 0) {
			if (row->pinned)
				pin();
			measure(row);
			return 0;
		}
		if (child < 0 || waitpid(child, &s, 0) != child || s != 0) {
			fprintf(stderr, "rows: %s failed\n", *name);
			status = 1;
		}
	}
	return status;
}
