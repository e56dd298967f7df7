/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/interp/sys_int.c - INT n, INT3, INTO, INT1, BOUND (SDM vol. 2; vol. 3, 20.3 for VME)
 */
#include "engine/interp/sys.h"

/* Does the TSS's redirection bitmap send INT @n of V86 code to its own vector table? */
static bool redirected(struct ivcpu *v, unsigned int n)
{
	const struct cpu_segment *tr = &v->c.tr;
	uint32_t io_map, off;

	if ((tr->attr & SEG_TYPE_MASK & ~DESC_BUSY) != DESC_TSS32 || tr->limit < 103)
		raise_gp(v, 0);
	io_map = (uint32_t)sys_ld(v, (uint32_t)(tr->base + 102), 2);
	off = io_map - 32 + n / 8;
	if (io_map < 32 || off > tr->limit)
		raise_gp(v, 0);
	return !((sys_ld(v, (uint32_t)(tr->base + off), 1) >> (n % 8)) & 1);
}

/* As an 8086 would take it: vector table at linear 0. */
static void int_8086(struct ivcpu *v, unsigned int n)
{
	struct cpu *c = &v->c;
	struct stack s = stack_current(v);
	uint64_t flags = c->rflags & ~(uint64_t)(FL_RF | FL_VM), clear = FL_TF | FL_IF;
	uint32_t entry = lin_ld32(v, n * 4u);

	if (iopl(v) < 3) {
		flags = (flags & ~(uint64_t)FL_IF) | FL_IOPL | (flags & FL_VIF ? FL_IF : 0);
		clear = FL_TF | FL_VIF;
	}
	stack_push(v, &s, 2, flags);
	stack_push(v, &s, 2, c->seg[SEG_CS].sel);
	stack_push(v, &s, 2, v->next_rip);
	c->gpr[RSP] = stack_rsp(v, &s);
	c->seg[SEG_CS] = seg_real(v, SEG_CS, (uint16_t)(entry >> 16));
	c->rflags &= ~clear;
	v->next_rip = entry & 0xffff;
	interp_mode_changed(v);
}

void sys_int(struct ivcpu *v, const struct x86_insn *i)
{
	unsigned int n = i->raw[i->opcode_off + 1];

	if (v->c.rflags & FL_VM) {
		if ((v->c.cr4 & CR4_VME) && redirected(v, n)) {
			int_8086(v, n);
			return;
		}
		if (iopl(v) < 3)
			raise_gp(v, 0);
	}
	event_deliver_from(v, n, EVENT_SOFT_INT, v->next_rip);
}

void sys_int3(struct ivcpu *v, const struct x86_insn *i)
{
	event_deliver_from(v, VEC_BP, EVENT_SOFT_EXC, v->next_rip);
}

void sys_into(struct ivcpu *v, const struct x86_insn *i)
{
	if (v->c.rflags & FL_OF)
		event_deliver_from(v, VEC_OF, EVENT_SOFT_EXC, v->next_rip);
}

/* No privilege check, and V86 mode does not matter.  Traps that MOV SS held back become part of it.
 */
void sys_int1(struct ivcpu *v, const struct x86_insn *i)
{
	v->c.dr6 |= v->c.pending_dbg;
	v->c.pending_dbg = 0;
	event_deliver_from(v, VEC_DB, EVENT_INT1, v->next_rip);
}
