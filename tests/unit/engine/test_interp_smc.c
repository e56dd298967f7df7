/* SPDX-License-Identifier: Apache-2.0 */
/* Code that changes: under itself, by its own stores, by other vCPUs, by devices. */
#include "guest_vm.h"

#include <pthread.h>

/* Each round increments the immediate of the MOV that comes two instructions later, in this block.
 */
GUEST64(own_block, "mov $100, %ecx\n"
		   "xor %edx, %edx\n"
		   "1: incl 2f + 1(%rip)\n"
		   "2: mov $0, %eax\n"
		   "add %eax, %edx\n"
		   "dec %ecx\n"
		   "jnz 1b\n"
		   "mov %edx, %eax\n"
		   "out %eax, $0xf4\n");

/* The next instruction is written over with a NOP-sized one: MOV AL, imm. */
GUEST64(next_insn, "movb $0x2a, 1f + 1(%rip)\n"
		   "1: mov $0, %al\n"
		   "out %al, $0xf4\n");

/* By REP STOS over its own tail: bytes become INC EAX (FF C0). */
GUEST64(by_rep, "lea 1f(%rip), %rdi\n"
		"mov $0xc0ff, %eax\n"
		"mov $4, %ecx\n"
		"rep stosw\n"
		"mov $0, %eax\n"
		"1: .fill 8, 1, 0x90\n"
		"out %al, $0xf4\n");

/* Data in the same page, other lines: must not make it slow, and must work. */
GUEST64(mixed, "mov $1000000, %ecx\n"
	       "1: incl 2f(%rip)\n"
	       "dec %ecx\n"
	       "jnz 1b\n"
	       "mov 2f(%rip), %eax\n"
	       "out %eax, $0xf4\n"
	       ".balign 256\n"
	       "2: .long 0\n");

/* Through another linear address of the same page (0x76000 maps it too). */
GUEST64(alias, "mov $50, %ecx\n"
	       "xor %edx, %edx\n"
	       "1: mov %ecx, %ebx\n"
	       "movb %bl, 0x76000 + (2f - alias) + 1\n"
	       "jmp 2f\n"
	       "2: mov $0, %al\n"
	       "movzx %al, %eax\n"
	       "add %eax, %edx\n"
	       "dec %ecx\n"
	       "jnz 1b\n"
	       "mov %edx, %eax\n"
	       "out %eax, $0xf4\n");

/* vCPU 0 calls f for ever; vCPU 1 changes its immediate, then the flag that ends the loop. */
GUEST64(reader, "1: call f\n"
		"mov $0x70000, %esi\n"
		"cmpl $0, (%rsi)\n"
		"je 1b\n"
		"xor %eax, %eax\n"
		"cpuid\n"
		"call f\n"
		"out %al, $0xf4\n"
		".balign 64\n"
		"f: mov $1, %eax\n"
		"ret\n");
GUEST64(writer, "mov $100000, %ecx\n"
		"1: dec %ecx\n"
		"jnz 1b\n"
		"movb $0x2a, 0x10041\n"
		"movl $1, 0x70000\n"
		"hlt\n");

static void *run_writer(void *arg)
{
	struct vm *vm = arg;
	struct vm_exit x = {0};

	do {
		engine_run(vm->v[1], &x);
	} while (x.reason == EXIT_KICK);
	CHECK_EQ(x.reason, EXIT_HLT);
	return NULL;
}

static void cross_modify(void)
{
	struct cpu c;
	struct vm vm;
	pthread_t t;

	for (unsigned int k = 0; k < 20; k++) {
		vm_new(&vm, 2);
		VM_LOAD(&vm, reader);
		vm_load(&vm, 0x11000, writer, (size_t)(writer_end - writer));
		vm_long(&vm, 0);
		vm_long(&vm, 1);
		engine_get_state(vm.v[1], &c);
		c.rip = 0x11000;
		vm_set(&vm, 1, &c);
		CHECK_EQ(pthread_create(&t, NULL, run_writer, &vm), 0);
		vm_expect(&vm, 0x2a);
		pthread_join(t, NULL);
		vm_free(&vm);
	}
}

/* A device writes over code. */
static void dma(void)
{
	static const uint8_t code[] = {0xb0, 1, 0xe6, 0xf4};
	struct vm vm;

	vm_new(&vm, 1);
	for (unsigned int k = 0; k < 3; k++) {
		uint8_t now[4];

		memcpy(now, code, 4);
		now[1] = (uint8_t)(k + 5);
		CHECK_EQ(gmem_write(vm.mem, GUEST_CODE, now, 4), 0);
		vm_long(&vm, 0);
		vm_expect(&vm, k + 5);
	}
	vm_free(&vm);
}

int main(void)
{
	struct vm vm;

	vm_new(&vm, 1);
#define RUN(name, answer)                                                                          \
	do {                                                                                       \
		VM_LOAD(&vm, name);                                                                \
		vm_long(&vm, 0);                                                                   \
		vm_expect(&vm, answer);                                                            \
	} while (0)
	RUN(own_block, 5050);
	RUN(next_insn, 0x2a);
	RUN(by_rep, 4);
	RUN(mixed, 1000000);
	vm_put64(&vm, GUEST_PT + 8 * 0x76, GUEST_CODE | 7);
	RUN(alias, 50 * 51 / 2);
	vm_free(&vm);
	cross_modify();
	dma();
	return 0;
}
