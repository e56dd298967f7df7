/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/interp/sys_misc.c - CPUID, HLT, hypercalls, cache lines, serializing
 */
#include "engine/interp/sys.h"

void sys_cpuid(struct ivcpu *v, const struct x86_insn *i)
{
	struct cpu *c = &v->c;
	uint32_t out[4];

	cpu_model_query(&v->vcpu.en->model, v->vcpu.index, c->cr4, c->xcr0, (uint32_t)c->gpr[RAX],
			(uint32_t)c->gpr[RCX], out);
	if ((uint32_t)c->gpr[RAX] == 1 && !(c->apic_base & BIT(11)))
		out[3] &= ~(uint32_t)BIT(9);
	c->gpr[RAX] = out[0];
	c->gpr[RBX] = out[1];
	c->gpr[RCX] = out[2];
	c->gpr[RDX] = out[3];
}

void sys_hlt(struct ivcpu *v, const struct x86_insn *i)
{
	struct cpu *c = &v->c;

	require_cpl0(v);
	if ((c->rflags & FL_TF) ||
	    c->pending_dbg) /* a trap is due: it would end the halt at once */
		return;
	c->rip = v->next_rip;
	c->mp_state = CPU_HALTED;
	c->int_shadow = 0;
	c->rflags &= ~(uint64_t)FL_RF;
	*v->exit = (struct vm_exit){.reason = EXIT_HLT};
	raise_exit(v);
}

/* VMCALL and VMMCALL, the KVM interface: number in RAX, the answer goes there. */
void sys_hypercall(struct ivcpu *v, const struct x86_insn *i)
{
	if (v->cpl != 0 || !is_protected(v))
		raise_ud(v);
	v->c.rip = v->next_rip;
	v->c.int_shadow = 0;
	*v->exit = (struct vm_exit){.reason = EXIT_HYPERCALL, .data = v->c.gpr[RAX]};
	raise_exit(v);
}

/* CLFLUSH, CLFLUSHOPT, CLWB: the checks of a load, no effect. */
void sys_cache_line(struct ivcpu *v, const struct x86_insn *i)
{
	lin_probe(v, insn_lin(v, i, 1, ACC_READ), 1, ACC_READ);
}

void sys_serialize(struct ivcpu *v, const struct x86_insn *i)
{
	if (!cpu_model_has(&v->vcpu.en->model, 7, CPUID_EDX, 14))
		raise_ud(v);
	v->stop = true;
}
