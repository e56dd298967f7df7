/* SPDX-License-Identifier: Apache-2.0 */
/* Programs in long, protected and real mode: branches, stack, calls, memory, output. */
#include "guest_vm.h"

GUEST64(sum64, "mov $1000, %ecx\n"
	       "xor %eax, %eax\n"
	       "1: add %rcx, %rax\n"
	       "dec %ecx\n"
	       "jnz 1b\n"
	       "push %rax\n"
	       "call f\n"
	       "pop %rdx\n"
	       "mov $'!', %al\n"
	       "out %al, $0xe9\n"
	       "mov %edx, %eax\n"
	       "out %eax, $0xf4\n"
	       "f: incq 8(%rsp)\n"
	       "ret\n");

GUEST32(sum32, "mov $1000, %ecx\n"
	       "xor %eax, %eax\n"
	       "1: add %ecx, %eax\n"
	       "loop 1b\n"
	       "pushl %eax\n"
	       "call f32\n"
	       "popl %eax\n"
	       "out %eax, $0xf4\n"
	       "f32: incl 4(%esp)\n"
	       "ret\n");

GUEST16(sum16, "mov $1000, %cx\n"
	       "xor %eax, %eax\n"
	       "movzx %cx, %edx\n"
	       "1: add %edx, %eax\n"
	       "dec %edx\n"
	       "loop 1b\n"
	       "pushl %eax\n"
	       "call f16\n"
	       "popl %eax\n"
	       "out %eax, $0xf4\n"
	       "f16: mov %sp, %bp\n"
	       "incl 2(%bp)\n"
	       "ret\n");

int main(void)
{
	struct vm vm;

	vm_new(&vm, 1);
	VM_LOAD(&vm, sum64);
	vm_long(&vm, 0);
	vm_expect(&vm, 500501);
	CHECK_STR(vm.out, "!");
	VM_LOAD(&vm, sum32);
	vm_prot(&vm, 0);
	vm_expect(&vm, 500501);
	VM_LOAD(&vm, sum16);
	vm_real(&vm, 0);
	vm_expect(&vm, 500501);
	vm_free(&vm);
	return 0;
}
