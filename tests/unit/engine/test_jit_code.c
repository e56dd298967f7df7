/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Code that changes under loops which never leave by themselves: by a device, by another processor
 * with a kick; by stores into another page; and so much code that the caches are emptied.  And code
 * that does not change, but is linked again and again.
 */
#include "guest_vm.h"

#include "engine/interp/interp.h"
#include "engine/jit/jit_priv.h"

#include <pthread.h>

#define F 0x50040u /* a function in a page of its own, where the jump cache has a place for it */

/* Until f returns something else than 1.  The loops are linked, cached, and make no exits. */
GUEST64(poll_far, "0: call 0b + 0x40040\n cmp $1, %eax\n je 0b\n out %eax, $0xf4\n");
GUEST64(poll_register, "mov $0x50040, %ebx\n 1: call *%rbx\n cmp $1, %eax\n je 1b\n"
		       "out %eax, $0xf4\n");
GUEST64(poll_near, "1: call 2f\n cmp $1, %eax\n je 1b\n out %eax, $0xf4\n"
		   ".balign 256\n 2: mov $1, %eax\n ret\n");
GUEST64(poll_jump, "0: jmp 0b + 0x40040\n .balign 256\n cmp $1, %eax\n je 0b\n out %eax, $0xf4\n");
/* Not code at all: the loop is one block. */
GUEST64(poll_data, "1: cmpb $1, 2f(%rip)\n je 1b\n mov 2f(%rip), %al\n movzx %al, %eax\n"
		   "out %eax, $0xf4\n .balign 256\n 2: .byte 1\n");

/* What a kernel's text_poke does: another page's code is changed, called at once. */
GUEST64(poke, "mov $0x50040, %ebx\n mov $200, %ecx\n xor %edx, %edx\n"
	      "1: mov %ecx, 1(%rbx)\n call *%rbx\n add %eax, %edx\n"
	      "0: call 0b + 0x40040 - (0b - poke)\n add %eax, %edx\n"
	      "dec %ecx\n jnz 1b\n mov %edx, %eax\n out %eax, $0xf4\n");
/* The same from the function itself, which changes what it returns next time. */
GUEST64(own, "mov $0x50040, %ebx\n mov $100, %ecx\n xor %edx, %edx\n"
	     "1: call *%rbx\n add %eax, %edx\n dec %ecx\n jnz 1b\n"
	     "mov %edx, %eax\n out %eax, $0xf4\n");
GUEST64(own_f, "incl 1f + 1(%rip)\n jmp 1f\n .balign 128\n 1: mov $0, %eax\n ret\n");

/* The return address goes over the operand: a call that has to be left to the interpreter, since
 * its target is not known yet, must not have pushed before. */
GUEST64(call_over, "lea 1f(%rip), %rax\n mov %rax, -8(%rsp)\n call *-8(%rsp)\n out %al, $0xf4\n"
		   ".balign 4096\n 1: mov $9, %eax\n ret\n");

/* A jump to an instruction that crosses into the next page goes by the jump cache, where the
 * other call's target has the same place. */
GUEST64(jump_to_crossing, "1: mov $200, %ecx\n 2: mov $0x20f00, %ebx\n call *%rbx\n"
			  "mov $0x30ffd, %ebx\n call *%rbx\n dec %ecx\n jnz 2b\n"
			  "out %eax, $0xf4\n jmp 1b\n");

static uint64_t where; /* of the byte that another thread changes */
static bool by_cpu;    /* vCPU 1 does it, and kicks; else a device */
static struct vm *at_work;

GUEST64(writer, "mov $0x2a, %al\n mov %al, (%rbx)\n hlt\n");

static void *change(void *arg)
{
	static const uint8_t x = 0x2a;
	struct vm_exit x1 = {0};

	usleep(3000);
	if (by_cpu) {
		do {
			engine_run(at_work->v[1], &x1);
		} while (x1.reason == EXIT_KICK);
		CHECK_EQ(x1.reason, EXIT_HLT);
		engine_kick(at_work->v[0]);
	} else {
		CHECK_EQ(gmem_write(at_work->mem, where, &x, 1), 0);
	}
	return NULL;
}

static void put_function(struct vm *vm, const uint8_t *code, size_t len)
{
	vm_load(vm, F, code, len);
	vm_long(vm, 0);
}

static void poll(struct vm *vm, const uint8_t *code, size_t len, uint64_t place)
{
	static const uint8_t f[] = {0xb8, 1, 0, 0, 0, 0xc3};
	static const uint8_t back[] = {0xb8, 1, 0, 0, 0, 0xe9, 0xb6, 0x00, 0xfc, 0xff};

	for (unsigned int round = 0; round < 10; round++) {
		struct cpu c;
		pthread_t t;

		vm_load(vm, GUEST_CODE, code, len);
		if (code == poll_jump) /* to behind the jump there */
			put_function(vm, back, sizeof(back));
		else
			put_function(vm, f, sizeof(f));
		vm_load(vm, 0x58000, writer, (size_t)(writer_end - writer));
		vm_long(vm, 1);
		engine_get_state(vm->v[1], &c);
		c.rip = 0x58000;
		c.gpr[RBX] = where = place;
		vm_set(vm, 1, &c);
		by_cpu = round % 2;
		at_work = vm;
		CHECK_EQ(pthread_create(&t, NULL, change, NULL), 0);
		while (vm_run(vm) == EXIT_KICK)
			;
		CHECK_EQ(vm->x.reason, EXIT_IO);
		CHECK_EQ(vm->x.data, 0x2a);
		pthread_join(t, NULL);
	}
}

static void test_polls(void)
{
	struct vm vm;

	vm_new(&vm, 2);
#define POLL(name, place) poll(&vm, name, (size_t)(name##_end - name), place)
	POLL(poll_far, F + 1);
	POLL(poll_register, F + 1);
	POLL(poll_near, GUEST_CODE + 256 + 1);
	POLL(poll_jump, F + 1);
	POLL(poll_data, GUEST_CODE + 256);
	vm_free(&vm);
}

static void test_stores(void)
{
	static const uint8_t f[] = {0xb8, 1, 0, 0, 0, 0xc3};
	struct vm vm;

	vm_new(&vm, 1);
	VM_LOAD(&vm, poke);
	put_function(&vm, f, sizeof(f));
	vm_expect(&vm, 200 * 201);
	VM_LOAD(&vm, own);
	put_function(&vm, own_f, (size_t)(own_f_end - own_f));
	vm_expect(&vm, 50 * 101);
	VM_LOAD(&vm, call_over);
	vm_long(&vm, 0);
	vm_expect(&vm, 9);
	vm_free(&vm);
}

/*
 * 11 MiB of additions, a call at the end of each page, run twice: more than the code memory holds
 * even once.
 */
static void test_flush(void)
{
	static const uint8_t f[] = {0xff, 0xc2, 0xc3};         /* inc %edx; ret */
	static const uint8_t end[] = {0x01, 0xd0, 0xe7, 0xf4}; /* add, out */
	const uint32_t from = 0x400000, to = 0xf80000, pages = (to - from) / 4096;
	struct vm vm;
	struct cpu c;

	vm_new(&vm, 1);
	vm_load(&vm, F, f, sizeof(f));
	for (uint32_t page = from; page < to; page += 4096) {
		uint8_t code[4096];
		unsigned int k = 0;

		for (; k + 3 <= 4096 - 5; k += 3) { /* add 0(%rsi), %eax in three bytes */
			code[k] = 0x03;
			code[k + 1] = 0x46;
			code[k + 2] = 0;
		}
		for (; k < 4096 - 5; k++)
			code[k] = 0x90;
		code[k] = 0xe8;
		store_le32(code + k + 1, F - (page + 4096));
		vm_load(&vm, page, code, sizeof(code));
	}
	vm_load(&vm, to, end, sizeof(end));
	vm_put64(&vm, GUEST_DATA, 1);
	for (unsigned int round = 0; round < 2; round++) {
		vm_long(&vm, 0);
		vm_regs(&vm, &c);
		c.rip = from;
		c.gpr[RSI] = GUEST_DATA;
		c.gpr[RAX] = c.gpr[RDX] = 0;
		vm_set(&vm, 0, &c);
		vm_expect(&vm, pages * (uint64_t)(4091 / 3) + pages);
	}
	if (engine_chosen() == ENGINE_JIT) {
		char stats[200];

		jit_stats(container_of(vm.v[0], struct ivcpu, vcpu), stats, sizeof(stats));
		printf("%s\n", stats);
		CHECK(!strstr(stats, "flushed 0 times"));
	}
	vm_free(&vm);
}

/* Each time the jump was linked anew, it got new code: in the end, over the cold code of others. */
static void test_detour_once(void)
{
	static const uint8_t jump[] = {0xe9, 0xf8, 0, 0, 0}; /* to 0x20ffd */
	static const uint8_t crossing[] = {0xb8, 7, 0, 0, 0, 0xc3}, ret[] = {0xc3};
	const struct jit *j;
	struct vm vm;
	size_t used;

	vm_new(&vm, 1);
	j = container_of(vm.v[0], struct ivcpu, vcpu)->jit;
	VM_LOAD(&vm, jump_to_crossing);
	vm_load(&vm, 0x20f00, jump, sizeof(jump));
	vm_load(&vm, 0x20ffd, crossing, sizeof(crossing));
	vm_load(&vm, 0x30ffd, ret, sizeof(ret));
	vm_long(&vm, 0);
	vm_expect(&vm, 7);
	vm_expect(&vm, 7);
	used = j ? j->used : 0;
	for (unsigned int k = 0; k < 20; k++)
		vm_expect(&vm, 7);
	CHECK_EQ(j ? j->used : 0, used);
	vm_free(&vm);
}

int main(void)
{
	test_detour_once();
	test_stores();
	test_polls();
	test_flush();
	return 0;
}
