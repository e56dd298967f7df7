/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random bytes as code, from random states in all modes: nothing may crash, hang or leave the
 * guest's memory.  Argument: number of runs (default small), then the first seed.
 */
#include "guest_vm.h"

#include "base/clock.h"

#include <pthread.h>
#include <stdatomic.h>

/* Loops without exits would never end: another thread kicks all the time. */
static _Atomic bool kicker_on;
static pthread_t kicker;

static void *kicker_main(void *arg)
{
	struct vm *vm = arg;

	while (kicker_on) {
		usleep(200);
		engine_kick(vm->v[0]);
	}
	return NULL;
}

static uint64_t rng;

static uint64_t rnd(void)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return rng;
}

/* Mostly addresses that mean something, so that memory operands hit. */
static uint64_t rnd_value(void)
{
	switch (rnd() % 8) {
	case 0:
		return rnd();
	case 1:
		return rnd() % 256;
	case 2:
		return GUEST_DATA + rnd() % 0x10000;
	case 3:
		return GUEST_RAM - 16 + rnd() % 32;
	case 4:
		return UINT64_MAX - rnd() % 64;
	case 5:
		return (rnd() % (GUEST_RAM >> 12) << 12) - 4 + rnd() % 8;
	case 6:
		return UINT64_C(0x7fffffffffff) - 8 + rnd() % 16;
	default:
		return GUEST_CODE + rnd() % 4096;
	}
}

/* Bytes that make more than one instruction in a row valid. */
static void rnd_code(uint8_t *p, size_t len)
{
	static const uint8_t common[] = {0x0f, 0x66, 0x48, 0xf3, 0xf2, 0xf0, 0x67, 0x64,
					 0x65, 0xc5, 0xc4, 0xa4, 0xaa, 0xa5, 0x6c, 0x6e,
					 0x8e, 0xcf, 0xcd, 0xff, 0x01, 0x22};

	if (rnd() % 4 == 0) { /* x87, MMX and SSE by themselves: other bytes soon end in a fault */
		for (size_t k = 0; k + 3 <= len; k += 3) {
			p[k] = rnd() % 2 ? 0x0f : 0xd8 | (uint8_t)(rnd() % 8);
			p[k + 1] =
			    p[k] == 0x0f ? 0x50 + (uint8_t)(rnd() % 0xb0) : 0xc0 | (uint8_t)rnd();
			p[k + 2] = p[k] == 0x0f ? 0xc0 | (uint8_t)rnd() : 0x90;
		}
		return;
	}
	for (size_t k = 0; k < len; k++)
		p[k] = rnd() % 3 ? (uint8_t)rnd() : common[rnd() % sizeof(common)];
}

/* Floating point as a guest may have set it up: exceptions pending and unmasked, NE or not. */
static void rnd_fpu(struct cpu *c)
{
	static const uint64_t xcr0[] = {XSTATE_X87, XSTATE_X87 | XSTATE_SSE,
					XSTATE_X87 | XSTATE_SSE | XSTATE_AVX};
	const uint64_t cr0 = CR0_NE | CR0_MP | CR0_ET | CR0_WP, rare = CR0_EM | CR0_TS;
	const uint64_t cr4 = CR4_OSFXSR | CR4_OSXSAVE | CR4_OSXMMEXCPT | CR4_TSD | CR4_DE;

	c->cr0 = (c->cr0 & ~cr0) | (rnd() & cr0);
	if (rnd() % 8 == 0)
		c->cr0 |= rnd() & rare;
	c->cr4 = (c->cr4 & ~cr4) | ((rnd() | rnd()) & cr4);
	c->xcr0 = xcr0[rnd() % 3];
	for (unsigned int k = 0; k < 8; k++)
		for (unsigned int b = 0; b < 10; b++)
			c->xs.st[k][b] = rnd() % 4 ? (uint8_t)rnd() : 0xff;
	for (unsigned int k = 0; k < 16; k++)
		for (unsigned int b = 0; b < 16; b++)
			c->xs.xmm[k][b] = c->xs.ymmh[k][b] = rnd() % 4 ? (uint8_t)rnd() : 0x7f;
	c->xs.fcw = rnd() % 4 ? (uint16_t)rnd() : 0x37f;
	c->xs.fsw = (uint16_t)rnd();
	c->xs.ftw = (uint8_t)rnd();
	c->xs.mxcsr = (uint32_t)(rnd() % 4 ? rnd() : 0x1f80);
}

/* What only one paging mode has: bits that others ignore. */
static void rnd_control(struct cpu *c)
{
	c->cr4 |= rnd() & (CR4_VME | CR4_PVI | CR4_PSE | CR4_MCE | CR4_PGE | CR4_PCE);
	if (c->efer & EFER_LMA)
		c->cr4 |= rnd() & CR4_PCIDE;
	if (rnd() % 4 == 0)
		c->efer |= EFER_SCE;
}

static void rnd_state(struct vm *vm)
{
	struct cpu c;

	switch (rnd() % 4) {
	case 0:
		vm_real(vm, 0);
		break;
	case 1:
		vm_prot(vm, 0);
		break;
	default:
		vm_long(vm, 0);
		break;
	}
	engine_get_state(vm->v[0], &c);
	for (unsigned int r = 0; r < 16; r++)
		c.gpr[r] = rnd_value();
	if (rnd() % 4)
		c.gpr[RSP] = GUEST_STACK - rnd() % 64;
	c.rflags = (rnd() & (FL_ARITH | FL_DF | FL_IF | FL_AC)) | FL_ONE;
	if (rnd() % 16 == 0)
		c.rflags |= FL_TF;
	if (rnd() % 16 == 0)
		c.dr7 = rnd() & 0xffff03ff;
	for (unsigned int k = 0; k < 4; k++)
		c.dr[k] = rnd_value() & 0xffffffff;
	if (rnd() % 4 == 0 && (c.cr0 & CR0_PE)) {
		c.seg[SEG_CS].attr |= 0x60;
		c.seg[SEG_SS].attr |= 0x60;
		c.seg[SEG_CS].sel |= 3;
		c.seg[SEG_SS].sel |= 3;
	}
	if (!(c.cr0 & CR0_PG) && (c.cr0 & CR0_PE) && rnd() % 4 == 0) {
		c.rflags |= FL_VM;
		for (unsigned int s = 0; s < SEG_COUNT; s++)
			c.seg[s] = vm_seg(0x1000, 0x10000, 0xffff, 0xf3);
		c.rip = 0;
	}
	if (rnd() % 2)
		c.cr4 |= CR4_SMAP | CR4_SMEP | CR4_UMIP | CR4_FSGSBASE;
	if (rnd() % 4 == 0)
		c.cr0 |= CR0_AM;
	if (rnd() % 2)
		rnd_fpu(&c);
	if (rnd() % 2)
		rnd_control(&c);
	if (rnd() % 8 == 0)
		c.rip = (c.rip | 0xfff) - rnd() % 16;
	vm_set(vm, 0, &c);
}

static void one_run(struct vm *vm, uint64_t seed)
{
	uint8_t code[512];
	unsigned int exits = 0;
	uint64_t until;

	rng = seed * UINT64_C(0x9e3779b97f4a7c15) | 1;
	rnd();
	vm_tables(vm);
	for (unsigned int k = 0; k < 8; k++) {
		rnd_code(code, sizeof(code));
		vm_load(vm, GUEST_CODE + k * sizeof(code), code, sizeof(code));
	}
	for (unsigned int k = 0; k < 32; k++) /* handlers: anywhere in the code */
		vm_gate64(vm, k, GUEST_CODE + rnd() % 4096);
	rnd_state(vm);
	until = clock_now() + 2 * NSEC_PER_MSEC;
	while (exits++ < 200 && clock_now() < until) {
		struct err e = {0};

		CHECK_EQ(engine_single_step(vm->v[0], rnd() % 4 == 0, &e), 0);
		engine_run(vm->v[0], &vm->x);
		vm->x.data = rnd();
		if (vm->x.reason == EXIT_ERROR)
			fprintf(stderr, "seed %" PRIu64 ": %s\n", seed, vm->x.err);
		CHECK(vm->x.reason != EXIT_ERROR);
		if (vm->x.reason == EXIT_SHUTDOWN)
			return;
		if (engine_irq_ready(vm->v[0]) && rnd() % 4 == 0)
			engine_interrupt(vm->v[0], (uint8_t)rnd());
		if (rnd() % 32 == 0)
			engine_nmi(vm->v[0]);
		if (vm->x.reason == EXIT_HLT && !engine_irq_ready(vm->v[0]))
			return;
	}
}

int main(int argc, char **argv)
{
	uint64_t runs = argc > 1 ? strtoull(argv[1], NULL, 0) : 2000;
	uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
	struct vm vm;

	vm_new(&vm, 1);
	kicker_on = true;
	CHECK_EQ(pthread_create(&kicker, NULL, kicker_main, &vm), 0);
	for (uint64_t k = 0; k < runs; k++) {
		if (getenv("FUZZ_VERBOSE"))
			fprintf(stderr, "seed %" PRIu64 "\n", seed + k);
		one_run(&vm, seed + k);
	}
	kicker_on = false;
	pthread_join(kicker, NULL);
	printf("%" PRIu64 " instructions\n", engine_insn_count(vm.v[0]));
	vm_free(&vm);
	return 0;
}
