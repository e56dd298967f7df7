/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/kvm/kvm_priv.h - the KVM engine's inside
 *
 * The interrupt controllers are split: local APICs in the kernel, where interrupts are delivered
 * without leaving the guest; PIC and IOAPIC are our own devices, the same as for the other engines,
 * and reach the local APICs by KVM_SIGNAL_MSI (PIC: KVM_INTERRUPT).
 */
#pragma once

#include "engine/engine_priv.h"

#include <linux/kvm.h>
#include <pthread.h>

/* Pins the kernel reserves for an IOAPIC of ours: they carry the EOI exits. */
#define KVM_IOAPIC_PINS 24

/* Interrupts KVM_RUN; the handler does nothing. */
#define KVM_KICK_SIGNAL SIGUSR1

struct kvm_engine {
	struct engine en; /* first */
	int sys_fd, vm_fd;
	size_t run_size; /* bytes of a vCPU's shared page(s) */
	/* Memory slots as the kernel has them; size 0 = it has not. */
	struct kvm_userspace_memory_region told[GMEM_MAX_SLOTS];
	struct kvm_msr_list *msrs; /* which MSRs the kernel saves */
};

struct kvm_vcpu {
	struct vcpu vcpu; /* first */
	int fd;
	struct kvm_run *run;
	_Atomic bool running;
	pthread_t thread;    /* valid while running */
	uint32_t io_done;    /* of a string port access: elements already served */
	bool answer_due;     /* the exit returned last wants an answer */
	uint64_t tsc_offset; /* as the kernel has it */
	uint64_t exits;
};

int kvm_vcpu_create(struct engine *en, unsigned int index, struct vcpu **ret, struct err *e);
void kvm_vcpu_destroy(struct vcpu *v);
void kvm_vcpu_run(struct vcpu *v, struct vm_exit *x);
void kvm_vcpu_kick(struct vcpu *v);

void kvm_state_get(struct vcpu *v, struct cpu *ret);
int kvm_state_set(struct vcpu *v, const struct cpu *c, struct err *e);

/* The guest's CPUID: what the kernel supports, minus what Insula does not offer. */
int kvm_cpuid_model(int sys_fd, unsigned int n_cpus, struct cpu_model *ret, struct err *e);
int kvm_cpuid_apply(struct kvm_vcpu *v, struct err *e);

/* Shared pages of a vCPU's descriptor, by the system descriptor's word. */
int kvm_open(int *ret, struct err *e);
