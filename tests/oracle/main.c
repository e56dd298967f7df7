/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/oracle/main.c - compares the interpreter with the host CPU over many random cases
 *
 *	oracle [--seed N] [--start N] [--count N] [--family NAME] [--insn HEX] [--compat PERCENT]
 *	       [--max-failures N] [--engine interp|jit] [--native-only]
 *
 * Exit status: 0 all equal, 1 differences found, 2 usage or host failure, 77 cannot run here.
 */
#include "oracle.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <time.h>

struct options {
	struct generator gen;
	uint64_t start, count;
	unsigned int max_failures;
	bool native_only;
	enum engine_kind engine;
	uint8_t insn[16];
};

static int usage(void)
{
	fprintf(stderr, "usage: oracle [--seed N] [--start N] [--count N] [--family NAME] "
			"[--insn HEX]\n              [--compat PERCENT] [--max-failures N] "
			"[--engine interp|jit] [--native-only]\nfamilies:");
	for (unsigned int n = 0; n < FAM_COUNT; n++)
		fprintf(stderr, " %s", family_names[n]);
	fprintf(stderr, "\n");
	return 2;
}

static bool parse_hex(const char *s, struct options *o)
{
	unsigned int n = 0, x;

	for (; s[0] && s[1] && n < 15; s += 2)
		if (sscanf(s, "%2x", &x) == 1)
			o->insn[n++] = (uint8_t)x;
	o->gen.fixed = o->insn;
	o->gen.fixed_len = n;
	return n && !*s;
}

static bool parse_family(const char *s, enum family *ret)
{
	for (unsigned int n = 0; n < FAM_COUNT; n++)
		if (strcmp(family_names[n], s) == 0) {
			*ret = (enum family)n;
			return true;
		}
	return false;
}

static int parse_options(int argc, char **argv, struct options *o)
{
	static const struct option longs[] = {
	    {"seed", required_argument, NULL, 's'},
	    {"start", required_argument, NULL, 't'},
	    {"count", required_argument, NULL, 'c'},
	    {"family", required_argument, NULL, 'f'},
	    {"insn", required_argument, NULL, 'i'},
	    {"compat", required_argument, NULL, 'p'},
	    {"max-failures", required_argument, NULL, 'm'},
	    {"engine", required_argument, NULL, 'e'},
	    {"native-only", no_argument, NULL, 'n'},
	    {0},
	};
	int k;

	generator_init(&o->gen, 1);
	o->count = 200000;
	o->engine = ENGINE_INTERP;
	o->max_failures = 10;
	while ((k = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		uint64_t x = optarg ? strtoull(optarg, NULL, 0) : 0;

		if (k == 's')
			o->gen.seed = x;
		else if (k == 't')
			o->start = x;
		else if (k == 'c')
			o->count = x;
		else if (k == 'm')
			o->max_failures = (unsigned int)x;
		else if (k == 'p')
			o->gen.compat_percent = (unsigned int)x;
		else if (k == 'n')
			o->native_only = true;
		else if (k == 'e' && strcmp(optarg, "jit") == 0)
			o->engine = ENGINE_JIT;
		else if (k == 'e' && strcmp(optarg, "interp") == 0)
			o->engine = ENGINE_INTERP;
		else if (k == 'f' ? !parse_family(optarg, &o->gen.family)
				  : k != 'i' || !parse_hex(optarg, o))
			return -EINVAL;
	}
	return optind == argc ? 0 : -EINVAL;
}

struct tally {
	uint64_t cases, skipped, failures, faults;
};

static void judge(const struct options *o, struct guest *g, struct testcase *c, struct tally *t)
{
	static struct outcome out;

	t->cases++;
	if (c->skipped) {
		t->skipped++;
		return;
	}
	t->faults += c->native.vector != VEC_BP;
	if (o->native_only)
		return;
	guest_run(g, c, &out);
	if (outcome_equal(c, &out, NULL))
		return;
	if (t->failures++ >= o->max_failures)
		return;
	case_print(c, o->gen.seed, stdout);
	outcome_equal(c, &out, stdout);
	fflush(stdout);
}

static unsigned int fill(const struct options *o, struct testcase *cases, uint64_t *next)
{
	unsigned int n = 0;

	for (; n < BATCH && *next < o->start + o->count; n++)
		generate_case(&o->gen, (*next)++, &cases[n]);
	return n;
}

/* One part runs natively while another is judged and the third filled. */
static void run_all(const struct options *o, struct native *n, struct guest *g, struct tally *t)
{
	unsigned int part = 0, have, before = 0;
	uint64_t next = o->start;

	have = fill(o, native_cases(n, part), &next);
	while (have || before) {
		unsigned int last = (part + PARTS - 1) % PARTS, then = (part + 1) % PARTS;

		if (have)
			native_submit(n, part, have);
		for (unsigned int k = 0; k < before; k++)
			judge(o, g, &native_cases(n, last)[k], t);
		before = have;
		have = fill(o, native_cases(n, then), &next);
		if (before && native_wait(n) < -1)
			return;
		part = then;
	}
}

int main(int argc, char **argv)
{
	struct options o = {0};
	struct native *n;
	struct guest *g = NULL;
	struct tally t = {0};
	struct timespec a, b;
	double s;

	if (parse_options(argc, argv, &o) < 0)
		return usage();
	if (native_start(&n) < 0 || (!o.native_only && guest_start(o.engine, &g) < 0))
		return 2;
	clock_gettime(CLOCK_MONOTONIC, &a);
	run_all(&o, n, g, &t);
	clock_gettime(CLOCK_MONOTONIC, &b);
	s = (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) / 1e9;
	printf("%" PRIu64 " cases, %" PRIu64 " ended in a fault, %" PRIu64 " skipped, %" PRIu64
	       " differ; %.0f cases/s\n",
	       t.cases, t.faults, t.skipped, t.failures, (double)t.cases / s);
	native_stop(n);
	if (g)
		guest_stop(g);
	return t.failures || t.cases < o.count ? 1 : 0;
}
