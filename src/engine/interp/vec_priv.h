/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/interp/vec_priv.h - inside of the vector and floating-point unit: operations and gadgets
 *
 * An instruction of this unit is not emulated: the host executes it.  At decode time a gadget is
 * made, a little host function that loads the guest registers the instruction names from struct
 * cpu, runs the guest's own instruction (its memory operand rewritten to a bounce buffer), and
 * stores the registers back.  The code around it (vec.c) checks legality, does the guest's memory
 * access and turns floating-point exceptions into the guest's.  See docs/vector.md.
 */
#pragma once

#include "engine/interp/interp.h"

#include <Zydis/Zydis.h>

/* Who may execute it, SDM vol. 2, 2.4 to 2.6 and the instructions' own exception tables. */
enum vec_check {
	CHECK_NONE,    /* general registers only */
	CHECK_VEX_GPR, /* likewise, but VEX: not in real and virtual-8086 mode */
	CHECK_X87,     /* CR0.EM or TS: #NM */
	CHECK_MMX,     /* EM: #UD, TS: #NM */
	CHECK_SSE,     /* also CR4.OSFXSR */
	CHECK_AVX,     /* CR4.OSXSAVE, XCR0, TS */
};

enum vec_flags {
	VOP_READ = 1 << 0,        /* memory operand is read */
	VOP_WRITE = 1 << 1,       /* memory operand is written */
	VOP_FX = 1 << 2,          /* x87 or MMX state: gadget loads and stores it whole */
	VOP_WAIT = 1 << 3,        /* pending x87 exceptions are raised first */
	VOP_MXCSR = 1 << 4,       /* may raise SIMD floating-point exceptions */
	VOP_X87_PTR = 1 << 5,     /* x87: may update the instruction and data pointers */
	VOP_STATE_STORE = 1 << 6, /* stores to memory and changes registers: probe first */
	VOP_UPPER = 1 << 7,       /* VEX on vector registers */
	VOP_MMX = 1 << 8,         /* turns x87 state into MMX state, even if it faults later */
};

typedef void gadget_fn(struct cpu *c, void *mem);

/* One guest instruction, ready to be executed. */
struct vec_op {
	uint64_t key[2]; /* its bytes, zero-padded, and the decoding mode in the last one */
	gadget_fn *run;
	uint16_t flags;
	uint8_t check;
	uint8_t size;  /* of the memory operand */
	uint8_t align; /* it must have, else #GP; 0 = any */
	uint16_t fop;  /* x87: opcode as FOP holds it */
};

/* Features of the CPU model this unit needs, SDM's names. */
enum vec_feature {
	VF_NEVER,
	VF_ALWAYS,
	VF_FPU,
	VF_MMX,
	VF_FXSR,
	VF_SSE,
	VF_SSE2,
	VF_SSE3,
	VF_SSSE3,
	VF_SSE41,
	VF_SSE42,
	VF_POPCNT,
	VF_AES,
	VF_PCLMUL,
	VF_SHA,
	VF_GFNI,
	VF_AVX,
	VF_AVX2,
	VF_FMA,
	VF_F16C,
	VF_VAES,
	VF_VPCLMUL,
	VF_BMI1,
	VF_BMI2,
	VF_ADX,
	VF_MOVBE,
	VF_LZCNT,
	VF_RDRAND,
	VF_RDSEED,
	VF_XSAVE,
	VF_XSAVEOPT,
	VF_XSAVEC,
};

#define VEC_OP_BITS 12

struct gadget_arena;

/* A gather in progress, vec_mask.c. */
struct gather {
	unsigned int size, index_size, n; /* element and index bytes, elements */
	bool loaded;                      /* at least one element */
	uint8_t data[32], mask[32], index[32];
};

struct vec_unit {
	uint8_t bounce[64] __attribute__((aligned(64)));
	uint64_t features; /* bit per enum vec_feature */
	struct gather gather;
	struct gadget_arena *arena;
	ZydisDecoder decoder[3]; /* by enum insn_bits */
	struct vec_op op[1 << VEC_OP_BITS];
};

static inline struct vec_unit *vec_of(const struct ivcpu *v)
{
	return v->vec;
}

/* --- gadget.c: executable memory and the code generator --- */

must_check int gadget_arena_new(struct gadget_arena **ret, struct err *e);
void gadget_arena_free(struct gadget_arena *a);
/* Bytes of code; the same code again is found.  NULL when the arena is full. */
gadget_fn *gadget_add(struct gadget_arena *a, const uint8_t *code, unsigned int len);
void gadget_flush(struct gadget_arena *a);
/* Is @pc an address in its code? */
bool gadget_contains(const struct gadget_arena *a, uintptr_t pc);

#define GADGET_MAX 768
/* Generates the gadget of a decoded instruction to @code (GADGET_MAX bytes); returns its length. */
unsigned int gadget_make(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops,
			 uint16_t flags, uint8_t *code);

/* --- vec_class.c: what an instruction is --- */

uint64_t vec_features(const struct cpu_model *m);
/* Feature the instruction belongs to; VF_NEVER for those that are not this unit's. */
enum vec_feature vec_feature_of(const ZydisDecodedInstruction *z);
/* Fills in all of @op but key and run. */
void vec_classify(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops,
		  struct vec_op *op);
/* Instructions with a handler of their own; NULL if it takes a gadget. */
slow_fn *vec_special(const ZydisDecodedInstruction *z);

/* --- vec.c --- */

/* #UD and #NM as the class demands. */
void vec_check_slow(struct ivcpu *v, enum vec_check check);

static inline void vec_check(struct ivcpu *v, enum vec_check check)
{
	const struct cpu *c = &v->c;

	if (check == CHECK_NONE)
		return;
	if (likely(check == CHECK_SSE && !(c->cr0 & (CR0_EM | CR0_TS)) && (c->cr4 & CR4_OSFXSR)))
		return;
	vec_check_slow(v, check);
}

/* #MF if an unmasked x87 exception is pending. */
void x87_wait(struct ivcpu *v);
/* What MMX instructions do to x87 state: TOP = 0 first, even if they fault on a store later; all
 * registers valid at the end. */
void mmx_clear_top(struct cpu *c);
void mmx_enter(struct cpu *c);
/* #AC unless @lin is aligned to @unit or nobody asked for alignment checks. */
void vec_check_ac_slow(struct ivcpu *v, uint64_t lin, unsigned int unit);
static inline void vec_check_ac(struct ivcpu *v, uint64_t lin, unsigned int unit)
{
	if (unlikely(v->c.rflags & FL_AC))
		vec_check_ac_slow(v, lin, unit);
}

#define MXCSR_FLAGS   0x003fu
#define MXCSR_MASKS   0x1f80u
#define MXCSR_FTZ     0x8000u
#define MXCSR_DEFAULT 0x1f80u
#define MXCSR_VALID   0xffffu

/* --- vec_state.c, vec_mask.c: special handlers --- */

slow_fn vec_ldmxcsr, vec_stmxcsr, vec_vldmxcsr, vec_vstmxcsr, vec_fxsave, vec_fxrstor, vec_xsave,
    vec_xsaveopt, vec_xsavec, vec_xrstor, vec_fwait, vec_fnstenv, vec_fnsave, vec_fldenv,
    vec_frstor, vec_vzero;
slow_fn vec_maskmovq, vec_maskmovdqu, vec_vmaskmovdqu, vec_vmaskmov, vec_gather;
