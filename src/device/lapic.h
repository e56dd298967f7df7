/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/lapic.h - local APIC, one per vCPU (SDM vol. 3, chapter 11)
 *
 * Each vCPU sees its own at the same address, so that the shared bus cannot map it: the vCPU's loop
 * offers every MMIO exit to lapic_mmio first, and MSR exits to lapic_rdmsr/lapic_wrmsr.
 *
 *	lapic_take_events(l, &ev)       INIT, SIPI, NMI, SMI asked for by others
 *	v = lapic_pending(l)            an interrupt that beats the task priority?
 *	if (engine_irq_ready) engine_interrupt(v, lapic_ack(l))
 *
 * Threads: interrupts arrive from any thread; registers are accessed in the vCPU's own thread,
 *which also drives the timer queue given here.  on_wake is called, with no lock of the APIC held,
 *when something new may need the vCPU's attention.  Lock order: PIC, IOAPIC -> local APIC;
 *extint_ack and end-of-interrupt messages go out with the lock free.
 *
 * Timer: its input clock is LAPIC_TIMER_HZ, which CPUID leaves 15h and 40000010h announce.  A
 * periodic timer that fell behind makes up for nothing, and never fires more often than each
 * LAPIC_MIN_PERIOD_NS.
 */
#pragma once

#include "base/state.h"
#include "base/timerq.h"
#include "bus/irq.h"
#include "device/apic_bus.h"

#define LAPIC_TIMER_HZ      UINT64_C(1000000000)
#define LAPIC_MIN_PERIOD_NS UINT64_C(50000)
#define LAPIC_DEFAULT_BASE  UINT64_C(0xfee00000)

#define MSR_APIC_BASE    0x1bu
#define MSR_TSC_DEADLINE 0x6e0u
#define MSR_X2APIC       0x800u /* to 0x8ff */

#define APIC_BASE_BSP    BIT(8)
#define APIC_BASE_X2APIC BIT(10)
#define APIC_BASE_ENABLE BIT(11)

enum { LVT_TIMER, LVT_THERMAL, LVT_PERF, LVT_LINT0, LVT_LINT1, LVT_ERROR, LVT_COUNT };

struct lapic_config {
	uint32_t id;
	bool bsp;
	bool no_x2apic;    /* as CPUID says */
	uint8_t phys_bits; /* width of physical addresses; 0 = 40 */
	struct apic_bus *bus;
	struct timerq *timers; /* driven by the vCPU's thread */
	uint64_t tsc_hz;
	uint64_t (*guest_tsc)(void *opaque);
	void (*on_wake)(void *opaque);
	/* INTA cycle of the PIC behind LINT0; NULL = there is none. */
	int (*extint_ack)(void *opaque);
	void *opaque; /* of the three */
};

struct lapic {
	struct lapic_config cfg;
	pthread_mutex_t lock;
	struct timer timer;
	uint64_t apic_base;
	uint64_t tsc_deadline;
	uint64_t timer_start; /* when the count was written, on the queue's clock */
	uint64_t timer_due;   /* of the next expiry; TIMER_NEVER = not running */
	uint32_t id;          /* as programmed in xAPIC mode, of 8 bits; cfg.id otherwise */
	uint32_t tpr, ldr, dfr, svr, esr, esr_latched;
	uint32_t irr[8], isr[8], tmr[8];
	uint64_t icr;
	uint32_t lvt[LVT_COUNT];
	uint32_t timer_initial, timer_divide;
	uint8_t lint[2];                           /* levels of the pins */
	uint8_t extint_message;                    /* an ExtINT came as a message */
	uint8_t nmi, init, sipi, smi, sipi_vector; /* events not yet taken; NMIs counted, up to 2 */
	_Atomic bool attention; /* lapic_pending or lapic_take_events may have an answer */
};

struct lapic_events {
	bool nmi, init, sipi, smi; /* init comes before sipi */
	uint8_t sipi_vector;
};

must_check int lapic_new(const struct lapic_config *cfg, struct lapic **ret);
void lapic_free(struct lapic *l);
/* Power-on. */
void lapic_reset(struct lapic *l);
/* INIT: as power-on, but APIC_BASE and the id stay. */
void lapic_init(struct lapic *l);
/* What a BIOS leaves on the bootstrap processor: enabled, LINT0 = ExtINT, LINT1 = NMI. */
void lapic_virtual_wire(struct lapic *l);

/* False when the access is not the APIC's.  *@data is the value, both ways. */
bool lapic_mmio(struct lapic *l, uint64_t gpa, unsigned int size, bool write, uint64_t *data);
bool lapic_owns_msr(uint32_t msr);
/* False: #GP. */
must_check bool lapic_rdmsr(struct lapic *l, uint32_t msr, uint64_t *ret);
must_check bool lapic_wrmsr(struct lapic *l, uint32_t msr, uint64_t value);
uint64_t lapic_get_cr8(struct lapic *l);
void lapic_set_cr8(struct lapic *l, uint64_t value);

/* Vector of the interrupt to offer the CPU, or -1.  For one from the PIC (ExtINT), whose vector
 * only lapic_ack can tell, 256. */
#define LAPIC_EXTINT 256
int lapic_pending(struct lapic *l);
/* The CPU takes the interrupt: its vector, or -1 when it went away meanwhile. */
int lapic_ack(struct lapic *l);
/* Takes one NMI at a time: a second that came meanwhile is for the next call. */
void lapic_take_events(struct lapic *l, struct lapic_events *ret);
/* Without taking anything: is there an event, or an interrupt that would be offered? */
bool lapic_has_work(struct lapic *l);

/* LINT0 and LINT1 (pin 0 and 1): the PIC's output and NMI. */
struct irq lapic_lint(struct lapic *l, unsigned int pin);

/* --- for apic_bus.c ----------------------------------------------------------------------------
 */

bool lapic_matches(struct lapic *l, const struct apic_msg *m);
/* Priority class for lowest-priority arbitration; -1 = cannot take it. */
int lapic_arbitration(struct lapic *l);
void lapic_receive(struct lapic *l, const struct apic_msg *m);

extern const struct state_table lapic_state_table;
