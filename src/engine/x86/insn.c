/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/x86/insn.c - bytes to struct x86_insn, by Zydis (SDM vol. 2, chapter 2)
 */
#include "engine/x86/insn_zydis.h"

#include "engine/x86/cpu.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>

static ZydisDecoder decoders[3]; /* by enum insn_bits */

static void decoders_init(void)
{
	static const struct {
		ZydisMachineMode mode;
		ZydisStackWidth width;
	} by_bits[] = {
	    [INSN_16] = {ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16},
	    [INSN_32] = {ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32},
	    [INSN_64] = {ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64},
	};

	for (unsigned int k = 0; k < ARRAY_SIZE(decoders); k++) {
		ZydisDecoder *d = &decoders[k];

		ZydisDecoderInit(d, by_bits[k].mode, by_bits[k].width);
		/* Features that no guest is shown: their encodings are the hint NOPs they were
		 * before. */
		ZydisDecoderEnableMode(d, ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
		ZydisDecoderEnableMode(d, ZYDIS_DECODER_MODE_CET, ZYAN_FALSE);
		ZydisDecoderEnableMode(d, ZYDIS_DECODER_MODE_CLDEMOTE, ZYAN_FALSE);
	}
}

static const ZydisDecoder *decoder_for(enum insn_bits bits)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, decoders_init);
	return &decoders[bits];
}

/* Legacy prefixes.  The last of F2/F3 counts; CS, DS, ES and SS overrides mean nothing in 64-bit
 * mode and don't cancel an FS or GS before them. */
static uint8_t read_prefixes(const ZydisDecodedInstruction *z, struct x86_insn *i)
{
	uint8_t seg = SEG_COUNT;

	for (unsigned int k = 0; k < z->raw.prefix_count; k++) {
		uint8_t old = seg;

		switch (z->raw.prefixes[k].value) {
		case 0xf0:
			i->prefixes |= PFX_LOCK;
			break;
		case 0xf3:
			i->prefixes = (i->prefixes & ~PFX_REPNE) | PFX_REP;
			break;
		case 0xf2:
			i->prefixes = (i->prefixes & ~PFX_REP) | PFX_REPNE;
			break;
		case 0x66:
			i->prefixes |= PFX_OPSIZE;
			break;
		case 0x67:
			i->prefixes |= PFX_ADDRSIZE;
			break;
		case 0x26:
			seg = SEG_ES;
			break;
		case 0x2e:
			seg = SEG_CS;
			break;
		case 0x36:
			seg = SEG_SS;
			break;
		case 0x3e:
			seg = SEG_DS;
			break;
		case 0x64:
			seg = SEG_FS;
			break;
		case 0x65:
			seg = SEG_GS;
			break;
		}
		if (i->bits == INSN_64 && seg < SEG_FS)
			seg = old;
	}
	if (seg != SEG_COUNT)
		i->prefixes |= PFX_SEG;
	return seg;
}

static bool is_gather(const struct x86_insn *i)
{
	return i->encoding == INSN_VEX && i->map == 2 && i->opcode >= 0x90 && i->opcode <= 0x93;
}

/* 16-bit forms: SDM vol. 2, table 2-1. */
static void read_mem16(const ZydisDecodedInstruction *z, struct x86_insn *i)
{
	static const uint8_t base[] = {RBX, RBX, RBP, RBP, RSI, RDI, RBP, RBX};
	static const uint8_t index[] = {RSI, RDI, RSI, RDI, REG_NONE, REG_NONE, REG_NONE, REG_NONE};
	uint8_t rm = z->raw.modrm.rm;

	i->base = base[rm];
	i->index = index[rm];
	if (i->mod == 0 && rm == 6)
		i->base = REG_NONE;
}

static void read_mem(const ZydisDecodedInstruction *z, const ZydisDecoderContext *x,
		     struct x86_insn *i)
{
	uint8_t b = (uint8_t)(x->vector_unified.B << 3), rm = z->raw.modrm.rm;

	i->has_mem = true;
	i->disp = z->raw.disp.value;
	i->scale = 1;
	i->base = i->index = REG_NONE;
	if (i->addrsize == 2) {
		read_mem16(z, i);
	} else if (rm == 4) {
		uint8_t index = (uint8_t)(z->raw.sib.index | x->vector_unified.X << 3);

		if (index != 4 || is_gather(i)) {
			i->index = index;
			i->scale = (uint8_t)(1u << z->raw.sib.scale);
		}
		if (z->raw.sib.base != 5 || i->mod != 0)
			i->base = z->raw.sib.base | b;
	} else if (rm == 5 && i->mod == 0) {
		i->base = i->bits == INSN_64 ? REG_RIP : REG_NONE;
	} else {
		i->base = rm | b;
	}
}

static void read_operands(const ZydisDecodedInstruction *z, const ZydisDecoderContext *x,
			  struct x86_insn *i, uint8_t seg)
{
	uint8_t r = (uint8_t)(x->vector_unified.R << 3), b = (uint8_t)(x->vector_unified.B << 3);

	i->base = i->index = REG_NONE;
	i->scale = 1;
	if (z->attributes & ZYDIS_ATTRIB_HAS_MODRM) {
		i->has_modrm = true;
		i->modrm_off = z->raw.modrm.offset;
		i->modrm = i->raw[i->modrm_off];
		i->mod = z->raw.modrm.mod;
		i->reg = z->raw.modrm.reg | r;
		i->rm = z->raw.modrm.rm | b;
		/* MOV to and from CR and DR: mod is ignored, rm is a register. */
		if (i->map == 1 && i->opcode >= 0x20 && i->opcode <= 0x23)
			i->mod = 3;
		if (i->mod != 3)
			read_mem(z, x, i);
	} else {
		i->mod = 3;
		i->reg = i->rm = (i->opcode & 7) | b;
		if (i->map == 0 && i->encoding == INSN_LEGACY && i->opcode >= 0xa0 &&
		    i->opcode <= 0xa3) {
			i->has_mem = true;
			i->disp = z->raw.disp.value;
		}
	}
	i->seg = seg;
	if (seg == SEG_COUNT)
		i->seg = i->has_mem && (i->base == RSP || i->base == RBP) ? SEG_SS : SEG_DS;
	for (unsigned int k = 0; k < 2; k++) {
		if (!z->raw.imm[k].size)
			continue;
		i->imm[i->n_imm++] = z->raw.imm[k].value.u;
		i->imm_relative |= z->raw.imm[k].is_relative;
	}
}

static int decode_error(ZyanStatus s)
{
	if (s == ZYDIS_STATUS_NO_MORE_DATA)
		return -ENODATA;
	return s == ZYDIS_STATUS_INSTRUCTION_TOO_LONG ? -E2BIG : -EINVAL;
}

static int decode(const uint8_t *bytes, size_t len, enum insn_bits bits, ZydisDecoderContext *x,
		  ZydisDecodedInstruction *z)
{
	ZyanStatus s = ZydisDecoderDecodeInstruction(decoder_for(bits), x, bytes, len, z);

	if (!ZYAN_SUCCESS(s)) {
		int r = decode_error(s);

		return r == -ENODATA && len >= INSN_MAX_LEN ? -E2BIG : r;
	}
	if (z->encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY &&
	    z->encoding != ZYDIS_INSTRUCTION_ENCODING_VEX)
		return -EINVAL;
	return 0;
}

static void translate(const uint8_t *bytes, enum insn_bits bits, ZydisDecoderContext x,
		      const ZydisDecodedInstruction *z, struct x86_insn *ret)
{
	uint8_t seg;

	memset(ret, 0, sizeof(*ret));
	ret->mnemonic = (uint16_t)z->mnemonic;
	ret->len = z->length;
	memcpy(ret->raw, bytes, z->length);
	ret->bits = (uint8_t)bits;
	ret->encoding = z->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX ? INSN_VEX : INSN_LEGACY;
	ret->map = (uint8_t)z->opcode_map; /* default, 0F, 0F38, 0F3A are 0 to 3 */
	ret->opcode = z->opcode;
	seg = read_prefixes(z, ret);
	if (ret->encoding == INSN_VEX) {
		ret->opcode_off = z->raw.vex.offset + z->raw.vex.size;
		ret->vex_l = x.vector_unified.L;
		ret->vex_pp = z->raw.vex.pp;
		ret->vvvv = x.vector_unified.vvvv;
	} else {
		ret->opcode_off = z->raw.prefix_count + (ret->map == 0 ? 0 : ret->map == 1 ? 1 : 2);
		if (z->attributes & ZYDIS_ATTRIB_HAS_REX)
			ret->prefixes |= PFX_REX;
	}
	if (x.vector_unified.W)
		ret->prefixes |= PFX_REXW;
	ret->opsize = z->operand_width / 8;
	ret->addrsize = z->address_width / 8;
	if (bits == INSN_64) /* REX.W wins over 66 */
		ret->stacksize = (ret->prefixes & (PFX_OPSIZE | PFX_REXW)) == PFX_OPSIZE ? 2 : 8;
	else
		ret->stacksize = (bits == INSN_32) != !!(ret->prefixes & PFX_OPSIZE) ? 4 : 2;
	if (bits != INSN_64) { /* VEX has these bits in all modes, but eight registers do */
		x.vector_unified.R = x.vector_unified.X = x.vector_unified.B = 0;
		ret->vvvv &= 7;
	}
	read_operands(z, &x, ret, seg);
}

int insn_decode(const uint8_t *bytes, size_t len, enum insn_bits bits, struct x86_insn *ret)
{
	ZydisDecodedInstruction z;
	ZydisDecoderContext x;
	int r = decode(bytes, len, bits, &x, &z);

	if (r == 0)
		translate(bytes, bits, x, &z, ret);
	return r;
}

int insn_decode_zydis(const uint8_t *bytes, size_t len, enum insn_bits bits, struct x86_insn *ret,
		      ZydisDecodedInstruction *z, ZydisDecodedOperand *ops)
{
	ZydisDecoderContext x;
	int r = decode(bytes, len, bits, &x, z);

	if (r < 0)
		return r;
	if (!ZYAN_SUCCESS(
		ZydisDecoderDecodeOperands(decoder_for(bits), &x, z, ops, z->operand_count)))
		return -EINVAL;
	translate(bytes, bits, x, z, ret);
	return 0;
}

void insn_format(const struct x86_insn *i, uint64_t rip, char *buf, size_t len)
{
	ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
	ZydisDecodedInstruction z;
	ZydisFormatter f;

	if (!ZYAN_SUCCESS(ZydisFormatterInit(&f, ZYDIS_FORMATTER_STYLE_INTEL)) ||
	    !ZYAN_SUCCESS(ZydisDecoderDecodeFull(decoder_for(i->bits), i->raw, i->len, &z, ops)) ||
	    !ZYAN_SUCCESS(ZydisFormatterFormatInstruction(&f, &z, ops, z.operand_count_visible, buf,
							  len, rip, ZYAN_NULL)))
		snprintf(buf, len, "(bad)");
}
