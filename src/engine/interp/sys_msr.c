/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/interp/sys_msr.c - RDMSR, WRMSR (SDM vol. 4; docs/cpu-model.md lists what is shown and
 * why)
 */
#include "engine/interp/sys.h"
#include "engine/x86/pvclock.h"

#include <x86intrin.h>

enum msr {
	MSR_TSC = 0x10,
	MSR_PLATFORM_ID = 0x17,
	MSR_APIC_BASE = 0x1b,
	MSR_FEATURE_CONTROL = 0x3a,
	MSR_TSC_ADJUST = 0x3b,
	MSR_SPEC_CTRL = 0x48,
	MSR_PRED_CMD = 0x49,
	MSR_UCODE_WRITE = 0x79,
	MSR_UCODE_REV = 0x8b,
	MSR_PLATFORM_INFO = 0xce,
	MSR_MTRR_CAP = 0xfe,
	MSR_ARCH_CAPABILITIES = 0x10a,
	MSR_SYSENTER_CS = 0x174,
	MSR_SYSENTER_ESP = 0x175,
	MSR_SYSENTER_EIP = 0x176,
	MSR_MCG_CAP = 0x179,
	MSR_MCG_STATUS = 0x17a,
	MSR_MISC_ENABLE = 0x1a0,
	MSR_DEBUGCTL = 0x1d9,
	MSR_LAST_BRANCH_FIRST = 0x1db,
	MSR_LAST_BRANCH_LAST = 0x1de,
	MSR_MTRR_VAR = 0x200,
	MSR_MTRR_VAR_LAST = MSR_MTRR_VAR + 2 * CPU_MTRR_VAR - 1,
	MSR_MTRR_FIX64K = 0x250,
	MSR_MTRR_FIX16K = 0x258,
	MSR_MTRR_FIX4K = 0x268,
	MSR_PAT = 0x277,
	MSR_MTRR_DEF_TYPE = 0x2ff,
	MSR_TSC_DEADLINE = 0x6e0,
	MSR_X2APIC_FIRST = 0x800,
	MSR_X2APIC_LAST = 0x8ff,
	MSR_EFER = 0xc0000080,
	MSR_STAR = 0xc0000081,
	MSR_LSTAR = 0xc0000082,
	MSR_CSTAR = 0xc0000083,
	MSR_SFMASK = 0xc0000084,
	MSR_FS_BASE = 0xc0000100,
	MSR_GS_BASE = 0xc0000101,
	MSR_KERNEL_GS_BASE = 0xc0000102,
	MSR_TSC_AUX = 0xc0000103,
	/* AMD */
	MSR_SYSCFG = 0xc0010010,
	MSR_HWCR = 0xc0010015,
	MSR_NB_CFG = 0xc001001f,
	MSR_INT_PENDING = 0xc0010055,
	MSR_LS_CFG = 0xc0011020,
	MSR_DC_CFG = 0xc0011022,
	MSR_DE_CFG = 0xc0011029,
};

#define EFER_AUTO_IBRS BIT(21)

/* Immune to all of them, so kernels have nothing to work around: RDCL_NO, IBRS_ALL,
 * SKIP_L1DFL_VMENTRY, SSB_NO, MDS_NO, PSCHANGE_MC_NO, TAA_NO, SBDR_SSDP_NO, FBSDP_NO, PSDP_NO,
 * BHI_NO, PBRSB_NO, GDS_NO, RFDS_NO, ITS_NO. */
#define ARCH_CAPABILITIES                                                                          \
	(BIT(0) | BIT(1) | BIT(3) | BIT(4) | BIT(5) | BIT(6) | BIT(8) | BIT(13) | BIT(14) |        \
	 BIT(15) | BIT(20) | BIT(24) | BIT(26) | BIT(27) | BIT(62))

static bool is_amd(const struct ivcpu *v)
{
	return v->vcpu.en->model.vendor == VENDOR_AMD;
}

uint64_t guest_tsc(const struct ivcpu *v)
{
	return __rdtsc() + v->c.tsc_offset;
}

/* --- memory types --- */

/* Do all eight bytes hold a memory type?  UC, WC, WT, WP, WB; PAT knows UC- too. */
static bool types_ok(uint64_t x, bool pat)
{
	for (unsigned int i = 0; i < 8; i++, x >>= 8) {
		uint8_t t = (uint8_t)x;

		if (t > 7 || t == 2 || t == 3 || (t == 7 && !pat))
			return false;
	}
	return true;
}

/* Index into mtrr_fixed, or -1. */
static int mtrr_fixed_index(uint32_t msr)
{
	if (msr == MSR_MTRR_FIX64K)
		return 0;
	if (msr - MSR_MTRR_FIX16K < 2)
		return (int)(msr - MSR_MTRR_FIX16K) + 1;
	if (msr - MSR_MTRR_FIX4K < 8)
		return (int)(msr - MSR_MTRR_FIX4K) + 3;
	return -1;
}

static uint64_t *mtrr_var(struct cpu *c, uint32_t msr)
{
	unsigned int n = (msr - MSR_MTRR_VAR) / 2;

	return msr & 1 ? &c->mtrr_mask[n] : &c->mtrr_base[n];
}

static bool mtrr_read(struct ivcpu *v, uint32_t msr, uint64_t *ret)
{
	int fixed = mtrr_fixed_index(msr);

	if (fixed >= 0)
		*ret = v->c.mtrr_fixed[fixed];
	else if (msr >= MSR_MTRR_VAR && msr <= MSR_MTRR_VAR_LAST)
		*ret = *mtrr_var(&v->c, msr);
	else
		return false;
	return true;
}

static bool mtrr_write(struct ivcpu *v, uint32_t msr, uint64_t x)
{
	int fixed = mtrr_fixed_index(msr);
	uint64_t reserved = ~(BIT(CPU_PHYS_BITS) - 1);

	if (fixed >= 0) {
		if (!types_ok(x, false))
			raise_gp(v, 0);
		v->c.mtrr_fixed[fixed] = x;
	} else if (msr >= MSR_MTRR_VAR && msr <= MSR_MTRR_VAR_LAST) {
		/* Base: type in 7:0, address from 12; mask: valid in 11. */
		if ((x & (reserved | (msr & 1 ? 0x7ff : 0xf00))) ||
		    (!(msr & 1) && !types_ok(x & 0xff, false)))
			raise_gp(v, 0);
		*mtrr_var(&v->c, msr) = x;
	} else {
		return false;
	}
	return true;
}

/* --- reading -----------------------------------------------------------------------------------
 */

static bool is_exit_msr(uint32_t msr)
{
	return msr == MSR_APIC_BASE || msr == MSR_TSC_DEADLINE ||
	       (msr >= MSR_X2APIC_FIRST && msr <= MSR_X2APIC_LAST);
}

static bool msr_read_vendor(const struct ivcpu *v, uint32_t msr, uint64_t *ret)
{
	switch (msr) {
	case MSR_ARCH_CAPABILITIES:
		*ret = ARCH_CAPABILITIES;
		return !is_amd(v);
	case MSR_PLATFORM_ID:
		*ret = 0;
		return !is_amd(v);
	case MSR_FEATURE_CONTROL:
		*ret = 1; /* locked: no VMX */
		return !is_amd(v);
	case MSR_PLATFORM_INFO: /* maximum ratio of the 100 MHz clock */
		*ret = (uint64_t)((v->vcpu.en->model.tsc_khz / 100000) & 0xff) << 8;
		return !is_amd(v);
	case MSR_DE_CFG:
		*ret = BIT(1); /* LFENCE serializes */
		return is_amd(v);
	case MSR_SYSCFG:
	case MSR_HWCR:
	case MSR_NB_CFG:
	case MSR_INT_PENDING:
	case MSR_LS_CFG:
	case MSR_DC_CFG:
		*ret = 0;
		return is_amd(v);
	default:
		return false;
	}
}

static bool msr_read_control(struct ivcpu *v, uint32_t msr, uint64_t *ret)
{
	const struct cpu *c = &v->c;

	switch (msr) {
	case MSR_TSC_ADJUST:
		*ret = c->tsc_adjust;
		return true;
	case MSR_SPEC_CTRL:
		*ret = c->spec_ctrl;
		return true;
	case MSR_UCODE_REV:
		*ret = BIT(32);
		return true;
	case MSR_MTRR_CAP:
		*ret = CPU_MTRR_VAR | BIT(8) | BIT(10); /* fixed ranges, WC */
		return true;
	case MSR_MTRR_DEF_TYPE:
		*ret = c->mtrr_def_type;
		return true;
	case MSR_PAT:
		*ret = c->pat;
		return true;
	case MSR_MCG_CAP:
		*ret = 0; /* no banks */
		return true;
	case MSR_MCG_STATUS:
		*ret = c->mcg_status;
		return true;
	case MSR_MISC_ENABLE:
		*ret = c->misc_enable;
		return true;
	case MSR_DEBUGCTL:
		*ret = c->debugctl;
		return true;
	case MSR_PVCLOCK_WALL:
	case MSR_PVCLOCK_WALL_OLD:
		*ret = c->pv_wall_clock;
		return true;
	case MSR_PVCLOCK_SYSTEM:
	case MSR_PVCLOCK_SYSTEM_OLD:
		*ret = c->pv_system_time;
		return true;
	}
	if (msr >= MSR_LAST_BRANCH_FIRST && msr <= MSR_LAST_BRANCH_LAST) {
		*ret = 0;
		return true;
	}
	return mtrr_read(v, msr, ret) || msr_read_vendor(v, msr, ret);
}

static uint64_t msr_read(struct ivcpu *v, uint32_t msr)
{
	const struct cpu *c = &v->c;
	uint64_t x;

	switch (msr) {
	case MSR_TSC:
		return guest_tsc(v);
	case MSR_SYSENTER_CS:
		return c->sysenter_cs;
	case MSR_SYSENTER_ESP:
		return c->sysenter_esp;
	case MSR_SYSENTER_EIP:
		return c->sysenter_eip;
	case MSR_EFER:
		return c->efer;
	case MSR_STAR:
		return c->star;
	case MSR_LSTAR:
		return c->lstar;
	case MSR_CSTAR:
		return c->cstar;
	case MSR_SFMASK:
		return c->sfmask;
	case MSR_FS_BASE:
		return c->seg[SEG_FS].base;
	case MSR_GS_BASE:
		return c->seg[SEG_GS].base;
	case MSR_KERNEL_GS_BASE:
		return c->kernel_gs_base;
	case MSR_TSC_AUX:
		return c->tsc_aux;
	}
	if (is_exit_msr(msr))
		return exit_msr_read(v, msr);
	if (!msr_read_control(v, msr, &x))
		raise_gp(v, 0);
	return x;
}

/* --- writing -----------------------------------------------------------------------------------
 */

static void tsc_write(struct ivcpu *v, uint64_t x)
{
	uint64_t delta = x - guest_tsc(v);

	v->c.tsc_offset += delta;
	v->c.tsc_adjust += delta;
}

static void efer_write(struct ivcpu *v, uint64_t x)
{
	struct cpu *c = &v->c;
	uint64_t known =
	    EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE | (is_amd(v) ? EFER_AUTO_IBRS : 0);

	if ((x & ~known) || (((x ^ c->efer) & EFER_LME) && (c->cr0 & CR0_PG)))
		raise_gp(v, 0);
	x = (x & ~EFER_LMA) | (c->efer & EFER_LMA);
	if ((x ^ c->efer) & EFER_NXE)
		tlb_flush_all(v);
	c->efer = x;
	interp_mode_changed(v);
	v->stop = true;
}

static uint64_t require_canonical(struct ivcpu *v, uint64_t x)
{
	if (!canonical(x))
		raise_gp(v, 0);
	return x;
}

static uint64_t require_bits(struct ivcpu *v, uint64_t x, uint64_t known)
{
	if (x & ~known)
		raise_gp(v, 0);
	return x;
}

static void pvclock_msr_write(struct ivcpu *v, uint32_t msr, uint64_t x)
{
	const struct engine *en = v->vcpu.en;
	bool ok;

	if (msr == MSR_PVCLOCK_WALL || msr == MSR_PVCLOCK_WALL_OLD) {
		v->c.pv_wall_clock = x;
		ok = pvclock_write_wall(en->mem, x, en->model.tsc_khz, guest_tsc(v));
	} else {
		v->c.pv_system_time = x;
		ok = pvclock_write_system(en->mem, x, en->model.tsc_khz);
	}
	if (!ok)
		raise_gp(v, 0);
}

static bool msr_write_vendor(const struct ivcpu *v, uint32_t msr)
{
	switch (msr) {
	case MSR_SYSCFG:
	case MSR_HWCR:
	case MSR_NB_CFG:
	case MSR_INT_PENDING:
	case MSR_LS_CFG:
	case MSR_DC_CFG:
	case MSR_DE_CFG:
		return is_amd(v); /* chicken bits: accepted, without effect */
	default:
		return false;
	}
}

static bool msr_write_control(struct ivcpu *v, uint32_t msr, uint64_t x)
{
	struct cpu *c = &v->c;

	switch (msr) {
	case MSR_TSC_ADJUST:
		c->tsc_offset += x - c->tsc_adjust;
		c->tsc_adjust = x;
		return true;
	case MSR_SPEC_CTRL:
		c->spec_ctrl = require_bits(v, x, 0x407); /* IBRS, STIBP, SSBD, BHI_DIS_S */
		return true;
	case MSR_PRED_CMD:
		require_bits(v, x, 1);
		return true;
	case MSR_UCODE_WRITE:
	case MSR_UCODE_REV:
		return true;
	case MSR_MTRR_DEF_TYPE:
		require_bits(v, x, 0xcff);
		if (!types_ok(x & 0xff, false))
			raise_gp(v, 0);
		c->mtrr_def_type = x;
		return true;
	case MSR_PAT:
		if (!types_ok(x, true))
			raise_gp(v, 0);
		c->pat = x;
		return true;
	case MSR_MCG_STATUS:
		c->mcg_status = require_bits(v, x, 7);
		return true;
	case MSR_MISC_ENABLE:
		c->misc_enable = x;
		return true;
	case MSR_DEBUGCTL:
		c->debugctl = require_bits(v, x, 3); /* LBR, BTF */
		return true;
	case MSR_PVCLOCK_WALL:
	case MSR_PVCLOCK_WALL_OLD:
	case MSR_PVCLOCK_SYSTEM:
	case MSR_PVCLOCK_SYSTEM_OLD:
		pvclock_msr_write(v, msr, x);
		return true;
	}
	return mtrr_write(v, msr, x) || msr_write_vendor(v, msr);
}

static void msr_write(struct ivcpu *v, uint32_t msr, uint64_t x)
{
	struct cpu *c = &v->c;

	switch (msr) {
	case MSR_TSC:
		tsc_write(v, x);
		return;
	case MSR_SYSENTER_CS:
		c->sysenter_cs = x;
		return;
	case MSR_SYSENTER_ESP:
		c->sysenter_esp = is_amd(v) ? x : require_canonical(v, x);
		return;
	case MSR_SYSENTER_EIP:
		c->sysenter_eip = is_amd(v) ? x : require_canonical(v, x);
		return;
	case MSR_EFER:
		efer_write(v, x);
		return;
	case MSR_STAR:
		c->star = x;
		return;
	case MSR_LSTAR:
		c->lstar = require_canonical(v, x);
		return;
	case MSR_CSTAR:
		c->cstar = require_canonical(v, x);
		return;
	case MSR_SFMASK:
		c->sfmask = require_bits(v, x, UINT32_MAX);
		return;
	case MSR_FS_BASE:
		c->seg[SEG_FS].base = require_canonical(v, x);
		return;
	case MSR_GS_BASE:
		c->seg[SEG_GS].base = require_canonical(v, x);
		return;
	case MSR_KERNEL_GS_BASE:
		c->kernel_gs_base = require_canonical(v, x);
		return;
	case MSR_TSC_AUX:
		c->tsc_aux = require_bits(v, x, UINT32_MAX);
		return;
	}
	if (is_exit_msr(msr)) {
		exit_msr_write(v, msr, x);
		if (msr == MSR_APIC_BASE) /* CPUID shows whether it is enabled */
			c->apic_base = x;
	} else if (!msr_write_control(v, msr, x))
		raise_gp(v, 0);
}

/* --- instructions --------------------------------------------------------------------------------
 */

void sys_rdmsr(struct ivcpu *v, const struct x86_insn *i)
{
	uint64_t x;

	require_cpl0(v);
	x = msr_read(v, (uint32_t)v->c.gpr[RCX]);
	v->c.gpr[RAX] = (uint32_t)x;
	v->c.gpr[RDX] = x >> 32;
}

void sys_wrmsr(struct ivcpu *v, const struct x86_insn *i)
{
	require_cpl0(v);
	msr_write(v, (uint32_t)v->c.gpr[RCX], (v->c.gpr[RDX] << 32) | (uint32_t)v->c.gpr[RAX]);
}

static void rdtsc(struct ivcpu *v)
{
	uint64_t x;

	if ((v->c.cr4 & CR4_TSD) && v->cpl > 0)
		raise_gp(v, 0);
	x = guest_tsc(v);
	v->c.gpr[RAX] = (uint32_t)x;
	v->c.gpr[RDX] = x >> 32;
}

void sys_rdtsc(struct ivcpu *v, const struct x86_insn *i)
{
	rdtsc(v);
}

void sys_rdtscp(struct ivcpu *v, const struct x86_insn *i)
{
	rdtsc(v);
	v->c.gpr[RCX] = (uint32_t)v->c.tsc_aux;
}

void sys_rdpid(struct ivcpu *v, const struct x86_insn *i)
{
	gpr_set(v, i->rm, v->mode == MODE_LONG ? 8 : 4, true, v->c.tsc_aux);
}

/* No performance counters are shown, so every index is a wrong one. */
void sys_rdpmc(struct ivcpu *v, const struct x86_insn *i)
{
	raise_gp(v, 0);
}
