/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/jit/flow.c - branches and the stack
 *
 * A jump inside the page goes straight to the target's code, once that is known (jit_link); only a
 * jump backward looks whether somebody wants the vCPU to leave.  A direct jump out of the page does
 * so as well, when the code there is what it was linked for, and an indirect one looks in the jump
 * cache: in both places nothing is found while somebody wants the vCPU to leave.  A call notes
 * where the code behind it is, for the return (jumps.c).
 *
 * Whatever is not known is left to the interpreter, which executes the branch again from its start:
 * so RSP changes last, behind everything that can leave.
 */
#include "engine/jit/jit_priv.h"

static unsigned int op_size(const struct tr *t)
{
	return t->wide ? 8 : 4;
}

/* Guest address @off bytes from the page's start to @reg. */
static void page_address(struct tr *t, unsigned int reg, int64_t off)
{
	emit_load(&t->e, reg, rm_gs(GS(page_rip)));
	if (off > INT32_MAX) {
		emit_op(&t->e, t->wide, 0x8d, reg, rm_base(reg, INT32_MAX));
		off -= INT32_MAX;
	}
	if (off)
		emit_op(&t->e, t->wide, 0x8d, reg, rm_base(reg, (int32_t)off));
}

void tr_page_address(struct tr *t, int64_t off)
{
	page_address(t, HOST_T1, off);
}

/* RCX = 0 if the address in R11 is in the jump cache at @jumps. */
static void look_up(const struct ivcpu *v, struct emit *e, int32_t jumps)
{
	lockstep_spend(v, e);
	emit_pext(e, HOST_T0, HOST_T1, rm_gs(GS(jumps_mask)));
	emit_load(e, HOST_T0, rm_gs8(HOST_T0, jumps + (int32_t)offsetof(struct jumps, rip)));
	emit_lea(e, HOST_T0, rm_index(HOST_T0, HOST_T1, 0));
}

static void jump_found(struct emit *e, int32_t jumps)
{
	emit_pext(e, HOST_T0, HOST_T1, rm_gs(GS(jumps_mask)));
	emit_op(e, false, 0xff, 4, rm_gs8(HOST_T0, jumps + (int32_t)offsetof(struct jumps, code)));
}

uint32_t jit_detour(struct ivcpu *v, const struct jit_code *from, const struct jit_link *l)
{
	struct jit *j = v->jit;
	struct emit e = {.start = j->rw, .p = j->rw + j->used, .end = j->rw + JIT_CODE_SIZE};
	uint32_t at = emit_at(&e);
	int32_t jumps = jit_jumps_offset(v);
	uint8_t *hit;

	if (!jumps)
		return l->cold;
	emit_load(&e, HOST_T1, rm_gs(GS(page_rip)));
	emit_op(&e, (from->b->key & 3) == INSN_64, 0x8d, HOST_T1, rm_base(HOST_T1, l->to));
	look_up(v, &e, jumps);
	hit = emit_jrcxz(&e);
	emit_jmp(&e, l->cold);
	emit_here(&e, hit);
	jump_found(&e, jumps);
	if (e.overflow)
		return l->cold;
	j->used = emit_at(&e);
	return at;
}

static void add_rsp(struct tr *t, int32_t n)
{
	if (n)
		emit_op(&t->e, t->wide, 0x8d, RSP, rm_base(RSP, n));
}

void jit_jump_cached(const struct ivcpu *v, struct emit *e, int32_t jumps, bool wide, int32_t pop)
{
	uint8_t *hit, *miss;

	look_up(v, e, jumps);
	hit = emit_jrcxz(e);
	emit8(e, 0xeb);
	emit8(e, 0);
	miss = e->p - 1;
	emit_here(e, hit);
	if (pop)
		emit_op(e, wide, 0x8d, RSP, rm_base(RSP, pop));
	jump_found(e, jumps);
	emit_here(e, miss);
}

/* To the address in R11, found in the jump cache; then RSP moves by @pop. */
static void jump_known(struct tr *t, const struct uop *u, int32_t pop)
{
	uint8_t *hit;

	look_up(t->v, &t->e, t->jumps);
	hit = emit_jrcxz(&t->e);
	emit_jmp(&t->e, 0);
	tr_cold_exit(t, u);
	emit_here(&t->e, hit);
	add_rsp(t, pop);
	jump_found(&t->e, t->jumps);
}

/* A link of the rel32 that was just emitted; -1 = there are enough. */
static int new_link(struct tr *t, enum jit_link_kind kind, int64_t to)
{
	if (t->n_links == JIT_LINKS || to != (int32_t)to)
		return -1;
	t->link[t->n_links] =
	    (struct jit_link){.at = emit_at(&t->e) - 4, .to = (int32_t)to, .kind = (uint8_t)kind};
	return (int)t->n_links++;
}

static uint32_t link_code(const struct tr *t, const struct uop *u, int n)
{
	return jit_uop_code(t->j, u) | (uint32_t)(n + 1) << JIT_LINK_SHIFT;
}

/* A jump in the page was just emitted; until the target is known, RSP moves by @undo. */
static void link_near(struct tr *t, const struct uop *u, int64_t to, int undo)
{
	int n = new_link(t, LINK_NEAR, to);

	(void)tr_cold(t, t->j->exit, link_code(t, u, n), undo, n);
}

/*
 * To another page: R11 = that page's start; is the code there what the link is for?
 *
 * Empty entries and those of other pages never make the sum 0, see struct jit_page.
 */
static void go_far(struct tr *t, int64_t to, const struct uop *u, int32_t pop)
{
	struct jit_link *l;
	struct cold *c;
	uint8_t *hit;
	int n;

	lockstep_spend(t->v, &t->e);
	page_address(t, HOST_T1, ALIGN_DOWN(to, (int64_t)GMEM_PAGE_SIZE));
	emit_pext(&t->e, HOST_T0, HOST_T1, rm_gs(GS(pages_mask)));
	emit_load(&t->e, HOST_T0,
		  rm_gs8(HOST_T0, t->jumps + (int32_t)offsetof(struct jumps, page)));
	emit_lea(&t->e, HOST_T0, rm_index(HOST_T0, HOST_T1, JIT_NO_NUMBER));
	n = new_link(t, LINK_FAR, to);
	hit = emit_jrcxz(&t->e);
	emit_jmp(&t->e, 0);
	c = tr_cold(t, t->j->exit, link_code(t, u, n), 0, -1);
	c->ea = rm_base(HOST_T1, (int32_t)(to & (GMEM_PAGE_SIZE - 1)));
	c->look_up = true;
	c->pop = pop;
	emit_here(&t->e, hit);
	add_rsp(t, pop);
	emit_store(&t->e, HOST_T1, rm_gs(GS(page_rip)));
	emit_jmp(&t->e, 0);
	l = &t->link[n];
	l->number_at = l->at;
	l->at = emit_at(&t->e) - 4;
}

static void go(struct tr *t, int64_t to, const struct uop *u, bool backward, int32_t pop)
{
	if (to >= 0 && to < 0x1000) {
		uint8_t *leave = NULL;

		if (backward) { /* the mask's low byte is 0 when someone wants us to leave */
			lockstep_spend(t->v, &t->e);
			emit_load8(&t->e, HOST_T0, rm_gs(GS(jumps_mask)));
			leave = emit_jrcxz(&t->e);
		}
		add_rsp(t, pop);
		emit_jmp(&t->e, 0);
		link_near(t, u, to, -pop);
		if (leave) {
			emit_here(&t->e, leave);
			emit_jmp(&t->e, 0);
			tr_cold_exit(t, u);
		}
	} else if (t->jumps && t->n_links < JIT_LINKS && to == (int32_t)to) {
		go_far(t, to, u, pop);
	} else if (t->jumps) {
		page_address(t, HOST_T1, to);
		jump_known(t, u, pop);
	} else {
		emit_jmp(&t->e, 0);
		tr_cold_exit(t, u);
	}
}

void tr_goto(struct tr *t, int64_t to, const struct uop *u, bool backward)
{
	go(t, to, u, backward, 0);
}

static int64_t target(const struct tr *t)
{
	return (int64_t)t->u->off + t->u->len + t->z->raw.imm[0].value.s;
}

/* Not taken goes on. */
static void branch_if(struct tr *t)
{
	unsigned int cc = t->z->opcode & 15;
	int64_t to = target(t);
	bool inside = to >= 0 && to < 0x1000;
	uint32_t over;

	t->t1_kept = true; /* if not taken */
	if (inside && to > t->u->off) {
		emit_jcc(&t->e, cc, 0);
		link_near(t, t->u, to, 0);
		return;
	}
	if (!inside && !t->jumps) {
		emit_jcc(&t->e, cc, 0);
		tr_cold_exit(t, t->u);
		return;
	}
	emit_jcc(&t->e, cc ^ 1, 0);
	over = emit_at(&t->e);
	go(t, to, t->u, true, 0);
	if (!t->e.overflow)
		emit_aim(t->e.start, over - 4, emit_at(&t->e));
}

struct rm tr_stack_room(struct tr *t)
{
	int32_t n = (int32_t)op_size(t);

	if (t->wide)
		return tr_check_based(t, &t->of[t->k].stack, RSP, -n, 8, true);
	emit_op(&t->e, false, 0x8d, HOST_T1, rm_base(RSP, -n));
	emit_load(&t->e, HOST_T0, rm_gs(GS(c.seg[SEG_SS].base)));
	emit_op(&t->e, false, 0x8d, HOST_T1, rm_index(HOST_T1, HOST_T0, 0));
	tr_check(t, (unsigned int)n, true, false);
	return rm_index(HOST_T1, HOST_T0, -TLB_BIAS);
}

/* What @reg points to on the stack, checked for reading. */
static struct rm stack_top(struct tr *t, unsigned int reg)
{
	if (t->wide)
		return tr_check_based(t, &t->of[t->k].stack, reg, 0, 8, false);
	emit_op(&t->e, false, 0x8b, HOST_T1, rm_reg(reg));
	emit_load(&t->e, HOST_T0, rm_gs(GS(c.seg[SEG_SS].base)));
	emit_op(&t->e, false, 0x8d, HOST_T1, rm_index(HOST_T1, HOST_T0, 0));
	tr_check(t, 4, false, false);
	return rm_index(HOST_T1, HOST_T0, -TLB_BIAS);
}

static struct rm ret_entry(const struct tr *t, unsigned int index, size_t array)
{
	return rm_gs8(index, t->jumps + (int32_t)array);
}

/* RCX = return address: what ret() will look for. */
static void note_return(struct tr *t, int64_t to)
{
	int n;

	emit_lea(&t->e, HOST_T1, rm_base(RSP, -(int32_t)op_size(t)));
	emit_pext(&t->e, HOST_T1, HOST_T1, rm_gs(GS(jx.rets_mask)));
	emit_op(&t->e, true, 0xf7, 2, rm_reg(HOST_T0)); /* NOT */
	emit_store(&t->e, HOST_T0, ret_entry(t, HOST_T1, offsetof(struct jumps, ret_not)));
	emit8(&t->e, 0x48); /* LEA RCX, [RIP + rel32] */
	emit8(&t->e, 0x8d);
	emit8(&t->e, 0x0d);
	emit32(&t->e, 0);
	n = new_link(t, LINK_RETURN, to);
	(void)tr_cold(t, t->j->returned, link_code(t, t->u, n), 0, n);
	emit_store(&t->e, HOST_T0, ret_entry(t, HOST_T1, offsetof(struct jumps, ret_code)));
}

static void push_return(struct tr *t)
{
	struct rm rm = tr_stack_room(t);
	int64_t to = t->u->off + t->u->len;

	if (rm.index == HOST_T0) {
		emit_lea(&t->e, HOST_T1, rm);
		rm = rm_base(HOST_T1, 0);
	}
	page_address(t, HOST_T0, to);
	emit_op(&t->e, t->wide, 0x89, HOST_T0, rm);
	if (t->jumps && to < (int64_t)GMEM_PAGE_SIZE && t->n_links < JIT_LINKS)
		note_return(t, to);
}

static bool call_direct(struct tr *t)
{
	int64_t to = target(t);

	push_return(t);
	go(t, to, t->u, to <= t->u->off, -(int32_t)op_size(t));
	return true;
}

/* R11 = where JMP or CALL r/m goes. */
static void indirect_target(struct tr *t)
{
	const ZydisDecodedOperand *o = &t->ops[0];

	if (o->type == ZYDIS_OPERAND_TYPE_MEMORY) {
		struct rm rm = tr_operand(t, op_size(t), false, false);

		emit_op(&t->e, t->wide, 0x8b, HOST_T1, rm);
	} else {
		unsigned int g = (unsigned int)ZydisRegisterGetId(o->reg.value), h = jit_host(g);

		emit_op(&t->e, t->wide, 0x8b, HOST_T1,
			h == HOST_MEM ? rm_gs(GS_GPR(g)) : rm_reg(h));
	}
}

static bool jump_indirect(struct tr *t)
{
	if (!t->jumps)
		return false;
	indirect_target(t);
	jump_known(t, t->u, 0);
	return true;
}

/*
 * The target is kept in memory while the return address is pushed.  That may be pushed over the
 * operand, so the interpreter can have the instruction only before.
 */
static bool call_indirect(struct tr *t)
{
	uint8_t *hit;

	if (!t->jumps)
		return false;
	t->two_accesses = t->ops[0].type == ZYDIS_OPERAND_TYPE_MEMORY;
	indirect_target(t);
	t->t1 = -1;
	emit_store(&t->e, HOST_T1, rm_gs(GS(jx.saved)));
	look_up(t->v, &t->e, t->jumps);
	hit = emit_jrcxz(&t->e);
	emit_jmp(&t->e, 0);
	tr_cold_exit(t, t->u);
	emit_here(&t->e, hit);
	push_return(t);
	t->two_accesses = false;
	emit_load(&t->e, HOST_T1, rm_gs(GS(jx.saved)));
	add_rsp(t, -(int32_t)op_size(t));
	jump_found(&t->e, t->jumps);
	return true;
}

/* The entry for the place that RSP points to, if its address is that in R11 and nobody wants us to
 * leave; else by the jump cache. */
static void jump_noted(struct tr *t, int32_t pop)
{
	uint8_t *leave, *hit;
	struct cold *c;

	emit_load8(&t->e, HOST_T0, rm_gs(GS(jumps_mask)));
	leave = emit_jrcxz(&t->e);
	emit_pext(&t->e, HOST_T0, RSP, rm_gs(GS(jx.rets_mask)));
	emit_load(&t->e, HOST_T0, ret_entry(t, HOST_T0, offsetof(struct jumps, ret_not)));
	emit_lea(&t->e, HOST_T0, rm_index(HOST_T0, HOST_T1, 1));
	hit = emit_jrcxz(&t->e);
	emit_here(&t->e, leave);
	emit_jmp(&t->e, 0);
	c = tr_cold(t, t->j->exit, jit_uop_code(t->j, t->u), 0, -1);
	c->look_up = true;
	c->pop = pop;
	emit_here(&t->e, hit);
	emit_pext(&t->e, HOST_T0, RSP, rm_gs(GS(jx.rets_mask)));
	add_rsp(t, pop);
	emit_op(&t->e, false, 0xff, 4, ret_entry(t, HOST_T0, offsetof(struct jumps, ret_code)));
}

static bool ret(struct tr *t)
{
	int32_t pop = (int32_t)op_size(t);
	struct rm rm;

	if (!t->jumps)
		return false;
	if (t->z->opcode == 0xc2)
		pop += (int32_t)(t->z->raw.imm[0].value.u & 0xffff);
	rm = stack_top(t, RSP);
	emit_op(&t->e, t->wide, 0x8b, HOST_T1, rm);
	jump_noted(t, pop);
	return true;
}

/* The near branches that decoding made hot (ops_branch.c): others have other widths. */
static bool branch(struct tr *t, bool *ends)
{
	*ends = true;
	switch (t->z->mnemonic) {
	case ZYDIS_MNEMONIC_JMP:
		if (t->z->opcode != 0xff) {
			int64_t to = target(t);

			go(t, to, t->u, to <= t->u->off, 0);
			return true;
		}
		return jump_indirect(t);
	case ZYDIS_MNEMONIC_CALL:
		return t->z->opcode == 0xe8 ? call_direct(t) : call_indirect(t);
	case ZYDIS_MNEMONIC_RET:
		return ret(t);
	default:
		*ends = false;
		branch_if(t);
		return true;
	}
}

static bool push_insn(struct tr *t)
{
	const ZydisDecodedOperand *o = &t->ops[0];
	unsigned int g, h;
	struct rm rm;

	if (o->type == ZYDIS_OPERAND_TYPE_MEMORY) {
		t->two_accesses = true;
		rm = tr_operand(t, op_size(t), false, false);
		emit_op(&t->e, t->wide, 0x8b, HOST_T1, rm);
		emit_store(&t->e, HOST_T1, rm_gs(GS(jx.saved)));
		t->t1 = -1;
		rm = tr_stack_room(t);
		t->two_accesses = false;
		emit_lea(&t->e, HOST_T1, rm);
		emit_load(&t->e, HOST_T0, rm_gs(GS(jx.saved)));
		emit_op(&t->e, t->wide, 0x89, HOST_T0, rm_base(HOST_T1, 0));
	} else if (o->type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
		rm = tr_stack_room(t);
		t->t1_kept = tr_in_group(t, &t->of[t->k].stack);
		emit_op(&t->e, t->wide, 0xc7, 0, rm);
		emit32(&t->e, (uint32_t)o->imm.value.s);
	} else if (o->type == ZYDIS_OPERAND_TYPE_REGISTER) {
		g = (unsigned int)ZydisRegisterGetId(o->reg.value);
		h = jit_host(g);
		rm = tr_stack_room(t);
		if (h == HOST_MEM) {
			emit_lea(&t->e, HOST_T1, rm);
			h = HOST_T0;
			emit_load(&t->e, h, rm_gs(GS_GPR(g)));
			rm = rm_base(HOST_T1, 0);
		} else {
			t->t1_kept = tr_in_group(t, &t->of[t->k].stack);
		}
		emit_op(&t->e, t->wide, 0x89, h, rm);
	} else {
		return false;
	}
	add_rsp(t, -(int32_t)op_size(t));
	return true;
}

static bool pop_insn(struct tr *t)
{
	const ZydisDecodedOperand *o = &t->ops[0];
	unsigned int g, h;
	struct rm rm;

	if (o->type != ZYDIS_OPERAND_TYPE_REGISTER)
		return false;
	g = (unsigned int)ZydisRegisterGetId(o->reg.value);
	h = jit_host(g);
	rm = stack_top(t, RSP);
	if (h == HOST_MEM) {
		emit_op(&t->e, t->wide, 0x8b, HOST_T1, rm);
		emit_store(&t->e, HOST_T1, rm_gs(GS_GPR(g)));
	} else {
		emit_op(&t->e, t->wide, 0x8b, h, rm);
		t->t1_kept = tr_in_group(t, &t->of[t->k].stack);
	}
	if (g != RSP)
		add_rsp(t, (int32_t)op_size(t));
	return true;
}

static bool leave_insn(struct tr *t)
{
	struct rm rm = stack_top(t, RBP);

	emit_op(&t->e, t->wide, 0x8b, HOST_T1, rm);
	emit_op(&t->e, t->wide, 0x8d, RSP, rm_base(RBP, (int32_t)op_size(t)));
	emit_op(&t->e, t->wide, 0x8b, RBP, rm_reg(HOST_T1));
	return true;
}

/* In 64-bit mode it has a slow handler. */
static bool is_push_memory(const struct tr *t)
{
	return t->u->fn == op_slow && t->wide && t->z->mnemonic == ZYDIS_MNEMONIC_PUSH &&
	       t->i->has_mem && t->i->stacksize == 8;
}

bool tr_calls_c(const struct tr *t)
{
	if (t->u->fn != op_slow && t->u->fn != op_slow_end)
		return false;
	return !is_push_memory(t) && !tr_is_system(t) && !tr_is_plain(t);
}

bool tr_flow(struct tr *t, bool *ends)
{
	*ends = false;
	if (is_push_memory(t))
		return push_insn(t);
	if (t->u->fn == op_slow || t->u->fn == op_slow_end || t->u->fn == op_ud)
		return false;
	if (!t->wide && !t->u->flat && t->ops[0].type == ZYDIS_OPERAND_TYPE_MEMORY)
		return false;
	switch (t->z->meta.category) {
	case ZYDIS_CATEGORY_COND_BR:
	case ZYDIS_CATEGORY_UNCOND_BR:
	case ZYDIS_CATEGORY_CALL:
	case ZYDIS_CATEGORY_RET:
		return branch(t, ends);
	case ZYDIS_CATEGORY_PUSH:
		return push_insn(t);
	case ZYDIS_CATEGORY_POP:
		return pop_insn(t);
	default:
		return t->z->mnemonic == ZYDIS_MNEMONIC_LEAVE && leave_insn(t);
	}
}
