/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/jit/group.c - accesses of a block that are near each other share one look at the TLB
 *
 * Compiled code goes to its stack frame, or to an object, again and again by the same register and
 * different constants.  Such accesses form a group: the first one checks the whole stretch, with
 * the right to write if any of them writes, and keeps the addend in jx.held.  When that fails - the
 * stretch crosses a page, or its page is not in the TLB, or may not be written - the block goes on
 * in a second copy of its code, in which every access checks for itself.
 *
 * Constants that are added to the register (PUSH, ADD RSP, 8) move the group along.  A group ends
 * where the register gets another value, and at everything that calls C, which may change the TLB.
 */
#include "engine/jit/jit_priv.h"

#define MAX_SPAN 256 /* bytes: one in sixteen of such a length crosses a page */

/* What has been added to each register since the block began, and its open group. */
struct scan {
	int64_t moved[16];
	int group[16]; /* -1 = none */
};

static void close_groups(struct scan *s)
{
	for (unsigned int r = 0; r < 16; r++)
		s->group[r] = -1;
}

static void join(struct tr *t, struct scan *s, unsigned int base, int64_t disp, unsigned int size,
		 bool write, struct member *ret)
{
	int64_t lo = s->moved[base] + disp, hi = lo + size;
	struct group *g;

	if (lo < INT32_MIN + 64 || hi > INT32_MAX - 64)
		return;
	ret->moved = (int32_t)s->moved[base];

	if (s->group[base] >= 0) {
		int64_t a, b;

		g = &t->group[s->group[base]];
		a = MIN(g->lo, lo);
		b = MAX(g->hi, hi);
		if (b - a <= MAX_SPAN) {
			g->lo = a;
			g->hi = b;
			g->write |= write;
			g->members++;
			ret->group = (int8_t)s->group[base];
			return;
		}
	}
	if (t->n_groups == ARRAY_SIZE(t->group)) {
		s->group[base] = -1;
		return;
	}
	s->group[base] = (int)t->n_groups;
	g = &t->group[t->n_groups];
	*g = (struct group){.lo = lo, .hi = hi, .write = write, .members = 1};
	ret->group = (int8_t)t->n_groups++;
}

static const ZydisDecodedOperand *memory_of(const struct tr *t)
{
	for (unsigned int i = 0; i < t->z->operand_count_visible; i++) {
		if (t->ops[i].type == ZYDIS_OPERAND_TYPE_MEMORY)
			return &t->ops[i];
	}
	return NULL;
}

/* Registers that get a value; those that get a constant added are in @moved instead. */
static void track(const struct tr *t, struct scan *s)
{
	bool add = t->z->mnemonic == ZYDIS_MNEMONIC_ADD, sub = t->z->mnemonic == ZYDIS_MNEMONIC_SUB;

	if ((add || sub) && t->z->operand_width == 64 &&
	    t->ops[0].type == ZYDIS_OPERAND_TYPE_REGISTER &&
	    t->ops[1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
		int64_t x = t->ops[1].imm.value.s;

		s->moved[ZydisRegisterGetId(t->ops[0].reg.value) & 15] += add ? x : -x;
		return;
	}
	for (unsigned int i = 0; i < t->z->operand_count; i++) {
		const ZydisDecodedOperand *o = &t->ops[i];

		if (o->type == ZYDIS_OPERAND_TYPE_REGISTER &&
		    (o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) && tr_is_gpr(o->reg.value))
			s->group[tr_gpr_of(o->reg.value)] = -1;
	}
}

/* PUSH, POP, CALL and RET on a 64-bit stack; false = another instruction. */
static bool scan_stack(struct tr *t, struct scan *s)
{
	struct member *ret = &t->of[t->k].stack;

	switch (t->z->mnemonic) {
	case ZYDIS_MNEMONIC_PUSH:
	case ZYDIS_MNEMONIC_CALL:
		join(t, s, RSP, -8, 8, true, ret);
		s->moved[RSP] -= 8;
		return true;
	case ZYDIS_MNEMONIC_POP:
		join(t, s, RSP, 0, 8, false, ret);
		s->moved[RSP] += 8;
		if (t->ops[0].type == ZYDIS_OPERAND_TYPE_REGISTER)
			s->group[tr_gpr_of(t->ops[0].reg.value)] = -1;
		return true;
	case ZYDIS_MNEMONIC_RET:
		join(t, s, RSP, 0, 8, false, ret);
		return true;
	default:
		return false;
	}
}

static void scan_insn(struct tr *t, struct scan *s)
{
	const ZydisDecodedOperand *m = memory_of(t);

	if (m && m->mem.type == ZYDIS_MEMOP_TYPE_MEM && tr_is_based(t) && t->i->index == REG_NONE &&
	    !(t->z->attributes & ZYDIS_ATTRIB_HAS_LOCK) && t->z->mnemonic != ZYDIS_MNEMONIC_XCHG)
		join(t, s, t->i->base, t->i->disp, m->size / 8u,
		     m->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE, &t->of[t->k].operand);
	if (!scan_stack(t, s))
		track(t, s);
}

bool tr_find_groups(struct tr *t)
{
	struct scan s = {0};
	bool any = false;

	close_groups(&s);
	t->n_groups = 0;
	for (t->k = 0; t->k < t->b->n; t->k++) {
		t->of[t->k].operand.group = t->of[t->k].stack.group = -1;
		if (!tr_decode(t))
			return false;
		if (tr_calls_c(t))
			close_groups(&s);
		else
			scan_insn(t, &s);
	}
	for (unsigned int g = 0; g < t->n_groups; g++)
		any |= t->group[g].members > 1;
	return any;
}
