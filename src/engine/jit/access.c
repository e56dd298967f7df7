/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/jit/access.c - guest memory from translated code
 *
 * The TLB look-up leaves the flags alone, so that the guest's flags can stay where they are:
 *
 *	pext  rcx, r11, tlb_mask           the page's place
 *	mov   rcx, gs:tag[rcx * 8]         minus the page
 *	lea   rcx, [rcx + r11 + size - 1]  offset of the last byte, if it is that page
 *	pext  rcx, rcx, page_mask          what is above it
 *	jrcxz hit
 *	jmp   miss
 *  hit:	pext  rcx, r11, tlb_mask
 *	mov   rcx, gs:addend[rcx * 8]      host address = r11 + rcx - TLB_BIAS
 *
 * R11 is needed for nothing else than the address, which can be computed again from the operand's
 * registers unless they were fetched for it.  Then it is cheaper: R11 gets the addend at once,
 * whose low bits also say that the comparison is to be shifted by 12.
 *
 *	lea   r11, [operand]
 *	pext  rcx, r11, tlb_mask
 *	mov   r11, gs:addend[rcx * 8]
 *	mov   rcx, gs:tag[rcx * 8]
 *	lea   rcx, [rcx + operand + size - 1]
 *	shrx  rcx, rcx, r11
 *	jrcxz hit
 *	jmp   miss
 *  hit:
 *
 * Where flags can be made again (flags.c), CMP and a jump to the miss are in the place of SHRX and
 * JRCXZ.
 *
 * Tags, addends and the vCPU's fields are all at constants from GS.
 */
#include "engine/jit/jit_priv.h"

/* Offsets of the TLB set that the block's mode uses. */
static int32_t set_offset(const struct tr *t)
{
	size_t slot = ivcpu_slot_offset();

	switch (t->v->tlb_set) {
	case TLB_SUPER:
		return GS(super);
	case TLB_USER:
		return (int32_t)(slot + offsetof(struct as_slot, user));
	default:
		return (int32_t)(slot + offsetof(struct as_slot, ac));
	}
}

/* Adds @disp, which may not fit with what is there. */
static struct rm with_disp(struct tr *t, struct rm rm, int64_t disp)
{
	int64_t sum = rm.disp + disp;

	if (sum == (int32_t)sum) {
		rm.disp = (int32_t)sum;
		return rm;
	}
	emit_lea(&t->e, HOST_T1, rm);
	return rm_base(HOST_T1, (int32_t)disp);
}

/* insn.h's view of the operand: Zydis 4.0 takes R13 for the base where there is none. */
static struct rm based(struct tr *t)
{
	const struct x86_insn *i = t->i;
	struct rm rm = {.mem = true, .base = RM_NONE, .index = RM_NONE, .scale = 1};

	if (i->base == REG_RIP) {
		emit_load(&t->e, HOST_T1, rm_gs(GS(page_rip)));
		return with_disp(t, rm_base(HOST_T1, t->u->off + t->u->len), i->disp);
	}
	if (i->base != REG_NONE) {
		unsigned int h = jit_host(i->base);

		if (h == HOST_MEM) {
			emit_load(&t->e, HOST_T1, rm_gs(GS_GPR(i->base)));
			h = HOST_T1;
		}
		rm.base = (uint8_t)h;
	}
	if (i->index != REG_NONE) {
		unsigned int h = jit_host(i->index);

		if (h == HOST_MEM) {
			emit_load(&t->e, HOST_T0, rm_gs(GS_GPR(i->index)));
			h = HOST_T0;
		}
		rm.index = (uint8_t)h;
		rm.scale = i->scale;
	}
	rm.disp = (int32_t)i->disp;
	return rm;
}

void tr_lea(struct tr *t, bool w, unsigned int to)
{
	struct rm rm = based(t);

	t->t1_kept = rm.base != HOST_T1;
	emit_op(&t->e, w, 0x8d, to, rm);
}

static int32_t base_of(unsigned int seg)
{
	return (int32_t)(offsetof(struct ivcpu, c.seg) + seg * sizeof(struct cpu_segment) +
			 offsetof(struct cpu_segment, base));
}

void tr_address(struct tr *t, bool agen)
{
	const struct x86_insn *i = t->i;
	bool w = i->addrsize == 8;
	struct rm rm;

	t->t1 = -1;
	if (i->disp != (int32_t)i->disp) { /* MOV with an absolute address */
		emit8(&t->e, 0x49);
		emit8(&t->e, 0xbb);
		emit64(&t->e, (uint64_t)i->disp);
		rm = rm_base(HOST_T1, 0);
	} else {
		rm = based(t);
	}
	if (w && rm.base != RM_NONE && rm.index == RM_NONE && !rm.disp) {
		if (rm.base != HOST_T1)
			emit_mov(&t->e, HOST_T1, rm.base);
	} else {
		emit_op(&t->e, w, 0x8d, HOST_T1, rm);
	}
	if (agen || (t->wide && i->seg < SEG_FS))
		return;
	emit_load(&t->e, HOST_T0, rm_gs(base_of(i->seg)));
	emit_op(&t->e, t->wide, 0x8d, HOST_T1, rm_index(HOST_T1, HOST_T0, 0));
}

/* The rel32 that was just emitted leads to where misses are handled. */
static void miss(struct tr *t, bool write)
{
	if (t->two_accesses)
		tr_cold_exit(t, t->u);
	else
		(void)tr_cold(t, t->j->miss,
			      jit_uop_code(t->j, t->u) | (write ? JIT_MISS_WRITE : 0), 0, -1);
}

/* Continues only if RCX is 0. */
static void check_zero(struct tr *t, bool write)
{
	uint8_t *hit = emit_jrcxz(&t->e);

	emit_jmp(&t->e, 0);
	miss(t, write);
	emit_here(&t->e, hit);
}

/* If the flags can be spent: the rel32 of a jump for RCX above 4095 ends the code. */
static bool jump_if_outside(struct tr *t)
{
	if (t->flags.of == FLAGS_UNKNOWN)
		return false;
	t->flags_spent = true;
	emit_op(&t->e, true, 0x81, 7, rm_reg(HOST_T0)); /* CMP */
	emit32(&t->e, 4095);
	emit_jcc(&t->e, CC_A, 0);
	return true;
}

/* RCX = place of @src's page. */
static void page_place(struct tr *t, unsigned int src)
{
	emit_pext(&t->e, HOST_T0, src, rm_gs(GS(jx.tlb_mask)));
}

struct offsets {
	int32_t tag, addend;
};

static struct offsets offsets_of(const struct tr *t, bool write)
{
	int32_t set = set_offset(t);

	return (struct offsets){
	    .tag = set + (int32_t)(offsetof(struct tlb, tag) +
				   (write ? ACC_WRITE : ACC_READ) * TLB_SIZE * 8u),
	    .addend = set + (int32_t)offsetof(struct tlb, addend),
	};
}

struct rm tr_tag(const struct tr *t, bool write)
{
	return rm_gs8(HOST_T0, offsets_of(t, write).tag);
}

struct rm tr_addend(const struct tr *t)
{
	return rm_gs8(HOST_T0, offsets_of(t, false).addend);
}

void tr_check(struct tr *t, unsigned int size, bool write, bool lock)
{
	struct offsets o = offsets_of(t, write);

	if (lock && size > 1) {
		emit_pext(&t->e, HOST_T0, HOST_T1,
			  rm_gs(GS(jx.align_mask) + 8 * (int32_t)__builtin_ctz(size)));
		check_zero(t, write);
	}
	page_place(t, HOST_T1);
	emit_load(&t->e, HOST_T0, rm_gs8(HOST_T0, o.tag));
	emit_lea(&t->e, HOST_T0, rm_index(HOST_T0, HOST_T1, (int32_t)size - 1));
	if (jump_if_outside(t)) {
		miss(t, write);
	} else {
		emit_pext(&t->e, HOST_T0, HOST_T0, rm_gs(GS(jx.page_mask)));
		check_zero(t, write);
	}
	page_place(t, HOST_T1);
	emit_load(&t->e, HOST_T0, rm_gs8(HOST_T0, o.addend));
}

/* R11 = addend for @ea, of host registers that stay as they are. */
static void look_up(struct tr *t, struct rm ea, unsigned int size, bool write)
{
	struct offsets o = offsets_of(t, write);
	struct rm last = {.mem = true, .index = HOST_T0, .scale = 1};

	t->t1 = -1;
	if (ea.disp || ea.index != RM_NONE) {
		emit_lea(&t->e, HOST_T1, ea);
		page_place(t, HOST_T1);
	} else {
		page_place(t, ea.base);
	}
	emit_load(&t->e, HOST_T1, rm_gs8(HOST_T0, o.addend));
	emit_load(&t->e, HOST_T0, rm_gs8(HOST_T0, o.tag));
	last.base = ea.base;
	last.disp = ea.disp + (int32_t)size - 1;
	emit_lea(&t->e, HOST_T0, last);
	if (ea.index != RM_NONE) {
		last = ea;
		last.base = HOST_T0;
		last.disp = 0;
		emit_lea(&t->e, HOST_T0, last);
	}
	if (jump_if_outside(t)) {
		miss(t, write);
	} else {
		emit_shrx(&t->e, HOST_T0, HOST_T1);
		check_zero(t, write);
	}
	t->cold[t->n_cold - 1].ea = ea;
}

/* R11 = addend: the operand at @ea. */
static struct rm with_addend(struct tr *t, struct rm ea)
{
	if (ea.index == RM_NONE)
		return rm_index(ea.base, HOST_T1, ea.disp - TLB_BIAS);
	emit_lea(&t->e, HOST_T1, rm_index(ea.base, HOST_T1, ea.disp - TLB_BIAS));
	ea.base = HOST_T1;
	ea.disp = 0;
	return ea;
}

void tr_away(struct tr *t, const struct cold *c)
{
	uint32_t back = c->back; /* look_up() adds to the list */

	t->k = c->home_k;
	t->u = &t->b->u[t->k];
	look_up(t, c->ea, c->home_size, c->home_write);
	emit_jmp(&t->e, back);
}

/*
 * Tables are looked into with an index that comes late, while their address is known early: the
 * look-up is for the base's page, so that only the access itself waits for the index.  The operand
 * has to be in that page, and aligned, so that all of it is; else the look-up is for the operand.
 */
static struct rm check_home(struct tr *t, struct rm ea, unsigned int size, bool write)
{
	struct offsets o = offsets_of(t, write);
	struct rm sum = {
	    .mem = true, .base = ea.base, .index = HOST_T0, .scale = 1, .disp = ea.disp};
	uint8_t *hit;
	struct cold *c;

	t->t1 = -1;
	page_place(t, ea.base);
	emit_load(&t->e, HOST_T1, rm_gs8(HOST_T0, o.addend));
	emit_load(&t->e, HOST_T0, rm_gs8(HOST_T0, o.tag));
	emit_lea(&t->e, HOST_T0, sum);
	sum = ea;
	sum.base = HOST_T0;
	sum.disp = 0;
	emit_lea(&t->e, HOST_T0, sum);
	if (t->flags.of != FLAGS_UNKNOWN) {
		t->flags_spent = true;
		emit_op(&t->e, true, 0xf7, 0, rm_reg(HOST_T0)); /* TEST */
		emit32(&t->e, ~4095u | (size - 1));
		emit_jcc(&t->e, CC_NE, 0);
		c = tr_cold(t, 0, 0, 0, -1);
	} else {
		emit_pext(&t->e, HOST_T0, HOST_T0,
			  rm_gs(GS(jx.home_mask) + 8 * (int32_t)__builtin_ctz(size)));
		hit = emit_jrcxz(&t->e);
		emit_jmp(&t->e, 0);
		c = tr_cold(t, 0, 0, 0, -1);
		emit_here(&t->e, hit);
	}
	c->ea = ea;
	c->home_size = (uint8_t)size;
	c->home_write = write;
	c->home_k = t->k;
	c->back = emit_at(&t->e);
	return with_addend(t, ea);
}

static bool same_page(uint64_t a, uint64_t b)
{
	return (a ^ b) >> GMEM_PAGE_SHIFT == 0;
}

/* Was the instruction's operand in the page of its base lately?  As far as the registers tell,
 * which are those at the start of the block.  What is the index without a scale may be the base. */
static bool at_home(const struct tr *t, struct rm *ea, unsigned int size)
{
	const uint64_t *g = t->v->c.gpr;
	uint64_t base = g[t->i->base], index = g[t->i->index];
	uint64_t at = base + index * t->i->scale + (uint64_t)t->i->disp;

	if (size > 16 || (size & (size - 1)) || t->two_accesses)
		return false;
	if (same_page(base, at))
		return true;
	if (t->i->scale != 1 || !same_page(index, at) || ea->base == RSP)
		return false;
	*ea = rm_index(ea->index, ea->base, ea->disp);
	return true;
}

/* @ea: of host registers that stay as they are. */
static struct rm check_operand(struct tr *t, struct rm ea, unsigned int size, bool write)
{
	if (ea.index != RM_NONE && at_home(t, &ea, size))
		return check_home(t, ea, size, write);
	look_up(t, ea, size, write);
	return with_addend(t, ea);
}

/* A member of a group: R11 = addend, from the first one's look-up. */
static struct rm check_group(struct tr *t, struct group *g, const struct member *m,
			     unsigned int base, int32_t disp)
{
	struct rm held = rm_gs(GS(jx.held) + 8 * m->group);
	int32_t lo = (int32_t)(g->lo - m->moved), hi = (int32_t)(g->hi - m->moved);
	struct offsets o = offsets_of(t, g->write);
	unsigned int page_of = base;
	uint8_t *hit;

	if (g->held) {
		if (t->t1 != m->group)
			emit_load(&t->e, HOST_T1, held);
		t->t1 = m->group;
		return rm_index(base, HOST_T1, disp - TLB_BIAS);
	}
	if (lo) {
		emit_lea(&t->e, HOST_T1, rm_base(base, lo));
		page_of = HOST_T1;
	}
	page_place(t, page_of);
	emit_load(&t->e, HOST_T1, rm_gs8(HOST_T0, o.addend));
	emit_load(&t->e, HOST_T0, rm_gs8(HOST_T0, o.tag));
	emit_lea(&t->e, HOST_T0, rm_index(base, HOST_T0, hi - 1));
	if (jump_if_outside(t)) {
		tr_cold(t, 0, 0, 0, -1)->other = (int8_t)t->k;
	} else {
		emit_shrx(&t->e, HOST_T0, HOST_T1);
		hit = emit_jrcxz(&t->e);
		emit_jmp(&t->e, 0);
		tr_cold(t, 0, 0, 0, -1)->other = (int8_t)t->k;
		emit_here(&t->e, hit);
	}
	emit_store(&t->e, HOST_T1, held);
	g->held = true;
	t->t1 = m->group;
	return rm_index(base, HOST_T1, disp - TLB_BIAS);
}

bool tr_in_group(const struct tr *t, const struct member *m)
{
	return t->grouped && m->group >= 0 && t->group[m->group].members > 1;
}

struct rm tr_check_based(struct tr *t, const struct member *m, unsigned int base, int32_t disp,
			 unsigned int size, bool write)
{
	if (tr_in_group(t, m))
		return check_group(t, &t->group[m->group], m, base, disp);
	return check_operand(t, rm_base(base, disp), size, write);
}

static bool is_resident(uint8_t g)
{
	return g < 16 && jit_host(g) != HOST_MEM;
}

bool tr_is_based(const struct tr *t)
{
	const struct x86_insn *i = t->i;

	return t->wide && i->has_mem && i->addrsize == 8 && i->seg < SEG_FS &&
	       is_resident(i->base) && i->disp > INT32_MIN + 64 && i->disp < INT32_MAX - 64;
}

struct rm tr_operand(struct tr *t, unsigned int size, bool write, bool lock)
{
	const struct x86_insn *i = t->i;
	struct rm ea;

	if (!lock && tr_is_based(t) && i->index == REG_NONE)
		return tr_check_based(t, &t->of[t->k].operand, jit_host(i->base), (int32_t)i->disp,
				      size, write);
	if (!lock && tr_is_based(t) && is_resident(i->index)) {
		ea = rm_index(jit_host(i->base), jit_host(i->index), (int32_t)i->disp);
		ea.scale = i->scale;
		return check_operand(t, ea, size, write);
	}
	tr_address(t, false);
	tr_check(t, size, write, lock);
	return rm_index(HOST_T1, HOST_T0, -TLB_BIAS);
}
