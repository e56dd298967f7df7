/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/interp/sys_seg.c - descriptors, segment loads, stacks (SDM vol. 3, chapters 3 and 5)
 */
#include "engine/interp/sys.h"

bool desc_read(struct ivcpu *v, uint16_t sel, struct desc *ret)
{
	const struct cpu *c = &v->c;
	uint64_t base = c->gdtr.base;
	uint32_t limit = c->gdtr.limit, off = sel & ~7u;

	if (sel & SEL_LDT) {
		if (c->ldtr.attr & SEG_UNUSABLE)
			return false;
		base = c->ldtr.base;
		limit = c->ldtr.limit;
	}
	if (off + 7 > limit)
		return false;
	ret->lin = base + off;
	if (!is_long(v))
		ret->lin = (uint32_t)ret->lin;
	ret->raw = sys_ld(v, ret->lin, 8);
	ret->high = 0;
	return true;
}

void desc_read_high(struct ivcpu *v, uint16_t sel, struct desc *d)
{
	const struct cpu *c = &v->c;
	uint32_t limit = sel & SEL_LDT ? c->ldtr.limit : c->gdtr.limit;

	if ((sel & ~7u) + 15 > limit)
		raise_gp(v, SEL_ERR(sel));
	d->high = sys_ld(v, d->lin + 8, 8);
}

void desc_set_accessed(struct ivcpu *v, struct desc *d)
{
	if (desc_attr(d) & SEG_ACCESSED)
		return;
	d->raw |= (uint64_t)SEG_ACCESSED << 40;
	sys_st(v, d->lin + 5, 1, (d->raw >> 40) & 0xff);
}

struct cpu_segment desc_segment(const struct desc *d, uint16_t sel)
{
	struct cpu_segment s = {
	    .base = ((d->raw >> 16) & 0xffffff) | ((d->raw >> 32) & 0xff000000),
	    .limit = (d->raw & 0xffff) | ((d->raw >> 32) & 0xf0000),
	    .attr = desc_attr(d),
	    .sel = sel,
	};

	if (s.attr & SEG_G)
		s.limit = s.limit << 12 | 0xfff;
	return s;
}

struct cpu_segment desc_system_segment(struct ivcpu *v, const struct desc *d, uint16_t sel)
{
	struct cpu_segment s = desc_segment(d, sel);

	if (is_long(v)) {
		s.base |= d->high << 32;
		if (!canonical(s.base))
			raise_gp(v, SEL_ERR(sel));
	}
	return s;
}

struct cpu_segment seg_real(const struct ivcpu *v, unsigned int seg, uint16_t sel)
{
	struct cpu_segment s = v->c.seg[seg];

	s.sel = sel;
	s.base = (uint64_t)sel << 4;
	if (v->c.rflags & FL_VM) {
		s.limit = 0xffff;
		s.attr = 0xf3;
		return s;
	}
	/* Limit and size stay as they are ("unreal" mode). */
	if (s.attr & SEG_UNUSABLE) {
		s.limit = 0xffff;
		s.attr = 0;
	}
	s.attr = (s.attr & (SEG_G | SEG_DB)) | SEG_P | SEG_S | (seg == SEG_CS ? 0xb : 0x3);
	return s;
}

struct cpu_segment seg_check_ss(struct ivcpu *v, uint16_t sel, unsigned int cpl,
				unsigned int vector)
{
	struct desc d;

	if (SEL_NULL(sel))
		raise_fault_error(v, vector, 0);
	if (!desc_read(v, sel, &d) || SEL_RPL(sel) != cpl || !desc_is_writable_data(&d) ||
	    SEG_DPL(desc_attr(&d)) != cpl)
		raise_fault_error(v, vector, SEL_ERR(sel));
	if (!(desc_attr(&d) & SEG_P))
		raise_fault_error(v, VEC_SS, SEL_ERR(sel));
	desc_set_accessed(v, &d);
	return desc_segment(&d, sel);
}

static struct cpu_segment seg_check_data(struct ivcpu *v, uint16_t sel)
{
	struct desc d;
	uint32_t attr;
	bool conforming;

	if (SEL_NULL(sel))
		return (struct cpu_segment){.sel = sel, .attr = SEG_UNUSABLE};
	if (!desc_read(v, sel, &d))
		raise_gp(v, SEL_ERR(sel));
	attr = desc_attr(&d);
	conforming = (attr & (SEG_CODE | SEG_CONFORM)) == (SEG_CODE | SEG_CONFORM);
	if (!(attr & SEG_S) || (attr & (SEG_CODE | SEG_WRITE)) == SEG_CODE)
		raise_gp(v, SEL_ERR(sel));
	if (!conforming && (SEL_RPL(sel) > SEG_DPL(attr) || v->cpl > SEG_DPL(attr)))
		raise_gp(v, SEL_ERR(sel));
	if (!(attr & SEG_P))
		raise_fault_error(v, VEC_NP, SEL_ERR(sel));
	desc_set_accessed(v, &d);
	return desc_segment(&d, sel);
}

void seg_load(struct ivcpu *v, unsigned int seg, uint16_t sel)
{
	struct cpu_segment s;

	if (!is_protected(v)) {
		s = seg_real(v, seg, sel);
	} else if (seg != SEG_SS) {
		s = seg_check_data(v, sel);
	} else if (SEL_NULL(sel) && v->mode == MODE_LONG && v->cpl < 3 && SEL_RPL(sel) == v->cpl) {
		s = (struct cpu_segment){.sel = sel, .attr = NULL_SS(v->cpl)};
	} else {
		s = seg_check_ss(v, sel, v->cpl, VEC_GP);
	}
	v->c.seg[seg] = s;
	interp_mode_changed(v);
}

void seg_drop_privileged(struct ivcpu *v, unsigned int cpl)
{
	static const uint8_t segs[] = {SEG_ES, SEG_DS, SEG_FS, SEG_GS};

	for (unsigned int i = 0; i < ARRAY_SIZE(segs); i++) {
		struct cpu_segment *s = &v->c.seg[segs[i]];
		bool conforming = (s->attr & (SEG_CODE | SEG_CONFORM)) == (SEG_CODE | SEG_CONFORM);

		/* The base stays: FS and GS of 64-bit code have one by MSR. */
		if ((s->attr & SEG_UNUSABLE) || (!conforming && SEG_DPL(s->attr) < cpl)) {
			s->sel = 0;
			s->attr = SEG_UNUSABLE;
		}
	}
}

void ldtr_load(struct ivcpu *v, uint16_t sel, unsigned int vector)
{
	struct desc d;

	if (SEL_NULL(sel)) {
		v->c.ldtr = (struct cpu_segment){.sel = sel, .attr = SEG_UNUSABLE};
		return;
	}
	if ((sel & SEL_LDT) || !desc_read(v, sel, &d) || !desc_is_system(&d) ||
	    desc_type(&d) != DESC_LDT)
		raise_fault_error(v, vector, SEL_ERR(sel));
	if (!(desc_attr(&d) & SEG_P))
		raise_fault_error(v, vector == VEC_TS ? VEC_TS : VEC_NP, SEL_ERR(sel));
	if (is_long(v))
		desc_read_high(v, sel, &d);
	v->c.ldtr = desc_system_segment(v, &d, sel);
}

/* --- stacks --- */

struct stack stack_current(struct ivcpu *v)
{
	return (struct stack){
	    .seg = v->c.seg[SEG_SS],
	    .rsp = v->c.gpr[RSP],
	    .bits = v->stack_bits,
	};
}

unsigned int stack_bits(const struct ivcpu *v, const struct cpu_segment *ss, bool code64)
{
	if (code64)
		return 64;
	return ss->attr & SEG_DB ? 32 : 16;
}

static uint64_t stack_mask(const struct stack *s)
{
	return s->bits == 64 ? UINT64_MAX : BIT(s->bits) - 1;
}

static uint64_t stack_lin(struct ivcpu *v, const struct stack *s, uint64_t off, unsigned int size)
{
	uint64_t last = off + size - 1;
	bool ok;

	if (s->bits == 64) {
		if (!canonical(off) || !canonical(last))
			raise_fault_error(v, VEC_SS, s->error);
		return off;
	}
	if ((s->seg.attr & (SEG_CODE | SEG_CONFORM)) == SEG_CONFORM)
		ok = off > s->seg.limit && last <= (s->seg.attr & SEG_DB ? UINT32_MAX : 0xffff);
	else
		ok = last <= s->seg.limit;
	if (!ok || (s->seg.attr & SEG_UNUSABLE))
		raise_fault_error(v, VEC_SS, s->error);
	return (uint32_t)(s->seg.base + off);
}

void stack_push(struct ivcpu *v, struct stack *s, unsigned int size, uint64_t x)
{
	uint64_t off = (s->rsp - size) & stack_mask(s);
	uint64_t lin = stack_lin(v, s, off, size);

	if (s->super)
		sys_st(v, lin, size, x);
	else
		lin_st(v, lin, size, x);
	s->rsp = off;
}

uint64_t stack_pop(struct ivcpu *v, struct stack *s, unsigned int size)
{
	uint64_t off = s->rsp & stack_mask(s);
	uint64_t lin = stack_lin(v, s, off, size);
	uint64_t x = s->super ? sys_ld(v, lin, size) : lin_ld(v, lin, size);

	stack_skip(s, size);
	return x;
}

void stack_skip(struct stack *s, unsigned int bytes)
{
	s->rsp = (s->rsp + bytes) & stack_mask(s);
}

uint64_t stack_rsp(const struct ivcpu *v, const struct stack *s)
{
	if (s->bits == 16)
		return (v->c.gpr[RSP] & ~UINT64_C(0xffff)) | (s->rsp & 0xffff);
	return s->rsp & stack_mask(s);
}

/* --- instructions ------------------------------------------------------------------------------
 */

void sys_mov_from_seg(struct ivcpu *v, const struct x86_insn *i)
{
	uint16_t sel = v->c.seg[i->reg & 7].sel;

	if (i->mod == 3)
		gpr_set(v, i->rm, i->opsize, true, sel);
	else
		rm_set(v, i, 2, sel);
}

/* MOV SS and POP SS hold interrupts and debug traps until the next instruction is done. */
static void shadow_after_ss(struct ivcpu *v, unsigned int seg)
{
	if (seg != SEG_SS)
		return;
	v->c.int_shadow = 2;
	v->stop = true;
}

void sys_mov_to_seg(struct ivcpu *v, const struct x86_insn *i)
{
	unsigned int seg = i->reg & 7;

	if (seg == SEG_CS || seg >= SEG_COUNT)
		raise_ud(v);
	seg_load(v, seg, (uint16_t)rm_get(v, i, 2));
	shadow_after_ss(v, seg);
}

/* 06 0E 16 1E: ES CS SS DS in bits 4:3; 0F A0, 0F A8: FS, GS. */
static unsigned int opcode_seg(const struct x86_insn *i)
{
	return i->map == 1 ? SEG_FS + ((i->opcode >> 3) & 1) : (i->opcode >> 3) & 3;
}

void sys_push_seg(struct ivcpu *v, const struct x86_insn *i)
{
	uint16_t sel = v->c.seg[opcode_seg(i)].sel;
	uint64_t sp = v->c.gpr[RSP] - 4;

	if (i->stacksize != 4) {
		push(v, i->stacksize, sel);
		return;
	}
	/* the processor leaves the upper half of the doubleword as it was */
	lin_st16(v, stack_linear(v, sp, 4, ACC_WRITE), sel);
	gpr_set(v, RSP, v->stack_bits / 8, true, sp);
}

void sys_pop_seg(struct ivcpu *v, const struct x86_insn *i)
{
	struct stack s = stack_current(v);
	uint16_t sel = (uint16_t)stack_pop(v, &s, i->stacksize);
	unsigned int seg = opcode_seg(i);

	/* The new RSP counts in the old stack's width, before SS changes it. */
	uint64_t rsp = stack_rsp(v, &s);

	seg_load(v, seg, sel);
	v->c.gpr[RSP] = rsp;
	shadow_after_ss(v, seg);
}

void sys_load_far_pointer(struct ivcpu *v, const struct x86_insn *i)
{
	uint64_t lin = insn_lin(v, i, i->opsize + 2u, ACC_READ);
	uint64_t off = lin_ld(v, lin, i->opsize);
	uint16_t sel = lin_ld16(v, lin + i->opsize);
	unsigned int seg;

	if (i->map == 0)
		seg = i->opcode == 0xc4 ? SEG_ES : SEG_DS;
	else
		seg = i->opcode == 0xb2 ? SEG_SS : i->opcode == 0xb4 ? SEG_FS : SEG_GS;
	seg_load(v, seg, sel);
	gpr_set(v, i->reg, i->opsize, true, off);
}
