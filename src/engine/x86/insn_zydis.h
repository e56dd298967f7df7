/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/x86/insn_zydis.h - an instruction with what Zydis knows of it: operands, actions, flags
 */
#pragma once

#include "engine/x86/insn.h"

#include <Zydis/Zydis.h>

/* As insn_decode(), with all operands, hidden ones too: @ops has room for ZYDIS_MAX_OPERAND_COUNT,
 * and z->operand_count of them are set. */
int insn_decode_zydis(const uint8_t *bytes, size_t len, enum insn_bits bits, struct x86_insn *ret,
		      ZydisDecodedInstruction *z, ZydisDecodedOperand *ops);
