/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/jit/jit.h - the translator: hot blocks of the interpreter as host code
 *
 * Theory of operation: docs/engine.md.  The interpreter decodes, counts, and runs everything; a
 * block that ran often enough gets host code, and its first micro-op becomes one that enters that
 * code.  Whatever translated code cannot do itself (a TLB miss, a rare instruction, a jump that is
 * not known yet) it leaves to the interpreter's micro-op of the same instruction, with the state
 * exactly as it is between two instructions.
 *
 * Threads: all functions are for the vCPU's own thread.
 */
#pragma once

#include "engine/interp/hot.h"

#define JIT_HEAT 8 /* runs of a block before it is translated, unless engine_set_heat */

/* --- what the interpreter calls --- */

/* Can this host's CPU run what we generate (BMI2, FSGSBASE, LAHF)?  NULL = yes, else what lacks. */
const char *jit_host_lacks(void);

/* Gives @v a translator.  -ENOMEM and others from the host. */
must_check int jit_new(struct ivcpu *v, struct err *e);
void jit_free(struct ivcpu *v);

/* A block was decoded: count its runs from now on. */
void jit_watch(struct ivcpu *v, struct block *b);
/* A block's page changed, the block did not: jumps from it must be looked up again. */
void jit_unlink(struct ivcpu *v, struct block *b);
/* All blocks are gone. */
void jit_flush(struct ivcpu *v);

/* The host faulted at @pc: if that is code of ours, where to go on instead and what to put in RCX:
 * the interpreter does the instruction again and raises what there is to raise. */
bool jit_host_fault(struct ivcpu *v, uintptr_t pc, uintptr_t *go_on, uint64_t *rcx);
/* This thread runs @v from now on: host signals get a stack that is not the guest's. */
void jit_thread_begin(struct ivcpu *v);
/* A signal handler was left by longjmp: that stack has to be set again. */
void jit_signal_left(void);

/* Guest registers still in the host's go to struct cpu: after a longjmp out of code. */
void jit_sync(struct ivcpu *v);
/* CR0, CR4 or XCR0 may have changed. */
void jit_mode_changed(struct ivcpu *v);

/* One line for --verbose. */
void jit_stats(const struct ivcpu *v, char *buf, size_t len);

/* --- jump caches (jumps.c) --- */

/* Its low byte is not 0: that is what loops look at. */
#define JUMPS_MASK ((uint64_t)(JUMPS_SIZE - 1))
#define PAGES_MASK ((uint64_t)(JUMPS_PAGES - 1) << GMEM_PAGE_SHIFT)
#define RETS_MASK  ((uint64_t)(JUMPS_RETS - 1) << 3)

/* @leave: host address of code that leaves at the guest address in R11. */
void jumps_init(struct jumps *j, uint64_t leave);
void jumps_wipe(struct jumps *j);
/* Entries in the page of @lin go. */
void jumps_drop_page(struct jumps *j, uint64_t lin);
/* The block at @rip, linear address @lin, is translated at @code, and the code of its page has
 * @number (0 = none); blocks of another key go. */
void jumps_enter(struct jumps *j, uint64_t rip, uint64_t lin, const struct block *b,
		 const void *code, uint32_t number);
/* Is that known already? */
bool jumps_has(const struct jumps *j, uint64_t rip, const struct block *b, const void *code);
/* All entries of a vCPU whose code is in the physical page at @pa. */
void jumps_drop_code(struct ivcpu *v, uint64_t pa);
/* All of a vCPU's. */
void jumps_wipe_all(struct ivcpu *v);
