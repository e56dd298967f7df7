/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/x86/cpuid.h - what the guest's CPUID answers
 *
 * Built once per machine from the host's CPUID and the engine's abilities: a feature is shown only
 * if the engine implements it (or passes it to the host CPU) exactly.  Why each bit is shown or
 * hidden is in docs/cpu-model.md.
 */
#pragma once

#include "base/macro.h"

#define CPUID_MAX_LEAVES 64

/* Physical and linear address widths of our own engines; the page walker accepts just these. */
#define CPU_PHYS_BITS   40 /* more, and UEFI cannot map it all: docs/pc.md */
#define CPU_LINEAR_BITS 48
/* Clock of the local APIC's timer, as leaves 15H and 4000_0010H tell it (device/lapic.c). */
#define CPU_LAPIC_KHZ 1000000

enum cpu_vendor { VENDOR_INTEL, VENDOR_AMD };

enum cpuid_reg { CPUID_EAX, CPUID_EBX, CPUID_ECX, CPUID_EDX };

struct cpuid_leaf {
	uint32_t function, index;
	bool indexed; /* answers only for this ECX */
	uint32_t eax, ebx, ecx, edx;
};

struct cpu_model {
	struct cpuid_leaf leaf[CPUID_MAX_LEAVES];
	unsigned int n_leaves;
	unsigned int n_cpus;
	uint32_t tsc_khz; /* guest TSC frequency */
	enum cpu_vendor vendor;
};

/* The model for engines of ours (interp, jit): features both shown by the host and implemented. */
void cpu_model_soft(struct cpu_model *m, unsigned int n_cpus);

/*
 * Answer of CPUID with EAX=@function, ECX=@index on the processor with @apic_id: fills in the
 * fields that differ by processor or by current state (APIC ids, OSXSAVE, XSAVE sizes).
 */
void cpu_model_query(const struct cpu_model *m, uint32_t apic_id, uint64_t cr4, uint64_t xcr0,
		     uint32_t function, uint32_t index, uint32_t out[4]);

/* Frequency of the host's TSC in kHz (CPUID 15h/16h, else measured once). */
uint32_t host_tsc_khz(void);

/* Family, model and stepping shown to guests, as in CPUID.01H:EAX. */
uint32_t cpuid_signature(void);

/* Is bit @bit of @reg set in leaf @function, sub-leaf 0? */
bool cpu_model_has(const struct cpu_model *m, uint32_t function, enum cpuid_reg reg,
		   unsigned int bit);
