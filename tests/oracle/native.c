/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/oracle/native.c - runs cases on the host CPU, in a confined child process
 *
 * The child needs no assembly: a case starts by returning from a signal handler with the case's
 * registers in the signal frame, and ends with the next signal (INT3, or the fault it made), whose
 * frame holds the result.  Parent and child share three halves of cases; a futex word says whose
 * turn it is.  The child may make no system call but sigreturn, futex and exit.
 */
#include "oracle.h"

#include <asm/prctl.h>
#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/ucontext.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CASE_TIMEOUT_S 5

struct shared {
	_Atomic uint32_t request; /* batches asked for */
	_Atomic uint32_t done;    /* batches finished */
	_Atomic uint32_t at;      /* case in progress */
	uint32_t part, first, count;
	struct testcase cases[PARTS][BATCH];
};

struct native {
	struct shared *sh;
	pid_t pid;
	unsigned int part, count;
};

/* --- the child: no libc state, no stack protector (FS belongs to the case) --- */

#define BARE __attribute__((no_stack_protector))

static struct {
	struct shared *sh;
	uint8_t *code_rw;
	unsigned int part, next, count;
	uint32_t served;
	bool running;
	uint16_t dirty_off, dirty_len;
} child;

BARE static long raw_syscall(long nr, long a, long b, long c, long d)
{
	long ret;
	register long r10 __asm__("r10") = d;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10)
			 : "rcx", "r11", "memory");
	return ret;
}

BARE static void copy(void *to, const void *from, size_t n)
{
	__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
}

static const int greg_of[16] = {
    [RAX] = REG_RAX, [RCX] = REG_RCX, [RDX] = REG_RDX, [RBX] = REG_RBX,
    [RSP] = REG_RSP, [RBP] = REG_RBP, [RSI] = REG_RSI, [RDI] = REG_RDI,
    [R8] = REG_R8,   [R9] = REG_R9,   [R10] = REG_R10, [R11] = REG_R11,
    [R12] = REG_R12, [R13] = REG_R13, [R14] = REG_R14, [R15] = REG_R15,
};

/* Components XSAVE left out are in their initial state. */
BARE static void take_xstate(const uint8_t *fp, struct cpu_xsave *xs)
{
	uint64_t bv = *(const uint64_t *)(fp + 512);

	copy(xs, fp, XSAVE_AREA_SIZE);
	if (!(bv & XSTATE_X87)) {
		for (unsigned int n = 0; n < 24; n++)
			((uint8_t *)xs)[n] = 0;
		for (unsigned int n = 0; n < sizeof(xs->st); n++)
			((uint8_t *)xs->st)[n] = 0;
		xs->fcw = 0x37f;
	}
	if (!(bv & XSTATE_SSE))
		for (unsigned int n = 0; n < sizeof(xs->xmm); n++)
			((uint8_t *)xs->xmm)[n] = 0;
	if (!(bv & XSTATE_AVX))
		for (unsigned int n = 0; n < sizeof(xs->ymmh); n++)
			((uint8_t *)xs->ymmh)[n] = 0;
}

BARE static void take_result(struct testcase *c, const ucontext_t *uc)
{
	struct outcome *o = &c->native;
	const greg_t *g = uc->uc_mcontext.gregs;

	for (unsigned int n = 0; n < 16; n++)
		o->m.gpr[n] = (uint64_t)g[greg_of[n]];
	o->m.rip = (uint64_t)g[REG_RIP];
	o->m.rflags = (uint64_t)g[REG_EFL];
	o->vector = (uint32_t)g[REG_TRAPNO];
	o->error = (uint32_t)g[REG_ERR];
	o->cr2 = (uint64_t)g[REG_CR2];
	take_xstate((const uint8_t *)uc->uc_mcontext.fpregs, &o->m.xs);
	copy(o->data, (const void *)DATA, DATA_SIZE);
}

BARE static void put_code(const struct testcase *c)
{
	uint8_t *p = child.code_rw;

	for (unsigned int n = 0; n < child.dirty_len; n++)
		p[child.dirty_off + n] = 0xcc;
	for (unsigned int n = 0; n < c->code_len && c->code_off + n < CODE_SIZE; n++)
		p[c->code_off + n] = c->code[n];
	child.dirty_off = c->code_off;
	child.dirty_len = (uint16_t)(c->code_off + c->code_len > CODE_SIZE ? CODE_SIZE - c->code_off
									   : c->code_len);
}

BARE static void put_case(const struct testcase *c, ucontext_t *uc)
{
	greg_t *g = uc->uc_mcontext.gregs;
	uint8_t *fp = (uint8_t *)uc->uc_mcontext.fpregs;

	put_code(c);
	copy((void *)DATA, c->data, DATA_SIZE);
	for (unsigned int n = 0; n < 16; n++)
		g[greg_of[n]] = (greg_t)c->in.gpr[n];
	g[REG_RIP] = (greg_t)c->in.rip;
	g[REG_EFL] = (greg_t)c->in.rflags;
	g[REG_CSGSFS] = (greg_t)((uint64_t)SEL_DATA << 48 | (c->compat ? SEL_CODE32 : SEL_CODE64));
	copy(fp, &c->in.xs, 464); /* bytes 464-511 are the kernel's */
	*(uint64_t *)(fp + 512) |= XSTATE_ALL;
	copy(fp + 576, c->in.xs.ymmh, sizeof(c->in.xs.ymmh));
}

BARE static void next_batch(void)
{
	struct shared *sh = child.sh;

	while (atomic_load(&sh->request) == child.served)
		raw_syscall(SYS_futex, (long)&sh->request, FUTEX_WAIT, child.served, 0);
	child.served++;
	child.part = sh->part;
	child.next = sh->first;
	child.count = sh->count;
}

BARE static void on_signal(int sig, siginfo_t *info, void *context)
{
	struct shared *sh = child.sh;

	(void)sig;
	(void)info;
	/* The case's alignment check must not hit us; NT and ID, which sigreturn does not restore,
	 * must not leak into the next one. */
	__asm__ volatile("pushf\n\tandl $~0x244000, (%%rsp)\n\tpopf" : : : "memory", "cc");
	if (child.running) {
		take_result(&sh->cases[child.part][child.next], context);
		child.next++;
	} else {
		next_batch();
		child.running = true;
	}
	while (child.next == child.count) {
		atomic_store(&sh->done, child.served);
		raw_syscall(SYS_futex, (long)&sh->done, FUTEX_WAKE, 1, 0);
		next_batch();
	}
	atomic_store_explicit(&sh->at, child.next, memory_order_relaxed);
	put_case(&sh->cases[child.part][child.next], context);
}

static void confine(void)
{
	static const int allowed[] = {SCMP_SYS(rt_sigreturn), SCMP_SYS(futex), SCMP_SYS(exit_group),
				      SCMP_SYS(restart_syscall), SCMP_SYS(arch_prctl)};
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_KILL_PROCESS);

	for (unsigned int n = 0; n < ARRAY_SIZE(allowed); n++)
		if (!ctx || seccomp_rule_add(ctx, SCMP_ACT_ALLOW, allowed[n], 0) < 0)
			_exit(3);
	if (seccomp_load(ctx) < 0)
		_exit(3);
	seccomp_release(ctx);
}

static void map_window(void)
{
	int fd = memfd_create("oracle-code", MFD_CLOEXEC);
	void *code, *data;

	if (fd < 0 || ftruncate(fd, CODE_SIZE) < 0)
		_exit(2);
	code = mmap((void *)CODE, CODE_SIZE, PROT_READ | PROT_EXEC,
		    MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0);
	child.code_rw = mmap(NULL, CODE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	data = mmap((void *)DATA, DATA_SIZE, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_POPULATE, -1, 0);
	if (code == MAP_FAILED || data == MAP_FAILED || child.code_rw == MAP_FAILED)
		_exit(2);
	memset(child.code_rw, 0xcc, CODE_SIZE);
	close(fd);
}

static _Noreturn void child_main(struct shared *sh)
{
	static uint8_t stack[65536] __attribute__((aligned(64)));
	static const int signals[] = {SIGSEGV, SIGILL, SIGFPE, SIGTRAP, SIGBUS};
	stack_t ss = {.ss_sp = stack, .ss_size = sizeof(stack)};
	struct sigaction sa = {.sa_sigaction = on_signal,
			       .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	child.sh = sh;
	child.served = atomic_load(&sh->done);
	map_window();
	sigfillset(&sa.sa_mask);
	if (sigaltstack(&ss, NULL) < 0)
		_exit(2);
	for (unsigned int n = 0; n < ARRAY_SIZE(signals); n++)
		sigaction(signals[n], &sa, NULL);
	confine();
	/* from here on nothing of libc runs */
	__asm__ volatile("mov %0, %%ds\n\tmov %0, %%es" : : "r"(SEL_DATA));
	raw_syscall(SYS_arch_prctl, ARCH_SET_GS, (long)GS_BASE, 0, 0);
	raw_syscall(SYS_arch_prctl, ARCH_SET_FS, (long)FS_BASE, 0, 0);
	__asm__ volatile("int3");
	__builtin_unreachable();
}

/* --- the parent --- */

static int spawn(struct native *n)
{
	fflush(NULL);
	n->pid = fork();
	if (n->pid == 0)
		child_main(n->sh);
	return n->pid < 0 ? -errno : 0;
}

int native_start(struct native **ret)
{
	struct native *n = xnew(struct native);

	n->sh =
	    mmap(NULL, sizeof(*n->sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (n->sh == MAP_FAILED || spawn(n) < 0)
		return -errno;
	*ret = n;
	return 0;
}

void native_stop(struct native *n)
{
	if (n->pid > 0) {
		kill(n->pid, SIGKILL);
		waitpid(n->pid, NULL, 0);
	}
	munmap(n->sh, sizeof(*n->sh));
	free(n);
}

struct testcase *native_cases(struct native *n, unsigned int part)
{
	return n->sh->cases[part];
}

static void submit_from(struct native *n, unsigned int first)
{
	n->sh->part = n->part;
	n->sh->first = first;
	n->sh->count = n->count;
	atomic_fetch_add(&n->sh->request, 1);
	syscall(SYS_futex, &n->sh->request, FUTEX_WAKE, 1, NULL);
}

void native_submit(struct native *n, unsigned int part, unsigned int count)
{
	n->part = part;
	n->count = count;
	submit_from(n, 0);
}

/* The child hung or died at a case: begin a new one after it. */
static int replace_child(struct native *n)
{
	unsigned int at = atomic_load(&n->sh->at);

	if (n->pid > 0) {
		kill(n->pid, SIGKILL);
		waitpid(n->pid, NULL, 0);
	}
	n->sh->cases[n->part][at].skipped = true;
	atomic_store(&n->sh->done, atomic_load(&n->sh->request));
	if (spawn(n) < 0)
		return -errno;
	submit_from(n, at + 1);
	return 0;
}

int native_wait(struct native *n)
{
	struct timespec step = {.tv_nsec = 100000000};
	uint32_t last = UINT32_MAX;
	unsigned int idle = 0;
	int ret = 0;

	for (;;) {
		uint32_t done = atomic_load(&n->sh->done), at;

		if (done == atomic_load(&n->sh->request))
			return ret;
		syscall(SYS_futex, &n->sh->done, FUTEX_WAIT, done, &step);
		at = atomic_load(&n->sh->at);
		idle = at == last && errno == ETIMEDOUT ? idle + 1 : 0;
		last = at;
		if (waitpid(n->pid, NULL, WNOHANG) == n->pid)
			n->pid = 0;
		if (!n->pid || idle > CASE_TIMEOUT_S * 10) {
			ret = -1;
			idle = 0;
			if (replace_child(n) < 0)
				return -errno;
		}
	}
}
