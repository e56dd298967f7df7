/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/jit/flags.c - flags that can be made again
 *
 * A look-up that compares by CMP costs less than one by JRCXZ, which jumps whenever the page is
 * found, but spends the guest's flags.  That is no loss as long as they can be computed again from
 * what is there: CMP and TEST of registers leave their operands alone, of ADD and SUB one can be
 * found from the other and the result, and logic sets flags by the result only.
 *
 * So translation remembers what the flags are (t->flags) and whether the host's still are that
 * (t->flags_spent).  Spent flags are made again before an instruction that needs them, or may leave
 * the code in another way than by a miss, or changes what they are made of; and in the cold code of
 * every look-up that misses.  Wherever code is left, the host's flags are the guest's.
 */
#include "engine/jit/jit_priv.h"

/* Writes all six, reads none. */
static bool sets_flags(const struct tr *t)
{
	switch (t->z->mnemonic) {
	case ZYDIS_MNEMONIC_ADD:
	case ZYDIS_MNEMONIC_SUB:
	case ZYDIS_MNEMONIC_CMP:
	case ZYDIS_MNEMONIC_TEST:
	case ZYDIS_MNEMONIC_AND:
	case ZYDIS_MNEMONIC_OR:
	case ZYDIS_MNEMONIC_XOR:
		return tr_is_plain(t);
	default:
		return false;
	}
}

/* Neither reads nor writes any; leaves by a miss only. */
static bool keeps_flags(const struct tr *t)
{
	switch (t->z->mnemonic) {
	case ZYDIS_MNEMONIC_MOV:
	case ZYDIS_MNEMONIC_MOVZX:
	case ZYDIS_MNEMONIC_MOVSX:
	case ZYDIS_MNEMONIC_MOVSXD:
	case ZYDIS_MNEMONIC_LEA:
	case ZYDIS_MNEMONIC_NOP:
		return tr_is_plain(t);
	case ZYDIS_MNEMONIC_PUSH:
	case ZYDIS_MNEMONIC_POP:
		return t->wide && t->u->fn != op_slow && t->u->fn != op_slow_end &&
		       t->u->fn != op_ud && t->ops[0].type != ZYDIS_OPERAND_TYPE_MEMORY;
	default:
		return false;
	}
}

/* Host register of an operand that has one, of 8 low, 32 or 64 bits. */
static bool host_operand(const ZydisDecodedOperand *o, uint8_t *ret)
{
	unsigned int h;

	if (o->type != ZYDIS_OPERAND_TYPE_REGISTER || !tr_is_gpr(o->reg.value) || o->size == 16 ||
	    (o->reg.value >= ZYDIS_REGISTER_AH && o->reg.value <= ZYDIS_REGISTER_BH))
		return false;
	h = jit_host(tr_gpr_of(o->reg.value));
	*ret = (uint8_t)h;
	return h != HOST_MEM;
}

/* A displacement, even if all of a block's PUSH and POP move RSP. */
static bool fits(int32_t imm)
{
	return imm > INT32_MIN + 8 * JIT_MAX_INSNS && imm < INT32_MAX - 8 * JIT_MAX_INSNS;
}

/* PUSH and POP move what ADD or SUB left in RSP. */
static int32_t moves_rsp(const struct tr *t)
{
	bool push = t->z->mnemonic == ZYDIS_MNEMONIC_PUSH;

	if ((!push && t->z->mnemonic != ZYDIS_MNEMONIC_POP) || t->flags.a != RSP ||
	    !t->flags.has_imm || t->flags.of < FLAGS_ADD || t->flags.size != 8 ||
	    (t->ops[0].type == ZYDIS_OPERAND_TYPE_REGISTER &&
	     t->ops[0].reg.value == ZYDIS_REGISTER_RSP))
		return 0;
	return push ? -8 : 8;
}

/* What the flags are behind an instruction that sets them. */
static struct flags flags_behind(const struct tr *t)
{
	const ZydisDecodedOperand *a = &t->ops[0], *b = &t->ops[1];
	struct flags f = {.size = (uint8_t)(a->size / 8u)};
	bool imm = b->type == ZYDIS_OPERAND_TYPE_IMMEDIATE, reg;

	if (!host_operand(a, &f.a))
		return (struct flags){0};
	reg = host_operand(b, &f.b);
	f.imm = imm ? (int32_t)b->imm.value.s : 0;
	f.has_imm = imm;
	switch (t->z->mnemonic) {
	case ZYDIS_MNEMONIC_CMP:
		f.of = imm || reg ? FLAGS_CMP : FLAGS_UNKNOWN;
		break;
	case ZYDIS_MNEMONIC_TEST:
		f.of = imm || reg ? FLAGS_TEST : FLAGS_UNKNOWN;
		break;
	case ZYDIS_MNEMONIC_ADD:
		if (imm && f.size > 1 && fits(f.imm))
			f.of = FLAGS_ADD;
		break;
	case ZYDIS_MNEMONIC_SUB:
		if (f.size > 1 && (imm ? fits(f.imm) : reg && f.a != f.b))
			f.of = FLAGS_SUB;
		break;
	default: /* AND, OR, XOR: TEST of the result with itself */
		f.of = FLAGS_TEST;
		f.has_imm = false;
		f.b = f.a;
		break;
	}
	return f;
}

static void emit_pair(struct emit *e, const struct flags *f, unsigned int opcode,
		      unsigned int extension, unsigned int a)
{
	struct form form = {.w = f->size == 8, .rex = f->size == 1};
	struct rm rm = rm_reg(a);

	if (!f->has_imm) {
		form.opcode = (uint8_t)(opcode | (f->size > 1));
		emit_insn(e, &form, f->b, &rm);
		return;
	}
	form.opcode = (uint8_t)((opcode == 0x84 ? 0xf6 : 0x80) | (f->size > 1));
	emit_insn(e, &form, extension, &rm);
	if (f->size == 1)
		emit8(e, (uint8_t)f->imm);
	else
		emit32(e, (uint32_t)f->imm);
}

void tr_make_flags(struct emit *e, const struct flags *f)
{
	bool w = f->size == 8;

	switch (f->of) {
	case FLAGS_UNKNOWN:
		break;
	case FLAGS_CMP:
		emit_pair(e, f, 0x38, 7, f->a);
		break;
	case FLAGS_TEST:
		emit_pair(e, f, 0x84, 0, f->a);
		break;
	case FLAGS_SUB: /* what it was subtracted from */
		emit_op(e, w, 0x8d, HOST_T0,
			f->has_imm ? rm_base(f->a, f->imm - f->moved) : rm_index(f->a, f->b, 0));
		emit_pair(e, f, 0x38, 7, HOST_T0);
		break;
	case FLAGS_ADD: /* what it was added to */
		emit_op(e, w, 0x8d, HOST_T0, rm_base(f->a, -f->imm - f->moved));
		emit_pair(e, f, 0x00, 0, HOST_T0);
		break;
	}
}

void tr_flags_again(struct tr *t)
{
	if (t->flags_spent)
		tr_make_flags(&t->e, &t->flags);
	t->flags_spent = false;
}

/* Does the instruction change what the flags are made of? */
static bool overwrites(const struct tr *t)
{
	for (unsigned int i = 0; i < t->z->operand_count; i++) {
		const ZydisDecodedOperand *o = &t->ops[i];
		unsigned int h;

		if (o->type != ZYDIS_OPERAND_TYPE_REGISTER || !tr_is_gpr(o->reg.value) ||
		    !(o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
			continue;
		h = jit_host(tr_gpr_of(o->reg.value));
		if (h == t->flags.a || (!t->flags.has_imm && h == t->flags.b))
			return true;
	}
	return false;
}

void tr_flags_before(struct tr *t)
{
	bool sets = sets_flags(t);

	if (sets || (keeps_flags(t) && (!overwrites(t) || moves_rsp(t))))
		return;
	tr_flags_again(t);
	if (t->z->meta.category != ZYDIS_CATEGORY_COND_BR)
		t->flags.of = FLAGS_UNKNOWN;
}

void tr_flags_behind(struct tr *t)
{
	if (sets_flags(t)) {
		t->flags = flags_behind(t);
		t->flags_spent = false;
	} else if (t->flags.of != FLAGS_UNKNOWN) {
		t->flags.moved += moves_rsp(t);
	}
}
