/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lock-step finds wrong translations: code that has just passed is broken in one byte, and must be
 * found at its next run.
 */
#include "guest_vm.h"

#include "engine/jit/jit_priv.h"

/* What follows an OUT was translated when it first ran. */
GUEST64(number, "1: add $0x12345678, %edx\n out %eax, $0xf4\n jmp 1b\n");
GUEST64(store, "1: movl $0x12345678, (%rsi)\n mov %eax, %edx\n out %eax, $0xf4\n jmp 1b\n");
GUEST64(flags, "1: cmp $0x12345678, %edx\n mov $0, %ecx\n nop\n out %eax, $0xf4\n jmp 1b\n");
GUEST64(vector, "1: paddd %xmm6, %xmm7\n mov $0x12345678, %edx\n out %eax, $0xf4\n jmp 1b\n");
GUEST64(loop, "1: mov $20, %ecx\n 2: add $0x12345678, %edx\n dec %ecx\n jnz 2b\n"
	      "out %eax, $0xf4\n jmp 1b\n");
GUEST64(stack, "1: push $0x12345678\n pop %rdx\n out %eax, $0xf4\n jmp 1b\n");

static const uint8_t constant[] = {0x78, 0x56, 0x34, 0x12};
static const uint8_t paddd[] = {0x0f, 0xfe, 0xfe};

/* Writes @x to the byte @at of each place in the code memory with @what. */
static void break_code(struct vm *vm, const uint8_t *what, size_t len, size_t at, uint8_t x)
{
	struct jit *j = container_of(vm->v[0], struct ivcpu, vcpu)->jit;
	const size_t parts[][2] = {{j->stubs, j->used}, {JIT_COLD_START, j->cold_used}};
	unsigned int n = 0;

	for (unsigned int p = 0; p < ARRAY_SIZE(parts); p++) {
		for (size_t k = parts[p][0]; k + len <= parts[p][1]; k++) {
			if (memcmp(j->rw + k, what, len) != 0)
				continue;
			j->rw[k + at] = x;
			n++;
		}
	}
	CHECK(n > 0);
}

static void found(const uint8_t *code, size_t code_len, const uint8_t *what, size_t len, size_t at,
		  uint8_t x)
{
	struct vm vm;
	struct cpu c;

	vm_new(&vm, 1);
	vm_load(&vm, GUEST_CODE, code, code_len);
	vm_long(&vm, 0);
	vm_regs(&vm, &c);
	c.gpr[RSI] = GUEST_DATA;
	memset(c.xs.xmm[6], 3, 16);
	vm_set(&vm, 0, &c);
	for (unsigned int k = 0; k < 20; k++)
		CHECK_EQ(vm_run(&vm), EXIT_IO);
	break_code(&vm, what, len, at, x);
	CHECK_EQ(vm_run(&vm), EXIT_ERROR);
	CHECK(strstr(vm.x.err, "lock-step"));
	vm_free(&vm);
}

#define FOUND(name, what, at, x) found(name, (size_t)(name##_end - name), what, sizeof(what), at, x)

int main(void)
{
	CHECK_EQ(setenv("ENGINE", "jit-lockstep", 1), 0);
	FOUND(number, constant, 0, 0x79);
	FOUND(store, constant, 3, 0x13);
	FOUND(flags, constant, 3, 0x92);
	FOUND(vector, paddd, 1, 0xfa); /* PSUBD */
	FOUND(loop, constant, 0, 0x79);
	FOUND(stack, constant, 2, 0);
	return 0;
}
