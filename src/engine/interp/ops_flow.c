/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/interp/ops_flow.c - near branches and stack instructions in all modes, as slow handlers
 */
#include "engine/interp/hot.h"

#include <Zydis/Zydis.h>

/* --- near branches --- */

/* @to as an operand of i->opsize; checked before anything changes. */
static uint64_t target(struct ivcpu *v, const struct x86_insn *i, uint64_t to)
{
	if (v->mode == MODE_LONG) {
		if ((uint64_t)((int64_t)(to << 16) >> 16) != to)
			raise_gp(v, 0);
		return to;
	}
	to = i->opsize == 2 ? (uint16_t)to : (uint32_t)to;
	if (to > v->c.seg[SEG_CS].limit)
		raise_gp(v, 0);
	return to;
}

static void branch(struct ivcpu *v, const struct x86_insn *i, bool taken)
{
	if (taken)
		v->next_rip = target(v, i, v->next_rip + i->imm[0]);
}

static void h_jmp(struct ivcpu *v, const struct x86_insn *i)
{
	if (i->imm_relative)
		branch(v, i, true);
	else
		v->next_rip = target(v, i, rm_get(v, i, i->opsize));
}

static void h_jcc(struct ivcpu *v, const struct x86_insn *i)
{
	branch(v, i, flags_cond(flags_to_af(v->c.rflags), i->opcode & 15));
}

static void h_call(struct ivcpu *v, const struct x86_insn *i)
{
	uint64_t sp = v->c.gpr[RSP], pushed;
	uint64_t to = i->imm_relative ? v->next_rip + i->imm[0] : rm_get(v, i, i->opsize);

	if (v->mode != MODE_LONG)
		to = target(v, i, to);
	push(v, i->opsize, v->next_rip);
	pushed = v->c.gpr[RSP];
	/* in 64-bit mode the push shows in memory even if the target is refused */
	v->c.gpr[RSP] = sp;
	v->next_rip = target(v, i, to);
	v->c.gpr[RSP] = pushed;
}

static void h_ret(struct ivcpu *v, const struct x86_insn *i)
{
	uint64_t sp = v->c.gpr[RSP];
	uint64_t to = lin_ld(v, stack_linear(v, sp, i->opsize, ACC_READ), i->opsize);

	v->next_rip = target(v, i, to);
	sp += i->opsize + (i->n_imm ? (uint16_t)i->imm[0] : 0u);
	gpr_set(v, RSP, v->stack_bits / 8, true, sp);
}

static void h_jcxz(struct ivcpu *v, const struct x86_insn *i)
{
	branch(v, i, gpr_get(v, RCX, i->addrsize, true) == 0);
}

/* LOOP, LOOPE, LOOPNE: the count is written even if the branch is not taken, but not if it faults.
 */
static void h_loop(struct ivcpu *v, const struct x86_insn *i)
{
	uint64_t n = gpr_get(v, RCX, i->addrsize, true) - 1;
	bool zf = v->c.rflags & FL_ZF, go;

	if (i->addrsize < 8)
		n &= i->addrsize == 4 ? 0xffffffffu : 0xffffu;
	go = n != 0 && (i->opcode == 0xe2 || zf == (i->opcode == 0xe1));
	branch(v, i, go);
	gpr_set(v, RCX, i->addrsize, true, n);
}

/* --- stack --- */

static void h_push(struct ivcpu *v, const struct x86_insn *i)
{
	uint64_t x = i->n_imm ? i->imm[0] : rm_get(v, i, i->stacksize);

	push(v, i->stacksize, x);
}

/* With an RSP base the address uses the value after the pop. */
static void h_pop(struct ivcpu *v, const struct x86_insn *i)
{
	uint64_t sp = v->c.gpr[RSP], x;

	x = lin_ld(v, stack_linear(v, sp, i->stacksize, ACC_READ), i->stacksize);
	if (!i->has_mem) {
		gpr_set(v, RSP, v->stack_bits / 8, true, sp + i->stacksize);
		gpr_set(v, i->rm, i->stacksize, true, x);
		return;
	}
	if (i->base == RSP) {
		struct x86_insn after = *i;

		after.disp += i->stacksize;
		rm_set(v, &after, i->stacksize, x);
	} else {
		rm_set(v, i, i->stacksize, x);
	}
	gpr_set(v, RSP, v->stack_bits / 8, true, sp + i->stacksize);
}

static void h_pusha(struct ivcpu *v, const struct x86_insn *i)
{
	uint64_t sp = v->c.gpr[RSP];
	unsigned int size = i->stacksize;

	/* All eight slots must be good before the first is written. */
	for (unsigned int r = 0; r < 8; r++)
		lin_probe(v, stack_linear(v, sp - (r + 1) * size, size, ACC_WRITE), size,
			  ACC_WRITE);
	for (unsigned int r = 0; r < 8; r++)
		lin_st(v, stack_linear(v, sp - (r + 1) * size, size, ACC_WRITE), size, v->c.gpr[r]);
	gpr_set(v, RSP, v->stack_bits / 8, true, sp - 8 * size);
}

static void h_popa(struct ivcpu *v, const struct x86_insn *i)
{
	uint64_t sp = v->c.gpr[RSP], x[8];
	unsigned int size = i->stacksize;

	for (unsigned int r = 0; r < 8; r++)
		x[7 - r] = lin_ld(v, stack_linear(v, sp + r * size, size, ACC_READ), size);
	for (unsigned int r = 0; r < 8; r++) {
		if (r != RSP)
			gpr_set(v, r, size, true, x[r]);
	}
	gpr_set(v, RSP, v->stack_bits / 8, true, sp + 8 * size);
}

/*
 * SDM vol. 2, ENTER: nesting levels copy frame pointers, one after the other, so that one may be
 * what was just pushed.  All that can fault is looked at before the first is written, a write at
 * the new RSP last.
 */
static void h_enter(struct ivcpu *v, const struct x86_insn *i)
{
	unsigned int size = i->stacksize, level = (unsigned int)i->imm[1] & 31;
	uint64_t frame = v->c.gpr[RSP] - size, bp = v->c.gpr[RBP], lin;
	uint64_t sp = frame - level * size - (uint16_t)i->imm[0];

	for (unsigned int k = 1; k < level; k++) {
		lin = stack_linear(v, bp - k * size, size, ACC_READ);
		lin_check_align(v, lin, size);
		lin_probe(v, lin, size, ACC_READ);
	}
	for (unsigned int k = 0; k <= level; k++)
		lin_probe(v, stack_linear(v, frame - k * size, size, ACC_WRITE), size, ACC_WRITE);
	lin_probe(v, stack_linear(v, sp, size, ACC_WRITE), size, ACC_WRITE);
	for (unsigned int k = 0; k <= level; k++) {
		uint64_t x = k == 0 ? bp : frame;

		if (k > 0 && k < level)
			x = lin_ld(v, stack_linear(v, bp - k * size, size, ACC_READ), size);
		lin_st(v, stack_linear(v, frame - k * size, size, ACC_WRITE), size, x);
	}
	/* RBP takes the operand size's part of the frame pointer. */
	gpr_set(v, RBP, size, true, frame);
	gpr_set(v, RSP, v->stack_bits / 8, true, sp);
}

static void h_leave(struct ivcpu *v, const struct x86_insn *i)
{
	uint64_t bp = v->c.gpr[RBP], x;

	x = lin_ld(v, stack_linear(v, bp, i->stacksize, ACC_READ), i->stacksize);
	gpr_set(v, RSP, v->stack_bits / 8, true, bp + i->stacksize);
	gpr_set(v, RBP, i->stacksize, true, x);
}

/* --- choosing --- */

struct slow_handler flow_lookup(const struct ivcpu *v, const struct x86_insn *i)
{
	unsigned int op = i->opcode, ext = i->modrm >> 3 & 7;
	struct slow_handler end = {.flags = SLOW_ENDS_BLOCK}, plain = {0};

	if (i->encoding != INSN_LEGACY || (i->prefixes & PFX_LOCK))
		return plain;
	if (i->map == 1 && op >> 4 == 8)
		end.fn = h_jcc;
	if (i->map != 0)
		return end.fn ? end : plain;
	if (op >> 4 == 7)
		end.fn = h_jcc;
	else if (op == 0xe9 || op == 0xeb || (op == 0xff && ext == 4))
		end.fn = h_jmp;
	else if (op == 0xe8 || (op == 0xff && ext == 2))
		end.fn = h_call;
	else if (op == 0xc2 || op == 0xc3)
		end.fn = h_ret;
	else if (op == 0xe3)
		end.fn = h_jcxz;
	else if (op >= 0xe0 && op <= 0xe2)
		end.fn = h_loop;
	if (end.fn)
		return end;
	if (op >> 3 == 0x50 >> 3 || op == 0x68 || op == 0x6a || (op == 0xff && ext == 6))
		plain.fn = h_push;
	else if (op >> 3 == 0x58 >> 3 || (op == 0x8f && ext == 0))
		plain.fn = h_pop;
	else if (op == 0x60)
		plain.fn = h_pusha;
	else if (op == 0x61)
		plain.fn = h_popa;
	else if (op == 0xc8)
		plain.fn = h_enter;
	else if (op == 0xc9)
		plain.fn = h_leave;
	return plain;
}
