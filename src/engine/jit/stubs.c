/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/jit/stubs.c - the ways into translated code, out of it, and back to C in its middle
 *
 *	enter   C calls it: the guest's registers come from struct cpu, then to the code
 *	exit    code jumps here with what to tell in ECX: registers to struct cpu, back to C
 *	call    the same, then calls C for one instruction and goes on behind it
 *	call_end  likewise for the last instruction of a block; C says which block comes
 *	miss    the same, then calls C to fill the TLB and starts the instruction again
 *	leave   exit at the guest address in R11
 *	returned  likewise, with what to tell in ECX: a return to code that is not known yet
 *	syscall, sysret  those instructions (syscall.c)
 *	load_*  vector or x87 state into the host's registers, or exit (ECX) if that is not allowed
 */
#include "engine/jit/jit_priv.h"

#define XMM(n)  ((int32_t)(offsetof(struct ivcpu, c.xs.xmm) + 16u * (n)))
#define YMMH(n) ((int32_t)(offsetof(struct ivcpu, c.xs.ymmh) + 16u * (n)))

/* Guest registers that live in host registers. */
static const uint8_t live[] = {RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R12, R13, R14, R15};
static const uint8_t callee_saved[] = {RBX, RBP, R12, R13, R14, R15};

static void op_gs(struct emit *e, unsigned int opcode, unsigned int ext, int32_t off)
{
	emit_0f(e, opcode, ext, rm_gs(off));
}

/* MXCSR from and to memory. */
static void ldmxcsr(struct emit *e, int32_t off)
{
	op_gs(e, 0xae, 2, off);
}

static void stmxcsr(struct emit *e, int32_t off)
{
	op_gs(e, 0xae, 3, off);
}

static void store8(struct emit *e, int32_t off, unsigned int x)
{
	emit_op(e, false, 0xc6, 0, rm_gs(off));
	emit8(e, x);
}

/* VEXTRACTF128 and VINSERTF128 with the upper half in memory. */
static void upper_half(struct emit *e, bool store, unsigned int n)
{
	const struct form f = {.vex = true,
			       .map = 3,
			       .opcode = store ? 0x19 : 0x18,
			       .l = 1,
			       .pp = 1,
			       .vvvv = store ? 0 : (uint8_t)n};
	struct rm rm = rm_gs(YMMH(n));

	emit_insn(e, &f, n, &rm);
	emit8(e, 1);
}

static bool has_avx(const struct ivcpu *v)
{
	return cpu_model_has(&v->vcpu.en->model, 1, CPUID_ECX, 28);
}

static void vec_store(struct emit *e, bool avx)
{
	for (unsigned int n = 0; n < 16; n++)
		emit_0f(e, 0x11, n, rm_gs(XMM(n))); /* MOVUPS */
	for (unsigned int n = 0; avx && n < 16; n++)
		upper_half(e, true, n);
	stmxcsr(e, GS(c.xs.mxcsr));
	ldmxcsr(e, GS(jx.host_mxcsr));
	if (avx) { /* VZEROUPPER */
		emit8(e, 0xc5);
		emit8(e, 0xf8);
		emit8(e, 0x77);
	}
}

static void vec_load(struct emit *e, bool avx)
{
	for (unsigned int n = 0; n < 16; n++)
		emit_0f(e, 0x10, n, rm_gs(XMM(n)));
	for (unsigned int n = 0; avx && n < 16; n++)
		upper_half(e, false, n);
	ldmxcsr(e, GS(c.xs.mxcsr));
}

/* All that is the guest's to struct cpu; ECX stays, flags do not. */
static void save(struct emit *e, bool avx)
{
	uint8_t *out;

	emit_store(e, RAX, rm_gs(GS_GPR(RAX)));
	emit8(e, 0x9f); /* LAHF; SETO AL */
	emit_0f(e, 0x90, 0, rm_reg(RAX));
	emit8(e, 0x66);
	emit_op(e, false, 0x89, RAX, rm_gs(GS(af)));
	for (unsigned int i = 1; i < ARRAY_SIZE(live); i++)
		emit_store(e, jit_host(live[i]), rm_gs(GS_GPR(live[i])));
	/* CMP BYTE sse_out, 0; JNE */
	emit_op(e, false, 0x80, 7, rm_gs(GS(jx.sse_out)));
	emit8(e, 0);
	emit8(e, 0x0f);
	emit8(e, 0x85);
	emit32(e, 0);
	out = e->p;
	vec_store(e, avx);
	emit_aim(e->start, (uint32_t)(out - e->start) - 4, emit_at(e));
}

static void restore(struct emit *e)
{
	emit_0f(e, 0xb7, RAX, rm_gs(GS(af))); /* MOVZX */
	emit8(e, 0x04);                       /* ADD AL, 7F: OF */
	emit8(e, 0x7f);
	emit8(e, 0x9e); /* SAHF */
	for (unsigned int i = 0; i < ARRAY_SIZE(live); i++)
		emit_load(e, jit_host(live[i]), rm_gs(GS_GPR(live[i])));
}

static void jmp_gs(struct emit *e, int32_t off)
{
	emit_op(e, false, 0xff, 4, rm_gs(off));
}

static void call_c(struct emit *e, const void *fn)
{
	emit8(e, 0x48);
	emit8(e, 0xb8);
	emit64(e, (uintptr_t)fn);
	emit_op(e, false, 0xff, 2, rm_reg(RAX));
}

/* Arguments for C: the vCPU (by its first alias) and ECX; on the host's stack. */
static void to_c(struct emit *e, struct ivcpu *v)
{
	emit_load(e, RSP, rm_gs(GS(jx.host_rsp)));
	emit8(e, 0x48);
	emit8(e, 0xbf); /* MOV RDI, imm64 */
	emit64(e, (uintptr_t)v);
	emit_op(e, false, 0x89, RCX, rm_reg(RSI));
}

/* uint32_t enter(const void *code, void *gs_base) */
static void make_enter(struct emit *e)
{
	uint8_t *same;

	for (unsigned int i = 0; i < ARRAY_SIZE(callee_saved); i++) {
		if (callee_saved[i] & 8)
			emit8(e, 0x41);
		emit8(e, 0x50 | (callee_saved[i] & 7));
	}
	emit_op(e, true, 0x83, 5, rm_reg(RSP)); /* SUB RSP, 8: aligned for calls */
	emit8(e, 8);
	/* RDGSBASE RAX; CMP RAX, RSI; JE; WRGSBASE RSI */
	emit8(e, 0xf3);
	emit8(e, 0x48);
	emit8(e, 0x0f);
	emit8(e, 0xae);
	emit8(e, 0xc8);
	emit_op(e, true, 0x39, RSI, rm_reg(RAX));
	emit8(e, 0x74);
	emit8(e, 0);
	same = e->p;
	emit8(e, 0xf3);
	emit8(e, 0x48);
	emit8(e, 0x0f);
	emit8(e, 0xae);
	emit8(e, 0xde);
	same[-1] = (uint8_t)(e->p - same);
	emit_store(e, RSP, rm_gs(GS(jx.host_rsp)));
	emit_store(e, RDI, rm_gs(GS(jx.resume)));
	restore(e);
	jmp_gs(e, GS(jx.resume));
}

/* The C function that called enter gets ECX. */
static void make_return(struct emit *e)
{
	emit_load(e, RSP, rm_gs(GS(jx.host_rsp)));
	emit_op(e, true, 0x83, 0, rm_reg(RSP));
	emit8(e, 8);
	for (unsigned int i = ARRAY_SIZE(callee_saved); i-- > 0;) {
		if (callee_saved[i] & 8)
			emit8(e, 0x41);
		emit8(e, 0x58 | (callee_saved[i] & 7));
	}
	emit_op(e, false, 0x89, RCX, rm_reg(RAX));
	emit8(e, 0xc3);
}

static void make_exit(struct emit *e, bool avx)
{
	save(e, avx);
	store8(e, GS(jx.sse_out), 1);
	store8(e, GS(jx.avx_out), 1);
	make_return(e);
}

/* R11: where to go on.  C's answer: 0 = there, else what to tell whoever entered. */
static void make_call(struct emit *e, struct ivcpu *v, bool avx)
{
	emit_store(e, R11, rm_gs(GS(jx.resume)));
	save(e, avx);
	store8(e, GS(jx.sse_out), 1);
	store8(e, GS(jx.avx_out), 1);
	to_c(e, v);
	call_c(e, (const void *)jit_call);
	emit_op(e, false, 0x89, RAX, rm_reg(RCX));
	emit8(e, 0xe3); /* JRCXZ over the return */
	emit8(e, 0);
	{
		uint8_t *over = e->p;

		make_return(e);
		over[-1] = (uint8_t)(e->p - over);
	}
	restore(e);
	jmp_gs(e, GS(jx.resume));
}

/* C's answer: where to go on, or 0 and what to tell is in jx.saved. */
static void make_call_end(struct emit *e, struct ivcpu *v, bool avx)
{
	uint8_t *on;

	save(e, avx);
	store8(e, GS(jx.sse_out), 1);
	store8(e, GS(jx.avx_out), 1);
	to_c(e, v);
	call_c(e, (const void *)jit_call_end);
	emit_op(e, true, 0x85, RAX, rm_reg(RAX)); /* TEST; JNZ */
	emit8(e, 0x75);
	emit8(e, 0);
	on = e->p;
	emit_load(e, RCX, rm_gs(GS(jx.saved)));
	make_return(e);
	on[-1] = (uint8_t)(e->p - on);
	emit_store(e, RAX, rm_gs(GS(jx.resume)));
	restore(e);
	jmp_gs(e, GS(jx.resume));
}

/* R11: the address.  C's answer: where to go on, or 0 and what to tell is in jx.saved. */
static void make_miss(struct emit *e, struct ivcpu *v, bool avx)
{
	uint8_t *again;

	emit_store(e, R11, rm_gs(GS(jx.address)));
	save(e, avx);
	to_c(e, v);
	call_c(e, (const void *)jit_miss);
	emit_op(e, true, 0x85, RAX, rm_reg(RAX)); /* TEST; JNZ */
	emit8(e, 0x75);
	emit8(e, 0);
	again = e->p;
	emit_load(e, RCX, rm_gs(GS(jx.saved)));
	make_return(e);
	again[-1] = (uint8_t)(e->p - again);
	emit_store(e, RAX, rm_gs(GS(jx.resume)));
	/* CMP BYTE sse_out, 0; JNE */
	emit_op(e, false, 0x80, 7, rm_gs(GS(jx.sse_out)));
	emit8(e, 0);
	emit8(e, 0x0f);
	emit8(e, 0x85);
	emit32(e, 0);
	again = e->p;
	vec_load(e, avx);
	emit_aim(e->start, (uint32_t)(again - e->start) - 4, emit_at(e));
	restore(e);
	jmp_gs(e, GS(jx.resume));
}

/* Goes on if the byte at @off is 0, else to the exit with RCX as it was. */
static void unless_blocked(struct emit *e, const struct jit *j, int32_t off)
{
	uint8_t *free;

	emit_store(e, RCX, rm_gs(GS(jx.saved)));
	emit_load8(e, RCX, rm_gs(off));
	free = emit_jrcxz(e);
	emit_load(e, RCX, rm_gs(GS(jx.saved)));
	emit_jmp(e, j->exit);
	emit_here(e, free);
}

/* ECX: what to tell if not allowed; R11: where to go on.  Flags stay. */
static void make_load_sse(struct emit *e, const struct jit *j, bool avx)
{
	unless_blocked(e, j, GS(jx.sse_block));
	vec_load(e, avx);
	store8(e, GS(jx.sse_out), 0);
	emit_load8(e, RCX, rm_gs(GS(jx.avx_block)));
	emit_op(e, false, 0x88, RCX, rm_gs(GS(jx.avx_out)));
	emit_op(e, false, 0xff, 4, rm_reg(R11));
}

/* FXRSTOR also loads XMM and MXCSR: the guest's if they are in, else the host's has to come back.
 */
static void make_load_x87(struct emit *e, const struct jit *j)
{
	static const uint8_t fxrstor64[] = {0x65, 0x48, 0x0f, 0xae, 0x0c, 0x25};
	uint8_t *in;

	unless_blocked(e, j, GS(jx.x87_block));
	emit_load8(e, RCX, rm_gs(GS(jx.sse_out)));
	in = emit_jrcxz(e);
	for (unsigned int i = 0; i < sizeof(fxrstor64); i++)
		emit8(e, fxrstor64[i]);
	emit32(e, (uint32_t)GS(c.xs));
	ldmxcsr(e, GS(jx.host_mxcsr));
	store8(e, GS(jx.x87_out), 0);
	emit_op(e, false, 0xff, 4, rm_reg(R11));
	emit_here(e, in);
	for (unsigned int n = 0; n < 16; n++)
		emit_0f(e, 0x11, n, rm_gs(XMM(n)));
	stmxcsr(e, GS(c.xs.mxcsr));
	for (unsigned int i = 0; i < sizeof(fxrstor64); i++)
		emit8(e, fxrstor64[i]);
	emit32(e, (uint32_t)GS(c.xs));
	store8(e, GS(jx.x87_out), 0);
	emit_op(e, false, 0xff, 4, rm_reg(R11));
}

void jit_make_stubs(struct ivcpu *v, struct jit *j)
{
	struct emit e = {.start = j->rw, .p = j->rw, .end = j->rw + 4096 * 4};
	bool avx = has_avx(v);

	emit8(&e, 0xcc); /* so that no stub is at offset 0 */
	j->enter = (jit_enter_fn *)(void *)(j->rx + emit_at(&e));
	make_enter(&e);
	j->exit = emit_at(&e);
	make_exit(&e, avx);
	j->call = emit_at(&e);
	make_call(&e, v, avx);
	j->call_end = emit_at(&e);
	make_call_end(&e, v, avx);
	j->miss = emit_at(&e);
	make_miss(&e, v, avx);
	j->leave = emit_at(&e);
	emit_store(&e, R11, rm_gs(GS(c.rip)));
	emit_mov_imm32(&e, RCX, JIT_LEAVE);
	emit_jmp(&e, j->exit);
	j->returned = emit_at(&e);
	emit_store(&e, R11, rm_gs(GS(c.rip)));
	emit_jmp(&e, j->exit);
	j->syscall = emit_at(&e);
	jit_make_syscall(&e, v, j);
	j->sysret = emit_at(&e);
	jit_make_sysret(&e, v, j);
	j->load_sse = emit_at(&e);
	make_load_sse(&e, j, avx);
	j->load_avx = emit_at(&e);
	unless_blocked(&e, j, GS(jx.avx_block));
	emit_jmp(&e, j->load_sse);
	j->load_x87 = emit_at(&e);
	make_load_x87(&e, j);
	assert(!e.overflow);
	j->stubs = j->used = ALIGN_UP(emit_at(&e), 64u);
}
