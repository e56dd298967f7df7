/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/engine/guest_vm.h - a small machine for guest programs: RAM, one or more vCPUs, no
 *devices
 *
 * Programs are written with GUEST() in the assembler, position-independent, and loaded at
 *GUEST_CODE. They report on port 0xe9 and stop by writing a status to port 0xf4.
 *
 *	0x1000 PML4 | 0x2000 PDPT | 0x3000 PD | 0x4000 PT of the first 2 MiB | 0x5000 GDT | 0x6000
 *IDT 0x7000 TSS | 0x10000 code | 0x70000 data | 0x90000 stack top | 2 MiB up: 2 MiB pages
 *
 * Everything is mapped to itself, writable, user-accessible.
 */
#pragma once

#include "engine_choice.h"

#define GUEST_CODE  0x10000u
#define GUEST_DATA  0x70000u
#define GUEST_STACK 0x90000u
#define GUEST_RAM   (16u << 20)
#define GUEST_PT    0x4000u
#define GUEST_IDT   0x6000u

#define GUEST_TEXT(name, directive, text)                                                          \
	extern const unsigned char name[], name##_end[];                                           \
	__asm__(".pushsection .rodata\n.balign 256\n" directive "\n" #name ":\n" text "\n" #name   \
		"_end:\n.code64\n.popsection\n")
#define GUEST64(name, text) GUEST_TEXT(name, ".code64", text)
#define GUEST32(name, text) GUEST_TEXT(name, ".code32", text)
#define GUEST16(name, text) GUEST_TEXT(name, ".code16", text)
#define VM_LOAD(vm, name)   vm_load(vm, GUEST_CODE, name, (size_t)(name##_end - name))

struct vm {
	struct gmem *mem;
	struct engine *en;
	struct vcpu *v[4];
	unsigned int n;
	struct vm_exit x;
	char out[256];
	unsigned int n_out;
};

static inline void vm_load(struct vm *vm, uint64_t gpa, const void *code, size_t len)
{
	CHECK_EQ(gmem_load(vm->mem, gpa, code, len), 0);
}

static inline void vm_put64(struct vm *vm, uint64_t gpa, uint64_t x)
{
	vm_load(vm, gpa, &x, 8);
}

static inline uint64_t vm_get64(struct vm *vm, uint64_t gpa)
{
	uint64_t x = 0;

	CHECK_EQ(gmem_read(vm->mem, gpa, &x, 8), 0);
	return x;
}

static inline void vm_tables(struct vm *vm)
{
	/* null, 64-bit code, data, 32-bit code, 16-bit code, 64-bit user code, user data */
	static const uint64_t gdt[] = {0,
				       0x00af9b000000ffff,
				       0x00cf93000000ffff,
				       0x00cf9b000000ffff,
				       0x00009b000000ffff,
				       0x00affb000000ffff,
				       0x00cff3000000ffff};

	vm_put64(vm, 0x1000, 0x2007);
	vm_put64(vm, 0x2000, 0x3007);
	vm_put64(vm, 0x3000, GUEST_PT | 7);
	for (uint64_t k = 1; k < 512; k++)
		vm_put64(vm, 0x3000 + 8 * k, (k << 21) | 0x87);
	for (uint64_t k = 0; k < 512; k++)
		vm_put64(vm, GUEST_PT + 8 * k, (k << 12) | 7);
	vm_load(vm, 0x5000, gdt, sizeof(gdt));
	vm_put64(vm, 0x7004, GUEST_STACK); /* RSP0 */
	vm_put64(vm, 0x7024, GUEST_STACK); /* IST1 */
}

static inline void vm_new(struct vm *vm, unsigned int n)
{
	struct err e = {0};

	memset(vm, 0, sizeof(*vm));
	CHECK_EQ(gmem_new(GUEST_RAM, 1u << 30, &vm->mem, &e), 0);
	vm->en = engine_for_test(engine_chosen(), vm->mem, n);
	for (vm->n = 0; vm->n < n; vm->n++)
		CHECK_EQ(vcpu_new(vm->en, vm->n, &vm->v[vm->n], &e), 0);
	vm_tables(vm);
}

static inline void vm_free(struct vm *vm)
{
	for (unsigned int k = 0; k < vm->n; k++)
		vcpu_free(vm->v[k]);
	engine_free(vm->en);
	gmem_free(vm->mem);
}

static inline struct cpu_segment vm_seg(uint16_t sel, uint64_t base, uint32_t limit, uint32_t attr)
{
	return (struct cpu_segment){.base = base, .limit = limit, .attr = attr, .sel = sel};
}

/* All but CS; RIP and RSP are set. */
static inline void vm_common(struct cpu *c, uint32_t data_attr, uint32_t limit)
{
	for (unsigned int s = 0; s < SEG_COUNT; s++)
		c->seg[s] = vm_seg(0x10, 0, limit, data_attr);
	c->gdtr.base = 0x5000;
	c->gdtr.limit = 0x37;
	c->idtr.base = GUEST_IDT;
	c->idtr.limit = 0xfff;
	c->tr = vm_seg(0x38, 0x7000, 0x67, 0x8b);
	c->rip = GUEST_CODE;
	c->gpr[RSP] = GUEST_STACK;
	c->rflags = FL_ONE;
	c->mp_state = CPU_RUNNABLE;
}

static inline void vm_set(struct vm *vm, unsigned int n, const struct cpu *c)
{
	struct err e = {0};

	CHECK_EQ(engine_set_state(vm->v[n], c, &e), 0);
}

static inline void vm_long(struct vm *vm, unsigned int n)
{
	struct cpu c;

	engine_get_state(vm->v[n], &c);
	vm_common(&c, 0xc093, UINT32_MAX);
	c.seg[SEG_CS] = vm_seg(8, 0, UINT32_MAX, 0xa09b);
	c.cr0 = CR0_PE | CR0_PG | CR0_NE | CR0_WP | CR0_ET;
	c.cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT;
	c.cr3 = 0x1000;
	c.efer = EFER_LME | EFER_LMA | EFER_NXE;
	vm_set(vm, n, &c);
}

static inline void vm_prot(struct vm *vm, unsigned int n)
{
	struct cpu c;

	engine_get_state(vm->v[n], &c);
	vm_common(&c, 0xc093, UINT32_MAX);
	c.seg[SEG_CS] = vm_seg(0x18, 0, UINT32_MAX, 0xc09b);
	c.cr0 = CR0_PE | CR0_NE | CR0_ET;
	vm_set(vm, n, &c);
}

static inline void vm_real(struct vm *vm, unsigned int n)
{
	struct cpu c;

	engine_get_state(vm->v[n], &c);
	vm_common(&c, 0x93, 0xffff);
	for (unsigned int s = 0; s < SEG_COUNT; s++)
		c.seg[s] = vm_seg(0, 0, 0xffff, 0x93);
	c.seg[SEG_CS] = vm_seg(GUEST_CODE >> 4, GUEST_CODE, 0xffff, 0x9b);
	c.rip = 0;
	c.gpr[RSP] = 0xfff0;
	c.idtr.base = 0;
	c.idtr.limit = 0x3ff;
	c.cr0 = CR0_ET | CR0_NE;
	vm_set(vm, n, &c);
}

/* 64-bit interrupt gate of @vector to @rip; always on the stack from the TSS. */
static inline void vm_gate64(struct vm *vm, unsigned int vector, uint64_t rip)
{
	vm_put64(vm, GUEST_IDT + 16 * vector,
		 (rip & 0xffff) | 8u << 16 | UINT64_C(0x8e01) << 32 | (rip >> 16 & 0xffff) << 48);
	vm_put64(vm, GUEST_IDT + 16 * vector + 8, rip >> 32);
}

/* Runs vCPU 0 until something but output on 0xe9 happens; the reason is in vm->x. */
static inline enum exit_reason vm_run(struct vm *vm)
{
	for (;;) {
		engine_run(vm->v[0], &vm->x);
		if (vm->x.reason != EXIT_IO || vm->x.port != 0xe9 || !vm->x.write)
			return vm->x.reason;
		if (vm->n_out < sizeof(vm->out) - 1)
			vm->out[vm->n_out++] = (char)vm->x.data;
	}
}

static inline void vm_regs(struct vm *vm, struct cpu *c)
{
	engine_get_state(vm->v[0], c);
}

/* Runs to the write to 0xf4 and checks the status. */
static inline void vm_expect(struct vm *vm, uint64_t status)
{
	struct cpu c;

	if (vm_run(vm) != EXIT_IO || vm->x.port != 0xf4) {
		vm_regs(vm, &c);
		fprintf(stderr, "exit %d at rip 0x%" PRIx64 " (%s)\n", vm->x.reason, c.rip,
			vm->x.err);
		exit(1);
	}
	CHECK_EQ(vm->x.data, status);
}
