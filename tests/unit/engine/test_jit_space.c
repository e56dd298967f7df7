/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Code that moves under its address: INVLPG, CR3 with and without PCIDs, INVPCID of all types,
 * large pages; from a kernel and from a program, whose jump caches are not the same.
 */
#include "guest_vm.h"

#define F       0x50040u  /* a function: what it returns says which page it is in */
#define D       0x60000u  /* data likewise */
#define PAGES   0x200000u /* where the functions are, two pages a space */
#define DATA_AT 0x300000u
#define TABLES  0x100000u /* PML4, PDPT, PD, PT of each space */
#define HANDLER 0x20000u
#define SPACES  16u

/* INT 80h: EAX 0 = CR3 is RDI; 1 = the word at RSI is changed by RDI; 2 = INVPCID; 3 = INVLPG. */
GUEST64(handler, "cmp $1, %eax\n je 1f\n cmp $2, %eax\n je 2f\n cmp $3, %eax\n je 3f\n"
		 "mov %rdi, %cr3\n iretq\n"
		 "1: xorq %rdi, (%rsi)\n iretq\n"
		 "2: invpcid (%rsi), %rdi\n iretq\n"
		 "3: invlpg (%rsi)\n iretq\n");

#define CHANGE(entry) "mov $1, %eax\n mov $" entry ", %esi\n mov %r12, %rdi\n int $0x80\n"
/* Calls by register, directly into another page, and by a jump, in turn. */
#define CALL_F(direct)                                                                             \
	"call *%rbx\n add %eax, %edx\n call 0b + " direct "\n add %eax, %edx\n call *%rbx\n"       \
	"add %eax, %edx\n"

/* The page of F changes 100 times; R13 says how the TLB is told. */
GUEST64(moving, "0: mov $0x50040, %ebx\n mov $100, %ecx\n xor %edx, %edx\n mov $0x1000, %r12d\n"
		"1: " CALL_F("0x40040")
		    CHANGE("0x4280") "mov %r13d, %eax\n mov $0x50abc, %esi\n"
				     "mov $0x1000, %edi\n int $0x80\n"
				     "dec %ecx\n jnz 1b\n mov %edx, %eax\n out %eax, $0xf4\n");
/* The same for the large page at 4 MiB, told by an address far from the function's. */
GUEST64(moving_large,
	"0: mov $0x400040, %ebx\n mov $100, %ecx\n xor %edx, %edx\n"
	"mov $0xc00000, %r12d\n"
	"1: " CALL_F("0x3f0040")
	    CHANGE("0x3010") "mov $3, %eax\n"
			     "mov $0x5ff000, %esi\n int $0x80\n"
			     "dec %ecx\n jnz 1b\n mov %edx, %eax\n out %eax, $0xf4\n");

/* Spaces in random order, four of them more often: function and data must be the space's own. */
GUEST64(spaces, "0: mov $0x50040, %ebx\n mov $20000, %ebp\n mov $1, %r9d\n"
		"1: imul $1103515245, %r9d, %r9d\n add $12345, %r9d\n"
		"mov %r9d, %ecx\n shr $16, %ecx\n and $15, %ecx\n"
		"bt $29, %r9d\n jnc 2f\n and $3, %ecx\n"
		"2: mov %ecx, %edi\n shl $14, %edi\n lea 0x100000(%rdi, %rcx), %edi\n"
		"bts $63, %rdi\n xor %eax, %eax\n int $0x80\n"
		"call *%rbx\n cmp %ecx, %eax\n jne 3f\n"
		"mov 0x60000, %eax\n cmp %ecx, %eax\n jne 3f\n"
		"call 0b + 0x40040\n cmp %ecx, %eax\n jne 3f\n"
		"dec %ebp\n jnz 1b\n xor %eax, %eax\n 3: out %eax, $0xf4\n");

#define SWITCH(k) "xor %eax, %eax\n movabs $0x8000000000100000 + " k " * 0x4001, %rdi\n int $0x80\n"
#define TWICE     "call *%rbx\n call *%rbx\n"
/* Functions of spaces 1 and 2 change pages; then INVPCID of type R13 for space 1.  What was called
 * before and after is in the four bytes of the answer. */
GUEST64(invpcid, "mov $0x50040, %ebx\n mov $0x1000, %r12d\n" SWITCH("1") TWICE
	"mov %eax, %r14d\n" SWITCH("2") TWICE
	"shl $8, %eax\n or %eax, %r14d\n" CHANGE("0x107280") CHANGE(
	    "0x10b280") "movq $1, 0x70000\n movq $0x50000, 0x70008\n"
			"mov $2, %eax\n mov $0x70000, %esi\n mov %r13, %rdi\n int $0x80\n" SWITCH(
			    "1") TWICE "shl $16, %eax\n or %eax, %r14d\n" SWITCH("2") TWICE
	"shl $24, %eax\n or %r14d, %eax\n out %eax, $0xf4\n");

static void put_function(struct vm *vm, uint64_t gpa, uint32_t answer)
{
	uint8_t code[] = {0xb8, 0, 0, 0, 0, 0xc3}; /* mov $answer, %eax; ret */

	store_le32(code + 1, answer);
	vm_load(vm, gpa, code, sizeof(code));
}

static void start(struct vm *vm, unsigned int cpl, uint64_t cr4, uint64_t how)
{
	struct cpu c;

	vm_long(vm, 0);
	vm_regs(vm, &c);
	c.cr4 |= cr4;
	c.gpr[R13] = how;
	if (cpl == 3) {
		for (unsigned int s = 0; s < SEG_COUNT; s++)
			c.seg[s] = vm_seg(0x33, 0, UINT32_MAX, 0xc0f3);
		c.seg[SEG_CS] = vm_seg(0x2b, 0, UINT32_MAX, 0xa0fb);
		c.rflags |= FL_IOPL;
		c.gpr[RSP] = GUEST_STACK - 0x4000;
	}
	vm_set(vm, 0, &c);
}

static void make_space(struct vm *vm, unsigned int k)
{
	uint64_t t = TABLES + k * 0x4000u;

	vm_put64(vm, t, (t + 0x1000) | 7);
	vm_put64(vm, t + 0x1000, (t + 0x2000) | 7);
	vm_put64(vm, t + 0x2000, (t + 0x3000) | 7);
	for (uint64_t p = 1; p < 512; p++)
		vm_put64(vm, t + 0x2000 + 8 * p, p << 21 | 0x87);
	for (uint64_t p = 0; p < 512; p++)
		vm_put64(vm, t + 0x3000 + 8 * p, p << 12 | 7);
	vm_put64(vm, t + 0x3000 + 8 * (F >> 12), (PAGES + k * 0x2000) | 7);
	vm_put64(vm, t + 0x3000 + 8 * (D >> 12), (DATA_AT + k * 0x1000) | 7);
	put_function(vm, PAGES + k * 0x2000 + (F & 0xfff), k);
	put_function(vm, PAGES + k * 0x2000 + 0x1000 + (F & 0xfff), k + 16);
	vm_put64(vm, DATA_AT + k * 0x1000, k);
}

static void begin(struct vm *vm)
{
	vm_new(vm, 1);
	vm_load(vm, HANDLER, handler, (size_t)(handler_end - handler));
	vm_gate64(vm, 0x80, HANDLER);
	vm_put64(vm, GUEST_IDT + 16 * 0x80,
		 vm_get64(vm, GUEST_IDT + 16 * 0x80) | UINT64_C(3) << 45);
}

static void test_moving(struct vm *vm, unsigned int cpl)
{
	static const uint64_t global[] = {0, 0x100};

	put_function(vm, F, 1);
	put_function(vm, F + 0x1000, 2);
	VM_LOAD(vm, moving);
	for (unsigned int g = 0; g < 2; g++) {
		vm_put64(vm, GUEST_PT + 8 * (F >> 12), (F & ~0xfffu) | 7 | global[g]);
		start(vm, cpl, CR4_PGE, 3);
		vm_expect(vm, 450);
	}
	vm_put64(vm, GUEST_PT + 8 * (F >> 12), (F & ~0xfffu) | 7);
	start(vm, cpl, 0, 0); /* CR3: RDI is what it is already */
	vm_expect(vm, 450);
	start(vm, cpl, CR4_PCIDE, 0); /* the current PCID's, since bit 63 is clear */
	vm_expect(vm, 450);

	put_function(vm, 0x400040, 1);
	put_function(vm, 0x800040, 2);
	VM_LOAD(vm, moving_large);
	start(vm, cpl, 0, 0);
	vm_expect(vm, 450);
}

static void test_invpcid(struct vm *vm, unsigned int cpl)
{
	struct cpu c;

	VM_LOAD(vm, invpcid);
	for (unsigned int type = 0; type < 4; type++) {
		make_space(vm, 1);
		make_space(vm, 2);
		start(vm, cpl, CR4_PCIDE, type);
		CHECK_EQ(vm_run(vm), EXIT_IO);
		CHECK_EQ(vm->x.port, 0xf4);
		CHECK_EQ(vm->x.data & 0xffffff, 0x110201);
		vm_regs(vm, &c);
		if (type >= 2)
			CHECK_EQ(vm->x.data >> 24, 0x12);
		else /* it may stay what it was */
			CHECK(vm->x.data >> 24 == 0x12 || vm->x.data >> 24 == 2);
	}
}

int main(void)
{
	struct vm vm;

	for (unsigned int cpl = 0; cpl <= 3; cpl += 3) {
		begin(&vm);
		test_moving(&vm, cpl);
		vm_free(&vm);

		begin(&vm);
		for (unsigned int k = 0; k < SPACES; k++)
			make_space(&vm, k);
		VM_LOAD(&vm, spaces);
		start(&vm, cpl, CR4_PCIDE, 0);
		vm_expect(&vm, 0);
		test_invpcid(&vm, cpl);
		vm_free(&vm);
	}
	return 0;
}
