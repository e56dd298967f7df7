/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/interp/ops_decimal.c - BCD adjustments and the check before a division
 *
 * The BCD instructions don't exist in 64-bit mode, so the host can't run them for us here: written
 * from the operation sections of SDM vol. 2; flags that are undefined there follow the last sum.
 */
#include "engine/interp/hot.h"

#include <Zydis/Zydis.h>

static void set_flag(struct ivcpu *v, uint64_t flag, bool on)
{
	v->c.rflags = on ? v->c.rflags | flag : v->c.rflags & ~flag;
}

static void set_szp(struct ivcpu *v, uint8_t al)
{
	set_flag(v, FL_SF, al & 0x80);
	set_flag(v, FL_ZF, al == 0);
	set_flag(v, FL_PF, !__builtin_parity(al));
}

static void das_daa(struct ivcpu *v, bool sub)
{
	uint8_t al = (uint8_t)v->c.gpr[RAX], old = al;
	bool cf = v->c.rflags & FL_CF, new_cf = false;

	if ((al & 15) > 9 || (v->c.rflags & FL_AF)) {
		new_cf = cf || (sub ? al < 6 : al > 0xf9);
		al = (uint8_t)(sub ? al - 6 : al + 6);
		set_flag(v, FL_AF, true);
	}
	if (old > 0x99 || cf) {
		al = (uint8_t)(sub ? al - 0x60 : al + 0x60);
		new_cf = true;
	}
	set_flag(v, FL_CF, new_cf);
	set_flag(v, FL_OF, false);
	gpr_set(v, RAX, 1, true, al);
	set_szp(v, al);
}

static void aaa_aas(struct ivcpu *v, bool sub)
{
	uint16_t ax = (uint16_t)v->c.gpr[RAX];
	bool adjust = (ax & 15) > 9 || (v->c.rflags & FL_AF);

	if (adjust)
		ax = (uint16_t)(sub ? ax - 0x106 : ax + 0x106);
	set_flag(v, FL_AF, adjust);
	set_flag(v, FL_CF, adjust);
	set_flag(v, FL_OF, false);
	set_szp(v, (uint8_t)ax);
	gpr_set(v, RAX, 2, true, ax & 0xff0f);
}

void h_decimal(struct ivcpu *v, const struct x86_insn *i)
{
	uint8_t al = (uint8_t)v->c.gpr[RAX], ah = (uint8_t)(v->c.gpr[RAX] >> 8);
	uint8_t base = (uint8_t)i->imm[0];

	switch (i->mnemonic) {
	case ZYDIS_MNEMONIC_AAA:
		aaa_aas(v, false);
		return;
	case ZYDIS_MNEMONIC_AAS:
		aaa_aas(v, true);
		return;
	case ZYDIS_MNEMONIC_DAA:
		das_daa(v, false);
		return;
	case ZYDIS_MNEMONIC_DAS:
		das_daa(v, true);
		return;
	case ZYDIS_MNEMONIC_AAM:
		if (!base)
			raise_fault(v, VEC_DE);
		gpr_set(v, RAX, 2, true, (uint64_t)(al / base) << 8 | al % base);
		set_szp(v, al % base);
		break;
	default:
		al = (uint8_t)(al + ah * base);
		gpr_set(v, RAX, 2, true, al);
		set_szp(v, al);
		break;
	}
	set_flag(v, FL_CF | FL_AF | FL_OF, false);
}

/* Would DIV (or IDIV, @is_signed) of the double-wide accumulator by @x raise #DE? */
bool div_faults(uint64_t rax, uint64_t rdx, uint64_t x, unsigned int size, bool is_signed)
{
	unsigned int bits = size * 8;
	unsigned __int128 n, q, max = ((unsigned __int128)1 << bits) - 1;
	bool neg = false, neg_x = false;

	if (size == 1)
		n = (uint16_t)rax;
	else
		n = (unsigned __int128)(rdx & (uint64_t)max) << bits | (rax & (uint64_t)max);
	if (is_signed) {
		neg = n >> (2 * bits - 1) & 1;
		neg_x = x >> (bits - 1) & 1;
		if (neg)
			n = size == 8 ? -n : -n & (((unsigned __int128)1 << 2 * bits) - 1);
		if (neg_x)
			x = -x & (uint64_t)max;
		max >>= 1;
		if (neg != neg_x)
			max++;
	}
	if (!x)
		return true;
	if ((n >> bits) >= x)
		return true;
	q = n / x;
	return q > max;
}
