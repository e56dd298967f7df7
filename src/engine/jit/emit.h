/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/jit/emit.h - writing host instructions (SDM vol. 2, chapter 2)
 */
#pragma once

#include "base/macro.h"
#include "engine/x86/cpu.h"

/* Bytes go to [p, end); what does not fit is dropped and noted. */
struct emit {
	uint8_t *start, *p, *end;
	bool overflow;
};

/* A register, or [base + index * scale + disp], with GS if @gs. */
struct rm {
	bool mem, gs;
	uint8_t reg;
	uint8_t base, index; /* RM_NONE = absent */
	uint8_t scale;       /* 1, 2, 4, 8 */
	int32_t disp;
};

#define RM_NONE 0xff

static inline struct rm rm_reg(unsigned int reg)
{
	return (struct rm){.reg = (uint8_t)reg};
}

static inline struct rm rm_base(unsigned int base, int32_t disp)
{
	return (struct rm){
	    .mem = true, .base = (uint8_t)base, .index = RM_NONE, .scale = 1, .disp = disp};
}

static inline struct rm rm_index(unsigned int base, unsigned int index, int32_t disp)
{
	return (struct rm){
	    .mem = true, .base = (uint8_t)base, .index = (uint8_t)index, .scale = 1, .disp = disp};
}

static inline struct rm rm_gs(int32_t off)
{
	return (struct rm){
	    .mem = true, .gs = true, .base = RM_NONE, .index = RM_NONE, .scale = 1, .disp = off};
}

/* GS:[index * 8 + off] */
static inline struct rm rm_gs8(unsigned int index, int32_t off)
{
	return (struct rm){.mem = true,
			   .gs = true,
			   .base = RM_NONE,
			   .index = (uint8_t)index,
			   .scale = 8,
			   .disp = off};
}

static inline void emit_bytes(struct emit *e, const void *bytes, size_t n)
{
	if (unlikely((size_t)(e->end - e->p) < n)) {
		e->overflow = true;
		return;
	}
	memcpy(e->p, bytes, n);
	e->p += n;
}
static inline void emit8(struct emit *e, unsigned int x)
{
	uint8_t byte = (uint8_t)x;

	emit_bytes(e, &byte, sizeof(byte));
}
static inline void emit32(struct emit *e, uint32_t x)
{
	emit_bytes(e, &x, sizeof(x));
}
static inline void emit64(struct emit *e, uint64_t x)
{
	emit_bytes(e, &x, sizeof(x));
}

/* How an instruction is encoded, apart from its operands. */
struct form {
	uint8_t prefix[4]; /* 66, F2, F3, F0 in the order to write them */
	uint8_t n_prefix;
	uint8_t map; /* 0 one-byte, 1 0F, 2 0F38, 3 0F3A */
	uint8_t opcode;
	bool w;   /* REX.W or VEX.W */
	bool rex; /* a REX prefix in any case: byte registers SPL, BPL, SIL, DIL */
	bool vex;
	uint8_t l, pp, vvvv; /* VEX */
};

/* @reg is the ModRM reg field: register or opcode extension. */
void emit_insn(struct emit *e, const struct form *f, unsigned int reg, const struct rm *rm);

/* One-byte opcode of 64 or 32 bits. */
void emit_op(struct emit *e, bool w, unsigned int opcode, unsigned int reg, struct rm rm);
/* 0F opcode without W. */
void emit_0f(struct emit *e, unsigned int opcode, unsigned int reg, struct rm rm);

static inline void emit_load(struct emit *e, unsigned int reg, struct rm rm)
{
	emit_op(e, true, 0x8b, reg, rm);
}
static inline void emit_store(struct emit *e, unsigned int reg, struct rm rm)
{
	emit_op(e, true, 0x89, reg, rm);
}
static inline void emit_mov(struct emit *e, unsigned int to, unsigned int from)
{
	emit_op(e, true, 0x89, from, rm_reg(to));
}
static inline void emit_lea(struct emit *e, unsigned int reg, struct rm rm)
{
	emit_op(e, true, 0x8d, reg, rm);
}
/* Zero-extending byte load. */
static inline void emit_load8(struct emit *e, unsigned int reg, struct rm rm)
{
	emit_0f(e, 0xb6, reg, rm);
}
void emit_mov_imm32(struct emit *e, unsigned int reg, uint32_t x); /* zero-extended */
/* Gathers the bits of @src that the mask at @mask selects; leaves flags alone, as all above do. */
void emit_pext(struct emit *e, unsigned int reg, unsigned int src, struct rm mask);

/* SHRX: @reg shifted right by the low six bits of @count; leaves flags alone. */
void emit_shrx(struct emit *e, unsigned int reg, unsigned int count);

/* Offset of the current place. */
static inline uint32_t emit_at(const struct emit *e)
{
	return (uint32_t)(e->p - e->start);
}
/* Jumps to an offset, known or (0) to be aimed later: the rel32 is in the last four bytes. */
void emit_jmp(struct emit *e, uint32_t to);
void emit_jcc(struct emit *e, unsigned int cc, uint32_t to);
enum { CC_NE = 5, CC_A = 7 };
/* JRCXZ over what comes until emit_here() is given its return value. */
uint8_t *emit_jrcxz(struct emit *e);
void emit_here(struct emit *e, uint8_t *rel8);
/* Aims the rel32 at offset @at. */
void emit_aim(uint8_t *start, uint32_t at, uint32_t to);
