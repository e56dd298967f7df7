/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Programs that a translator got wrong once, or might: each ends with the same answer on both
 * engines.
 */
#include "guest_vm.h"

#define TABLES 0x8000u /* a second address space: PML4, then PDPT, PD, PT */

/* CALL pushes its return address over its own operand. */
GUEST64(call_over, "mov $2000, %ecx\n"
		   "xor %edx, %edx\n"
		   "1: lea 2f(%rip), %rax\n"
		   "mov %rax, -8(%rsp)\n"
		   "call *-8(%rsp)\n"
		   "dec %ecx\n"
		   "jnz 1b\n"
		   "mov %edx, %eax\n"
		   "out %eax, $0xf4\n"
		   "2: inc %edx\n"
		   "ret\n");
/* Operand and stack have the same place in the TLB. */
GUEST64(same_place, "mov $1000, %ecx\n"
		    "xor %edx, %edx\n"
		    "mov $0x2000000 + 0x90000 - 0x1000, %rsi\n"
		    "lea 2f(%rip), %rax\n"
		    "mov %rax, (%rsi)\n"
		    "1: call *(%rsi)\n"
		    "dec %ecx\n"
		    "jnz 1b\n"
		    "mov %edx, %eax\n"
		    "out %eax, $0xf4\n"
		    "2: inc %edx\n"
		    "ret\n");
/* The same offsets in two code segments. */
GUEST32(two_bases, "mov $100, %ecx\n"
		   "1: call two_bases + 0x2000\n"
		   "dec %ecx\n"
		   "jnz 1b\n"
		   "ljmp $0x38, $0x11000\n");
GUEST32(other_base, "3: call 3b + 0x1000\n"
		    "out %eax, $0xf4\n");
GUEST32(one, "mov $1, %eax\n"
	     "ret\n");
GUEST32(two, "mov $2, %eax\n"
	     "ret\n");
/* A page that is not global: read first, then executed, then another one is there. */
GUEST64(not_global, "mov 0x25000, %eax\n"
		    "mov $50, %ecx\n"
		    "1: mov $0x25000, %ebx\n"
		    "call *%rbx\n"
		    "dec %ecx\n"
		    "jnz 1b\n"
		    "mov $0x8000, %ebx\n"
		    "mov %rbx, %cr3\n"
		    "mov $0x25000, %ebx\n"
		    "call *%rbx\n"
		    "out %eax, $0xf4\n");
/* PUSHF, POPF, and MOV EAX, 1 across a page end, whose second page changes. */
GUEST64(crossing, "mov $50, %ecx\n"
		  "1: mov $0x20ffc, %ebx\n"
		  "call *%rbx\n"
		  "dec %ecx\n"
		  "jnz 1b\n"
		  "movb $7, 0x21000\n"
		  "mov $0x20ffc, %ebx\n"
		  "call *%rbx\n"
		  "out %eax, $0xf4\n");
/* MOVSS behind more operand-size prefixes than there is room for. */
GUEST64(prefixes, "mov $20, %ecx\n"
		  "pcmpeqd %xmm1, %xmm1\n"
		  "1: pxor %xmm0, %xmm0\n"
		  ".byte 0x66, 0x66, 0x66, 0x66, 0xf3, 0x0f, 0x10, 0xc1\n"
		  "pshufd $0xff, %xmm0, %xmm0\n"
		  "movd %xmm0, %eax\n"
		  "dec %ecx\n"
		  "jnz 1b\n"
		  "out %eax, $0xf4\n");
/* The state came with PCID 5; PCID 0 has other tables. */
GUEST64(pcid_of_state, "mov 0x25000, %eax\n"
		       "mov $0x8000, %ebx\n"
		       "bts $63, %rbx\n"
		       "mov %rbx, %cr3\n"
		       "mov 0x25000, %eax\n"
		       "out %eax, $0xf4\n");
/* A jump by 2 GiB, and code 4 GiB below its target. */
GUEST64(far_jump, "mov $20, %ecx\n"
		  "1: mov $0x90000f84, %edi\n"
		  "call *%rdi\n"
		  "dec %ecx\n"
		  "jnz 1b\n"
		  "mov $20, %ecx\n"
		  "mov $0x110000f80, %rbx\n"
		  "2: call *%rbx\n"
		  "dec %ecx\n"
		  "jnz 2b\n"
		  "out %eax, $0xf4\n");

/* --- jumps to other pages that are known: the page must still be there, and be the same --- */

#define REPEAT(text) "mov $50, %ecx\n1: " text "dec %ecx\njnz 1b\n"
/* Calls @site again and again, changes something, goes back, where code looks whether it should
 * leave, and calls it once more. */
#define AGAIN(change, site)                                                                        \
	REPEAT("call 9f\n")                                                                        \
	change "jmp 8f\n7: call 9f\nout %eax, $0xf4\n8: jmp 7b\n9: " site "ret\n"
/* Another page at 0x25000. */
#define REMAP "movl $0x22007, 0x4000 + 8 * 0x25\ninvlpg 0x25000\n"

GUEST64(far_space, AGAIN("mov $0x8000, %ebx\nmov %rbx, %cr3\n", "call far_space + 0x15000\n"));
GUEST64(far_page, AGAIN(REMAP, "call far_page + 0x15000\n"));
GUEST64(far_code, AGAIN("movb $9, 0x25001\n", "call far_code + 0x15000\n"));
/* The same page at two places, from where the same distance leads to different ones. */
GUEST64(far_twice, "mov $50, %ecx\n"
		   "xor %edx, %edx\n"
		   "1: mov $0x25000, %ebx\n"
		   "call *%rbx\n"
		   "add %eax, %edx\n"
		   "mov $0x2b000, %ebx\n"
		   "call *%rbx\n"
		   "add %eax, %edx\n"
		   "dec %ecx\n"
		   "jnz 1b\n"
		   "mov %edx, %eax\n"
		   "out %eax, $0xf4\n");
GUEST64(hop, "jmp hop + 0x1000\n");
/* The page that is returned to has changed meanwhile: 0x25000 calls RDI, then has its number. */
#define RETURNS(name, change)                                                                      \
	REPEAT("lea 2f(%rip), %rdi\ncall " #name " + 0x15000\n")                                   \
	"lea 3f(%rip), %rdi\ncall " #name " + 0x15000\nout %eax, $0xf4\n2: ret\n3: " change        \
	"jmp 2b\n"
GUEST64(return_page, RETURNS(return_page, REMAP));
GUEST64(return_code, RETURNS(return_code, "movb $9, 0x25003\n"));
GUEST64(calls_rdi, "call *%rdi\n"
		   "mov $1, %eax\n"
		   "ret\n");
GUEST64(calls_rdi_too, "call *%rdi\n"
		       "mov $2, %eax\n"
		       "ret\n");
/* Somebody else's return address is at that place of the stack. */
GUEST64(return_other, REPEAT("call 2f\n") "lea 3f(%rip), %rax\n"
					  "push %rax\n"
					  "ret\n"
					  "2: ret\n"
					  "3: mov $7, %eax\n"
					  "out %eax, $0xf4\n");

/* --- operands looked up by their base's page: not there, in page 0, across the page's ends --- */

GUEST64(home, "mov $0x70000, %ebx\n"
	      "mov $16, %ecx\n"
	      "mov $50, %edi\n"
	      "movl $1, 0x70010\n"
	      "movl $2, 0x10\n"
	      "movl $4, 0x70ffe\n"
	      "movl $8, 0x6fffd\n"
	      "1: call 2f\n"
	      "dec %edi\n"
	      "jnz 1b\n"
	      "xor %edx, %edx\n"
	      "movl $0x28007, 0x4000 + 8 * 0x25\n"
	      "invlpg 0x25000\n"
	      "mov 0x25000, %eax\n"
	      "movl $0, 0x4000 + 8 * 0x25\n" /* nothing is there any more */
	      "invlpg 0x25000\n"
	      "mov $0x25000, %ebx\n"
	      "mov $0x10 - 0x25000, %rcx\n"
	      "call 2f\n"
	      "mov $0x7000000, %ebx\n" /* nothing is there */
	      "mov $0x70010 - 0x7000000, %rcx\n"
	      "call 2f\n"
	      "mov $0x10 - 0x7000000, %rcx\n"
	      "call 2f\n"
	      "mov $0x70000, %ebx\n"
	      "mov $0xffe, %ecx\n"
	      "call 2f\n"
	      "mov $-3, %rcx\n"
	      "call 2f\n"
	      "mov %edx, %eax\n"
	      "out %eax, $0xf4\n"
	      "2: add (%rbx, %rcx), %edx\n"
	      "ret\n");

/* Pointers that are copied, moved along and replaced: 0x26000 is the page 0x22000, others are where
 * they seem to be, so that one's host address is no good for the other. */
GUEST64(values, "mov $50, %edi\n"
		"xor %r12d, %r12d\n"
		"1: mov $0x26100, %ebx\n"
		"mov %rbx, %cr2\n"
		"mov $0x70100, %eax\n"
		"mov %rax, %rsi\n"
		"add (%rax), %r12d\n"
		"lea 8(%rsi), %r8\n"
		"add (%r8), %r12d\n"
		"add 16(%rsi), %r12d\n"
		"mov %rbx, %rax\n" /* the copy stays */
		"add (%rax), %r12d\n"
		"add 8(%rsi), %r12d\n"
		"add 8(%rax), %r12d\n"
		"xchg %rax, %rsi\n"
		"add 16(%rax), %r12d\n"
		"add 16(%rsi), %r12d\n"
		"mov %rax, %rsi\n"
		"mov %cr2, %rax\n" /* calls C */
		"add (%rax), %r12d\n"
		"add 8(%rsi), %r12d\n"
		"add 8(%rax), %r12d\n"
		"pushq $0x26100\n"
		"add (%rsi), %r12d\n"
		"pop %rsi\n"
		"add (%rsi), %r12d\n"
		"add 8(%rsi), %r12d\n"
		"push %rbp\n"
		"mov %rsp, %rbp\n"
		"sub $32, %rsp\n"
		"movl $5, -8(%rbp)\n"
		"add 24(%rsp), %r12d\n"
		"leave\n"
		"add (%rax), %r12d\n" /* scratch registers between */
		"mov $3, %r10d\n"
		"add 8(%rax), %r12d\n"
		"add %r10, %r12\n"
		"add 16(%rax), %r12d\n"
		"mov %r12, %r11\n"
		"add (%rax), %r11d\n"
		"lea (%r11), %r12\n"
		"movd 8(%rax), %xmm0\n"
		"movd %xmm0, %ecx\n"
		"add %ecx, %r12d\n"
		"push (%rax)\n"
		"pop %r10\n"
		"add %r10d, %r12d\n"
		"add 16(%rax), %r12d\n"
		"dec %edi\n"
		"jnz 1b\n"
		"mov %r12d, %eax\n"
		"out %eax, $0xf4\n");

/* A page fault behind an access that needed no flags: its handler sees them as they were. */
#define FAULT "mov (%rsi), %edx\nmov (%rdi), %edx\n"
GUEST64(spent,
	"mov $0x70000, %esi\n"
	"mov $0x26000, %edi\n" /* nothing is there */
	"xor %r12d, %r12d\n"
	"mov $300, %ecx\n"
	"1: mov %ecx, %eax\n"
	"imul $0x1234567, %eax\n"
	"mov %eax, %ebx\n"
	"rol $7, %ebx\n"
	"cmp %eax, %ebx\n" FAULT "cmp $0x7f, %bl\n" FAULT "cmp %al, %bl\n" FAULT
	"test %eax, %ebx\n" FAULT "test $0x41, %bl\n" FAULT "test $0x80000001, %eax\n" FAULT
	"mov %eax, %r8d\n"
	"add $0x1234, %r8d\n" FAULT "sub $0x98765432, %r8d\n" FAULT "add $-0x80000000, %r8\n" FAULT
	"sub %eax, %r8d\n" FAULT "sub %rbx, %r8\n" FAULT "and %ebx, %r8d\n" FAULT
	"or %al, %r8b\n" FAULT "xor %r8, %rbx\n" FAULT "sub $24, %rsp\n"
	"push %rax\n" FAULT "add $24, %rsp\n"
	"pop %rax\n" FAULT "cmp %eax, %ebx\n"
	"mov (%rsi), %edx\n" /* spends, and changes what they are made of */
	"mov (%rsi), %eax\n" FAULT "mov %edx, %ebx\n"
	"adc $0, %r12d\n"
	"dec %ecx\n"
	"jnz 1b\n"
	"mov %r12d, %eax\n"
	"out %eax, $0xf4\n");
GUEST64(adds_flags, "addq $2, 8(%rsp)\n"
		    "push %rax\n"
		    "mov 32(%rsp), %eax\n"
		    "and $0x8c5, %eax\n" /* AF is not defined for all of them */
		    "rol $5, %r12d\n"
		    "add %eax, %r12d\n"
		    "pop %rax\n"
		    "add $8, %rsp\n"
		    "iretq\n");

/* --- system instructions that are translated --- */

/* User pages only between STAC and CLAC; the #PF behind them ends it. */
GUEST64(smap, REPEAT("stac\n"
		     "call smap + 0x15000\n"
		     "clac\n") "mov 0x26000, %eax\n"
			       "xor %eax, %eax\n"
			       "out %eax, $0xf4\n");
GUEST64(adds, "add 0x26000, %edx\n"
	      "ret\n");
GUEST64(page_fault, "mov %edx, %eax\n"
		    "out %eax, $0xf4\n");
/* User code with flags of all kinds; the kernel adds up what it sees, and returns others. */
GUEST64(calls_kernel, REPEAT("mov %ecx, %esi\n"
			     "mov %ecx, %eax\n"
			     "shl $30, %eax\n"
			     "add %ecx, %eax\n"
			     "syscall\n"
			     "sbb %eax, %eax\n"
			     "lea (%rbx, %rax), %rbx\n"
			     "mov %esi, %ecx\n"
			     "mov %cs, %eax\n"
			     "add %rax, %rbx\n") "mov %rbx, %rax\n"
						 "shr $32, %rax\n"
						 "add %ebx, %eax\n"
						 "out %eax, $0xf4\n");
GUEST64(kernel_entry, "mov $0x80000, %esp\n"
		      "pushfq\n"
		      "pop %rax\n"
		      "rol $3, %rbx\n"
		      "add %rax, %rbx\n"
		      "add %rcx, %rbx\n"
		      "add %r11, %rbx\n"
		      "mov %cs, %eax\n"
		      "add %rax, %rbx\n"
		      "mov %ss, %eax\n"
		      "add %rax, %rbx\n"
		      "xor $1, %r11d\n"
		      "sysretq\n");
/* Time goes on, from what was added to it. */
GUEST64(tsc, "xor %esi, %esi\n" REPEAT("rdtsc\n"
				       "shl $32, %rdx\n"
				       "or %rdx, %rax\n"
				       "cmp %rsi, %rax\n"
				       "jbe 2f\n"
				       "mov %rax, %rsi\n") "shr $60, %rax\n"
							   "out %eax, $0xf4\n"
							   "2: mov $99, %eax\n"
							   "out %eax, $0xf4\n");

static void load(struct vm *vm, uint64_t gpa, const unsigned char *from, const unsigned char *end)
{
	vm_load(vm, gpa, from, (size_t)(end - from));
}

/* As the first tables have the lowest 2 MiB, but for one page. */
static void second_space(struct vm *vm, uint64_t lin, uint64_t gpa)
{
	for (uint64_t level = 0; level < 3; level++)
		vm_put64(vm, TABLES + 0x1000 * level, (TABLES + 0x1000 * (level + 1)) | 7);
	for (uint64_t k = 0; k < 512; k++)
		vm_put64(vm, TABLES + 0x3000 + 8 * k,
			 k << 12 | (k == GUEST_CODE >> 12 ? 0x107 : 7));
	vm_put64(vm, TABLES + 0x3000 + 8 * (lin >> 12), gpa | 7);
}

static void set_up_bases(struct vm *vm)
{
	struct cpu c;

	vm_put64(vm, 0x5038, 0x00cf9b004000ffff); /* base 0x4000 */
	load(vm, 0x12000, one, one_end);
	load(vm, 0x16000, two, two_end);
	load(vm, 0x15000, other_base, other_base_end);
	vm_prot(vm, 0);
	vm_regs(vm, &c);
	c.gdtr.limit = 0x3f;
	vm_set(vm, 0, &c);
}

static void set_up_not_global(struct vm *vm)
{
	struct cpu c;

	second_space(vm, 0x25000, 0x22000);
	vm_put64(vm, GUEST_PT + 8 * (GUEST_CODE >> 12), GUEST_CODE | 0x107);
	load(vm, 0x25000, one, one_end);
	load(vm, 0x22000, two, two_end);
	vm_regs(vm, &c);
	c.cr4 |= CR4_PGE;
	vm_set(vm, 0, &c);
}

static void set_up_pages(struct vm *vm)
{
	second_space(vm, 0x25000, 0x22000);
	load(vm, 0x25000, one, one_end);
	load(vm, 0x22000, two, two_end);
}

static void set_up_twice(struct vm *vm)
{
	load(vm, 0x25000, hop, hop_end);
	vm_put64(vm, GUEST_PT + 8 * 0x2b, 0x25007);
	load(vm, 0x26000, one, one_end);
	load(vm, 0x2c000, two, two_end);
}

static void set_up_returns(struct vm *vm)
{
	load(vm, 0x25000, calls_rdi, calls_rdi_end);
	load(vm, 0x22000, calls_rdi_too, calls_rdi_too_end);
}

static void set_up_values(struct vm *vm)
{
	vm_put64(vm, GUEST_PT + 8 * 0x26, 0x22007);
	for (unsigned int k = 0; k < 3; k++) {
		vm_put64(vm, 0x70100 + 8 * k, 1u << k);
		vm_put64(vm, 0x22100 + 8 * k, 0x100u << k);
		vm_put64(vm, 0x26100 + 8 * k, 0x10000);
		vm_put64(vm, 0x74100 + 8 * k, 0x20000);
	}
}

static void set_up_spent(struct vm *vm)
{
	vm_put64(vm, GUEST_PT + 8 * 0x26, 0);
	load(vm, 0x20000, adds_flags, adds_flags_end);
	vm_gate64(vm, VEC_PF, 0x20000);
}

static void set_up_smap(struct vm *vm)
{
	struct cpu c;

	for (uint64_t k = 0; k < 512; k++)
		vm_put64(vm, GUEST_PT + 8 * k, k << 12 | (k == 0x26 ? 7 : 3));
	vm_put64(vm, 0x26000, 3);
	load(vm, 0x25000, adds, adds_end);
	load(vm, 0x20000, page_fault, page_fault_end);
	vm_gate64(vm, VEC_PF, 0x20000);
	vm_regs(vm, &c);
	c.cr4 |= CR4_SMAP;
	c.gpr[RDX] = 0;
	vm_set(vm, 0, &c);
}

static void set_up_syscall(struct vm *vm)
{
	struct cpu c;

	load(vm, 0x25000, kernel_entry, kernel_entry_end);
	vm_regs(vm, &c);
	c.efer |= EFER_SCE;
	c.star = UINT64_C(0x0013001000000000);
	c.lstar = 0x25000;
	c.sfmask = FL_IF | FL_ZF | FL_OF;
	c.rflags |= 3u << 12; /* IOPL */
	c.gpr[RBX] = 0;
	c.seg[SEG_CS].sel = 0x23;
	c.seg[SEG_CS].attr |= 3u << SEG_DPL_SHIFT;
	c.seg[SEG_SS].sel = 0x1b;
	c.seg[SEG_SS].attr |= 3u << SEG_DPL_SHIFT;
	vm_set(vm, 0, &c);
}

static void set_up_tsc(struct vm *vm)
{
	struct cpu c;

	vm_regs(vm, &c);
	c.tsc_offset = UINT64_C(5) << 60;
	vm_set(vm, 0, &c);
}

static void set_up_crossing(struct vm *vm)
{
	static const unsigned char code[] = {0x9c, 0x9d, 0xb8, 1, 0, 0, 0, 0xc3};

	vm_load(vm, 0x20ffc, code, sizeof(code));
}

static void set_up_pcid(struct vm *vm)
{
	struct cpu c;

	second_space(vm, 0x25000, 0x22000);
	vm_put64(vm, 0x25000, 1);
	vm_put64(vm, 0x22000, 2);
	vm_regs(vm, &c);
	c.cr4 |= CR4_PCIDE;
	c.cr3 = 0x1005;
	vm_set(vm, 0, &c);
}

static void set_up_far_jump(struct vm *vm)
{
	static const unsigned char jump[] = {0xe9, 0xff, 0xff, 0xff, 0x7f}; /* to 0x190000f84 */

	vm_put64(vm, 0x2000 + 8 * 2, 0xe007);
	vm_put64(vm, 0x2000 + 8 * 4, 0xc007);
	vm_put64(vm, 0x2000 + 8 * 6, 0xd007);
	vm_put64(vm, 0xc000 + 8 * 128, 0x400000 | 0x87);
	vm_put64(vm, 0xd000 + 8 * 128, 0x800000 | 0x87);
	vm_put64(vm, 0xe000 + 8 * 128, 0xa00000 | 0x87);
	vm_load(vm, 0x400f80, jump, sizeof(jump));
	load(vm, 0x800f84, two, two_end);
	load(vm, 0xa00f84, one, one_end);
}

static const struct {
	const char *name;
	const unsigned char *from, *end;
	void (*set_up)(struct vm *vm);
	uint64_t answer;
} programs[] = {
    {"call_over", call_over, call_over_end, NULL, 2000},
    {"same_place", same_place, same_place_end, NULL, 1000},
    {"two_bases", two_bases, two_bases_end, set_up_bases, 2},
    {"not_global", not_global, not_global_end, set_up_not_global, 2},
    {"crossing", crossing, crossing_end, set_up_crossing, 0x701},
    {"prefixes", prefixes, prefixes_end, NULL, 0},
    {"pcid_of_state", pcid_of_state, pcid_of_state_end, set_up_pcid, 2},
    {"far_jump", far_jump, far_jump_end, set_up_far_jump, 2},
    {"far_space", far_space, far_space_end, set_up_pages, 2},
    {"far_page", far_page, far_page_end, set_up_pages, 2},
    {"far_code", far_code, far_code_end, set_up_pages, 9},
    {"far_twice", far_twice, far_twice_end, set_up_twice, 150},
    {"return_page", return_page, return_page_end, set_up_returns, 2},
    {"return_code", return_code, return_code_end, set_up_returns, 9},
    {"return_other", return_other, return_other_end, NULL, 7},
    {"smap", smap, smap_end, set_up_smap, 150},
    {"calls_kernel", calls_kernel, calls_kernel_end, set_up_syscall, 0x3aa5ad0e},
    {"tsc", tsc, tsc_end, set_up_tsc, 5},
    {"home", home, home_end, NULL, 17},
    {"spent", spent, spent_end, set_up_spent, 0xe8f9f102},
    {"values", values, values_end, set_up_values, 50 * 0x1c18},
};

static void run(enum engine_kind kind, unsigned int n)
{
	struct vm vm = {0};
	struct err e = {0};
	char why[256];

	printf("%s, engine %d\n", programs[n].name, (int)kind);
	CHECK_EQ(gmem_new(64u << 20, 1u << 30, &vm.mem, &e), 0);
	CHECK_EQ(engine_new(kind, vm.mem, 1, &vm.en, why, &e), 0);
	engine_set_heat(vm.en, 1);
	CHECK_EQ(vcpu_new(vm.en, 0, &vm.v[0], &e), 0);
	vm.n = 1;
	vm_tables(&vm);
	load(&vm, GUEST_CODE, programs[n].from, programs[n].end);
	vm_long(&vm, 0);
	if (programs[n].set_up)
		programs[n].set_up(&vm);
	vm_expect(&vm, programs[n].answer);
	vm_free(&vm);
}

int main(void)
{
	struct err e = {0};
	char why[256];
	struct engine *en;
	struct gmem *mem;
	bool jit;

	CHECK_EQ(gmem_new(1u << 20, 1u << 30, &mem, &e), 0);
	jit = engine_new(ENGINE_JIT, mem, 1, &en, why, &e) == 0;
	if (jit)
		engine_free(en);
	gmem_free(mem);
	for (unsigned int n = 0; n < ARRAY_SIZE(programs); n++) {
		run(ENGINE_INTERP, n);
		if (jit)
			run(ENGINE_JIT, n);
		if (jit)
			run(ENGINE_LOCKSTEP, n);
	}
	return 0;
}
