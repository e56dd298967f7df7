/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/jit/lockstep_priv.h - inside of lock-step
 */
#pragma once

#include "engine/jit/jit_priv.h"
#include "engine/jit/lockstep.h"

#define LOCKSTEP_PAGES 64  /* that one rehearsal may touch */
#define LOCKSTEP_PATH  256 /* last instructions of the interpreter that are kept for the report */
#define LOCKSTEP_STEPS 400000 /* of the interpreter, to come to the state of code */

/* Who works on copies. */
enum lockstep_side { SIDE_NONE, SIDE_CODE, SIDE_INTERP };

struct lockstep_page {
	uint64_t pa, lin;
	enum tlb_set set;
	uint8_t *before, *code, *interp; /* the page as it was; as each side left it */
};

/* Where the interpreter came along. */
struct lockstep_insn {
	uint64_t rip;
	uint8_t len, raw[INSN_MAX_LEN];
};

struct lockstep {
	enum lockstep_side side;
	struct block *entered; /* code of this block is to be checked */
	unsigned int steps;    /* instructions to do alone, since they were checked */
	uint64_t random;

	/* One check */
	struct cpu start, code, interp; /* state before, and as each side left it */
	uint64_t page_rip;
	unsigned int budget; /* jumps */
	struct lockstep_page page[LOCKSTEP_PAGES + 1];
	unsigned int n_pages;
	uint64_t call_slot, call_rip; /* where the return address of a CALL at the end is, and it */
	unsigned int call_size;       /* 0 = there is none */
	bool host_fault;              /* in code */
	bool stray; /* the interpreter touched a page that code did not touch, at */
	uint64_t stray_lin;
	const char *ended; /* why the interpreter did not come to the state of code */
	unsigned int n_steps;
	struct lockstep_insn path[LOCKSTEP_PATH];
	uint8_t *copies;

	/* Where code would go on after the instruction that made it stop. */
	const struct uop *called;
	struct {
		const struct block *b;
		uint64_t rip, page_rip, jit_flushes;
		unsigned int k;
	} resume;
	struct {
		uint64_t checks, resumed, insns, pages, chance;
	} stats;
};

/* lockstep_report.c: all about a difference, to the log, and in one line to @exit. */
void lockstep_report(const struct ivcpu *v, const struct block *b, uint32_t at,
		     struct vm_exit *exit);
