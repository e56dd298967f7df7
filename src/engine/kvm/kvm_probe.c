/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/kvm/kvm_probe.c - does /dev/kvm run guest kernel code at hardware speed?
 *
 * A host without VT-x or SVM may still offer a working /dev/kvm that emulates every instruction of
 * the guest's kernel (docs/engines.md).  So the answer is a measurement: a counting loop in long
 * mode, paging on, CPL 0, beside the same loop run here.
 */
#include "engine/kvm/kvm_priv.h"

#include "base/clock.h"

#include <errno.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define PROBE_CODE 0x4000u
#define PROBE_PML4 0x1000u
#define PROBE_PDPT 0x2000u
#define PROBE_PD   0x3000u
#define PROBE_SIZE 0x5000u
#define PROBE_SHORT                                                                                \
	1000u /* iterations: some ms where each costs 4 us, lost in the entry's cost else */
#define PROBE_LONG 2000000u /* about a millisecond on hardware */

struct probe {
	int sys_fd, vm_fd, vcpu_fd;
	struct kvm_run *run;
	size_t run_size;
	uint8_t *mem;
};

static void probe_close(struct probe *p)
{
	if (p->run)
		munmap(p->run, p->run_size);
	if (p->mem)
		munmap(p->mem, PROBE_SIZE);
	close_p(&p->vcpu_fd);
	close_p(&p->vm_fd);
	close_p(&p->sys_fd);
}

/* dec ecx; jnz .-2; hlt - behind identity tables of one 2 MiB page. */
static void probe_fill(uint8_t *mem)
{
	static const uint8_t code[] = {0xff, 0xc9, 0x75, 0xfc, 0xf4};

	memcpy(mem + PROBE_CODE, code, sizeof(code));
	store_le64(mem + PROBE_PML4, PROBE_PDPT | 3);
	store_le64(mem + PROBE_PDPT, PROBE_PD | 3);
	store_le64(mem + PROBE_PD, 0x83);
}

static int probe_open(struct probe *p, struct err *e)
{
	struct kvm_userspace_memory_region region = {.memory_size = PROBE_SIZE};
	int r = kvm_open(&p->sys_fd, e);
	void *map;

	if (r < 0)
		return r;
	p->vm_fd = ioctl(p->sys_fd, KVM_CREATE_VM, 0);
	if (p->vm_fd < 0)
		return err_set(e, -errno, "/dev/kvm: create a VM");
	map = mmap(NULL, PROBE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (map == MAP_FAILED)
		return err_set(e, -errno, "probe: memory");
	p->mem = map;
	probe_fill(p->mem);
	region.userspace_addr = (uintptr_t)p->mem;
	if (ioctl(p->vm_fd, KVM_SET_USER_MEMORY_REGION, &region) < 0)
		return err_set(e, -errno, "/dev/kvm: memory");
	p->vcpu_fd = ioctl(p->vm_fd, KVM_CREATE_VCPU, 0);
	r = ioctl(p->sys_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (p->vcpu_fd < 0 || r < 0)
		return err_set(e, -errno, "/dev/kvm: vCPU");
	p->run_size = (size_t)r;
	map = mmap(NULL, p->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, p->vcpu_fd, 0);
	if (map == MAP_FAILED)
		return err_set(e, -errno, "/dev/kvm: vCPU");
	p->run = map;
	return 0;
}

static int probe_registers(struct probe *p, uint32_t loops, struct err *e)
{
	struct kvm_regs regs = {.rip = PROBE_CODE, .rcx = loops, .rflags = FL_ONE};
	struct kvm_segment data = {
	    .limit = ~0u, .type = 3, .present = 1, .db = 1, .s = 1, .g = 1, .selector = 16};
	struct kvm_sregs s;

	if (ioctl(p->vcpu_fd, KVM_GET_SREGS, &s) < 0)
		return err_set(e, -errno, "/dev/kvm: registers");
	s.ds = s.es = s.fs = s.gs = s.ss = data;
	s.cs = data;
	s.cs.type = 11;
	s.cs.db = 0;
	s.cs.l = 1;
	s.cs.selector = 8;
	s.cr3 = PROBE_PML4;
	s.cr4 = CR4_PAE;
	s.cr0 = CR0_PE | CR0_PG | CR0_ET | CR0_NE;
	s.efer = EFER_LME | EFER_LMA;
	if (ioctl(p->vcpu_fd, KVM_SET_SREGS, &s) < 0 || ioctl(p->vcpu_fd, KVM_SET_REGS, &regs) < 0)
		return err_set(e, -errno, "/dev/kvm: long mode");
	return 0;
}

/* Nanoseconds for @loops iterations up to HLT, or negative errno. */
static int64_t probe_time(struct probe *p, uint32_t loops, struct err *e)
{
	uint64_t start;
	int r = probe_registers(p, loops, e);

	if (r < 0)
		return r;
	start = clock_now();
	do {
		r = ioctl(p->vcpu_fd, KVM_RUN, 0);
	} while (r < 0 && errno == EINTR);
	if (r < 0)
		return err_set(e, -errno, "/dev/kvm: run");
	if (p->run->exit_reason != KVM_EXIT_HLT)
		return err_msg(e, -ENOSYS, "/dev/kvm: a loop in long mode ended with exit %u",
			       p->run->exit_reason);
	return (int64_t)(clock_now() - start);
}

static int64_t native_time(uint32_t loops)
{
	uint64_t start = clock_now();

	__asm__ volatile("1: dec %0; jnz 1b" : "+r"(loops) : : "cc");
	return (int64_t)(clock_now() - start);
}

double kvm_probe_slowdown(struct err *e)
{
	struct probe p = {.sys_fd = -1, .vm_fd = -1, .vcpu_fd = -1};
	int64_t ns = probe_open(&p, e), native;
	double slowdown;

	if (ns == 0)
		ns = probe_time(&p, 1, e); /* the first entry sets up what later ones reuse */
	if (ns >= 0)
		ns = probe_time(&p, PROBE_SHORT, e);
	if (ns < 0) {
		probe_close(&p);
		return (double)ns;
	}
	native = MAX(native_time(PROBE_LONG), 1);
	slowdown = (double)ns / PROBE_SHORT / ((double)native / PROBE_LONG);
	/* Hardware needs under 100 us for all of it, mostly entry and exit: measure longer. */
	if (ns < 300000) {
		ns = probe_time(&p, PROBE_LONG, e);
		slowdown = ns < 0 ? (double)ns : (double)ns / (double)native;
	}
	probe_close(&p);
	return slowdown;
}
