/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine/vcpu.h - the thread that runs one vCPU
 *
 *	     +--> parked? wait --> timers due? run them --> events (INIT, SIPI, NMI) --> interrupt
 *	     |                                                                              |
 *	     +---- serve the exit <---- engine_run <---- halted and nothing came? sleep <---+
 *
 * Waking.  Whoever has something for the vCPU sets `wake`, kicks the engine and signals the
 *sleeper. The loop clears `wake` before it looks, so nothing is lost between looking and sleeping.
 *
 * Time.  The local APIC's timer is on a queue of the vCPU's own.  While the guest runs, a POSIX
 *timer kicks the engine by a signal to this thread; while it is halted, the sleep ends at the
 *deadline.
 */
#pragma once

#include "base/err.h"
#include "base/timerq.h"
#include "engine/engine.h"

#include <pthread.h>
#include <time.h>

struct lapic;
struct vcpu_thread;

/* What a vCPU needs of its machine. */
struct vcpu_host {
	struct engine *engine;
	struct bus *bus;
	void *opaque;
	/* In the vCPU's thread. */
	int (*enter)(void *opaque, struct err *e);
	void (*shutdown)(void *opaque, struct vcpu_thread *t); /* triple fault */
	void (*failed)(void *opaque, struct vcpu_thread *t, const char *text);
	void (*eoi)(void *opaque, uint8_t vector); /* EXIT_EOI */
	/* Interrupt acknowledge of the PIC: vector or -1.  Only with local APICs in the engine, and
	 * on the first vCPU. */
	int (*pic_ack)(void *opaque);
	/* The vCPU parked, or its thread is over. */
	void (*parked)(void *opaque);
};

struct vcpu_thread {
	struct vcpu_host host;
	unsigned int index;
	struct lapic *lapic; /* NULL when the engine has them; owned by the machine */
	struct timerq timers;

	pthread_t thread;
	bool started;
	pthread_mutex_t lock; /* of what follows up to `parked` */
	pthread_cond_t cond;
	bool sleeping, hold, quit, parked, ready, over;
	bool load; /* put `state` into the engine before running on */
	struct cpu state;
	struct err failure;     /* of the thread's start */
	char engine_stats[160]; /* as of the last park */

	_Atomic bool wake;        /* look at everything again */
	_Atomic bool hold_wanted; /* same as hold || quit, for the loop's quick look */
	_Atomic bool timer_due;   /* the timer's signal came */
	_Atomic bool nmi;         /* asked for by vcpu_nmi */
	_Atomic bool pic_level;   /* output of the PIC, with local APICs in the engine */

	/* the thread's own */
	struct vcpu *vcpu;
	timer_t kick_timer;
	bool has_kick_timer, rearm, halted;
	uint8_t mp_state;
	struct vm_exit exit;
	uint64_t exits[EXIT_ERROR + 1];
	_Atomic uint64_t insns; /* as of the last halt or park */
};

/* Starts the thread, which makes its vCPU and parks.  Waits for that. */
must_check int vcpu_start(struct vcpu_thread *t, const struct vcpu_host *host, unsigned int index,
			  struct err *e);
/* Before vcpu_start: its timer queue, for the local APIC. */
void vcpu_prepare(struct vcpu_thread *t);
/* The thread must be over or never started. */
void vcpu_fini(struct vcpu_thread *t);
/* lapic_config.guest_tsc, extint_ack, on_wake. */
uint64_t vcpu_guest_tsc(void *thread);
int vcpu_pic_ack(void *thread);
void vcpu_wake(void *thread);

/* Ask to park; host.parked is called when it has. */
void vcpu_hold(struct vcpu_thread *t);
/* Let it run on; with @state from there. */
void vcpu_release(struct vcpu_thread *t);
void vcpu_set_state(struct vcpu_thread *t, const struct cpu *state); /* while parked */
void vcpu_get_state(struct vcpu_thread *t, struct cpu *ret);         /* likewise */
/* Ask the thread to end; then vcpu_join. */
void vcpu_quit(struct vcpu_thread *t);
bool vcpu_is_parked(struct vcpu_thread *t);
bool vcpu_is_over(struct vcpu_thread *t);
void vcpu_join(struct vcpu_thread *t);
void vcpu_nmi(struct vcpu_thread *t);
/* The PIC's output, with local APICs in the engine. */
void vcpu_set_pic(struct vcpu_thread *t, bool level);
