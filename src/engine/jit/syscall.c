/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/jit/syscall.c - stubs for SYSCALL and 64-bit SYSRET (SDM vol. 2)
 *
 * The same as the handlers in interp/sys_call.c and interp_mode_changed(), for what a 64-bit kernel
 * does with them: from user code with paging's and alignment's ways unchanged.  In all other cases
 * the stubs go to the call stub, having changed nothing.
 *
 * In: ECX = what to tell for the instruction; SYSCALL: R11 = address behind it.
 */
#include "engine/jit/jit_priv.h"

#include "engine/interp/sys.h"

#define LONG_KEY ((uint32_t)INSN_64 | (uint32_t)MODE_LONG << 2 | 64u << 9 | (uint32_t)KEY_CS_FLAT)

bool jit_has_long_key(const struct block *b)
{
	return (b->key & ~KEY_SET(3)) == LONG_KEY;
}

/* Goes on if RCX is 0, else to the handler. */
static void else_handler(struct emit *e, const struct jit *j)
{
	uint8_t *zero = emit_jrcxz(e);

	emit_load(e, RCX, rm_gs(GS(jx.resume)));
	emit_jmp(e, j->call_end);
	emit_here(e, zero);
}

static void require_sce(struct emit *e, const struct jit *j)
{
	emit_load(e, RCX, rm_gs(GS(c.efer)));
	emit_op(e, true, 0xf7, 2, rm_reg(RCX)); /* NOT */
	emit_pext(e, RCX, RCX, rm_gs(GS(jx.sce_mask)));
	else_handler(e, j);
}

static void store32(struct emit *e, int32_t off, uint32_t x)
{
	emit_op(e, false, 0xc7, 0, rm_gs(off));
	emit32(e, x);
}

static void store8(struct emit *e, int32_t off, unsigned int x)
{
	emit_op(e, false, 0xc6, 0, rm_gs(off));
	emit8(e, x);
}

/* AND (4), OR (1) or ADD (0) with a constant. */
static void op32(struct emit *e, unsigned int ext, unsigned int reg, uint32_t x)
{
	emit_op(e, false, 0x81, ext, rm_reg(reg));
	emit32(e, x);
}

static void shift32(struct emit *e, unsigned int ext, unsigned int reg, unsigned int n)
{
	emit_op(e, false, 0xc1, ext, rm_reg(reg));
	emit8(e, n);
}

static int32_t seg_off(unsigned int seg, size_t field)
{
	return (int32_t)(offsetof(struct ivcpu, c.seg) + seg * sizeof(struct cpu_segment) + field);
}

static void set_selector(struct emit *e, unsigned int seg)
{
	emit8(e, 0x66);
	emit_op(e, false, 0x89, RAX, rm_gs(seg_off(seg, offsetof(struct cpu_segment, sel))));
}

/* AMD's SYSRET: the selector in AX and the level change, nothing else. */
static void level_of_ss(struct emit *e)
{
	set_selector(e, SEG_SS);
	emit_op(e, false, 0x81, 1, rm_gs(seg_off(SEG_SS, offsetof(struct cpu_segment, attr))));
	emit32(e, 3u << SEG_DPL_SHIFT);
}

/* A flat segment with the selector in AX. */
static void flat(struct emit *e, unsigned int seg, uint32_t attr)
{
	emit_op(e, true, 0xc7, 0, rm_gs(seg_off(seg, offsetof(struct cpu_segment, base))));
	emit32(e, 0);
	store32(e, seg_off(seg, offsetof(struct cpu_segment, limit)), UINT32_MAX);
	store32(e, seg_off(seg, offsetof(struct cpu_segment, attr)), attr);
	set_selector(e, seg);
}

/* What interp_mode_changed() derives; RAX is lost. */
static void set_level(struct emit *e, struct ivcpu *v, unsigned int cpl)
{
	enum tlb_set set = cpl ? TLB_USER : TLB_SUPER;

	store8(e, GS(cpl), cpl);
	store8(e, GS(tlb_set), set);
	store32(e, GS(block_key), LONG_KEY | KEY_SET(set));
	store32(e, GS(run_key), LONG_KEY | KEY_SET(set));
	if (cpl) {
		emit_op(e, false, 0x8b, RAX, rm_gs(GS(c.cr4)));
		op32(e, 4, RAX, CR4_TSD);
		shift32(e, 5, RAX, (unsigned int)__builtin_ctz(CR4_TSD));
		emit_op(e, false, 0x88, RAX, rm_gs(GS(jx.tsc_block)));
		emit_load(e, RAX, rm_gs(GS(as_slot)));
		emit_lea(e, RAX, rm_base(RAX, (int32_t)offsetof(struct as_slot, user)));
	} else {
		store8(e, GS(jx.tsc_block), 0);
		emit8(e, 0x48);
		emit8(e, 0xb8); /* MOV RAX, imm64 */
		emit64(e, (uintptr_t)&v->super);
	}
	emit_store(e, RAX, rm_gs(GS(tlb)));
}

void jit_require_key(struct emit *e, const struct jit *j, int32_t jumps, uint32_t key)
{
	uint8_t *same;

	emit_op(e, false, 0x8b, RCX, rm_gs(jumps + (int32_t)offsetof(struct jumps, key)));
	emit_lea(e, RCX, rm_base(RCX, -(int32_t)key));
	same = emit_jrcxz(e);
	emit_jmp(e, j->leave);
	emit_here(e, same);
}

/* Host flags and c.rflags from ECX, RAX from where it was put; then to the address in R11. */
static void go_on(struct emit *e, const struct ivcpu *v, const struct jit *j, int32_t jumps,
		  enum tlb_set set)
{
	emit_store(e, RCX, rm_gs(GS(c.rflags)));
	emit_op(e, false, 0x8b, RAX, rm_reg(RCX));
	shift32(e, 5, RAX, 11);
	op32(e, 4, RAX, 1);
	emit8(e, 0x88); /* MOV AH, CL */
	emit8(e, 0xcc);
	emit8(e, 0x04); /* ADD AL, 7F: OF */
	emit8(e, 0x7f);
	emit8(e, 0x9e); /* SAHF */
	emit_load(e, RAX, rm_gs(GS(jx.saved)));
	jit_require_key(e, j, jumps, LONG_KEY | KEY_SET(set));
	jit_jump_cached(v, e, jumps, true, 0);
	emit_jmp(e, j->leave);
}

void jit_make_syscall(struct emit *e, struct ivcpu *v, const struct jit *j)
{
	emit_store(e, RCX, rm_gs(GS(jx.resume)));
	require_sce(e, j);
	/* Alignment checks in user code go with the TLB's contents; TF needs a step. */
	emit_load(e, RCX, rm_gs(GS(c.rflags)));
	emit_pext(e, RCX, RCX, rm_gs(GS(jx.ac_tf_mask)));
	else_handler(e, j);
	emit_mov(e, jit_host(RCX), R11);
	/* The guest's R11 and ECX = RFLAGS, the arithmetic ones from the host */
	emit_store(e, RAX, rm_gs(GS(jx.saved)));
	emit8(e, 0x9f); /* LAHF; SETO AL */
	emit_0f(e, 0x90, 0, rm_reg(RAX));
	emit8(e, 0x0f); /* MOVZX ECX, AL */
	emit8(e, 0xb6);
	emit8(e, 0xc8);
	shift32(e, 4, RCX, 11);
	emit8(e, 0x08); /* OR CL, AH */
	emit8(e, 0xe1);
	emit_op(e, false, 0x8b, RAX, rm_gs(GS(c.rflags)));
	op32(e, 4, RAX, ~(uint32_t)(FL_ARITH | FL_RF));
	emit_op(e, false, 0x09, RAX, rm_reg(RCX));
	emit_store(e, RCX, rm_gs(GS_GPR(R11)));
	emit_op(e, false, 0x8b, RAX, rm_gs(GS(c.sfmask)));
	emit_op(e, false, 0xf7, 2, rm_reg(RAX)); /* NOT */
	emit_op(e, false, 0x21, RAX, rm_reg(RCX));
	op32(e, 1, RCX, FL_ONE);
	emit_0f(e, 0xb7, RAX, rm_gs(GS(c.star) + 4)); /* MOVZX */
	op32(e, 4, RAX, 0xfffc);
	flat(e, SEG_CS, FLAT_CODE64(0u));
	op32(e, 0, RAX, 8);
	flat(e, SEG_SS, FLAT_DATA(0u));
	set_level(e, v, 0);
	emit_load(e, R11, rm_gs(GS(c.lstar)));
	go_on(e, v, j, GS(kernel_jumps), TLB_SUPER);
}

void jit_make_sysret(struct emit *e, struct ivcpu *v, const struct jit *j)
{
	emit_store(e, RCX, rm_gs(GS(jx.resume)));
	require_sce(e, j);
	emit_load8(e, RCX, rm_gs(GS(want_irq)));
	else_handler(e, j);
	emit_load(e, RCX, rm_gs(GS_GPR(R11)));
	emit_pext(e, RCX, RCX, rm_gs(GS(jx.ac_tf_mask)));
	else_handler(e, j);
	emit_pext(e, RCX, jit_host(RCX), rm_gs(GS(jx.upper_mask)));
	else_handler(e, j);
	emit_store(e, RAX, rm_gs(GS(jx.saved)));
	emit_op(e, false, 0x8b, RCX, rm_gs(GS_GPR(R11)));
	op32(e, 4, RCX, SYSRET_FLAGS);
	op32(e, 1, RCX, FL_ONE);
	emit_0f(e, 0xb7, RAX, rm_gs(GS(c.star) + 6)); /* MOVZX */
	op32(e, 0, RAX, 16);
	op32(e, 1, RAX, 3);
	flat(e, SEG_CS, FLAT_CODE64(3u));
	emit_0f(e, 0xb7, RAX, rm_gs(GS(c.star) + 6));
	op32(e, 0, RAX, 8);
	op32(e, 1, RAX, 3);
	if (v->vcpu.en->model.vendor == VENDOR_AMD)
		level_of_ss(e);
	else
		flat(e, SEG_SS, FLAT_DATA(3u));
	set_level(e, v, 3);
	emit_mov(e, R11, jit_host(RCX));
	go_on(e, v, j, (int32_t)(ivcpu_slot_offset() + offsetof(struct as_slot, jumps)), TLB_USER);
}
