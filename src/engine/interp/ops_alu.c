/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/interp/ops_alu.c - hot integer micro-ops: arithmetic, logic, shifts, moves
 *
 * Each handler executes the host's own instruction and keeps the host's flags by LAHF and SETO, so
 * that undefined flags are the host's too.  Flags and registers change after the last access that
 * can fault.
 *
 * Forms: rr, ri (register or immediate source), rm (memory source), mr, mi (memory destination).
 * Memory forms come twice: F for flat 64-bit addresses, G for all others.
 */
#include "engine/interp/hot.h"

#include <Zydis/Zydis.h>

#define LIN_F(size, acc) uop_ea(v, u)
#define LIN_G(size, acc) general_lin(v, u, size, acc)

/* Host flags from AF form and back, around one instruction. */
#define FLAGS_IN  "addb $127, %%al\n\tsahf\n\t"
#define FLAGS_OUT "\n\tlahf\n\tseto %%al"

#define HANDLER(name) static const struct uop *name(struct ivcpu *v, const struct uop *u)

/* --- two operands --- */

/* @in: does the instruction read flags. */
#define DEFINE_ALU2(op, in, bits, sfx)                                                             \
	static inline __attribute__((always_inline))                                               \
	uint##bits##_t alu_##op##bits(uint##bits##_t a, uint##bits##_t b, uint16_t *af)            \
	{                                                                                          \
		uint32_t f = *af;                                                                  \
                                                                                                   \
		if (in)                                                                            \
			__asm__(FLAGS_IN #op sfx " %2, %1" FLAGS_OUT                               \
				: "+&a"(f), "+&q"(a)                                               \
				: "q"(b)                                                           \
				: "cc");                                                           \
		else                                                                               \
			__asm__(#op sfx " %2, %1" FLAGS_OUT : "=&a"(f), "+&q"(a) : "q"(b) : "cc"); \
		*af = (uint16_t)f;                                                                 \
		return a;                                                                          \
	}

#define DEFINE_ALU_REG(op, bits, wr)                                                               \
	HANDLER(op##_rr##bits)                                                                     \
	{                                                                                          \
		uint##bits##_t r = alu_##op##bits(REG##bits(v, u->a), REG##bits(v, u->b), &v->af); \
                                                                                                   \
		if (wr)                                                                            \
			SET##bits(v, u->a, r);                                                     \
		NEXT(v, u);                                                                        \
	}                                                                                          \
	HANDLER(op##_ri##bits)                                                                     \
	{                                                                                          \
		uint##bits##_t r =                                                                 \
		    alu_##op##bits(REG##bits(v, u->a), (uint##bits##_t)u->imm, &v->af);            \
                                                                                                   \
		if (wr)                                                                            \
			SET##bits(v, u->a, r);                                                     \
		NEXT(v, u);                                                                        \
	}

#define DEFINE_ALU_MEM(op, bits, wr, F)                                                            \
	HANDLER(op##_rm##bits##F)                                                                  \
	{                                                                                          \
		uint##bits##_t x = ld##bits(v, u, LIN_##F(bits / 8, ACC_READ));                    \
		uint##bits##_t r = alu_##op##bits(REG##bits(v, u->a), x, &v->af);                  \
                                                                                                   \
		if (wr)                                                                            \
			SET##bits(v, u->a, r);                                                     \
		NEXT(v, u);                                                                        \
	}                                                                                          \
	DEFINE_RMW(op##_mr##bits##F, bits, wr, F, alu_##op##bits(x, REG##bits(v, u->b), &af))      \
	DEFINE_RMW(op##_mi##bits##F, bits, wr, F, alu_##op##bits(x, (uint##bits##_t)u->imm, &af))

/* Memory destination: one look-up for load and store; flags after the store went through. */
#define DEFINE_RMW(name, bits, wr, F, compute)                                                     \
	HANDLER(name)                                                                              \
	{                                                                                          \
		uint64_t lin = LIN_##F(bits / 8, wr ? ACC_WRITE : ACC_READ);                       \
		uint16_t af = v->af;                                                               \
		uint##bits##_t x, r;                                                               \
                                                                                                   \
		if (wr) {                                                                          \
			if (tlb_hit(v->tlb, lin, bits / 8, ACC_WRITE)) {                           \
				volatile u##bits##_ua *p = tlb_host(v->tlb, lin);                  \
                                                                                                   \
				x = *p;                                                            \
				r = compute;                                                       \
				*p = r;                                                            \
			} else {                                                                   \
				x = (uint##bits##_t)hot_ld_rmw(v, u, lin, bits / 8);               \
				r = compute;                                                       \
				hot_st(v, u, lin, bits / 8, r);                                    \
			}                                                                          \
		} else {                                                                           \
			x = ld##bits(v, u, lin);                                                   \
			r = compute;                                                               \
			(void)r;                                                                   \
		}                                                                                  \
		v->af = af;                                                                        \
		NEXT(v, u);                                                                        \
	}

#define DEFINE_ALU_SIZE(op, in, wr, bits, sfx)                                                     \
	DEFINE_ALU2(op, in, bits, sfx)                                                             \
	DEFINE_ALU_REG(op, bits, wr)                                                               \
	DEFINE_ALU_MEM(op, bits, wr, F)                                                            \
	DEFINE_ALU_MEM(op, bits, wr, G)

#define DEFINE_ALU(op, in, wr)                                                                     \
	DEFINE_ALU_SIZE(op, in, wr, 8, "b")                                                        \
	DEFINE_ALU_SIZE(op, in, wr, 16, "w")                                                       \
	DEFINE_ALU_SIZE(op, in, wr, 32, "l")                                                       \
	DEFINE_ALU_SIZE(op, in, wr, 64, "q")

DEFINE_ALU(add, 0, 1)
DEFINE_ALU(or, 0, 1)
DEFINE_ALU(adc, 1, 1)
DEFINE_ALU(sbb, 1, 1)
DEFINE_ALU(and, 0, 1)
DEFINE_ALU(sub, 0, 1)
DEFINE_ALU(xor, 0, 1)
DEFINE_ALU(cmp, 0, 0)
DEFINE_ALU(test, 0, 0)

struct alu_forms {
	uop_fn *rr, *ri, *rm[2], *mr[2], *mi[2]; /* [0] flat, [1] general */
};

#define ALU_ROW(op, bits)                                                                          \
	{                                                                                          \
		op##_rr##bits, op##_ri##bits, {op##_rm##bits##F, op##_rm##bits##G},                \
		    {op##_mr##bits##F, op##_mr##bits##G},                                          \
		{                                                                                  \
			op##_mi##bits##F, op##_mi##bits##G                                         \
		}                                                                                  \
	}
#define ALU_ROWS(op)                                                                               \
	{                                                                                          \
		ALU_ROW(op, 8), ALU_ROW(op, 16), ALU_ROW(op, 32), ALU_ROW(op, 64)                  \
	}

/* Rows 0 to 7 as in opcode bits 3-5, then TEST; columns by log2 of the size. */
static const struct alu_forms alu_forms[9][4] = {
    ALU_ROWS(add), ALU_ROWS(or),  ALU_ROWS(adc), ALU_ROWS(sbb),  ALU_ROWS(and),
    ALU_ROWS(sub), ALU_ROWS(xor), ALU_ROWS(cmp), ALU_ROWS(test),
};

/* --- one operand --- */

#define DEFINE_ALU1(op, bits, sfx)                                                                 \
	static inline __attribute__((always_inline))                                               \
	uint##bits##_t alu_##op##bits(uint##bits##_t a, uint16_t *af)                              \
	{                                                                                          \
		uint32_t f = *af;                                                                  \
                                                                                                   \
		__asm__(FLAGS_IN #op sfx " %1" FLAGS_OUT : "+&a"(f), "+&q"(a) : : "cc");           \
		*af = (uint16_t)f;                                                                 \
		return a;                                                                          \
	}                                                                                          \
	HANDLER(op##_r##bits)                                                                      \
	{                                                                                          \
		uint##bits##_t r = alu_##op##bits(REG##bits(v, u->a), &v->af);                     \
                                                                                                   \
		SET##bits(v, u->a, r);                                                             \
		NEXT(v, u);                                                                        \
	}                                                                                          \
	DEFINE_RMW(op##_m##bits##F, bits, 1, F, alu_##op##bits(x, &af))                            \
	DEFINE_RMW(op##_m##bits##G, bits, 1, G, alu_##op##bits(x, &af))

#define DEFINE_UNARY(op)                                                                           \
	DEFINE_ALU1(op, 8, "b")                                                                    \
	DEFINE_ALU1(op, 16, "w")                                                                   \
	DEFINE_ALU1(op, 32, "l")                                                                   \
	DEFINE_ALU1(op, 64, "q")

DEFINE_UNARY(inc)
DEFINE_UNARY(dec)
DEFINE_UNARY(not )
DEFINE_UNARY(neg)

struct unary_forms {
	uop_fn *r, *m[2];
};
#define UNARY_ROW(op, bits)                                                                        \
	{                                                                                          \
		op##_r##bits,                                                                      \
		{                                                                                  \
			op##_m##bits##F, op##_m##bits##G                                           \
		}                                                                                  \
	}
#define UNARY_ROWS(op)                                                                             \
	{                                                                                          \
		UNARY_ROW(op, 8), UNARY_ROW(op, 16), UNARY_ROW(op, 32), UNARY_ROW(op, 64)          \
	}
enum unary { UNARY_INC, UNARY_DEC, UNARY_NOT, UNARY_NEG };
static const struct unary_forms unary_forms[4][4] = {UNARY_ROWS(inc), UNARY_ROWS(dec),
						     UNARY_ROWS(not ), UNARY_ROWS(neg)};

/* --- shifts and rotates --- */

/* A count of 0 leaves flags alone and rotates keep some: always with the old flags loaded. */
#define DEFINE_SHIFT_SIZE(op, bits, sfx)                                                           \
	static inline __attribute__((always_inline))                                               \
	uint##bits##_t alu_##op##bits(uint##bits##_t a, uint8_t n, uint16_t *af)                   \
	{                                                                                          \
		uint32_t f = *af;                                                                  \
                                                                                                   \
		__asm__(FLAGS_IN #op sfx " %%cl, %1" FLAGS_OUT                                     \
			: "+&a"(f), "+&q"(a)                                                       \
			: "c"(n)                                                                   \
			: "cc");                                                                   \
		*af = (uint16_t)f;                                                                 \
		return a;                                                                          \
	}                                                                                          \
	HANDLER(op##_ri##bits)                                                                     \
	{                                                                                          \
		uint##bits##_t r = alu_##op##bits(REG##bits(v, u->a), (uint8_t)u->imm, &v->af);    \
                                                                                                   \
		SET##bits(v, u->a, r);                                                             \
		NEXT(v, u);                                                                        \
	}                                                                                          \
	HANDLER(op##_rc##bits)                                                                     \
	{                                                                                          \
		uint##bits##_t r =                                                                 \
		    alu_##op##bits(REG##bits(v, u->a), (uint8_t)v->c.gpr[RCX], &v->af);            \
                                                                                                   \
		SET##bits(v, u->a, r);                                                             \
		NEXT(v, u);                                                                        \
	}                                                                                          \
	DEFINE_RMW(op##_mi##bits##G, bits, 1, G, alu_##op##bits(x, (uint8_t)u->imm, &af))          \
	DEFINE_RMW(op##_mc##bits##G, bits, 1, G, alu_##op##bits(x, (uint8_t)v->c.gpr[RCX], &af))

#define DEFINE_SHIFT(op)                                                                           \
	DEFINE_SHIFT_SIZE(op, 8, "b")                                                              \
	DEFINE_SHIFT_SIZE(op, 16, "w")                                                             \
	DEFINE_SHIFT_SIZE(op, 32, "l")                                                             \
	DEFINE_SHIFT_SIZE(op, 64, "q")

DEFINE_SHIFT(rol)
DEFINE_SHIFT(ror)
DEFINE_SHIFT(rcl)
DEFINE_SHIFT(rcr)
DEFINE_SHIFT(shl)
DEFINE_SHIFT(shr)
DEFINE_SHIFT(sar)

struct shift_forms {
	uop_fn *ri, *rc, *mi, *mc;
};
#define SHIFT_ROW(op, bits)                                                                        \
	{                                                                                          \
		op##_ri##bits, op##_rc##bits, op##_mi##bits##G, op##_mc##bits##G                   \
	}
#define SHIFT_ROWS(op)                                                                             \
	{                                                                                          \
		SHIFT_ROW(op, 8), SHIFT_ROW(op, 16), SHIFT_ROW(op, 32), SHIFT_ROW(op, 64)          \
	}
/* By ModRM.reg; 6 is the undocumented twin of SHL. */
static const struct shift_forms shift_forms[8][4] = {
    SHIFT_ROWS(rol), SHIFT_ROWS(ror), SHIFT_ROWS(rcl), SHIFT_ROWS(rcr),
    SHIFT_ROWS(shl), SHIFT_ROWS(shr), SHIFT_ROWS(shl), SHIFT_ROWS(sar),
};

/* --- IMUL with two operands --- */

DEFINE_ALU_SIZE(imul, 1, 1, 16, "w")
DEFINE_ALU_SIZE(imul, 1, 1, 32, "l")
DEFINE_ALU_SIZE(imul, 1, 1, 64, "q")

#define DEFINE_IMUL3(bits)                                                                         \
	HANDLER(imul3_r##bits)                                                                     \
	{                                                                                          \
		uint##bits##_t r =                                                                 \
		    alu_imul##bits(REG##bits(v, u->b), (uint##bits##_t)u->imm, &v->af);            \
                                                                                                   \
		SET##bits(v, u->a, r);                                                             \
		NEXT(v, u);                                                                        \
	}                                                                                          \
	HANDLER(imul3_m##bits)                                                                     \
	{                                                                                          \
		uint##bits##_t x = ld##bits(v, u, LIN_G(bits / 8, ACC_READ));                      \
		uint##bits##_t r = alu_imul##bits(x, (uint##bits##_t)u->imm, &v->af);              \
                                                                                                   \
		SET##bits(v, u->a, r);                                                             \
		NEXT(v, u);                                                                        \
	}
DEFINE_IMUL3(16)
DEFINE_IMUL3(32)
DEFINE_IMUL3(64)

static const struct alu_forms imul_forms[4] = {
    {0}, ALU_ROW(imul, 16), ALU_ROW(imul, 32), ALU_ROW(imul, 64)};
static uop_fn *const imul3_forms[4][2] = {
    {0}, {imul3_r16, imul3_m16}, {imul3_r32, imul3_m32}, {imul3_r64, imul3_m64}};

/* --- choosing --- */

static uint16_t gpr_off(unsigned int r, unsigned int size, const struct x86_insn *i)
{
	if (size == 1 && r >= 4 && r < 8 && !(i->prefixes & PFX_REX))
		return (uint16_t)(offsetof(struct ivcpu, c.gpr) + 8 * (r - 4) + 1);
	return (uint16_t)(offsetof(struct ivcpu, c.gpr) + 8 * r);
}

static unsigned int general(const struct ivcpu *v, const struct x86_insn *i)
{
	return !(v->mode == MODE_LONG && i->addrsize == 8 && i->seg < SEG_FS);
}

/* Opcodes 00-3F and the TEST and IMUL rows: @dir 1 = reg is the destination. */
static void choose_alu(const struct ivcpu *v, const struct x86_insn *i, const struct alu_forms *f,
		       unsigned int dir, struct uop *u)
{
	uint16_t reg = gpr_off(i->reg, i->opsize, i), rm = gpr_off(i->rm, i->opsize, i);

	if (i->has_mem) {
		u->fn = dir ? f->rm[general(v, i)] : f->mr[general(v, i)];
		u->a = u->b = reg;
	} else {
		u->fn = f->rr;
		u->a = dir ? reg : rm;
		u->b = dir ? rm : reg;
	}
}

static void choose_imm(const struct ivcpu *v, const struct x86_insn *i, const struct alu_forms *f,
		       struct uop *u)
{
	u->imm = (int64_t)i->imm[0];
	u->fn = i->has_mem ? f->mi[general(v, i)] : f->ri;
	u->a = gpr_off(i->rm, i->opsize, i);
}

static void choose_unary(const struct ivcpu *v, const struct x86_insn *i, enum unary op,
			 struct uop *u)
{
	const struct unary_forms *f = &unary_forms[op][__builtin_ctz(i->opsize)];

	u->fn = i->has_mem ? f->m[general(v, i)] : f->r;
	u->a = gpr_off(i->rm, i->opsize, i);
}

static void choose_shift(const struct x86_insn *i, struct uop *u)
{
	const struct shift_forms *f = &shift_forms[i->modrm >> 3 & 7][__builtin_ctz(i->opsize)];
	bool by_cl = i->opcode >= 0xd2;

	u->a = gpr_off(i->rm, i->opsize, i);
	u->imm = i->opcode < 0xd0 ? (int64_t)i->imm[0] : 1;
	if (i->has_mem)
		u->fn = by_cl ? f->mc : f->mi;
	else
		u->fn = by_cl ? f->rc : f->ri;
}

static void alu_one_byte(const struct ivcpu *v, const struct x86_insn *i, struct uop *u)
{
	unsigned int size = (unsigned int)__builtin_ctz(i->opsize), op = i->opcode;
	unsigned int ext = i->modrm >> 3 & 7;

	if (op < 0x40 && (op & 7) < 4) {
		choose_alu(v, i, &alu_forms[op >> 3][size], op >> 1 & 1, u);
	} else if ((op < 0x40 && (op & 7) < 6) || op == 0xa8 || op == 0xa9) {
		u->fn = alu_forms[op < 0x40 ? op >> 3 : 8][size].ri;
		u->a = offsetof(struct ivcpu, c.gpr);
		u->imm = (int64_t)i->imm[0];
	} else if (op >= 0x80 && op <= 0x83) {
		choose_imm(v, i, &alu_forms[ext][size], u);
	} else if (op == 0x84 || op == 0x85) {
		choose_alu(v, i, &alu_forms[8][size], 0, u);
	} else if ((op == 0xf6 || op == 0xf7) && ext < 2) {
		choose_imm(v, i, &alu_forms[8][size], u);
	} else if ((op == 0xf6 || op == 0xf7) && ext < 4) {
		choose_unary(v, i, ext == 2 ? UNARY_NOT : UNARY_NEG, u);
	} else if ((op == 0xfe || op == 0xff) && ext < 2) {
		choose_unary(v, i, ext ? UNARY_DEC : UNARY_INC, u);
	} else if (op >= 0x40 && op < 0x50) { /* one-byte INC and DEC; REX in 64-bit mode */
		choose_unary(v, i, op < 0x48 ? UNARY_INC : UNARY_DEC, u);
	} else if (op == 0xc0 || op == 0xc1 || (op >= 0xd0 && op <= 0xd3)) {
		choose_shift(i, u);
	} else if (op == 0x69 || op == 0x6b) {
		u->fn = imul3_forms[size][i->has_mem];
		u->a = gpr_off(i->reg, i->opsize, i);
		u->b = gpr_off(i->rm, i->opsize, i);
		u->imm = (int64_t)i->imm[0];
	}
}

void alu_translate(const struct ivcpu *v, const struct x86_insn *i, struct uop *u)
{
	if (i->encoding != INSN_LEGACY || (i->prefixes & PFX_LOCK) || !i->opsize || i->opsize > 8)
		return;
	if (i->map == 0)
		alu_one_byte(v, i, u);
	else if (i->map == 1 && i->opcode == 0xaf)
		choose_alu(v, i, &imul_forms[__builtin_ctz(i->opsize)], 1, u);
}
