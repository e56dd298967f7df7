/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/lapic_priv.h - what the parts of the local APIC know of each other
 *
 * All of them are called with the lock held.
 */
#pragma once

#include "device/lapic.h"

#define LVT_MASKED    BIT(16)
#define LVT_LEVEL     BIT(15)
#define LVT_REMOTE    BIT(14)
#define LVT_LOW       BIT(13)
#define LVT_MODE(lvt) ((enum apic_mode)((lvt) >> 8 & 7))

#define LVT_TIMER_MODE(lvt) ((lvt) >> 17 & 3)
#define TIMER_ONE_SHOT      0
#define TIMER_PERIODIC      1
#define TIMER_TSC_DEADLINE  2

#define SVR_ENABLE       0x100u
#define SVR_SUPPRESS_EOI 0x1000u

#define ESR_SEND_VECTOR    0x20u
#define ESR_RECEIVE_VECTOR 0x40u
#define ESR_REGISTER       0x80u

static inline bool lapic_is_x2apic(const struct lapic *l)
{
	return (l->apic_base & APIC_BASE_X2APIC) != 0;
}

static inline bool lapic_is_on(const struct lapic *l)
{
	return (l->apic_base & APIC_BASE_ENABLE) != 0;
}

static inline bool lapic_is_software_on(const struct lapic *l)
{
	return lapic_is_on(l) && (l->svr & SVR_ENABLE);
}

/* The logical id of x2APIC mode is made from the physical one (11.12.10.2). */
static inline uint32_t lapic_x2apic_ldr(const struct lapic *l)
{
	return (l->cfg.id & ~15u) << 12 | UINT32_C(1) << (l->cfg.id & 15);
}

/* Work that must be done after the lock is let go. */
struct lapic_after {
	bool wake;
	bool eoi;
	uint8_t eoi_vector;
	bool send;
	struct apic_msg msg;
};

void lapic_unlock(struct lapic *l, const struct lapic_after *after);
uint32_t lapic_ppr(const struct lapic *l);
/* Deliver through an entry of the local vector table. */
void lapic_lvt(struct lapic *l, unsigned int n, struct lapic_after *after);
void lapic_set_irr(struct lapic *l, uint8_t vector, bool level, struct lapic_after *after);
void lapic_error(struct lapic *l, uint32_t bits, struct lapic_after *after);
void lapic_eoi(struct lapic *l, struct lapic_after *after);
/* LINT pins are levels: offer them again after the LVT changed. */
void lapic_lint_update(struct lapic *l, struct lapic_after *after);
/* Registers of power-on and INIT. */
void lapic_clear(struct lapic *l);

void lapic_timer_expired(void *lapic);
uint32_t lapic_timer_count(struct lapic *l);
void lapic_timer_set_initial(struct lapic *l, uint32_t count);
void lapic_timer_set_divide(struct lapic *l, uint32_t divide);
void lapic_timer_set_lvt(struct lapic *l, uint32_t lvt);
void lapic_timer_set_deadline(struct lapic *l, uint64_t tsc, struct lapic_after *after);
void lapic_timer_stop(struct lapic *l);
/* Arm again after state was loaded. */
void lapic_timer_restart(struct lapic *l);
