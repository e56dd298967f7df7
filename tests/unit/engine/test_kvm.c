/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/engine/test_kvm.c - the KVM engine on small guests; skipped where /dev/kvm is missing
 *
 * Right on any KVM, also one that emulates guest kernel code: nothing here depends on speed.
 */
#include "engine/engine.h"
#include "test.h"

#include <fcntl.h>
#include <pthread.h>

#define LOAD_AT 0x1000u
#define IDT_AT  0x3000u

/* 32-bit flat protected mode; loaded at LOAD_AT. */
__asm__(".pushsection .rodata\n"
	".code32\n"
	"guest_start:\n"
	/* ports, one by one and strings */
	"	movb $0x5a, %al\n"
	"	outb %al, $0x80\n"
	"	inb $0x81, %al\n"
	"	movb %al, 0x2000\n"
	"	movl $0x2010, %edi\n"
	"	movl $3, %ecx\n"
	"	movw $0x82, %dx\n"
	"	cld\n"
	"	rep insb\n"
	"	movl $0x2010, %esi\n"
	"	movl $3, %ecx\n"
	"	movw $0x83, %dx\n"
	"	rep outsb\n"
	/* read-modify-write of MMIO */
	"	movl $0x11223344, 0xd0000000\n"
	"	addl $1, 0xd0000004\n"
	/* an interrupt through the local APIC */
	"	movl $0x1ff, 0xfee000f0\n"
	"	lidt idt_pointer - guest_start + 0x1000\n"
	"	sti\n"
	"	outb %al, $0x84\n"
	"wait_here:\n"
	"	hlt\n"
	"	jmp wait_here\n"
	"on_interrupt:\n"
	"	outb %al, $0x85\n"
	"	movl $0, 0xfee000b0\n" /* EOI */
	"	outb %al, $0x86\n"
	"	cli\n"
	"spin:	jmp spin\n"
	"idt_pointer:\n"
	"	.word 0x7ff\n"
	"	.long 0x3000\n"
	"guest_end:\n"
	".code64\n"
	".popsection\n");
extern const uint8_t guest_start[], guest_end[], on_interrupt[];

static struct vcpu *cpu;

static void next_exit(struct vm_exit *x)
{
	engine_run(cpu, x);
	if (x->reason == EXIT_ERROR)
		fprintf(stderr, "%s\n", x->err);
}

static void expect_io(struct vm_exit *x, uint16_t port, bool write)
{
	next_exit(x);
	CHECK_EQ(x->reason, EXIT_IO);
	CHECK_EQ(x->port, port);
	CHECK_EQ(x->write, write);
}

static void flat_protected(struct cpu *c)
{
	c->cr0 = CR0_PE | CR0_ET | CR0_NE;
	for (unsigned int i = 0; i < SEG_COUNT; i++) {
		c->seg[i] = (struct cpu_segment){
		    .limit = ~0u,
		    .sel = i == SEG_CS ? 8 : 16,
		    .attr = SEG_P | SEG_S | SEG_DB | SEG_G | (i == SEG_CS ? 0xb : 0x3),
		};
	}
	c->rip = LOAD_AT;
	c->gpr[RSP] = 0x8000;
}

static void load(struct gmem *m)
{
	uint32_t handler = LOAD_AT + (uint32_t)(on_interrupt - guest_start);
	uint8_t gate[8] = {handler & 0xff,       handler >> 8 & 0xff, 8, 0, 0, 0x8e,
			   handler >> 16 & 0xff, handler >> 24};
	uint64_t gdt[3] = {0, 0x00cf9b000000ffff, 0x00cf93000000ffff};

	CHECK_EQ(gmem_write(m, LOAD_AT, guest_start, (size_t)(guest_end - guest_start)), 0);
	CHECK_EQ(gmem_write(m, IDT_AT + 0x40 * 8, gate, 8), 0);
	CHECK_EQ(gmem_write(m, 0x4000, gdt, sizeof(gdt)), 0);
}

static void test_access(struct gmem *m)
{
	static const uint8_t in[3] = {0xa1, 0xa2, 0xa3};
	struct vm_exit x = {0};
	uint8_t byte;

	expect_io(&x, 0x80, true);
	CHECK_EQ(x.data, 0x5a);
	expect_io(&x, 0x81, false);
	x.data = 0x77;
	for (unsigned int i = 0; i < 3; i++) {
		expect_io(&x, 0x82, false);
		x.data = in[i];
	}
	for (unsigned int i = 0; i < 3; i++) {
		expect_io(&x, 0x83, true);
		CHECK_EQ(x.data, in[i]);
	}
	CHECK_EQ(gmem_read(m, 0x2000, &byte, 1), 0);
	CHECK_EQ(byte, 0x77);

	next_exit(&x);
	CHECK_EQ(x.reason, EXIT_MMIO);
	CHECK(x.write && x.size == 4);
	CHECK_EQ(x.gpa, 0xd0000000);
	CHECK_EQ(x.data, 0x11223344);
	next_exit(&x);
	CHECK_EQ(x.reason, EXIT_MMIO);
	CHECK(!x.write);
	CHECK_EQ(x.gpa, 0xd0000004);
	x.data = 41;
	next_exit(&x);
	CHECK_EQ(x.reason, EXIT_MMIO);
	CHECK(x.write);
	CHECK_EQ(x.data, 42);
}

/* A level-triggered message while the CPU sleeps; its EOI must come out. */
static void test_interrupt(struct engine *en)
{
	uint64_t vectors[4] = {0, BIT(0), 0, 0}; /* 0x40 */
	struct vm_exit x = {0};
	bool eoi = false;

	engine_eoi_exits(en, vectors);
	expect_io(&x, 0x84, true);
	CHECK_EQ(engine_msi(en, 0xfee00000, 0x40 | 1u << 14 | 1u << 15), 0);
	expect_io(&x, 0x85, true);
	do {
		next_exit(&x);
		eoi |= x.reason == EXIT_EOI && x.vector == 0x40;
	} while (x.reason == EXIT_EOI);
	CHECK(eoi);
	CHECK_EQ(x.reason, EXIT_IO);
	CHECK_EQ(x.port, 0x86);
}

static void *kicker(void *arg)
{
	usleep(20000);
	engine_kick(cpu);
	return NULL;
}

static void test_kick(void)
{
	struct vm_exit x = {0};
	pthread_t t;

	pthread_create(&t, NULL, kicker, NULL);
	next_exit(&x); /* the guest spins: only the kick ends this */
	CHECK_EQ(x.reason, EXIT_KICK);
	pthread_join(t, NULL);
	engine_kick(cpu); /* before the run: not lost */
	next_exit(&x);
	CHECK_EQ(x.reason, EXIT_KICK);
}

static void test_state(void)
{
	struct cpu a, b;
	struct strbuf s = {0};
	struct err e = {0};
	size_t used;

	engine_get_state(cpu, &a);
	a.gpr[R15] = 0x0123456789abcdef;
	a.xs.xmm[7][3] = 0x5c;
	a.lstar = 0xffffffff81000000;
	a.dr[1] = 0x1234;
	CHECK_EQ(engine_set_state(cpu, &a, &e), 0);
	engine_get_state(cpu, &b);
	b.tsc_offset = a.tsc_offset; /* read at another instant */
	state_save(&cpu_state_table, &b, &s);
	memset(&b, 0, sizeof(b));
	CHECK_EQ(state_load(&cpu_state_table, &b, s.data, s.len, &used, &e), 0);
	CHECK(memcmp(a.gpr, b.gpr, sizeof(a.gpr)) == 0);
	CHECK(memcmp(a.seg, b.seg, sizeof(a.seg)) == 0);
	CHECK(memcmp(&a.xs, &b.xs, sizeof(a.xs)) == 0);
	CHECK_EQ(b.lstar, a.lstar);
	CHECK_EQ(b.dr[1], 0x1234);
	CHECK_EQ(b.rip, a.rip);
	CHECK_EQ(b.cr0, a.cr0);
	CHECK_EQ(b.rflags, a.rflags);
	strbuf_fini(&s);
}

int main(void)
{
	struct engine *en = NULL;
	struct gmem *m = NULL;
	struct err e = {0};
	char why[256];
	struct cpu c;

	if (access("/dev/kvm", R_OK | W_OK) < 0) {
		fprintf(stderr, "no /dev/kvm here\n");
		return TEST_SKIP;
	}
	CHECK_EQ(gmem_new(0x10000, 0x80000000, &m, &e), 0);
	load(m);
	if (engine_new(ENGINE_KVM, m, 1, &en, why, &e) < 0) {
		fprintf(stderr, "%s\n", e.msg);
		return TEST_SKIP;
	}
	if (vcpu_new(en, 0, &cpu, &e) < 0) {
		fprintf(stderr, "%s\n", e.msg);
		return 1;
	}
	engine_get_state(cpu, &c);
	CHECK_EQ(c.rip, 0xfff0);
	flat_protected(&c);
	c.gdtr = (struct cpu_table){.base = 0x4000, .limit = 23};
	if (engine_set_state(cpu, &c, &e) < 0) {
		fprintf(stderr, "%s\n", e.msg);
		return 1;
	}
	test_access(m);
	test_interrupt(en);
	test_kick();
	test_state();
	vcpu_free(cpu);
	engine_free(en);
	gmem_free(m);
	return 0;
}
