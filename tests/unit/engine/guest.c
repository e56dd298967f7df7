/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/engine/guest.c - a bare guest for tests of the interpreter's system half
 */
#include "guest.h"

#define RAM (4u << 20)

/* Descriptor bytes 5 and 6 as in struct cpu_segment's attr. */
#define CODE64(dpl) (0xa09bu | (dpl) << 5)
#define CODE32(dpl) (0xc09bu | (dpl) << 5)
#define DATA32(dpl) (0xc093u | (dpl) << 5)

void guest_put(struct guest *g, uint64_t pa, unsigned int size, uint64_t x)
{
	CHECK_EQ(gmem_write(g->mem, pa, &x, size), 0);
}

uint64_t guest_get(struct guest *g, uint64_t pa, unsigned int size)
{
	uint64_t x = 0;

	CHECK_EQ(gmem_read(g->mem, pa, &x, size), 0);
	return x;
}

uint64_t guest_slot(struct guest *g, unsigned int n, unsigned int size)
{
	return guest_get(g, g->c.seg[SEG_SS].base + g->c.gpr[RSP] + n * size, size);
}

uint64_t desc_make(uint32_t base, uint32_t limit, uint32_t attr)
{
	return (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 |
	       (uint64_t)(attr & 0xf0ff) << 40 | (uint64_t)(limit & 0xf0000) << 32 |
	       (uint64_t)(base & 0xff000000) << 32;
}

void guest_desc(struct guest *g, uint16_t sel, uint64_t raw)
{
	guest_put(g, GDT + (sel & ~7u), 8, raw);
}

struct cpu_segment guest_segment(struct guest *g, uint16_t sel)
{
	uint64_t d = guest_get(g, GDT + (sel & ~7u), 8);
	struct cpu_segment s = {
	    .sel = sel,
	    .base = ((d >> 16) & 0xffffff) | ((d >> 32) & 0xff000000),
	    .limit = (d & 0xffff) | ((d >> 32) & 0xf0000),
	    .attr = (d >> 40) & 0xf0ff,
	};

	if (s.attr & SEG_G)
		s.limit = s.limit << 12 | 0xfff;
	return s;
}

void guest_gate32(struct guest *g, unsigned int vector, uint16_t sel, uint32_t off, uint8_t type)
{
	guest_put(g, IDT + vector * 8, 8,
		  (off & 0xffff) | (uint64_t)sel << 16 | (uint64_t)type << 40 |
		      (uint64_t)(off >> 16) << 48);
}

void guest_gate64(struct guest *g, unsigned int vector, uint16_t sel, uint64_t off, uint8_t type,
		  unsigned int ist)
{
	guest_put(g, IDT + vector * 16, 8,
		  (off & 0xffff) | (uint64_t)sel << 16 | (uint64_t)ist << 32 |
		      (uint64_t)type << 40 | ((off >> 16) & 0xffff) << 48);
	guest_put(g, IDT + vector * 16 + 8, 8, off >> 32);
}

static void fill_gdt(struct guest *g)
{
	guest_desc(g, 0, 0);
	guest_desc(g, KCODE64, desc_make(0, 0xfffff, CODE64(0u)));
	guest_desc(g, KDATA, desc_make(0, 0xfffff, DATA32(0u)));
	guest_desc(g, UCODE32, desc_make(0, 0xfffff, CODE32(3u)));
	guest_desc(g, UDATA, desc_make(0, 0xfffff, DATA32(3u)));
	guest_desc(g, UCODE64, desc_make(0, 0xfffff, CODE64(3u)));
	guest_desc(g, KCODE32, desc_make(0, 0xfffff, CODE32(0u)));
	guest_desc(g, SEL_TSS, desc_make(TSS, 0x3ff, 0x89));
	guest_desc(g, SEL_TSS + 8, 0);
	guest_desc(g, SEL_LDT, desc_make(LDT, 0x3f, 0x82));
	guest_desc(g, SEL_LDT + 8, 0);
	guest_desc(g, SEL_TSS2, desc_make(TSS2, 0x67, 0xe9));
	guest_desc(g, SEL_GATE, 0);
	guest_desc(g, SEL_GATE + 8, 0);
	guest_desc(g, CONF32, desc_make(0, 0xfffff, CODE32(0u) | SEG_CONFORM));
	guest_desc(g, ABSENT, desc_make(0, 0xfffff, DATA32(3u) & ~SEG_P));
	guest_desc(g, SEL_TASK, (uint64_t)SEL_TSS2 << 16 | (uint64_t)0xe5 << 40);
	guest_desc(g, READONLY, desc_make(0, 0xfffff, DATA32(3u) & ~SEG_WRITE));
	guest_desc(g, KCODE16, desc_make(0, 0xffff, 0x9b));
	guest_desc(g, KDATA16, desc_make(0, 0xffff, 0x93));
	guest_desc(g, CODE1_32, desc_make(0, 0xfffff, CODE32(1u)));
	guest_desc(g, DATA1_32, desc_make(0, 0xfffff, DATA32(1u)));
}

static void fill_tables(struct guest *g)
{
	guest_put(g, TABLES, 8, (TABLES + 0x1000) | 7);
	guest_put(g, TABLES + 0x1000, 8, (TABLES + 0x2000) | 7);
	guest_put(g, TABLES + 0x2000, 8, PT | 7);
	guest_put(g, TABLES + 0x2008, 8, 0x200087);
	for (unsigned int i = 0; i < 512; i++)
		guest_put(g, PT + i * 8, 8, (uint64_t)i << 12 | 7);
}

static void fresh(struct guest *g)
{
	static const uint8_t zero[0x100000];
	struct cpu *c = &g->c;

	CHECK_EQ(gmem_load(g->mem, 0, zero, sizeof(zero)), 0);
	for (unsigned int i = 0; i < 256; i++)
		guest_put(g, HANDLERS + i * 16, 1, 0xf4);
	fill_gdt(g);
	fill_tables(g);
	cpu_reset(c, 0);
	c->rip = CODE;
	c->gdtr = (struct cpu_table){.base = GDT, .limit = GDT_SIZE - 1};
	c->cr0 = CR0_ET | CR0_NE;
	c->gpr[RSP] = STACK0;
}

static void flat_segments(struct guest *g, uint16_t code, unsigned int cpl)
{
	struct cpu *c = &g->c;
	uint16_t data = cpl == 3 ? UDATA | 3 : KDATA;

	for (unsigned int i = 0; i < SEG_COUNT; i++)
		c->seg[i] = guest_segment(g, data);
	c->seg[SEG_CS] = guest_segment(g, code);
	c->ldtr = (struct cpu_segment){.attr = SEG_UNUSABLE};
	c->tr = guest_segment(g, SEL_TSS);
	c->tr.attr |= 2;
	guest_desc(g, SEL_TSS, desc_make(TSS, 0x3ff, 0x8b));
	if (cpl == 3)
		c->gpr[RSP] = STACK3;
	guest_put(g, TSS + 0x66, 2, 0x3ff); /* I/O map outside the limit */
}

void guest_real(struct guest *g)
{
	struct cpu *c = &g->c;

	fresh(g);
	c->seg[SEG_CS] = (struct cpu_segment){.limit = 0xffff, .attr = 0x9b};
	c->idtr = (struct cpu_table){.base = IDT, .limit = 0x3ff};
	for (unsigned int i = 0; i < 256; i++)
		guest_put(g, IDT + i * 4, 4, HANDLERS + i * 16);
}

void guest_prot32(struct guest *g, unsigned int cpl)
{
	struct cpu *c = &g->c;

	fresh(g);
	c->cr0 |= CR0_PE;
	flat_segments(g, cpl == 3 ? UCODE32 | 3 : KCODE32, cpl);
	guest_put(g, TSS + 4, 4, STACK_IN);
	guest_put(g, TSS + 8, 4, KDATA);
	c->idtr = (struct cpu_table){.base = IDT, .limit = 0x7ff};
	for (unsigned int i = 0; i < 256; i++)
		guest_gate32(g, i, KCODE32, HANDLERS + i * 16, 0x8e);
}

void guest_page32(struct guest *g)
{
	guest_put(g, TABLES, 4, PT | 7);
	for (unsigned int i = 0; i < 1024; i++)
		guest_put(g, PT + i * 4, 4, i << 12 | 7);
	g->c.cr3 = TABLES;
	g->c.cr0 |= CR0_PG;
}

static void long_common(struct guest *g, uint16_t code, unsigned int cpl)
{
	struct cpu *c = &g->c;

	fresh(g);
	c->cr0 |= CR0_PE | CR0_PG | CR0_WP;
	c->cr4 = CR4_PAE;
	c->cr3 = TABLES;
	c->efer = EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE;
	flat_segments(g, code, cpl);
	guest_put(g, TSS + 4, 8, STACK_IN);
	guest_put(g, TSS + 36, 8, STACK_IST);
	c->idtr = (struct cpu_table){.base = IDT, .limit = 0xfff};
	for (unsigned int i = 0; i < 256; i++)
		guest_gate64(g, i, KCODE64, HANDLERS + i * 16, 0x8e, 0);
}

void guest_long(struct guest *g, unsigned int cpl)
{
	long_common(g, cpl == 3 ? UCODE64 | 3 : KCODE64, cpl);
}

void guest_compat(struct guest *g, unsigned int cpl)
{
	long_common(g, cpl == 3 ? UCODE32 | 3 : KCODE32, cpl);
}

void guest_v86(struct guest *g, unsigned int iopl)
{
	struct cpu *c = &g->c;

	guest_prot32(g, 0);
	c->rflags |= FL_VM | iopl << 12;
	for (unsigned int i = 0; i < SEG_COUNT; i++)
		c->seg[i] = (struct cpu_segment){.limit = 0xffff, .attr = 0xf3};
}

void guest_new(struct guest *g)
{
	struct err e = {0};

	memset(g, 0, sizeof(*g));
	CHECK_EQ(gmem_new(RAM, RAM, &g->mem, &e), 0);
	g->en = engine_for_test(engine_chosen(), g->mem, 1);
	CHECK_EQ(vcpu_new(g->en, 0, &g->v, &e), 0);
}

void guest_free(struct guest *g)
{
	vcpu_free(g->v);
	engine_free(g->en);
	gmem_free(g->mem);
}

void guest_load(struct guest *g, const uint8_t *code, const uint8_t *end)
{
	CHECK_EQ(gmem_write(g->mem, CODE, code, (size_t)(end - code)), 0);
}

void guest_run(struct guest *g)
{
	struct err e = {0};

	CHECK_EQ(engine_set_state(g->v, &g->c, &e), 0);
	g->x = (struct vm_exit){0};
	for (unsigned int i = 0; i < 1000; i++) {
		engine_run(g->v, &g->x);
		if (g->x.reason != EXIT_KICK)
			break;
	}
	engine_get_state(g->v, &g->c);
}

unsigned int guest_vector(const struct guest *g)
{
	uint64_t at = g->c.seg[SEG_CS].base + g->c.rip - 1 - HANDLERS;

	return at < 256 * 16 && at % 16 == 0 ? (unsigned int)(at / 16) : 256;
}
