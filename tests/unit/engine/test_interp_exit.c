/* SPDX-License-Identifier: Apache-2.0 */
/* Exits in the middle of instructions, kicks, halts, interrupts, single-step. */
#include "guest_vm.h"

#include "base/clock.h"

#include <pthread.h>

#define MMIO 0x80000000u /* mapped by a 2 MiB page */

GUEST64(rmw, "mov $0x80000010, %ebx\n"
	     "mov $5, %eax\n"
	     "add %eax, (%rbx)\n"
	     "lock xadd %eax, 4(%rbx)\n"
	     "hlt\n");
GUEST64(movs, "mov $0x70000, %esi\n mov $0x80000000, %edi\n mov $3, %ecx\n rep movsl\n hlt\n");
GUEST64(wide, "mov $0x70ffc, %ebx\n movdqu (%rbx), %xmm0\n"
	      "mov $0x80000000, %ebx\n movdqu %xmm0, (%rbx)\n movdqu (%rbx), %xmm1\n hlt\n");
GUEST64(strings, "mov $0x70000, %edi\n mov $0x1f0, %edx\n mov $3, %ecx\n rep insw\n"
		 "mov $0x70000, %esi\n mov $3, %ecx\n rep outsw\n hlt\n");
GUEST64(spin, "jmp .\n");
GUEST64(steps, "nop\n inc %eax\n push %rax\n pop %rbx\n hlt\n");
GUEST64(sti, "sti\n inc %eax\n inc %eax\n hlt\n");
GUEST64(irq, "inc %edx\n iretq\n");
GUEST64(count,
	"mov $200000, %ecx\n mov $0x70000, %ebx\n 1: lock incl (%rbx)\n"
	"lock addl $3, 4(%rbx)\n mov $1, %eax\n lock xadd %eax, 0x3e(%rbx)\n dec %ecx\n jnz 1b\n"
	"hlt\n");
GUEST64(trap, "pushfq\n orl $0x100, (%rsp)\n popfq\n nop\n nop\n nop\n hlt\n"
	      "pushfq\n andl $~0x100, (%rsp)\n popfq\n hlt\n");

static uint8_t dev[64];
static unsigned int reads, writes;

/* Serves MMIO from dev; the first other exit. */
static enum exit_reason serve(struct vm *vm)
{
	for (;;) {
		struct vm_exit *x = &vm->x;

		engine_run(vm->v[0], x);
		if (x->reason != EXIT_MMIO)
			return x->reason;
		CHECK(x->gpa - MMIO + x->size <= sizeof(dev));
		if (x->write) {
			memcpy(&dev[x->gpa - MMIO], &x->data, x->size);
			writes++;
		} else {
			x->data = UINT64_MAX;
			memcpy(&x->data, &dev[x->gpa - MMIO], x->size);
			reads++;
		}
	}
}

static uint32_t dev32(unsigned int off)
{
	uint32_t x;

	memcpy(&x, &dev[off], 4);
	return x;
}

static void mmio(struct vm *vm)
{
	static const uint32_t src[] = {11, 22, 33};
	struct cpu c;

	vm_put64(vm, 0x2000 + 8 * 2, 0x8000 | 7); /* 2 GiB: a directory at 0x8000 */
	vm_put64(vm, 0x8000, MMIO | 0x87);
	memcpy(&dev[0x10], (uint32_t[]){100, 200}, 8);
	VM_LOAD(vm, rmw);
	vm_long(vm, 0);
	CHECK_EQ(serve(vm), EXIT_HLT);
	CHECK_EQ(dev32(0x10), 105);
	CHECK_EQ(dev32(0x14), 205);
	CHECK_EQ(reads, 2);
	CHECK_EQ(writes, 2);
	vm_regs(vm, &c);
	CHECK_EQ(c.gpr[RAX], 200);
	CHECK_EQ(c.rflags & FL_PF, 0); /* 205 has five bits set */

	vm_load(vm, GUEST_DATA, src, sizeof(src));
	VM_LOAD(vm, movs);
	vm_long(vm, 0);
	CHECK_EQ(serve(vm), EXIT_HLT);
	CHECK_EQ(dev32(8), 33);
	CHECK_EQ(writes, 5);
	vm_regs(vm, &c);
	CHECK_EQ(c.gpr[RDI], MMIO + 12);
	CHECK_EQ(c.gpr[RCX], 0);

	vm_load(vm, 0x70ffc, "0123456789abcdef", 16);
	VM_LOAD(vm, wide);
	vm_long(vm, 0);
	CHECK_EQ(serve(vm), EXIT_HLT);
	CHECK_EQ(memcmp(dev, "0123456789abcdef", 16), 0);
	vm_regs(vm, &c);
	CHECK_EQ(memcmp(c.xs.xmm[1], "0123456789abcdef", 16), 0);
}

static void ports(struct vm *vm)
{
	unsigned int n = 0, sum = 0;
	struct cpu c;

	VM_LOAD(vm, strings);
	vm_long(vm, 0);
	for (;;) {
		engine_run(vm->v[0], &vm->x);
		if (vm->x.reason != EXIT_IO)
			break;
		CHECK_EQ(vm->x.port, 0x1f0);
		CHECK_EQ(vm->x.size, 2);
		if (vm->x.write)
			sum += (unsigned int)vm->x.data;
		else
			vm->x.data = 0xabcd0000 + 0x100 * ++n;
	}
	CHECK_EQ(vm->x.reason, EXIT_HLT);
	CHECK_EQ(n, 3);
	CHECK_EQ(sum, 0x600);
	vm_regs(vm, &c);
	CHECK_EQ(c.gpr[RDI], GUEST_DATA + 6);
}

static uint64_t kicked_at;

static void *kick_soon(void *arg)
{
	struct vm *vm = arg;

	usleep(20000);
	kicked_at = clock_now();
	engine_kick(vm->v[0]);
	return NULL;
}

static void kicks(struct vm *vm)
{
	uint64_t best = UINT64_MAX;
	struct cpu c;
	pthread_t t;

	VM_LOAD(vm, spin);
	vm_long(vm, 0);
	for (unsigned int k = 0; k < 5; k++) {
		CHECK_EQ(pthread_create(&t, NULL, kick_soon, vm), 0);
		CHECK_EQ(vm_run(vm), EXIT_KICK);
		best = MIN(best, clock_now() - kicked_at);
		pthread_join(t, NULL);
	}
	printf("kick: %" PRIu64 " us\n", best / 1000);
	/* Before anything runs. */
	VM_LOAD(vm, steps);
	vm_long(vm, 0);
	engine_kick(vm->v[0]);
	CHECK_EQ(vm_run(vm), EXIT_KICK);
	vm_regs(vm, &c);
	CHECK_EQ(c.rip, GUEST_CODE);
	CHECK_EQ(vm_run(vm), EXIT_HLT);
	CHECK_EQ(vm_run(vm), EXIT_HLT);
}

static void single_step(struct vm *vm)
{
	static const unsigned int at[] = {1, 3, 4, 5};
	struct err e = {0};
	struct cpu c;

	VM_LOAD(vm, steps);
	vm_long(vm, 0);
	CHECK_EQ(engine_single_step(vm->v[0], true, &e), 0);
	for (unsigned int k = 0; k < ARRAY_SIZE(at); k++) {
		CHECK_EQ(vm_run(vm), EXIT_DEBUG);
		vm_regs(vm, &c);
		CHECK_EQ(c.rip, GUEST_CODE + at[k]);
	}
	CHECK_EQ(engine_single_step(vm->v[0], false, &e), 0);
	CHECK_EQ(vm_run(vm), EXIT_HLT);
}

static void interrupts(struct vm *vm)
{
	struct cpu c;

	vm_load(vm, 0x20000, irq, (size_t)(irq_end - irq));
	vm_gate64(vm, 0x40, 0x20000);
	vm_gate64(vm, VEC_NMI, 0x20000);
	vm_gate64(vm, VEC_DB, 0x20000);
	VM_LOAD(vm, sti);
	vm_long(vm, 0);
	CHECK(!engine_irq_ready(vm->v[0]));
	engine_want_irq(vm->v[0], true);
	CHECK_EQ(vm_run(vm), EXIT_IRQ_WINDOW); /* STI and one more instruction have run */
	vm_regs(vm, &c);
	CHECK_EQ(c.rip, GUEST_CODE + 3);
	engine_want_irq(vm->v[0], false);
	engine_interrupt(vm->v[0], 0x40);
	CHECK(!engine_irq_ready(vm->v[0]));
	CHECK_EQ(vm_run(vm), EXIT_HLT);
	vm_regs(vm, &c);
	CHECK_EQ(c.rip, GUEST_CODE + 6);
	/* Out of HLT by an interrupt, then by an NMI. */
	CHECK_EQ(vm_run(vm), EXIT_HLT);
	CHECK(engine_irq_ready(vm->v[0]));
	engine_interrupt(vm->v[0], 0x40);
	vm_load(vm, GUEST_CODE + 6, (uint8_t[]){0xf4, 0xf4}, 2);
	CHECK_EQ(vm_run(vm), EXIT_HLT);
	engine_nmi(vm->v[0]);
	CHECK_EQ(vm_run(vm), EXIT_HLT);
	vm_regs(vm, &c);
	CHECK_EQ(c.rip, GUEST_CODE + 8);

	/* TF: a trap after each NOP, the HLT that it ends, and all up to the POPF that clears it.
	 */
	VM_LOAD(vm, trap);
	vm_long(vm, 0);
	vm_regs(vm, &c);
	c.gpr[RDX] = 0;
	vm_set(vm, 0, &c);
	CHECK_EQ(vm_run(vm), EXIT_HLT);
	vm_regs(vm, &c);
	CHECK_EQ(c.gpr[RDX], 7);
}

static void *run_count(void *arg)
{
	struct vm_exit x = {0};

	do {
		engine_run(arg, &x);
	} while (x.reason == EXIT_KICK);
	CHECK_EQ(x.reason, EXIT_HLT);
	return NULL;
}

/* Two vCPUs, one counter each way; the third lies over a cache line's end. */
static void smp(void)
{
	struct vm vm;
	pthread_t t;

	vm_new(&vm, 2);
	VM_LOAD(&vm, count);
	vm_long(&vm, 0);
	vm_long(&vm, 1);
	CHECK_EQ(pthread_create(&t, NULL, run_count, vm.v[1]), 0);
	run_count(vm.v[0]);
	pthread_join(t, NULL);
	CHECK_EQ(vm_get64(&vm, GUEST_DATA) & UINT32_MAX, 400000);
	CHECK_EQ(vm_get64(&vm, GUEST_DATA) >> 32, 1200000);
	CHECK_EQ(vm_get64(&vm, GUEST_DATA + 0x3e) & UINT32_MAX, 400000);
	vm_free(&vm);
}

int main(void)
{
	struct vm vm;

	vm_new(&vm, 1);
	mmio(&vm);
	ports(&vm);
	kicks(&vm);
	single_step(&vm);
	interrupts(&vm);
	vm_free(&vm);
	smp();
	return 0;
}
