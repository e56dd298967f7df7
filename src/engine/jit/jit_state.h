/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/jit/jit_state.h - the part of struct ivcpu that only translated code and its stubs use
 */
#pragma once

#include "base/macro.h"

#define JIT_GROUPS 8

struct jit_state {
	/* Vector and x87 registers: 1 = the guest's are in struct cpu, not in the host's registers.
	 */
	_Atomic uint8_t sse_out, avx_out, x87_out;
	/* 1 = using them is not allowed now, or is not for us: the interpreter decides. */
	uint8_t sse_block, avx_block, x87_block, tsc_block;
	uint8_t smap_off; /* 1 = EFLAGS.AC does not choose the TLB set */
	uint32_t host_mxcsr;
	uint64_t host_rsp;
	uint64_t budget;           /* jumps until code leaves: lock-step only */
	uint64_t resume;           /* where code goes on after a call; where to enter it */
	uint64_t address;          /* linear address that missed in the TLB */
	uint64_t saved;            /* RCX of a stub */
	uint64_t fdp;              /* last memory operand of an x87 instruction */
	uint64_t x87_page;         /* page_rip of the last block with x87 instructions */
	uint64_t held[JIT_GROUPS]; /* addends of groups of accesses */
	/* Constants, as memory operands of PEXT. */
	uint64_t tlb_mask, page_mask, rets_mask, df_mask, sce_mask, ac_tf_mask, upper_mask;
	uint64_t bits64_mask, bits32_mask; /* of a bit's number, what is beyond a word */
	uint64_t align_mask[5];            /* by log2 of the size */
	uint64_t home_mask[5];             /* likewise, with page_mask */
	/* FXSAVE image: of the x87 state, and of what the host had */
	uint8_t fx[512] __attribute__((aligned(64)));
};
