/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/lapic.c - local APIC: acceptance, priority, delivery to the CPU (SDM vol. 3, 11.8)
 */
#include "device/lapic.h"

#include "device/lapic_priv.h"

#include <errno.h>

/* --- bits of IRR, ISR, TMR ----------------------------------------------------------------------
 */

static bool bit_get(const uint32_t map[8], uint8_t vector)
{
	return map[vector / 32] >> (vector % 32) & 1;
}

static void bit_set(uint32_t map[8], uint8_t vector, bool on)
{
	uint32_t bit = UINT32_C(1) << (vector % 32);

	if (on)
		map[vector / 32] |= bit;
	else
		map[vector / 32] &= ~bit;
}

static int bit_highest(const uint32_t map[8])
{
	for (int i = 7; i >= 0; i--) {
		if (map[i])
			return i * 32 + 31 - __builtin_clz(map[i]);
	}
	return -1;
}

uint32_t lapic_ppr(const struct lapic *l)
{
	int isr = bit_highest(l->isr);
	uint32_t in_service = isr < 0 ? 0 : (uint32_t)isr & 0xf0;

	return (l->tpr & 0xf0) >= in_service ? l->tpr : in_service;
}

static int highest_deliverable(const struct lapic *l)
{
	int v = bit_highest(l->irr);

	if (v < 0 || !lapic_is_software_on(l) || ((uint32_t)v & 0xf0) <= (lapic_ppr(l) & 0xf0))
		return -1;
	return v;
}

/* With the APIC off, LINT0 is the CPU's INTR pin (11.4.3). */
static bool extint_waiting(const struct lapic *l)
{
	if (!l->cfg.extint_ack)
		return false;
	if (l->lint[0] && !lapic_is_on(l))
		return true;
	if (l->extint_message)
		return true;
	return l->lint[0] && !(l->lvt[LVT_LINT0] & LVT_MASKED) &&
	       LVT_MODE(l->lvt[LVT_LINT0]) == APIC_EXTINT;
}

static int pending_locked(const struct lapic *l)
{
	return extint_waiting(l) ? LAPIC_EXTINT : highest_deliverable(l);
}

static bool has_events(const struct lapic *l)
{
	return l->nmi || l->init || l->sipi || l->smi;
}

void lapic_unlock(struct lapic *l, const struct lapic_after *after)
{
	l->attention = has_events(l) || pending_locked(l) >= 0;
	pthread_mutex_unlock(&l->lock);
	if (after->wake && l->cfg.on_wake)
		l->cfg.on_wake(l->cfg.opaque);
	if (after->eoi)
		apic_bus_eoi(l->cfg.bus, after->eoi_vector);
	if (after->send)
		apic_bus_deliver(l->cfg.bus, l, &after->msg);
}

/* --- coming in ---------------------------------------------------------------------------------
 */

void lapic_error(struct lapic *l, uint32_t bits, struct lapic_after *after)
{
	bool news = (bits & ~l->esr_latched) != 0;

	l->esr_latched |= bits;
	if (news && !(l->lvt[LVT_ERROR] & LVT_MASKED))
		lapic_lvt(l, LVT_ERROR, after);
}

void lapic_set_irr(struct lapic *l, uint8_t vector, bool level, struct lapic_after *after)
{
	if (vector < 16) {
		/* The error vector itself being illegal must not come round again. */
		if (!(l->esr_latched & ESR_RECEIVE_VECTOR))
			lapic_error(l, ESR_RECEIVE_VECTOR, after);
		return;
	}
	bit_set(l->irr, vector, true);
	bit_set(l->tmr, vector, level);
	after->wake = true;
}

/* One being delivered and one behind it, as a CPU holds them; more than that are one. */
static void note_nmi(struct lapic *l)
{
	if (l->nmi < 2)
		l->nmi++;
}

void lapic_lvt(struct lapic *l, unsigned int n, struct lapic_after *after)
{
	uint32_t lvt = l->lvt[n];

	if ((lvt & LVT_MASKED) || !lapic_is_on(l))
		return;
	switch (LVT_MODE(lvt)) {
	case APIC_FIXED:
		lapic_set_irr(l, (uint8_t)lvt, false, after);
		break;
	case APIC_NMI:
		note_nmi(l);
		after->wake = true;
		break;
	case APIC_SMI:
		l->smi = 1;
		after->wake = true;
		break;
	case APIC_INIT:
		l->init = 1;
		after->wake = true;
		break;
	default: /* ExtINT is a level, looked at by extint_waiting; the rest is reserved */
		after->wake = true;
		break;
	}
}

/* A level-triggered LINT0 is offered until its pin falls; remote IRR holds it while in service. */
void lapic_lint_update(struct lapic *l, struct lapic_after *after)
{
	uint32_t *lvt = &l->lvt[LVT_LINT0];

	if (l->lint[0] && LVT_MODE(*lvt) == APIC_EXTINT)
		after->wake = true;
	if (!l->lint[0] || LVT_MODE(*lvt) != APIC_FIXED || !(*lvt & LVT_LEVEL) ||
	    (*lvt & (LVT_MASKED | LVT_REMOTE)) || !lapic_is_on(l))
		return;
	*lvt |= LVT_REMOTE;
	lapic_set_irr(l, (uint8_t)*lvt, true, after);
}

static void lint_set(void *opaque, unsigned int pin, bool level)
{
	struct lapic *l = opaque;
	struct lapic_after after = {0};
	bool rise;

	pthread_mutex_lock(&l->lock);
	rise = level && !l->lint[pin];
	l->lint[pin] = level;
	if (!lapic_is_on(l)) {
		/* LINT1 is the NMI pin then. */
		if (rise && pin == 1)
			note_nmi(l);
		after.wake = rise;
	} else if (pin == 0 && (LVT_MODE(l->lvt[LVT_LINT0]) == APIC_EXTINT ||
				(l->lvt[LVT_LINT0] & LVT_LEVEL))) {
		lapic_lint_update(l, &after);
	} else if (rise) {
		lapic_lvt(l, LVT_LINT0 + pin, &after);
	}
	lapic_unlock(l, &after);
}

struct irq lapic_lint(struct lapic *l, unsigned int pin)
{
	return (struct irq){lint_set, l, pin & 1};
}

bool lapic_matches(struct lapic *l, const struct apic_msg *m)
{
	uint32_t dest = m->dest;
	bool match;

	if (dest == (m->wide ? UINT32_MAX : 0xff))
		return true;
	pthread_mutex_lock(&l->lock);
	if (!m->logical)
		match = dest == l->id;
	else if (lapic_is_x2apic(l))
		match = dest >> 16 == l->ldr >> 16 && (dest & l->ldr & 0xffff);
	else if (l->dfr >> 28 == 0xf)
		match = dest & (l->ldr >> 24);
	else if (l->dfr >> 28 == 0)
		match = dest >> 4 == l->ldr >> 28 && (dest & (l->ldr >> 24) & 0xf);
	else
		match = false;
	pthread_mutex_unlock(&l->lock);
	return match;
}

int lapic_arbitration(struct lapic *l)
{
	int v;

	pthread_mutex_lock(&l->lock);
	v = lapic_is_software_on(l) ? (int)(lapic_ppr(l) & 0xff) : -1;
	pthread_mutex_unlock(&l->lock);
	return v;
}

void lapic_receive(struct lapic *l, const struct apic_msg *m)
{
	struct lapic_after after = {0};

	pthread_mutex_lock(&l->lock);
	switch (m->mode) {
	case APIC_FIXED:
	case APIC_LOWEST:
		if (lapic_is_software_on(l))
			lapic_set_irr(l, m->vector, m->level, &after);
		break;
	case APIC_SMI:
		l->smi = 1;
		after.wake = true;
		break;
	case APIC_NMI:
		note_nmi(l);
		after.wake = true;
		break;
	case APIC_INIT:
		l->init = 1;
		l->sipi = 0; /* one that came before is lost with the old state */
		after.wake = true;
		break;
	case APIC_SIPI:
		l->sipi = 1;
		l->sipi_vector = m->vector;
		after.wake = true;
		break;
	case APIC_EXTINT:
		l->extint_message = 1;
		after.wake = true;
		break;
	}
	lapic_unlock(l, &after);
}

/* --- the CPU's side ----------------------------------------------------------------------------
 */

bool lapic_has_work(struct lapic *l)
{
	return l->attention;
}

int lapic_pending(struct lapic *l)
{
	int v;

	if (!l->attention)
		return -1;
	pthread_mutex_lock(&l->lock);
	v = pending_locked(l);
	pthread_mutex_unlock(&l->lock);
	return v;
}

int lapic_ack(struct lapic *l)
{
	struct lapic_after after = {0};
	int v;

	pthread_mutex_lock(&l->lock);
	v = pending_locked(l);
	if (v == LAPIC_EXTINT) {
		l->extint_message = 0;
		lapic_unlock(l, &after);
		return l->cfg.extint_ack(l->cfg.opaque);
	}
	if (v >= 0) {
		bit_set(l->irr, (uint8_t)v, false);
		bit_set(l->isr, (uint8_t)v, true);
	}
	lapic_unlock(l, &after);
	return v;
}

void lapic_take_events(struct lapic *l, struct lapic_events *ret)
{
	struct lapic_after after = {0};

	*ret = (struct lapic_events){0};
	if (!l->attention)
		return;
	pthread_mutex_lock(&l->lock);
	*ret = (struct lapic_events){
	    .nmi = l->nmi,
	    .init = l->init,
	    .sipi = l->sipi,
	    .smi = l->smi,
	    .sipi_vector = l->sipi_vector,
	};
	if (l->nmi)
		l->nmi--;
	l->init = l->sipi = l->smi = 0;
	lapic_unlock(l, &after);
}

void lapic_eoi(struct lapic *l, struct lapic_after *after)
{
	int v = bit_highest(l->isr);
	uint32_t *lvt = &l->lvt[LVT_LINT0];

	if (v < 0)
		return;
	bit_set(l->isr, (uint8_t)v, false);
	if ((*lvt & LVT_REMOTE) && (uint8_t)*lvt == v) {
		*lvt &= ~(uint32_t)LVT_REMOTE;
		lapic_lint_update(l, after);
	}
	if (bit_get(l->tmr, (uint8_t)v) && !(l->svr & SVR_SUPPRESS_EOI)) {
		after->eoi = true;
		after->eoi_vector = (uint8_t)v;
	}
}

uint64_t lapic_get_cr8(struct lapic *l)
{
	uint64_t v;

	pthread_mutex_lock(&l->lock);
	v = l->tpr >> 4;
	pthread_mutex_unlock(&l->lock);
	return v;
}

void lapic_set_cr8(struct lapic *l, uint64_t value)
{
	struct lapic_after after = {0};

	pthread_mutex_lock(&l->lock);
	l->tpr = (uint32_t)(value & 15) << 4;
	lapic_unlock(l, &after);
}

/* --- life --------------------------------------------------------------------------------------
 */

void lapic_clear(struct lapic *l)
{
	lapic_timer_stop(l);
	l->tpr = 0;
	l->ldr = 0;
	if (lapic_is_x2apic(l)) /* fixed by the id (11.12.10.2) */
		l->ldr = lapic_x2apic_ldr(l);
	l->dfr = UINT32_MAX;
	l->svr = 0xff;
	l->esr = l->esr_latched = 0;
	memset(l->irr, 0, sizeof(l->irr));
	memset(l->isr, 0, sizeof(l->isr));
	memset(l->tmr, 0, sizeof(l->tmr));
	l->icr = 0;
	for (unsigned int i = 0; i < LVT_COUNT; i++)
		l->lvt[i] = LVT_MASKED;
	l->timer_initial = 0;
	l->timer_divide = 0;
	l->extint_message = 0;
}

void lapic_reset(struct lapic *l)
{
	struct lapic_after after = {0};

	pthread_mutex_lock(&l->lock);
	l->apic_base = LAPIC_DEFAULT_BASE | APIC_BASE_ENABLE | (l->cfg.bsp ? APIC_BASE_BSP : 0);
	l->id = l->cfg.id;
	lapic_clear(l);
	l->nmi = l->init = l->sipi = l->smi = 0;
	lapic_unlock(l, &after);
}

/* A SIPI that follows the INIT may already be here: it stays. */
void lapic_init(struct lapic *l)
{
	struct lapic_after after = {0};

	pthread_mutex_lock(&l->lock);
	lapic_clear(l);
	l->nmi = l->smi = 0;
	lapic_unlock(l, &after);
}

void lapic_virtual_wire(struct lapic *l)
{
	struct lapic_after after = {0};

	pthread_mutex_lock(&l->lock);
	l->svr |= SVR_ENABLE;
	l->lvt[LVT_LINT0] = APIC_EXTINT << 8;
	l->lvt[LVT_LINT1] = APIC_NMI << 8;
	lapic_unlock(l, &after);
}

int lapic_new(const struct lapic_config *cfg, struct lapic **ret)
{
	struct lapic *l = calloc(1, sizeof(*l));

	if (!l)
		return -ENOMEM;
	l->cfg = *cfg;
	if (!l->cfg.phys_bits)
		l->cfg.phys_bits = 40;
	l->id = cfg->id;
	pthread_mutex_init(&l->lock, NULL);
	timer_init(&l->timer, cfg->timers, lapic_timer_expired, l);
	lapic_reset(l);
	apic_bus_add(cfg->bus, l, cfg->id);
	*ret = l;
	return 0;
}

void lapic_free(struct lapic *l)
{
	if (!l)
		return;
	apic_bus_remove(l->cfg.bus, l->cfg.id);
	timer_cancel(&l->timer);
	pthread_mutex_destroy(&l->lock);
	free(l);
}

static int lapic_loaded(void *opaque, struct err *e)
{
	struct lapic *l = opaque;

	if (lapic_is_x2apic(l) && !lapic_is_on(l))
		return err_msg(e, -EINVAL, "lapic: saved APIC_BASE is impossible");
	if (l->id != l->cfg.id)
		apic_bus_ids_changed(l->cfg.bus);
	l->nmi = MIN(l->nmi, (uint8_t)2);
	l->lint[0] = l->lint[0] != 0;
	l->lint[1] = l->lint[1] != 0;
	lapic_timer_restart(l);
	l->attention = true; /* looked at once, then exact */
	return 0;
}

static const struct state_field lapic_fields[] = {
    STATE_FIELD(struct lapic, apic_base, 1),
    STATE_FIELD(struct lapic, tsc_deadline, 1),
    STATE_FIELD(struct lapic, timer_start, 1),
    STATE_FIELD(struct lapic, timer_due, 1),
    STATE_FIELD(struct lapic, tpr, 1),
    STATE_FIELD(struct lapic, ldr, 1),
    STATE_FIELD(struct lapic, dfr, 1),
    STATE_FIELD(struct lapic, svr, 1),
    STATE_FIELD(struct lapic, esr, 1),
    STATE_FIELD(struct lapic, esr_latched, 1),
    STATE_ARRAY(struct lapic, irr, 1),
    STATE_ARRAY(struct lapic, isr, 1),
    STATE_ARRAY(struct lapic, tmr, 1),
    STATE_FIELD(struct lapic, icr, 1),
    STATE_ARRAY(struct lapic, lvt, 1),
    STATE_FIELD(struct lapic, timer_initial, 1),
    STATE_FIELD(struct lapic, timer_divide, 1),
    STATE_ARRAY(struct lapic, lint, 1),
    STATE_FIELD(struct lapic, extint_message, 1),
    STATE_FIELD(struct lapic, nmi, 1),
    STATE_FIELD(struct lapic, init, 1),
    STATE_FIELD(struct lapic, sipi, 1),
    STATE_FIELD(struct lapic, smi, 1),
    STATE_FIELD(struct lapic, sipi_vector, 1),
};

const struct state_table lapic_state_table = {
    .name = "lapic",
    .version = 1,
    .fields = lapic_fields,
    .n_fields = ARRAY_SIZE(lapic_fields),
    .loaded = lapic_loaded,
};
