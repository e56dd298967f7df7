/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench/interp.c - guest instructions a second of CPU time on the interpreter, in millions
 */
#include "engine/guest_vm.h"

#include <time.h>

GUEST64(alu, "mov $50000000, %ecx\n"
	     "1: add %rcx, %rax\n"
	     "xor %rax, %rdx\n"
	     "lea 3(%rdx,%rax), %rbx\n"
	     "dec %ecx\n"
	     "jnz 1b\n"
	     "out %al, $0xf4\n");
GUEST64(memory, "mov $20000000, %ecx\n"
		"mov $0x70000, %esi\n"
		"1: mov (%rsi), %rax\n"
		"add $5, %rax\n"
		"mov %rax, 8(%rsi)\n"
		"add %rax, 16(%rsi)\n"
		"cmp $77, %eax\n"
		"je 2f\n"
		"2: dec %ecx\n"
		"jnz 1b\n"
		"out %al, $0xf4\n");
GUEST64(calls, "mov $10000000, %ecx\n"
	       "1: call 2f\n"
	       "dec %ecx\n"
	       "jnz 1b\n"
	       "out %al, $0xf4\n"
	       "2: push %rbx\n"
	       "mov %rcx, %rbx\n"
	       "call 3f\n"
	       "pop %rbx\n"
	       "ret\n"
	       "3: lea 1(%rbx), %rax\n"
	       "ret\n");
GUEST32(prot32, "mov $10000000, %ecx\n"
		"mov $0x70000, %esi\n"
		"1: mov (%esi), %eax\n"
		"mov %eax, 8(%esi)\n"
		"add %eax, 16(%esi)\n"
		"push %eax\n"
		"pop %edx\n"
		"dec %ecx\n"
		"jnz 1b\n"
		"out %al, $0xf4\n");

static void run(const char *name, const unsigned char *code, const unsigned char *end, bool wide)
{
	struct timespec a, b;
	struct vm vm;
	double t;

	vm_new(&vm, 1);
	vm_load(&vm, GUEST_CODE, code, (size_t)(end - code));
	if (wide)
		vm_long(&vm, 0);
	else
		vm_prot(&vm, 0);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
	CHECK_EQ(vm_run(&vm), EXIT_IO);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
	t = (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) / 1e9;
	printf("{\"bench\":\"interp\",\"program\":\"%s\",\"mips\":%.0f}\n", name,
	       (double)engine_insn_count(vm.v[0]) / t / 1e6);
	vm_free(&vm);
}

int main(void)
{
	run("alu", alu, alu_end, true);
	run("memory", memory, memory_end, true);
	run("calls", calls, calls_end, true);
	run("prot32", prot32, prot32_end, false);
	return 0;
}
