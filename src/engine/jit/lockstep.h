/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/jit/lockstep.h - translated code beside the interpreter, for tests
 *
 * Theory of operation: docs/engine-tests.md.  A stay in translated code is a rehearsal: it works on
 * copies of the pages that it touches, and stops where it would call C for more than a TLB miss.
 * The interpreter does the same on copies of the same pages, one instruction at a time, and must
 * come to the same state and the same pages.  Then all is put back, and the interpreter does it
 * once more, on the guest's memory: that is what counts.
 *
 * Threads: all functions are for the vCPU's own thread.
 */
#pragma once

#include "engine/interp/hot.h"

/* Gives @v lock-step; jit_new before.  -ENOMEM. */
must_check int lockstep_new(struct ivcpu *v, struct err *e);
void lockstep_free(struct ivcpu *v);

/* --- the run loop --- */

/* Must the next instruction be the interpreter's, alone? */
bool lockstep_takes_step(struct ivcpu *v);
/* A block has run: if code of it was to be entered, now it is checked.  True when the machine ends:
 * v->exit says why. */
bool lockstep_check(struct ivcpu *v);
/* Most instructions for the next block. */
unsigned int lockstep_block_max(struct ivcpu *v, unsigned int max);

/* --- the TLB --- */

/* The page @host at @pa was entered for an access to @lin: the page to use instead. */
uint8_t *lockstep_page(struct ivcpu *v, enum tlb_set set, uint64_t lin, enum access acc,
		       uint8_t *host, uint64_t pa);

/* --- the translator --- */

/* The code of @b is to be entered; it is not. */
const struct uop *lockstep_enter(struct ivcpu *v, struct block *b);
/* Code stops at an instruction with a slow handler, in the middle of its block. */
void lockstep_called(struct ivcpu *v, const struct uop *u);
/* The host faulted in code, which stops there. */
void lockstep_host_fault(struct ivcpu *v);
/* May @lin be accessed without a fault? */
bool lockstep_may_access(struct ivcpu *v, uint64_t lin, enum access acc);

/* For --verbose, behind what jit_stats says. */
void lockstep_stats(const struct ivcpu *v, char *buf, size_t len);
