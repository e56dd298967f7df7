/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine/vcpu_exit.c - the thread that runs one vCPU: events, interrupts, exits
 */
#include "bus/bus.h"
#include "device/lapic.h"
#include "machine/vcpu_priv.h"

/* What KVM answers to a hypercall it does not know; guests probe for it. */
#define HYPERCALL_ENOSYS ((uint64_t)-1000)

/* --- events --- */

static void change_state(struct vcpu_thread *t, void (*change)(struct cpu *c, uint8_t vector),
			 uint8_t vector)
{
	struct cpu *c = &t->state;
	struct err e = {0};

	engine_get_state(t->vcpu, c);
	change(c, vector);
	t->exit = (struct vm_exit){0};
	if (engine_set_state(t->vcpu, c, &e) < 0)
		t->host.failed(t->host.opaque, t, e.msg);
	t->mp_state = c->mp_state;
	t->halted = t->mp_state != CPU_RUNNABLE;
}

static void to_init(struct cpu *c, uint8_t vector)
{
	cpu_init(c);
}

void vcpu_take_events(struct vcpu_thread *t)
{
	struct lapic_events ev = {0};

	if (t->nmi) {
		t->nmi = false;
		ev.nmi = true;
	}
	if (t->lapic && t->lapic->attention) {
		bool nmi = ev.nmi;

		lapic_take_events(t->lapic, &ev);
		ev.nmi |= nmi;
	}
	if (ev.init) {
		lapic_init(t->lapic);
		change_state(t, to_init, 0);
	}
	if (ev.sipi && (t->mp_state == CPU_INIT_RECEIVED || t->mp_state == CPU_UNINITIALIZED))
		change_state(t, cpu_sipi, ev.sipi_vector);
	if (ev.nmi && (t->mp_state == CPU_RUNNABLE || t->mp_state == CPU_HALTED)) {
		engine_nmi(t->vcpu);
		t->mp_state = CPU_RUNNABLE;
		t->halted = false;
	}
}

/* --- interrupts --- */

/* An interrupt for the engine to take: vector, or -1.  @more: another one waits. */
static bool has_interrupt(struct vcpu_thread *t)
{
	if (t->lapic)
		return t->lapic->attention && lapic_pending(t->lapic) >= 0;
	return t->pic_level && t->index == 0;
}

static int take_interrupt(struct vcpu_thread *t)
{
	return t->lapic ? lapic_ack(t->lapic) : t->host.pic_ack(t->host.opaque);
}

void vcpu_offer_interrupt(struct vcpu_thread *t)
{
	int vector;

	if (t->mp_state != CPU_RUNNABLE && t->mp_state != CPU_HALTED)
		return;
	if (!has_interrupt(t)) {
		engine_want_irq(t->vcpu, false);
		return;
	}
	if (!engine_irq_ready(t->vcpu)) {
		engine_want_irq(t->vcpu, true);
		return;
	}
	vector = take_interrupt(t);
	if (vector >= 0) {
		engine_interrupt(t->vcpu, (uint8_t)vector);
		t->mp_state = CPU_RUNNABLE;
		t->halted = false;
	}
	engine_want_irq(t->vcpu, has_interrupt(t));
}

/* --- exits --- */

static void serve_io(struct vcpu_thread *t, struct vm_exit *x)
{
	if (x->write)
		bus_write(t->host.bus, BUS_PIO, x->port, x->size, x->data);
	else
		x->data = bus_read(t->host.bus, BUS_PIO, x->port, x->size);
}

static void serve_mmio(struct vcpu_thread *t, struct vm_exit *x)
{
	if (t->lapic && lapic_mmio(t->lapic, x->gpa, x->size, x->write, &x->data))
		return;
	if (x->write)
		bus_write(t->host.bus, BUS_MMIO, x->gpa, x->size, x->data);
	else
		x->data = bus_read(t->host.bus, BUS_MMIO, x->gpa, x->size);
}

static void serve_msr(struct vcpu_thread *t, struct vm_exit *x)
{
	bool ok = false;

	if (t->lapic && lapic_owns_msr(x->msr))
		ok = x->write ? lapic_wrmsr(t->lapic, x->msr, x->data)
			      : lapic_rdmsr(t->lapic, x->msr, &x->data);
	x->fault = !ok;
}

static void serve_cr8(struct vcpu_thread *t, struct vm_exit *x)
{
	if (!t->lapic)
		return;
	if (x->write)
		lapic_set_cr8(t->lapic, x->data);
	else
		x->data = lapic_get_cr8(t->lapic);
}

void vcpu_serve_exit(struct vcpu_thread *t)
{
	struct vm_exit *x = &t->exit;

	t->exits[x->reason]++;
	switch (x->reason) {
	case EXIT_NONE:
	case EXIT_KICK:
	case EXIT_IRQ_WINDOW:
	case EXIT_DEBUG:
		break;
	case EXIT_IO:
		serve_io(t, x);
		break;
	case EXIT_MMIO:
		serve_mmio(t, x);
		break;
	case EXIT_MSR:
		serve_msr(t, x);
		break;
	case EXIT_CR8:
		serve_cr8(t, x);
		break;
	case EXIT_HLT:
		t->mp_state = CPU_HALTED;
		t->halted = true;
		break;
	case EXIT_EOI:
		t->host.eoi(t->host.opaque, x->vector);
		break;
	case EXIT_HYPERCALL:
		x->data = HYPERCALL_ENOSYS;
		break;
	case EXIT_SHUTDOWN:
		t->host.shutdown(t->host.opaque, t);
		break;
	case EXIT_ERROR:
		t->host.failed(t->host.opaque, t, x->err);
		break;
	}
}
