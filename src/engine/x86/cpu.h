/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/x86/cpu.h - all architectural state of one x86-64 processor
 *
 * The one form every engine loads and stores exactly, snapshots write, and the oracle compares.
 * Values are architectural: what RDMSR, MOV from CR, FXSAVE and friends would show, plus what the
 * processor keeps hidden (descriptor caches, shadows, pending events).  The local APIC is a device
 * (device/lapic.h), not part of this.
 */
#pragma once

#include "base/state.h"

#define CPU_STATE_VERSION 1

enum cpu_gpr {
	RAX,
	RCX,
	RDX,
	RBX,
	RSP,
	RBP,
	RSI,
	RDI,
	R8,
	R9,
	R10,
	R11,
	R12,
	R13,
	R14,
	R15,
};

/* Numbering of the ModRM reg field of MOV Sreg. */
enum cpu_seg { SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS, SEG_COUNT };

/* Attribute bits as in a descriptor's bytes 5 and 6: type 0-3, S 4, DPL 5-6, P 7, AVL 12, L 13,
 * D/B 14, G 15; bit 16 = unusable (null selector loaded), as in VMX. */
#define SEG_TYPE_MASK 0x0fu
#define SEG_ACCESSED  0x01u /* code and data */
#define SEG_WRITE     0x02u /* data: writable; code: readable */
#define SEG_CONFORM   0x04u /* code: conforming; data: expand down */
#define SEG_CODE      0x08u
#define SEG_S         0x10u /* code or data, not system */
#define SEG_DPL_SHIFT 5
#define SEG_DPL(attr) (((attr) >> SEG_DPL_SHIFT) & 3)
#define SEG_P         0x80u
#define SEG_L         0x2000u
#define SEG_DB        0x4000u
#define SEG_G         0x8000u
#define SEG_UNUSABLE  0x10000u

struct cpu_segment {
	uint64_t base;
	uint32_t limit; /* in bytes, granularity applied */
	uint32_t attr;
	uint16_t sel;
	uint16_t pad[3];
};

struct cpu_table { /* GDTR, IDTR */
	uint64_t base;
	uint16_t limit;
	uint16_t pad[3];
};

/* RFLAGS */
#define FL_CF    0x00000001u
#define FL_ONE   0x00000002u /* always set */
#define FL_PF    0x00000004u
#define FL_AF    0x00000010u
#define FL_ZF    0x00000040u
#define FL_SF    0x00000080u
#define FL_TF    0x00000100u
#define FL_IF    0x00000200u
#define FL_DF    0x00000400u
#define FL_OF    0x00000800u
#define FL_IOPL  0x00003000u
#define FL_NT    0x00004000u
#define FL_RF    0x00010000u
#define FL_VM    0x00020000u
#define FL_AC    0x00040000u
#define FL_VIF   0x00080000u
#define FL_VIP   0x00100000u
#define FL_ID    0x00200000u
#define FL_ARITH (FL_CF | FL_PF | FL_AF | FL_ZF | FL_SF | FL_OF)

#define CR0_PE BIT(0)
#define CR0_MP BIT(1)
#define CR0_EM BIT(2)
#define CR0_TS BIT(3)
#define CR0_ET BIT(4)
#define CR0_NE BIT(5)
#define CR0_WP BIT(16)
#define CR0_AM BIT(18)
#define CR0_NW BIT(29)
#define CR0_CD BIT(30)
#define CR0_PG BIT(31)

#define CR4_VME        BIT(0)
#define CR4_PVI        BIT(1)
#define CR4_TSD        BIT(2)
#define CR4_DE         BIT(3)
#define CR4_PSE        BIT(4)
#define CR4_PAE        BIT(5)
#define CR4_MCE        BIT(6)
#define CR4_PGE        BIT(7)
#define CR4_PCE        BIT(8)
#define CR4_OSFXSR     BIT(9)
#define CR4_OSXMMEXCPT BIT(10)
#define CR4_UMIP       BIT(11)
#define CR4_LA57       BIT(12)
#define CR4_FSGSBASE   BIT(16)
#define CR4_PCIDE      BIT(17)
#define CR4_OSXSAVE    BIT(18)
#define CR4_SMEP       BIT(20)
#define CR4_SMAP       BIT(21)

#define EFER_SCE BIT(0)
#define EFER_LME BIT(8)
#define EFER_LMA BIT(10)
#define EFER_NXE BIT(11)

/* Exception vectors. */
enum cpu_vector {
	VEC_DE = 0,
	VEC_DB = 1,
	VEC_NMI = 2,
	VEC_BP = 3,
	VEC_OF = 4,
	VEC_BR = 5,
	VEC_UD = 6,
	VEC_NM = 7,
	VEC_DF = 8,
	VEC_TS = 10,
	VEC_NP = 11,
	VEC_SS = 12,
	VEC_GP = 13,
	VEC_PF = 14,
	VEC_MF = 16,
	VEC_AC = 17,
	VEC_MC = 18,
	VEC_XM = 19,
};

/* Extended state in XSAVE's standard (non-compacted) layout: x87, SSE, AVX.  SDM vol. 1, 13.4.
 * Guests are not offered AVX-512, AMX or PKU, so that machines move between hosts. */
#define XSTATE_X87      BIT(0)
#define XSTATE_SSE      BIT(1)
#define XSTATE_AVX      BIT(2)
#define XSTATE_ALL      (XSTATE_X87 | XSTATE_SSE | XSTATE_AVX)
#define XSAVE_AREA_SIZE 832

struct cpu_xsave {
	/* FXSAVE64 image */
	uint16_t fcw, fsw;
	uint8_t ftw; /* abridged: 1 = valid */
	uint8_t reserved1;
	uint16_t fop;
	uint64_t fip, fdp;
	uint32_t mxcsr, mxcsr_mask;
	uint8_t st[8][16]; /* ST(i), not physical registers */
	uint8_t xmm[16][16];
	uint8_t reserved2[96];
	/* XSAVE header */
	uint64_t xstate_bv, xcomp_bv, reserved3[6];
	/* AVX: upper halves of YMM0-15 */
	uint8_t ymmh[16][16];
} __attribute__((aligned(64)));

_Static_assert(sizeof(struct cpu_xsave) == XSAVE_AREA_SIZE, "XSAVE layout");

/* What the processor is doing; values of KVM_MP_STATE_* have the same meaning. */
enum cpu_mp_state {
	CPU_RUNNABLE = 0,
	CPU_UNINITIALIZED = 1, /* application processor waiting for INIT */
	CPU_INIT_RECEIVED = 2, /* waiting for SIPI */
	CPU_HALTED = 3,
};

#define CPU_MTRR_VAR 8

struct cpu {
	uint64_t gpr[16];
	uint64_t rip, rflags;
	struct cpu_segment seg[SEG_COUNT], ldtr, tr;
	struct cpu_table gdtr, idtr;
	uint64_t cr0, cr2, cr3, cr4, cr8;
	uint64_t dr[4], dr6, dr7;
	uint64_t xcr0;
	struct cpu_xsave xs; /* always standard layout, every component present (xstate_bv = ALL) */

	/* MSRs, by their SDM names */
	uint64_t efer, star, lstar, cstar, sfmask, kernel_gs_base;
	uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
	uint64_t tsc_aux, pat, misc_enable, apic_base, spec_ctrl, debugctl;
	uint64_t tsc_offset; /* guest TSC = host TSC scaled + this */
	uint64_t tsc_adjust, tsc_deadline;
	uint64_t mtrr_def_type, mtrr_fixed[11], mtrr_base[CPU_MTRR_VAR], mtrr_mask[CPU_MTRR_VAR];
	uint64_t mcg_status;
	/* Paravirtual clock (KVM interface, MSRs 0x4b564d00...): as the guest wrote them. */
	uint64_t pv_wall_clock, pv_system_time, pv_async_pf, pv_steal_time, pv_eoi, pv_poll_control;

	/* Hidden state between two instructions */
	uint8_t mp_state;   /* enum cpu_mp_state */
	uint8_t int_shadow; /* after STI or MOV SS: 1 = STI, 2 = MOV SS */
	uint8_t nmi_masked; /* until IRET */
	uint8_t nmi_pending;
	uint8_t event_pending; /* an event was being delivered when the engine stopped */
	uint8_t event_vector;
	uint8_t event_type; /* as in VMX: 0 external, 2 NMI, 3 exception, 4 software int */
	uint8_t event_has_error;
	uint32_t event_error;
	uint32_t event_len;   /* instruction length, for software interrupts */
	uint64_t pending_dbg; /* DR6 bits of a trap to deliver before the next instruction */
	uint64_t pdpte[4];    /* PAE page-directory-pointer registers */
};

extern const struct state_table cpu_state_table;

/* Power-on/RESET (SDM vol. 3, table 10-1); @apic_id 0 is the bootstrap processor. */
void cpu_reset(struct cpu *c, uint32_t apic_id);
/* INIT: as RESET, but keeps what the table says (caches, x87, MTRRs, APIC base...).  The bootstrap
 * processor restarts at the reset vector, others wait for SIPI. */
void cpu_init(struct cpu *c);
/* Start-up IPI with @vector: CS:IP = vector00:0000, runnable. */
void cpu_sipi(struct cpu *c, uint8_t vector);
/* One line a register group, for --verbose, exits of kind error, and test failures. */
void cpu_dump(const struct cpu *c, struct strbuf *out);

static inline unsigned int cpu_cpl(const struct cpu *c)
{
	return SEG_DPL(c->seg[SEG_SS].attr);
}
