/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/kvm/kvm_cpuid.c - the guest's CPUID on KVM
 *
 * What KVM_GET_SUPPORTED_CPUID offers, minus what struct cpu does not carry (AVX-512, AMX, PKU,
 * CET, nested virtualization), plus what the local APIC in the kernel brings.
 */
#include "engine/kvm/kvm_priv.h"

#include <errno.h>
#include <sys/ioctl.h>

#define KVM_CPUID_ENTRIES 256

struct cpuid_buffer {
	struct kvm_cpuid2 head;
	struct kvm_cpuid_entry2 entry[KVM_CPUID_ENTRIES];
};

static void mask_leaf(struct kvm_cpuid_entry2 *x, unsigned int n_cpus)
{
	switch (x->function) {
	case 1:
		x->ebx = (x->ebx & 0xff00ffffu) | n_cpus << 16;
		x->ecx &= ~(uint32_t)(BIT(3) | BIT(5) | BIT(6)); /* MONITOR, VMX, SMX */
		x->ecx |= BIT(21) | BIT(24) | BIT(31); /* x2APIC, TSC deadline, hypervisor */
		x->edx |= BIT(28);
		break;
	case 7:
		if (x->index == 0) {
			/* HLE, MPX, RTM, AVX-512, PT, SHA stays */
			x->ebx &=
			    ~(uint32_t)(BIT(4) | BIT(11) | BIT(14) | BIT(16) | BIT(17) | BIT(21) |
					BIT(25) | BIT(26) | BIT(27) | BIT(28) | BIT(30) | BIT(31));
			/* AVX-512, PKU, OSPKE, WAITPKG, CET, LA57, ENQCMD, PKS */
			x->ecx &=
			    ~(uint32_t)(BIT(1) | BIT(3) | BIT(4) | BIT(5) | BIT(6) | BIT(7) |
					BIT(11) | BIT(12) | BIT(14) | BIT(16) | BIT(29) | BIT(31));
			/* AVX-512, UINTR, CET-IBT, AMX */
			x->edx &= ~(uint32_t)(BIT(2) | BIT(3) | BIT(5) | BIT(8) | BIT(20) |
					      BIT(22) | BIT(23) | BIT(24) | BIT(25));
		} else {
			x->eax = x->ebx = x->ecx = x->edx = 0;
		}
		break;
	case 0xd:
		if (x->index == 0) {
			x->eax &= XSTATE_ALL;
			x->edx = 0;
			x->ecx = x->eax & XSTATE_AVX ? XSAVE_AREA_SIZE : 576;
		} else if (x->index == 1) {
			x->eax &= BIT(0) | BIT(2); /* XSAVEOPT, XGETBV1; no compacted form */
			x->ebx = x->ecx = x->edx = 0;
		} else if (x->index != 2) {
			x->eax = x->ebx = x->ecx = x->edx = 0;
		}
		break;
	case 0x80000001:
		x->ecx &= ~(uint32_t)BIT(2); /* SVM */
		break;
	case 0x8000000a:
		x->eax = x->ebx = x->ecx = x->edx = 0;
		break;
	default:
		break;
	}
}

int kvm_cpuid_model(int sys_fd, unsigned int n_cpus, struct cpu_model *m, struct err *e)
{
	struct cpuid_buffer *b = calloc(1, sizeof(*b));
	int r = 0;

	if (!b)
		return err_set(e, -ENOMEM, "KVM: CPUID");
	b->head.nent = KVM_CPUID_ENTRIES;
	*m = (struct cpu_model){.n_cpus = n_cpus, .tsc_khz = host_tsc_khz()};
	if (ioctl(sys_fd, KVM_GET_SUPPORTED_CPUID, b) < 0) {
		r = err_set(e, -errno, "KVM: CPUID");
		goto out;
	}
	for (unsigned int i = 0; i < b->head.nent && m->n_leaves < CPUID_MAX_LEAVES; i++) {
		struct kvm_cpuid_entry2 *x = &b->entry[i];

		mask_leaf(x, n_cpus);
		if (!x->eax && !x->ebx && !x->ecx && !x->edx)
			continue; /* an absent leaf reads as zero too */
		m->leaf[m->n_leaves++] = (struct cpuid_leaf){
		    .function = x->function,
		    .index = x->index,
		    .indexed = x->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
		    .eax = x->eax,
		    .ebx = x->ebx,
		    .ecx = x->ecx,
		    .edx = x->edx,
		};
	}
out:
	free(b);
	return r;
}

int kvm_cpuid_apply(struct kvm_vcpu *v, struct err *e)
{
	const struct cpu_model *m = &v->vcpu.en->model;
	struct cpuid_buffer *b = calloc(1, sizeof(*b));
	int r = 0;

	if (!b)
		return err_set(e, -ENOMEM, "KVM: CPUID");
	for (unsigned int i = 0; i < m->n_leaves; i++) {
		const struct cpuid_leaf *leaf = &m->leaf[i];
		struct kvm_cpuid_entry2 *x = &b->entry[b->head.nent++];

		*x = (struct kvm_cpuid_entry2){
		    .function = leaf->function,
		    .index = leaf->index,
		    .flags = leaf->indexed ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
		    .eax = leaf->eax,
		    .ebx = leaf->ebx,
		    .ecx = leaf->ecx,
		    .edx = leaf->edx,
		};
		if (x->function == 1)
			x->ebx = (x->ebx & 0x00ffffffu) | v->vcpu.index << 24;
		if (x->function == 0xb || x->function == 0x1f)
			x->edx = v->vcpu.index;
	}
	if (ioctl(v->fd, KVM_SET_CPUID2, b) < 0)
		r = err_set(e, -errno, "KVM: CPUID of vCPU %u", v->vcpu.index);
	free(b);
	return r;
}
