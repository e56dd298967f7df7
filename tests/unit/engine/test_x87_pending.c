/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An x87 exception that is pending and unmasked: #MF with CR0.NE; without it nobody is told, and
 * least of all the host, whose own NE is always on.
 */
#include "guest_vm.h"

GUEST64(pending, "fninit\n fldcw cw(%rip)\n fld1\n fldz\n fdivrp\n" /* division by zero */
		 "mov $0x70000, %edi\n movl $1, 16(%rdi)\n"
		 "movq %mm1, %mm2\n paddb %mm1, %mm2\n cvtps2pi %xmm0, %mm3\n"
		 "movl $2, 16(%rdi)\n"
		 "maskmovq %mm2, %mm3\n movq %mm2, (%rdi)\n emms\n"
		 "fld1\n fldcw cw(%rip)\n fstps (%rdi)\n fwait\n fnstcw 8(%rdi)\n"
		 "fnstenv 32(%rdi)\n fldenv 32(%rdi)\n fnsave 64(%rdi)\n frstor 64(%rdi)\n"
		 "fxsave 0x200(%rdi)\n fxrstor 0x200(%rdi)\n fld1\n"
		 "fnstsw 12(%rdi)\n mov $7, %al\n out %al, $0xf4\n"
		 "cw: .word 0x340\n");
/* Exceptions of MMX conversions are SIMD ones, and come with the x87 state unharmed. */
GUEST64(simd, "fninit\n fldcw cw2(%rip)\n fld1\n fldz\n fdivrp\n"
	      "ldmxcsr mx(%rip)\n cvtps2pi mx(%rip), %mm3\n" /* 0 fits; then NaN does not */
	      "cvtps2pi nan(%rip), %mm3\n mov $8, %al\n out %al, $0xf4\n"
	      "cw2: .word 0x340\n mx: .long 0x1f00, 0\n nan: .long -1, -1\n");
GUEST64(stop, "mov $9, %al\n out %al, $0xf4\n");

#define HANDLER 0x20000u

static void start(struct vm *vm, bool ne)
{
	struct cpu c;

	vm_long(vm, 0);
	vm_regs(vm, &c);
	if (!ne)
		c.cr0 &= ~(uint64_t)CR0_NE;
	vm_set(vm, 0, &c);
}

int main(void)
{
	struct cpu c;
	struct vm vm;

	vm_new(&vm, 1);
	for (unsigned int n = 0; n < 32; n++)
		vm_gate64(&vm, n, HANDLER + 0x40 * n);
	vm_load(&vm, HANDLER + 0x40 * VEC_MF, stop, (size_t)(stop_end - stop));
	vm_load(&vm, HANDLER + 0x40 * VEC_XM, stop, (size_t)(stop_end - stop));

	VM_LOAD(&vm, pending);
	start(&vm, true);
	vm_expect(&vm, 9);
	vm_regs(&vm, &c);
	CHECK_EQ(c.rip & ~UINT64_C(63), HANDLER + 0x40 * VEC_MF);
	CHECK_EQ(vm_get64(&vm, 0x70010) & 0xff, 1);
	start(&vm, false);
	vm_expect(&vm, 7);
	CHECK_EQ(vm_get64(&vm, 0x70010) & 0xff, 2);
	CHECK_EQ(vm_get64(&vm, 0x70008) & 0xffff, 0x340);        /* FLDCW came through */
	CHECK_EQ(vm_get64(&vm, 0x70008) >> 32 & 0x8084, 0x8084); /* B, ES and ZE are there still */

	VM_LOAD(&vm, simd);
	start(&vm, false);
	vm_expect(&vm, 9);
	vm_regs(&vm, &c);
	CHECK_EQ(c.rip & ~UINT64_C(63), HANDLER + 0x40 * VEC_XM);
	CHECK_EQ(c.xs.fcw, 0x340);
	CHECK_EQ(c.xs.fsw & 0x8084, 0x8084);
	vm_free(&vm);
	return 0;
}
