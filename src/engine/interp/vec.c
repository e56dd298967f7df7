/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/interp/vec.c - the vector and floating-point unit: look-up, legality, execution
 *
 * Theory of operation in vec_priv.h.  Exceptions:
 *
 *	SIMD	The gadget runs under the guest's MXCSR.  If the guest has exceptions unmasked, it
 *runs masked with clear flags on saved state; should an unmasked one show, the state is put back
 *and #XM raised.  SDM vol. 1, 11.5.
 *	x87	Unmasked exceptions stay pending in FSW until the next waiting instruction, which
 *here looks (x87_wait) before the host could fault.  SDM vol. 1, 8.6.
 *
 * Between gadgets the host has the ABI's MXCSR and x87 state.
 */
#include "engine/interp/vec_priv.h"

#include <assert.h>
#include <errno.h>
#include <immintrin.h>

#define HOST_MXCSR 0x1f80u

/* --- legality --- */

void vec_check_slow(struct ivcpu *v, enum vec_check check)
{
	const struct cpu *c = &v->c;
	bool legacy_mode = v->mode == MODE_REAL || v->mode == MODE_V86;

	switch (check) {
	case CHECK_NONE:
		return;
	case CHECK_VEX_GPR:
		if (legacy_mode)
			raise_ud(v);
		return;
	case CHECK_X87:
		if (c->cr0 & (CR0_EM | CR0_TS))
			raise_fault(v, VEC_NM);
		return;
	case CHECK_AVX:
		if (legacy_mode || !(c->cr4 & CR4_OSXSAVE) ||
		    (~c->xcr0 & (XSTATE_SSE | XSTATE_AVX)))
			raise_ud(v);
		break;
	case CHECK_SSE:
		if (!(c->cr4 & CR4_OSFXSR))
			raise_ud(v);
		__attribute__((fallthrough));
	case CHECK_MMX:
		if (c->cr0 & CR0_EM)
			raise_ud(v);
		break;
	}
	if (c->cr0 & CR0_TS)
		raise_fault(v, VEC_NM);
}

static unsigned int x87_pending(const struct cpu *c)
{
	return c->xs.fsw & ~c->xs.fcw & 0x3fu;
}

void x87_wait(struct ivcpu *v)
{
	/* Without CR0.NE a PC signals IRQ 13 through FERR#, which is not modelled: such guests go
	 * on as if IGNNE# were asserted (docs/vector.md). */
	if (unlikely(x87_pending(&v->c)) && (v->c.cr0 & CR0_NE))
		raise_fault(v, VEC_MF);
}

/*
 * What IGNNE# hides from the guest must be hidden from the host, too, whose NE is always on: no
 * guest state with an exception pending may be in its registers when a waiting instruction runs.
 * The flags are sticky, so that an instruction finds nothing changed without them.
 */
static uint16_t x87_hide(struct cpu *c)
{
	uint16_t hidden = (uint16_t)x87_pending(c);

	c->xs.fsw &= (uint16_t)~hidden;
	return hidden;
}

static void x87_unhide(struct cpu *c, uint16_t hidden)
{
	if (likely(!hidden))
		return;
	c->xs.fsw |= hidden;
	x87_normalize(c); /* for ES and B */
}

static void host_x87_reset(void)
{
	__asm__ volatile("fninit\n\tldmxcsr %0" : : "m"(*(const uint32_t[1]){HOST_MXCSR}));
}

#define FPU_CLOBBERS                                                                               \
	"memory", "rax", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",   \
	    "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15"

void x87_normalize(struct cpu *c)
{
	c->xs.mxcsr &= MXCSR_VALID;
	__asm__ volatile("fxrstor64 %0\n\tfxsave64 %0" : "+m"(c->xs) : : FPU_CLOBBERS);
	host_x87_reset();
}

void mmx_clear_top(struct cpu *c)
{
	unsigned int top = c->xs.fsw >> 11 & 7;
	uint8_t st[8][16];

	memcpy(st, c->xs.st, sizeof(st));
	for (unsigned int n = 0; n < 8; n++) /* ST(n) is physical register top + n */
		memcpy(c->xs.st[(n + top) & 7], st[n], sizeof(st[n]));
	c->xs.fsw &= (uint16_t)~0x3800;
}

void mmx_enter(struct cpu *c)
{
	uint16_t hidden = x87_hide(c);

	c->xs.mxcsr &= MXCSR_VALID;
	__asm__ volatile("fxrstor64 %0\n\tmovd %%mm0, %%eax\n\tfxsave64 %0"
			 : "+m"(c->xs)
			 :
			 : FPU_CLOBBERS);
	host_x87_reset();
	x87_unhide(c, hidden);
}

/* --- running a gadget --- */

/* Unmasked SIMD exceptions: returns false, with the flags set, if one must be raised. */
static bool run_unmasked(struct ivcpu *v, const struct vec_op *op, void *mem)
{
	struct cpu *c = &v->c;
	uint32_t before = c->xs.mxcsr, masks = before >> 7 & MXCSR_FLAGS, raised, tiny = 0;
	struct cpu_xsave xs = c->xs;
	uint64_t gpr[16], rflags = c->rflags;

	memcpy(gpr, c->gpr, sizeof(gpr));
	if (!(masks & 0x10)) {
		/* Unmasked underflow is raised for exact tiny results too; only flushing to zero
		 * shows those while masked. */
		c->xs.mxcsr = (before & ~MXCSR_FLAGS) | MXCSR_MASKS | MXCSR_FTZ;
		op->run(c, mem);
		tiny = c->xs.mxcsr & 0x10;
		c->xs = xs;
		memcpy(c->gpr, gpr, sizeof(gpr));
		c->rflags = rflags;
	}
	c->xs.mxcsr = (before & ~MXCSR_FLAGS) | MXCSR_MASKS;
	if (!(masks & 0x10))
		c->xs.mxcsr &= ~MXCSR_FTZ;
	op->run(c, mem);
	raised = (c->xs.mxcsr & MXCSR_FLAGS) | tiny;
	c->xs.mxcsr = before | raised;
	_mm_setcsr(HOST_MXCSR);
	if (!(raised & ~masks))
		return true;
	/* Exceptions of operands are raised before any result is rounded. */
	if (raised & ~masks & 7)
		raised &= 7;
	c->xs = xs;
	c->xs.mxcsr = before | raised;
	memcpy(c->gpr, gpr, sizeof(gpr));
	c->rflags = rflags;
	if (op->flags & VOP_MMX)
		mmx_enter(c);
	return false;
}

/* False: a SIMD exception is due. */
static bool run_mxcsr(struct ivcpu *v, const struct vec_op *op, void *mem)
{
	if (unlikely((v->c.xs.mxcsr & MXCSR_MASKS) != MXCSR_MASKS))
		return run_unmasked(v, op, mem);
	op->run(&v->c, mem);
	if ((v->c.xs.mxcsr & ~MXCSR_FLAGS) != HOST_MXCSR)
		_mm_setcsr(HOST_MXCSR);
	return true;
}

/*
 * x87: lets the host say by markers whether it changed the pointers, and puts in the guest's own
 * values where it did.
 */
static void run_x87(struct ivcpu *v, const struct x86_insn *i, const struct vec_op *op, void *mem)
{
	struct cpu_xsave *xs = &v->c.xs;
	uint64_t fip = xs->fip, fdp = xs->fdp;
	uint16_t fop = xs->fop, host_fop = op->fop;

	if (i->has_mem)
		host_fop = (op->fop & 0x738) | 6;
	xs->fip = xs->fdp = 1;
	xs->fop = host_fop ^ 0x7ff;
	op->run(&v->c, mem);
	if (xs->fip == 1)
		xs->fip = fip;
	else if (xs->fip)
		xs->fip = v->c.rip;
	if (xs->fdp == 1)
		xs->fdp = fdp;
	else if (xs->fdp)
		xs->fdp = i->has_mem ? insn_ea(v, i) : fdp;
	if (xs->fop == (host_fop ^ 0x7ff))
		xs->fop = fop;
	else if (xs->fop == host_fop)
		xs->fop = op->fop;
}

/* The only way to a gadget. */
static void run(struct ivcpu *v, const struct x86_insn *i, const struct vec_op *op, void *mem)
{
	uint16_t hidden = 0;
	bool ok = true;

	if (!(op->flags & (VOP_FX | VOP_MXCSR))) {
		op->run(&v->c, mem);
		return;
	}
	v->c.xs.mxcsr &= MXCSR_VALID;
	if (op->flags & VOP_WAIT)
		hidden = x87_hide(&v->c);
	if (op->flags & VOP_MXCSR) {
		ok = run_mxcsr(v, op, mem);
	} else {
		if (op->flags & VOP_X87_PTR)
			run_x87(v, i, op, mem);
		else
			op->run(&v->c, mem);
		if ((v->c.xs.mxcsr & ~MXCSR_FLAGS) != HOST_MXCSR)
			_mm_setcsr(HOST_MXCSR);
	}
	x87_unhide(&v->c, hidden);
	if (!ok)
		raise_fault(v, v->c.cr4 & CR4_OSXMMEXCPT ? VEC_XM : VEC_UD);
}

/* SDM vol. 3, 6.15.  Vectors wider than 8 bytes are never checked. */
void vec_check_ac_slow(struct ivcpu *v, uint64_t lin, unsigned int unit)
{
	if (v->cpl == 3 && (v->c.cr0 & CR0_AM) && (lin & (unit - 1)))
		raise_fault_error(v, VEC_AC, 0);
}

/* Comes before the address's own checks: #GP even where those would raise #SS. */
static void check_alignment(struct ivcpu *v, const struct x86_insn *i, unsigned int align)
{
	uint64_t lin = insn_ea(v, i);

	if (v->mode != MODE_LONG || i->seg >= SEG_FS)
		lin += v->c.seg[i->seg].base;
	if (lin & (align - 1))
		raise_gp(v, 0);
}

static void load_operand(struct ivcpu *v, uint64_t lin, unsigned int size, void *buf)
{
	uint64_t x;

	if (size > 8 || (size & (size - 1))) {
		lin_read(v, lin, buf, size);
		return;
	}
	x = lin_ld(v, lin, size);
	memcpy(buf, &x, sizeof(x));
}

static void store_operand(struct ivcpu *v, uint64_t lin, unsigned int size, const void *buf)
{
	uint64_t x;

	if (size > 8 || (size & (size - 1))) {
		lin_write(v, lin, buf, size);
		return;
	}
	memcpy(&x, buf, sizeof(x));
	lin_st(v, lin, size, x);
}

/* An unmasked invalid, overflow or underflow of an x87 store ends it before it looks at memory. */
static bool x87_store_skipped(struct ivcpu *v, const struct x86_insn *i, const struct vec_op *op)
{
	struct cpu_xsave xs;
	uint16_t hidden;

	if (!(op->flags & VOP_WAIT) || !(~v->c.xs.fcw & 0x19))
		return false;
	xs = v->c.xs;
	hidden = x87_hide(&v->c);
	run(v, i, op, vec_of(v)->bounce);
	if (x87_pending(&v->c) & 0x19) {
		x87_unhide(&v->c, hidden);
		return true;
	}
	v->c.xs = xs;
	return false;
}

static const struct vec_op *find_op(struct ivcpu *v, const struct x86_insn *i);

void vec_exec(struct ivcpu *v, const struct x86_insn *i)
{
	const struct vec_op *op = find_op(v, i);
	uint8_t *bounce = vec_of(v)->bounce;
	uint16_t flags = op->flags;
	bool done = (flags & (VOP_WRITE | VOP_MXCSR)) == (VOP_WRITE | VOP_MXCSR);
	uint64_t lin;

	vec_check(v, op->check);
	if (flags & VOP_WAIT)
		x87_wait(v);
	if (!(flags & (VOP_READ | VOP_WRITE))) {
		run(v, i, op, NULL);
		return;
	}
	if ((flags & VOP_MMX) && (flags & VOP_WRITE))
		mmx_clear_top(&v->c);
	if ((flags & VOP_STATE_STORE) && (flags & VOP_X87_PTR) && x87_store_skipped(v, i, op))
		return;
	if (op->align)
		check_alignment(v, i, op->align);
	/* VCVTPS2PH: its own exceptions come first, and its MXCSR flags stay when the store faults
	 */
	if (done)
		run(v, i, op, bounce);
	lin = insn_lin(v, i, op->size, flags & VOP_WRITE ? ACC_WRITE : ACC_READ);
	if (op->size <= 10)
		vec_check_ac(v, lin, op->size == 10 ? 8 : op->size);
	if (flags & VOP_READ)
		load_operand(v, lin, op->size, bounce);
	if (flags & VOP_STATE_STORE)
		lin_probe(v, lin, op->size, ACC_WRITE);
	if (!done)
		run(v, i, op, bounce);
	if (flags & VOP_WRITE)
		store_operand(v, lin, op->size, bounce);
}

/* --- look-up --- */

static const ZydisMachineMode machine_modes[3] = {
    [INSN_16] = ZYDIS_MACHINE_MODE_LEGACY_16,
    [INSN_32] = ZYDIS_MACHINE_MODE_LEGACY_32,
    [INSN_64] = ZYDIS_MACHINE_MODE_LONG_64,
};

static void op_key(const struct x86_insn *i, uint64_t key[2])
{
	static const uint64_t mask[16] = {
	    0,
	    0xff,
	    0xffff,
	    0xffffff,
	    0xffffffff,
	    0xffffffffff,
	    0xffffffffffff,
	    0xffffffffffffff,
	    ~UINT64_C(0),
	    ~UINT64_C(0),
	    ~UINT64_C(0),
	    ~UINT64_C(0),
	    ~UINT64_C(0),
	    ~UINT64_C(0),
	    ~UINT64_C(0),
	    ~UINT64_C(0),
	};
	uint64_t lo = load_le64(i->raw), hi = load_le64(i->raw + 7) >> 8;

	key[0] = lo & mask[i->len];
	key[1] = (i->len > 8 ? hi & mask[i->len - 8] : 0) | (uint64_t)(i->bits + 1u) << 56;
}

static struct vec_op *op_slot(struct vec_unit *u, const uint64_t key[2])
{
	uint64_t h = (key[0] ^ key[1] << 7 ^ key[1] >> 51) * UINT64_C(0x9e3779b97f4a7c15);

	return &u->op[h >> (64 - VEC_OP_BITS)];
}

static bool decode(struct vec_unit *u, const struct x86_insn *i, ZydisDecodedInstruction *z,
		   ZydisDecodedOperand *ops)
{
	return ZYAN_SUCCESS(ZydisDecoderDecodeFull(&u->decoder[i->bits], i->raw, i->len, z, ops));
}

static void make_op(struct vec_unit *u, struct vec_op *op, const uint64_t key[2],
		    const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops)
{
	uint8_t code[GADGET_MAX];
	unsigned int len;
	gadget_fn *run_fn;

	vec_classify(z, ops, op);
	len = gadget_make(z, ops, op->flags, code);
	run_fn = gadget_add(u->arena, code, len);
	if (!run_fn) {
		struct vec_op keep = *op;

		gadget_flush(u->arena);
		memset(u->op, 0, sizeof(u->op));
		*op = keep;
		run_fn = gadget_add(u->arena, code, len);
		assert(run_fn);
	}
	op->run = run_fn;
	memcpy(op->key, key, sizeof(op->key));
}

static const struct vec_op *find_op(struct ivcpu *v, const struct x86_insn *i)
{
	struct vec_unit *u = vec_of(v);
	uint64_t key[2];
	struct vec_op *op;
	ZydisDecodedInstruction z;
	ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];

	op_key(i, key);
	op = op_slot(u, key);
	if (likely(op->key[0] == key[0] && op->key[1] == key[1]))
		return op;
	if (!decode(u, i, &z, ops)) /* vec_lookup decoded the same bytes */
		raise_ud(v);
	make_op(u, op, key, &z, ops);
	return op;
}

struct slow_handler vec_lookup(const struct ivcpu *v, const struct x86_insn *i)
{
	struct slow_handler none = {0}, h = {.fn = vec_exec};
	struct vec_unit *u = vec_of(v);
	ZydisDecodedInstruction z;
	ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
	enum vec_feature f;
	slow_fn *special;

	if ((i->prefixes & PFX_LOCK) || !decode(u, i, &z, ops))
		return none;
	f = vec_feature_of(&z);
	if (!(u->features & BIT(f)))
		return none;
	special = vec_special(&z);
	if (special)
		h.fn = special;
	return h;
}

/* --- life --- */

bool vec_owns_code(const struct ivcpu *v, uintptr_t pc)
{
	return gadget_contains(vec_of(v)->arena, pc);
}

int vec_init(struct ivcpu *v, struct err *e)
{
	struct vec_unit *u = aligned_alloc(64, ALIGN_UP(sizeof(*u), (size_t)64));
	int r;

	if (!u)
		return err_set(e, -ENOMEM, "vector unit");
	memset(u, 0, sizeof(*u));
	for (unsigned int n = 0; n < 3; n++)
		ZydisDecoderInit(&u->decoder[n], machine_modes[n],
				 n == INSN_64   ? ZYDIS_STACK_WIDTH_64
				 : n == INSN_32 ? ZYDIS_STACK_WIDTH_32
						: ZYDIS_STACK_WIDTH_16);
	r = gadget_arena_new(&u->arena, e);
	if (r < 0) {
		free(u);
		return r;
	}
	u->features = vec_features(&v->vcpu.en->model);
	v->vec = u;
	return 0;
}

void vec_fini(struct ivcpu *v)
{
	struct vec_unit *u = vec_of(v);

	if (!u)
		return;
	gadget_arena_free(u->arena);
	free(u);
	v->vec = NULL;
}
