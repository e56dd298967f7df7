/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/engine.h - the one interface of every CPU engine
 *
 * An engine runs virtual CPUs over guest memory.  What it cannot do alone (ports, MMIO, the local
 * APIC, halting) leaves as an exit from one vocabulary; the caller serves it and runs the CPU
 *again.
 *
 *	for (;;) {                                       one thread per vCPU
 *		serve pending requests, offer interrupts (engine_interrupt)
 *		engine_run(v, &x)
 *		switch (x.reason) ...                    fill in x.*.data for reads
 *	}
 *
 * An access that needs a value back (EXIT_IO/EXIT_MMIO/EXIT_MSR reads) is finished by the next
 * engine_run(), which takes the answer from the same struct vm_exit: pass it again, unchanged but
 * for the answer.  The instruction completes (or continues with its next access) then.
 *
 * Threads: everything on a vCPU is called from the vCPU's own thread, but for engine_kick().  While
 * engine_run() is at work the thread's stack pointer may be the guest's: each handler of a signal
 * that the thread can get must be installed with SA_ONSTACK; the engine provides the stack.
 * Implementations are named only in engine/engine.c.
 */
#pragma once

#include "base/err.h"
#include "engine/x86/cpu.h"
#include "engine/x86/cpuid.h"
#include "guest/gmem.h"

struct engine;
struct vcpu;

enum engine_kind {
	ENGINE_AUTO, /* kvm if a timed probe shows real hardware speed, else soft */
	ENGINE_KVM,
	ENGINE_SOFT,     /* the best software engine there is */
	ENGINE_JIT,      /* the translator, by name */
	ENGINE_LOCKSTEP, /* the same, each stay in its code checked by the interpreter: tests */
	ENGINE_INTERP,   /* the interpreter, for tests and comparisons */
};

enum exit_reason {
	EXIT_NONE,
	EXIT_KICK,       /* engine_kick(), or a time slice ended: nothing to serve */
	EXIT_IO,         /* port access */
	EXIT_MMIO,       /* access outside guest memory */
	EXIT_MSR,        /* MSR the engine leaves to others: APIC_BASE, TSC_DEADLINE, x2APIC */
	EXIT_CR8,        /* access to the task-priority register */
	EXIT_HLT,        /* CPU halted (state: CPU_HALTED); run again when an event is there */
	EXIT_IRQ_WINDOW, /* an interrupt asked for with engine_want_irq can be taken now */
	EXIT_EOI,        /* level-triggered vector ended on an APIC inside the engine */
	EXIT_HYPERCALL,  /* VMCALL/VMMCALL at CPL 0: nr in RAX; answer in data goes to RAX */
	EXIT_SHUTDOWN,   /* triple fault */
	EXIT_DEBUG,      /* single-step or breakpoint set by engine_debug */
	EXIT_ERROR,      /* the engine can't go on: text in err */
};

struct vm_exit {
	enum exit_reason reason;
	bool write;
	uint8_t size;   /* io: 1,2,4; mmio: 1,2,4,8 */
	bool fault;     /* msr, out: answer with #GP */
	uint8_t vector; /* eoi */
	uint16_t port;  /* io */
	uint32_t msr;   /* msr */
	uint64_t gpa;   /* mmio; may be unaligned */
	uint64_t data;  /* value written, or the answer */
	char err[200];  /* error */
};

struct engine_caps {
	bool local_apic; /* LAPICs live in the engine: engine_msi, EXIT_EOI; no EXIT_CR8, no x2APIC
			    MSRs */
	bool ioeventfd;  /* engine_ioeventfd works */
	bool irqfd;
};

/* --- the engine --- */

/*
 * @why gets one line for a person: what was chosen and the reason ("soft: /dev/kvm runs guest
 * kernel code 3000x slower than this CPU").  -ENODEV/-ENOSYS with err when @kind can't work here.
 */
must_check int engine_new(enum engine_kind kind, struct gmem *mem, unsigned int n_cpus,
			  struct engine **ret, char why[256], struct err *e);
/* All vCPUs must be freed before. */
void engine_free(struct engine *en);
const char *engine_name(const struct engine *en); /* "kvm", "interp", ... */
const struct engine_caps *engine_caps(const struct engine *en);
const struct cpu_model *engine_cpu_model(const struct engine *en);
/* The memory map changed (gmem_add): no vCPU may be running. */
must_check int engine_memory_changed(struct engine *en, struct err *e);

/* caps.local_apic only: deliver an MSI (or an IOAPIC's message in MSI form). */
int engine_msi(struct engine *en, uint64_t addr, uint32_t data);
/* caps.ioeventfd only: a write of @size bytes (0 = any) to @addr signals @fd instead of exiting. */
must_check int engine_ioeventfd(struct engine *en, uint64_t addr, uint32_t size, bool pio, int fd,
				bool add, struct err *e);
/* caps.local_apic only: IOAPIC pins whose EOI must exit (bitmap by vector). */
void engine_eoi_exits(struct engine *en, const uint64_t vectors[4]);

/* --- a vCPU --- */

/* @index is the APIC id; state is after RESET. */
must_check int vcpu_new(struct engine *en, unsigned int index, struct vcpu **ret, struct err *e);
void vcpu_free(struct vcpu *v);

/* Runs until an exit.  Host failures come as EXIT_ERROR, so that state can still be read. */
void engine_run(struct vcpu *v, struct vm_exit *x);
/* From any thread or signal handler: engine_run returns EXIT_KICK soon (or at once when not yet
 * in). */
void engine_kick(struct vcpu *v);

/* Exact architectural state, between two instructions. */
void engine_get_state(struct vcpu *v, struct cpu *ret);
must_check int engine_set_state(struct vcpu *v, const struct cpu *c, struct err *e);

/* Could an external interrupt be taken before the next instruction (IF, shadows, pending events)?
 */
bool engine_irq_ready(struct vcpu *v);
/* Take @vector as an external interrupt; only when engine_irq_ready. */
void engine_interrupt(struct vcpu *v, uint8_t vector);
/* Ask for EXIT_IRQ_WINDOW as soon as engine_irq_ready (until called with false). */
void engine_want_irq(struct vcpu *v, bool want);
void engine_nmi(struct vcpu *v);
/* Guest TSC now. */
uint64_t engine_tsc(struct vcpu *v);

/* Stop with EXIT_DEBUG after each instruction (for gdb, lock-step, tests). */
must_check int engine_single_step(struct vcpu *v, bool on, struct err *e);

/* For tests: a translating engine translates code that has run @runs times (1 = all code), before
 * any vCPU runs. */
void engine_set_heat(struct engine *en, unsigned int runs);

/* Instructions executed, for --verbose; 0 when the engine does not count. */
uint64_t engine_insn_count(struct vcpu *v);
/* What else the engine counts, in words, for --verbose; empty when it does not. */
void engine_stats(struct vcpu *v, char *buf, size_t len);
