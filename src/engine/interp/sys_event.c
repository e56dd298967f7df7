/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/interp/sys_event.c - delivery through the IDT (SDM vol. 3, chapter 6)
 *
 *	event -> deliver_once: real mode | protected gate | long gate | task gate
 *	           | fault on the way
 *	           v
 *	         next_event: benign -> deliver the second; contributory -> #DF; from #DF -> shutdown
 *
 * deliver_once does all its memory accesses before it changes registers, so a fault leaves the
 * state of the interrupted instruction intact (a task switch is the architected exception).
 */
#include "engine/interp/sys.h"

#define IDT_ERR(vector) ((uint32_t)(vector)*8 + 2)

struct event {
	unsigned int vector, type;
	bool has_error;
	uint32_t error;
	uint64_t ret_rip;
};

struct gate {
	unsigned int type, dpl;
	uint16_t sel;
	uint64_t off;
	unsigned int ist;
	bool present;
};

static bool is_software(const struct event *ev)
{
	return ev->type == EVENT_SOFT_INT || ev->type == EVENT_SOFT_EXC;
}

static uint64_t idt_lin(const struct ivcpu *v, uint64_t off)
{
	uint64_t lin = v->c.idtr.base + off;

	return is_long(v) ? lin : (uint32_t)lin;
}

/* RFLAGS as pushed: RF is set for faults, but not for debug exceptions; traps come with it clear.
 */
static uint64_t pushed_flags(const struct ivcpu *v, const struct event *ev)
{
	uint64_t f = v->c.rflags;

	if (ev->type == EVENT_FAULT)
		return ev->vector == VEC_DB ? f & ~(uint64_t)FL_RF : f | FL_RF;
	return is_software(ev) || ev->type == EVENT_INT1 ? f & ~(uint64_t)FL_RF : f;
}

/* --- real mode --- */

static void deliver_real(struct ivcpu *v, const struct event *ev)
{
	struct cpu *c = &v->c;
	struct stack s = stack_current(v);
	uint64_t off = ev->vector * 4u;
	struct cpu_segment cs;
	uint32_t entry;

	if (off + 3 > c->idtr.limit)
		raise_gp(v, IDT_ERR(ev->vector));
	entry = (uint32_t)sys_ld(v, idt_lin(v, off), 4);
	stack_push(v, &s, 2, c->rflags);
	stack_push(v, &s, 2, c->seg[SEG_CS].sel);
	stack_push(v, &s, 2, ev->ret_rip);
	c->gpr[RSP] = stack_rsp(v, &s);
	cs = seg_real(v, SEG_CS, (uint16_t)(entry >> 16));
	c->seg[SEG_CS] = cs;
	c->rip = entry & 0xffff;
	c->rflags &= ~(uint64_t)(FL_IF | FL_TF | FL_AC | FL_RF);
}

/* --- gates --- */

static struct gate gate_read(struct ivcpu *v, const struct event *ev)
{
	unsigned int size = is_long(v) ? 16 : 8;
	uint64_t off = ev->vector * size, raw;
	struct gate g;

	if (off + size - 1 > v->c.idtr.limit)
		raise_gp(v, IDT_ERR(ev->vector));
	raw = sys_ld(v, idt_lin(v, off), 8);
	g = (struct gate){
	    .type = (raw >> 40) & 0x1f, /* with S, which must be 0 */
	    .dpl = (raw >> 45) & 3,
	    .present = raw & BIT(47),
	    .sel = (uint16_t)(raw >> 16),
	    .off = (raw & 0xffff) | ((raw >> 32) & 0xffff0000),
	};
	if (is_long(v)) {
		g.ist = (raw >> 32) & 7;
		g.off |= sys_ld(v, idt_lin(v, off + 8), 8) << 32;
		if (g.type != DESC_INT32 && g.type != DESC_TRAP32)
			raise_gp(v, IDT_ERR(ev->vector));
	} else if (g.type != DESC_TASK && g.type != DESC_INT16 && g.type != DESC_TRAP16 &&
		   g.type != DESC_INT32 && g.type != DESC_TRAP32) {
		raise_gp(v, IDT_ERR(ev->vector));
	}
	if (g.type == DESC_INT16 || g.type == DESC_TRAP16)
		g.off &= 0xffff;
	if (is_software(ev) && g.dpl < v->cpl)
		raise_gp(v, IDT_ERR(ev->vector));
	if (!g.present)
		raise_fault_error(v, VEC_NP, IDT_ERR(ev->vector));
	return g;
}

void tss_stack(struct ivcpu *v, unsigned int cpl, uint16_t *ss, uint32_t *esp)
{
	const struct cpu_segment *tr = &v->c.tr;
	bool wide = (tr->attr & SEG_TYPE_MASK) >= DESC_TSS32;
	uint32_t off = wide ? 4 + 8 * cpl : 2 + 4 * cpl;

	if (off + (wide ? 5 : 3) > tr->limit)
		raise_fault_error(v, VEC_TS, SEL_ERR(tr->sel));
	if (wide) {
		*esp = (uint32_t)sys_ld(v, (uint32_t)(tr->base + off), 4);
		*ss = (uint16_t)sys_ld(v, (uint32_t)(tr->base + off + 4), 2);
	} else {
		*esp = (uint32_t)sys_ld(v, (uint32_t)(tr->base + off), 2);
		*ss = (uint16_t)sys_ld(v, (uint32_t)(tr->base + off + 2), 2);
	}
}

uint64_t tss64_stack(struct ivcpu *v, unsigned int cpl, unsigned int ist)
{
	const struct cpu_segment *tr = &v->c.tr;
	uint32_t off = ist ? 36 + 8 * (ist - 1) : 4 + 8 * cpl;
	uint64_t rsp;

	if (off + 7 > tr->limit)
		raise_fault_error(v, VEC_TS, SEL_ERR(tr->sel));
	rsp = sys_ld(v, tr->base + off, 8);
	if (!canonical(rsp))
		raise_fault_error(v, VEC_SS, 0);
	return rsp;
}

/* The handler's code segment; @cpl gets the level it runs at. */
static struct cpu_segment gate_target(struct ivcpu *v, const struct gate *g, unsigned int *cpl)
{
	struct desc d;
	uint32_t attr;

	if (SEL_NULL(g->sel))
		raise_gp(v, 0);
	if (!desc_read(v, g->sel, &d) || !desc_is_code(&d) || SEG_DPL(desc_attr(&d)) > v->cpl)
		raise_gp(v, SEL_ERR(g->sel));
	attr = desc_attr(&d);
	if (is_long(v) && (attr & (SEG_L | SEG_DB)) != SEG_L)
		raise_gp(v, SEL_ERR(g->sel));
	if (!(attr & SEG_P))
		raise_fault_error(v, VEC_NP, SEL_ERR(g->sel));
	*cpl = attr & SEG_CONFORM ? v->cpl : SEG_DPL(attr);
	if ((v->c.rflags & FL_VM) && *cpl != 0)
		raise_gp(v, SEL_ERR(g->sel));
	desc_set_accessed(v, &d);
	return desc_segment(&d, (uint16_t)((g->sel & ~3u) | *cpl));
}

static void clear_flags(struct ivcpu *v, const struct gate *g)
{
	uint64_t clear = FL_TF | FL_NT | FL_RF | FL_VM;

	if (g->type == DESC_INT16 || g->type == DESC_INT32)
		clear |= FL_IF;
	v->c.rflags &= ~clear;
}

static void deliver_long(struct ivcpu *v, const struct event *ev, const struct gate *g)
{
	struct cpu *c = &v->c;
	unsigned int cpl;
	struct cpu_segment cs = gate_target(v, g, &cpl);
	struct stack s = {.bits = 64, .super = cpl < 3, .rsp = c->gpr[RSP]};

	if (g->ist || cpl != v->cpl)
		s.rsp = tss64_stack(v, cpl, g->ist);
	if (!canonical(g->off))
		raise_gp(v, 0);
	s.rsp &= ~UINT64_C(15);
	stack_push(v, &s, 8, c->seg[SEG_SS].sel);
	stack_push(v, &s, 8, c->gpr[RSP]);
	stack_push(v, &s, 8, pushed_flags(v, ev));
	stack_push(v, &s, 8, c->seg[SEG_CS].sel);
	stack_push(v, &s, 8, ev->ret_rip);
	if (ev->has_error)
		stack_push(v, &s, 8, ev->error);
	if (cpl != v->cpl)
		c->seg[SEG_SS] = (struct cpu_segment){.sel = (uint16_t)cpl, .attr = NULL_SS(cpl)};
	c->gpr[RSP] = s.rsp;
	c->seg[SEG_CS] = cs;
	c->rip = g->off;
	clear_flags(v, g);
}

static void push_frame(struct ivcpu *v, struct stack *s, unsigned int size, const struct event *ev,
		       bool outer)
{
	const struct cpu *c = &v->c;

	if (c->rflags & FL_VM) {
		stack_push(v, s, size, c->seg[SEG_GS].sel);
		stack_push(v, s, size, c->seg[SEG_FS].sel);
		stack_push(v, s, size, c->seg[SEG_DS].sel);
		stack_push(v, s, size, c->seg[SEG_ES].sel);
	}
	if (outer) {
		stack_push(v, s, size, c->seg[SEG_SS].sel);
		stack_push(v, s, size, c->gpr[RSP]);
	}
	stack_push(v, s, size, pushed_flags(v, ev));
	stack_push(v, s, size, c->seg[SEG_CS].sel);
	stack_push(v, s, size, ev->ret_rip);
	if (ev->has_error)
		stack_push(v, s, size, ev->error);
}

static void deliver_protected(struct ivcpu *v, const struct event *ev, const struct gate *g)
{
	struct cpu *c = &v->c;
	unsigned int cpl, size = g->type >= DESC_INT32 ? 4 : 2;
	struct cpu_segment cs = gate_target(v, g, &cpl);
	bool outer = cpl != v->cpl, vm = c->rflags & FL_VM;
	struct stack s = stack_current(v);

	if (outer) {
		uint16_t ss;
		uint32_t esp;

		tss_stack(v, cpl, &ss, &esp);
		s.seg = seg_check_ss(v, ss, cpl, VEC_TS);
		s.rsp = esp;
		s.bits = stack_bits(v, &s.seg, false);
		s.super = true;
		s.error = SEL_ERR(ss);
	}
	push_frame(v, &s, size, ev, outer);
	if (g->off > cs.limit)
		raise_gp(v, 0);
	if (outer) {
		c->seg[SEG_SS] = s.seg;
		/* ESP keeps its upper half when the new stack has 16 bits. */
		c->gpr[RSP] = s.bits == 16 ? (c->gpr[RSP] & 0xffff0000) | (s.rsp & 0xffff) : s.rsp;
	} else {
		c->gpr[RSP] = stack_rsp(v, &s);
	}
	if (vm) {
		static const uint8_t segs[] = {SEG_ES, SEG_DS, SEG_FS, SEG_GS};

		for (unsigned int i = 0; i < ARRAY_SIZE(segs); i++)
			c->seg[segs[i]] = (struct cpu_segment){.attr = SEG_UNUSABLE};
	}
	c->seg[SEG_CS] = cs;
	c->rip = g->off;
	clear_flags(v, g);
}

static void deliver_task(struct ivcpu *v, const struct event *ev, const struct gate *g)
{
	bool wide;

	task_switch(v, g->sel, TASK_EVENT, ev->ret_rip, pushed_flags(v, ev));
	if (!ev->has_error)
		return;
	wide = (v->c.tr.attr & SEG_TYPE_MASK) >= DESC_TSS32;
	push(v, wide ? 4 : 2, ev->error);
}

static void deliver_once(struct ivcpu *v, const struct event *ev)
{
	struct gate g;

	if (!(v->c.cr0 & CR0_PE)) {
		deliver_real(v, ev);
		return;
	}
	g = gate_read(v, ev);
	if (g.type == DESC_TASK)
		deliver_task(v, ev, &g);
	else if (is_long(v))
		deliver_long(v, ev, &g);
	else
		deliver_protected(v, ev, &g);
}

/* --- faults while delivering --------------------------------------------------------------------
 */

enum severity { BENIGN, CONTRIBUTORY, PAGE_FAULT, DOUBLE_FAULT };

static enum severity severity(unsigned int vector, unsigned int type)
{
	if (type != EVENT_FAULT)
		return BENIGN;
	switch (vector) {
	case VEC_DE:
	case VEC_TS:
	case VEC_NP:
	case VEC_SS:
	case VEC_GP:
		return CONTRIBUTORY;
	case VEC_PF:
		return PAGE_FAULT;
	case VEC_DF:
		return DOUBLE_FAULT;
	default:
		return BENIGN;
	}
}

static _Noreturn void shut_down(struct ivcpu *v)
{
	*v->exit = (struct vm_exit){.reason = EXIT_SHUTDOWN};
	raise_exit(v);
}

/* Replaces @ev by what follows from the fault v->fault met while delivering it. */
static void next_event(struct ivcpu *v, struct event *ev)
{
	enum severity first = severity(ev->vector, ev->type);
	enum severity second = severity(v->fault.vector, EVENT_FAULT);
	uint32_t error = v->fault.error;

	if (first == DOUBLE_FAULT && second != BENIGN)
		shut_down(v);
	if ((first == CONTRIBUTORY && second == CONTRIBUTORY) ||
	    (first == PAGE_FAULT && second != BENIGN)) {
		*ev = (struct event){
		    .vector = VEC_DF, .type = EVENT_FAULT, .has_error = true, .ret_rip = v->c.rip};
		return;
	}
	/* EXT: not the program's own doing. */
	if (!is_software(ev) && v->fault.has_error && v->fault.vector >= VEC_TS &&
	    v->fault.vector <= VEC_GP)
		error |= 1;
	*ev = (struct event){.vector = v->fault.vector,
			     .type = EVENT_FAULT,
			     .has_error = v->fault.has_error,
			     .error = error,
			     .ret_rip = v->c.rip};
}

static void deliver(struct ivcpu *v, const struct event *first)
{
	struct cpu *c = &v->c;
	sigjmp_buf *outer = v->fault_jmp, here;
	struct event ev = *first, *volatile evp = &ev;

	v->fault_jmp = &here;
	if (sigsetjmp(here, 0) != 0) {
		v->fault_jmp = outer;
		if (v->fault.is_exit) {
			/* Instructions are started again; other events must not get lost. */
			if (!is_software(evp)) {
				c->event_pending = 1;
				c->event_vector = (uint8_t)evp->vector;
				c->event_type = (uint8_t)evp->type;
				c->event_has_error = evp->has_error;
				c->event_error = evp->error;
				c->event_len = 0;
			}
			raise_exit(v);
		}
		next_event(v, evp);
		v->fault_jmp = &here;
	}
	deliver_once(v, evp);
	v->fault_jmp = outer;
	c->event_pending = 0;
	c->int_shadow = 0;
	v->no_step = true;
	if (evp->type == EVENT_NMI)
		c->nmi_masked = 1;
	if (evp->vector == VEC_DB && !is_software(evp)) {
		c->dr7 &= ~BIT(13);          /* GD */
		c->debugctl &= ~UINT64_C(3); /* LBR, BTF */
	}
	interp_mode_changed(v);
	v->stop = true;
}

void event_deliver(struct ivcpu *v, unsigned int vector, unsigned int type, bool has_error,
		   uint32_t error)
{
	deliver(v, &(struct event){.vector = vector,
				   .type = type,
				   .has_error = has_error && (v->c.cr0 & CR0_PE),
				   .error = error,
				   .ret_rip = v->c.rip});
}

void event_deliver_from(struct ivcpu *v, unsigned int vector, unsigned int type, uint64_t ret_rip)
{
	deliver(v, &(struct event){.vector = vector, .type = type, .ret_rip = ret_rip});
	v->next_rip = v->c.rip;
}
