/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/jit/system.c - CLI, STI, STAC, CLAC, PUSHF, SWAPGS and MOV from CR2 of a 64-bit kernel,
 * CLD, RDTSC, MOV from a segment register, and (by syscall.c) SYSCALL and SYSRET, without a call
 *
 * Blocks of the supervisor's TLB sets run at CPL 0 (KEY_CPL_1_2 keeps others away).  What changes
 * the host's flags puts the guest's away in v->af meanwhile, and RAX in jx.saved.
 */
#include "engine/interp/sys.h"
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

/* Goes on if the byte at @off is 0, else leaves the instruction to the interpreter. */
static void unless(struct tr *t, int32_t off)
{
	uint8_t *zero;

	emit_load8(&t->e, HOST_T0, rm_gs(off));
	zero = emit_jrcxz(&t->e);
	emit_jmp(&t->e, 0);
	tr_cold_exit(t, t->u);
	emit_here(&t->e, zero);
}

static void store32(struct tr *t, int32_t off, uint32_t x)
{
	emit_op(&t->e, false, 0xc7, 0, rm_gs(off));
	emit32(&t->e, x);
}

/*
 * STAC in the supervisor's set, CLAC in the other: with SMAP, the set says what AC is.  What
 * interp_mode_changed() would set, then to the code that was translated for the other set.
 */
static void switch_set(struct tr *t, enum tlb_set set)
{
	bool ac = set == TLB_SUPER_AC;
	uint32_t key = (t->b->key & ~KEY_SET(3)) | KEY_SET(set);

	unless(t, GS(jx.smap_off));
	emit_load(&t->e, HOST_T0, rm_gs(GS(c.rflags)));
	emit_lea(&t->e, HOST_T0, rm_base(HOST_T0, ac ? FL_AC : -FL_AC));
	emit_store(&t->e, HOST_T0, rm_gs(GS(c.rflags)));
	emit_op(&t->e, false, 0xc6, 0, rm_gs(GS(tlb_set)));
	emit8(&t->e, set);
	store32(t, GS(block_key), key);
	store32(t, GS(run_key), key);
	if (ac) {
		emit_load(&t->e, HOST_T0, rm_gs(GS(as_slot)));
		emit_lea(&t->e, HOST_T0, rm_base(HOST_T0, (int32_t)offsetof(struct as_slot, ac)));
	} else {
		emit8(&t->e, 0x48);
		emit8(&t->e, 0xb9); /* MOV RCX, imm64 */
		emit64(&t->e, (uintptr_t)&t->v->super);
	}
	emit_store(&t->e, HOST_T0, rm_gs(GS(tlb)));
	tr_page_address(t, t->u->off + t->u->len);
	jit_require_key(&t->e, t->j, ac ? GS(ac_jumps) : GS(kernel_jumps), key);
	jit_jump_cached(t->v, &t->e, ac ? GS(ac_jumps) : GS(kernel_jumps), true, 0);
	emit_jmp(&t->e, t->j->leave);
}

/* CLAC where AC is clear already, as at the start of every fault's handler. */
static void clac_again(struct tr *t)
{
	unless(t, GS(jx.smap_off));
	tr_goto(t, t->u->off + t->u->len, t->u, false);
}

/* Only if DF is set is there anything to do. */
static void cld(struct tr *t)
{
	uint8_t *clear;

	emit_load(&t->e, HOST_T0, rm_gs(GS(c.rflags)));
	emit_pext(&t->e, HOST_T0, HOST_T0, rm_gs(GS(jx.df_mask)));
	clear = emit_jrcxz(&t->e);
	emit_jmp(&t->e, 0);
	tr_cold_exit(t, t->u);
	emit_here(&t->e, clear);
}

/* What a MOV writes to its register: CR2, or a selector. */
static void mov_from(struct tr *t)
{
	unsigned int g = tr_gpr_of(t->ops[0].reg.value), h = jit_host(g);
	unsigned int to = h == HOST_MEM ? HOST_T0 : h;

	if (t->ops[1].reg.value == ZYDIS_REGISTER_CR2)
		emit_load(&t->e, to, rm_gs(GS(c.cr2)));
	else
		emit_0f(&t->e, 0xb7, to,
			rm_gs((int32_t)(offsetof(struct ivcpu, c.seg) +
					(t->i->reg & 7u) * sizeof(struct cpu_segment) +
					offsetof(struct cpu_segment, sel))));
	if (h == HOST_MEM)
		emit_store(&t->e, HOST_T0, rm_gs(GS_GPR(g)));
}

/* RORX reg, src, 32 */
static void rorx32(struct tr *t, unsigned int reg, unsigned int src)
{
	static const struct form f = {.vex = true, .map = 3, .opcode = 0xf0, .w = true, .pp = 3};
	struct rm rm = rm_reg(src);

	emit_insn(&t->e, &f, reg, &rm);
	emit8(&t->e, 32);
}

static void rdtsc(struct tr *t, bool aux)
{
	unless(t, GS(jx.tsc_block));
	emit8(&t->e, 0x0f);
	emit8(&t->e, 0x31);
	rorx32(t, HOST_T0, RDX);
	emit_lea(&t->e, HOST_T0, rm_index(HOST_T0, RAX, 0));
	emit_load(&t->e, HOST_T1, rm_gs(GS(c.tsc_offset)));
	emit_lea(&t->e, HOST_T0, rm_index(HOST_T0, HOST_T1, 0));
	emit_op(&t->e, false, 0x8b, RAX, rm_reg(HOST_T0));
	rorx32(t, RDX, HOST_T0);
	emit_op(&t->e, false, 0x8b, RDX, rm_reg(RDX));
	if (aux)
		emit_op(&t->e, false, 0x8b, jit_host(RCX), rm_gs(GS(c.tsc_aux)));
}

static bool is_kernels(const struct tr *t)
{
	uint8_t set = t->v->tlb_set;

	switch (t->z->mnemonic) {
	case ZYDIS_MNEMONIC_CLI:
	case ZYDIS_MNEMONIC_STI:
	case ZYDIS_MNEMONIC_SWAPGS:
	case ZYDIS_MNEMONIC_PUSHFQ:
		return set != TLB_USER && t->u->fn == op_slow;
	case ZYDIS_MNEMONIC_STAC:
		return set == TLB_SUPER && t->u->fn == op_slow_end;
	case ZYDIS_MNEMONIC_CLAC:
		return set != TLB_USER && t->u->fn == op_slow_end;
	case ZYDIS_MNEMONIC_MOV:
		return set != TLB_USER && t->u->fn == op_slow &&
		       t->ops[1].type == ZYDIS_OPERAND_TYPE_REGISTER &&
		       t->ops[1].reg.value == ZYDIS_REGISTER_CR2;
	case ZYDIS_MNEMONIC_SYSRET:
		return set == TLB_SUPER && t->u->fn == op_slow_end && t->i->opsize == 8 &&
		       jit_has_long_key(t->b);
	default:
		return false;
	}
}

static bool is_rdtsc(const struct tr *t)
{
	return t->u->fn == op_slow && !lockstep_is_chance(t) &&
	       (t->z->mnemonic == ZYDIS_MNEMONIC_RDTSC || t->z->mnemonic == ZYDIS_MNEMONIC_RDTSCP);
}

static bool is_anybodys(const struct tr *t)
{
	if (t->u->fn != op_slow)
		return false;
	return t->z->mnemonic == ZYDIS_MNEMONIC_CLD ||
	       (t->z->mnemonic == ZYDIS_MNEMONIC_MOV && t->u->slow == sys_mov_from_seg &&
		t->i->mod == 3 && t->i->opsize > 2);
}

static bool is_syscall(const struct tr *t)
{
	return t->u->fn == op_slow_end && t->z->mnemonic == ZYDIS_MNEMONIC_SYSCALL &&
	       t->v->tlb_set == TLB_USER && jit_has_long_key(t->b);
}

bool tr_is_system(const struct tr *t)
{
	return t->wide && (is_kernels(t) || is_syscall(t) || is_rdtsc(t) || is_anybodys(t));
}

bool tr_system(struct tr *t, bool *ends)
{
	if (!tr_is_system(t))
		return false;
	switch (t->z->mnemonic) {
	case ZYDIS_MNEMONIC_CLI:
		rflags_op(t, 4, ~(uint32_t)FL_IF);
		return true;
	case ZYDIS_MNEMONIC_STI:
		return sti(t);
	case ZYDIS_MNEMONIC_SWAPGS:
		swapgs(t);
		return true;
	case ZYDIS_MNEMONIC_PUSHFQ:
		pushfq(t);
		return true;
	case ZYDIS_MNEMONIC_SYSCALL:
		tr_page_address(t, t->u->off + t->u->len);
		emit_mov_imm32(&t->e, HOST_T0, jit_uop_code(t->j, t->u));
		emit_jmp(&t->e, t->j->syscall);
		*ends = true;
		return true;
	case ZYDIS_MNEMONIC_SYSRET:
		emit_mov_imm32(&t->e, HOST_T0, jit_uop_code(t->j, t->u));
		emit_jmp(&t->e, t->j->sysret);
		*ends = true;
		return true;
	case ZYDIS_MNEMONIC_STAC:
		switch_set(t, TLB_SUPER_AC);
		*ends = true;
		return true;
	case ZYDIS_MNEMONIC_CLAC:
		if (t->v->tlb_set == TLB_SUPER)
			clac_again(t);
		else
			switch_set(t, TLB_SUPER);
		*ends = true;
		return true;
	case ZYDIS_MNEMONIC_CLD:
		cld(t);
		return true;
	case ZYDIS_MNEMONIC_MOV:
		mov_from(t);
		return true;
	default:
		rdtsc(t, t->z->mnemonic == ZYDIS_MNEMONIC_RDTSCP);
		return true;
	}
}
