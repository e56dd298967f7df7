/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/jit/group.c - accesses of a block that are near each other share one look at the TLB
 *
 * Compiled code goes to its stack frame, or to an object, again and again by the same value and
 * different constants.  Such accesses form a group: the first one checks the whole stretch, with
 * the right to write if any of them writes, and keeps the addend in jx.held.  When that fails - the
 * stretch crosses a page, or its page is not in the TLB, or may not be written - the block goes on
 * in a second copy of its code, in which every access checks for itself.
 *
 * The value may move to other registers, and constants be added (PUSH, ADD RSP, 8): the group comes
 * along.  All groups end at everything that calls C, which may change the TLB.
 */
#include "engine/jit/jit_priv.h"

#define MAX_SPAN 256 /* bytes: one in sixteen of such a length crosses a page */

#define MAX_VALUES (16u + 2u * JIT_MAX_INSNS)

/* A register is one of the values that are known, and a constant. */
struct scan {
	unsigned int value[16];
	int64_t moved[16];
	int8_t group[MAX_VALUES]; /* open one, -1 = none */
	unsigned int n_values;
};

/* @r is something new.  What there are no numbers for shares the last, which has no group. */
static void forget(struct scan *s, unsigned int r)
{
	if (s->n_values < MAX_VALUES - 1)
		s->n_values++;
	s->value[r] = s->n_values;
	s->moved[r] = 0;
}

static void forget_all(struct scan *s)
{
	memset(s->group, -1, sizeof(s->group));
	s->n_values = 0;
	for (unsigned int r = 0; r < 16; r++)
		forget(s, r);
}

static void follow(struct scan *s, unsigned int r, unsigned int from, int64_t add)
{
	s->value[r] = s->value[from];
	s->moved[r] = s->moved[from] + add;
}

static void join(struct tr *t, struct scan *s, unsigned int base, int64_t disp, unsigned int size,
		 bool write, struct member *ret)
{
	int64_t lo = s->moved[base] + disp, hi = lo + size;
	int8_t *open = &s->group[s->value[base]];
	struct group *g;

	if (lo < INT32_MIN + 64 || hi > INT32_MAX - 64 || s->value[base] == MAX_VALUES - 1)
		return;
	ret->moved = (int32_t)s->moved[base];

	if (*open >= 0) {
		int64_t a, b;

		g = &t->group[*open];
		a = MIN(g->lo, lo);
		b = MAX(g->hi, hi);
		if (b - a <= MAX_SPAN) {
			g->lo = a;
			g->hi = b;
			g->write |= write;
			g->members++;
			ret->group = *open;
			return;
		}
	}
	if (t->n_groups == ARRAY_SIZE(t->group)) {
		*open = -1;
		return;
	}
	*open = (int8_t)t->n_groups;
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

/* A register that gets another one and a constant; false = another instruction. */
static bool scan_copy(const struct tr *t, struct scan *s)
{
	const ZydisDecodedOperand *to = &t->ops[0], *from = &t->ops[1];
	unsigned int r;

	if (t->z->operand_width != 64 || t->z->operand_count_visible != 2 ||
	    to->type != ZYDIS_OPERAND_TYPE_REGISTER || !tr_is_gpr(to->reg.value))
		return false;
	r = tr_gpr_of(to->reg.value);
	switch (t->z->mnemonic) {
	case ZYDIS_MNEMONIC_ADD:
	case ZYDIS_MNEMONIC_SUB:
		if (from->type != ZYDIS_OPERAND_TYPE_IMMEDIATE)
			return false;
		s->moved[r] +=
		    t->z->mnemonic == ZYDIS_MNEMONIC_ADD ? from->imm.value.s : -from->imm.value.s;
		return true;
	case ZYDIS_MNEMONIC_MOV:
		if (from->type != ZYDIS_OPERAND_TYPE_REGISTER || !tr_is_gpr(from->reg.value))
			return false;
		follow(s, r, tr_gpr_of(from->reg.value), 0);
		return true;
	case ZYDIS_MNEMONIC_LEA:
		if (!t->wide || t->i->addrsize != 8 || t->i->base >= 16 || t->i->index != REG_NONE)
			return false;
		follow(s, r, t->i->base, t->i->disp);
		return true;
	default:
		return false;
	}
}

static void track(const struct tr *t, struct scan *s)
{
	if (scan_copy(t, s))
		return;
	for (unsigned int i = 0; i < t->z->operand_count; i++) {
		const ZydisDecodedOperand *o = &t->ops[i];

		if (o->type == ZYDIS_OPERAND_TYPE_REGISTER &&
		    (o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) && tr_is_gpr(o->reg.value))
			forget(s, tr_gpr_of(o->reg.value));
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
			forget(s, tr_gpr_of(t->ops[0].reg.value));
		return true;
	case ZYDIS_MNEMONIC_LEAVE:
		join(t, s, RBP, 0, 8, false, ret);
		follow(s, RSP, RBP, 8);
		forget(s, RBP);
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
	struct scan s;
	bool any = false;

	forget_all(&s);
	t->n_groups = 0;
	for (t->k = 0; t->k < t->b->n; t->k++) {
		t->of[t->k].operand.group = t->of[t->k].stack.group = -1;
		if (!tr_decode(t))
			return false;
		if (tr_calls_c(t))
			forget_all(&s);
		else
			scan_insn(t, &s);
	}
	for (unsigned int g = 0; g < t->n_groups; g++)
		any |= t->group[g].members > 1;
	return any;
}
