/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/interp/sys_cr.c - control registers, XCR0, TLB and cache control (SDM vol. 3, 2.5 and 4)
 */
#include "engine/interp/sys.h"

#define CR3_NOFLUSH BIT(63)
#define PHYS_MASK   (BIT(CPU_PHYS_BITS) - 1)

static bool has(const struct ivcpu *v, uint32_t function, enum cpuid_reg reg, unsigned int bit)
{
	return cpu_model_has(&v->vcpu.en->model, function, reg, bit);
}

/* PAE paging: the PDPTEs are registers, loaded when the registers that rule them are. */
static void load_pdptes(struct ivcpu *v, uint64_t cr3)
{
	uint64_t pdpte[4];

	if (!mmu_load_pdptes(v, cr3, pdpte))
		raise_gp(v, 0);
	memcpy(v->c.pdpte, pdpte, sizeof(pdpte));
}

static void cr0_store(struct ivcpu *v, uint64_t x)
{
	struct cpu *c = &v->c;
	uint64_t old = c->cr0, efer = c->efer, changed;
	const uint64_t known = CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP |
			       CR0_AM | CR0_NW | CR0_CD | CR0_PG;

	if (x >> 32)
		raise_gp(v, 0);
	x = (x & known) | CR0_ET;
	changed = old ^ x;
	if (((x & CR0_PG) && !(x & CR0_PE)) || ((x & CR0_NW) && !(x & CR0_CD)))
		raise_gp(v, 0);
	if (!(x & CR0_PG) && (c->cr4 & CR4_PCIDE))
		raise_gp(v, 0);
	if (changed & CR0_PG) {
		bool cs_l = c->seg[SEG_CS].attr & SEG_L;

		if (x & CR0_PG) {
			unsigned int tss = c->tr.attr & SEG_TYPE_MASK;

			if ((efer & EFER_LME) &&
			    (!(c->cr4 & CR4_PAE) || cs_l || (tss | DESC_BUSY) == DESC_TSS16_BUSY))
				raise_gp(v, 0);
			if (efer & EFER_LME)
				efer |= EFER_LMA;
		} else {
			if ((efer & EFER_LMA) && cs_l)
				raise_gp(v, 0);
			efer &= ~EFER_LMA;
		}
	}
	if ((x & CR0_PG) && (c->cr4 & CR4_PAE) && !(efer & EFER_LMA) &&
	    (changed & (CR0_PG | CR0_CD | CR0_NW)))
		load_pdptes(v, c->cr3);
	c->cr0 = x;
	c->efer = efer;
	if (changed & (CR0_PG | CR0_WP | CR0_PE))
		tlb_flush_all(v);
	interp_mode_changed(v);
	v->stop = true;
}

static void cr3_store(struct ivcpu *v, uint64_t x)
{
	struct cpu *c = &v->c;
	bool tagged = is_long(v) && (c->cr4 & CR4_PCIDE), keep = false;

	if (is_long(v)) {
		if (tagged) {
			keep = x & CR3_NOFLUSH;
			x &= ~CR3_NOFLUSH;
		}
		if (x & ~PHYS_MASK)
			raise_gp(v, 0);
	} else {
		x = (uint32_t)x;
		if ((c->cr0 & CR0_PG) && (c->cr4 & CR4_PAE))
			load_pdptes(v, x);
	}
	c->cr3 = x;
	tlb_switch(v, tagged ? x & 0xfff : 0, keep);
	v->stop = true;
}

static uint64_t cr4_known(const struct ivcpu *v)
{
	uint64_t known = CR4_VME | CR4_PVI | CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_MCE |
			 CR4_PGE | CR4_PCE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_UMIP | CR4_FSGSBASE |
			 CR4_PCIDE | CR4_SMEP | CR4_SMAP;

	return has(v, 1, CPUID_ECX, 26) ? known | CR4_OSXSAVE : known;
}

static void cr4_store(struct ivcpu *v, uint64_t x)
{
	struct cpu *c = &v->c;
	uint64_t changed = c->cr4 ^ x;

	if (x & ~cr4_known(v))
		raise_gp(v, 0);
	if (is_long(v) && !(x & CR4_PAE))
		raise_gp(v, 0);
	if ((x & changed & CR4_PCIDE) && (!is_long(v) || (c->cr3 & 0xfff)))
		raise_gp(v, 0);
	if ((c->cr0 & CR0_PG) && (x & CR4_PAE) && !is_long(v) &&
	    (changed & (CR4_PAE | CR4_PGE | CR4_PSE | CR4_SMEP)))
		load_pdptes(v, c->cr3);
	c->cr4 = x;
	if (changed & (CR4_PSE | CR4_PAE | CR4_PGE | CR4_PCIDE | CR4_SMEP | CR4_SMAP))
		tlb_flush_all(v);
	interp_mode_changed(v);
	v->stop = true;
}

/* MOV CR is always of the mode's full width. */
static unsigned int cr_width(const struct ivcpu *v)
{
	return v->mode == MODE_LONG ? 8 : 4;
}

void sys_mov_from_cr(struct ivcpu *v, const struct x86_insn *i)
{
	const struct cpu *c = &v->c;
	uint64_t x;

	if (i->reg != 0 && i->reg != 2 && i->reg != 3 && i->reg != 4 && i->reg != 8)
		raise_ud(v);
	require_cpl0(v);
	switch (i->reg) {
	case 0:
		x = c->cr0;
		break;
	case 2:
		x = c->cr2;
		break;
	case 3:
		x = c->cr3;
		break;
	case 4:
		x = c->cr4;
		break;
	default:
		x = exit_cr8_read(v);
	}
	gpr_set(v, i->rm, cr_width(v), true, x);
}

void sys_mov_to_cr(struct ivcpu *v, const struct x86_insn *i)
{
	uint64_t x = gpr_get(v, i->rm, cr_width(v), true);

	if (i->reg != 0 && i->reg != 2 && i->reg != 3 && i->reg != 4 && i->reg != 8)
		raise_ud(v);
	require_cpl0(v);
	switch (i->reg) {
	case 0:
		cr0_store(v, x);
		break;
	case 2:
		v->c.cr2 = x;
		break;
	case 3:
		cr3_store(v, x);
		break;
	case 4:
		cr4_store(v, x);
		break;
	default:
		if (x & ~UINT64_C(15))
			raise_gp(v, 0);
		exit_cr8_write(v, x);
	}
}

void sys_lmsw(struct ivcpu *v, const struct x86_insn *i)
{
	uint64_t x;

	require_cpl0(v);
	/* PE can be set, not cleared. */
	x = (rm_get(v, i, 2) & 0xf) | (v->c.cr0 & CR0_PE);
	cr0_store(v, (v->c.cr0 & ~UINT64_C(0xf)) | x);
}

void sys_clts(struct ivcpu *v, const struct x86_insn *i)
{
	require_cpl0(v);
	v->c.cr0 &= ~CR0_TS;
	interp_mode_changed(v);
}

void sys_invlpg(struct ivcpu *v, const struct x86_insn *i)
{
	uint64_t lin = v->c.seg[i->seg].base + insn_ea(v, i);

	require_cpl0(v);
	if (v->mode != MODE_LONG)
		lin = (uint32_t)lin;
	else if (i->seg < SEG_FS)
		lin -= v->c.seg[i->seg].base;
	tlb_flush_page(v, lin);
}

void sys_invpcid(struct ivcpu *v, const struct x86_insn *i)
{
	uint64_t type = gpr_get(v, i->reg, cr_width(v), true);
	uint64_t pcid, lin, desc[2];

	if (!has(v, 7, CPUID_EBX, 10) || !(v->c.cr0 & CR0_PE))
		raise_ud(v);
	require_cpl0(v);
	lin_read(v, insn_lin(v, i, 16, ACC_READ), desc, 16);
	pcid = desc[0];
	lin = desc[1];
	if (type > 3 || (pcid & ~UINT64_C(0xfff)) || (type == 0 && !canonical(lin)) ||
	    (type < 2 && pcid && !(v->c.cr4 & CR4_PCIDE)))
		raise_gp(v, 0);
	switch (type) {
	case 0:
		tlb_flush_pcid_page(v, (uint16_t)pcid, lin);
		break;
	case 1:
		tlb_flush_pcid(v, (uint16_t)pcid);
		break;
	case 2:
		tlb_flush_all(v);
		break;
	default:
		tlb_flush_local(v);
	}
}

/* Guest memory is as coherent as the host's: nothing to write back. */
void sys_wbinvd(struct ivcpu *v, const struct x86_insn *i)
{
	require_cpl0(v);
}

void sys_xgetbv(struct ivcpu *v, const struct x86_insn *i)
{
	if (!(v->c.cr4 & CR4_OSXSAVE))
		raise_ud(v);
	if ((uint32_t)v->c.gpr[RCX] != 0)
		raise_gp(v, 0);
	v->c.gpr[RAX] = (uint32_t)v->c.xcr0;
	v->c.gpr[RDX] = v->c.xcr0 >> 32;
}

void sys_xsetbv(struct ivcpu *v, const struct x86_insn *i)
{
	uint64_t x = (v->c.gpr[RDX] << 32) | (uint32_t)v->c.gpr[RAX];
	uint64_t known = XSTATE_X87 | XSTATE_SSE | (has(v, 1, CPUID_ECX, 28) ? XSTATE_AVX : 0);

	if (!(v->c.cr4 & CR4_OSXSAVE))
		raise_ud(v);
	require_cpl0(v);
	if ((uint32_t)v->c.gpr[RCX] != 0 || (x & ~known) || !(x & XSTATE_X87) ||
	    ((x & XSTATE_AVX) && !(x & XSTATE_SSE)))
		raise_gp(v, 0);
	v->c.xcr0 = x;
	interp_mode_changed(v);
	v->stop = true;
}
