/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/interp/hostfault.c - a host fault in code made for the guest ends this guest, not us
 *
 * Guest instructions that the host executes are prepared so that they cannot fault (vec.c,
 * div_faults).  Should one do so all the same, that is our mistake, but it was the guest's doing:
 * the run ends with EXIT_ERROR, which says where.  Faults anywhere else are passed on to whoever
 * handled them before.
 *
 * The handler leaves by siglongjmp: what it interrupts is a gadget or a single instruction, which
 * hold no locks and own nothing.  SA_NODEFER keeps the signal mask as it is.
 */
#include <signal.h>
#include <stdint.h>
#include <ucontext.h>

static uintptr_t fault_pc(const ucontext_t *u)
{
	return (uintptr_t)u->uc_mcontext.gregs[REG_RIP];
}

static void go_on_at(ucontext_t *u, uintptr_t pc, uint64_t rcx)
{
	u->uc_mcontext.gregs[REG_RIP] = (greg_t)pc;
	u->uc_mcontext.gregs[REG_RCX] = (greg_t)rcx;
}
#undef REG_RIP /* from here on insn.h's */

#include "engine/interp/hot.h"

#include "engine/jit/jit.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>

static const int signals[] = {SIGFPE, SIGILL, SIGSEGV, SIGBUS, SIGTRAP};

static struct sigaction before[ARRAY_SIZE(signals)];
static _Thread_local struct ivcpu *watched;

static void describe(const struct ivcpu *v, int sig, bool made)
{
	const struct cpu *c = &v->c;
	const struct x86_insn *i = v->hot || !v->uop ? NULL : v->uop->insn;
	char bytes[2 * INSN_MAX_LEN + 1] = "?";

	for (unsigned int k = 0; i && k < i->len; k++)
		snprintf(bytes + 2 * k, 3, "%02x", i->raw[k]);
	*v->exit = (struct vm_exit){.reason = EXIT_ERROR};
	snprintf(v->exit->err, sizeof(v->exit->err),
		 "host signal %d in %s instruction %s at %#" PRIx64
		 ", mode %d, cr0 %#x, fcw %#x, fsw %#x, mxcsr %#x: please report this",
		 sig, made ? "vector" : "integer", bytes, c->rip, (int)v->mode,
		 (unsigned int)c->cr0, c->xs.fcw, c->xs.fsw, c->xs.mxcsr);
}

static void pass_on(int sig, siginfo_t *info, void *context)
{
	for (unsigned int k = 0; k < ARRAY_SIZE(signals); k++) {
		if (signals[k] != sig)
			continue;
		if (before[k].sa_flags & SA_SIGINFO)
			before[k].sa_sigaction(sig, info, context);
		else if (before[k].sa_handler != SIG_DFL && before[k].sa_handler != SIG_IGN)
			before[k].sa_handler(sig);
		else
			sigaction(sig, &before[k], NULL); /* it happens again, or was sent */
		return;
	}
}

static void on_fault(int sig, siginfo_t *info, void *context)
{
	struct ivcpu *v = watched;
	bool made = v && vec_owns_code(v, fault_pc(context));
	uintptr_t pc;
	uint64_t rcx;

	if (info->si_code > 0 && v && jit_host_fault(v, fault_pc(context), &pc, &rcx)) {
		go_on_at(context, pc, rcx);
		return;
	}

	/* si_code > 0: a fault, not a signal someone sent. */
	if (info->si_code <= 0 || !v || !v->running || !(made || sig == SIGFPE)) {
		pass_on(sig, info, context);
		return;
	}
	describe(v, sig, made);
	jit_signal_left();
	raise_exit(v);
}

static void install(void)
{
	struct sigaction sa = {.sa_sigaction = on_fault,
			       .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};

	sigemptyset(&sa.sa_mask);
	for (unsigned int k = 0; k < ARRAY_SIZE(signals); k++)
		sigaction(signals[k], &sa, &before[k]);
}

void hostfault_init(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, install);
}

void hostfault_watch(struct ivcpu *v)
{
	watched = v;
}
