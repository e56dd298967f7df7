/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/interp/sys_call.c - SYSCALL, SYSRET, SYSENTER, SYSEXIT, SWAPGS, FS/GS bases
 *
 * Vendors differ: Intel knows SYSCALL in 64-bit mode only and checks SYSRET's RIP; AMD knows it in
 * compatibility and legacy mode too, but has no SYSENTER in long mode (APM vol. 3).
 */
#include "engine/interp/sys.h"

static bool is_amd(const struct ivcpu *v)
{
	return v->vcpu.en->model.vendor == VENDOR_AMD;
}

static struct cpu_segment flat(uint16_t sel, uint32_t attr)
{
	return (struct cpu_segment){.sel = sel, .limit = UINT32_MAX, .attr = attr};
}

void sys_syscall(struct ivcpu *v, const struct x86_insn *i)
{
	struct cpu *c = &v->c;
	uint16_t sel = (c->star >> 32) & 0xfffc;

	if (!(c->efer & EFER_SCE) || !is_protected(v) || (v->mode != MODE_LONG && !is_amd(v)))
		raise_ud(v);
	c->gpr[RCX] = v->next_rip;
	if (is_long(v)) {
		c->gpr[R11] = c->rflags & ~(uint64_t)FL_RF;
		c->rflags = (c->rflags & ~(c->sfmask | FL_RF)) | FL_ONE;
		v->next_rip = v->mode == MODE_LONG ? c->lstar : c->cstar;
		v->no_step = !(c->rflags & FL_TF);
		c->seg[SEG_CS] = flat(sel, FLAT_CODE64(0u));
	} else {
		c->rflags &= ~(uint64_t)(FL_IF | FL_RF | FL_VM);
		v->next_rip = (uint32_t)c->star;
		c->seg[SEG_CS] = flat(sel, FLAT_CODE32(0u));
	}
	c->seg[SEG_SS] = flat((uint16_t)(sel + 8), FLAT_DATA(0u));
	interp_mode_changed(v);
}

void sys_sysret(struct ivcpu *v, const struct x86_insn *i)
{
	struct cpu *c = &v->c;
	uint16_t sel = (uint16_t)(c->star >> 48);
	bool to64 = v->mode == MODE_LONG && i->opsize == 8;

	if (!(c->efer & EFER_SCE) || !is_protected(v) || (v->mode != MODE_LONG && !is_amd(v)))
		raise_ud(v);
	require_cpl0(v);
	if (to64 && !is_amd(v) && !canonical(c->gpr[RCX]))
		raise_gp(v, 0);
	v->next_rip = to64 ? c->gpr[RCX] : (uint32_t)c->gpr[RCX];
	c->seg[SEG_CS] = to64 ? flat((uint16_t)((sel + 16) | 3), FLAT_CODE64(3u))
			      : flat((uint16_t)(sel | 3), FLAT_CODE32(3u));
	if (is_amd(v)) { /* only the selector changes; the level is our SS.DPL */
		c->seg[SEG_SS].sel = (uint16_t)((sel + 8) | 3);
		c->seg[SEG_SS].attr |= 3u << SEG_DPL_SHIFT;
	} else {
		c->seg[SEG_SS] = flat((uint16_t)((sel + 8) | 3), FLAT_DATA(3u));
	}
	if (is_long(v))
		c->rflags = (c->gpr[R11] & SYSRET_FLAGS) | FL_ONE;
	else
		c->rflags |= FL_IF;
	/* Unlike with POPF and IRET, a TF that is set now traps before the next instruction. */
	if (c->rflags & FL_TF)
		c->pending_dbg |= BIT(14);
	interp_mode_changed(v);
	v->stop = true;
}

void sys_sysenter(struct ivcpu *v, const struct x86_insn *i)
{
	struct cpu *c = &v->c;
	uint16_t sel = c->sysenter_cs & 0xfffc;

	if (is_amd(v) && is_long(v))
		raise_ud(v);
	if (!(c->cr0 & CR0_PE) || !sel)
		raise_gp(v, 0);
	c->rflags &= ~(uint64_t)(FL_VM | FL_IF | FL_RF);
	c->gpr[RSP] = is_long(v) ? c->sysenter_esp : (uint32_t)c->sysenter_esp;
	v->next_rip = is_long(v) ? c->sysenter_eip : (uint32_t)c->sysenter_eip;
	c->seg[SEG_CS] = flat(sel, is_long(v) ? FLAT_CODE64(0u) : FLAT_CODE32(0u));
	c->seg[SEG_SS] = flat((uint16_t)(sel + 8), FLAT_DATA(0u));
	interp_mode_changed(v);
}

void sys_sysexit(struct ivcpu *v, const struct x86_insn *i)
{
	struct cpu *c = &v->c;
	uint16_t sel = c->sysenter_cs & 0xfffc;
	bool to64 = v->mode == MODE_LONG && i->opsize == 8;

	if (is_amd(v) && is_long(v))
		raise_ud(v);
	if (!is_protected(v) || !sel || v->cpl != 0)
		raise_gp(v, 0);
	if (to64 && (!canonical(c->gpr[RCX]) || !canonical(c->gpr[RDX])))
		raise_gp(v, 0);
	sel = (uint16_t)(sel + (to64 ? 32 : 16));
	c->gpr[RSP] = to64 ? c->gpr[RCX] : (uint32_t)c->gpr[RCX];
	v->next_rip = to64 ? c->gpr[RDX] : (uint32_t)c->gpr[RDX];
	c->seg[SEG_CS] = flat(sel | 3, to64 ? FLAT_CODE64(3u) : FLAT_CODE32(3u));
	c->seg[SEG_SS] = flat((uint16_t)((sel + 8) | 3), FLAT_DATA(3u));
	interp_mode_changed(v);
}

void sys_swapgs(struct ivcpu *v, const struct x86_insn *i)
{
	struct cpu *c = &v->c;
	uint64_t base = c->seg[SEG_GS].base;

	if (v->mode != MODE_LONG)
		raise_ud(v);
	require_cpl0(v);
	c->seg[SEG_GS].base = c->kernel_gs_base;
	c->kernel_gs_base = base;
}

/* RDFSBASE, RDGSBASE, WRFSBASE, WRGSBASE: F3 0F AE /0 to /3, register form. */
void sys_fsgsbase(struct ivcpu *v, const struct x86_insn *i)
{
	unsigned int op = (i->modrm >> 3) & 3;
	struct cpu_segment *s = &v->c.seg[op & 1 ? SEG_GS : SEG_FS];
	uint64_t base;

	if (v->mode != MODE_LONG || !(v->c.cr4 & CR4_FSGSBASE))
		raise_ud(v);
	if (op < 2) {
		gpr_set(v, i->rm, i->opsize, true, s->base);
		return;
	}
	base = gpr_get(v, i->rm, i->opsize, true);
	if (!canonical(base))
		raise_gp(v, 0);
	s->base = base;
}
