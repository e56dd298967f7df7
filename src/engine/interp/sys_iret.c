/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/interp/sys_iret.c - IRET (SDM vol. 2), and storing RFLAGS
 */
#include "engine/interp/sys.h"

#define FLAGS_USER (FL_ARITH | FL_TF | FL_DF | FL_NT)

void flags_store(struct ivcpu *v, uint64_t value, uint64_t mask)
{
	uint64_t old = v->c.rflags, new = (old & ~mask) | (value & mask) | FL_ONE;

	v->c.rflags = new;
	if ((old ^ new) & (FL_AC | FL_VM))
		interp_mode_changed(v);
	if (new & ~old &(FL_IF | FL_TF))
		v->stop = true;
}

struct iret_frame {
	uint64_t rip, flags, rsp;
	uint16_t cs, ss;
};

/* Flags that IRET at @cpl restores with operand size @size. */
static uint64_t iret_mask(const struct ivcpu *v, unsigned int size)
{
	uint64_t mask = FLAGS_USER;

	if (size > 2)
		mask |= FL_RF | FL_AC | FL_ID;
	if (v->cpl <= iopl(v))
		mask |= FL_IF;
	if (v->cpl == 0) {
		mask |= FL_IOPL;
		if (size > 2)
			mask |= FL_VIF | FL_VIP;
	}
	return mask;
}

static void iret_real(struct ivcpu *v, unsigned int size)
{
	struct stack s = stack_current(v);
	uint64_t rip = stack_pop(v, &s, size);
	uint16_t sel = (uint16_t)stack_pop(v, &s, size);
	uint64_t flags = stack_pop(v, &s, size);
	uint64_t mask = FLAGS_USER | FL_IF | (size > 2 ? FL_RF | FL_AC | FL_ID : 0);
	struct cpu_segment cs = seg_real(v, SEG_CS, sel);

	if (rip > cs.limit)
		raise_gp(v, 0);
	if (!(v->c.rflags & FL_VM)) {
		mask |= FL_IOPL;
	} else if (iopl(v) < 3) {
		/* VME: the virtual interrupt flag takes IF's place. */
		if (!(v->c.cr4 & CR4_VME) || size != 2 || (flags & FL_TF) ||
		    ((flags & FL_IF) && (v->c.rflags & FL_VIP)))
			raise_gp(v, 0);
		mask = (mask & ~(uint64_t)FL_IF) | FL_VIF;
		flags = (flags & ~(uint64_t)FL_VIF) | (flags & FL_IF ? FL_VIF : 0);
	}
	v->c.gpr[RSP] = stack_rsp(v, &s);
	v->c.seg[SEG_CS] = cs;
	v->next_rip = rip;
	flags_store(v, flags, mask);
}

/* 32-bit IRET at CPL 0 with VM set in the popped flags. */
static void iret_to_v86(struct ivcpu *v, struct stack *s, const struct iret_frame *f)
{
	static const uint8_t order[] = {SEG_ES, SEG_DS, SEG_FS, SEG_GS};
	struct cpu *c = &v->c;
	uint64_t esp = stack_pop(v, s, 4);
	uint16_t ss = (uint16_t)stack_pop(v, s, 4), sels[4];

	for (unsigned int k = 0; k < 4; k++)
		sels[k] = (uint16_t)stack_pop(v, s, 4);
	if ((uint32_t)f->rip > 0xffff)
		raise_gp(v, 0);
	c->rflags |= FL_VM;
	flags_store(v, f->flags,
		    FLAGS_USER | FL_IF | FL_IOPL | FL_RF | FL_AC | FL_ID | FL_VIF | FL_VIP);
	for (unsigned int k = 0; k < 4; k++)
		c->seg[order[k]] = seg_real(v, order[k], sels[k]);
	c->seg[SEG_SS] = seg_real(v, SEG_SS, ss);
	c->seg[SEG_CS] = seg_real(v, SEG_CS, f->cs);
	c->gpr[RSP] = (uint32_t)esp;
	v->next_rip = (uint32_t)f->rip;
}

static struct cpu_segment iret_code(struct ivcpu *v, uint16_t sel, struct desc *d)
{
	unsigned int cpl = SEL_RPL(sel);
	uint32_t attr;

	if (SEL_NULL(sel))
		raise_gp(v, 0);
	if (!desc_read(v, sel, d) || !desc_is_code(d) || cpl < v->cpl)
		raise_gp(v, SEL_ERR(sel));
	attr = desc_attr(d);
	if ((attr & SEG_CONFORM ? SEG_DPL(attr) > cpl : SEG_DPL(attr) != cpl) ||
	    (is_long(v) && (attr & (SEG_L | SEG_DB)) == (SEG_L | SEG_DB)))
		raise_gp(v, SEL_ERR(sel));
	if (!(attr & SEG_P))
		raise_fault_error(v, VEC_NP, SEL_ERR(sel));
	return desc_segment(d, sel);
}

static void iret_protected(struct ivcpu *v, unsigned int size)
{
	struct cpu *c = &v->c;
	struct stack s = stack_current(v);
	struct iret_frame f = {.rip = stack_pop(v, &s, size)};
	uint64_t mask = iret_mask(v, size);
	struct cpu_segment cs, ss = c->seg[SEG_SS];
	unsigned int old_cpl = v->cpl, cpl;
	struct desc d;
	bool code64;

	f.cs = (uint16_t)stack_pop(v, &s, size);
	f.flags = stack_pop(v, &s, size);
	if (size == 4 && (f.flags & FL_VM) && v->cpl == 0 && !is_long(v)) {
		iret_to_v86(v, &s, &f);
		return;
	}
	cs = iret_code(v, f.cs, &d);
	cpl = SEL_RPL(f.cs);
	code64 = is_long(v) && (cs.attr & SEG_L);
	if (cpl != old_cpl || v->mode == MODE_LONG) {
		f.rsp = stack_pop(v, &s, size);
		f.ss = (uint16_t)stack_pop(v, &s, size);
		if (SEL_NULL(f.ss) && code64 && cpl < 3 && SEL_RPL(f.ss) == cpl)
			ss = (struct cpu_segment){.sel = f.ss, .attr = NULL_SS(cpl)};
		else
			ss = seg_check_ss(v, f.ss, cpl, VEC_GP);
		s.bits = stack_bits(v, &ss, code64);
		s.rsp = f.rsp;
	}
	rip_check(v, &cs, f.rip);
	desc_set_accessed(v, &d);
	c->gpr[RSP] = stack_rsp(v, &s);
	c->seg[SEG_SS] = ss;
	cs_commit(v, &cs, cpl, f.rip);
	flags_store(v, f.flags, mask);
	if (cpl != old_cpl)
		seg_drop_privileged(v, cpl);
}

void sys_iret(struct ivcpu *v, const struct x86_insn *i)
{
	v->c.nmi_masked = 0; /* also when it faults */
	if (!is_protected(v)) {
		if ((v->c.rflags & FL_VM) && iopl(v) < 3 && !(v->c.cr4 & CR4_VME))
			raise_gp(v, 0);
		iret_real(v, i->opsize);
	} else if (v->c.rflags & FL_NT) {
		const struct cpu_segment *tr = &v->c.tr;
		uint16_t link;

		if (is_long(v))
			raise_gp(v, 0);
		link = (uint16_t)sys_ld(v, (uint32_t)tr->base, 2);
		task_switch(v, link, TASK_IRET, v->next_rip, v->c.rflags);
	} else {
		iret_protected(v, i->opsize);
	}
	interp_mode_changed(v);
	v->stop = true;
}
