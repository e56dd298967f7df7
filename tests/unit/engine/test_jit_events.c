/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What comes from outside while loops run that never leave by themselves: kicks, interrupts, STI's
 * shadow, signals of the host.
 */
#include "guest_vm.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/time.h>
#include <unistd.h>

#define HANDLER 0x20000u
#define FLAG    0x70000u /* the handler counts there */
#define COUNT   0x70008u

/* Loops: one block, several, other pages; by link, by jump cache, by return; with slow
 * instructions. */
GUEST64(loop_self, "sti\n 1: jmp 1b\n");
GUEST64(loop_flags, "sti\n 1: inc %eax\n jnz 1b\n jmp 1b\n");
GUEST64(loop_blocks, "sti\n 1: inc %eax\n jmp 2f\n 3: inc %eax\n jmp 1b\n 2: inc %eax\n jmp 3b\n");
GUEST64(loop_pages, "sti\n 1: jmp 2f\n .balign 4096\n 2: inc %eax\n jmp 1b\n");
GUEST64(loop_fall,
	"sti\n 1: jmp 2f\n .balign 4096\n .skip 4000\n 2: .fill 200, 1, 0x90\n jmp 1b\n");
GUEST64(loop_register, "sti\n lea 1f(%rip), %rbx\n 1: inc %eax\n jmp *%rbx\n");
GUEST64(loop_call, "sti\n 1: call 2f\n jmp 1b\n .balign 4096\n 2: inc %eax\n ret\n");
/* By the note of a call that is never made again. */
GUEST64(loop_ret, "sti\n call 1f\n 1: mov $0x90000, %esp\n lea 1b(%rip), %rax\n push %rax\n ret\n");
GUEST64(loop_slow, "sti\n 1: str %ax\n pause\n jmp 1b\n");
GUEST64(loop_ends, "sti\n 1: mov %cr0, %rax\n mov %rax, %cr0\n jmp 1b\n");
GUEST64(loop_loop, "sti\n 1: mov $100, %ecx\n 2: loop 2b\n jmp 1b\n");
GUEST64(loop_rep, "sti\n 1: mov $0x72000, %edi\n mov $5000, %ecx\n rep stosb\n jmp 1b\n");
GUEST64(loop_window, "1: cli\n inc %eax\n sti\n inc %eax\n jmp 1b\n");
GUEST64(loop_popf, "1: pushfq\n cli\n inc %eax\n popfq\n sti\n nop\n inc %eax\n jmp 1b\n");

GUEST64(handler, "incq 0x70000\n iretq\n");

#define LOOP(name)                                                                                 \
	{                                                                                          \
#name, name, name##_end                                                            \
	}
static const struct {
	const char *name;
	const uint8_t *code, *end;
} loops[] = {
    LOOP(loop_self), LOOP(loop_flags),  LOOP(loop_blocks),   LOOP(loop_pages), LOOP(loop_fall),
    LOOP(loop_call), LOOP(loop_slow),   LOOP(loop_register), LOOP(loop_ends),  LOOP(loop_loop),
    LOOP(loop_rep),  LOOP(loop_window), LOOP(loop_popf),     LOOP(loop_ret),
};

static void begin(struct vm *vm)
{
	vm_new(vm, 1);
	vm_load(vm, HANDLER, handler, (size_t)(handler_end - handler));
	vm_gate64(vm, 0x40, HANDLER);
	vm_put64(vm, 0x7024, GUEST_STACK - 0x4000); /* IST1 */
}

static struct vm *at_work;
static _Atomic bool working;

static void *kicker(void *arg)
{
	while (working) {
		usleep(100);
		engine_kick(at_work->v[0]);
	}
	return NULL;
}

/* Each kick ends a run; each interrupt asked for finds its window, once a loop. */
static void test_loops(void)
{
	struct vm vm;
	pthread_t t;

	begin(&vm);
	at_work = &vm;
	working = true;
	CHECK_EQ(pthread_create(&t, NULL, kicker, NULL), 0);
	for (unsigned int k = 0; k < ARRAY_SIZE(loops); k++) {
		unsigned int kicks = 0, taken = 0;

		vm_load(&vm, GUEST_CODE, loops[k].code, (size_t)(loops[k].end - loops[k].code));
		vm_long(&vm, 0);
		vm_put64(&vm, FLAG, 0);
		while (kicks < 40 || taken < 40) {
			bool want = (kicks + taken) % 2;

			engine_want_irq(vm.v[0], want);
			engine_run(vm.v[0], &vm.x);
			if (vm.x.reason == EXIT_KICK) {
				kicks++;
				continue;
			}
			if (vm.x.reason != EXIT_IRQ_WINDOW)
				fprintf(stderr, "%s: exit %d\n", loops[k].name, vm.x.reason);
			CHECK_EQ(vm.x.reason, EXIT_IRQ_WINDOW);
			CHECK(want && engine_irq_ready(vm.v[0]));
			engine_want_irq(vm.v[0], false);
			engine_interrupt(vm.v[0], 0x40);
			taken++;
		}
		engine_want_irq(vm.v[0], false);
		engine_run(vm.v[0], &vm.x);
		CHECK_EQ(vm_get64(&vm, FLAG), taken);
	}
	working = false;
	pthread_join(t, NULL);
	vm_free(&vm);
}

/*
 * An idle loop: nothing to do was seen with interrupts off, so none may be taken between STI and
 * HLT, or the halt would last.  STI in its block's middle, at its page's end, and as the 64th
 * instruction, where a block ends.
 */
#define IDLE(fill)                                                                                 \
	"1: cli\n cmpq $0, 0x70000\n jne 2f\n jmp 3f\n " fill " 3: sti\n hlt\n jmp 1b\n"           \
	"2: movq $0, 0x70000\n incq 0x70008\n jmp 1b\n"
GUEST64(idle, IDLE(""));
GUEST64(idle_page, IDLE(".org idle_page + 4095\n"));
GUEST64(idle_long, "1: cli\n cmpq $0, 0x70000\n jne 2f\n jmp 3f\n"
		   " 3: .fill 63, 1, 0x90\n sti\n hlt\n jmp 1b\n"
		   "2: movq $0, 0x70000\n incq 0x70008\n jmp 1b\n");

/* STI is its page's last byte: whoever stops behind it finds the shadow. */
GUEST64(shadow_page, "1: jmp 2f\n .org shadow_page + 4095\n 2: sti\n nop\n cli\n jmp 1b\n");

static void test_shadow(void)
{
	unsigned int kicks = 0;
	struct vm vm;
	struct cpu c;
	pthread_t t;

	begin(&vm);
	VM_LOAD(&vm, shadow_page);
	vm_long(&vm, 0);
	at_work = &vm;
	working = true;
	CHECK_EQ(pthread_create(&t, NULL, kicker, NULL), 0);
	for (; kicks < 1000; kicks++) {
		CHECK_EQ(vm_run(&vm), EXIT_KICK);
		vm_regs(&vm, &c);
		if (c.rip == GUEST_CODE + 4096)
			CHECK(c.int_shadow != 0);
	}
	working = false;
	pthread_join(t, NULL);
	vm_free(&vm);
}

static _Atomic unsigned int posted;

static void *poster(void *arg)
{
	unsigned int rnd = 1;

	while (working) {
		if (!posted) {
			posted = 1;
			engine_kick(at_work->v[0]);
		}
		rnd = rnd * 1103515245 + 12345;
		for (unsigned int k = rnd >> 20; k > 0; k--)
			__asm__ volatile("pause");
	}
	return NULL;
}

static void idle_loop(const uint8_t *code, const uint8_t *end)
{
	unsigned int halts = 0, taken = 0;
	struct vm vm;
	pthread_t t;

	begin(&vm);
	vm_load(&vm, GUEST_CODE, code, (size_t)(end - code));
	vm_long(&vm, 0);
	at_work = &vm;
	working = true;
	CHECK_EQ(pthread_create(&t, NULL, poster, NULL), 0);
	while (taken < 1000) {
		bool ready = engine_irq_ready(vm.v[0]);

		if (posted && ready) {
			engine_want_irq(vm.v[0], false);
			engine_interrupt(vm.v[0], 0x40);
			posted = 0;
			taken++;
		} else {
			engine_want_irq(vm.v[0], posted);
		}
		engine_run(vm.v[0], &vm.x);
		if (vm.x.reason == EXIT_HLT) {
			halts++;
			CHECK_EQ(vm_get64(&vm, FLAG), 0);
			while (!posted)
				sched_yield();
		} else {
			CHECK(vm.x.reason == EXIT_KICK || vm.x.reason == EXIT_IRQ_WINDOW);
		}
	}
	working = false;
	pthread_join(t, NULL);
	CHECK(halts > 0);
	vm_free(&vm);
}

/* Counts in three places until the host's signal handler has run often enough. */
GUEST64(counting,
	"movq xmm_one(%rip), %xmm1\n pxor %xmm0, %xmm0\n xor %eax, %eax\n xor %ecx, %ecx\n"
	"mov $0x71000, %ebx\n movq $0, (%rbx)\n"
	"1: inc %rax\n paddq %xmm1, %xmm0\n incq (%rbx)\n lea 1(%rcx), %rcx\n"
	"cmpq $0, 0x70000\n je 1b\n"
	"movq %xmm0, %rdx\n out %eax, $0xf4\n"
	"xmm_one: .quad 1\n");

static volatile uint64_t *stop_flag;
static volatile unsigned int signals, signals_wanted;
static uintptr_t handler_stack;

static void on_signal(int sig)
{
	volatile uint8_t here[64];

	here[0] = 0;
	handler_stack = (uintptr_t)&here;
	if (++signals == signals_wanted)
		*stop_flag = 1;
}

static void count_under_signals(struct vm *vm, uint64_t rsp, unsigned int wanted)
{
	struct cpu c;

	signals = 0;
	signals_wanted = wanted;
	*stop_flag = 0;
	vm_long(vm, 0);
	vm_regs(vm, &c);
	c.gpr[RSP] = rsp;
	vm_set(vm, 0, &c);
	CHECK_EQ(vm_run(vm), EXIT_IO);
	vm_regs(vm, &c);
	CHECK_EQ(c.gpr[RSP], rsp);
	CHECK_EQ(c.gpr[RCX], c.gpr[RAX]);
	CHECK_EQ(c.gpr[RDX], c.gpr[RAX]);
	CHECK_EQ(vm_get64(vm, 0x71000), c.gpr[RAX]);
	CHECK(signals >= wanted);
}

static void test_signals(void)
{
	static const struct itimerval often = {.it_interval = {.tv_usec = 50},
					       .it_value = {.tv_usec = 50}};
	static const struct itimerval never;
	struct sigaction sa = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK};
	uintptr_t stack;
	struct vm vm;

	begin(&vm);
	VM_LOAD(&vm, counting);
	stop_flag = gmem_ptr(vm.mem, FLAG, 8);
	CHECK_EQ(sigaction(SIGALRM, &sa, NULL), 0);
	CHECK_EQ(setitimer(ITIMER_REAL, &often, NULL), 0);
	count_under_signals(&vm, GUEST_STACK, 2000);
	count_under_signals(&vm, 0, 2000);
	count_under_signals(&vm, UINT64_C(0x8000000000000008), 2000);
	count_under_signals(&vm, UINT64_MAX - 6, 2000);
	/* Into the stack that signals use, and onto what is there. */
	stack = handler_stack;
	count_under_signals(&vm, stack, 2000);
	count_under_signals(&vm, stack + 2048, 2000);
	for (unsigned int kib = 48; kib < 64; kib++) /* near its bottom, where there is no room */
		count_under_signals(&vm, stack - kib * 1024, 100);
	count_under_signals(&vm, (uintptr_t)&vm, 2000);
	CHECK_EQ(setitimer(ITIMER_REAL, &never, NULL), 0);
	vm_free(&vm);
}

int main(void)
{
	test_loops();
	test_shadow();
	idle_loop(idle, idle_end);
	idle_loop(idle_page, idle_page_end);
	idle_loop(idle_long, idle_long_end);
	test_signals();
	return 0;
}
