/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/x86/insn.h - one decoded instruction, for every engine of ours
 *
 * Zydis finds length, mnemonic and validity; this keeps what executing needs, in a form that holds
 * no host pointers.  Register numbers are hardware numbers (0-15), REX/VEX bits already merged.
 */
#pragma once

#include "base/macro.h"

#define INSN_MAX_LEN 15

/* How CS and the mode make the decoder read bytes. */
enum insn_bits { INSN_16, INSN_32, INSN_64 };

enum insn_encoding { INSN_LEGACY, INSN_VEX };

#define REG_NONE 0xff
#define REG_RIP  0xfe

enum insn_prefix {
	PFX_LOCK = 1 << 0,
	PFX_REP = 1 << 1,    /* F3 */
	PFX_REPNE = 1 << 2,  /* F2 */
	PFX_OPSIZE = 1 << 3, /* 66 */
	PFX_ADDRSIZE = 1 << 4,
	PFX_REX = 1 << 5,  /* any REX: SPL..DIL instead of AH..BH */
	PFX_REXW = 1 << 6, /* or VEX.W */
	PFX_SEG = 1 << 7,  /* explicit segment override */
};

struct x86_insn {
	uint16_t mnemonic; /* ZydisMnemonic */
	uint8_t len;
	uint8_t raw[INSN_MAX_LEN];
	uint8_t prefixes; /* enum insn_prefix */
	uint8_t encoding; /* enum insn_encoding */
	uint8_t map;      /* 0 one-byte, 1 0F, 2 0F38, 3 0F3A */
	uint8_t opcode;
	uint8_t opcode_off; /* where the opcode byte is in raw */
	uint8_t bits;       /* enum insn_bits it was decoded with */
	uint8_t opsize; /* effective operand size in bytes: 1, 2, 4, 8 (vector: of the GPR side) */
	uint8_t addrsize;  /* 2, 4, 8 */
	uint8_t stacksize; /* of an implicit push or pop, 2, 4, 8 */

	bool has_modrm;
	uint8_t modrm, modrm_off;
	/* reg and rm with REX/VEX bits; rm means a register when mod == 3.  Without ModRM, mod is 3
	 * and reg and rm hold the opcode's low three bits (with REX.B). */
	uint8_t mod, reg, rm;

	bool has_mem;        /* ModRM memory operand, or moffs (then base and index are none) */
	uint8_t seg;         /* effective segment of the memory operand, enum cpu_seg */
	uint8_t base, index; /* GPR number, REG_NONE or REG_RIP */
	uint8_t scale;       /* 1, 2, 4, 8 */
	int64_t disp;        /* moffs: the address */

	uint8_t vex_l;  /* 0 = 128, 1 = 256 */
	uint8_t vex_pp; /* 0, 1=66, 2=F3, 3=F2 */
	uint8_t vvvv;   /* second source register, 0-15 */

	uint8_t n_imm;
	uint64_t imm[2];   /* sign-extended to 64 bits where the instruction does so */
	bool imm_relative; /* branch displacement */
};

/*
 * Decodes one instruction from @bytes (@len <= 15 available).
 * 0, -ENODATA when more bytes are needed (all @len were a valid beginning), -EINVAL for what raises
 * #UD, -E2BIG for more than 15 bytes (#GP).
 */
int insn_decode(const uint8_t *bytes, size_t len, enum insn_bits bits, struct x86_insn *ret);
/* Intel syntax, for traces and test failures. */
void insn_format(const struct x86_insn *i, uint64_t rip, char *buf, size_t len);
