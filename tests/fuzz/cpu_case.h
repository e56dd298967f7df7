/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/fuzz/cpu_case.h - any bytes as code, from a CPU state of any mode, on a software engine
 *
 * The input is a struct cpu_start, then bytes that become code, handlers, descriptors, page-table
 * entries and data in a small machine of 1 MiB; everything above is MMIO and answered with bytes of
 * the input.
 */
#pragma once

#include "fuzz.h"

#include "../unit/engine/guest_vm.h"

#define CPU_CASE_RAM (1u << 20)

struct cpu_start {
	uint8_t mode, cpl, options, steps;
	uint32_t rflags;
	uint8_t gpr_kind[16], gpr_value[16];
	uint8_t cr4[3], cr0, code_at;
	uint8_t table_at, table_value; /* one page-table entry changed */
	uint8_t seg_attr[SEG_COUNT];
	uint8_t fpu[6]; /* control word, tag word, MXCSR */
	uint8_t dr7[2];
	uint8_t gdt[64];
} __attribute__((packed));

/* One machine, made once, and an input on it. */
struct cpu_case {
	struct vm vm;
	struct cpu reset;
	struct cpu_start start;
	struct fuzz_input in;
	bool undisturbed;           /* no kicks before the time of an input is over */
	_Atomic unsigned int until; /* when that is */
	unsigned int exits;
	bool late; /* it was: the machine is anywhere */
};

void cpu_case_new(struct cpu_case *c, enum engine_kind kind);
/* False when there is not enough input. */
bool cpu_case_begin(struct cpu_case *c, const uint8_t *data, size_t size);
/* To the next exit, in c->vm.x.  False when the machine stopped or its time is over. */
bool cpu_case_run(struct cpu_case *c);
/* Answers that exit from the input, and lets events come. */
void cpu_case_serve(struct cpu_case *c);
/* The state is one that a processor can have between two instructions, and the host's own
 * floating-point and flag state is as before. */
void cpu_case_end(struct cpu_case *c);
