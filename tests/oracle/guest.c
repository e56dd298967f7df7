/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/oracle/guest.c - runs cases in the interpreter: a tiny guest with the same linear addresses
 *
 * Long mode.  The window is mapped for CPL 3 as in the native child; one supervisor page of 2 MiB
 * in the upper half holds tables.  Every IDT gate leads to a HLT of its own, so that the exit says
 * which vector was delivered and the stack what with.
 *
 *	physical	0x01000 PML4   0x02000 PDPT low  0x03000 PDPT high  0x04000 PD low
 *			0x05000 PD high  0x06000 PT code  0x07000 PT data
 *			0x10000 CODE   0x12000 DATA (2 pages)
 *			0x30000 IDT    0x31000 handlers  0x32000 GDT  0x33000 TSS  0x40000 stack top
 */
#include "engine/engine.h"
#include "oracle.h"

#define KERNEL   UINT64_C(0xffff800000000000)
#define RAM_SIZE (UINT64_C(4) << 20)
#define IDT      0x30000u
#define HANDLER  0x31000u
#define GDT      0x32000u
#define TSS      0x33000u
#define STACK    0x40000u
#define P_CODE   0x10000u
#define P_DATA   0x12000u

struct guest {
	struct gmem *mem;
	struct engine *en;
	struct vcpu *v;
	struct cpu base; /* what does not change */
	uint8_t *code, *data, *kernel;
	uint16_t dirty_off, dirty_len;
};

static void put64(struct guest *g, uint32_t pa, uint64_t x)
{
	store_le64(g->kernel + pa, x);
}

static void make_tables(struct guest *g)
{
	put64(g, 0x1000, 0x2007);
	put64(g, 0x1000 + 256 * 8, 0x3003);
	put64(g, 0x2000, 0x4007);
	put64(g, 0x3000, 0x5003);
	put64(g, 0x4000 + (CODE >> 21 & 511) * 8, 0x6007);
	put64(g, 0x4000 + (DATA >> 21 & 511) * 8, 0x7007);
	put64(g, 0x5000, 0x83 | 0x60);
	put64(g, 0x6000 + (CODE >> 12 & 511) * 8, P_CODE | 0x25);
	put64(g, 0x7000 + (DATA >> 12 & 511) * 8, P_DATA | 0x67 | BIT(63));
	put64(g, 0x7000 + ((DATA >> 12 & 511) + 1) * 8, (P_DATA + 0x1000) | 0x67 | BIT(63));
	for (unsigned int n = 0; n < 256; n++) {
		uint64_t h = KERNEL + HANDLER + n * 16;
		uint64_t dpl = n == 3 || n == 4 ? 3 : 0;

		put64(g, IDT + n * 16,
		      (h & 0xffff) | 0x10 << 16 | (0x8e | dpl << 5) << 40 |
			  (h >> 16 & 0xffff) << 48);
		put64(g, IDT + n * 16 + 8, h >> 32);
		g->kernel[HANDLER + n * 16] = 0xf4;
	}
	put64(g, GDT + 0x10, 0x00af9b000000ffff);
	put64(g, GDT + 0x18, 0x00cf93000000ffff);
	put64(g, GDT + 0x20, 0x00cffb000000ffff);
	put64(g, GDT + 0x28, 0x00cff3000000ffff);
	put64(g, GDT + 0x30, 0x00affb000000ffff);
	put64(g, TSS + 4, KERNEL + STACK);
	store_le16(g->kernel + TSS + 102, 0x68); /* no I/O bitmap */
}

static struct cpu_segment segment(uint16_t sel, uint64_t base, uint32_t attr)
{
	return (struct cpu_segment){.base = base, .limit = 0xffffffff, .attr = attr, .sel = sel};
}

static void make_base(struct guest *g)
{
	struct cpu *c = &g->base;
	struct cpu_segment user = segment(SEL_DATA, 0, 0xcf3 | SEG_DB | SEG_G);

	engine_get_state(g->v, c);
	user.attr = SEG_DB | SEG_G | SEG_P | 3 << SEG_DPL_SHIFT | SEG_S | SEG_WRITE | SEG_ACCESSED;
	c->seg[SEG_ES] = c->seg[SEG_SS] = c->seg[SEG_DS] = user;
	c->seg[SEG_FS] = segment(0, FS_BASE, SEG_UNUSABLE);
	c->seg[SEG_GS] = segment(0, GS_BASE, SEG_UNUSABLE);
	c->ldtr = segment(0, 0, SEG_UNUSABLE);
	c->tr = segment(0x40, KERNEL + TSS, SEG_P | 0xb);
	c->tr.limit = 0x67;
	c->gdtr = (struct cpu_table){.base = KERNEL + GDT, .limit = 0x4f};
	c->idtr = (struct cpu_table){.base = KERNEL + IDT, .limit = 0xfff};
	c->cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_PG;
	c->cr3 = 0x1000;
	c->cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE | CR4_PGE;
	c->efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;
	c->xcr0 = XSTATE_ALL;
	c->mp_state = CPU_RUNNABLE;
}

static struct cpu_segment code_segment(bool compat)
{
	uint32_t attr =
	    SEG_G | SEG_P | 3 << SEG_DPL_SHIFT | SEG_S | SEG_CODE | SEG_WRITE | SEG_ACCESSED;

	return segment(compat ? SEL_CODE32 : SEL_CODE64, 0, attr | (compat ? SEG_DB : SEG_L));
}

int guest_start(enum engine_kind kind, struct guest **ret)
{
	struct guest *g = xnew(struct guest);
	struct err e = {0};
	char why[256];
	int r;

	r = gmem_new(RAM_SIZE, RAM_SIZE, &g->mem, &e);
	if (r == 0)
		r = engine_new(kind, g->mem, 1, &g->en, why, &e);
	if (r == 0)
		engine_set_heat(g->en, 1);
	if (r == 0)
		r = vcpu_new(g->en, 0, &g->v, &e);
	if (r < 0) {
		fprintf(stderr, "oracle: %s (error %d)\n", e.msg, r);
		return r;
	}
	g->kernel = gmem_ptr(g->mem, 0, RAM_SIZE);
	g->code = g->kernel + P_CODE;
	g->data = g->kernel + P_DATA;
	memset(g->code, 0xcc, CODE_SIZE);
	make_tables(g);
	make_base(g);
	*ret = g;
	return 0;
}

void guest_stop(struct guest *g)
{
	vcpu_free(g->v);
	engine_free(g->en);
	gmem_free(g->mem);
	free(g);
}

static void put_code(struct guest *g, const struct testcase *c)
{
	unsigned int len = MIN((unsigned int)c->code_len, CODE_SIZE - c->code_off);

	memset(g->code + g->dirty_off, 0xcc, g->dirty_len);
	memcpy(g->code + c->code_off, c->code, len);
	g->dirty_off = c->code_off;
	g->dirty_len = (uint16_t)len;
	gmem_dirty(g->mem, P_CODE, CODE_SIZE);
}

static bool has_error_code(unsigned int vector)
{
	return vector == VEC_DF || (vector >= VEC_TS && vector <= VEC_PF) || vector == VEC_AC;
}

/* The state as the interrupted program had it, from the handler's HLT and stack. */
static void take_outcome(struct guest *g, const struct cpu *c, struct outcome *out)
{
	uint64_t at = c->rip - KERNEL - HANDLER, sp = c->gpr[RSP] - KERNEL;
	const uint8_t *frame;

	out->vector = (uint32_t)(at / 16);
	if (at >= 256 * 16 || sp > STACK - 40) {
		out->vector = 0xfffe;
		return;
	}
	out->error = 0;
	if (has_error_code(out->vector)) {
		out->error = load_le32(g->kernel + sp);
		sp += 8;
	}
	frame = g->kernel + sp;
	memcpy(out->m.gpr, c->gpr, sizeof(out->m.gpr));
	out->m.rip = load_le64(frame);
	out->m.rflags = load_le64(frame + 16);
	out->m.gpr[RSP] = load_le64(frame + 24);
	out->m.xs = c->xs;
	out->cr2 = c->cr2;
}

void guest_run(struct guest *g, const struct testcase *c, struct outcome *out)
{
	struct cpu st = g->base;
	struct vm_exit x = {0};
	struct err e = {0};

	put_code(g, c);
	memcpy(g->data, c->data, DATA_SIZE);
	st.seg[SEG_CS] = code_segment(c->compat);
	memcpy(st.gpr, c->in.gpr, sizeof(st.gpr));
	st.rip = c->in.rip;
	st.rflags = c->in.rflags;
	st.xs = c->in.xs;
	memset(out, 0, offsetof(struct outcome, data));
	if (engine_set_state(g->v, &st, &e) < 0) {
		out->vector = 0xffff;
		return;
	}
	for (unsigned int n = 0; n < 1000; n++) {
		engine_run(g->v, &x);
		if (x.reason != EXIT_KICK && x.reason != EXIT_NONE)
			break;
	}
	memcpy(out->data, g->data, DATA_SIZE);
	engine_get_state(g->v, &st);
	if (x.reason != EXIT_HLT) {
		out->vector = 0xff00 | x.reason;
		return;
	}
	take_outcome(g, &st, out);
}
