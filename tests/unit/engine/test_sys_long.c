/* SPDX-License-Identifier: Apache-2.0 */
/* Long mode: gates, IST, IRET, SYSCALL, SMEP and SMAP, control registers, MSRs. */
#include "guest.h"

static struct guest g;

/* --- faults and gates --- */

GUEST_CODE(ud, 64, "nop; ud2");
GUEST_CODE(int80, 64, "int $0x80");
GUEST_CODE(int3_, 64, "int3");
GUEST_CODE(icebp, 64, "nop; .byte 0xf1");
GUEST_CODE(load_far, 64, "movabs $0x7ffffff000, %rax; mov (%rax), %rcx");
GUEST_CODE(load_noncanonical, 64, "movabs $0x8000000000000000, %rax; mov (%rax), %rcx");
GUEST_CODE(push_noncanonical, 64, "movabs $0x8000000000000000, %rsp; push %rax");
GUEST_CODE(hlt, 64, "hlt");

static void test_faults(void)
{
	guest_long(&g, 0);
	RUN(&g, ud);
	EXPECT_FAULT(&g, VEC_UD, 8, 1);
	CHECK_EQ(guest_slot(&g, 1, 8), KCODE64);
	CHECK_EQ(guest_slot(&g, 2, 8), FL_RF | FL_ONE);
	CHECK_EQ(guest_slot(&g, 3, 8), STACK0);
	CHECK_EQ(guest_slot(&g, 4, 8), KDATA);

	guest_long(&g, 0);
	RUN(&g, load_far);
	EXPECT_ERROR(&g, VEC_PF, 8, 0, 10);
	CHECK_EQ(g.c.cr2, 0x7ffffff000);
	guest_long(&g, 0);
	RUN(&g, load_noncanonical);
	EXPECT_ERROR(&g, VEC_GP, 8, 0, 10);
	guest_long(&g, 0);
	guest_gate64(&g, VEC_SS, KCODE64, HANDLERS + 16 * VEC_SS, 0x8e, 1);
	RUN(&g, push_noncanonical);
	EXPECT_ERROR(&g, VEC_SS, 8, 0, 10);
	CHECK_EQ(g.c.gpr[RSP], STACK_IST - 48);
}

static void test_privilege(void)
{
	guest_long(&g, 3);
	g.c.rflags |= FL_IF | FL_NT;
	RUN(&g, int80); /* DPL 0 */
	EXPECT_ERROR(&g, VEC_GP, 8, 0x80 * 8 + 2, 0);
	CHECK_EQ(g.c.gpr[RSP], STACK_IN - 48);
	CHECK_EQ(guest_slot(&g, 2, 8), UCODE64 | 3);
	CHECK_EQ(guest_slot(&g, 5, 8), UDATA | 3);
	CHECK_EQ(g.c.seg[SEG_SS].sel, 0);
	CHECK_EQ(cpu_cpl(&g.c), 0);
	CHECK_EQ(g.c.rflags & (FL_IF | FL_NT | FL_TF), 0);

	guest_long(&g, 3);
	g.c.rflags |= FL_IF;
	guest_gate64(&g, 0x80, KCODE64, HANDLERS + 16 * 0x80, 0xef, 0); /* trap gate */
	RUN(&g, int80);
	EXPECT_FAULT(&g, 0x80, 8, 2);
	CHECK(g.c.rflags & FL_IF);
	CHECK_EQ(guest_slot(&g, 2, 8), FL_IF | FL_ONE);

	guest_long(&g, 3);
	RUN(&g, int3_);
	EXPECT_ERROR(&g, VEC_GP, 8, VEC_BP * 8 + 2, 0);
	guest_long(&g, 3);
	RUN(&g, icebp); /* exempt from DPL */
	EXPECT_FAULT(&g, VEC_DB, 8, 2);
	guest_long(&g, 3);
	RUN(&g, hlt);
	EXPECT_ERROR(&g, VEC_GP, 8, 0, 0);

	guest_long(&g, 3);
	guest_gate64(&g, VEC_UD, KCODE64, HANDLERS + 16 * VEC_UD, 0x0e, 0); /* not present */
	RUN(&g, ud);
	EXPECT_ERROR(&g, VEC_NP, 8, VEC_UD * 8 + 2 + 1, 1);
	guest_long(&g, 3);
	guest_gate64(&g, VEC_UD, KCODE32, HANDLERS, 0x8e, 0); /* not 64-bit code */
	RUN(&g, ud);
	EXPECT_ERROR(&g, VEC_GP, 8, KCODE32 | 1, 1);
	guest_long(&g, 3);
	guest_gate64(&g, VEC_UD, 0, HANDLERS, 0x8e, 0);
	RUN(&g, ud);
	EXPECT_ERROR(&g, VEC_GP, 8, 1, 1);
}

static void test_double_fault(void)
{
	guest_long(&g, 0);
	guest_gate64(&g, VEC_PF, KCODE64, HANDLERS, 0, 0);
	RUN(&g, load_far); /* #PF, then #GP for its gate */
	EXPECT_ERROR(&g, VEC_DF, 8, 0, 10);
	guest_long(&g, 0);
	g.c.gpr[RSP] = 0x300000; /* not mapped: #PF while pushing */
	guest_put(&g, TABLES + 0x2008, 8, 0);
	guest_gate64(&g, VEC_DF, KCODE64, HANDLERS + 16 * VEC_DF, 0x8e, 1);
	RUN(&g, load_far);
	EXPECT_ERROR(&g, VEC_DF, 8, 0, 10);
	guest_long(&g, 0);
	g.c.idtr.limit = 0;
	RUN(&g, ud);
	CHECK_EQ(g.x.reason, EXIT_SHUTDOWN);
	/* Benign first: #UD then #NP. */
	guest_long(&g, 0);
	guest_gate64(&g, VEC_UD, KCODE64, HANDLERS, 0x0e, 0);
	RUN(&g, ud);
	EXPECT_ERROR(&g, VEC_NP, 8, VEC_UD * 8 + 3, 1);
}

/* --- IRET, far transfers --- */

GUEST_CODE(iret_user, 64,
	   "pushq $0x23; pushq $0x7800; pushq $0x202; pushq $0x2b; pushq $1f - iret_user + 0x8000\n"
	   "iretq\n"
	   "1: int $0x80");
GUEST_CODE(iret_compat, 64,
	   "pushq $0x23; pushq $0x7800; pushq $2; pushq $0x1b; pushq $1f - iret_compat + 0x8000\n"
	   "iretq\n"
	   ".code32\n"
	   "1: mov $0x12345678, %eax; dec %eax; int $0x80");
GUEST_CODE(iret_null_ss, 64,
	   "pushq $0; pushq $0x6f00; pushq $2; pushq $8; pushq $1f - iret_null_ss + 0x8000\n"
	   "iretq\n"
	   "1: hlt");
GUEST_CODE(iret_bad_rip, 64,
	   "pushq $0x23; pushq $0x7800; pushq $2; pushq $0x2b; movabs $0x800000000000, %rax\n"
	   "push %rax; iretq");
GUEST_CODE(iret_nt, 64, "iretq");
GUEST_CODE(call_gate64, 64, "lcall *(%rip)\n.long 0\n.word 0x63");
GUEST_CODE(retf_user, 64,
	   "pushq $0x23; pushq $0x7800; pushq $0x2b; pushq $1f - retf_user + 0x8000\n"
	   "lretq\n1: int $0x80");

static void test_iret(void)
{
	guest_long(&g, 0);
	guest_gate64(&g, 0x80, KCODE64, HANDLERS + 16 * 0x80, 0xee, 0);
	g.c.seg[SEG_DS] = guest_segment(&g, KDATA);
	g.c.seg[SEG_GS].base = 0x400000;
	RUN(&g, iret_user);
	CHECK_EQ(guest_vector(&g), 0x80);
	CHECK_EQ(guest_slot(&g, 1, 8), UCODE64 | 3);
	CHECK_EQ(guest_slot(&g, 2, 8), FL_IF | FL_ONE);
	CHECK_EQ(guest_slot(&g, 3, 8), 0x7800);
	CHECK(g.c.seg[SEG_DS].attr & SEG_UNUSABLE); /* privileged: dropped */
	CHECK_EQ(g.c.seg[SEG_GS].sel, 0);
	CHECK_EQ(g.c.seg[SEG_GS].base, 0x400000); /* set by MSR, outlives its selector */

	guest_long(&g, 0);
	guest_gate64(&g, 0x80, KCODE64, HANDLERS + 16 * 0x80, 0xee, 0);
	RUN(&g, iret_compat);
	CHECK_EQ(guest_vector(&g), 0x80);
	CHECK_EQ(guest_slot(&g, 1, 8), UCODE32 | 3);
	CHECK_EQ(g.c.gpr[RAX], 0x12345677);

	guest_long(&g, 0);
	RUN(&g, iret_null_ss);
	EXPECT_HLT(&g);
	CHECK_EQ(g.c.gpr[RSP], 0x6f00);
	CHECK(g.c.seg[SEG_SS].attr & SEG_UNUSABLE);
	guest_long(&g, 0);
	RUN(&g, iret_bad_rip);
	CHECK_EQ(guest_vector(&g), VEC_GP);
	CHECK_EQ(guest_slot(&g, 0, 8), 0);
	guest_long(&g, 0);
	g.c.rflags |= FL_NT;
	RUN(&g, iret_nt);
	EXPECT_ERROR(&g, VEC_GP, 8, 0, 0);
	guest_long(&g, 0);
	g.c.nmi_masked = 1;
	RUN(&g, iret_null_ss);
	CHECK_EQ(g.c.nmi_masked, 0);
	guest_long(&g, 0);
	guest_gate64(&g, 0x80, KCODE64, HANDLERS + 16 * 0x80, 0xee, 0);
	RUN(&g, retf_user);
	CHECK_EQ(guest_vector(&g), 0x80);
	CHECK_EQ(guest_slot(&g, 1, 8), UCODE64 | 3);
}

GUEST_CODE(far_compat, 64,
	   "ljmpl *ptr_far_compat(%rip)\n"
	   "ptr_far_compat: .long 1f - far_compat + 0x8000; .word 0x30\n"
	   "1: hlt");

/* A 64-bit stack pointer does not outlive the way to compatibility mode, even where nothing there
 * uses the stack: Linux's sigreturn selftest saw half of a kernel's address. */
static void test_compat_rsp(void)
{
	guest_long(&g, 0);
	g.c.gpr[RSP] = 0xffffff785aadc0de;
	g.c.gpr[RAX] = UINT64_MAX;
	RUN(&g, far_compat);
	EXPECT_HLT(&g);
	CHECK_EQ(g.c.seg[SEG_CS].sel, KCODE32);
	CHECK_EQ(g.c.gpr[RSP], 0x5aadc0de);
	CHECK_EQ(g.c.gpr[RAX], UINT64_MAX);
}

/* The step trap asks for TF at the end of INT, SYSCALL and SYSRET, at the start of others. */
GUEST_CODE(tf_icebp, 64, "mov %ss, %eax; mov %eax, %ss; .byte 0xf1");
GUEST_CODE(tf_hlt, 64, "hlt");
GUEST_CODE(tf_syscall, 64, "syscall");
GUEST_CODE(tf_sysret, 64, "sysretq");

#define SET_TF "mov %al, (%rdi); mov (%rsi), %al; pushf; orl $0x100, (%rsp); popf\n"
GUEST_CODE(tf_rep_movs, 64, SET_TF "rep movsb");
GUEST_CODE(tf_rep_stos, 64, SET_TF "rep stosb");

/* Elements copied in bulk had one trap for all of them: QEMU's test-i386 counts. */
static void expect_step_in_rep(unsigned int rip)
{
	CHECK_EQ(guest_vector(&g), VEC_DB);
	CHECK_EQ(guest_slot(&g, 0, 8), CODE + rip);
	CHECK_EQ(g.c.gpr[RCX], 2);
}

static void test_step_in_rep(void)
{
	for (int stos = 0; stos < 2; stos++) {
		guest_long(&g, 0);
		g.c.gpr[RCX] = 3;
		g.c.gpr[RSI] = 0x100000;
		g.c.gpr[RDI] = 0x101000;
		if (stos)
			RUN(&g, tf_rep_stos);
		else
			RUN(&g, tf_rep_movs);
		expect_step_in_rep(13);
	}
}

static void test_step(void)
{
	guest_long(&g, 3);
	g.c.rflags |= FL_TF;
	guest_gate64(&g, 0x80, KCODE64, HANDLERS + 16 * 0x80, 0xee, 0);
	RUN(&g, int80);
	EXPECT_FAULT(&g, 0x80, 8, 2);
	CHECK_EQ(guest_slot(&g, 2, 8), FL_TF | FL_ONE);
	guest_long(&g, 3);
	g.c.rflags |= FL_TF;
	g.c.lstar = HANDLERS + 16 * 0x55;
	g.c.star = (uint64_t)KCODE64 << 32;
	g.c.sfmask = FL_TF;
	RUN(&g, tf_syscall);
	CHECK_EQ(guest_vector(&g), 0x55);
	guest_long(&g, 0);
	g.c.star = (uint64_t)(UCODE32 | 3) << 48;
	g.c.gpr[RCX] = CODE + 0x100;
	g.c.gpr[R11] = FL_TF;
	RUN(&g, tf_sysret);
	EXPECT_FAULT(&g, VEC_DB, 8, 0x100);
	CHECK_EQ(g.c.dr6, 0xffff4ff0);
	guest_long(&g, 0);
	g.c.rflags |= FL_TF;
	RUN(&g, tf_hlt); /* the trap ends the halt */
	EXPECT_FAULT(&g, VEC_DB, 8, 1);
	guest_long(&g, 0);
	g.c.dr[0] = 0xc000;
	g.c.dr7 = 0xf0402;
	g.c.pending_dbg = 0;
	RUN(&g, tf_icebp);
	EXPECT_FAULT(&g, VEC_DB, 8, 5);
	CHECK_EQ(g.c.dr6, 0xffff0ff0);
}

static void set_gate64(uint64_t off, uint16_t sel, uint8_t type)
{
	guest_put(&g, GDT + SEL_GATE, 8,
		  (off & 0xffff) | (uint64_t)sel << 16 | (uint64_t)type << 40 |
		      ((off >> 16) & 0xffff) << 48);
	guest_put(&g, GDT + SEL_GATE + 8, 8, off >> 32);
}

static void test_call_gate(void)
{
	guest_long(&g, 3);
	set_gate64(HANDLERS + 16 * 0x99, KCODE64, 0xec);
	RUN(&g, call_gate64);
	CHECK_EQ(guest_vector(&g), 0x99);
	CHECK_EQ(g.c.gpr[RSP], STACK_IN - 32);
	CHECK_EQ(guest_slot(&g, 0, 8), CODE + 6);
	CHECK_EQ(guest_slot(&g, 1, 8), UCODE64 | 3);
	CHECK_EQ(guest_slot(&g, 2, 8), STACK3);
	CHECK_EQ(guest_slot(&g, 3, 8), UDATA | 3);
	guest_long(&g, 3);
	set_gate64(HANDLERS, KCODE64, 0x8c); /* DPL 0 */
	RUN(&g, call_gate64);
	EXPECT_ERROR(&g, VEC_GP, 8, SEL_GATE, 0);
	guest_long(&g, 3);
	set_gate64(HANDLERS, KCODE32, 0xec);
	RUN(&g, call_gate64);
	EXPECT_ERROR(&g, VEC_GP, 8, KCODE32, 0);
	guest_long(&g, 3);
	set_gate64(HANDLERS, KCODE64, 0xec);
	guest_put(&g, TSS + 4, 8, BIT(63)); /* RSP0 not canonical */
	guest_gate64(&g, VEC_SS, KCODE64, HANDLERS + 16 * VEC_SS, 0x8e, 1);
	RUN(&g, call_gate64);
	EXPECT_ERROR(&g, VEC_SS, 8, 0, 0);
}

/* --- system calls --- */

GUEST_CODE(do_syscall, 64, "syscall");
GUEST_CODE(do_syscall32, 32, ".byte 0x0f, 0x05");
GUEST_CODE(do_sysret, 64, "sysretq");
GUEST_CODE(do_sysret32, 64, "sysretl");
GUEST_CODE(do_sysenter, 64, "sysenter");

static void set_star(void)
{
	g.c.star = (uint64_t)(UCODE32 | 3) << 48 | (uint64_t)KCODE64 << 32;
	g.c.lstar = HANDLERS + 16 * 0x55;
	g.c.cstar = HANDLERS + 16 * 0x56;
	g.c.sfmask = FL_IF | FL_TF;
}

static void test_syscall(void)
{
	guest_long(&g, 3);
	set_star();
	g.c.rflags |= FL_IF | FL_DF;
	RUN(&g, do_syscall);
	CHECK_EQ(guest_vector(&g), 0x55);
	CHECK_EQ(g.c.gpr[RCX], CODE + 2);
	CHECK_EQ(g.c.gpr[R11], FL_IF | FL_DF | FL_ONE);
	CHECK_EQ(g.c.rflags & (FL_IF | FL_DF), FL_DF);
	CHECK_EQ(g.c.gpr[RSP], STACK3);
	CHECK_EQ(g.c.seg[SEG_CS].sel, KCODE64);
	CHECK_EQ(g.c.seg[SEG_SS].sel, KDATA);
	CHECK_EQ(cpu_cpl(&g.c), 0);
	guest_long(&g, 3);
	g.c.efer &= ~EFER_SCE;
	RUN(&g, do_syscall);
	EXPECT_FAULT(&g, VEC_UD, 8, 0);
	guest_compat(&g, 3);
	set_star();
	RUN(&g, do_syscall32);
	if (engine_cpu_model(g.en)->vendor == VENDOR_INTEL)
		EXPECT_FAULT(&g, VEC_UD, 8, 0);
	else
		CHECK_EQ(guest_vector(&g), 0x56);

	guest_long(&g, 0);
	set_star();
	guest_gate64(&g, VEC_UD, KCODE64, HANDLERS + 16 * VEC_UD, 0x8e, 0);
	g.c.gpr[RCX] = CODE + 0x100;
	g.c.gpr[R11] = FL_IF | FL_RF | FL_VM | FL_CF;
	guest_put(&g, CODE + 0x100, 2, 0x0b0f);
	RUN(&g, do_sysret);
	EXPECT_FAULT(&g, VEC_UD, 8, 0x100);
	CHECK_EQ(guest_slot(&g, 1, 8), UCODE64 | 3);
	CHECK_EQ(guest_slot(&g, 2, 8), FL_IF | FL_CF | FL_ONE | FL_RF);
	CHECK_EQ(guest_slot(&g, 4, 8), UDATA | 3);
	guest_long(&g, 0);
	set_star();
	g.c.gpr[RCX] = CODE + 0x100;
	guest_put(&g, CODE + 0x100, 2, 0x0b0f);
	RUN(&g, do_sysret32);
	EXPECT_FAULT(&g, VEC_UD, 8, 0x100);
	CHECK_EQ(guest_slot(&g, 1, 8), UCODE32 | 3);
	guest_long(&g, 3);
	RUN(&g, do_sysret);
	EXPECT_ERROR(&g, VEC_GP, 8, 0, 0);
	if (engine_cpu_model(g.en)->vendor == VENDOR_INTEL) {
		guest_long(&g, 0);
		set_star();
		g.c.gpr[RCX] = BIT(47);
		RUN(&g, do_sysret); /* at CPL 0 still */
		EXPECT_ERROR(&g, VEC_GP, 8, 0, 0);
		CHECK_EQ(guest_slot(&g, 2, 8), KCODE64);
	}
	guest_long(&g, 3);
	RUN(&g, do_sysenter);
	if (engine_cpu_model(g.en)->vendor == VENDOR_INTEL)
		EXPECT_ERROR(&g, VEC_GP, 8, 0, 0);
	else
		EXPECT_FAULT(&g, VEC_UD, 8, 0);
}

/* --- SMEP, SMAP ----------------------------------------------------------------------------------
 */

GUEST_CODE(read_c000, 64, "mov 0xc000, %eax; hlt");
GUEST_CODE(stac_read, 64, "stac; mov 0xc000, %eax; clac; mov 0xd000, %eax");
GUEST_CODE(jump_c000, 64, "mov $0xc000, %eax; jmp *%rax");

static void supervisor_but(uint64_t page)
{
	for (unsigned int i = 0; i < 512; i++)
		guest_put(&g, PT + i * 8, 8, (uint64_t)i << 12 | 3);
	guest_put(&g, PT + (page >> 12) * 8, 8, page | 7);
}

static void test_smap(void)
{
	guest_long(&g, 0);
	supervisor_but(0xc000);
	RUN(&g, read_c000);
	EXPECT_HLT(&g);
	guest_long(&g, 0);
	supervisor_but(0xc000);
	g.c.cr4 |= CR4_SMAP | CR4_SMEP;
	RUN(&g, read_c000);
	EXPECT_ERROR(&g, VEC_PF, 8, 1, 0);
	guest_long(&g, 0);
	supervisor_but(0xc000);
	guest_put(&g, PT + 0xd * 8, 8, 0xd007);
	g.c.cr4 |= CR4_SMAP;
	RUN(&g, stac_read);
	EXPECT_ERROR(&g, VEC_PF, 8, 1, 13);
	CHECK_EQ(g.c.cr2, 0xd000);
	guest_long(&g, 0);
	supervisor_but(0xc000);
	g.c.cr4 |= CR4_SMEP;
	RUN(&g, jump_c000);
	CHECK_EQ(guest_vector(&g), VEC_PF);
	CHECK_EQ(guest_slot(&g, 0, 8), 0x11);
	CHECK_EQ(guest_slot(&g, 1, 8), 0xc000);
	guest_long(&g, 3);
	RUN(&g, stac_read);
	EXPECT_FAULT(&g, VEC_UD, 8, 0);
}

/* --- control registers, MSRs --- */

GUEST_CODE(cr0_bad, 64, "mov $0x80000000, %eax; mov %rax, %cr0"); /* PG without PE */
GUEST_CODE(cr4_bad, 64, "mov $0x21020, %eax; mov %rax, %cr4");    /* LA57 */
GUEST_CODE(cr3_bad, 64, "movabs $0x8000000000020000, %rax; mov %rax, %cr3");
GUEST_CODE(cr3_pcid, 64,
	   "mov $0x20020, %eax; mov %rax, %cr4\n"
	   "movabs $0x8000000000020005, %rax; mov %rax, %cr3; mov %cr3, %rbx; hlt");
GUEST_CODE(pge_toggle, 64,
	   "mov 0xc000, %eax; movq $0, 0x23060; mov %cr4, %rax; xor $0x80, %rax\n"
	   "mov %rax, %cr4; mov 0xc000, %eax");
GUEST_CODE(invlpg, 64,
	   "mov 0xc000, %eax; movq $0xd007, 0x23060; invlpg 0xc000; mov 0xc000, %eax; hlt");
GUEST_CODE(rdmsr, 64, "rdmsr; hlt");
GUEST_CODE(wrmsr, 64, "wrmsr; rdmsr; hlt");
GUEST_CODE(gs_bases, 64,
	   "mov $0x10020, %eax; mov %rax, %cr4; mov $0x1234, %ebx; wrgsbase %rbx\n"
	   "swapgs; rdgsbase %rcx; hlt");
GUEST_CODE(sgdt_user, 64, "sgdt 0xc000; ud2");
GUEST_CODE(rdtsc, 64, "rdtsc; hlt");
GUEST_CODE(dr_gd, 64, "mov $0x2400, %eax; mov %rax, %dr7; mov %dr0, %rcx");
GUEST_CODE(lar_lsl, 64,
	   "mov $0x2b, %ecx; lar %ecx, %eax; mov $0x2b, %ecx; lsl %ecx, %ebx\n"
	   "mov $0x78, %ecx; mov $7, %edx; verr %cx; setz %dl; mov $0x8b, %ecx; verw %cx\n"
	   "setz %dh; hlt");

static void test_control(void)
{
	guest_long(&g, 0);
	RUN(&g, cr0_bad);
	EXPECT_ERROR(&g, VEC_GP, 8, 0, 5);
	guest_long(&g, 0);
	RUN(&g, cr4_bad);
	EXPECT_ERROR(&g, VEC_GP, 8, 0, 5);
	guest_long(&g, 0);
	RUN(&g, cr3_bad);
	EXPECT_ERROR(&g, VEC_GP, 8, 0, 10);
	guest_long(&g, 0);
	RUN(&g, cr3_pcid);
	EXPECT_HLT(&g);
	CHECK_EQ(g.c.gpr[RBX], 0x20005);
	guest_long(&g, 0);
	g.c.cr4 |= CR4_PGE;
	guest_put(&g, PT + 0xc * 8, 8, 0xc107);
	RUN(&g, pge_toggle);
	CHECK_EQ(guest_vector(&g), VEC_PF);
	CHECK_EQ(g.c.cr2, 0xc000);
	guest_long(&g, 0);
	guest_put(&g, 0xc000, 4, 1);
	guest_put(&g, 0xd000, 4, 2);
	RUN(&g, invlpg);
	EXPECT_HLT(&g);
	CHECK_EQ(g.c.gpr[RAX], 2);
	guest_long(&g, 0);
	g.c.kernel_gs_base = 0x777;
	RUN(&g, gs_bases);
	EXPECT_HLT(&g);
	CHECK_EQ(g.c.gpr[RCX], 0x777);
	CHECK_EQ(g.c.kernel_gs_base, 0x1234);
	guest_long(&g, 3);
	RUN(&g, sgdt_user);
	CHECK_EQ(guest_vector(&g), VEC_UD);
	CHECK_EQ(guest_get(&g, DATA + 2, 8), GDT);
}

static void msr_case(uint32_t msr, uint64_t x, bool ok, uint64_t back)
{
	guest_long(&g, 0);
	g.c.gpr[RCX] = msr;
	g.c.gpr[RAX] = (uint32_t)x;
	g.c.gpr[RDX] = x >> 32;
	RUN(&g, wrmsr);
	if (!ok) {
		EXPECT_ERROR(&g, VEC_GP, 8, 0, 0);
		return;
	}
	EXPECT_HLT(&g);
	CHECK_EQ(g.c.gpr[RAX] | g.c.gpr[RDX] << 32, back);
}

static void test_msr(void)
{
	msr_case(0xc0000082, 0x123456789, true, 0x123456789);
	msr_case(0xc0000082, BIT(47), false, 0);
	msr_case(0xc0000080, EFER_NXE | EFER_LME | EFER_SCE, true,
		 EFER_NXE | EFER_LME | EFER_SCE | EFER_LMA);
	msr_case(0xc0000080, EFER_NXE | EFER_SCE, false, 0); /* LME while paging */
	msr_case(0xc0000080, EFER_LME | BIT(1), false, 0);
	msr_case(0x277, 0x0007010600070106, true, 0x0007010600070106);
	msr_case(0x277, 0x0007010600070102, false, 0);
	msr_case(0x2ff, 0xc06, true, 0xc06);
	msr_case(0x2ff, 0xc02, false, 0);
	msr_case(0x200, 0x80000006, true, 0x80000006);
	msr_case(0x201, BIT(CPU_PHYS_BITS), false, 0);
	msr_case(0x26f, 0x0606060606060606, true, 0x0606060606060606);
	msr_case(0xc0000103, 5, true, 5);
	msr_case(0xc0000103, BIT(32), false, 0);
	msr_case(0x12345678, 0, false, 0);
	msr_case(0x401, 1, false, 0);
	msr_case(0x3b, 1000, true, 1000);
	guest_long(&g, 0);
	g.c.gpr[RCX] = 0x4b564d01;
	g.c.gpr[RAX] = DATA | 1;
	g.c.gpr[RDX] = 0;
	RUN(&g, wrmsr);
	EXPECT_HLT(&g);
	CHECK(guest_get(&g, DATA, 4) != 0);
	CHECK_EQ(guest_get(&g, DATA, 4) & 1, 0);
	CHECK_EQ(guest_get(&g, DATA + 29, 1), 1);
	/* The local APIC's registers are someone else's. */
	guest_long(&g, 0);
	g.c.gpr[RCX] = 0x802;
	RUN(&g, rdmsr);
	CHECK_EQ(g.x.reason, EXIT_MSR);
	CHECK_EQ(g.x.msr, 0x802);
	g.x.data = 0x1122334455;
	engine_run(g.v, &g.x);
	CHECK_EQ(g.x.reason, EXIT_HLT);
	engine_get_state(g.v, &g.c);
	CHECK_EQ(g.c.gpr[RAX], 0x22334455);
	CHECK_EQ(g.c.gpr[RDX], 0x11);
}

static void test_misc(void)
{
	guest_long(&g, 3);
	g.c.cr4 |= CR4_UMIP;
	RUN(&g, sgdt_user);
	EXPECT_ERROR(&g, VEC_GP, 8, 0, 0);
	guest_long(&g, 3);
	g.c.cr4 |= CR4_TSD;
	RUN(&g, rdtsc);
	EXPECT_ERROR(&g, VEC_GP, 8, 0, 0);
	guest_long(&g, 0);
	RUN(&g, dr_gd);
	EXPECT_FAULT(&g, VEC_DB, 8, 8);
	CHECK(g.c.dr6 & BIT(13));
	CHECK(!(g.c.dr7 & BIT(13)));
	guest_long(&g, 0);
	RUN(&g, lar_lsl);
	EXPECT_HLT(&g);
	CHECK_EQ(g.c.gpr[RAX], 0x00affb00);
	CHECK_EQ(g.c.gpr[RBX], 0xffffffff);
	CHECK_EQ(g.c.gpr[RDX], 1); /* VERR does not look at P; VERW of a read-only one */
}

int main(void)
{
	guest_new(&g);
	test_faults();
	test_privilege();
	test_double_fault();
	test_iret();
	test_compat_rsp();
	test_step_in_rep();
	test_step();
	test_call_gate();
	test_syscall();
	test_smap();
	test_control();
	test_msr();
	test_misc();
	guest_free(&g);
	return 0;
}
