/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/jit/emit.c - writing host instructions
 */
#include "engine/jit/emit.h"

#include <assert.h>

static void emit_modrm(struct emit *e, unsigned int reg, const struct rm *rm)
{
	unsigned int mod, base = rm->base & 7, index = rm->index & 7, scale;

	reg = (reg & 7) << 3;
	if (!rm->mem) {
		emit8(e, 0xc0 | reg | (rm->reg & 7));
		return;
	}
	scale = (unsigned int)__builtin_ctz(rm->scale) << 6;
	if (rm->base == RM_NONE) { /* SIB without base: disp32 */
		emit8(e, 0x04 | reg);
		emit8(e, scale | (rm->index == RM_NONE ? 4 : index) << 3 | 5);
		emit32(e, (uint32_t)rm->disp);
		return;
	}
	if (rm->disp == 0 && base != RBP)
		mod = 0;
	else if (rm->disp == (int8_t)rm->disp)
		mod = 0x40;
	else
		mod = 0x80;
	if (rm->index != RM_NONE || base == RSP) {
		emit8(e, mod | reg | 4);
		emit8(e, scale | (rm->index == RM_NONE ? 4 : index) << 3 | base);
	} else {
		emit8(e, mod | reg | base);
	}
	if (mod == 0x40)
		emit8(e, (uint8_t)rm->disp);
	else if (mod == 0x80)
		emit32(e, (uint32_t)rm->disp);
}

/* R, X and B: the upper bits of the three register fields. */
static void upper_bits(unsigned int reg, const struct rm *rm, bool *r, bool *x, bool *b)
{
	*r = reg & 8;
	*x = rm->mem && rm->index != RM_NONE && (rm->index & 8);
	*b = rm->mem ? rm->base != RM_NONE && (rm->base & 8) : rm->reg & 8;
}

static void emit_vex(struct emit *e, const struct form *f, unsigned int reg, const struct rm *rm)
{
	bool r, x, b;

	upper_bits(reg, rm, &r, &x, &b);
	if (rm->gs)
		emit8(e, 0x65);
	emit8(e, 0xc4);
	emit8(e, (r ? 0 : 0x80u) | (x ? 0 : 0x40u) | (b ? 0 : 0x20u) | f->map);
	emit8(e, (f->w ? 0x80u : 0) | (~f->vvvv & 15u) << 3 | (unsigned int)f->l << 2 | f->pp);
	emit8(e, f->opcode);
	emit_modrm(e, reg, rm);
}

void emit_insn(struct emit *e, const struct form *f, unsigned int reg, const struct rm *rm)
{
	bool r, x, b;

	if (f->vex) {
		emit_vex(e, f, reg, rm);
		return;
	}
	for (unsigned int i = 0; i < f->n_prefix; i++)
		emit8(e, f->prefix[i]);
	if (rm->mem && rm->gs)
		emit8(e, 0x65);
	upper_bits(reg, rm, &r, &x, &b);
	if (f->w || f->rex || r || x || b)
		emit8(e, 0x40u | (f->w ? 8u : 0) | (r ? 4u : 0) | (x ? 2u : 0) | (b ? 1u : 0));
	if (f->map)
		emit8(e, 0x0f);
	if (f->map > 1)
		emit8(e, f->map == 2 ? 0x38 : 0x3a);
	emit8(e, f->opcode);
	emit_modrm(e, reg, rm);
}

void emit_op(struct emit *e, bool w, unsigned int opcode, unsigned int reg, struct rm rm)
{
	const struct form f = {.w = w, .opcode = (uint8_t)opcode};

	emit_insn(e, &f, reg, &rm);
}

void emit_0f(struct emit *e, unsigned int opcode, unsigned int reg, struct rm rm)
{
	const struct form f = {.map = 1, .opcode = (uint8_t)opcode};

	emit_insn(e, &f, reg, &rm);
}

void emit_mov_imm32(struct emit *e, unsigned int reg, uint32_t x)
{
	if (reg & 8)
		emit8(e, 0x41);
	emit8(e, 0xb8 | (reg & 7));
	emit32(e, x);
}

void emit_pext(struct emit *e, unsigned int reg, unsigned int src, struct rm mask)
{
	const struct form f = {
	    .vex = true, .map = 2, .opcode = 0xf5, .w = true, .pp = 2, .vvvv = (uint8_t)src};

	emit_insn(e, &f, reg, &mask);
}

void emit_shrx(struct emit *e, unsigned int reg, unsigned int count)
{
	const struct form f = {
	    .vex = true, .map = 2, .opcode = 0xf7, .w = true, .pp = 3, .vvvv = (uint8_t)count};
	struct rm rm = rm_reg(reg);

	emit_insn(e, &f, reg, &rm);
}

static void emit_rel32(struct emit *e, uint32_t to)
{
	emit32(e, to ? to - (emit_at(e) + 4) : 0);
}

void emit_jmp(struct emit *e, uint32_t to)
{
	emit8(e, 0xe9);
	emit_rel32(e, to);
}

void emit_jcc(struct emit *e, unsigned int cc, uint32_t to)
{
	emit8(e, 0x0f);
	emit8(e, 0x80 | cc);
	emit_rel32(e, to);
}

uint8_t *emit_jrcxz(struct emit *e)
{
	emit8(e, 0xe3);
	emit8(e, 0);
	return e->p - 1;
}

void emit_here(struct emit *e, uint8_t *rel8)
{
	int64_t d = e->p - (rel8 + 1);

	if (e->overflow)
		return;
	assert(d >= 0 && d <= INT8_MAX);
	*rel8 = (uint8_t)d;
}

void emit_aim(uint8_t *start, uint32_t at, uint32_t to)
{
	uint32_t rel = to - (at + 4);

	memcpy(start + at, &rel, sizeof(rel));
}
