/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/jit/string.c - REP MOVS and REP STOS inside one page
 *
 * The kernel copies and clears by them, mostly little or a whole page.  When all of an operand is
 * in a page of the TLB and goes upward, the host's own instruction does it on host addresses; the
 * handler does everything else.
 */
#include "engine/jit/jit_priv.h"

#define COUNT jit_host(RCX)

/* Byte, word, doubleword or quadword; 0 = another instruction. */
static unsigned int size_of(const struct tr *t)
{
	switch (t->z->mnemonic) {
	case ZYDIS_MNEMONIC_STOSB:
	case ZYDIS_MNEMONIC_MOVSB:
		return 1;
	case ZYDIS_MNEMONIC_STOSW:
	case ZYDIS_MNEMONIC_MOVSW:
		return 2;
	case ZYDIS_MNEMONIC_STOSD:
	case ZYDIS_MNEMONIC_MOVSD:
		return t->i->opcode == 0xa5 || t->i->opcode == 0xab ? 4 : 0; /* not SSE's */
	case ZYDIS_MNEMONIC_STOSQ:
	case ZYDIS_MNEMONIC_MOVSQ:
		return 8;
	default:
		return 0;
	}
}

static bool is_string(const struct tr *t)
{
	return t->wide && t->u->fn == op_slow && (t->i->prefixes & (PFX_REP | PFX_REPNE)) &&
	       t->i->addrsize == 8 && t->i->seg < SEG_FS && t->i->map == 0 && size_of(t);
}

/* Goes on if RCX is 0, else to the handler, and from there to behind the instruction. */
static void else_handler(struct tr *t, struct cold **list, unsigned int *n)
{
	uint8_t *hit = emit_jrcxz(&t->e);

	emit_jmp(&t->e, 0);
	list[(*n)++] = tr_cold(t, t->j->call, jit_uop_code(t->j, t->u), 0, -1);
	emit_here(&t->e, hit);
}

static void page_of(struct tr *t, unsigned int reg)
{
	emit_pext(&t->e, HOST_T0, reg, rm_gs(GS(jx.tlb_mask)));
}

/* Are the first byte at [@reg] and the last of the operand in the page that the TLB has there? */
static void check_ends(struct tr *t, unsigned int reg, bool write, struct cold **list,
		       unsigned int *n)
{
	struct rm end = rm_index(HOST_T0, COUNT, 0);

	end.scale = (uint8_t)size_of(t);
	for (unsigned int last = 0; last < 2; last++) {
		page_of(t, reg);
		emit_load(&t->e, HOST_T0, tr_tag(t, write));
		emit_lea(&t->e, HOST_T0, rm_index(HOST_T0, reg, last ? -1 : 0));
		if (last)
			emit_lea(&t->e, HOST_T0, end);
		emit_pext(&t->e, HOST_T0, HOST_T0, rm_gs(GS(jx.page_mask)));
		else_handler(t, list, n);
	}
}

/* @reg to a host address by the addend, which goes to R11. */
static void to_host(struct tr *t, unsigned int reg)
{
	page_of(t, reg);
	emit_load(&t->e, HOST_T1, tr_addend(t));
	emit_lea(&t->e, reg, rm_index(reg, HOST_T1, -TLB_BIAS));
}

/* And back, by the addend in R11. */
static void to_guest(struct tr *t, unsigned int reg)
{
	emit_op(&t->e, true, 0xf7, 2, rm_reg(HOST_T1)); /* NOT */
	emit_lea(&t->e, reg, rm_index(reg, HOST_T1, TLB_BIAS + 1));
}

static void execute(struct tr *t, unsigned int size, bool movs)
{
	if (movs) {
		to_host(t, RSI);
		emit_store(&t->e, HOST_T1, rm_gs(GS(jx.saved)));
	}
	to_host(t, RDI);
	emit_mov(&t->e, RCX, COUNT);
	emit8(&t->e, 0xf3);
	if (size == 2)
		emit8(&t->e, 0x66);
	if (size == 8)
		emit8(&t->e, 0x48);
	emit8(&t->e, (movs ? 0xa4u : 0xaau) | (size > 1));
	emit_mov(&t->e, COUNT, RCX);
	to_guest(t, RDI);
	if (movs) {
		emit_load(&t->e, HOST_T1, rm_gs(GS(jx.saved)));
		to_guest(t, RSI);
	}
}

bool tr_string(struct tr *t)
{
	bool movs = t->i->opcode == 0xa4 || t->i->opcode == 0xa5;
	struct cold *list[6];
	unsigned int n = 0;

	if (!is_string(t))
		return false;
	emit_load(&t->e, HOST_T0, rm_gs(GS(c.rflags)));
	emit_pext(&t->e, HOST_T0, HOST_T0, rm_gs(GS(jx.df_mask)));
	else_handler(t, list, &n);
	/* So that its product with the size does not wrap. */
	emit_pext(&t->e, HOST_T0, COUNT, rm_gs(GS(jx.page_mask)));
	else_handler(t, list, &n);
	check_ends(t, RDI, true, list, &n);
	if (movs)
		check_ends(t, RSI, false, list, &n);
	execute(t, size_of(t), movs);
	while (n--)
		list[n]->back = emit_at(&t->e);
	t->sse_ready = t->avx_ready = t->x87_ready = false;
	return true;
}
