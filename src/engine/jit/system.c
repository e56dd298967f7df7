/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/jit/system.c - CLI, STI, PUSHF and SWAPGS of a 64-bit kernel, without a call
 *
 * Blocks of the supervisor's TLB set run at CPL 0 (KEY_CPL_1_2 keeps others away).  What changes
 * the host's flags puts the guest's away in v->af meanwhile, and RAX in jx.saved.
 */
#include "engine/jit/jit_priv.h"

static void put_flags_away(struct tr *t)
{
	emit_store(&t->e, RAX, rm_gs(GS(jx.saved)));
	emit8(&t->e, 0x9f); /* LAHF; SETO AL */
	emit_0f(&t->e, 0x90, 0, rm_reg(RAX));
}

static void get_flags_back(struct tr *t)
{
	emit8(&t->e, 0x04); /* ADD AL, 7F: OF */
	emit8(&t->e, 0x7f);
	emit8(&t->e, 0x9e); /* SAHF */
	emit_load(&t->e, RAX, rm_gs(GS(jx.saved)));
}

/* AND (4) or OR (1) with c.rflags. */
static void rflags_op(struct tr *t, unsigned int ext, uint32_t x)
{
	put_flags_away(t);
	emit_op(&t->e, false, 0x81, ext, rm_gs(GS(c.rflags)));
	emit32(&t->e, x);
	get_flags_back(t);
}

/*
 * The shadow is kept by not looking for interrupts before the next instruction, which is in this
 * block.  When one is waiting for the flag, or nothing follows, the handler has to do it.
 */
static bool sti(struct tr *t)
{
	uint8_t *nobody;

	if (t->k + 1u == t->b->n)
		return false;
	emit_load8(&t->e, HOST_T0, rm_gs(GS(want_irq)));
	nobody = emit_jrcxz(&t->e);
	emit_jmp(&t->e, 0);
	tr_cold_exit(t, t->u);
	emit_here(&t->e, nobody);
	rflags_op(t, 1, FL_IF);
	return true;
}

static void swapgs(struct tr *t)
{
	struct rm gs = rm_gs(GS(c.seg[SEG_GS].base)), kernel = rm_gs(GS(c.kernel_gs_base));

	emit_load(&t->e, HOST_T0, gs);
	emit_load(&t->e, HOST_T1, kernel);
	emit_store(&t->e, HOST_T0, kernel);
	emit_store(&t->e, HOST_T1, gs);
}

static void pushfq(struct tr *t)
{
	struct rm rm = tr_stack_room(t);

	emit_lea(&t->e, HOST_T1, rm);
	put_flags_away(t);
	emit8(&t->e, 0x66);
	emit_op(&t->e, false, 0x89, RAX, rm_gs(GS(af)));
	/* OF from AL, the others from AH, the rest from c.rflags */
	emit_load8(&t->e, HOST_T0, rm_gs(GS(af)));
	emit_op(&t->e, false, 0xc1, 4, rm_reg(HOST_T0));
	emit8(&t->e, 11);
	emit_op(&t->e, false, 0x0a, HOST_T0, rm_gs(GS(af) + 1));
	emit_op(&t->e, false, 0x8b, RAX, rm_gs(GS(c.rflags)));
	emit_op(&t->e, false, 0x81, 4, rm_reg(RAX));
	emit32(&t->e, ~(uint32_t)(FL_ARITH | FL_RF | FL_VM));
	emit_op(&t->e, false, 0x09, RAX, rm_reg(HOST_T0));
	emit_store(&t->e, HOST_T0, rm_base(HOST_T1, 0));
	emit_0f(&t->e, 0xb7, RAX, rm_gs(GS(af)));
	get_flags_back(t);
	emit_lea(&t->e, RSP, rm_base(RSP, -8));
}

bool tr_is_system(const struct tr *t)
{
	if (!t->wide || t->v->tlb_set != TLB_SUPER || t->u->fn != op_slow)
		return false;
	return t->z.mnemonic == ZYDIS_MNEMONIC_CLI || t->z.mnemonic == ZYDIS_MNEMONIC_STI ||
	       t->z.mnemonic == ZYDIS_MNEMONIC_SWAPGS || t->z.mnemonic == ZYDIS_MNEMONIC_PUSHFQ;
}

bool tr_system(struct tr *t)
{
	if (!tr_is_system(t))
		return false;
	switch (t->z.mnemonic) {
	case ZYDIS_MNEMONIC_CLI:
		rflags_op(t, 4, ~(uint32_t)FL_IF);
		return true;
	case ZYDIS_MNEMONIC_STI:
		return sti(t);
	case ZYDIS_MNEMONIC_SWAPGS:
		swapgs(t);
		return true;
	default:
		pushfq(t);
		return true;
	}
}
