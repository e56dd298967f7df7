/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/interp/ops_branch.c - micro-ops that end or leave blocks, near branches, push and pop
 *
 * A branch within its page goes to its target block by a pointer, checked by generation alone: the
 * page is the one we are running on.  All others look in the jump cache and check the page's
 * translation.  What isn't found there is left to the run loop, with c.rip set.
 *
 * Segments with a limit below 4 GiB, and 16-bit operand sizes, take the slow handlers in
 * ops_flow.c.
 */
#include "engine/interp/hot.h"

#include <Zydis/Zydis.h>

static struct jump_entry *jump_slot(struct ivcpu *v, uint64_t rip)
{
	return &v->jumps[(rip ^ rip >> JUMP_BITS) & ((1u << JUMP_BITS) - 1)];
}

void jump_cache_enter(struct ivcpu *v, uint64_t rip, struct block *b)
{
	struct jump_entry *je = jump_slot(v, rip);

	je->rip = rip;
	je->block = b;
}

struct block *jump_cache_find(struct ivcpu *v, uint64_t rip)
{
	const struct jump_entry *je = jump_slot(v, rip);
	uint64_t lin = v->mode == MODE_LONG ? rip : (uint32_t)(v->c.seg[SEG_CS].base + rip);
	struct block *b = je->block;
	uint64_t pa = v->tlb->pa[tlb_index(lin)] | (lin & 0xfff);

	if (likely(je->rip == rip && b && b->key == v->run_key && b->pa == pa &&
		   tlb_hit(v->tlb, lin, 1, ACC_EXEC) && *b->word == b->gen)) {
		v->page_rip = rip - (lin & 0xfff);
		return b;
	}
	return NULL;
}

/* To @rip in any page; the branch itself is done and counted. */
static const struct uop *jump_any(struct ivcpu *v, uint64_t rip)
{
	struct block *b = jump_cache_find(v, rip);

	if (likely(b && !v->leave))
		GO(v, b->u);
	v->c.rip = rip;
	return NULL;
}

/* No link yet, its target changed, or a request is there. */
static __attribute__((noinline)) const struct uop *jump_unlinked(struct ivcpu *v,
								 const struct uop *u)
{
	v->c.rip = (v->page_rip + (uint64_t)u->disp) & v->rip_mask;
	v->link_from = (struct uop *)u;
	v->link_rip = v->c.rip;
	return NULL;
}

static inline const struct uop *jump_rel(struct ivcpu *v, const struct uop *u)
{
	const struct block *b = u->link;

	if (likely(u->same_page)) {
		if (likely(b && !v->leave && *b->word == b->gen))
			GO(v, b->u);
		return jump_unlinked(v, u);
	}
	return jump_any(v, (v->page_rip + (uint64_t)u->disp) & v->rip_mask);
}

static uint64_t next_rip(const struct ivcpu *v, const struct uop *u)
{
	return (v->page_rip + u->off + u->len) & v->rip_mask;
}

/* After the last uop of a block that a one-instruction block or a stale one is. */
const struct uop *op_leave(struct ivcpu *v, const struct uop *u)
{
	v->insns += u->idx;
	v->c.rip = (v->page_rip + u->off) & v->rip_mask;
	return NULL;
}

/* The code goes on in another block. */
const struct uop *op_fall(struct ivcpu *v, const struct uop *u)
{
	v->insns += u->idx;
	return jump_rel(v, u);
}

const struct uop *op_ud(struct ivcpu *v, const struct uop *u)
{
	v->uop = u;
	raise_ud(v);
}

const struct uop *op_slow(struct ivcpu *v, const struct uop *u)
{
	call_slow(v, u);
	if (unlikely(v->stop)) {
		v->insns += u->idx + 1u;
		return NULL;
	}
	NEXT(v, u);
}

const struct uop *op_slow_end(struct ivcpu *v, const struct uop *u)
{
	call_slow(v, u);
	v->insns += u->idx + 1u;
	return NULL;
}

/* --- conditions on the LAHF/SETO form --- */

#define AF_O 0x0001u
#define AF_C 0x0100u
#define AF_P 0x0400u
#define AF_Z 0x4000u
#define AF_S 0x8000u

static inline __attribute__((always_inline)) bool cond(uint16_t af, unsigned int cc)
{
	bool r = false;

	switch (cc >> 1) {
	case 0:
		r = af & AF_O;
		break;
	case 1:
		r = af & AF_C;
		break;
	case 2:
		r = af & AF_Z;
		break;
	case 3:
		r = af & (AF_C | AF_Z);
		break;
	case 4:
		r = af & AF_S;
		break;
	case 5:
		r = af & AF_P;
		break;
	case 6:
		r = ((af >> 15) ^ af) & 1;
		break;
	case 7:
		r = (((af >> 15) ^ af) & 1) || (af & AF_Z);
		break;
	}
	return cc & 1 ? !r : r;
}

#define FOR_CC(X)                                                                                  \
	X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)

#define DEFINE_CC(cc)                                                                              \
	static const struct uop *op_j##cc(struct ivcpu *v, const struct uop *u)                    \
	{                                                                                          \
		if (cond(v->af, cc)) {                                                             \
			v->insns += u->idx + 1u;                                                   \
			return jump_rel(v, u);                                                     \
		}                                                                                  \
		NEXT(v, u);                                                                        \
	}                                                                                          \
	static const struct uop *op_set##cc(struct ivcpu *v, const struct uop *u)                  \
	{                                                                                          \
		SET8(v, u->a, cond(v->af, cc));                                                    \
		NEXT(v, u);                                                                        \
	}                                                                                          \
	static const struct uop *op_cmov32_##cc(struct ivcpu *v, const struct uop *u)              \
	{                                                                                          \
		uint32_t x = REG32(v, u->a), y = REG32(v, u->b);                                   \
                                                                                                   \
		SET32(v, u->a, cond(v->af, cc) ? y : x);                                           \
		NEXT(v, u);                                                                        \
	}                                                                                          \
	static const struct uop *op_cmov64_##cc(struct ivcpu *v, const struct uop *u)              \
	{                                                                                          \
		uint64_t x = REG64(v, u->a), y = REG64(v, u->b);                                   \
                                                                                                   \
		SET64(v, u->a, cond(v->af, cc) ? y : x);                                           \
		NEXT(v, u);                                                                        \
	}
FOR_CC(DEFINE_CC)

/* CMOV from memory loads in any case; u->imm is the condition. */
static const struct uop *op_cmov_mem32(struct ivcpu *v, const struct uop *u)
{
	uint32_t x = ld32(v, u, general_lin(v, u, 4, ACC_READ));

	SET32(v, u->a, cond(v->af, (unsigned int)u->imm) ? x : REG32(v, u->a));
	NEXT(v, u);
}

static const struct uop *op_cmov_mem64(struct ivcpu *v, const struct uop *u)
{
	uint64_t x = ld64(v, u, general_lin(v, u, 8, ACC_READ));

	if (cond(v->af, (unsigned int)u->imm))
		REG64(v, u->a) = x;
	NEXT(v, u);
}

/* SETcc to memory */
static const struct uop *op_set_mem(struct ivcpu *v, const struct uop *u)
{
	st8(v, u, general_lin(v, u, 1, ACC_WRITE), cond(v->af, (unsigned int)u->imm));
	NEXT(v, u);
}

#define ROW_J(cc)    op_j##cc,
#define ROW_SET(cc)  op_set##cc,
#define ROW_CM32(cc) op_cmov32_##cc,
#define ROW_CM64(cc) op_cmov64_##cc,
static uop_fn *const jcc_ops[16] = {FOR_CC(ROW_J)};
static uop_fn *const setcc_ops[16] = {FOR_CC(ROW_SET)};
static uop_fn *const cmov32_ops[16] = {FOR_CC(ROW_CM32)};
static uop_fn *const cmov64_ops[16] = {FOR_CC(ROW_CM64)};

bool flags_cond(uint16_t af, unsigned int cc)
{
	return cond(af, cc & 15);
}

/* --- jumps, calls, returns --- */

static const struct uop *op_jmp(struct ivcpu *v, const struct uop *u)
{
	v->insns += u->idx + 1u;
	return jump_rel(v, u);
}

static bool canonical48(uint64_t x)
{
	return (uint64_t)((int64_t)(x << 16) >> 16) == x;
}

static const struct uop *op_jmp_reg(struct ivcpu *v, const struct uop *u)
{
	uint64_t to = REG64(v, u->a) & v->rip_mask;

	if (unlikely(v->mode == MODE_LONG && !canonical48(to))) {
		v->uop = u;
		raise_gp(v, 0);
	}
	v->insns += u->idx + 1u;
	return jump_any(v, to);
}

static const struct uop *op_jmp_mem(struct ivcpu *v, const struct uop *u)
{
	uint64_t to = ld64(v, u, uop_ea(v, u));

	if (unlikely(!canonical48(to))) {
		v->uop = u;
		raise_gp(v, 0);
	}
	v->insns += u->idx + 1u;
	return jump_any(v, to);
}

/* 64-bit stack. */
static const struct uop *op_call64(struct ivcpu *v, const struct uop *u)
{
	uint64_t sp = v->c.gpr[RSP] - 8;

	st64(v, u, sp, next_rip(v, u));
	v->c.gpr[RSP] = sp;
	v->insns += u->idx + 1u;
	return jump_rel(v, u);
}

static const struct uop *op_call_reg64(struct ivcpu *v, const struct uop *u)
{
	uint64_t sp = v->c.gpr[RSP] - 8, to = REG64(v, u->a);

	v->uop = u;
	st64(v, u, sp, next_rip(v, u));
	if (unlikely(!canonical48(to))) /* after the push, whose memory shows it */
		raise_gp(v, 0);
	v->c.gpr[RSP] = sp;
	v->insns += u->idx + 1u;
	return jump_any(v, to);
}

static const struct uop *op_call_mem64(struct ivcpu *v, const struct uop *u)
{
	uint64_t sp = v->c.gpr[RSP] - 8, to = ld64(v, u, uop_ea(v, u));

	v->uop = u;
	if (unlikely(!canonical48(sp))) /* u->seg is the operand's */
		raise_fault_error(v, VEC_SS, 0);
	st64(v, u, sp, next_rip(v, u));
	if (unlikely(!canonical48(to)))
		raise_gp(v, 0);
	v->c.gpr[RSP] = sp;
	v->insns += u->idx + 1u;
	return jump_any(v, to);
}

static const struct uop *op_ret64(struct ivcpu *v, const struct uop *u)
{
	uint64_t sp = v->c.gpr[RSP], to = ld64(v, u, sp);

	if (unlikely(!canonical48(to))) {
		v->uop = u;
		raise_gp(v, 0);
	}
	v->c.gpr[RSP] = sp + 8 + (uint64_t)u->imm;
	v->insns += u->idx + 1u;
	return jump_any(v, to);
}

static const struct uop *op_push64(struct ivcpu *v, const struct uop *u)
{
	uint64_t sp = v->c.gpr[RSP] - 8;

	st64(v, u, sp, REG64(v, u->a));
	v->c.gpr[RSP] = sp;
	NEXT(v, u);
}

static const struct uop *op_pushi64(struct ivcpu *v, const struct uop *u)
{
	uint64_t sp = v->c.gpr[RSP] - 8;

	st64(v, u, sp, (uint64_t)u->imm);
	v->c.gpr[RSP] = sp;
	NEXT(v, u);
}

static const struct uop *op_pop64(struct ivcpu *v, const struct uop *u)
{
	uint64_t sp = v->c.gpr[RSP], x = ld64(v, u, sp);

	v->c.gpr[RSP] = sp + 8;
	REG64(v, u->a) = x;
	NEXT(v, u);
}

static const struct uop *op_leave64(struct ivcpu *v, const struct uop *u)
{
	uint64_t bp = v->c.gpr[RBP], x = ld64(v, u, bp);

	v->c.gpr[RSP] = bp + 8;
	v->c.gpr[RBP] = x;
	NEXT(v, u);
}

/* 32-bit operands on any stack. */
static const struct uop *op_call32(struct ivcpu *v, const struct uop *u)
{
	v->uop = u;
	push(v, 4, next_rip(v, u));
	v->insns += u->idx + 1u;
	return jump_rel(v, u);
}

static const struct uop *op_ret32(struct ivcpu *v, const struct uop *u)
{
	uint64_t to;

	v->uop = u;
	to = pop(v, 4);
	v->insns += u->idx + 1u;
	return jump_any(v, to);
}

static const struct uop *op_push32(struct ivcpu *v, const struct uop *u)
{
	v->uop = u;
	push(v, 4, REG32(v, u->a));
	NEXT(v, u);
}

static const struct uop *op_pop32(struct ivcpu *v, const struct uop *u)
{
	uint64_t x;

	v->uop = u;
	x = pop(v, 4);
	SET32(v, u->a, x);
	NEXT(v, u);
}

/* 32-bit operands on a flat 32-bit stack, and operands anywhere. */
static inline uint64_t stack32(const struct ivcpu *v, uint64_t sp)
{
	return (uint32_t)(v->c.seg[SEG_SS].base + (uint32_t)sp);
}

static inline void push32(struct ivcpu *v, const struct uop *u, uint32_t x)
{
	uint32_t sp = (uint32_t)v->c.gpr[RSP] - 4;

	st32(v, u, stack32(v, sp), x);
	v->c.gpr[RSP] = sp;
}

static const struct uop *op_call32f(struct ivcpu *v, const struct uop *u)
{
	push32(v, u, (uint32_t)next_rip(v, u));
	v->insns += u->idx + 1u;
	return jump_rel(v, u);
}

static const struct uop *op_call_reg32f(struct ivcpu *v, const struct uop *u)
{
	uint32_t to = REG32(v, u->a);

	push32(v, u, (uint32_t)next_rip(v, u));
	v->insns += u->idx + 1u;
	return jump_any(v, to);
}

static const struct uop *op_call_mem32f(struct ivcpu *v, const struct uop *u)
{
	uint32_t to = ld32(v, u, general_lin(v, u, 4, ACC_READ));

	push32(v, u, (uint32_t)next_rip(v, u));
	v->insns += u->idx + 1u;
	return jump_any(v, to);
}

static const struct uop *op_jmp_mem32(struct ivcpu *v, const struct uop *u)
{
	uint32_t to = ld32(v, u, general_lin(v, u, 4, ACC_READ));

	v->insns += u->idx + 1u;
	return jump_any(v, to);
}

static const struct uop *op_ret32f(struct ivcpu *v, const struct uop *u)
{
	uint32_t to = ld32(v, u, stack32(v, v->c.gpr[RSP]));

	v->c.gpr[RSP] = (uint32_t)(v->c.gpr[RSP] + 4 + (uint64_t)u->imm);
	v->insns += u->idx + 1u;
	return jump_any(v, to);
}

static const struct uop *op_push32f(struct ivcpu *v, const struct uop *u)
{
	push32(v, u, REG32(v, u->a));
	NEXT(v, u);
}

static const struct uop *op_pushi32f(struct ivcpu *v, const struct uop *u)
{
	push32(v, u, (uint32_t)u->imm);
	NEXT(v, u);
}

static const struct uop *op_pushm32f(struct ivcpu *v, const struct uop *u)
{
	push32(v, u, ld32(v, u, general_lin(v, u, 4, ACC_READ)));
	NEXT(v, u);
}

static const struct uop *op_pop32f(struct ivcpu *v, const struct uop *u)
{
	uint32_t x = ld32(v, u, stack32(v, v->c.gpr[RSP]));

	v->c.gpr[RSP] = (uint32_t)(v->c.gpr[RSP] + 4);
	SET32(v, u->a, x);
	NEXT(v, u);
}

static const struct uop *op_leave32f(struct ivcpu *v, const struct uop *u)
{
	uint32_t bp = (uint32_t)v->c.gpr[RBP], x = ld32(v, u, stack32(v, bp));

	v->c.gpr[RSP] = bp + 4u;
	v->c.gpr[RBP] = x;
	NEXT(v, u);
}

/* --- choosing --- */

static uint16_t gpr_off(unsigned int r)
{
	return (uint16_t)(offsetof(struct ivcpu, c.gpr) + 8 * r);
}

static void set_target(const struct x86_insn *i, struct uop *u)
{
	u->disp = (int64_t)(u->off + u->len) + (int64_t)i->imm[0];
	u->same_page = u->disp >= 0 && u->disp < 0x1000;
}

/* 64-bit memory operand that needs no segment work. */
static bool flat64(const struct ivcpu *v, const struct x86_insn *i)
{
	return v->mode == MODE_LONG && i->has_mem && i->addrsize == 8 && i->seg < SEG_FS;
}

static bool flat_stack32(const struct ivcpu *v)
{
	return (v->block_key & KEY_FLAT) && v->stack_bits == 32;
}

static bool choose_flow32(const struct x86_insn *i, unsigned int ext, struct uop *u)
{
	u->a = gpr_off(i->rm);
	if (i->opcode == 0xe8) {
		u->fn = op_call32f;
		set_target(i, u);
	} else if (i->opcode == 0xc3) {
		u->fn = op_ret32f;
	} else if (i->opcode == 0xc2) {
		u->fn = op_ret32f;
		u->imm = (uint16_t)i->imm[0];
	} else if (i->opcode == 0xff && ext == 2) {
		u->fn = i->has_mem ? op_call_mem32f : op_call_reg32f;
	} else if (i->opcode == 0xff && ext == 4 && i->has_mem) {
		u->fn = op_jmp_mem32;
	}
	return u->fn;
}

static void translate_flow(const struct ivcpu *v, const struct x86_insn *i, struct uop *u,
			   bool *ends)
{
	bool lng = v->mode == MODE_LONG;
	unsigned int ext = i->modrm >> 3 & 7;

	*ends = true;
	if (!i->has_mem)
		u->seg = SEG_SS;
	if (flat_stack32(v) && choose_flow32(i, ext, u))
		return;
	if (i->opcode == 0xe9 || i->opcode == 0xeb) {
		u->fn = op_jmp;
		set_target(i, u);
	} else if (i->opcode == 0xe8) {
		u->fn = lng ? op_call64 : op_call32;
		set_target(i, u);
	} else if (i->opcode == 0xc3) {
		u->fn = lng ? op_ret64 : op_ret32;
	} else if (i->opcode == 0xc2 && lng) {
		u->fn = op_ret64;
		u->imm = (uint16_t)i->imm[0];
	} else if (i->opcode == 0xff && lng && (i->modrm >> 3 & 7) == 4) {
		u->a = gpr_off(i->rm);
		if (!i->has_mem)
			u->fn = op_jmp_reg;
		else if (flat64(v, i))
			u->fn = op_jmp_mem;
	} else if (i->opcode == 0xff && lng && (i->modrm >> 3 & 7) == 2) {
		u->a = gpr_off(i->rm);
		if (!i->has_mem || flat64(v, i))
			u->fn = i->has_mem ? op_call_mem64 : op_call_reg64;
	} else if (i->opcode == 0xff && !lng && (i->modrm >> 3 & 7) == 4 && !i->has_mem) {
		u->a = gpr_off(i->rm);
		u->fn = op_jmp_reg;
	}
	if (!u->fn)
		*ends = false;
}

static void choose_stack32(const struct x86_insn *i, struct uop *u)
{
	u->a = gpr_off(i->rm);
	if (i->opcode >= 0x50 && i->opcode <= 0x57) {
		u->fn = op_push32f;
	} else if (i->opcode >= 0x58 && i->opcode <= 0x5f) {
		u->fn = op_pop32f;
	} else if (i->opcode == 0x68 || i->opcode == 0x6a) {
		u->fn = op_pushi32f;
		u->imm = (int64_t)i->imm[0];
	} else if (i->opcode == 0xc9) {
		u->fn = op_leave32f;
	} else if (i->opcode == 0xff && (i->modrm >> 3 & 7) == 6) {
		u->fn = i->has_mem ? op_pushm32f : op_push32f;
	}
}

static void translate_stack(const struct ivcpu *v, const struct x86_insn *i, struct uop *u)
{
	bool lng = v->mode == MODE_LONG;

	if (i->stacksize != (lng ? 8 : 4))
		return;
	if (!i->has_mem)
		u->seg = SEG_SS;
	if (!lng && flat_stack32(v))
		choose_stack32(i, u);
	if (u->fn)
		return;
	u->a = gpr_off(i->rm);
	if (i->opcode >= 0x50 && i->opcode <= 0x57) {
		u->fn = lng ? op_push64 : op_push32;
	} else if (i->opcode >= 0x58 && i->opcode <= 0x5f) {
		u->fn = lng ? op_pop64 : op_pop32;
	} else if ((i->opcode == 0x68 || i->opcode == 0x6a) && lng) {
		u->fn = op_pushi64;
		u->imm = (int64_t)i->imm[0];
	} else if (i->opcode == 0xc9 && lng) {
		u->fn = op_leave64;
	}
}

void branch_translate(const struct ivcpu *v, const struct x86_insn *i, struct uop *u, bool *ends)
{
	bool wide = v->mode == MODE_LONG || (i->opsize == 4 && (v->block_key & KEY_CS_FLAT));

	*ends = false;
	if (i->encoding != INSN_LEGACY || (i->prefixes & PFX_LOCK))
		return;
	if (i->map == 1) {
		unsigned int cc = i->opcode & 15, kind = i->opcode >> 4;

		if (kind == 8 && wide) {
			u->fn = jcc_ops[cc];
			set_target(i, u);
		} else if (kind == 9 && !i->has_mem) {
			u->fn = setcc_ops[cc];
			u->a = gpr_off(i->rm);
			if (!(i->prefixes & PFX_REX) && i->rm >= 4)
				u->a = (uint16_t)(gpr_off(i->rm - 4u) + 1);
		} else if (kind == 9) {
			u->fn = op_set_mem;
			u->imm = (int64_t)cc;
		} else if (kind == 4 && i->has_mem && i->opsize >= 4) {
			u->fn = i->opsize == 8 ? op_cmov_mem64 : op_cmov_mem32;
			u->a = gpr_off(i->reg);
			u->imm = (int64_t)cc;
		} else if (kind == 4 && !i->has_mem && i->opsize >= 4) {
			u->fn = i->opsize == 8 ? cmov64_ops[cc] : cmov32_ops[cc];
			u->a = gpr_off(i->reg);
			u->b = gpr_off(i->rm);
		}
		return;
	}
	if (i->map != 0)
		return;
	if (i->opcode >> 4 == 7 && wide) {
		u->fn = jcc_ops[i->opcode & 15];
		set_target(i, u);
		return;
	}
	translate_stack(v, i, u);
	if (!u->fn && wide)
		translate_flow(v, i, u, ends);
}
