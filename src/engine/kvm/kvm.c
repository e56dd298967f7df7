/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/kvm/kvm.c - the KVM engine: one VM
 *
 * Interface: the kernel's Documentation/virt/kvm/api.rst.
 */
#include "engine/kvm/kvm_priv.h"

#include "base/exit.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/ioctl.h>

/* Three pages for real-mode emulation on old Intel processors, and one for its page table, in the
 * hole below the firmware where no board puts anything. */
#define KVM_TSS_ADDR      0xfffbd000u
#define KVM_IDENTITY_ADDR 0xfffbc000u

static struct kvm_engine *to_kvm(struct engine *en)
{
	return container_of(en, struct kvm_engine, en);
}

int kvm_open(int *ret, struct err *e)
{
	autoclose int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int version;

	if (fd < 0)
		return err_exit(e, err_set(e, -errno, "open /dev/kvm"), EXIT_NO_ENGINE);
	version = ioctl(fd, KVM_GET_API_VERSION, 0);
	if (version != KVM_API_VERSION)
		return err_exit(e,
				err_msg(e, -ENOSYS, "/dev/kvm: API version %d, not %d", version,
					KVM_API_VERSION),
				EXIT_NO_ENGINE);
	*ret = steal_fd(&fd);
	return 0;
}

static void engine_destroy(struct engine *en)
{
	struct kvm_engine *k = to_kvm(en);

	close_p(&k->vm_fd);
	close_p(&k->sys_fd);
	free(k->msrs);
	free(k);
}

static int set_slot(struct kvm_engine *k, const struct kvm_userspace_memory_region *want,
		    struct err *e)
{
	struct kvm_userspace_memory_region r = *want;

	if (ioctl(k->vm_fd, KVM_SET_USER_MEMORY_REGION, &r) < 0)
		return err_set(e, -errno, "KVM: memory at 0x%llx",
			       (unsigned long long)r.guest_phys_addr);
	k->told[r.slot] = r;
	return 0;
}

static struct kvm_userspace_memory_region wanted_slot(const struct gmem *m, unsigned int n)
{
	const struct gmem_slot *s = &m->slots[n];

	if (n >= m->n_slots || (s->flags & GMEM_HIDDEN))
		return (struct kvm_userspace_memory_region){.slot = n};
	return (struct kvm_userspace_memory_region){
	    .slot = n,
	    .flags = s->flags & GMEM_ROM ? KVM_MEM_READONLY : 0,
	    .guest_phys_addr = s->gpa,
	    .memory_size = s->size,
	    .userspace_addr = (uintptr_t)s->hva,
	};
}

/* What moves goes first: the kernel refuses slots that overlap, and changes of a slot. */
static int memory_changed(struct engine *en, struct err *e)
{
	struct kvm_engine *k = to_kvm(en);
	int r = 0;

	for (unsigned int i = 0; i < GMEM_MAX_SLOTS && r == 0; i++) {
		struct kvm_userspace_memory_region want = wanted_slot(en->mem, i),
						   none = {
						       .slot = i,
						       .guest_phys_addr =
							   k->told[i].guest_phys_addr,
						   };

		if (k->told[i].memory_size && memcmp(&want, &k->told[i], sizeof(want)) != 0)
			r = set_slot(k, &none, e);
	}
	for (unsigned int i = 0; i < GMEM_MAX_SLOTS && r == 0; i++) {
		struct kvm_userspace_memory_region want = wanted_slot(en->mem, i);

		if (want.memory_size && !k->told[i].memory_size)
			r = set_slot(k, &want, e);
	}
	return r;
}

static int need_cap(struct kvm_engine *k, int cap, const char *name, struct err *e)
{
	if (ioctl(k->vm_fd, KVM_CHECK_EXTENSION, cap) > 0)
		return 0;
	return err_exit(e, err_msg(e, -ENOSYS, "/dev/kvm: the host's KVM lacks %s", name),
			EXIT_NO_ENGINE);
}

static int split_irqchip(struct kvm_engine *k, struct err *e)
{
	struct kvm_enable_cap cap = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args = {KVM_IOAPIC_PINS}};
	struct kvm_enable_cap x2apic = {
	    .cap = KVM_CAP_X2APIC_API,
	    .args = {KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK},
	};
	uint64_t identity = KVM_IDENTITY_ADDR;
	int r = need_cap(k, KVM_CAP_SPLIT_IRQCHIP, "split interrupt controllers", e);

	if (r == 0)
		r = need_cap(k, KVM_CAP_SIGNAL_MSI, "KVM_SIGNAL_MSI", e);
	if (r == 0)
		r = need_cap(k, KVM_CAP_IMMEDIATE_EXIT, "immediate exit", e);
	if (r < 0)
		return r;
	if (ioctl(k->vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity) < 0 ||
	    ioctl(k->vm_fd, KVM_SET_TSS_ADDR, (unsigned long)KVM_TSS_ADDR) < 0)
		return err_set(e, -errno, "KVM: real-mode pages");
	if (ioctl(k->vm_fd, KVM_ENABLE_CAP, &cap) < 0)
		return err_set(e, -errno, "KVM: split interrupt controllers");
	/* Old kernels lack it; then APIC ids above 254 do not work, which 64 vCPUs never need. */
	(void)ioctl(k->vm_fd, KVM_ENABLE_CAP, &x2apic);
	return 0;
}

static int list_msrs(struct kvm_engine *k, struct err *e)
{
	struct kvm_msr_list probe = {0};

	if (ioctl(k->sys_fd, KVM_GET_MSR_INDEX_LIST, &probe) < 0 && errno != E2BIG)
		return err_set(e, -errno, "KVM: list of MSRs");
	k->msrs = calloc(1, sizeof(*k->msrs) + probe.nmsrs * sizeof(k->msrs->indices[0]));
	if (!k->msrs)
		return err_set(e, -ENOMEM, "KVM: list of MSRs");
	k->msrs->nmsrs = probe.nmsrs;
	if (ioctl(k->sys_fd, KVM_GET_MSR_INDEX_LIST, k->msrs) < 0)
		return err_set(e, -errno, "KVM: list of MSRs");
	return 0;
}

static void kick_handler(int sig)
{
}

static int create(struct gmem *mem, unsigned int n_cpus, struct engine **ret, struct err *e)
{
	struct kvm_engine *k = xnew(struct kvm_engine);
	struct sigaction sa = {.sa_handler = kick_handler};
	int r;

	k->vm_fd = k->sys_fd = -1;
	k->en.ops = &kvm_ops;
	k->en.mem = mem;
	k->en.n_cpus = n_cpus;
	r = kvm_open(&k->sys_fd, e);
	if (r < 0)
		goto fail;
	k->vm_fd = ioctl(k->sys_fd, KVM_CREATE_VM, 0);
	if (k->vm_fd < 0) {
		r = err_set(e, -errno, "/dev/kvm: create a VM");
		goto fail;
	}
	r = ioctl(k->sys_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	k->run_size = r > 0 ? (size_t)r : sizeof(struct kvm_run);
	r = split_irqchip(k, e);
	if (r == 0)
		r = list_msrs(k, e);
	if (r == 0)
		r = kvm_cpuid_model(k->sys_fd, n_cpus, &k->en.model, e);
	if (r == 0)
		r = memory_changed(&k->en, e);
	if (r < 0)
		goto fail;
	sigaction(KVM_KICK_SIGNAL, &sa, NULL);
	k->en.caps.local_apic = true;
	k->en.caps.ioeventfd = ioctl(k->vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_IOEVENTFD) > 0;
	*ret = &k->en;
	return 0;
fail:
	engine_destroy(&k->en);
	return r;
}

static int send_msi(struct engine *en, uint64_t addr, uint32_t data)
{
	struct kvm_msi msi = {
	    .address_lo = (uint32_t)addr,
	    .address_hi = (uint32_t)(addr >> 32),
	    .data = data,
	};

	/* 0 = blocked by the guest (masked, no such APIC): as on hardware, nobody hears of it. */
	return ioctl(to_kvm(en)->vm_fd, KVM_SIGNAL_MSI, &msi) < 0 ? -errno : 0;
}

static int set_ioeventfd(struct engine *en, uint64_t addr, uint32_t size, bool pio, int fd,
			 bool add, struct err *e)
{
	struct kvm_ioeventfd io = {
	    .addr = addr,
	    .len = size,
	    .fd = fd,
	    .flags = (pio ? KVM_IOEVENTFD_FLAG_PIO : 0) | (add ? 0 : KVM_IOEVENTFD_FLAG_DEASSIGN),
	};

	if (ioctl(to_kvm(en)->vm_fd, KVM_IOEVENTFD, &io) < 0)
		return err_set(e, -errno, "KVM: ioeventfd at 0x%llx", (unsigned long long)addr);
	return 0;
}

/*
 * The kernel takes the vectors whose EOI must exit from the routes of the reserved IOAPIC pins: a
 * level-triggered MSI to everybody for each vector.  Those routes are never used to send.
 */
static void eoi_exits(struct engine *en, const uint64_t vectors[4])
{
	struct {
		struct kvm_irq_routing head;
		struct kvm_irq_routing_entry entry[KVM_IOAPIC_PINS];
	} r = {0};

	for (unsigned int v = 16; v < 256 && r.head.nr < KVM_IOAPIC_PINS; v++) {
		struct kvm_irq_routing_entry *entry;

		if (!(vectors[v / 64] & BIT(v % 64)))
			continue;
		entry = &r.entry[r.head.nr];
		entry->gsi = r.head.nr++;
		entry->type = KVM_IRQ_ROUTING_MSI;
		entry->u.msi.address_lo = 0xfee00000u | 0xffu << 12;
		entry->u.msi.data = v | 1u << 15;
	}
	(void)ioctl(to_kvm(en)->vm_fd, KVM_SET_GSI_ROUTING, &r);
}

static struct kvm_vcpu *to_vcpu(struct vcpu *v)
{
	return container_of(v, struct kvm_vcpu, vcpu);
}

static bool irq_ready(struct vcpu *v)
{
	return to_vcpu(v)->run->ready_for_interrupt_injection;
}

static void interrupt(struct vcpu *v, uint8_t vector)
{
	struct kvm_interrupt irq = {.irq = vector};

	(void)ioctl(to_vcpu(v)->fd, KVM_INTERRUPT, &irq);
	to_vcpu(v)->run->ready_for_interrupt_injection = 0;
}

static void want_irq(struct vcpu *v, bool want)
{
	to_vcpu(v)->run->request_interrupt_window = want;
}

static void nmi(struct vcpu *v)
{
	(void)ioctl(to_vcpu(v)->fd, KVM_NMI, 0);
}

static uint64_t guest_tsc(struct vcpu *v)
{
	return __builtin_ia32_rdtsc() + to_vcpu(v)->tsc_offset;
}

static int single_step(struct vcpu *v, bool on, struct err *e)
{
	struct kvm_guest_debug d = {
	    .control = on ? KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP : 0,
	};

	if (ioctl(to_vcpu(v)->fd, KVM_SET_GUEST_DEBUG, &d) < 0)
		return err_set(e, -errno, "KVM: single step");
	return 0;
}

const struct engine_ops kvm_ops = {
    .name = "kvm",
    .create = create,
    .free = engine_destroy,
    .memory_changed = memory_changed,
    .msi = send_msi,
    .ioeventfd = set_ioeventfd,
    .eoi_exits = eoi_exits,
    .vcpu_new = kvm_vcpu_create,
    .vcpu_free = kvm_vcpu_destroy,
    .run = kvm_vcpu_run,
    .kick = kvm_vcpu_kick,
    .get_state = kvm_state_get,
    .set_state = kvm_state_set,
    .irq_ready = irq_ready,
    .interrupt = interrupt,
    .want_irq = want_irq,
    .nmi = nmi,
    .tsc = guest_tsc,
    .single_step = single_step,
    .insn_count = NULL,
};
