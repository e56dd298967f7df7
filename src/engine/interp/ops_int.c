/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/interp/ops_int.c - integer instructions that are not worth a hot uop, and all atomics
 *
 * Read-modify-write instructions are one host instruction with LOCK on a pointer: into guest
 * memory, or to a copy when the operand is a register, MMIO, or crosses a page (then under a global
 * lock, so that split locks are atomic among themselves).
 */
#include "engine/interp/hot.h"

#include <Zydis/Zydis.h>
#include <sched.h>

#define FLAGS_IN  "addb $127, %%al\n\tsahf\n\t"
#define FLAGS_OUT "\n\tlahf\n\tseto %%al"

static void flags_set(struct ivcpu *v, uint16_t af)
{
	v->c.rflags = (v->c.rflags & ~(uint64_t)FL_ARITH) | flags_from_af(af);
}

/* --- read-modify-write --- */

struct rmw {
	uint64_t src; /* in: register or immediate; out: what XCHG and XADD give back */
	uint64_t rax; /* CMPXCHG */
	uint16_t af;
};

typedef void rmw_fn(void *p, struct rmw *r);

#define DEFINE_RMW2(op, bits, sfx)                                                                 \
	static void rmw_##op##bits(void *p, struct rmw *r)                                         \
	{                                                                                          \
		uint32_t f = r->af;                                                                \
                                                                                                   \
		__asm__ volatile(FLAGS_IN "lock " #op sfx " %2, %1" FLAGS_OUT                      \
				 : "+&a"(f), "+m"(*(u##bits##_ua *)p)                              \
				 : "q"((uint##bits##_t)r->src)                                     \
				 : "cc", "memory");                                                \
		r->af = (uint16_t)f;                                                               \
	}
#define DEFINE_RMW1(op, bits, sfx)                                                                 \
	static void rmw_##op##bits(void *p, struct rmw *r)                                         \
	{                                                                                          \
		uint32_t f = r->af;                                                                \
                                                                                                   \
		__asm__ volatile(FLAGS_IN "lock " #op sfx " %1" FLAGS_OUT                          \
				 : "+&a"(f), "+m"(*(u##bits##_ua *)p)                              \
				 :                                                                 \
				 : "cc", "memory");                                                \
		r->af = (uint16_t)f;                                                               \
	}
#define DEFINE_XCHG(bits, sfx)                                                                     \
	static void rmw_xchg##bits(void *p, struct rmw *r)                                         \
	{                                                                                          \
		uint##bits##_t x = (uint##bits##_t)r->src;                                         \
                                                                                                   \
		__asm__ volatile("xchg" sfx " %0, %1"                                              \
				 : "+q"(x), "+m"(*(u##bits##_ua *)p)                               \
				 :                                                                 \
				 : "memory");                                                      \
		r->src = x;                                                                        \
	}                                                                                          \
	static void rmw_xadd##bits(void *p, struct rmw *r)                                         \
	{                                                                                          \
		uint##bits##_t x = (uint##bits##_t)r->src;                                         \
		uint32_t f;                                                                        \
                                                                                                   \
		__asm__ volatile("lock xadd" sfx " %1, %2" FLAGS_OUT                               \
				 : "=&a"(f), "+&q"(x), "+m"(*(u##bits##_ua *)p)                    \
				 :                                                                 \
				 : "cc", "memory");                                                \
		r->src = x;                                                                        \
		r->af = (uint16_t)f;                                                               \
	}                                                                                          \
	static void rmw_cmpxchg##bits(void *p, struct rmw *r)                                      \
	{                                                                                          \
		uint64_t f = r->rax, rax;                                                          \
                                                                                                   \
		__asm__ volatile("lock cmpxchg" sfx " %3, %2\n\tmovq %%rax, %1" FLAGS_OUT          \
				 : "+&a"(f), "=&r"(rax), "+m"(*(u##bits##_ua *)p)                  \
				 : "q"((uint##bits##_t)r->src)                                     \
				 : "cc", "memory");                                                \
		r->rax = rax;                                                                      \
		r->af = (uint16_t)f;                                                               \
	}

#define DEFINE_RMW_SIZES(M, op) M(op, 8, "b") M(op, 16, "w") M(op, 32, "l") M(op, 64, "q")
DEFINE_RMW_SIZES(DEFINE_RMW2, add)
DEFINE_RMW_SIZES(DEFINE_RMW2, or)
DEFINE_RMW_SIZES(DEFINE_RMW2, adc)
DEFINE_RMW_SIZES(DEFINE_RMW2, sbb)
DEFINE_RMW_SIZES(DEFINE_RMW2, and)
DEFINE_RMW_SIZES(DEFINE_RMW2, sub)
DEFINE_RMW_SIZES(DEFINE_RMW2, xor)
DEFINE_RMW_SIZES(DEFINE_RMW1, inc)
DEFINE_RMW_SIZES(DEFINE_RMW1, dec)
DEFINE_RMW_SIZES(DEFINE_RMW1, not )
DEFINE_RMW_SIZES(DEFINE_RMW1, neg)
DEFINE_RMW2(bts, 16, "w")
DEFINE_RMW2(bts, 32, "l")
DEFINE_RMW2(bts, 64, "q")
DEFINE_RMW2(btr, 16, "w")
DEFINE_RMW2(btr, 32, "l")
DEFINE_RMW2(btr, 64, "q")
DEFINE_RMW2(btc, 16, "w")
DEFINE_RMW2(btc, 32, "l")
DEFINE_RMW2(btc, 64, "q")
DEFINE_XCHG(8, "b")
DEFINE_XCHG(16, "w")
DEFINE_XCHG(32, "l")
DEFINE_XCHG(64, "q")

#define RMW_ROW(op)                                                                                \
	{                                                                                          \
		rmw_##op##8, rmw_##op##16, rmw_##op##32, rmw_##op##64                              \
	}
static rmw_fn *const rmw_alu[7][4] = {RMW_ROW(add), RMW_ROW(or),  RMW_ROW(adc), RMW_ROW(sbb),
				      RMW_ROW(and), RMW_ROW(sub), RMW_ROW(xor)};
static rmw_fn *const rmw_unary[4][4] = {RMW_ROW(inc), RMW_ROW(dec), RMW_ROW(not ), RMW_ROW(neg)};
static rmw_fn *const rmw_bit[4][4] = {
    {0},
    {NULL, rmw_bts16, rmw_bts32, rmw_bts64},
    {NULL, rmw_btr16, rmw_btr32, rmw_btr64},
    {NULL, rmw_btc16, rmw_btc32, rmw_btc64},
};
static rmw_fn *const rmw_xchg[4] = RMW_ROW(xchg), *const rmw_xadd[4] = RMW_ROW(xadd),
		     *const rmw_cmpxchg[4] = RMW_ROW(cmpxchg);

/* @r->af is what flags were; the caller commits af, rax and src afterwards. */
static void rmw_mem(struct ivcpu *v, uint64_t lin, unsigned int size, rmw_fn *fn, struct rmw *r)
{
	void *p = lin_rmw(v, lin, size);
	uint64_t x;

	if (p) {
		fn(p, r);
		return;
	}
	/* May leave by an exit: the lock must not be held then, so it covers memory only. */
	lin_probe(v, lin, size, ACC_WRITE);
	if (lin_is_ram(v, lin, size)) {
		pthread_mutex_lock(&vcpu_interp(v)->split);
		x = lin_ld(v, lin, size);
		fn(&x, r);
		lin_st(v, lin, size, x);
		pthread_mutex_unlock(&vcpu_interp(v)->split);
	} else {
		x = lin_ld(v, lin, size);
		fn(&x, r);
		lin_st(v, lin, size, x);
	}
}

static void rmw_rm(struct ivcpu *v, const struct x86_insn *i, rmw_fn *fn, struct rmw *r)
{
	uint64_t x;

	r->af = flags_to_af(v->c.rflags);
	if (i->has_mem) {
		rmw_mem(v, insn_lin(v, i, i->opsize, ACC_WRITE), i->opsize, fn, r);
		return;
	}
	x = gpr_get(v, i->rm, i->opsize, i->prefixes & PFX_REX);
	fn(&x, r);
	gpr_set(v, i->rm, i->opsize, i->prefixes & PFX_REX, x);
}

static unsigned int size_log(const struct x86_insn *i)
{
	return (unsigned int)__builtin_ctz(i->opsize);
}

static uint64_t reg_get(const struct ivcpu *v, const struct x86_insn *i)
{
	return gpr_get(v, i->reg, i->opsize, i->prefixes & PFX_REX);
}

/* Locked forms of the ALU group, by opcode. */
static void h_lock_alu(struct ivcpu *v, const struct x86_insn *i)
{
	unsigned int row = i->opcode < 0x40 ? i->opcode >> 3 : i->modrm >> 3 & 7;
	struct rmw r = {.src = i->n_imm ? i->imm[0] : reg_get(v, i)};

	rmw_rm(v, i, rmw_alu[row][size_log(i)], &r);
	flags_set(v, r.af);
}

static void h_lock_unary(struct ivcpu *v, const struct x86_insn *i)
{
	unsigned int ext = i->modrm >> 3 & 7;
	struct rmw r = {0};

	/* FE/FF /0 /1: INC, DEC; F6/F7 /2 /3: NOT, NEG */
	rmw_rm(v, i, rmw_unary[ext][size_log(i)], &r);
	flags_set(v, r.af);
}

static void h_xchg(struct ivcpu *v, const struct x86_insn *i)
{
	struct rmw r = {.src = reg_get(v, i)};

	rmw_rm(v, i, rmw_xchg[size_log(i)], &r);
	gpr_set(v, i->reg, i->opsize, i->prefixes & PFX_REX, r.src);
}

static void h_xadd(struct ivcpu *v, const struct x86_insn *i)
{
	struct rmw r = {.src = reg_get(v, i)};
	bool rex = i->prefixes & PFX_REX;

	if (i->has_mem) {
		rmw_rm(v, i, rmw_xadd[size_log(i)], &r);
		gpr_set(v, i->reg, i->opsize, rex, r.src);
	} else {
		uint64_t x = gpr_get(v, i->rm, i->opsize, rex);

		r.af = flags_to_af(v->c.rflags);
		rmw_xadd[size_log(i)](&x, &r);
		/* Source first: for XADD of a register with itself the sum stays. */
		gpr_set(v, i->reg, i->opsize, rex, r.src);
		gpr_set(v, i->rm, i->opsize, rex, x);
	}
	flags_set(v, r.af);
}

static void h_cmpxchg(struct ivcpu *v, const struct x86_insn *i)
{
	struct rmw r = {.src = reg_get(v, i), .rax = v->c.gpr[RAX]};
	uint64_t before = v->c.gpr[i->rm & 15];

	rmw_rm(v, i, rmw_cmpxchg[size_log(i)], &r);
	flags_set(v, r.af);
	if (v->c.rflags & FL_ZF)
		return;
	/* a register that stays as it is keeps its upper half too */
	if (!i->has_mem && i->opsize == 4)
		v->c.gpr[i->rm & 15] = before;
	gpr_set(v, RAX, i->opsize, true, r.rax);
}

struct pair {
	uint64_t lo, hi;
};

static bool cmpxchg16(void *p, struct pair *old, const struct pair *new)
{
	bool ok;

	__asm__ volatile("lock cmpxchg16b %1"
			 : "=@ccz"(ok), "+m"(*(struct pair *)p), "+a"(old->lo), "+d"(old->hi)
			 : "b"(new->lo), "c"(new->hi)
			 : "memory");
	return ok;
}

static void h_cmpxchg16b(struct ivcpu *v, const struct x86_insn *i)
{
	struct pair old = {v->c.gpr[RAX], v->c.gpr[RDX]}, new = {v->c.gpr[RBX], v->c.gpr[RCX]};
	struct pair x __attribute__((aligned(16)));
	uint64_t lin = insn_lin(v, i, 16, ACC_WRITE);
	bool ok;
	void *p;

	if (lin & 15)
		raise_gp(v, 0);
	p = lin_rmw(v, lin, 16);
	if (p) {
		ok = cmpxchg16(p, &old, &new);
	} else {
		lin_probe(v, lin, 16, ACC_WRITE);
		lin_read(v, lin, &x, 16);
		ok = cmpxchg16(&x, &old, &new);
		lin_write(v, lin, &x, 16);
	}
	if (!ok) {
		v->c.gpr[RAX] = old.lo;
		v->c.gpr[RDX] = old.hi;
	}
	v->c.rflags = (v->c.rflags & ~(uint64_t)FL_ZF) | (ok ? FL_ZF : 0);
}

static void rmw_cas64(void *p, struct rmw *r)
{
	bool ok;

	__asm__ volatile("lock cmpxchgq %3, %1"
			 : "=@ccz"(ok), "+m"(*(u64_ua *)p), "+a"(r->rax)
			 : "r"(r->src)
			 : "memory");
	r->af = ok;
}

static void h_cmpxchg8b(struct ivcpu *v, const struct x86_insn *i)
{
	struct rmw r = {.src = (uint32_t)v->c.gpr[RBX] | v->c.gpr[RCX] << 32,
			.rax = (uint32_t)v->c.gpr[RAX] | v->c.gpr[RDX] << 32};

	rmw_mem(v, insn_lin(v, i, 8, ACC_WRITE), 8, rmw_cas64, &r);
	if (!r.af) {
		v->c.gpr[RAX] = (uint32_t)r.rax;
		v->c.gpr[RDX] = r.rax >> 32;
	}
	v->c.rflags = (v->c.rflags & ~(uint64_t)FL_ZF) | (r.af ? FL_ZF : 0);
}

/* --- bits --- */

/* BT and its kin: row 0 BT, 1 BTS, 2 BTR, 3 BTC.  With a register as bit number a memory operand is
 * a bit string: the number's signed quotient moves the address. */
static void h_bt(struct ivcpu *v, const struct x86_insn *i)
{
	bool by_imm = i->opcode == 0xba;
	unsigned int row = (by_imm ? i->modrm >> 3 : i->opcode >> 3) & 3, bits = i->opsize * 8u;
	uint64_t n = by_imm ? i->imm[0] : reg_get(v, i), lin = 0, x;
	struct rmw r = {.src = n & (bits - 1), .af = flags_to_af(v->c.rflags)};

	if (i->has_mem) {
		int64_t s = i->opsize == 2 ? (int16_t)n : i->opsize == 4 ? (int32_t)n : (int64_t)n;
		uint64_t ea = insn_ea(v, i);

		if (!by_imm)
			ea += (uint64_t)((s >> (3 + size_log(i))) * i->opsize);
		if (i->addrsize < 8)
			ea = i->addrsize == 4 ? (uint32_t)ea : (uint16_t)ea;
		lin = seg_linear(v, i->seg, ea, i->opsize, row ? ACC_WRITE : ACC_READ);
		if (row) {
			rmw_mem(v, lin, i->opsize, rmw_bit[row][size_log(i)], &r);
			flags_set(v, r.af);
			return;
		}
		x = lin_ld(v, lin, i->opsize);
	} else {
		x = gpr_get(v, i->rm, i->opsize, true);
	}
	if (row) {
		rmw_bit[row][size_log(i)](&x, &r);
		gpr_set(v, i->rm, i->opsize, true, x);
		flags_set(v, r.af);
		return;
	}
	v->c.rflags = (v->c.rflags & ~(uint64_t)FL_CF) | (x >> r.src & 1);
}

#define SCAN(op)                                                                                   \
	do {                                                                                       \
		switch (i->opsize) {                                                               \
		case 2:                                                                            \
			__asm__(FLAGS_IN op "w %w2, %w1" FLAGS_OUT : "+&a"(f), "+&r"(d) : "r"(x)); \
			break;                                                                     \
		case 4:                                                                            \
			__asm__(FLAGS_IN op "l %k2, %k1" FLAGS_OUT : "+&a"(f), "+&r"(d) : "r"(x)); \
			break;                                                                     \
		default:                                                                           \
			__asm__(FLAGS_IN op "q %2, %1" FLAGS_OUT : "+&a"(f), "+&r"(d) : "r"(x));   \
			break;                                                                     \
		}                                                                                  \
	} while (0)

/* On the whole register: what a source of 0 leaves in it is the host's doing. */
static void h_bsf(struct ivcpu *v, const struct x86_insn *i)
{
	uint64_t x = rm_get(v, i, i->opsize), d = v->c.gpr[i->reg];
	uint32_t f = flags_to_af(v->c.rflags);

	SCAN("bsf");
	v->c.gpr[i->reg] = d;
	flags_set(v, (uint16_t)f);
}

static void h_bsr(struct ivcpu *v, const struct x86_insn *i)
{
	uint64_t x = rm_get(v, i, i->opsize), d = v->c.gpr[i->reg];
	uint32_t f = flags_to_af(v->c.rflags);

	SCAN("bsr");
	v->c.gpr[i->reg] = d;
	flags_set(v, (uint16_t)f);
}

#define SHIFT_DOUBLE(op)                                                                           \
	do {                                                                                       \
		switch (i->opsize) {                                                               \
		case 2:                                                                            \
			__asm__(FLAGS_IN op "w %%cl, %w3, %w1" FLAGS_OUT                           \
				: "+&a"(f), "+&r"(x)                                               \
				: "c"(n), "r"(y));                                                 \
			break;                                                                     \
		case 4:                                                                            \
			__asm__(FLAGS_IN op "l %%cl, %k3, %k1" FLAGS_OUT                           \
				: "+&a"(f), "+&r"(x)                                               \
				: "c"(n), "r"(y));                                                 \
			break;                                                                     \
		default:                                                                           \
			__asm__(FLAGS_IN op "q %%cl, %3, %1" FLAGS_OUT                             \
				: "+&a"(f), "+&r"(x)                                               \
				: "c"(n), "r"(y));                                                 \
			break;                                                                     \
		}                                                                                  \
	} while (0)

static void h_shiftd(struct ivcpu *v, const struct x86_insn *i)
{
	uint64_t lin = i->has_mem ? insn_lin(v, i, i->opsize, ACC_WRITE) : 0, x;
	uint64_t y = reg_get(v, i), n = i->n_imm ? i->imm[0] : v->c.gpr[RCX];
	uint32_t f = flags_to_af(v->c.rflags);

	if (i->has_mem) {
		lin_check_align(v, lin, i->opsize);
		lin_probe(v, lin, i->opsize, ACC_WRITE);
		x = lin_ld(v, lin, i->opsize);
	} else {
		x = gpr_get(v, i->rm, i->opsize, true);
	}
	if (i->opcode < 0xa8)
		SHIFT_DOUBLE("shld");
	else
		SHIFT_DOUBLE("shrd");
	if (i->has_mem)
		lin_st(v, lin, i->opsize, x);
	else
		gpr_set(v, i->rm, i->opsize, true, x);
	flags_set(v, (uint16_t)f);
}

/* BSWAP of a 16-bit register is undefined: the host's answer. */
static void h_bswap(struct ivcpu *v, const struct x86_insn *i)
{
	uint64_t x = v->c.gpr[i->rm];

	if (i->opsize == 8)
		x = __builtin_bswap64(x);
	else if (i->opsize == 4)
		x = __builtin_bswap32((uint32_t)x);
	else
		__asm__(".byte 0x66; bswapl %k0" : "+r"(x));
	v->c.gpr[i->rm] = x;
}

/* --- multiply and divide --- */

#define WIDE(op, sfx, mod)                                                                         \
	__asm__(FLAGS_IN "movq %4, %%rax\n\t" op sfx " %" mod "3\n\tmovq %%rax, %1" FLAGS_OUT      \
		: "+&a"(f), "=&r"(lo), "+&d"(hi)                                                   \
		: "r"(x), "r"(a)                                                                   \
		: "cc")
#define WIDE_SIZES(op)                                                                             \
	do {                                                                                       \
		switch (i->opsize) {                                                               \
		case 1:                                                                            \
			WIDE(op, "b", "b");                                                        \
			break;                                                                     \
		case 2:                                                                            \
			WIDE(op, "w", "w");                                                        \
			break;                                                                     \
		case 4:                                                                            \
			WIDE(op, "l", "k");                                                        \
			break;                                                                     \
		default:                                                                           \
			WIDE(op, "q", "");                                                         \
			break;                                                                     \
		}                                                                                  \
	} while (0)

static void h_muldiv(struct ivcpu *v, const struct x86_insn *i)
{
	uint64_t x = rm_get(v, i, i->opsize), a = v->c.gpr[RAX], hi = v->c.gpr[RDX], lo;
	uint64_t f = flags_to_af(v->c.rflags);
	unsigned int op = i->modrm >> 3 & 7;

	if (op >= 6 && div_faults(a, hi, x, i->opsize, op == 7))
		raise_fault(v, VEC_DE);
	switch (op) {
	case 4:
		WIDE_SIZES("mul");
		break;
	case 5:
		WIDE_SIZES("imul");
		break;
	case 6:
		WIDE_SIZES("div");
		break;
	default:
		WIDE_SIZES("idiv");
		break;
	}
	v->c.gpr[RAX] = lo;
	if (i->opsize > 1)
		v->c.gpr[RDX] = hi;
	flags_set(v, (uint16_t)f);
}

/* --- flags and odd ones --- */

static void h_lahf(struct ivcpu *v, const struct x86_insn *i)
{
	gpr_set(v, 4, 1, false, (v->c.rflags & 0xd5) | FL_ONE);
}
static void h_sahf(struct ivcpu *v, const struct x86_insn *i)
{
	v->c.rflags = (v->c.rflags & ~UINT64_C(0xd5)) | (gpr_get(v, 4, 1, false) & 0xd5);
}
static void h_cmc(struct ivcpu *v, const struct x86_insn *i)
{
	v->c.rflags ^= FL_CF;
}
static void h_clc(struct ivcpu *v, const struct x86_insn *i)
{
	v->c.rflags &= ~(uint64_t)FL_CF;
}
static void h_stc(struct ivcpu *v, const struct x86_insn *i)
{
	v->c.rflags |= FL_CF;
}
static void h_cld(struct ivcpu *v, const struct x86_insn *i)
{
	v->c.rflags &= ~(uint64_t)FL_DF;
}
static void h_std(struct ivcpu *v, const struct x86_insn *i)
{
	v->c.rflags |= FL_DF;
}
static void h_salc(struct ivcpu *v, const struct x86_insn *i)
{
	gpr_set(v, RAX, 1, true, v->c.rflags & FL_CF ? 0xff : 0);
}

static void h_setcc(struct ivcpu *v, const struct x86_insn *i)
{
	rm_set(v, i, 1, flags_cond(flags_to_af(v->c.rflags), i->opcode));
}

/* The memory operand is read, and a 32-bit register cleared at the top, whatever the condition. */
static void h_cmov(struct ivcpu *v, const struct x86_insn *i)
{
	uint64_t x = rm_get(v, i, i->opsize);

	if (!flags_cond(flags_to_af(v->c.rflags), i->opcode))
		x = reg_get(v, i);
	gpr_set(v, i->reg, i->opsize, true, x);
}

static void h_xlat(struct ivcpu *v, const struct x86_insn *i)
{
	uint64_t ea = v->c.gpr[RBX] + (uint8_t)v->c.gpr[RAX];

	if (i->addrsize < 8)
		ea = i->addrsize == 4 ? (uint32_t)ea : (uint16_t)ea;
	gpr_set(v, RAX, 1, true, lin_ld8(v, seg_linear(v, i->seg, ea, 1, ACC_READ)));
}

static void h_mfence(struct ivcpu *v, const struct x86_insn *i)
{
	atomic_thread_fence(memory_order_seq_cst);
}

static void h_nothing(struct ivcpu *v, const struct x86_insn *i)
{
}

/* A vCPU that spins waits for another one, which may need this host CPU: give it away at times. */
static void h_pause(struct ivcpu *v, const struct x86_insn *i)
{
	if (!(++v->pauses & 63))
		sched_yield();
}

/* Caches are the host's business; the address is checked as for a byte load. */
static void h_clflush(struct ivcpu *v, const struct x86_insn *i)
{
	lin_probe(v, insn_lin(v, i, 1, ACC_READ), 1, ACC_READ);
}

static int32_t bound_operand(uint64_t x, unsigned int size)
{
	return size == 2 ? (int16_t)x : (int32_t)x;
}

static int32_t bound_load(struct ivcpu *v, const struct x86_insn *i, uint64_t ea)
{
	ea = i->addrsize == 2 ? (uint16_t)ea : (uint32_t)ea;
	return bound_operand(lin_ld(v, seg_linear(v, i->seg, ea, i->opsize, ACC_READ), i->opsize),
			     i->opsize);
}

/* The upper bound is not looked at when the lower one decides. */
static void h_bound(struct ivcpu *v, const struct x86_insn *i)
{
	uint64_t ea = insn_ea(v, i);
	int32_t x = bound_operand(reg_get(v, i), i->opsize);

	if (x < bound_load(v, i, ea) || x > bound_load(v, i, ea + i->opsize))
		raise_fault(v, VEC_BR);
}

static void h_in(struct ivcpu *v, const struct x86_insn *i)
{
	uint16_t port = i->n_imm ? (uint8_t)i->imm[0] : (uint16_t)v->c.gpr[RDX];

	io_check(v, port, i->opsize);
	gpr_set(v, RAX, i->opsize, true, exit_io_read(v, port, i->opsize));
}

static void h_out(struct ivcpu *v, const struct x86_insn *i)
{
	uint16_t port = i->n_imm ? (uint8_t)i->imm[0] : (uint16_t)v->c.gpr[RDX];

	io_check(v, port, i->opsize);
	exit_io_write(v, port, i->opsize, gpr_get(v, RAX, i->opsize, true));
}

/* --- choosing --- */

static slow_fn *int_by_mnemonic(const struct x86_insn *i)
{
	switch (i->mnemonic) {
	case ZYDIS_MNEMONIC_BT:
	case ZYDIS_MNEMONIC_BTS:
	case ZYDIS_MNEMONIC_BTR:
	case ZYDIS_MNEMONIC_BTC:
		return h_bt;
	case ZYDIS_MNEMONIC_BSF:
		return h_bsf;
	case ZYDIS_MNEMONIC_BSR:
		return h_bsr;
	case ZYDIS_MNEMONIC_SHLD:
	case ZYDIS_MNEMONIC_SHRD:
		return h_shiftd;
	case ZYDIS_MNEMONIC_BSWAP:
		return h_bswap;
	case ZYDIS_MNEMONIC_MUL:
	case ZYDIS_MNEMONIC_IMUL:
	case ZYDIS_MNEMONIC_DIV:
	case ZYDIS_MNEMONIC_IDIV:
		return h_muldiv;
	case ZYDIS_MNEMONIC_XCHG:
		return h_xchg;
	case ZYDIS_MNEMONIC_XADD:
		return h_xadd;
	case ZYDIS_MNEMONIC_CMPXCHG:
		return h_cmpxchg;
	case ZYDIS_MNEMONIC_CMPXCHG8B:
		return h_cmpxchg8b;
	case ZYDIS_MNEMONIC_CMPXCHG16B:
		return h_cmpxchg16b;
	case ZYDIS_MNEMONIC_LAHF:
		return h_lahf;
	case ZYDIS_MNEMONIC_SAHF:
		return h_sahf;
	case ZYDIS_MNEMONIC_CMC:
		return h_cmc;
	case ZYDIS_MNEMONIC_CLC:
		return h_clc;
	case ZYDIS_MNEMONIC_STC:
		return h_stc;
	case ZYDIS_MNEMONIC_CLD:
		return h_cld;
	case ZYDIS_MNEMONIC_STD:
		return h_std;
	case ZYDIS_MNEMONIC_SALC:
		return h_salc;
	case ZYDIS_MNEMONIC_XLAT:
		return h_xlat;
	case ZYDIS_MNEMONIC_BOUND:
		return h_bound;
	case ZYDIS_MNEMONIC_IN:
		return h_in;
	case ZYDIS_MNEMONIC_OUT:
		return h_out;
	case ZYDIS_MNEMONIC_MFENCE:
		return h_mfence;
	case ZYDIS_MNEMONIC_PAUSE:
		return h_pause;
	case ZYDIS_MNEMONIC_LFENCE:
	case ZYDIS_MNEMONIC_SFENCE:
	case ZYDIS_MNEMONIC_NOP:
	case ZYDIS_MNEMONIC_PREFETCH:
	case ZYDIS_MNEMONIC_PREFETCHW:
	case ZYDIS_MNEMONIC_PREFETCHWT1:
	case ZYDIS_MNEMONIC_PREFETCHNTA:
	case ZYDIS_MNEMONIC_PREFETCHT0:
	case ZYDIS_MNEMONIC_PREFETCHT1:
	case ZYDIS_MNEMONIC_PREFETCHT2:
		return h_nothing;
	case ZYDIS_MNEMONIC_CLFLUSH:
	case ZYDIS_MNEMONIC_CLFLUSHOPT:
	case ZYDIS_MNEMONIC_CLWB:
		return h_clflush;
	case ZYDIS_MNEMONIC_AAA:
	case ZYDIS_MNEMONIC_AAS:
	case ZYDIS_MNEMONIC_DAA:
	case ZYDIS_MNEMONIC_DAS:
	case ZYDIS_MNEMONIC_AAM:
	case ZYDIS_MNEMONIC_AAD:
		return h_decimal;
	}
	return NULL;
}

struct slow_handler int_lookup(const struct ivcpu *v, const struct x86_insn *i)
{
	struct slow_handler h = flow_lookup(v, i);
	bool locked = i->prefixes & PFX_LOCK;

	if (h.fn || i->encoding != INSN_LEGACY)
		return h;
	if (i->map == 1 && i->opcode >> 4 == 9)
		h.fn = h_setcc;
	else if (i->map == 1 && i->opcode >> 4 == 4)
		h.fn = h_cmov;
	else if (locked && i->map == 0 && (i->opcode < 0x40 || (i->opcode & 0xfc) == 0x80))
		h.fn = h_lock_alu;
	else if (locked && i->map == 0 && i->opcode >= 0xf6)
		h.fn = h_lock_unary;
	else
		h.fn = int_by_mnemonic(i);
	return h;
}
