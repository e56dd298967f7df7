/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/kvm/kvm_vcpu.c - one vCPU: running it, and its exits in the engines' vocabulary
 */
#include "engine/kvm/kvm_priv.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

static struct kvm_vcpu *to_vcpu(struct vcpu *v)
{
	return container_of(v, struct kvm_vcpu, vcpu);
}

void kvm_vcpu_destroy(struct vcpu *vcpu)
{
	struct kvm_vcpu *v = to_vcpu(vcpu);
	struct kvm_engine *k = container_of(vcpu->en, struct kvm_engine, en);

	if (v->run)
		munmap(v->run, k->run_size);
	close_p(&v->fd);
	free(v);
}

int kvm_vcpu_create(struct engine *en, unsigned int index, struct vcpu **ret, struct err *e)
{
	struct kvm_engine *k = container_of(en, struct kvm_engine, en);
	struct kvm_vcpu *v = xnew(struct kvm_vcpu);
	struct cpu c;
	void *run;
	int r;

	v->vcpu.en = en;
	v->vcpu.index = index;
	v->fd = ioctl(k->vm_fd, KVM_CREATE_VCPU, (unsigned long)index);
	if (v->fd < 0) {
		r = err_set(e, -errno, "KVM: vCPU %u", index);
		goto fail;
	}
	run = mmap(NULL, k->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
	if (run == MAP_FAILED) {
		r = err_set(e, -errno, "KVM: vCPU %u: map", index);
		goto fail;
	}
	v->run = run;
	r = kvm_cpuid_apply(v, e);
	if (r < 0)
		goto fail;
	/* The TSC runs already: keep the kernel's, so that all vCPUs stay together. */
	kvm_state_get(&v->vcpu, &c);
	{
		uint64_t offset = c.tsc_offset;

		cpu_reset(&c, index);
		c.tsc_offset = offset;
	}
	r = kvm_state_set(&v->vcpu, &c, e);
	if (r < 0)
		goto fail;
	*ret = &v->vcpu;
	return 0;
fail:
	kvm_vcpu_destroy(&v->vcpu);
	return r;
}

void kvm_vcpu_kick(struct vcpu *vcpu)
{
	struct kvm_vcpu *v = to_vcpu(vcpu);

	/* First the flag: a KVM_RUN that has not begun yet returns at once. */
	__atomic_store_n(&v->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	if (v->running)
		pthread_kill(v->thread, KVM_KICK_SIGNAL);
}

static uint8_t *io_data(struct kvm_vcpu *v)
{
	return (uint8_t *)v->run + v->run->io.data_offset + v->io_done * v->run->io.size;
}

/* One element of a port access; string forms come back for each. */
static void exit_io(struct kvm_vcpu *v, struct vm_exit *x)
{
	x->reason = EXIT_IO;
	x->write = v->run->io.direction == KVM_EXIT_IO_OUT;
	x->size = v->run->io.size;
	x->port = v->run->io.port;
	if (x->write)
		memcpy(&x->data, io_data(v), x->size);
	v->answer_due = true;
}

static void exit_mmio(struct kvm_vcpu *v, struct vm_exit *x)
{
	x->reason = EXIT_MMIO;
	x->write = v->run->mmio.is_write;
	x->size = (uint8_t)MIN(v->run->mmio.len, 8u);
	x->gpa = v->run->mmio.phys_addr;
	if (x->write)
		memcpy(&x->data, v->run->mmio.data, x->size);
	v->answer_due = true;
}

/* Takes the caller's answer; true when a string port access has more elements to serve. */
static bool answer(struct kvm_vcpu *v, struct vm_exit *x)
{
	v->answer_due = false;
	if (v->run->exit_reason == KVM_EXIT_MMIO) {
		if (!v->run->mmio.is_write)
			memcpy(v->run->mmio.data, &x->data, MIN(v->run->mmio.len, 8u));
		return false;
	}
	if (v->run->exit_reason != KVM_EXIT_IO)
		return false;
	if (v->run->io.direction == KVM_EXIT_IO_IN)
		memcpy(io_data(v), &x->data, v->run->io.size);
	if (++v->io_done < v->run->io.count)
		return true;
	v->io_done = 0;
	return false;
}

static void exit_error(struct vm_exit *x, const char *what, unsigned long long detail)
{
	x->reason = EXIT_ERROR;
	snprintf(x->err, sizeof(x->err), "KVM: %s 0x%llx", what, detail);
}

static void translate(struct kvm_vcpu *v, struct vm_exit *x)
{
	const struct kvm_run *run = v->run;

	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		exit_io(v, x);
		break;
	case KVM_EXIT_MMIO:
		exit_mmio(v, x);
		break;
	case KVM_EXIT_HLT:
		x->reason = EXIT_HLT;
		break;
	case KVM_EXIT_IRQ_WINDOW_OPEN:
		x->reason = EXIT_IRQ_WINDOW;
		break;
	case KVM_EXIT_IOAPIC_EOI:
		x->reason = EXIT_EOI;
		x->vector = run->eoi.vector;
		break;
	case KVM_EXIT_SHUTDOWN:
		x->reason = EXIT_SHUTDOWN;
		break;
	case KVM_EXIT_DEBUG:
		x->reason = EXIT_DEBUG;
		break;
	case KVM_EXIT_INTR:
		x->reason = EXIT_KICK;
		break;
	case KVM_EXIT_FAIL_ENTRY:
		exit_error(x, "entry failed, hardware reason",
			   run->fail_entry.hardware_entry_failure_reason);
		break;
	case KVM_EXIT_INTERNAL_ERROR:
		exit_error(x, "internal error, suberror", run->internal.suberror);
		break;
	default:
		exit_error(x, "unexpected exit", run->exit_reason);
		break;
	}
}

void kvm_vcpu_run(struct vcpu *vcpu, struct vm_exit *x)
{
	struct kvm_vcpu *v = to_vcpu(vcpu);
	int r;

	if (v->answer_due && answer(v, x)) {
		exit_io(v, x);
		return;
	}
	*x = (struct vm_exit){0};
	v->thread = pthread_self();
	v->running = true;
	r = ioctl(v->fd, KVM_RUN, 0) < 0 ? -errno : 0;
	v->running = false;
	v->exits++;
	if (r == -EINTR || r == -EAGAIN) {
		__atomic_store_n(&v->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
		x->reason = EXIT_KICK;
		return;
	}
	if (r < 0) {
		x->reason = EXIT_ERROR;
		snprintf(x->err, sizeof(x->err), "KVM_RUN: %s", strerror(-r));
		return;
	}
	translate(v, x);
}
