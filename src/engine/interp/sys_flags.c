/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/interp/sys_flags.c - PUSHF, POPF, CLI, STI, CLAC, STAC (SDM vol. 2; vol. 3, 20.3: VME,
 * PVI)
 */
#include "engine/interp/sys.h"

/* In V86 mode below IOPL 3, 16-bit flag instructions work on VIF when CR4.VME is set. */
static bool v86_virtual(struct ivcpu *v)
{
	return (v->c.rflags & FL_VM) && iopl(v) < 3;
}

void sys_pushf(struct ivcpu *v, const struct x86_insn *i)
{
	uint64_t f = v->c.rflags & ~(uint64_t)(FL_VM | FL_RF);

	if (v86_virtual(v)) {
		if (!(v->c.cr4 & CR4_VME) || i->stacksize != 2)
			raise_gp(v, 0);
		f = (f & ~(uint64_t)FL_IF) | FL_IOPL | (f & FL_VIF ? FL_IF : 0);
	}
	push(v, i->stacksize, f);
}

void sys_popf(struct ivcpu *v, const struct x86_insn *i)
{
	struct stack s = stack_current(v);
	uint64_t mask = FL_ARITH | FL_TF | FL_DF | FL_NT;
	bool virtual = v86_virtual(v);
	uint64_t f;

	if (virtual && (!(v->c.cr4 & CR4_VME) || i->stacksize != 2))
		raise_gp(v, 0);
	f = stack_pop(v, &s, i->stacksize);
	if (i->stacksize > 2) {
		mask |= FL_RF | FL_AC | FL_ID;
		f &= ~(uint64_t)FL_RF;
	}
	if (virtual) {
		if ((f & FL_TF) || ((f & FL_IF) && (v->c.rflags & FL_VIP)))
			raise_gp(v, 0);
		f = (f & ~(uint64_t)FL_VIF) | (f & FL_IF ? FL_VIF : 0);
		mask |= FL_VIF;
	} else if (v->cpl <= iopl(v)) {
		mask |= FL_IF;
	}
	if (v->cpl == 0)
		mask |= FL_IOPL;
	v->c.gpr[RSP] = stack_rsp(v, &s);
	flags_store(v, f, mask);
}

/* Which flag CLI and STI work on here: IF, VIF, or neither (#GP). */
static uint64_t interrupt_flag(struct ivcpu *v)
{
	if (v->cpl <= iopl(v))
		return FL_IF;
	if (v->c.rflags & FL_VM ? v->c.cr4 & CR4_VME : v->cpl == 3 && (v->c.cr4 & CR4_PVI))
		return FL_VIF;
	raise_gp(v, 0);
}

void sys_cli(struct ivcpu *v, const struct x86_insn *i)
{
	v->c.rflags &= ~interrupt_flag(v);
}

void sys_sti(struct ivcpu *v, const struct x86_insn *i)
{
	uint64_t flag = interrupt_flag(v);

	if (flag == FL_VIF) {
		if (v->c.rflags & FL_VIP)
			raise_gp(v, 0);
	} else if (!(v->c.rflags & FL_IF)) {
		v->c.int_shadow = 1;
		v->stop = true;
	}
	v->c.rflags |= flag;
}

static void set_ac(struct ivcpu *v, bool on)
{
	if (v->cpl != 0 || (v->c.rflags & FL_VM))
		raise_ud(v);
	flags_store(v, on ? FL_AC : 0, FL_AC);
}

void sys_clac(struct ivcpu *v, const struct x86_insn *i)
{
	set_ac(v, false);
}

void sys_stac(struct ivcpu *v, const struct x86_insn *i)
{
	set_ac(v, true);
}
