/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/interp/sys_task.c - task switches through a TSS (SDM vol. 3, 8.3)
 *
 *	check the new TSS, read it whole, save the old state     faults belong to the old task
 *	------------------------------------------------------- commit
 *	load registers, then check LDTR, CS, SS, DS..GS           faults (#TS, #NP, #SS) to the new
 */
#include "engine/interp/sys.h"

/* Offsets by TSS kind. */
struct layout {
	unsigned int size; /* of a register */
	uint32_t min_limit, cr3, eip, eflags, regs, segs, ldt, trap;
	unsigned int n_segs, seg_step;
};

static const struct layout layout16 = {
    .size = 2,
    .min_limit = 43,
    .eip = 14,
    .eflags = 16,
    .regs = 18,
    .segs = 34,
    .ldt = 42,
    .n_segs = 4,
    .seg_step = 2,
};
static const struct layout layout32 = {
    .size = 4,
    .min_limit = 103,
    .cr3 = 28,
    .eip = 32,
    .eflags = 36,
    .regs = 40,
    .segs = 72,
    .ldt = 96,
    .trap = 100,
    .n_segs = 6,
    .seg_step = 4,
};

struct task {
	uint64_t cr3, rip, rflags, gpr[8];
	uint16_t segs[SEG_COUNT], ldt;
	bool trap;
};

static uint64_t tss_ld(struct ivcpu *v, uint64_t base, uint32_t off, unsigned int size)
{
	return sys_ld(v, (uint32_t)(base + off), size);
}

static void tss_st(struct ivcpu *v, uint64_t base, uint32_t off, unsigned int size, uint64_t x)
{
	sys_st(v, (uint32_t)(base + off), size, x);
}

static const struct layout *layout_of(unsigned int type)
{
	return type >= DESC_TSS32 ? &layout32 : &layout16;
}

static struct task task_read(struct ivcpu *v, uint64_t base, const struct layout *l)
{
	struct task t = {0};

	t.rip = tss_ld(v, base, l->eip, l->size);
	t.rflags = tss_ld(v, base, l->eflags, l->size);
	for (unsigned int i = 0; i < 8; i++) {
		t.gpr[i] = tss_ld(v, base, l->regs + i * l->size, l->size);
		if (l->size == 2)
			t.gpr[i] |= 0xffff0000;
	}
	for (unsigned int i = 0; i < l->n_segs; i++)
		t.segs[i] = (uint16_t)tss_ld(v, base, l->segs + i * l->seg_step, 2);
	t.ldt = (uint16_t)tss_ld(v, base, l->ldt, 2);
	if (l->cr3)
		t.cr3 = tss_ld(v, base, l->cr3, 4);
	if (l->trap)
		t.trap = tss_ld(v, base, l->trap, 2) & 1;
	return t;
}

static void task_save(struct ivcpu *v, const struct layout *l, uint64_t rip, uint64_t flags)
{
	const struct cpu *c = &v->c;
	uint64_t base = c->tr.base;

	tss_st(v, base, l->eip, l->size, rip);
	tss_st(v, base, l->eflags, l->size, flags);
	for (unsigned int i = 0; i < 8; i++)
		tss_st(v, base, l->regs + i * l->size, l->size, c->gpr[i]);
	for (unsigned int i = 0; i < l->n_segs; i++)
		tss_st(v, base, l->segs + i * l->seg_step, 2, c->seg[i].sel);
}

static void set_busy(struct ivcpu *v, uint64_t lin, bool busy)
{
	uint8_t type = (uint8_t)sys_ld(v, lin + 5, 1);

	sys_st(v, lin + 5, 1, busy ? type | DESC_BUSY : type & ~DESC_BUSY);
}

/* The descriptor of the task to switch to. */
static struct desc tss_check(struct ivcpu *v, uint16_t sel, enum task_cause cause)
{
	unsigned int vector = cause == TASK_IRET ? VEC_TS : VEC_GP;
	struct desc d;
	unsigned int type;
	bool busy;

	if (SEL_NULL(sel) || (sel & SEL_LDT) || !desc_read(v, sel, &d) || !desc_is_system(&d))
		raise_fault_error(v, vector, SEL_ERR(sel));
	type = desc_type(&d);
	busy = type & DESC_BUSY;
	if ((type & ~DESC_BUSY) != DESC_TSS16 && (type & ~DESC_BUSY) != DESC_TSS32)
		raise_fault_error(v, vector, SEL_ERR(sel));
	if (busy != (cause == TASK_IRET))
		raise_fault_error(v, vector, SEL_ERR(sel));
	if (!(desc_attr(&d) & SEG_P))
		raise_fault_error(v, VEC_NP, SEL_ERR(sel));
	return d;
}

/* --- the new task's segments --------------------------------------------------------------------
 */

static void load_code(struct ivcpu *v, uint16_t sel)
{
	unsigned int cpl = SEL_RPL(sel);
	struct desc d;
	uint32_t attr;

	if (SEL_NULL(sel) || !desc_read(v, sel, &d) || !desc_is_code(&d))
		raise_fault_error(v, VEC_TS, SEL_ERR(sel));
	attr = desc_attr(&d);
	if (attr & SEG_CONFORM ? SEG_DPL(attr) > cpl : SEG_DPL(attr) != cpl)
		raise_fault_error(v, VEC_TS, SEL_ERR(sel));
	if (!(attr & SEG_P))
		raise_fault_error(v, VEC_NP, SEL_ERR(sel));
	desc_set_accessed(v, &d);
	v->c.seg[SEG_CS] = desc_segment(&d, sel);
}

static void load_data(struct ivcpu *v, unsigned int seg, uint16_t sel, unsigned int cpl)
{
	struct desc d;
	uint32_t attr;
	bool conforming;

	if (SEL_NULL(sel))
		return;
	if (!desc_read(v, sel, &d))
		raise_fault_error(v, VEC_TS, SEL_ERR(sel));
	attr = desc_attr(&d);
	conforming = (attr & (SEG_CODE | SEG_CONFORM)) == (SEG_CODE | SEG_CONFORM);
	if (!(attr & SEG_S) || (attr & (SEG_CODE | SEG_WRITE)) == SEG_CODE ||
	    (!conforming && (SEL_RPL(sel) > SEG_DPL(attr) || cpl > SEG_DPL(attr))))
		raise_fault_error(v, VEC_TS, SEL_ERR(sel));
	if (!(attr & SEG_P))
		raise_fault_error(v, VEC_NP, SEL_ERR(sel));
	desc_set_accessed(v, &d);
	v->c.seg[seg] = desc_segment(&d, sel);
}

static void load_segments(struct ivcpu *v, const struct task *t)
{
	struct cpu *c = &v->c;
	unsigned int cpl = SEL_RPL(t->segs[SEG_CS]);

	ldtr_load(v, t->ldt, VEC_TS);
	if (c->rflags & FL_VM)
		return;
	load_code(v, t->segs[SEG_CS]);
	c->seg[SEG_SS] = seg_check_ss(v, t->segs[SEG_SS], cpl, VEC_TS);
	interp_mode_changed(v);
	load_data(v, SEG_ES, t->segs[SEG_ES], cpl);
	load_data(v, SEG_DS, t->segs[SEG_DS], cpl);
	load_data(v, SEG_FS, t->segs[SEG_FS], cpl);
	load_data(v, SEG_GS, t->segs[SEG_GS], cpl);
	if (c->rip > c->seg[SEG_CS].limit)
		raise_gp(v, 0);
}

/* Selectors first; their descriptors are checked in the new task. */
static void commit(struct ivcpu *v, const struct task *t, const struct layout *l)
{
	struct cpu *c = &v->c;
	unsigned int cpl = SEL_RPL(t->segs[SEG_CS]);

	if (l->cr3 && (c->cr0 & CR0_PG)) {
		c->cr3 = t->cr3;
		tlb_flush_all(v);
	}
	c->rip = v->next_rip = t->rip;
	c->rflags = (t->rflags & (FL_ARITH | FL_TF | FL_IF | FL_DF | FL_IOPL | FL_NT | FL_RF |
				  FL_VM | FL_AC | FL_VIF | FL_VIP | FL_ID)) |
		    FL_ONE;
	for (unsigned int i = 0; i < 8; i++)
		c->gpr[i] = t->gpr[i];
	for (unsigned int i = 0; i < SEG_COUNT; i++) {
		if (c->rflags & FL_VM)
			c->seg[i] = seg_real(v, i, t->segs[i]);
		else
			c->seg[i] = (struct cpu_segment){
			    .sel = t->segs[i],
			    .attr = SEG_UNUSABLE | cpl << SEG_DPL_SHIFT,
			};
	}
	c->ldtr = (struct cpu_segment){.sel = t->ldt, .attr = SEG_UNUSABLE};
	c->dr7 &= ~UINT64_C(0x155); /* local enables */
	c->cr0 |= CR0_TS;
	if (t->trap)
		c->pending_dbg |= BIT(15); /* BT */
	interp_mode_changed(v);
}

void task_switch(struct ivcpu *v, uint16_t sel, enum task_cause cause, uint64_t ret_rip,
		 uint64_t ret_flags)
{
	struct cpu *c = &v->c;
	struct desc d = tss_check(v, sel, cause), old;
	struct cpu_segment tss = desc_segment(&d, sel);
	const struct layout *l = layout_of(desc_type(&d));
	uint64_t pdpte[4];
	struct task t;

	if (tss.limit < l->min_limit)
		raise_fault_error(v, VEC_TS, SEL_ERR(sel));
	t = task_read(v, tss.base, l);
	if (l->cr3 && (c->cr0 & CR0_PG) && (c->cr4 & CR4_PAE)) {
		if (!mmu_load_pdptes(v, t.cr3, pdpte))
			raise_fault_error(v, VEC_TS, SEL_ERR(sel));
	} else {
		memcpy(pdpte, c->pdpte, sizeof(pdpte));
	}
	if (cause == TASK_IRET)
		ret_flags &= ~(uint64_t)FL_NT;
	task_save(v, layout_of(c->tr.attr & SEG_TYPE_MASK), ret_rip, ret_flags);
	if ((cause == TASK_JMP || cause == TASK_IRET) && desc_read(v, c->tr.sel & 0xfff8, &old))
		set_busy(v, old.lin, false);
	if (cause == TASK_CALL || cause == TASK_EVENT) {
		tss_st(v, tss.base, 0, 2, c->tr.sel);
		t.rflags |= FL_NT;
	}
	if (cause != TASK_IRET)
		set_busy(v, d.lin, true);
	tss.attr |= DESC_BUSY;
	c->tr = tss;
	memcpy(c->pdpte, pdpte, sizeof(pdpte));
	commit(v, &t, l);
	load_segments(v, &t);
	v->stop = true;
}
