/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine/vcpu.c - the thread that runs one vCPU: life, waking, the loop
 */
#include "machine/vcpu.h"

#include "base/clock.h"
#include "device/lapic.h"
#include "machine/vcpu_priv.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/syscall.h>

/* The kick timer's signal finds its vCPU here. */
static _Thread_local struct vcpu_thread *self;

#define KICK_SIGNAL (SIGRTMIN + 4)

/* --- waking --- */

static void on_kick_signal(int sig, siginfo_t *info, void *context)
{
	struct vcpu_thread *t = self;

	if (t && t->vcpu) {
		t->timer_due = true;
		engine_kick(t->vcpu);
	}
}

void vcpu_wake(void *thread)
{
	struct vcpu_thread *t = thread;

	/* In its own thread the loop looks again anyway.  Whoever finds it set leaves the rest to
	 * the one who set it: in one step, or the loop could clear it in between and go to sleep.
	 */
	if (atomic_exchange(&t->wake, true) || t == self)
		return;
	pthread_mutex_lock(&t->lock);
	if (t->sleeping)
		pthread_cond_broadcast(&t->cond);
	else if (t->vcpu)
		engine_kick(t->vcpu);
	pthread_mutex_unlock(&t->lock);
}

static void timers_rearm(void *opaque, uint64_t deadline)
{
	struct vcpu_thread *t = opaque;

	t->rearm = true;
	if (t != self)
		vcpu_wake(t);
}

uint64_t vcpu_guest_tsc(void *thread)
{
	struct vcpu_thread *t = thread;

	/* Parked with a state that the engine has not got yet: as it will count. */
	if (t->load)
		return t->state.tsc_offset + __builtin_ia32_rdtsc();
	return t->vcpu ? engine_tsc(t->vcpu) : 0;
}

int vcpu_pic_ack(void *thread)
{
	struct vcpu_thread *t = thread;

	return t->host.pic_ack(t->host.opaque);
}

/* Before the engine runs: the kick must come at the queue's first deadline. */
static void arm_kick(struct vcpu_thread *t)
{
	uint64_t next = timerq_next(&t->timers);
	struct itimerspec its = {0};

	t->rearm = false;
	if (next != TIMER_NEVER) {
		if (next <= clock_now()) {
			t->timer_due = true;
			t->wake = true;
			return;
		}
		its.it_value.tv_sec = (time_t)(next / NSEC_PER_SEC);
		its.it_value.tv_nsec = (long)(next % NSEC_PER_SEC);
	}
	timer_settime(t->kick_timer, TIMER_ABSTIME, &its, NULL);
}

/* Halted, or waiting for INIT or SIPI: until woken or the next deadline. */
static void sleep_until_woken(struct vcpu_thread *t)
{
	uint64_t next = timerq_next(&t->timers);
	struct timespec ts = {.tv_sec = (time_t)(next / NSEC_PER_SEC),
			      .tv_nsec = (long)(next % NSEC_PER_SEC)};
	int r = 0;

	t->insns = engine_insn_count(t->vcpu);
	pthread_mutex_lock(&t->lock);
	t->sleeping = true;
	while (!t->wake && r != ETIMEDOUT) {
		if (next == TIMER_NEVER)
			r = pthread_cond_wait(&t->cond, &t->lock);
		else
			r = pthread_cond_clockwait(&t->cond, &t->lock, CLOCK_MONOTONIC, &ts);
	}
	t->sleeping = false;
	pthread_mutex_unlock(&t->lock);
	if (next != TIMER_NEVER)
		t->timer_due = true;
}

/* --- parking --- */

static void note_stats(struct vcpu_thread *t)
{
	char text[sizeof(t->engine_stats)];

	if (!t->vcpu)
		return;
	t->insns = engine_insn_count(t->vcpu);
	engine_stats(t->vcpu, text, sizeof(text));
	pthread_mutex_lock(&t->lock);
	memcpy(t->engine_stats, text, sizeof(text));
	pthread_mutex_unlock(&t->lock);
}

/* An access that was served is not yet done for the instruction: it goes to its end, which may make
 * more of them. */
static void finish_instruction(struct vcpu_thread *t)
{
	while (t->exit.reason == EXIT_IO || t->exit.reason == EXIT_MMIO ||
	       t->exit.reason == EXIT_MSR || t->exit.reason == EXIT_CR8 ||
	       t->exit.reason == EXIT_HYPERCALL) {
		engine_kick(t->vcpu);
		engine_run(t->vcpu, &t->exit);
		vcpu_serve_exit(t);
	}
}

/* What a snapshot of the parked vCPU is made of. */
static void note_state(struct vcpu_thread *t)
{
	if (!t->vcpu)
		return;
	finish_instruction(t);
	pthread_mutex_lock(&t->lock);
	if (!t->load) {
		engine_get_state(t->vcpu, &t->state);
		t->state.nmi_pending |= t->nmi;
	}
	pthread_mutex_unlock(&t->lock);
}

/* Returns false when the thread shall end. */
static bool park(struct vcpu_thread *t)
{
	struct err e = {0};
	bool go_on;

	note_state(t);
	note_stats(t);
	pthread_mutex_lock(&t->lock);
	while (t->hold && !t->quit) {
		if (!t->parked) {
			t->parked = true;
			pthread_cond_broadcast(&t->cond);
			pthread_mutex_unlock(&t->lock);
			t->host.parked(t->host.opaque);
			pthread_mutex_lock(&t->lock);
			continue;
		}
		pthread_cond_wait(&t->cond, &t->lock);
	}
	t->parked = false;
	go_on = !t->quit;
	if (go_on && t->load) {
		t->load = false;
		t->mp_state = t->state.mp_state;
		/* With APICs in the engine, INIT and SIPI reach the CPU there: it waits inside. */
		t->halted = t->mp_state != CPU_RUNNABLE && !engine_caps(t->host.engine)->local_apic;
		t->exit = (struct vm_exit){0};
		if (engine_set_state(t->vcpu, &t->state, &e) < 0) {
			pthread_mutex_unlock(&t->lock);
			t->host.failed(t->host.opaque, t, e.msg);
			return true;
		}
	}
	pthread_mutex_unlock(&t->lock);
	return go_on;
}

static void set_flag(struct vcpu_thread *t, bool *flag, bool value)
{
	pthread_mutex_lock(&t->lock);
	*flag = value;
	t->hold_wanted = t->hold || t->quit;
	pthread_cond_broadcast(&t->cond);
	pthread_mutex_unlock(&t->lock);
	vcpu_wake(t);
}

void vcpu_hold(struct vcpu_thread *t)
{
	set_flag(t, &t->hold, true);
}

void vcpu_release(struct vcpu_thread *t)
{
	set_flag(t, &t->hold, false);
}

void vcpu_quit(struct vcpu_thread *t)
{
	set_flag(t, &t->quit, true);
}

void vcpu_set_state(struct vcpu_thread *t, const struct cpu *state)
{
	pthread_mutex_lock(&t->lock);
	t->state = *state;
	t->load = true;
	pthread_mutex_unlock(&t->lock);
}

static bool get_flag(struct vcpu_thread *t, const bool *flag)
{
	bool value;

	pthread_mutex_lock(&t->lock);
	value = *flag;
	pthread_mutex_unlock(&t->lock);
	return value;
}

bool vcpu_is_parked(struct vcpu_thread *t)
{
	return get_flag(t, &t->parked);
}

void vcpu_get_state(struct vcpu_thread *t, struct cpu *ret)
{
	pthread_mutex_lock(&t->lock);
	*ret = t->state;
	pthread_mutex_unlock(&t->lock);
}

bool vcpu_is_over(struct vcpu_thread *t)
{
	return get_flag(t, &t->over);
}

void vcpu_nmi(struct vcpu_thread *t)
{
	t->nmi = true;
	vcpu_wake(t);
}

void vcpu_set_pic(struct vcpu_thread *t, bool level)
{
	t->pic_level = level;
	if (level)
		vcpu_wake(t);
}

/* --- the loop --- */

static void loop(struct vcpu_thread *t)
{
	for (;;) {
		t->wake = false;
		if (t->hold_wanted && !park(t))
			return;
		if (t->timer_due) {
			t->timer_due = false;
			t->rearm = true;
			timerq_run(&t->timers);
		}
		vcpu_take_events(t);
		vcpu_offer_interrupt(t);
		if (t->halted) {
			/* A deadline that fell due while we were busy must not wait for another. */
			sleep_until_woken(t);
			continue;
		}
		if (t->rearm)
			arm_kick(t);
		if (t->wake)
			continue;
		engine_run(t->vcpu, &t->exit);
		vcpu_serve_exit(t);
	}
}

static int make_vcpu(struct vcpu_thread *t, struct err *e)
{
	struct sigevent ev = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = KICK_SIGNAL};
	int r;

	ev._sigev_un._tid = (pid_t)syscall(SYS_gettid);
	if (timer_create(CLOCK_MONOTONIC, &ev, &t->kick_timer) < 0)
		return err_set(e, -errno, "create a timer");
	t->has_kick_timer = true;
	r = vcpu_new(t->host.engine, t->index, &t->vcpu, e);
	return r < 0 ? r : 0;
}

static void *thread_main(void *arg)
{
	struct vcpu_thread *t = arg;
	struct err e = {0};
	int r;

	self = t;
	r = make_vcpu(t, &e);
	pthread_mutex_lock(&t->lock);
	t->failure = e;
	t->failure.code = r;
	t->ready = true;
	pthread_cond_broadcast(&t->cond);
	pthread_mutex_unlock(&t->lock);
	if (r == 0 && park(t)) {
		if (t->host.enter && t->host.enter(t->host.opaque, &e) < 0)
			t->host.failed(t->host.opaque, t, e.msg);
		loop(t);
	}
	if (t->has_kick_timer)
		timer_delete(t->kick_timer);
	note_stats(t);
	self = NULL;
	pthread_mutex_lock(&t->lock);
	if (t->vcpu)
		vcpu_free(t->vcpu);
	t->vcpu = NULL;
	t->parked = t->over = true;
	pthread_mutex_unlock(&t->lock);
	t->host.parked(t->host.opaque);
	return NULL;
}

void vcpu_prepare(struct vcpu_thread *t)
{
	pthread_mutex_init(&t->lock, NULL);
	pthread_cond_init(&t->cond, NULL);
	timerq_init(&t->timers, NULL, timers_rearm, t);
	t->hold = true;
	t->hold_wanted = true;
}

static int install_handler(struct err *e)
{
	/* ONSTACK: the stack pointer may be the guest's (engine.h). */
	struct sigaction sa = {.sa_sigaction = on_kick_signal,
			       .sa_flags = SA_RESTART | SA_SIGINFO | SA_ONSTACK};

	sigfillset(&sa.sa_mask);
	return sigaction(KICK_SIGNAL, &sa, NULL) < 0 ? err_set(e, -errno, "sigaction") : 0;
}

/* Signals for the process go to the loop's thread; the engines' own (faults, kicks) stay open. */
static void block_process_signals(sigset_t *old)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGQUIT);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGWINCH);
	pthread_sigmask(SIG_BLOCK, &set, old);
}

int vcpu_start(struct vcpu_thread *t, const struct vcpu_host *host, unsigned int index,
	       struct err *e)
{
	sigset_t old;
	int r;

	t->host = *host;
	t->index = index;
	r = install_handler(e);
	if (r < 0)
		return r;
	block_process_signals(&old);
	r = pthread_create(&t->thread, NULL, thread_main, t);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r)
		return err_set(e, -r, "start the thread of CPU %u", index);
	t->started = true;
	pthread_mutex_lock(&t->lock);
	while (!t->ready)
		pthread_cond_wait(&t->cond, &t->lock);
	pthread_mutex_unlock(&t->lock);
	if (t->failure.code < 0) {
		if (e)
			*e = t->failure;
		return t->failure.code;
	}
	return 0;
}

void vcpu_join(struct vcpu_thread *t)
{
	if (t->started)
		pthread_join(t->thread, NULL);
	t->started = false;
}

void vcpu_fini(struct vcpu_thread *t)
{
	timerq_fini(&t->timers);
	pthread_cond_destroy(&t->cond);
	pthread_mutex_destroy(&t->lock);
}
