/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Vector and x87 state is in the host's registers while translated code runs: it has to be right
 * across TLB misses, instructions that the interpreter does, faults, and when somebody looks.
 */
#include "guest_vm.h"

#include <pthread.h>
#include <stdatomic.h>

#define HANDLER 0x20000u

/*
 * 2,000 rounds, each on another page: sums in XMM, in YMM's upper halves, on the x87 stack and in
 * MXCSR's flags, with a slow instruction, a call, a store that misses.  What differs is the answer.
 */
GUEST64(sums, "0: vpcmpeqd %ymm2, %ymm2, %ymm2\n vpsrlq $63, %ymm2, %ymm2\n" /* ones */
	      "vpxor %ymm3, %ymm3, %ymm3\n vpxor %ymm15, %ymm15, %ymm15\n"
	      "fninit\n fldz\n fldpi\n fld1\n" /* sum is ST(2) */
	      "mov $2000, %ecx\n mov $0x400000, %ebx\n mov %ecx, %r8d\n"
	      "1: vpaddq %ymm2, %ymm3, %ymm3\n"
	      "mov (%rbx), %eax\n"
	      "vpaddq %ymm2, %ymm15, %ymm15\n"
	      "fadd %st, %st(2)\n"
	      "str %dx\n"
	      "call 2f\n"
	      "vmovdqu %ymm3, 0x100(%rbx)\n"
	      "add $0x1040, %ebx\n mov %ebx, %eax\n and $0x7fffff, %eax\n or $0x400000, %eax\n"
	      "mov %eax, %ebx\n"
	      "dec %ecx\n jnz 1b\n"
	      "fstp %st\n fstp %st\n fistpll 0x70000\n"
	      "vextracti128 $1, %ymm3, %xmm4\n vmovq %xmm4, %rax\n vmovq %xmm15, %rdx\n"
	      "sub %r8, %rax\n sub %r8, %rdx\n or %rdx, %rax\n"
	      "mov 0x70000, %rdx\n sub %r8, %rdx\n or %rdx, %rax\n"
	      "vmovq %xmm3, %rdx\n sub %r8, %rdx\n or %rdx, %rax\n out %eax, $0xf4\n"
	      ".balign 4096\n 2: fxch\n fxch\n ret\n");

/* #NM by CR0.TS each time round, taken by a handler that clears it. */
GUEST64(lazy, "pcmpeqd %xmm1, %xmm1\n psrlq $63, %xmm1\n pxor %xmm0, %xmm0\n mov $500, %ecx\n"
	      "fninit\n fldz\n xor %esi, %esi\n"
	      "1: mov %cr0, %rax\n or $8, %eax\n mov %rax, %cr0\n"
	      "test $1, %cl\n jz 2f\n paddq %xmm1, %xmm0\n jmp 3f\n"
	      "2: fld1\n faddp\n"
	      "3: dec %ecx\n jnz 1b\n"
	      "fistpl 0x70000\n movq %xmm0, %rax\n shl $16, %eax\n mov 0x70000, %edx\n"
	      "cmp $500, %esi\n jne 4f\n"
	      "or %edx, %eax\n 4: out %eax, $0xf4\n");
GUEST64(on_nm, "inc %esi\n clts\n iretq\n");

/* An instruction of the interpreter's that needs what is in the host's registers. */
GUEST64(saved, "fninit\n fldpi\n pcmpeqd %xmm5, %xmm5\n mov $0x71000, %edi\n fxsave (%rdi)\n"
	       "mov 0x20(%rdi), %rax\n movabs $0xc90fdaa22168c235, %rdx\n sub %rdx, %rax\n"
	       "mov 0xf0(%rdi), %rdx\n not %rdx\n or %rdx, %rax\n"
	       "setnz %al\n out %al, $0xf4\n");

/* A SIMD exception in the middle of a loop: flags, operands and address as before it. */
GUEST64(simd, "ldmxcsr mx(%rip)\n movss one(%rip), %xmm0\n xorps %xmm1, %xmm1\n xor %esi, %esi\n"
	      "mov $100, %ecx\n"
	      "1: stc\n divss %xmm1, %xmm0\n nop\n jnc 2f\n dec %ecx\n jnz 1b\n"
	      "mov %esi, %eax\n 2: out %eax, $0xf4\n"
	      "mx: .long 0x1d80\n one: .float 1\n"); /* division by zero unmasked */
GUEST64(on_xm, "inc %esi\n addq $4, (%rsp)\n iretq\n");

/* The same with a division of integers, also of memory. */
GUEST64(divide, "xor %esi, %esi\n mov $100, %ecx\n xor %ebx, %ebx\n mov $0x70000, %edi\n"
		"movq $0, (%rdi)\n"
		"1: mov $7, %eax\n xor %edx, %edx\n stc\n div %ebx\n nop\n nop\n"
		"jnc 2f\n cmp $7, %eax\n jne 2f\n divl (%rdi)\n nop\n nop\n dec %ecx\n jnz 1b\n"
		"mov %esi, %eax\n 2: out %eax, $0xf4\n");
GUEST64(on_de, "inc %esi\n addq $4, (%rsp)\n iretq\n");

static void start(struct vm *vm)
{
	struct cpu c;

	vm_long(vm, 0);
	vm_regs(vm, &c);
	c.cr4 |= CR4_OSXSAVE;
	c.xcr0 = XSTATE_ALL;
	vm_set(vm, 0, &c);
}

static _Atomic bool working;

static void *kicker(void *arg)
{
	struct vm *vm = arg;

	while (working) {
		usleep(50);
		engine_kick(vm->v[0]);
	}
	return NULL;
}

/* At each kick the state moves through another one, as to a snapshot and back. */
static void move_state(struct vm *vm)
{
	struct cpu keep, other = {0};

	vm_regs(vm, &keep);
	other = keep;
	memset(&other.xs.st, 0x55, sizeof(other.xs.st));
	memset(&other.xs.xmm, 0x55, sizeof(other.xs.xmm));
	memset(&other.xs.ymmh, 0x55, sizeof(other.xs.ymmh));
	other.xs.fcw = 0x40;
	other.xs.mxcsr = 0;
	vm_set(vm, 0, &other);
	vm_set(vm, 0, &keep);
	vm_regs(vm, &other);
	CHECK(memcmp(&keep.xs, &other.xs, sizeof(keep.xs)) == 0);
}

static void test_sums(struct vm *vm)
{
	unsigned int kicks = 0;
	pthread_t t;

	VM_LOAD(vm, sums);
	start(vm);
	vm_expect(vm, 0);
	working = true;
	CHECK_EQ(pthread_create(&t, NULL, kicker, vm), 0);
	while (kicks < 100) {
		start(vm);
		while (vm_run(vm) == EXIT_KICK) {
			kicks++;
			move_state(vm);
		}
		CHECK_EQ(vm->x.reason, EXIT_IO);
		CHECK_EQ(vm->x.data, 0);
	}
	working = false;
	pthread_join(t, NULL);
	do /* the last kick may still be there */
		engine_run(vm->v[0], &vm->x);
	while (vm->x.reason == EXIT_KICK);
}

#define HANDLE(vm, vector, name)                                                                   \
	do {                                                                                       \
		vm_gate64(vm, vector, HANDLER + 0x100 * (vector));                                 \
		vm_load(vm, HANDLER + 0x100 * (vector), name, (size_t)(name##_end - name));        \
	} while (0)

/* An operand over the last canonical address is #GP, even if its first page is not there. */
GUEST64(edge, "mov $0x7fffffffffff, %r11\n adc %r12d, (%r11)\n mov $1, %al\n out %al, $0xf4\n");
GUEST64(on_gp, "mov $13, %al\n out %al, $0xf4\n");
GUEST64(on_pf, "mov $14, %al\n out %al, $0xf4\n");

/* Bits of MXCSR and FCW that no processor has are not taken over from outside. */
GUEST64(loads, "addps %xmm1, %xmm0\n fld1\n mov $5, %al\n out %al, $0xf4\n");

static void test_strange_state(struct vm *vm)
{
	struct cpu c;

	VM_LOAD(vm, loads);
	start(vm);
	vm_regs(vm, &c);
	c.xs.mxcsr = 0xffff1f80;
	c.xs.fcw = 0xf37f;
	vm_set(vm, 0, &c);
	vm_expect(vm, 5);
	vm_regs(vm, &c);
	CHECK_EQ(c.xs.mxcsr, 0x1f80);
	CHECK_EQ(c.xs.fcw, 0x137f);
}

int main(void)
{
	struct vm vm;

	vm_new(&vm, 1);
	HANDLE(&vm, VEC_NM, on_nm);
	HANDLE(&vm, VEC_XM, on_xm);
	HANDLE(&vm, VEC_DE, on_de);
	HANDLE(&vm, VEC_GP, on_gp);
	HANDLE(&vm, VEC_PF, on_pf);
	vm_put64(&vm, 0x7024, GUEST_STACK - 0x4000); /* IST1 */
	VM_LOAD(&vm, lazy);
	start(&vm);
	vm_expect(&vm, 250 << 16 | 250);
	VM_LOAD(&vm, saved);
	start(&vm);
	vm_expect(&vm, 0);
	VM_LOAD(&vm, simd);
	start(&vm);
	vm_expect(&vm, 100);
	VM_LOAD(&vm, divide);
	start(&vm);
	vm_expect(&vm, 200);
	VM_LOAD(&vm, edge);
	start(&vm);
	vm_expect(&vm, 13);
	test_strange_state(&vm);
	test_sums(&vm);
	vm_free(&vm);
	return 0;
}
