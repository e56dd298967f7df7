/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/interp/vec_state.c - saving and restoring FPU, SSE and AVX state; MXCSR; VZEROUPPER
 *
 * SDM vol. 1, 8.1.10 (FSTENV formats), 10.5 (FXSAVE), 13.7 to 13.11 (XSAVE).  What an image loaded
 * becomes inside the processor is left to the host's own FXRSTOR and FRSTOR.  FCS and FDS are not
 * kept (CPUID.7.0:EBX[13]): they are stored as zero.
 */
#include "engine/interp/vec_priv.h"

static bool rex_w(const struct x86_insn *i)
{
	return i->bits == INSN_64 && (i->prefixes & PFX_REXW);
}

static unsigned int n_xmm(const struct x86_insn *i)
{
	return i->bits == INSN_64 ? 16 : 8;
}

/* --- MXCSR --- */

static void load_mxcsr(struct ivcpu *v, const struct x86_insn *i)
{
	uint32_t x = lin_ld32(v, insn_lin(v, i, 4, ACC_READ));

	if (x & ~MXCSR_VALID)
		raise_gp(v, 0);
	v->c.xs.mxcsr = x;
}

static void store_mxcsr(struct ivcpu *v, const struct x86_insn *i)
{
	lin_st32(v, insn_lin(v, i, 4, ACC_WRITE), v->c.xs.mxcsr);
}

void vec_ldmxcsr(struct ivcpu *v, const struct x86_insn *i)
{
	vec_check(v, CHECK_SSE);
	load_mxcsr(v, i);
}

void vec_stmxcsr(struct ivcpu *v, const struct x86_insn *i)
{
	vec_check(v, CHECK_SSE);
	store_mxcsr(v, i);
}

void vec_vldmxcsr(struct ivcpu *v, const struct x86_insn *i)
{
	vec_check(v, CHECK_AVX);
	load_mxcsr(v, i);
}

void vec_vstmxcsr(struct ivcpu *v, const struct x86_insn *i)
{
	vec_check(v, CHECK_AVX);
	store_mxcsr(v, i);
}

/* --- VZEROUPPER, VZEROALL --- */

void vec_vzero(struct ivcpu *v, const struct x86_insn *i)
{
	vec_check(v, CHECK_AVX);
	memset(v->c.xs.ymmh, 0, n_xmm(i) * sizeof(v->c.xs.ymmh[0]));
	if (i->vex_l)
		memset(v->c.xs.xmm, 0, n_xmm(i) * sizeof(v->c.xs.xmm[0]));
}

/* --- FWAIT, FNSTENV and friends --- */

void vec_fwait(struct ivcpu *v, const struct x86_insn *i)
{
	if ((v->c.cr0 & (CR0_TS | CR0_MP)) == (CR0_TS | CR0_MP))
		raise_fault(v, VEC_NM);
	x87_wait(v);
}

#define ENV32 28
#define ENV16 14
#define STACK 80

/* Where FIP is, in pieces: real and virtual-8086 mode hold linear addresses. */
static bool env_is_linear(const struct ivcpu *v)
{
	return v->mode == MODE_REAL || v->mode == MODE_V86;
}

/* The host's environment in 32-bit protected format @e to the format wanted; returns its size. */
static unsigned int env_format(const struct ivcpu *v, const struct x86_insn *i, const uint8_t *e,
			       uint8_t *out)
{
	uint16_t cw = load_le16(e), sw = load_le16(e + 4), tw = load_le16(e + 8);
	uint16_t fop = v->c.xs.fop & 0x7ff;
	uint32_t fip = (uint32_t)v->c.xs.fip, fdp = (uint32_t)v->c.xs.fdp;

	if (i->opsize != 2) {
		memcpy(out, e, ENV32);
		if (env_is_linear(v)) {
			store_le32(out + 12, 0xffff0000 | (fip & 0xffff));
			store_le32(out + 16, (fip >> 16) << 12 | fop);
			store_le32(out + 20, 0xffff0000 | (fdp & 0xffff));
			store_le32(out + 24, (fdp >> 16) << 12);
		}
		return ENV32;
	}
	store_le16(out, cw);
	store_le16(out + 2, sw);
	store_le16(out + 4, tw);
	store_le16(out + 6, (uint16_t)fip);
	store_le16(out + 10, (uint16_t)fdp);
	if (env_is_linear(v)) {
		store_le16(out + 8, (uint16_t)((fip >> 16 & 15) << 12 | fop));
		store_le16(out + 12, (uint16_t)((fdp >> 16 & 15) << 12));
	} else {
		store_le16(out + 8, 0);
		store_le16(out + 12, 0);
	}
	return ENV16;
}

/* The reverse; FIP, FDP and FOP come out apart, since the host would take them as 32 bits. */
static unsigned int env_parse(struct ivcpu *v, const struct x86_insn *i, const uint8_t *in,
			      uint8_t *e)
{
	struct cpu_xsave *xs = &v->c.xs;
	bool linear = env_is_linear(v);

	memset(e, 0, ENV32);
	if (i->opsize != 2) {
		memcpy(e, in, ENV32);
		xs->fip = linear ? load_le16(in + 12) | (load_le32(in + 16) >> 12 & 0xffff) << 16
				 : load_le32(in + 12);
		xs->fop = (linear ? load_le16(in + 16) : load_le16(in + 18)) & 0x7ff;
		xs->fdp = linear ? load_le16(in + 20) | (load_le32(in + 24) >> 12 & 0xffff) << 16
				 : load_le32(in + 20);
		return ENV32;
	}
	store_le16(e, load_le16(in));
	store_le16(e + 4, load_le16(in + 2));
	store_le16(e + 8, load_le16(in + 4));
	xs->fip = load_le16(in + 6) | (linear ? (load_le16(in + 8) & 0xf000u) << 4 : 0);
	xs->fop = linear ? load_le16(in + 8) & 0x7ff : 0;
	xs->fdp = load_le16(in + 10) | (linear ? (load_le16(in + 12) & 0xf000u) << 4 : 0);
	return ENV16;
}

#define XMM_CLOBBERS                                                                               \
	"memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",  \
	    "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15"

static void host_fpu_reset(void)
{
	__asm__ volatile("fninit\n\tldmxcsr %0" : : "m"(*(const uint32_t[1]){MXCSR_DEFAULT}));
}

static unsigned int env_size(const struct x86_insn *i)
{
	return i->opsize == 2 ? ENV16 : ENV32;
}

/* Checked address of an image; the processor looks at both ends first, which
 * CR2 shows. */
static uint64_t env_lin(struct ivcpu *v, const struct x86_insn *i, unsigned int size,
			enum access acc)
{
	unsigned int unit = i->opsize == 2 ? 2 : 4;
	uint64_t lin = insn_lin(v, i, v->mode == MODE_LONG ? unit : size, acc);

	vec_check_ac(v, lin, unit);
	lin_probe(v, lin, unit, acc);
	insn_lin(v, i, size, acc);
	lin_probe(v, lin + size - 1, 1, acc);
	return lin;
}

void vec_fnstenv(struct ivcpu *v, const struct x86_insn *i)
{
	uint8_t env[ENV32], out[ENV32];
	unsigned int size = env_size(i);
	struct cpu *c = &v->c;
	uint64_t lin;

	vec_check(v, CHECK_X87);
	lin = env_lin(v, i, size, ACC_WRITE);
	c->xs.mxcsr &= MXCSR_VALID;
	__asm__ volatile("fxrstor64 %0\n\tfnstenv %1\n\tfxsave64 %0"
			 : "+m"(c->xs), "=m"(env)
			 :
			 : XMM_CLOBBERS);
	host_fpu_reset();
	env_format(v, i, env, out);
	lin_write(v, lin, out, size);
}

void vec_fnsave(struct ivcpu *v, const struct x86_insn *i)
{
	uint8_t env[ENV32 + STACK], out[ENV32 + STACK];
	unsigned int size = env_size(i);
	struct cpu *c = &v->c;
	uint64_t lin;

	vec_check(v, CHECK_X87);
	lin = env_lin(v, i, size + STACK, ACC_WRITE);
	c->xs.mxcsr &= MXCSR_VALID;
	/* the environment is made from the pointers before FNSAVE clears them */
	__asm__ volatile("fxrstor64 %0\n\tfnsave %1" : "+m"(c->xs), "=m"(env) : : XMM_CLOBBERS);
	host_fpu_reset();
	env_format(v, i, env, out);
	memcpy(out + size, env + ENV32, STACK);
	__asm__ volatile("fxrstor64 %0\n\tfninit\n\tfxsave64 %0" : "+m"(c->xs) : : XMM_CLOBBERS);
	host_fpu_reset();
	lin_write(v, lin, out, size + STACK);
}

void vec_fldenv(struct ivcpu *v, const struct x86_insn *i)
{
	uint8_t in[ENV32], env[ENV32];
	unsigned int size = env_size(i);
	struct cpu *c = &v->c;
	uint64_t fip, fdp;
	uint16_t fop;

	vec_check(v, CHECK_X87);
	x87_wait(v);
	lin_read(v, env_lin(v, i, size, ACC_READ), in, size);
	env_parse(v, i, in, env);
	fip = c->xs.fip, fdp = c->xs.fdp, fop = c->xs.fop;
	c->xs.mxcsr &= MXCSR_VALID;
	c->xs.fsw &= (uint16_t)~0x3f; /* else the host would see what IGNNE# hides */
	__asm__ volatile("fxrstor64 %0\n\tfldenv %1\n\tfxsave64 %0"
			 : "+m"(c->xs)
			 : "m"(env)
			 : XMM_CLOBBERS);
	host_fpu_reset();
	c->xs.fip = fip, c->xs.fdp = fdp, c->xs.fop = fop;
}

void vec_frstor(struct ivcpu *v, const struct x86_insn *i)
{
	uint8_t in[ENV32 + STACK], env[ENV32 + STACK];
	unsigned int size = env_size(i);
	struct cpu *c = &v->c;
	uint64_t fip, fdp;
	uint16_t fop;

	vec_check(v, CHECK_X87);
	x87_wait(v);
	lin_read(v, env_lin(v, i, size + STACK, ACC_READ), in, size + STACK);
	env_parse(v, i, in, env);
	memcpy(env + ENV32, in + size, STACK);
	fip = c->xs.fip, fdp = c->xs.fdp, fop = c->xs.fop;
	c->xs.mxcsr &= MXCSR_VALID;
	c->xs.fsw &= (uint16_t)~0x3f;
	__asm__ volatile("fxrstor64 %0\n\tfrstor %1\n\tfxsave64 %0"
			 : "+m"(c->xs)
			 : "m"(env)
			 : XMM_CLOBBERS);
	host_fpu_reset();
	c->xs.fip = fip, c->xs.fdp = fdp, c->xs.fop = fop;
}

/* --- FXSAVE, FXRSTOR --- */

#define FX_SIZE 512
#define FX_HEAD 32 /* control words and pointers */
#define FX_ST   128
#define FX_XMM  160 /* offset of XMM0 */

/* Image of the x87 part with @wide 64-bit pointers or 32-bit ones with (zero) selectors. */
static void fx_put_x87(const struct cpu_xsave *xs, bool wide, uint8_t *out)
{
	memcpy(out, xs, 24);
	if (!wide) {
		store_le32(out + 12, 0);
		store_le32(out + 20, 0);
	}
	memcpy(out + FX_HEAD, xs->st, FX_ST);
}

static void fx_get_x87(struct cpu_xsave *xs, bool wide, const uint8_t *in)
{
	memcpy(xs, in, 24);
	if (!wide) {
		xs->fip &= 0xffffffff;
		xs->fdp &= 0xffffffff;
	}
	memcpy(xs->st, in + FX_HEAD, FX_ST);
}

/* Checked address of the image; both ends are looked at first. */
static uint64_t fx_lin(struct ivcpu *v, const struct x86_insn *i, enum access acc)
{
	uint64_t lin = insn_lin(v, i, FX_SIZE, acc);

	vec_check_ac(v, lin, 4);
	if (lin & 15)
		raise_gp(v, 0);
	lin_probe(v, lin + FX_SIZE - 1, 1, acc);
	lin_probe(v, lin, 1, acc);
	return lin;
}

void vec_fxsave(struct ivcpu *v, const struct x86_insn *i)
{
	struct cpu_xsave *xs = &v->c.xs;
	uint8_t out[FX_XMM + 256];
	unsigned int size = FX_XMM + n_xmm(i) * 16;
	uint64_t lin;

	vec_check(v, CHECK_X87);
	lin = fx_lin(v, i, ACC_WRITE);
	fx_put_x87(xs, rex_w(i), out);
	store_le32(out + 24, xs->mxcsr);
	store_le32(out + 28, MXCSR_VALID);
	memcpy(out + FX_XMM, xs->xmm, sizeof(xs->xmm));
	lin_write(v, lin, out, size);
}

void vec_fxrstor(struct ivcpu *v, const struct x86_insn *i)
{
	struct cpu_xsave *xs = &v->c.xs;
	uint8_t in[FX_SIZE];
	uint64_t lin;

	vec_check(v, CHECK_X87);
	lin = fx_lin(v, i, ACC_READ);
	lin_read(v, lin, in, FX_SIZE);
	if (load_le32(in + 24) & ~MXCSR_VALID)
		raise_gp(v, 0);
	fx_get_x87(xs, rex_w(i), in);
	xs->mxcsr = load_le32(in + 24);
	memcpy(xs->xmm, in + FX_XMM, n_xmm(i) * 16);
	x87_normalize(&v->c);
}

/* --- XSAVE, XRSTOR --- */

#define XS_HEADER 512
#define XS_YMM    576
#define COMPACT   BIT(63)

static void xsave_check(struct ivcpu *v)
{
	if (!(v->c.cr4 & CR4_OSXSAVE))
		raise_ud(v);
	if (v->c.cr0 & CR0_TS)
		raise_fault(v, VEC_NM);
}

static uint64_t requested(const struct ivcpu *v)
{
	return ((uint64_t)(uint32_t)v->c.gpr[RDX] << 32 | (uint32_t)v->c.gpr[RAX]) & v->c.xcr0;
}

static bool is_zero(const void *p, size_t n)
{
	const uint8_t *b = p;

	return b[0] == 0 && memcmp(b, b + 1, n - 1) == 0;
}

/* XINUSE: components not in their initial state. */
static uint64_t in_use(const struct cpu_xsave *xs)
{
	uint64_t x = 0;

	if (xs->fcw != 0x37f || xs->fsw || xs->ftw || xs->fop || xs->fip || xs->fdp ||
	    !is_zero(xs->st, sizeof(xs->st)))
		x |= XSTATE_X87;
	if (!is_zero(xs->xmm, sizeof(xs->xmm)))
		x |= XSTATE_SSE;
	if (!is_zero(xs->ymmh, sizeof(xs->ymmh)))
		x |= XSTATE_AVX;
	return x;
}

static unsigned int area_size(uint64_t components)
{
	return components & XSTATE_AVX ? XSAVE_AREA_SIZE : XS_YMM;
}

/* Writes the components in @parts to the area at @lin, which was probed. */
static void put_parts(struct ivcpu *v, const struct x86_insn *i, uint64_t lin, uint64_t parts,
		      bool mxcsr)
{
	struct cpu_xsave *xs = &v->c.xs;
	unsigned int n = n_xmm(i) * 16;
	uint8_t x87[FX_XMM];

	if (parts & XSTATE_X87) {
		fx_put_x87(xs, rex_w(i), x87);
		lin_write(v, lin, x87, 24);
		lin_write(v, lin + FX_HEAD, x87 + FX_HEAD, FX_ST);
	}
	if (mxcsr) {
		lin_st32(v, lin + 24, xs->mxcsr);
		lin_st32(v, lin + 28, MXCSR_VALID);
	}
	if (parts & XSTATE_SSE)
		lin_write(v, lin + FX_XMM, xs->xmm, n);
	if (parts & XSTATE_AVX)
		lin_write(v, lin + XS_YMM, xs->ymmh, n);
}

static uint64_t area_lin(struct ivcpu *v, const struct x86_insn *i, unsigned int size,
			 enum access acc)
{
	uint64_t lin = insn_lin(v, i, size, acc);

	if (lin & 63)
		raise_gp(v, 0);
	lin_probe(v, lin, size, acc);
	return lin;
}

static void do_xsave(struct ivcpu *v, const struct x86_insn *i, bool optimize)
{
	uint64_t rfbm = requested(v), used = in_use(&v->c.xs), lin, bv;

	xsave_check(v);
	lin = area_lin(v, i, area_size(rfbm), ACC_WRITE);
	bv = lin_ld64(v, lin + XS_HEADER);
	bv = (bv & ~rfbm) | (rfbm & used);
	put_parts(v, i, lin, optimize ? rfbm & used : rfbm, rfbm & (XSTATE_SSE | XSTATE_AVX));
	lin_st64(v, lin + XS_HEADER, bv);
}

void vec_xsave(struct ivcpu *v, const struct x86_insn *i)
{
	do_xsave(v, i, false);
}

void vec_xsaveopt(struct ivcpu *v, const struct x86_insn *i)
{
	do_xsave(v, i, true);
}

void vec_xsavec(struct ivcpu *v, const struct x86_insn *i)
{
	uint64_t rfbm = requested(v), used = in_use(&v->c.xs), lin;

	xsave_check(v);
	if (v->c.xs.mxcsr != MXCSR_DEFAULT)
		used |= XSTATE_SSE;
	lin = area_lin(v, i, area_size(rfbm), ACC_WRITE);
	put_parts(v, i, lin, rfbm & used, rfbm & used & XSTATE_SSE);
	lin_st64(v, lin + XS_HEADER, rfbm & used);
	lin_st64(v, lin + XS_HEADER + 8, rfbm | COMPACT);
}

/* The rules for a header: SDM vol. 1, 13.8. */
static void check_header(struct ivcpu *v, const uint8_t *area)
{
	uint64_t bv = load_le64(area + XS_HEADER), comp = load_le64(area + XS_HEADER + 8);

	if (bv & ~v->c.xcr0)
		raise_gp(v, 0);
	if (!(comp & COMPACT)) {
		if (!is_zero(area + XS_HEADER + 8, 16))
			raise_gp(v, 0);
		return;
	}
	if (!(vec_of(v)->features & BIT(VF_XSAVEC)) || (comp & ~COMPACT & ~v->c.xcr0) ||
	    (bv & ~comp) || !is_zero(area + XS_HEADER + 16, 48))
		raise_gp(v, 0);
}

void vec_xrstor(struct ivcpu *v, const struct x86_insn *i)
{
	struct cpu_xsave *xs = &v->c.xs;
	uint64_t rfbm = requested(v), lin, bv, get;
	unsigned int n = n_xmm(i) * 16, size;
	uint8_t in[XSAVE_AREA_SIZE];
	uint32_t mxcsr = xs->mxcsr;
	bool compact;

	xsave_check(v);
	lin = area_lin(v, i, XS_YMM, ACC_READ);
	lin_read(v, lin, in, XS_YMM);
	check_header(v, in);
	bv = load_le64(in + XS_HEADER);
	compact = load_le64(in + XS_HEADER + 8) & COMPACT;
	get = rfbm & bv;
	size = area_size(get);
	if (size > XS_YMM)
		lin_read(v, lin + XS_YMM, in + XS_YMM, size - XS_YMM);
	if (!compact && (rfbm & (XSTATE_SSE | XSTATE_AVX)))
		mxcsr = load_le32(in + 24);
	else if (compact && (rfbm & XSTATE_SSE))
		mxcsr = bv & XSTATE_SSE ? load_le32(in + 24) : MXCSR_DEFAULT;
	if (mxcsr & ~MXCSR_VALID)
		raise_gp(v, 0);
	xs->mxcsr = mxcsr;
	if (get & XSTATE_X87) {
		fx_get_x87(xs, rex_w(i), in);
	} else if (rfbm & XSTATE_X87) {
		memset(xs, 0, 24);
		memset(xs->st, 0, sizeof(xs->st));
		xs->fcw = 0x37f;
	}
	if (rfbm & XSTATE_SSE)
		memset(xs->xmm, 0, n);
	if (get & XSTATE_SSE)
		memcpy(xs->xmm, in + FX_XMM, n);
	if (rfbm & XSTATE_AVX)
		memset(xs->ymmh, 0, n);
	if (get & XSTATE_AVX)
		memcpy(xs->ymmh, in + XS_YMM, n);
	if (get & XSTATE_X87)
		x87_normalize(&v->c);
}
