/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/jit/thread.c - a stack for host signals
 */
#include <signal.h>
#undef REG_RIP /* from here on insn.h's */

#include "engine/jit/jit_priv.h"

static _Thread_local const struct jit *armed;

void jit_signal_left(void)
{
	armed = NULL;
}

/* Signals must never use RSP, which is the guest's: not even when it points into this stack, hence
 * AUTODISARM. */
void jit_thread_begin(struct ivcpu *v)
{
	struct jit *j = v->jit;
	stack_t s;

	if (!j || armed == j)
		return;
	s = (stack_t){.ss_sp = j->signal_stack,
		      .ss_size = JIT_SIGNAL_STACK,
		      .ss_flags = (int)(1U << 31)}; /* SS_AUTODISARM */
	if (sigaltstack(&s, NULL) == 0)
		armed = j;
	assert(armed == j);
}

void jit_thread_end(const struct jit *j)
{
	const stack_t off = {.ss_flags = SS_DISABLE};

	if (armed != j)
		return;
	sigaltstack(&off, NULL);
	armed = NULL;
}
