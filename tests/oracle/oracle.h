/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/oracle/oracle.h - the host CPU as judge of the interpreter: parts and the test case
 *
 * A case is a short run of instructions and a state to start from.  It runs natively in a confined
 * child process (native.c) and in the interpreter at CPL 3 with the same linear addresses
 * (guest.c); every register, flag, byte of memory and fault must be the same.  See docs/oracle.md.
 *
 *	CODE  0x10000000  one page, executable, filled with INT3; the instructions at code_off
 *	DATA  0x20000000  two pages, writable; not mapped before and after
 */
#pragma once

#include "engine/engine.h"

#include <Zydis/Zydis.h>
#include <stdio.h>

#define CODE      UINT64_C(0x10000000)
#define CODE_SIZE 0x1000u
#define DATA      UINT64_C(0x20000000)
#define DATA_SIZE 0x2000u
#define FS_BASE   (DATA + 0x100)
#define GS_BASE   (DATA + 0x1200)

#define CASE_CODE_MAX 96

/* Selectors, as Linux gives them to programs. */
#define SEL_CODE32 0x23
#define SEL_DATA   0x2b
#define SEL_CODE64 0x33

struct machine {
	uint64_t gpr[16], rip, rflags;
	struct cpu_xsave xs;
};

struct outcome {
	struct machine m;
	uint32_t vector, error; /* how it ended; 3 is the normal end */
	uint64_t cr2;
	uint8_t data[DATA_SIZE];
};

struct testcase {
	uint64_t index;
	bool compat;           /* 32-bit code segment */
	bool torn;             /* a faulting store may leave a part behind */
	uint64_t unsure_flags; /* undefined, and not the same on this host in all forms */
	bool skipped;          /* the native side could not run it */
	uint16_t code_off, code_len;
	uint8_t code[CASE_CODE_MAX];
	struct machine in;
	uint8_t data[DATA_SIZE];
	struct outcome native;
};

/* --- random.h material: deterministic, seeded by (seed, case) --- */

struct rng {
	uint64_t s[2];
};

void rng_seed(struct rng *r, uint64_t seed, uint64_t stream);
uint64_t rng_next(struct rng *r);
static inline uint32_t rng_below(struct rng *r, uint32_t n)
{
	return (uint32_t)((rng_next(r) >> 32) * n >> 32);
}
static inline bool rng_chance(struct rng *r, uint32_t percent)
{
	return rng_below(r, 100) < percent;
}

/* --- generate.c --- */

enum family {
	FAM_ALL,
	FAM_INT,
	FAM_STRING,
	FAM_BRANCH,
	FAM_BMI,
	FAM_X87,
	FAM_MMX,
	FAM_SSE,
	FAM_AVX,
	FAM_STATE,
	FAM_COUNT,
};

extern const char *const family_names[FAM_COUNT];

struct generator {
	uint64_t seed;
	enum family family;
	unsigned int max_insns; /* of a straight run */
	unsigned int compat_percent;
	const uint8_t *fixed; /* these bytes instead of random ones */
	unsigned int fixed_len;
	ZydisDecoder dec64, dec32;
};

void generator_init(struct generator *g, uint64_t seed);
void generate_case(const struct generator *g, uint64_t index, struct testcase *c);

/* --- state.c: register and memory values --- */

void random_state(struct rng *r, struct testcase *c);

/* --- native.c --- */

struct native;

int native_start(struct native **ret);
void native_stop(struct native *n);
/* Runs @count cases of the shared array from native_cases() in the child; waits for them. */
struct testcase *native_cases(struct native *n, unsigned int part);
void native_submit(struct native *n, unsigned int part, unsigned int count);
/* -1 when the child had to be killed: the case it hung at is marked skipped, the rest ran. */
int native_wait(struct native *n);

#define BATCH 128
#define PARTS 3

/* --- guest.c --- */

struct guest;

int guest_start(enum engine_kind kind, struct guest **ret);
void guest_stop(struct guest *g);
/* Runs one case in the interpreter. */
void guest_run(struct guest *g, const struct testcase *c, struct outcome *out);

/* --- compare.c --- */

/* True when equal; else, with @out, a line a difference. */
bool outcome_equal(const struct testcase *c, const struct outcome *interp, FILE *out);
void case_print(const struct testcase *c, uint64_t seed, FILE *out);
