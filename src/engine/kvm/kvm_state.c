/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/kvm/kvm_state.c - struct cpu to and from the kernel
 *
 * Call with no access waiting for its answer: the next engine_run (with a kick pending, if the
 * guest shall not go on) finishes the instruction first.
 */
#include "engine/kvm/kvm_priv.h"

#include <errno.h>
#include <sys/ioctl.h>

#define MSR_TSC 0x10u

/* MSRs that are plain fields of struct cpu. */
struct msr_row {
	uint32_t index;
	uint32_t offset;
	const char *name;
};

#define ROW(index, member)                                                                         \
	{                                                                                          \
		index, offsetof(struct cpu, member), #member                                       \
	}

static const struct msr_row msr_rows[] = {
    ROW(0xc0000081, star),
    ROW(0xc0000082, lstar),
    ROW(0xc0000083, cstar),
    ROW(0xc0000084, sfmask),
    ROW(0xc0000102, kernel_gs_base),
    ROW(0xc0000103, tsc_aux),
    ROW(0x174, sysenter_cs),
    ROW(0x175, sysenter_esp),
    ROW(0x176, sysenter_eip),
    ROW(0x277, pat),
    ROW(0x1a0, misc_enable),
    ROW(0x48, spec_ctrl),
    ROW(0x1d9, debugctl),
    ROW(0x3b, tsc_adjust),
    ROW(0x2ff, mtrr_def_type),
    ROW(0x250, mtrr_fixed[0]),
    ROW(0x258, mtrr_fixed[1]),
    ROW(0x259, mtrr_fixed[2]),
    ROW(0x268, mtrr_fixed[3]),
    ROW(0x269, mtrr_fixed[4]),
    ROW(0x26a, mtrr_fixed[5]),
    ROW(0x26b, mtrr_fixed[6]),
    ROW(0x26c, mtrr_fixed[7]),
    ROW(0x26d, mtrr_fixed[8]),
    ROW(0x26e, mtrr_fixed[9]),
    ROW(0x26f, mtrr_fixed[10]),
    ROW(0x200, mtrr_base[0]),
    ROW(0x201, mtrr_mask[0]),
    ROW(0x202, mtrr_base[1]),
    ROW(0x203, mtrr_mask[1]),
    ROW(0x204, mtrr_base[2]),
    ROW(0x205, mtrr_mask[2]),
    ROW(0x206, mtrr_base[3]),
    ROW(0x207, mtrr_mask[3]),
    ROW(0x208, mtrr_base[4]),
    ROW(0x209, mtrr_mask[4]),
    ROW(0x20a, mtrr_base[5]),
    ROW(0x20b, mtrr_mask[5]),
    ROW(0x20c, mtrr_base[6]),
    ROW(0x20d, mtrr_mask[6]),
    ROW(0x20e, mtrr_base[7]),
    ROW(0x20f, mtrr_mask[7]),
    ROW(0x17a, mcg_status),
    ROW(0x4b564d00, pv_wall_clock),
    ROW(0x4b564d01, pv_system_time),
    ROW(0x4b564d02, pv_async_pf),
    ROW(0x4b564d03, pv_steal_time),
    ROW(0x4b564d04, pv_eoi),
    ROW(0x4b564d05, pv_poll_control),
};

static uint64_t *msr_field(struct cpu *c, const struct msr_row *row)
{
	return (uint64_t *)((char *)c + row->offset);
}

/* The kernel's list names what it saves; MTRRs are always there, as state without effect. */
static bool msr_known(const struct kvm_engine *k, uint32_t index)
{
	if (index >= 0x200 && index <= 0x2ff && index != 0x277)
		return true;
	for (unsigned int i = 0; i < k->msrs->nmsrs; i++) {
		if (k->msrs->indices[i] == index)
			return true;
	}
	return false;
}

static int msr_io(struct kvm_vcpu *v, unsigned long request, uint32_t index, uint64_t *value)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} m = {.head = {.nmsrs = 1}, .entry = {.index = index, .data = *value}};

	if (ioctl(v->fd, request, &m) != 1)
		return -EIO;
	*value = m.entry.data;
	return 0;
}

static void segment_from_kvm(const struct kvm_segment *k, struct cpu_segment *s)
{
	*s = (struct cpu_segment){
	    .base = k->base,
	    .limit = k->limit,
	    .sel = k->selector,
	    .attr = k->type | (uint32_t)k->s << 4 | (uint32_t)k->dpl << 5 |
		    (uint32_t)k->present << 7 | (uint32_t)k->avl << 12 | (uint32_t)k->l << 13 |
		    (uint32_t)k->db << 14 | (uint32_t)k->g << 15 | (k->unusable ? SEG_UNUSABLE : 0),
	};
}

static void segment_to_kvm(const struct cpu_segment *s, struct kvm_segment *k)
{
	*k = (struct kvm_segment){
	    .base = s->base,
	    .limit = s->limit,
	    .selector = s->sel,
	    .type = s->attr & SEG_TYPE_MASK,
	    .s = s->attr >> 4 & 1,
	    .dpl = SEG_DPL(s->attr),
	    .present = s->attr >> 7 & 1,
	    .avl = s->attr >> 12 & 1,
	    .l = s->attr >> 13 & 1,
	    .db = s->attr >> 14 & 1,
	    .g = s->attr >> 15 & 1,
	    .unusable = s->attr >> 16 & 1,
	};
}

static void get_sregs(struct kvm_vcpu *v, struct cpu *c)
{
	struct kvm_sregs s = {0};

	(void)ioctl(v->fd, KVM_GET_SREGS, &s);
	segment_from_kvm(&s.es, &c->seg[SEG_ES]);
	segment_from_kvm(&s.cs, &c->seg[SEG_CS]);
	segment_from_kvm(&s.ss, &c->seg[SEG_SS]);
	segment_from_kvm(&s.ds, &c->seg[SEG_DS]);
	segment_from_kvm(&s.fs, &c->seg[SEG_FS]);
	segment_from_kvm(&s.gs, &c->seg[SEG_GS]);
	segment_from_kvm(&s.ldt, &c->ldtr);
	segment_from_kvm(&s.tr, &c->tr);
	c->gdtr = (struct cpu_table){.base = s.gdt.base, .limit = s.gdt.limit};
	c->idtr = (struct cpu_table){.base = s.idt.base, .limit = s.idt.limit};
	c->cr0 = s.cr0;
	c->cr2 = s.cr2;
	c->cr3 = s.cr3;
	c->cr4 = s.cr4;
	c->cr8 = s.cr8;
	c->efer = s.efer;
	c->apic_base = s.apic_base;
}

static int set_sregs(struct kvm_vcpu *v, const struct cpu *c, struct err *e)
{
	struct kvm_sregs s = {
	    .gdt = {.base = c->gdtr.base, .limit = c->gdtr.limit},
	    .idt = {.base = c->idtr.base, .limit = c->idtr.limit},
	    .cr0 = c->cr0,
	    .cr2 = c->cr2,
	    .cr3 = c->cr3,
	    .cr4 = c->cr4,
	    .cr8 = c->cr8,
	    .efer = c->efer,
	    .apic_base = c->apic_base,
	};

	segment_to_kvm(&c->seg[SEG_ES], &s.es);
	segment_to_kvm(&c->seg[SEG_CS], &s.cs);
	segment_to_kvm(&c->seg[SEG_SS], &s.ss);
	segment_to_kvm(&c->seg[SEG_DS], &s.ds);
	segment_to_kvm(&c->seg[SEG_FS], &s.fs);
	segment_to_kvm(&c->seg[SEG_GS], &s.gs);
	segment_to_kvm(&c->ldtr, &s.ldt);
	segment_to_kvm(&c->tr, &s.tr);
	if (ioctl(v->fd, KVM_SET_SREGS, &s) < 0)
		return err_set(e, -errno, "KVM: segment and control registers");
	return 0;
}

/* struct kvm_regs keeps RBX third and RSP/RBP after RDI. */
static void get_regs(struct kvm_vcpu *v, struct cpu *c)
{
	struct kvm_regs r = {0};

	(void)ioctl(v->fd, KVM_GET_REGS, &r);
	c->gpr[RAX] = r.rax;
	c->gpr[RCX] = r.rcx;
	c->gpr[RDX] = r.rdx;
	c->gpr[RBX] = r.rbx;
	c->gpr[RSP] = r.rsp;
	c->gpr[RBP] = r.rbp;
	c->gpr[RSI] = r.rsi;
	c->gpr[RDI] = r.rdi;
	memcpy(&c->gpr[R8], &r.r8, 8 * sizeof(r.r8));
	c->rip = r.rip;
	c->rflags = r.rflags;
}

static int set_regs(struct kvm_vcpu *v, const struct cpu *c, struct err *e)
{
	struct kvm_regs r = {
	    .rax = c->gpr[RAX],
	    .rcx = c->gpr[RCX],
	    .rdx = c->gpr[RDX],
	    .rbx = c->gpr[RBX],
	    .rsp = c->gpr[RSP],
	    .rbp = c->gpr[RBP],
	    .rsi = c->gpr[RSI],
	    .rdi = c->gpr[RDI],
	    .rip = c->rip,
	    .rflags = c->rflags,
	};

	memcpy(&r.r8, &c->gpr[R8], 8 * sizeof(r.r8));
	if (ioctl(v->fd, KVM_SET_REGS, &r) < 0)
		return err_set(e, -errno, "KVM: general registers");
	return 0;
}

/* A component whose bit in XSTATE_BV is clear is in its initial state, whatever its bytes say. */
static void get_xsave(struct kvm_vcpu *v, struct cpu *c)
{
	struct kvm_xsave x = {0};
	struct cpu_xsave *s = &c->xs;

	(void)ioctl(v->fd, KVM_GET_XSAVE, &x);
	memcpy(s, x.region, sizeof(*s));
	if (!(s->xstate_bv & XSTATE_X87)) {
		memset(s, 0, offsetof(struct cpu_xsave, mxcsr));
		memset(s->st, 0, sizeof(s->st));
		s->fcw = 0x37f;
	}
	if (!(s->xstate_bv & XSTATE_SSE))
		memset(s->xmm, 0, sizeof(s->xmm));
	if (!(s->xstate_bv & XSTATE_AVX))
		memset(s->ymmh, 0, sizeof(s->ymmh));
	s->xstate_bv = XSTATE_ALL;
	s->xcomp_bv = 0;
}

static int set_xsave(struct kvm_vcpu *v, const struct cpu *c, struct err *e)
{
	struct kvm_xcrs xcrs = {.nr_xcrs = 1, .xcrs[0] = {.xcr = 0, .value = c->xcr0}};
	struct kvm_xsave x __attribute__((aligned(64))) = {0}; /* as struct cpu_xsave is */
	struct cpu_xsave *s = (struct cpu_xsave *)x.region;

	memcpy(x.region, &c->xs, sizeof(c->xs));
	/* Without AVX in the guest's CPUID the kernel refuses its component even when zero. */
	s->xstate_bv = XSTATE_X87 | XSTATE_SSE;
	for (size_t i = 0; i < sizeof(s->ymmh); i++) {
		if (((const uint8_t *)s->ymmh)[i])
			s->xstate_bv |= XSTATE_AVX;
	}
	if (ioctl(v->fd, KVM_SET_XSAVE, &x) < 0)
		return err_set(e, -errno, "KVM: floating-point and vector registers");
	if (c->xcr0 != XSTATE_X87 && ioctl(v->fd, KVM_SET_XCRS, &xcrs) < 0)
		return err_set(e, -errno, "KVM: XCR0 0x%llx", (unsigned long long)c->xcr0);
	return 0;
}

static void get_events(struct kvm_vcpu *v, struct cpu *c)
{
	struct kvm_vcpu_events ev = {0};
	struct kvm_mp_state mp = {0};

	(void)ioctl(v->fd, KVM_GET_VCPU_EVENTS, &ev);
	(void)ioctl(v->fd, KVM_GET_MP_STATE, &mp);
	c->mp_state = (uint8_t)mp.mp_state;
	c->int_shadow = (uint8_t)((ev.interrupt.shadow & KVM_X86_SHADOW_INT_STI ? 1 : 0) |
				  (ev.interrupt.shadow & KVM_X86_SHADOW_INT_MOV_SS ? 2 : 0));
	c->nmi_masked = ev.nmi.masked;
	c->nmi_pending = ev.nmi.pending;
	if (ev.exception.injected) {
		c->event_pending = 1;
		c->event_type = 3;
		c->event_vector = ev.exception.nr;
		c->event_has_error = ev.exception.has_error_code;
		c->event_error = ev.exception.error_code;
	} else if (ev.interrupt.injected) {
		c->event_pending = 1;
		c->event_type = ev.interrupt.soft ? 4 : 0;
		c->event_vector = ev.interrupt.nr;
	} else if (ev.nmi.injected) {
		c->event_pending = 1;
		c->event_type = 2;
		c->event_vector = VEC_NMI;
	}
}

static int set_events(struct kvm_vcpu *v, const struct cpu *c, struct err *e)
{
	struct kvm_mp_state mp = {.mp_state = c->mp_state};
	struct kvm_vcpu_events ev = {
	    .flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW,
	};

	ev.interrupt.shadow = (uint8_t)((c->int_shadow & 1 ? KVM_X86_SHADOW_INT_STI : 0) |
					(c->int_shadow & 2 ? KVM_X86_SHADOW_INT_MOV_SS : 0));
	ev.nmi.masked = c->nmi_masked;
	ev.nmi.pending = c->nmi_pending;
	if (c->event_pending && c->event_type == 3) {
		ev.exception.injected = 1;
		ev.exception.nr = c->event_vector;
		ev.exception.has_error_code = c->event_has_error;
		ev.exception.error_code = c->event_error;
	} else if (c->event_pending && c->event_type == 2) {
		ev.nmi.injected = 1;
	} else if (c->event_pending) {
		ev.interrupt.injected = 1;
		ev.interrupt.nr = c->event_vector;
		ev.interrupt.soft = c->event_type == 4;
	}
	if (ioctl(v->fd, KVM_SET_VCPU_EVENTS, &ev) < 0)
		return err_set(e, -errno, "KVM: pending events");
	if (ioctl(v->fd, KVM_SET_MP_STATE, &mp) < 0)
		return err_set(e, -errno, "KVM: processor state %u", c->mp_state);
	return 0;
}

static void get_debug(struct kvm_vcpu *v, struct cpu *c)
{
	struct kvm_debugregs d = {0};

	(void)ioctl(v->fd, KVM_GET_DEBUGREGS, &d);
	memcpy(c->dr, d.db, sizeof(c->dr));
	c->dr6 = d.dr6;
	c->dr7 = d.dr7;
}

static int set_debug(struct kvm_vcpu *v, const struct cpu *c, struct err *e)
{
	struct kvm_debugregs d = {.dr6 = c->dr6, .dr7 = c->dr7};

	memcpy(d.db, c->dr, sizeof(c->dr));
	if (ioctl(v->fd, KVM_SET_DEBUGREGS, &d) < 0)
		return err_set(e, -errno, "KVM: debug registers");
	return 0;
}

void kvm_state_get(struct vcpu *vcpu, struct cpu *c)
{
	struct kvm_vcpu *v = container_of(vcpu, struct kvm_vcpu, vcpu);
	struct kvm_engine *k = container_of(vcpu->en, struct kvm_engine, en);
	struct kvm_xcrs xcrs = {0};
	uint64_t tsc = 0;

	*c = (struct cpu){0};
	get_regs(v, c);
	get_sregs(v, c);
	get_xsave(v, c);
	get_events(v, c);
	get_debug(v, c);
	c->xcr0 = XSTATE_X87;
	if (ioctl(v->fd, KVM_GET_XCRS, &xcrs) == 0 && xcrs.nr_xcrs > 0)
		c->xcr0 = xcrs.xcrs[0].value;
	for (size_t i = 0; i < ARRAY_SIZE(msr_rows); i++) {
		if (msr_known(k, msr_rows[i].index))
			(void)msr_io(v, KVM_GET_MSRS, msr_rows[i].index,
				     msr_field(c, &msr_rows[i]));
	}
	if (msr_io(v, KVM_GET_MSRS, MSR_TSC, &tsc) == 0)
		v->tsc_offset = tsc - __builtin_ia32_rdtsc();
	c->tsc_offset = v->tsc_offset;
}

static int set_msrs(struct kvm_vcpu *v, const struct kvm_engine *k, const struct cpu *c,
		    struct err *e)
{
	/* Reading the offset back twice never gives the same number: a microsecond is the same. */
	int64_t moved = (int64_t)(c->tsc_offset - v->tsc_offset);
	struct cpu copy = *c;

	for (size_t i = 0; i < ARRAY_SIZE(msr_rows); i++) {
		uint64_t want = *msr_field(&copy, &msr_rows[i]), now = 0;

		/* What holds the value already, or is not there and not wanted, is left alone. */
		if (!msr_known(k, msr_rows[i].index) ||
		    msr_io(v, KVM_GET_MSRS, msr_rows[i].index, &now) < 0)
			now = 0;
		if (now == want)
			continue;
		if (msr_io(v, KVM_SET_MSRS, msr_rows[i].index, &want) < 0)
			return err_msg(e, -EINVAL, "KVM: MSR 0x%x (%s) does not take 0x%llx",
				       msr_rows[i].index, msr_rows[i].name,
				       (unsigned long long)want);
	}
	if (moved > 4000 || moved < -4000) {
		uint64_t tsc = __builtin_ia32_rdtsc() + c->tsc_offset;

		if (msr_io(v, KVM_SET_MSRS, MSR_TSC, &tsc) < 0)
			return err_msg(e, -EIO, "KVM: time-stamp counter");
		v->tsc_offset = c->tsc_offset;
	}
	return 0;
}

int kvm_state_set(struct vcpu *vcpu, const struct cpu *c, struct err *e)
{
	struct kvm_vcpu *v = container_of(vcpu, struct kvm_vcpu, vcpu);
	const struct kvm_engine *k = container_of(vcpu->en, struct kvm_engine, en);
	int r = set_sregs(v, c, e);

	if (r == 0)
		r = set_regs(v, c, e);
	if (r == 0)
		r = set_xsave(v, c, e);
	if (r == 0)
		r = set_msrs(v, k, c, e);
	if (r == 0)
		r = set_debug(v, c, e);
	if (r == 0)
		r = set_events(v, c, e);
	return r;
}
