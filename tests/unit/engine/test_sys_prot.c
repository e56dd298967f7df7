/* SPDX-License-Identifier: Apache-2.0 */
/* 16- and 32-bit modes: gates, call gates, tasks, virtual-8086 mode, PAE, segment loads. */
#include "guest.h"

static struct guest g;

/* --- real mode -----------------------------------------------------------------------------------
 */

GUEST_CODE(real_int, 16, "int $0x21");
GUEST_CODE(real_div, 16, "xor %ax, %ax; div %al");
GUEST_CODE(real_unreal, 16,
	   "lgdtl 0xc000; mov %cr0, %eax; or $1, %al; mov %eax, %cr0\n"
	   "mov $0x10, %bx; mov %bx, %ds; and $0xfe, %al; mov %eax, %cr0\n"
	   "xor %bx, %bx; mov %bx, %ds; mov $0x100000, %ebx; movl $0x55, (%ebx)\n"
	   "hlt");
GUEST_CODE(real_to_prot, 16, "mov %cr0, %eax; or $1, %al; mov %eax, %cr0; ljmpl $0x30, $0x9990");

static void test_real(void)
{
	guest_real(&g);
	g.c.rflags |= FL_IF | FL_TF;
	g.c.rflags &= ~(uint64_t)FL_TF;
	RUN(&g, real_int);
	CHECK_EQ(guest_vector(&g), 0x21);
	CHECK_EQ(guest_slot(&g, 0, 2), CODE + 2);
	CHECK_EQ(guest_slot(&g, 2, 2), FL_IF | FL_ONE);
	CHECK(!(g.c.rflags & FL_IF));
	CHECK_EQ(g.c.gpr[RSP], STACK0 - 6);
	guest_real(&g);
	RUN(&g, real_div);
	EXPECT_FAULT(&g, VEC_DE, 2, 2);
	guest_real(&g);
	guest_put(&g, DATA, 2, GDT_SIZE - 1);
	guest_put(&g, DATA + 2, 4, GDT);
	RUN(&g, real_unreal);
	EXPECT_HLT(&g);
	CHECK_EQ(guest_get(&g, 0x100000, 4), 0x55);
	guest_real(&g);
	RUN(&g, real_to_prot);
	CHECK_EQ(guest_vector(&g), 0x99);
	CHECK_EQ(g.c.seg[SEG_CS].sel, KCODE32);
}

/* --- faults, gates --- */

GUEST_CODE(ud32, 32, "nop; ud2");
GUEST_CODE(int80, 32, "int $0x80");
GUEST_CODE(load_absent, 32, "mov $0x78, %eax; mov %eax, %ds");
GUEST_CODE(load_beyond, 32, "mov $0x1000, %eax; mov %eax, %es");
GUEST_CODE(load_code, 32, "mov $0x10, %eax; mov %eax, %fs; mov $0x38, %eax; mov %eax, %fs");
GUEST_CODE(load_ss_ro, 32, "mov $0x88, %eax; mov %eax, %ss");
GUEST_CODE(load_ss_null, 32, "xor %eax, %eax; mov %eax, %ss");
GUEST_CODE(null_ds, 32, "xor %eax, %eax; mov %eax, %ds; mov (%eax), %ecx");
GUEST_CODE(hlt32, 32, "hlt");

static void test_faults(void)
{
	guest_prot32(&g, 0);
	RUN(&g, ud32);
	EXPECT_FAULT(&g, VEC_UD, 4, 1);
	CHECK_EQ(g.c.gpr[RSP], STACK0 - 12);
	CHECK_EQ(guest_slot(&g, 2, 4), FL_RF | FL_ONE);
	guest_prot32(&g, 3);
	RUN(&g, ud32);
	EXPECT_FAULT(&g, VEC_UD, 4, 1);
	CHECK_EQ(g.c.gpr[RSP], STACK_IN - 20);
	CHECK_EQ(guest_slot(&g, 3, 4), STACK3);
	CHECK_EQ(guest_slot(&g, 4, 4), UDATA | 3);
	guest_prot32(&g, 3);
	RUN(&g, int80);
	EXPECT_ERROR(&g, VEC_GP, 4, 0x80 * 8 + 2, 0);
	guest_prot32(&g, 0);
	guest_gate32(&g, VEC_UD, KCODE32, HANDLERS + 16 * VEC_UD, 0x86); /* 16-bit */
	RUN(&g, ud32);
	EXPECT_FAULT(&g, VEC_UD, 2, 1);
	CHECK_EQ(g.c.gpr[RSP], STACK0 - 6);
	guest_prot32(&g, 3);
	guest_gate32(&g, VEC_UD, CONF32, HANDLERS + 16 * VEC_UD, 0x8e);
	RUN(&g, ud32); /* conforming: stays at CPL 3, where HLT faults */
	CHECK_EQ(guest_vector(&g), VEC_GP);
	CHECK_EQ(guest_slot(&g, 2, 4), CONF32 | 3);

	guest_prot32(&g, 0);
	RUN(&g, load_absent);
	EXPECT_ERROR(&g, VEC_NP, 4, ABSENT, 5);
	guest_prot32(&g, 0);
	RUN(&g, load_beyond);
	EXPECT_ERROR(&g, VEC_GP, 4, 0x1000, 5);
	guest_prot32(&g, 0);
	RUN(&g, load_code);
	EXPECT_ERROR(&g, VEC_GP, 4, SEL_TSS, 12);
	guest_prot32(&g, 0);
	RUN(&g, load_ss_ro);
	EXPECT_ERROR(&g, VEC_GP, 4, READONLY, 5);
	guest_prot32(&g, 0);
	RUN(&g, load_ss_null);
	EXPECT_ERROR(&g, VEC_GP, 4, 0, 2);
	guest_prot32(&g, 0);
	RUN(&g, null_ds);
	EXPECT_ERROR(&g, VEC_GP, 4, 0, 4);
	guest_prot32(&g, 3); /* bad inner stack: #TS */
	guest_put(&g, TSS + 8, 4, UDATA);
	guest_gate32(&g, VEC_TS, SEL_TASK, 0, 0x85);
	RUN(&g, ud32);
	CHECK_EQ(g.x.reason, EXIT_SHUTDOWN); /* no task to save us */
}

/* --- call gates ----------------------------------------------------------------------------------
 */

GUEST_CODE(gate_params, 32, "pushl $0x11; pushl $0x22; lcall $0x60, $0");
GUEST_CODE(gate_ret, 32, "pushl $0x11; pushl $0x22; lcall $0x60, $0; mov $7, %eax; int $0x80");
GUEST_CODE(far_jmp, 32, "ljmp $0x73, $0x8100");
GUEST_CODE(lret8, 32, "lret $8");

static void set_gate(uint32_t off, uint16_t sel, unsigned int params, uint8_t type)
{
	guest_desc(&g, SEL_GATE,
		   (off & 0xffff) | (uint64_t)sel << 16 | (uint64_t)params << 32 |
		       (uint64_t)type << 40 | (uint64_t)(off >> 16) << 48);
}

static void test_call_gate(void)
{
	guest_prot32(&g, 3);
	set_gate(HANDLERS + 16 * 0x99, KCODE32, 2, 0xec);
	RUN(&g, gate_params);
	CHECK_EQ(guest_vector(&g), 0x99);
	CHECK_EQ(g.c.gpr[RSP], STACK_IN - 24);
	CHECK_EQ(guest_slot(&g, 0, 4), CODE + 11);
	CHECK_EQ(guest_slot(&g, 1, 4), UCODE32 | 3);
	CHECK_EQ(guest_slot(&g, 2, 4), 0x22);
	CHECK_EQ(guest_slot(&g, 3, 4), 0x11);
	CHECK_EQ(guest_slot(&g, 4, 4), STACK3 - 8);
	CHECK_EQ(guest_slot(&g, 5, 4), UDATA | 3);

	guest_prot32(&g, 3);
	set_gate(HANDLERS + 16 * 0x99, KCODE32, 2, 0xec);
	CHECK_EQ(gmem_write(g.mem, HANDLERS + 16 * 0x99, lret8, (size_t)(lret8_end - lret8)), 0);
	guest_gate32(&g, 0x80, KCODE32, HANDLERS + 16 * 0x80, 0xee);
	RUN(&g, gate_ret);
	CHECK_EQ(guest_vector(&g), 0x80);
	CHECK_EQ(g.c.gpr[RAX], 7);
	CHECK_EQ(guest_slot(&g, 3, 4), STACK3); /* parameters gone from both stacks */

	guest_prot32(&g, 3);
	set_gate(HANDLERS, KCODE32, 0, 0x6c); /* not present */
	RUN(&g, gate_params);
	EXPECT_ERROR(&g, VEC_NP, 4, SEL_GATE, 4);
	guest_prot32(&g, 3); /* conforming target: level stays */
	guest_put(&g, CODE + 0x100, 2, 0x0b0f);
	RUN(&g, far_jmp);
	EXPECT_FAULT(&g, VEC_UD, 4, 0x100);
	CHECK_EQ(guest_slot(&g, 1, 4), CONF32 | 3);
}

/* --- tasks --- */

GUEST_CODE(task_jmp, 32, "ljmp $0x58, $0");
GUEST_CODE(task_call, 32, "mov $0x1234, %ecx; lcall $0x58, $0; mov $0x77, %edx; hlt");
GUEST_CODE(task_gate, 32, "lcall $0x80, $0; hlt");
GUEST_CODE(do_iret, 32, "iret; hlt");

static void set_task(uint32_t eip, uint32_t cr3)
{
	guest_put(&g, TSS2 + 28, 4, cr3);
	guest_put(&g, TSS2 + 32, 4, eip);
	guest_put(&g, TSS2 + 36, 4, FL_ONE);
	guest_put(&g, TSS2 + 40, 4, 0xaaaa); /* EAX */
	guest_put(&g, TSS2 + 56, 4, 0x5000); /* ESP */
	for (unsigned int i = 0; i < 6; i++)
		guest_put(&g, TSS2 + 72 + i * 4, 4, i == SEG_CS ? KCODE32 : KDATA);
}

static void test_task(void)
{
	guest_prot32(&g, 0);
	set_task(HANDLERS + 16 * 0x99, 0);
	RUN(&g, task_jmp);
	CHECK_EQ(guest_vector(&g), 0x99);
	CHECK_EQ(g.c.gpr[RAX], 0xaaaa);
	CHECK_EQ(g.c.tr.sel, SEL_TSS2);
	CHECK(g.c.cr0 & CR0_TS);
	CHECK(!(g.c.rflags & FL_NT));
	CHECK_EQ(guest_get(&g, GDT + SEL_TSS + 5, 1), 0x89); /* old one free */
	CHECK_EQ(guest_get(&g, GDT + SEL_TSS2 + 5, 1), 0xeb);
	CHECK_EQ(guest_get(&g, TSS + 32, 4), CODE + 7);

	guest_prot32(&g, 0);
	set_task(0xb000, 0);
	CHECK_EQ(gmem_write(g.mem, 0xb000, do_iret, (size_t)(do_iret_end - do_iret)), 0);
	RUN(&g, task_call); /* there and back */
	EXPECT_HLT(&g);
	CHECK_EQ(g.c.gpr[RDX], 0x77);
	CHECK_EQ(g.c.gpr[RCX], 0x1234);
	CHECK_EQ(g.c.tr.sel, SEL_TSS);
	CHECK_EQ(guest_get(&g, TSS2, 2), SEL_TSS); /* link */
	CHECK_EQ(guest_get(&g, GDT + SEL_TSS + 5, 1), 0x8b);
	CHECK_EQ(guest_get(&g, GDT + SEL_TSS2 + 5, 1), 0xe9);
	CHECK(!(g.c.rflags & FL_NT));

	guest_prot32(&g, 3);
	set_task(HANDLERS + 16 * 0x99, 0);
	RUN(&g, task_gate);
	CHECK_EQ(guest_vector(&g), 0x99);
	CHECK(g.c.rflags & FL_NT);
	CHECK_EQ(cpu_cpl(&g.c), 0);

	/* #DF by a task gate, error code on the new stack. */
	guest_prot32(&g, 0);
	set_task(HANDLERS + 16 * 0x98, 0);
	guest_gate32(&g, VEC_DF, SEL_TSS2, 0, 0x85);
	guest_gate32(&g, VEC_GP, 0, 0, 0x8e);
	guest_put(&g, GDT + 0x78, 8, 0);
	RUN(&g, load_beyond);
	CHECK_EQ(guest_vector(&g), 0x98);
	CHECK_EQ(guest_slot(&g, 0, 4), 0);
	CHECK_EQ(guest_get(&g, TSS + 32, 4), CODE + 5);

	/* A bad segment is the new task's fault. */
	guest_prot32(&g, 0);
	set_task(0xb000, 0);
	guest_put(&g, TSS2 + 72 + SEG_DS * 4, 4, ABSENT);
	RUN(&g, task_jmp);
	CHECK_EQ(guest_vector(&g), VEC_NP);
	CHECK_EQ(guest_slot(&g, 0, 4), ABSENT);
	CHECK_EQ(guest_slot(&g, 1, 4), 0xb000);
	guest_prot32(&g, 0);
	guest_put(&g, GDT + SEL_TSS2 + 5, 1, 0xeb); /* busy */
	RUN(&g, task_jmp);
	EXPECT_ERROR(&g, VEC_GP, 4, SEL_TSS2, 0);
}

/* --- virtual-8086 mode --- */

GUEST_CODE(v86_int, 16, "int $0x21");
GUEST_CODE(v86_cli, 16, "cli; pushf; pop %ax; sti; pushf; pop %bx; ud2");
GUEST_CODE(iret_v86, 32,
	   "pushl $0; pushl $0; pushl $0; pushl $0x100; pushl $0; pushl $0x6000\n"
	   "pushl $0x23002; pushl $0xb00; pushl $0; iret");

static void test_v86(void)
{
	guest_prot32(&g, 0);
	guest_put(&g, 0xb000, 2, 0x0b0f); /* UD2 */
	RUN(&g, iret_v86);
	CHECK_EQ(guest_vector(&g), VEC_UD);
	CHECK_EQ(guest_slot(&g, 0, 4), 0);
	CHECK_EQ(guest_slot(&g, 1, 4), 0xb00);
	CHECK_EQ(guest_slot(&g, 2, 4), FL_VM | FL_RF | FL_IOPL | FL_ONE);
	CHECK_EQ(guest_slot(&g, 3, 4), 0x6000);
	CHECK_EQ(guest_slot(&g, 5, 4), 0x100); /* ES */
	CHECK(g.c.seg[SEG_ES].attr & SEG_UNUSABLE);
	CHECK_EQ(g.c.gpr[RSP], STACK_IN - 36);

	guest_v86(&g, 0);
	RUN(&g, v86_int); /* IOPL < 3 */
	EXPECT_ERROR(&g, VEC_GP, 4, 0, 0);
	guest_v86(&g, 3);
	guest_gate32(&g, 0x21, KCODE32, HANDLERS + 16 * 0x21, 0xee);
	RUN(&g, v86_int);
	EXPECT_FAULT(&g, 0x21, 4, 2);
	guest_v86(&g, 3);
	RUN(&g, v86_int);
	EXPECT_ERROR(&g, VEC_GP, 4, 0x21 * 8 + 2, 0);
	/* VME: the redirection bitmap is clear, so through the table at 0. */
	guest_v86(&g, 0);
	g.c.cr4 |= CR4_VME;
	g.c.rflags |= FL_VIF;
	guest_put(&g, TSS + 0x66, 2, 0x100);
	guest_put(&g, 0x21 * 4, 4, 0x0b000010);
	guest_put(&g, 0xb010, 2, 0x0b0f);
	RUN(&g, v86_int);
	CHECK_EQ(guest_vector(&g), VEC_UD);
	CHECK_EQ(guest_slot(&g, 1, 4), 0xb00);
	CHECK_EQ(guest_slot(&g, 3, 4), STACK0 - 6);
	CHECK_EQ(guest_get(&g, STACK0 - 2, 2), FL_IF | FL_IOPL | FL_ONE);
	CHECK_EQ(guest_get(&g, STACK0 - 6, 2), CODE + 2);
	guest_v86(&g, 0);
	g.c.cr4 |= CR4_VME;
	RUN(&g, v86_cli);
	CHECK_EQ(guest_vector(&g), VEC_UD);
	CHECK_EQ(g.c.gpr[RAX] & FL_IF, 0);
	CHECK_EQ(g.c.gpr[RBX] & FL_IF, FL_IF);
	CHECK_EQ(guest_slot(&g, 2, 4) & (FL_VIF | FL_IF), FL_VIF);
}

/* --- paging, ports --- */

GUEST_CODE(pae_bad, 32,
	   "mov $0x20, %eax; mov %eax, %cr4; mov $0x20000, %eax; mov %eax, %cr3\n"
	   "mov $0x80000011, %eax; mov %eax, %cr0");
GUEST_CODE(read_c000, 32, "mov 0xc000, %eax; hlt");
GUEST_CODE(port_in, 32, "mov $0x3f8, %edx; in %dx, %al; hlt");

static void test_paging(void)
{
	guest_prot32(&g, 0);
	guest_put(&g, TABLES, 8, (TABLES + 0x2000) | 7); /* reserved bits in a PDPTE */
	RUN(&g, pae_bad);
	EXPECT_ERROR(&g, VEC_GP, 4, 0, 21);
	guest_prot32(&g, 0);
	for (unsigned int i = 0; i < 4; i++)
		guest_put(&g, TABLES + i * 8, 8, (TABLES + 0x2000) | 1);
	guest_put(&g, PT + 0xc * 8, 8, 0);
	CHECK_EQ(gmem_write(g.mem, CODE + 24, read_c000, (size_t)(read_c000_end - read_c000)), 0);
	RUN(&g, pae_bad);
	EXPECT_ERROR(&g, VEC_PF, 4, 0, 24);
	CHECK_EQ(g.c.cr2, 0xc000);
	guest_prot32(&g, 3);
	guest_page32(&g);
	guest_put(&g, PT + 0xc * 4, 4, 0xc003);
	RUN(&g, read_c000);
	EXPECT_ERROR(&g, VEC_PF, 4, 5, 0);

	guest_prot32(&g, 3);
	RUN(&g, port_in);
	EXPECT_ERROR(&g, VEC_GP, 4, 0, 5);
	guest_prot32(&g, 3);
	guest_put(&g, TSS + 0x66, 2, 0x100);
	RUN(&g, port_in);
	CHECK_EQ(g.x.reason, EXIT_IO);
	CHECK_EQ(g.x.port, 0x3f8);
	guest_prot32(&g, 3);
	guest_put(&g, TSS + 0x66, 2, 0x100);
	guest_put(&g, TSS + 0x100 + 0x3f8 / 8, 1, 1);
	RUN(&g, port_in);
	EXPECT_ERROR(&g, VEC_GP, 4, 0, 5);
}

int main(void)
{
	guest_new(&g);
	test_real();
	test_faults();
	test_call_gate();
	test_task();
	test_v86();
	test_paging();
	guest_free(&g);
	return 0;
}
