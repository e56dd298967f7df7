/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/lapic_regs.c - the local APIC's registers, in memory (xAPIC) and as MSRs (x2APIC)
 * (SDM vol. 3, table 11-1 and table 11-6)
 *
 * Both forms number registers alike: MMIO offset / 16 = MSR - 800h.
 */
#include "device/lapic_priv.h"

enum reg {
	REG_ID = 0x02,
	REG_VERSION = 0x03,
	REG_TPR = 0x08,
	REG_APR = 0x09,
	REG_PPR = 0x0a,
	REG_EOI = 0x0b,
	REG_RRD = 0x0c,
	REG_LDR = 0x0d,
	REG_DFR = 0x0e,
	REG_SVR = 0x0f,
	REG_ISR = 0x10,
	REG_TMR = 0x18,
	REG_IRR = 0x20,
	REG_ESR = 0x28,
	REG_LVT_CMCI = 0x2f,
	REG_ICR = 0x30,
	REG_ICR_HIGH = 0x31,
	REG_LVT_TIMER = 0x32,
	REG_LVT_THERMAL = 0x33,
	REG_LVT_PERF = 0x34,
	REG_LVT_LINT0 = 0x35,
	REG_LVT_LINT1 = 0x36,
	REG_LVT_ERROR = 0x37,
	REG_TIMER_INITIAL = 0x38,
	REG_TIMER_COUNT = 0x39,
	REG_TIMER_DIVIDE = 0x3e,
	REG_SELF_IPI = 0x3f,
};

/* Version 14h, six LVT entries, EOI broadcast can be suppressed. */
#define VERSION (0x14u | (LVT_COUNT - 1) << 16 | 1u << 24)

/* Bits a write may set. */
static const uint32_t lvt_mask[LVT_COUNT] = {
    [LVT_TIMER] = 0x000700ff, [LVT_THERMAL] = 0x000107ff, [LVT_PERF] = 0x000107ff,
    [LVT_LINT0] = 0x0001a7ff, [LVT_LINT1] = 0x0001a7ff,   [LVT_ERROR] = 0x000100ff,
};

#define ICR_MASK UINT64_C(0xffffffff000ccfff) /* delivery status (bit 12) is always idle */

/* --- reading -----------------------------------------------------------------------------------
 */

/* False: there is no such register. */
static bool reg_read(struct lapic *l, unsigned int reg, uint32_t *ret)
{
	switch (reg) {
	case REG_ID:
		*ret = lapic_is_x2apic(l) ? l->id : l->id << 24;
		return true;
	case REG_VERSION:
		*ret = VERSION;
		return true;
	case REG_TPR:
		*ret = l->tpr;
		return true;
	case REG_PPR:
		*ret = lapic_ppr(l);
		return true;
	case REG_LDR:
		*ret = l->ldr;
		return true;
	case REG_DFR:
		*ret = l->dfr;
		return !lapic_is_x2apic(l);
	case REG_APR:
	case REG_RRD:
	case REG_EOI: /* write-only; reads as 0 where it can be read at all */
		*ret = 0;
		return !lapic_is_x2apic(l);
	case REG_SVR:
		*ret = l->svr;
		return true;
	case REG_ISR ... REG_ISR + 7:
		*ret = l->isr[reg - REG_ISR];
		return true;
	case REG_TMR ... REG_TMR + 7:
		*ret = l->tmr[reg - REG_TMR];
		return true;
	case REG_IRR ... REG_IRR + 7:
		*ret = l->irr[reg - REG_IRR];
		return true;
	case REG_ESR:
		*ret = l->esr;
		return true;
	case REG_ICR:
		*ret = (uint32_t)l->icr;
		return true;
	case REG_ICR_HIGH:
		*ret = (uint32_t)(l->icr >> 32);
		return !lapic_is_x2apic(l);
	case REG_LVT_TIMER ... REG_LVT_ERROR:
		*ret = l->lvt[reg - REG_LVT_TIMER];
		return true;
	case REG_TIMER_INITIAL:
		*ret = l->timer_initial;
		return true;
	case REG_TIMER_COUNT:
		*ret = lapic_timer_count(l);
		return true;
	case REG_TIMER_DIVIDE:
		*ret = l->timer_divide;
		return true;
	}
	return false;
}

/* --- writing -----------------------------------------------------------------------------------
 */

static void write_svr(struct lapic *l, uint32_t v)
{
	l->svr = v & 0x11ff;
	if (v & SVR_ENABLE)
		return;
	/* Software-disabled: every LVT entry is masked (11.4.7.2). */
	for (unsigned int i = 0; i < LVT_COUNT; i++)
		l->lvt[i] |= LVT_MASKED;
}

static void write_lvt(struct lapic *l, unsigned int n, uint32_t v, struct lapic_after *after)
{
	v = (v & lvt_mask[n]) | (l->lvt[n] & LVT_REMOTE);
	if (!(l->svr & SVR_ENABLE))
		v |= LVT_MASKED;
	if (!(v & LVT_LEVEL))
		v &= ~(uint32_t)LVT_REMOTE;
	if (n == LVT_TIMER) {
		/* Mode 3 is reserved: taken as one-shot. */
		if (LVT_TIMER_MODE(v) == 3)
			v &= ~(UINT32_C(3) << 17);
		lapic_timer_set_lvt(l, v);
		return;
	}
	l->lvt[n] = v;
	if (n == LVT_LINT0)
		lapic_lint_update(l, after);
}

static void send_ipi(struct lapic *l, uint64_t icr, struct lapic_after *after)
{
	bool x2apic = lapic_is_x2apic(l);
	struct apic_msg m = {
	    .dest = x2apic ? (uint32_t)(icr >> 32) : (uint32_t)(icr >> 56),
	    .wide = x2apic,
	    .logical = icr & BIT(11),
	    .vector = (uint8_t)icr,
	    .mode = (enum apic_mode)(icr >> 8 & 7),
	    .shorthand = (enum apic_shorthand)(icr >> 18 & 3),
	};

	/* INIT with level trigger and de-assert only synchronises arbitration ids of old. */
	m.deassert = m.mode == APIC_INIT && (icr & BIT(15)) && !(icr & BIT(14));
	if ((m.mode == APIC_FIXED || m.mode == APIC_LOWEST) && m.vector < 16) {
		lapic_error(l, ESR_SEND_VECTOR, after);
		return;
	}
	if (m.mode == APIC_EXTINT || (int)m.mode == 3)
		return; /* reserved in an ICR */
	/* To oneself only fixed ones go (table 11-3). */
	if ((m.shorthand == APIC_SELF || m.shorthand == APIC_ALL) && m.mode != APIC_FIXED &&
	    m.mode != APIC_LOWEST && m.mode != APIC_NMI)
		return;
	after->send = true;
	after->msg = m;
}

static void write_id(struct lapic *l, uint32_t id)
{
	if (l->id == id)
		return;
	l->id = id;
	apic_bus_ids_changed(l->cfg.bus);
}

/* False: no such register, or not writable. */
static bool reg_write(struct lapic *l, unsigned int reg, uint64_t v, struct lapic_after *after)
{
	uint32_t v32 = (uint32_t)v;

	switch (reg) {
	case REG_ID:
	case REG_DFR:
	case REG_LDR:
		if (lapic_is_x2apic(l))
			return false;
		if (reg == REG_DFR)
			l->dfr = v32 | 0x0fffffff;
		else if (reg == REG_LDR)
			l->ldr = v32 & 0xff000000;
		else
			write_id(l, v32 >> 24);
		return true;
	case REG_TPR:
		l->tpr = v32 & 0xff;
		return true;
	case REG_EOI:
		lapic_eoi(l, after);
		return true;
	case REG_SVR:
		write_svr(l, v32);
		return true;
	case REG_ESR: /* a write shows what was noted since the last one */
		l->esr = l->esr_latched;
		l->esr_latched = 0;
		return true;
	case REG_ICR:
		l->icr = lapic_is_x2apic(l) ? v & ICR_MASK
					    : (l->icr & ~UINT64_C(0xffffffff)) | (v32 & ICR_MASK);
		send_ipi(l, l->icr, after);
		return true;
	case REG_ICR_HIGH:
		if (lapic_is_x2apic(l))
			return false;
		l->icr = (uint32_t)l->icr | (uint64_t)(v32 & 0xff000000) << 32;
		return true;
	case REG_LVT_TIMER ... REG_LVT_ERROR:
		write_lvt(l, reg - REG_LVT_TIMER, v32, after);
		return true;
	case REG_TIMER_INITIAL:
		lapic_timer_set_initial(l, v32);
		return true;
	case REG_TIMER_DIVIDE:
		lapic_timer_set_divide(l, v32);
		return true;
	case REG_SELF_IPI:
		if (!lapic_is_x2apic(l))
			return false;
		send_ipi(l, (v & 0xff) | APIC_SELF << 18, after);
		return true;
	}
	return false;
}

/* --- memory ------------------------------------------------------------------------------------
 */

bool lapic_mmio(struct lapic *l, uint64_t gpa, unsigned int size, bool write, uint64_t *data)
{
	uint64_t off = gpa - (l->apic_base & ~UINT64_C(0xfff));
	struct lapic_after after = {0};
	unsigned int reg = (unsigned int)(off >> 4);
	uint32_t v = 0;

	/* Written in this vCPU's thread only, so it may be read without the lock. */
	if (off >= 0x1000 || !lapic_is_on(l) || lapic_is_x2apic(l))
		return false;
	pthread_mutex_lock(&l->lock);
	if (write) {
		/* Other than aligned dwords is undefined (11.4.1): dropped. */
		if (size == 4 && !(off & 15) && !reg_write(l, reg, *data, &after))
			lapic_error(l, ESR_REGISTER, &after);
	} else {
		if (!reg_read(l, reg, &v))
			lapic_error(l, ESR_REGISTER, &after);
		/* The first four of each sixteen bytes are the register. */
		*data = (off & 15) < 4 ? v >> (8 * (off & 3)) : 0;
		if (size < 4)
			*data &= (UINT32_C(1) << (8 * size)) - 1;
	}
	lapic_unlock(l, &after);
	return true;
}

/* --- MSRs --------------------------------------------------------------------------------------
 */

bool lapic_owns_msr(uint32_t msr)
{
	return msr == MSR_APIC_BASE || msr == MSR_TSC_DEADLINE || msr >> 8 == MSR_X2APIC >> 8;
}

bool lapic_rdmsr(struct lapic *l, uint32_t msr, uint64_t *ret)
{
	struct lapic_after after = {0};
	uint32_t v = 0;
	bool ok = true;

	pthread_mutex_lock(&l->lock);
	if (msr == MSR_APIC_BASE) {
		*ret = l->apic_base;
	} else if (msr == MSR_TSC_DEADLINE) {
		*ret = l->tsc_deadline;
	} else if (!lapic_is_x2apic(l)) {
		ok = false;
	} else if (msr == MSR_X2APIC + REG_ICR) {
		*ret = l->icr;
	} else {
		ok = reg_read(l, msr - MSR_X2APIC, &v);
		if (ok)
			*ret = v;
	}
	lapic_unlock(l, &after);
	return ok;
}

/* The states are off, xAPIC and x2APIC; x2APIC is entered from xAPIC and left to off only (figure
 * 11-27). */
static bool write_base(struct lapic *l, uint64_t v)
{
	uint64_t bits = APIC_BASE_ENABLE | APIC_BASE_X2APIC;
	uint64_t old = l->apic_base & bits, now = v & bits;
	uint64_t writable = (BIT(l->cfg.phys_bits) - 1) & ~UINT64_C(0xfff);

	writable |= APIC_BASE_BSP | APIC_BASE_ENABLE | (l->cfg.no_x2apic ? 0 : APIC_BASE_X2APIC);
	if ((v & ~writable) || now == APIC_BASE_X2APIC)
		return false;
	if (old == bits && now == APIC_BASE_ENABLE)
		return false;
	if (old == 0 && now == bits)
		return false;
	l->apic_base = v;
	if (old == now)
		return true;
	if (now == bits) {
		l->id = l->cfg.id;
		l->ldr = lapic_x2apic_ldr(l);
		l->icr = (uint32_t)l->icr;
	} else if (now == 0) {
		l->id = l->cfg.id;
		lapic_clear(l);
	}
	return true;
}

/* Bits that a register of 32 bits does not have must be 0. */
static bool x2apic_write(struct lapic *l, unsigned int reg, uint64_t v, struct lapic_after *after)
{
	uint64_t reserved = ~UINT64_C(0xffffffff);

	switch (reg) {
	case REG_TPR:
	case REG_SELF_IPI:
		reserved = ~UINT64_C(0xff);
		break;
	case REG_EOI:
	case REG_ESR:
		reserved = UINT64_MAX;
		break;
	case REG_SVR:
		reserved = ~UINT64_C(0x11ff);
		break;
	case REG_ICR:
		reserved = ~(ICR_MASK | BIT(12));
		break;
	case REG_LVT_TIMER ... REG_LVT_ERROR:
		reserved = ~(uint64_t)(lvt_mask[reg - REG_LVT_TIMER] | BIT(12) | BIT(14));
		break;
	case REG_TIMER_DIVIDE:
		reserved = ~UINT64_C(0xb);
		break;
	}
	return !(v & reserved) && reg_write(l, reg, v, after);
}

bool lapic_wrmsr(struct lapic *l, uint32_t msr, uint64_t value)
{
	struct lapic_after after = {0};
	bool ok = true;

	pthread_mutex_lock(&l->lock);
	if (msr == MSR_APIC_BASE)
		ok = write_base(l, value);
	else if (msr == MSR_TSC_DEADLINE)
		lapic_timer_set_deadline(l, value, &after);
	else if (lapic_is_x2apic(l))
		ok = x2apic_write(l, msr - MSR_X2APIC, value, &after);
	else
		ok = false;
	lapic_unlock(l, &after);
	return ok;
}
