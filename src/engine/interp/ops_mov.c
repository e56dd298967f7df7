/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/interp/ops_mov.c - hot micro-ops that move: MOV, MOVZX, MOVSX, LEA, XCHG of registers,
 * conversions
 */
#include "engine/interp/hot.h"

#include <Zydis/Zydis.h>

#define LIN_F(size, acc) uop_ea(v, u)
#define LIN_G(size, acc) general_lin(v, u, size, acc)
#define HANDLER(name)    static const struct uop *name(struct ivcpu *v, const struct uop *u)

#define DEFINE_MOV_MEM(bits, F)                                                                    \
	HANDLER(load##bits##F)                                                                     \
	{                                                                                          \
		uint##bits##_t x = ld##bits(v, u, LIN_##F(bits / 8, ACC_READ));                    \
                                                                                                   \
		SET##bits(v, u->a, x);                                                             \
		NEXT(v, u);                                                                        \
	}                                                                                          \
	HANDLER(store##bits##F)                                                                    \
	{                                                                                          \
		st##bits(v, u, LIN_##F(bits / 8, ACC_WRITE), REG##bits(v, u->a));                  \
		NEXT(v, u);                                                                        \
	}                                                                                          \
	HANDLER(store_imm##bits##F)                                                                \
	{                                                                                          \
		st##bits(v, u, LIN_##F(bits / 8, ACC_WRITE), (uint##bits##_t)u->imm);              \
		NEXT(v, u);                                                                        \
	}

#define DEFINE_MOV(bits)                                                                           \
	HANDLER(mov##bits)                                                                         \
	{                                                                                          \
		SET##bits(v, u->a, REG##bits(v, u->b));                                            \
		NEXT(v, u);                                                                        \
	}                                                                                          \
	HANDLER(mov_imm##bits)                                                                     \
	{                                                                                          \
		SET##bits(v, u->a, u->imm);                                                        \
		NEXT(v, u);                                                                        \
	}                                                                                          \
	HANDLER(xchg##bits)                                                                        \
	{                                                                                          \
		uint##bits##_t x = REG##bits(v, u->a), y = REG##bits(v, u->b);                     \
                                                                                                   \
		SET##bits(v, u->a, y);                                                             \
		SET##bits(v, u->b, x);                                                             \
		NEXT(v, u);                                                                        \
	}                                                                                          \
	HANDLER(lea##bits)                                                                         \
	{                                                                                          \
		SET##bits(v, u->a, uop_ea(v, u));                                                  \
		NEXT(v, u);                                                                        \
	}                                                                                          \
	DEFINE_MOV_MEM(bits, F)                                                                    \
	DEFINE_MOV_MEM(bits, G)

DEFINE_MOV(8)
DEFINE_MOV(16)
DEFINE_MOV(32)
DEFINE_MOV(64)

/* 64-bit LEA of a 32-bit address, and the like, are rare: by mask. */
HANDLER(lea_trunc)
{
	uint64_t ea = uop_ea(v, u);

	ea = u->asz == 2 ? (uint16_t)ea : (uint32_t)ea;
	if (u->imm == 2)
		SET16(v, u->a, ea);
	else
		SET64(v, u->a, ea);
	NEXT(v, u);
}

struct mov_forms {
	uop_fn *rr, *ri, *xchg, *lea, *load[2], *store[2], *store_imm[2];
};
#define MOV_ROW(bits)                                                                              \
	{                                                                                          \
		mov##bits, mov_imm##bits, xchg##bits, lea##bits, {load##bits##F, load##bits##G},   \
		    {store##bits##F, store##bits##G},                                              \
		{                                                                                  \
			store_imm##bits##F, store_imm##bits##G                                     \
		}                                                                                  \
	}
static const struct mov_forms mov_forms[4] = {MOV_ROW(8), MOV_ROW(16), MOV_ROW(32), MOV_ROW(64)};

/* --- extensions --- */

#define DEFINE_EXTEND(name, type, from, to)                                                        \
	HANDLER(name##_r)                                                                          \
	{                                                                                          \
		SET##to(v, u->a, (type)REG##from(v, u->b));                                        \
		NEXT(v, u);                                                                        \
	}                                                                                          \
	HANDLER(name##_F)                                                                          \
	{                                                                                          \
		SET##to(v, u->a, (type)ld##from(v, u, LIN_F(from / 8, ACC_READ)));                 \
		NEXT(v, u);                                                                        \
	}                                                                                          \
	HANDLER(name##_G)                                                                          \
	{                                                                                          \
		SET##to(v, u->a, (type)ld##from(v, u, LIN_G(from / 8, ACC_READ)));                 \
		NEXT(v, u);                                                                        \
	}

DEFINE_EXTEND(zx8_16, uint8_t, 8, 16)
DEFINE_EXTEND(zx8_32, uint8_t, 8, 32)
DEFINE_EXTEND(zx8_64, uint8_t, 8, 64)
DEFINE_EXTEND(zx16_32, uint16_t, 16, 32)
DEFINE_EXTEND(zx16_64, uint16_t, 16, 64)
DEFINE_EXTEND(sx8_16, int8_t, 8, 16)
DEFINE_EXTEND(sx8_32, int8_t, 8, 32)
DEFINE_EXTEND(sx8_64, int8_t, 8, 64)
DEFINE_EXTEND(sx16_32, int16_t, 16, 32)
DEFINE_EXTEND(sx16_64, int16_t, 16, 64)
DEFINE_EXTEND(sx32_64, int32_t, 32, 64)

#define EXT_ROW(name)                                                                              \
	{                                                                                          \
		name##_r, name##_F, name##_G                                                       \
	}
/* By opcode (0F B6, B7, BE, BF) and log2 of the destination's size. */
static uop_fn *const extend_forms[4][4][3] = {
    {{0}, EXT_ROW(zx8_16), EXT_ROW(zx8_32), EXT_ROW(zx8_64)},
    {{0}, {mov16, load16F, load16G}, EXT_ROW(zx16_32), EXT_ROW(zx16_64)},
    {{0}, EXT_ROW(sx8_16), EXT_ROW(sx8_32), EXT_ROW(sx8_64)},
    {{0}, {mov16, load16F, load16G}, EXT_ROW(sx16_32), EXT_ROW(sx16_64)},
};
/* MOVSXD: without REX.W a plain move. */
static uop_fn *const movsxd_forms[4][3] = {
    {0}, {mov16, load16F, load16G}, {mov32, load32F, load32G}, EXT_ROW(sx32_64)};

/* CBW, CWDE, CDQE; CWD, CDQ, CQO. */
HANDLER(cbw)
{
	v->c.gpr[RAX] = (v->c.gpr[RAX] & ~UINT64_C(0xffff)) | (uint16_t)(int8_t)v->c.gpr[RAX];
	NEXT(v, u);
}
HANDLER(cwde)
{
	v->c.gpr[RAX] = (uint32_t)(int16_t)v->c.gpr[RAX];
	NEXT(v, u);
}
HANDLER(cdqe)
{
	v->c.gpr[RAX] = (uint64_t)(int32_t)v->c.gpr[RAX];
	NEXT(v, u);
}
HANDLER(cwd)
{
	uint16_t sign = (int16_t)v->c.gpr[RAX] < 0 ? 0xffff : 0;

	v->c.gpr[RDX] = (v->c.gpr[RDX] & ~UINT64_C(0xffff)) | sign;
	NEXT(v, u);
}
HANDLER(cdq)
{
	v->c.gpr[RDX] = (int32_t)v->c.gpr[RAX] < 0 ? UINT32_MAX : 0;
	NEXT(v, u);
}
HANDLER(cqo)
{
	v->c.gpr[RDX] = (int64_t)v->c.gpr[RAX] < 0 ? UINT64_MAX : 0;
	NEXT(v, u);
}
HANDLER(nop)
{
	NEXT(v, u);
}

/* --- choosing --- */

static uint16_t gpr_off(unsigned int r, unsigned int size, const struct x86_insn *i)
{
	if (size == 1 && r >= 4 && r < 8 && !(i->prefixes & PFX_REX))
		return (uint16_t)(offsetof(struct ivcpu, c.gpr) + 8 * (r - 4) + 1);
	return (uint16_t)(offsetof(struct ivcpu, c.gpr) + 8 * r);
}

static unsigned int form(const struct ivcpu *v, const struct x86_insn *i)
{
	return !(v->mode == MODE_LONG && i->addrsize == 8 && i->seg < SEG_FS);
}

static void choose_lea(const struct ivcpu *v, const struct x86_insn *i, struct uop *u)
{
	u->a = gpr_off(i->reg, i->opsize, i);
	u->imm = i->opsize;
	if (i->addrsize >= i->opsize)
		u->fn = mov_forms[__builtin_ctz(i->opsize)].lea;
	else
		u->fn = lea_trunc;
}

static void mov_one_byte(const struct ivcpu *v, const struct x86_insn *i, struct uop *u)
{
	static uop_fn *const convert[2][4] = {{0, cbw, cwde, cdqe}, {0, cwd, cdq, cqo}};
	unsigned int size = (unsigned int)__builtin_ctz(i->opsize), g = form(v, i);
	const struct mov_forms *f = &mov_forms[size];
	uint16_t reg = gpr_off(i->reg, i->opsize, i), rm = gpr_off(i->rm, i->opsize, i);

	switch (i->opcode) {
	case 0x88:
	case 0x89:
		u->fn = i->has_mem ? f->store[g] : f->rr;
		u->a = i->has_mem ? reg : rm;
		u->b = reg;
		break;
	case 0x8a:
	case 0x8b:
		u->fn = i->has_mem ? f->load[g] : f->rr;
		u->a = reg;
		u->b = rm;
		break;
	case 0xa0:
	case 0xa1:
		u->fn = f->load[g];
		u->a = offsetof(struct ivcpu, c.gpr);
		break;
	case 0xa2:
	case 0xa3:
		u->fn = f->store[g];
		u->a = offsetof(struct ivcpu, c.gpr);
		break;
	case 0xc6:
	case 0xc7:
		if (i->modrm >> 3 & 7)
			break; /* XABORT, XBEGIN */
		u->fn = i->has_mem ? f->store_imm[g] : f->ri;
		u->a = rm;
		u->imm = (int64_t)i->imm[0];
		break;
	case 0xb0 ... 0xbf:
		u->fn = f->ri;
		u->a = rm;
		u->imm = (int64_t)i->imm[0];
		break;
	case 0x8d:
		choose_lea(v, i, u);
		break;
	case 0x63:
		if (v->mode != MODE_LONG)
			break; /* ARPL */
		u->fn = movsxd_forms[size][i->has_mem ? 1 + g : 0];
		u->a = reg;
		u->b = gpr_off(i->rm, 4, i);
		break;
	case 0x86:
	case 0x87:
		if (i->has_mem)
			break;
		u->fn = f->xchg;
		u->a = rm;
		u->b = reg;
		break;
	case 0x90 ... 0x97:
		if (i->mnemonic == ZYDIS_MNEMONIC_PAUSE)
			break;
		u->fn = i->mnemonic == ZYDIS_MNEMONIC_XCHG ? f->xchg : nop;
		u->a = rm;
		u->b = offsetof(struct ivcpu, c.gpr);
		break;
	case 0x98:
	case 0x99:
		u->fn = convert[i->opcode & 1][size];
		break;
	}
}

/* LEA and the multi-byte NOPs have a memory operand that is not accessed. */
void hot_translate(const struct ivcpu *v, const struct x86_insn *i, struct uop *u, bool *ends)
{
	*ends = false;
	if (i->encoding != INSN_LEGACY || (i->prefixes & PFX_LOCK) || !i->opsize || i->opsize > 8)
		return;
	if (i->map == 0) {
		mov_one_byte(v, i, u);
	} else if (i->map == 1 && (i->opcode & 0xf6) == 0xb6) {
		unsigned int from = i->opcode & 1 ? 2 : 1;
		unsigned int row = (i->opcode & 1u) | (i->opcode >> 2 & 2u);

		if (i->mnemonic == ZYDIS_MNEMONIC_MOVZX || i->mnemonic == ZYDIS_MNEMONIC_MOVSX) {
			u->fn = extend_forms[row][__builtin_ctz(i->opsize)]
					    [i->has_mem ? 1 + form(v, i) : 0];
			u->a = gpr_off(i->reg, i->opsize, i);
			u->b = gpr_off(i->rm, from, i);
		}
	} else if (i->map == 1 && i->mnemonic == ZYDIS_MNEMONIC_NOP) {
		u->fn = nop;
	}
	if (!u->fn)
		alu_translate(v, i, u);
}
