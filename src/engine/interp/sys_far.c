/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/interp/sys_far.c - far JMP, CALL and RET (SDM vol. 2; vol. 3, 5.8)
 */
#include "engine/interp/sys.h"

struct far_pointer {
	uint16_t sel;
	uint64_t off;
};

enum far_kind { FAR_JMP, FAR_CALL };

void rip_check(struct ivcpu *v, const struct cpu_segment *cs, uint64_t rip)
{
	bool ok = is_long(v) && (cs->attr & SEG_L) ? canonical(rip) : rip <= cs->limit;

	if (!ok)
		raise_gp(v, 0);
}

void cs_commit(struct ivcpu *v, const struct cpu_segment *cs, unsigned int cpl, uint64_t rip)
{
	v->c.seg[SEG_CS] = *cs;
	v->c.seg[SEG_CS].sel = (uint16_t)((cs->sel & ~3u) | cpl);
	v->next_rip = rip;
	/* As an Intel host does: far transfers to compatibility mode leave no upper half in RSP,
	 * and that keeps a kernel's 16-bit stack trick from showing its address. */
	if (!(cs->attr & SEG_L))
		v->c.gpr[RSP] = (uint32_t)v->c.gpr[RSP];
}

static struct far_pointer far_target(struct ivcpu *v, const struct x86_insn *i)
{
	struct far_pointer p;

	if (!i->has_modrm) { /* 9A, EA: offset, selector */
		const uint8_t *imm = &i->raw[i->opcode_off + 1];

		p.off = i->opsize == 2 ? load_le16(imm) : load_le32(imm);
		p.sel = load_le16(imm + i->opsize);
	} else {
		uint64_t lin = insn_lin(v, i, i->opsize + 2u, ACC_READ);

		p.off = lin_ld(v, lin, i->opsize);
		p.sel = lin_ld16(v, lin + i->opsize);
	}
	return p;
}

static void push_return(struct ivcpu *v, struct stack *s, unsigned int size)
{
	stack_push(v, s, size, v->c.seg[SEG_CS].sel);
	stack_push(v, s, size, v->next_rip);
}

static void far_real(struct ivcpu *v, struct far_pointer p, enum far_kind kind, unsigned int size)
{
	struct stack s = stack_current(v);
	struct cpu_segment cs = seg_real(v, SEG_CS, p.sel);

	if (kind == FAR_CALL)
		push_return(v, &s, size);
	if (p.off > cs.limit)
		raise_gp(v, 0);
	v->c.gpr[RSP] = stack_rsp(v, &s);
	v->c.seg[SEG_CS] = cs;
	v->next_rip = p.off;
}

/* Checks a code segment named by a far pointer (@gate false) or a call gate. */
static void check_code(struct ivcpu *v, uint16_t sel, const struct desc *d)
{
	uint32_t attr = desc_attr(d);

	if (is_long(v) && (attr & (SEG_L | SEG_DB)) == (SEG_L | SEG_DB))
		raise_gp(v, SEL_ERR(sel));
	if (attr & SEG_CONFORM) {
		if (SEG_DPL(attr) > v->cpl)
			raise_gp(v, SEL_ERR(sel));
	} else if (SEL_RPL(sel) > v->cpl || SEG_DPL(attr) != v->cpl) {
		raise_gp(v, SEL_ERR(sel));
	}
	if (!(attr & SEG_P))
		raise_fault_error(v, VEC_NP, SEL_ERR(sel));
}

static void far_code(struct ivcpu *v, struct far_pointer p, struct desc *d, enum far_kind kind,
		     unsigned int size)
{
	struct stack s = stack_current(v);
	struct cpu_segment cs;

	check_code(v, p.sel, d);
	cs = desc_segment(d, p.sel);
	if (!(is_long(v) && (cs.attr & SEG_L)))
		p.off = (uint32_t)p.off;
	if (kind == FAR_CALL)
		push_return(v, &s, size);
	rip_check(v, &cs, p.off);
	desc_set_accessed(v, d);
	v->c.gpr[RSP] = stack_rsp(v, &s);
	cs_commit(v, &cs, v->cpl, p.off);
}

/* --- call gates --------------------------------------------------------------------------------
 */

struct call_gate {
	uint16_t sel;
	uint64_t off;
	unsigned int params, size; /* in words of @size bytes */
};

static struct call_gate gate_parse(struct ivcpu *v, uint16_t sel, struct desc *d)
{
	struct call_gate g = {
	    .sel = (uint16_t)(d->raw >> 16),
	    .off = (d->raw & 0xffff) | ((d->raw >> 32) & 0xffff0000),
	    .params = (d->raw >> 32) & 31,
	    .size = 4,
	};

	if (is_long(v)) {
		desc_read_high(v, sel, d);
		if ((d->high >> 40) & 0x1f)
			raise_gp(v, SEL_ERR(sel));
		g.off |= d->high << 32;
		g.params = 0;
		g.size = 8;
	} else if (desc_type(d) == DESC_CALL16) {
		g.off &= 0xffff;
		g.size = 2;
	}
	return g;
}

/* CALL to a more privileged level: new stack from the TSS, parameters copied. */
static void gate_inner(struct ivcpu *v, const struct call_gate *g, const struct cpu_segment *cs,
		       unsigned int cpl)
{
	struct cpu *c = &v->c;
	struct stack old = stack_current(v), s = {.super = true};
	uint64_t params[32];

	if (is_long(v)) {
		s.bits = 64;
		s.rsp = tss64_stack(v, cpl, 0);
		s.seg = (struct cpu_segment){.sel = (uint16_t)cpl, .attr = NULL_SS(cpl)};
	} else {
		uint16_t ss;
		uint32_t esp;

		tss_stack(v, cpl, &ss, &esp);
		s.seg = seg_check_ss(v, ss, cpl, VEC_TS);
		s.rsp = esp;
		s.bits = stack_bits(v, &s.seg, false);
		s.error = SEL_ERR(ss);
	}
	for (unsigned int k = 0; k < g->params; k++)
		params[k] = stack_pop(v, &old, g->size);
	stack_push(v, &s, g->size, c->seg[SEG_SS].sel);
	stack_push(v, &s, g->size, c->gpr[RSP]);
	for (unsigned int k = g->params; k > 0; k--)
		stack_push(v, &s, g->size, params[k - 1]);
	push_return(v, &s, g->size);
	rip_check(v, cs, g->off);
	c->seg[SEG_SS] = s.seg;
	c->gpr[RSP] = s.rsp;
	cs_commit(v, cs, cpl, g->off);
}

static void far_gate(struct ivcpu *v, uint16_t sel, struct desc *d, enum far_kind kind)
{
	struct call_gate g;
	struct cpu_segment cs;
	struct desc code;
	uint32_t attr;

	if (SEG_DPL(desc_attr(d)) < v->cpl || SEG_DPL(desc_attr(d)) < SEL_RPL(sel))
		raise_gp(v, SEL_ERR(sel));
	if (!(desc_attr(d) & SEG_P))
		raise_fault_error(v, VEC_NP, SEL_ERR(sel));
	g = gate_parse(v, sel, d);
	if (SEL_NULL(g.sel))
		raise_gp(v, 0);
	if (!desc_read(v, g.sel, &code) || !desc_is_code(&code))
		raise_gp(v, SEL_ERR(g.sel));
	attr = desc_attr(&code);
	if (SEG_DPL(attr) > v->cpl ||
	    (kind == FAR_JMP && !(attr & SEG_CONFORM) && SEG_DPL(attr) != v->cpl) ||
	    (is_long(v) && (attr & (SEG_L | SEG_DB)) != SEG_L))
		raise_gp(v, SEL_ERR(g.sel));
	if (!(attr & SEG_P))
		raise_fault_error(v, VEC_NP, SEL_ERR(g.sel));
	desc_set_accessed(v, &code);
	cs = desc_segment(&code, g.sel);
	if (kind == FAR_CALL && !(attr & SEG_CONFORM) && SEG_DPL(attr) < v->cpl) {
		gate_inner(v, &g, &cs, SEG_DPL(attr));
		return;
	}
	{
		struct stack s = stack_current(v);

		if (is_long(v)) /* the gate leads to 64-bit code, whose stack is flat */
			s.bits = 64;
		if (kind == FAR_CALL)
			push_return(v, &s, g.size);
		rip_check(v, &cs, g.off);
		v->c.gpr[RSP] = stack_rsp(v, &s);
		cs_commit(v, &cs, v->cpl, g.off);
	}
}

/* --- tasks --- */

static void far_task(struct ivcpu *v, uint16_t sel, const struct desc *d, enum far_kind kind)
{
	uint32_t attr = desc_attr(d);

	if (SEG_DPL(attr) < v->cpl || SEG_DPL(attr) < SEL_RPL(sel))
		raise_gp(v, SEL_ERR(sel));
	if (!(attr & SEG_P))
		raise_fault_error(v, VEC_NP, SEL_ERR(sel));
	if (desc_type(d) == DESC_TASK)
		sel = (uint16_t)(d->raw >> 16);
	task_switch(v, sel, kind == FAR_CALL ? TASK_CALL : TASK_JMP, v->next_rip, v->c.rflags);
}

static void far_protected(struct ivcpu *v, struct far_pointer p, enum far_kind kind,
			  unsigned int size)
{
	struct desc d;

	if (SEL_NULL(p.sel))
		raise_gp(v, 0);
	if (!desc_read(v, p.sel, &d))
		raise_gp(v, SEL_ERR(p.sel));
	if (desc_is_code(&d)) {
		far_code(v, p, &d, kind, size);
		return;
	}
	if (!desc_is_system(&d))
		raise_gp(v, SEL_ERR(p.sel));
	switch (desc_type(&d)) {
	case DESC_CALL16:
		if (is_long(v))
			raise_gp(v, SEL_ERR(p.sel));
		far_gate(v, p.sel, &d, kind);
		return;
	case DESC_CALL32:
		far_gate(v, p.sel, &d, kind);
		return;
	case DESC_TASK:
	case DESC_TSS16:
	case DESC_TSS32:
		if (is_long(v))
			raise_gp(v, SEL_ERR(p.sel));
		far_task(v, p.sel, &d, kind);
		return;
	default:
		raise_gp(v, SEL_ERR(p.sel));
	}
}

static void far_transfer(struct ivcpu *v, const struct x86_insn *i, enum far_kind kind)
{
	struct far_pointer p = far_target(v, i);

	if (is_protected(v))
		far_protected(v, p, kind, i->opsize);
	else
		far_real(v, p, kind, i->opsize);
	interp_mode_changed(v);
}

void sys_jmp_far(struct ivcpu *v, const struct x86_insn *i)
{
	far_transfer(v, i, FAR_JMP);
}

void sys_call_far(struct ivcpu *v, const struct x86_insn *i)
{
	far_transfer(v, i, FAR_CALL);
}

/* --- RET --- */

static void ret_protected(struct ivcpu *v, struct stack *s, unsigned int size, unsigned int drop,
			  uint64_t rip, uint16_t sel)
{
	struct cpu *c = &v->c;
	unsigned int cpl = SEL_RPL(sel);
	struct cpu_segment cs, ss;
	struct desc d;
	uint16_t ss_sel;
	uint64_t rsp;
	uint32_t attr;

	if (SEL_NULL(sel))
		raise_gp(v, 0);
	if (!desc_read(v, sel, &d) || !desc_is_code(&d) || cpl < v->cpl)
		raise_gp(v, SEL_ERR(sel));
	attr = desc_attr(&d);
	if ((attr & SEG_CONFORM ? SEG_DPL(attr) > cpl : SEG_DPL(attr) != cpl) ||
	    (is_long(v) && (attr & (SEG_L | SEG_DB)) == (SEG_L | SEG_DB)))
		raise_gp(v, SEL_ERR(sel));
	if (!(attr & SEG_P))
		raise_fault_error(v, VEC_NP, SEL_ERR(sel));
	cs = desc_segment(&d, sel);
	stack_skip(s, drop);
	if (cpl == v->cpl) {
		rip_check(v, &cs, rip);
		desc_set_accessed(v, &d);
		c->gpr[RSP] = stack_rsp(v, s);
		cs_commit(v, &cs, cpl, rip);
		return;
	}
	rsp = stack_pop(v, s, size);
	ss_sel = (uint16_t)stack_pop(v, s, size);
	if (SEL_NULL(ss_sel) && is_long(v) && (attr & SEG_L) && cpl < 3 && SEL_RPL(ss_sel) == cpl)
		ss = (struct cpu_segment){.sel = ss_sel, .attr = NULL_SS(cpl)};
	else
		ss = seg_check_ss(v, ss_sel, cpl, VEC_GP);
	rip_check(v, &cs, rip);
	desc_set_accessed(v, &d);
	c->seg[SEG_SS] = ss;
	s->bits = stack_bits(v, &ss, is_long(v) && (attr & SEG_L));
	s->rsp = rsp;
	stack_skip(s, drop);
	c->gpr[RSP] = stack_rsp(v, s);
	cs_commit(v, &cs, cpl, rip);
	seg_drop_privileged(v, cpl);
}

void sys_ret_far(struct ivcpu *v, const struct x86_insn *i)
{
	struct stack s = stack_current(v);
	unsigned int drop = i->opcode == 0xca ? load_le16(&i->raw[i->opcode_off + 1]) : 0;
	uint64_t rip = stack_pop(v, &s, i->opsize);
	uint16_t sel = (uint16_t)stack_pop(v, &s, i->opsize);

	if (is_protected(v)) {
		ret_protected(v, &s, i->opsize, drop, rip, sel);
	} else {
		struct cpu_segment cs = seg_real(v, SEG_CS, sel);

		if (rip > cs.limit)
			raise_gp(v, 0);
		stack_skip(&s, drop);
		v->c.gpr[RSP] = stack_rsp(v, &s);
		v->c.seg[SEG_CS] = cs;
		v->next_rip = rip;
	}
	interp_mode_changed(v);
}
