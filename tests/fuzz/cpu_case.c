/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/fuzz/cpu_case.c - a fuzzer's input as a small machine, run exit by exit
 */
#include "cpu_case.h"

#include <pthread.h>
#include <stdatomic.h>
#include <x86intrin.h>

#define PD32      0x8000u /* two-level tables: 4 MiB pages */
#define PDPT_PAE  0x9000u
#define FREE_GDT  0x5038u /* eight descriptors of the input's choice */
#define RUNS_MAX  48
#define TICKS_MAX 3

enum { REAL, V86, PROT16, PROT32, PROT_2LEVEL, PROT_PAE, COMPAT, LONG, MODES };

enum cpu_option {
	OPT_STEP = 1,      /* each instruction by itself */
	OPT_NMI = 2,       /* one at the start */
	OPT_IRQ = 4,       /* an interrupt whenever one can be taken */
	OPT_BREAK = 8,     /* breakpoints */
	OPT_PAGE_END = 16, /* code ends at the end of a page */
	OPT_DIRTY = 32,    /* with the dirty log */
	OPT_SEGS = 64,     /* strange segments */
	OPT_HALTED = 128,
};

static _Atomic unsigned int ticks;
static struct cpu_case *cases[4];
static _Atomic unsigned int n_cases;
static pthread_t kicker_thread;
static _Atomic bool done;

static bool time_is_over(const struct cpu_case *c)
{
	return (int)(c->until - ticks) <= 0;
}

/* Loops without exits would never end. */
static void *kicker(void *arg)
{
	while (!done) {
		usleep(300);
		ticks++;
		for (unsigned int k = 0; k < n_cases; k++) {
			if (!cases[k]->undisturbed || time_is_over(cases[k]))
				engine_kick(cases[k]->vm.v[0]);
		}
	}
	return NULL;
}

/* A search for leaks at the end does not look where engines keep their pointers. */
static void free_cases(void)
{
	done = true;
	pthread_join(kicker_thread, NULL);
	for (unsigned int k = 0; k < n_cases; k++)
		vm_free(&cases[k]->vm);
}

void cpu_case_new(struct cpu_case *c, enum engine_kind kind)
{
	struct err e = {0};

	CHECK_EQ(gmem_new(CPU_CASE_RAM, 1u << 30, &c->vm.mem, &e), 0);
	c->vm.en = engine_for_test(kind, c->vm.mem, 1);
	CHECK_EQ(vcpu_new(c->vm.en, 0, &c->vm.v[0], &e), 0);
	c->vm.n = 1;
	engine_get_state(c->vm.v[0], &c->reset);
	CHECK(n_cases < ARRAY_SIZE(cases));
	cases[n_cases] = c;
	if (n_cases++ > 0)
		return;
	CHECK_EQ(pthread_create(&kicker_thread, NULL, kicker, NULL), 0);
	atexit(free_cases);
}

static uint64_t gpr_value(uint8_t kind, uint8_t v)
{
	switch (kind % 8) {
	case 0:
		return v;
	case 1:
		return GUEST_DATA + v * 16u;
	case 2:
		return CPU_CASE_RAM - 128 + v; /* its end, and MMIO behind */
	case 3:
		return UINT64_MAX - v;
	case 4:
		return UINT64_C(0x7fffffffff80) + v; /* the canonical border */
	case 5:
		return (uint64_t)v << 12 | ((0u - (kind >> 4)) & 0xfff); /* page ends */
	case 6:
		return 0xffffff80u + v;
	default:
		return v * UINT64_C(0x0101010101010101);
	}
}

static void fill_memory(struct vm *vm, const struct cpu_start *s, const uint8_t *data, size_t len)
{
	uint8_t *ram = gmem_ptr(vm->mem, 0, CPU_CASE_RAM);
	uint64_t code = GUEST_CODE + s->code_at;

	memset(ram, 0, CPU_CASE_RAM);
	vm_tables(vm);
	memcpy(ram + FREE_GDT, s->gdt, sizeof(s->gdt));
	store_le64(ram + PD32, 0xe7);
	store_le64(ram + PD32 + 4, 0x4000e7);
	for (uint64_t k = 0; k < 4; k++)
		store_le64(ram + PDPT_PAE + 8 * k, 0x3001);
	if (s->table_at)
		ram[GUEST_PT + s->table_at * 8 + (s->table_value & 7)] ^= s->table_value;
	if (s->options & OPT_PAGE_END)
		code = GUEST_CODE + 0x1000 - s->code_at % 24;
	memcpy(ram + GUEST_DATA, data, len);
	memcpy(ram + 0x500, data, MIN(len, (size_t)2048)); /* for 16-bit addresses */
	memcpy(ram + code, data, len);
	for (unsigned int k = 0; k < 48; k++) {
		uint64_t at = GUEST_CODE + (k * 37 + s->code_at) % 1024;

		if ((s->mode % MODES) >= COMPAT)
			vm_gate64(vm, k, at);
		else if ((s->mode % MODES) > V86)
			store_le64(ram + GUEST_IDT + 8 * k, (at & 0xffff) | 0x18u << 16 |
								UINT64_C(0x8e) << 40 |
								(at >> 16) << 48);
		else
			store_le32(ram + 4 * k, (uint32_t)(GUEST_CODE >> 4 << 16 | (at & 0xfff)));
	}
	gmem_dirty(vm->mem, 0, CPU_CASE_RAM);
}

static void flat_segments(struct cpu *c, uint32_t code_attr, unsigned int cpl)
{
	for (unsigned int s = 0; s < SEG_COUNT; s++)
		c->seg[s] = vm_seg(cpl == 3 ? 0x33 : 0x10, 0, UINT32_MAX, 0xc093 | cpl << 5);
	c->seg[SEG_CS] = vm_seg(cpl == 3 ? 0x2b : 8, 0, UINT32_MAX, code_attr | cpl << 5);
}

static void set_mode(struct cpu *c, const struct cpu_start *s)
{
	unsigned int cpl = s->cpl & 1 ? 3 : 0;

	c->cr0 = CR0_ET | CR0_NE;
	switch (s->mode % MODES) {
	case REAL:
	case V86:
		for (unsigned int k = 0; k < SEG_COUNT; k++)
			c->seg[k] = vm_seg(0, 0, 0xffff, s->mode % MODES == V86 ? 0xf3 : 0x93);
		c->seg[SEG_CS] = vm_seg(GUEST_CODE >> 4, GUEST_CODE, 0xffff,
					s->mode % MODES == V86 ? 0xf3 : 0x9b);
		c->idtr.base = 0;
		if (s->mode % MODES == V86) {
			c->cr0 |= CR0_PE;
			c->rflags |= FL_VM;
			c->idtr.base = GUEST_IDT;
		}
		return;
	case PROT16:
		flat_segments(c, 0x9b, cpl);
		break;
	case PROT32:
	case PROT_2LEVEL:
	case PROT_PAE:
		flat_segments(c, 0xc09b, cpl);
		break;
	case COMPAT:
		flat_segments(c, 0xc09b, cpl);
		break;
	default:
		flat_segments(c, 0xa09b, cpl);
		break;
	}
	c->cr0 |= CR0_PE;
	if (s->mode % MODES >= PROT_2LEVEL)
		c->cr0 |= CR0_PG;
	if (s->mode % MODES == PROT_2LEVEL) {
		c->cr3 = PD32;
		c->cr4 |= CR4_PSE;
	} else if (s->mode % MODES == PROT_PAE) {
		c->cr3 = PDPT_PAE;
		c->cr4 |= CR4_PAE;
		for (unsigned int k = 0; k < 4; k++)
			c->pdpte[k] = 0x3001;
	} else if (s->mode % MODES >= COMPAT) {
		c->cr3 = 0x1000;
		c->cr4 |= CR4_PAE;
		c->efer = EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE;
	}
}

static void set_state(struct cpu_case *cc)
{
	const struct cpu_start *s = &cc->start;
	struct cpu c = cc->reset;

	vm_common(&c, 0xc093, UINT32_MAX);
	c.gdtr.limit = 0x37 + 64;
	for (unsigned int r = 0; r < 16; r++)
		c.gpr[r] = gpr_value(s->gpr_kind[r], s->gpr_value[r]);
	if (s->gpr_kind[RSP] & 0x80)
		c.gpr[RSP] = s->mode % MODES <= V86 ? 0xff00 : GUEST_STACK;
	c.rflags = (s->rflags &
		    (FL_ARITH | FL_DF | FL_IF | FL_AC | FL_IOPL | FL_NT | FL_TF | FL_RF | FL_ID)) |
		   FL_ONE;
	c.cr4 = (s->cr4[0] | s->cr4[1] << 8 | (uint32_t)s->cr4[2] << 16) &
		(CR4_VME | CR4_PVI | CR4_TSD | CR4_DE | CR4_PGE | CR4_PCE | CR4_OSFXSR |
		 CR4_OSXMMEXCPT | CR4_UMIP | CR4_FSGSBASE | CR4_OSXSAVE | CR4_SMEP | CR4_SMAP);
	if (s->cr4[0] & 2)
		c.xcr0 = XSTATE_ALL;
	set_mode(&c, s);
	c.cr0 |= (s->cr0 & 1 ? CR0_WP : 0) | (s->cr0 & 2 ? CR0_AM : 0) | (s->cr0 & 4 ? CR0_TS : 0) |
		 (s->cr0 & 8 ? CR0_EM : 0) | (s->cr0 & 16 ? CR0_MP : 0);
	if (s->options & OPT_SEGS) {
		for (unsigned int k = 0; k < SEG_COUNT; k++) {
			if (k != SEG_CS && k != SEG_SS)
				c.seg[k] = vm_seg(s->seg_attr[k], s->seg_attr[k] * 64u,
						  s->seg_attr[k] * 32u, 0xf0f3 ^ s->seg_attr[k]);
		}
	}
	c.rip = c.seg[SEG_CS].base ? s->code_at : GUEST_CODE + s->code_at;
	if (s->options & OPT_PAGE_END)
		c.rip += 0x1000 - s->code_at % 24 - s->code_at;
	if (s->options & OPT_BREAK) {
		c.dr7 = (uint32_t)s->dr7[0] | (uint32_t)s->dr7[1] << 16 | 0x400;
		c.dr[0] = GUEST_CODE + s->code_at + 4;
		c.dr[1] = GUEST_DATA + 16;
	}
	memcpy(&c.xs.fcw, s->fpu, 2);
	c.xs.ftw = s->fpu[2];
	c.xs.mxcsr = load_le16(s->fpu + 4);
	vm_set(&cc->vm, 0, &c);
}

static void check_host(void)
{
	uint16_t env[14]; /* FNSTENV, 28 bytes */

	CHECK_EQ(_mm_getcsr() & 0xffc0, 0x1f80);
	__asm__ volatile("fnstenv %0\n\tfldenv %0" : "+m"(env));
	CHECK_EQ(env[0] & 0xf3f, 0x33f);
	CHECK_EQ(env[4], 0xffff);
	CHECK_EQ(__readeflags() & (FL_DF | FL_TF | FL_AC | FL_NT), 0);
}

/* What no processor shows between two instructions. */
static void check_state(struct vm *vm)
{
	struct cpu c;
	bool lma;

	engine_get_state(vm->v[0], &c);
	lma = c.efer & EFER_LMA;
	CHECK(c.rflags & FL_ONE);
	CHECK_EQ(c.rflags & ~UINT64_C(0x3f7fd7), 0);
	CHECK(!(c.cr0 & CR0_PG) || (c.cr0 & CR0_PE));
	CHECK_EQ(lma, (c.efer & EFER_LME) && (c.cr0 & CR0_PG));
	CHECK(!lma || (c.cr4 & CR4_PAE));
	CHECK(!lma || !(c.rflags & FL_VM));
	CHECK(c.cr0 & CR0_PE || !(c.rflags & FL_VM));
	CHECK(lma && (c.seg[SEG_CS].attr & SEG_L) ? true : c.rip <= UINT32_MAX);
	CHECK(!lma || (c.seg[SEG_CS].attr & (SEG_L | SEG_DB)) != (SEG_L | SEG_DB));
	CHECK(!(c.cr0 & CR0_PE) || (c.rflags & FL_VM) || cpu_cpl(&c) == (c.seg[SEG_CS].sel & 3u) ||
	      !(c.seg[SEG_CS].sel & 3));
	CHECK(c.xcr0 & XSTATE_X87);
	CHECK_EQ(c.xcr0 & ~(uint64_t)XSTATE_ALL, 0);
	CHECK_EQ(c.xs.mxcsr & ~0xffffu, 0);
	CHECK(c.mp_state <= CPU_HALTED);
	for (unsigned int s = 0; s < SEG_COUNT; s++) {
		if (s != SEG_FS && s != SEG_GS)
			CHECK(c.seg[s].base <= UINT32_MAX);
	}
	/* And it can be taken back, as from a snapshot. */
	vm_set(vm, 0, &c);
}

bool cpu_case_begin(struct cpu_case *c, const uint8_t *data, size_t size)
{
	struct cpu_start *s = &c->start;
	struct err e = {0};

	if (size < sizeof(*s) + 1)
		return false;
	memcpy(s, data, sizeof(*s));
	c->in = (struct fuzz_input){data + sizeof(*s), MIN(size - sizeof(*s), (size_t)0x1000)};
	fill_memory(&c->vm, s, c->in.data, c->in.len);
	set_state(c);
	if (s->options & OPT_DIRTY)
		CHECK_EQ(gmem_log_start(c->vm.mem, &e), 0);
	CHECK_EQ(engine_single_step(c->vm.v[0], s->options & OPT_STEP, &e), 0);
	if (s->options & OPT_NMI)
		engine_nmi(c->vm.v[0]);
	c->exits = 0;
	c->late = false;
	c->until = ticks + TICKS_MAX;
	c->vm.x = (struct vm_exit){0};
	return true;
}

bool cpu_case_run(struct cpu_case *c)
{
	enum exit_reason r;

	if (c->exits++ == RUNS_MAX)
		return false;
	do {
		engine_run(c->vm.v[0], &c->vm.x);
		r = c->vm.x.reason;
		c->late = time_is_over(c);
	} while (r == EXIT_KICK && !c->late);
	if (r == EXIT_ERROR)
		fprintf(stderr, "%s\n", c->vm.x.err);
	CHECK(r != EXIT_ERROR);
	return r != EXIT_SHUTDOWN && !c->late;
}

void cpu_case_serve(struct cpu_case *c)
{
	struct vcpu *v = c->vm.v[0];

	c->vm.x.data = fuzz_u8(&c->in) * UINT64_C(0x0101010101010101);
	if ((c->start.options & OPT_IRQ) && engine_irq_ready(v))
		engine_interrupt(v, (uint8_t)(32 + c->exits % 16));
	else if (c->vm.x.reason == EXIT_HLT)
		engine_nmi(v);
}

void cpu_case_end(struct cpu_case *c)
{
	check_host();
	check_state(&c->vm);
	if (c->start.options & OPT_DIRTY)
		gmem_log_stop(c->vm.mem);
}
