/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/fuzz/fuzz_decoder.c - any bytes through the x86 decoder, in its three sizes
 *
 * Decoding looks at nothing past the instruction's end, and asks for more bytes at each of its
 * beginnings: page crossings rely on both.
 */
#include "fuzz.h"

#include "engine/x86/insn.h"

#include <assert.h>
#include <errno.h>

static void check_fields(const struct x86_insn *i, const uint8_t *bytes)
{
	char text[128];

	assert(i->len >= 1 && i->len <= INSN_MAX_LEN);
	assert(memcmp(i->raw, bytes, i->len) == 0);
	assert(i->opcode_off < i->len && i->map <= 3 && i->n_imm <= 2);
	assert(i->mod <= 3 && i->reg < 16 && i->rm < 16 && i->vvvv < 16 && i->vex_l <= 1);
	assert(i->opsize <= 32 && (i->opsize & (i->opsize - 1)) == 0);
	assert(!i->has_modrm || (i->modrm_off < i->len && i->raw[i->modrm_off] == i->modrm));
	if (i->has_mem) {
		assert(i->seg < 6);
		assert(i->base < 16 || i->base == REG_NONE || i->base == REG_RIP);
		assert(i->index < 16 || i->index == REG_NONE);
		assert(i->addrsize == 2 || i->addrsize == 4 || i->addrsize == 8);
	}
	insn_format(i, 0x1000, text, sizeof(text));
	assert(memchr(text, 0, sizeof(text)));
}

/* From a copy that ends where the bytes end, so that reading past them is seen. */
static int decode_exactly(const uint8_t *bytes, size_t len, enum insn_bits bits,
			  struct x86_insn *ret)
{
	static uint8_t *copy[INSN_MAX_LEN + 1];

	if (!copy[len])
		copy[len] = xcalloc(1, len ? len : 1);
	memcpy(copy[len], bytes, len);
	return insn_decode(copy[len], len, bits, ret);
}

static size_t one(const uint8_t *data, size_t size, enum insn_bits bits)
{
	size_t len = MIN(size, (size_t)INSN_MAX_LEN);
	struct x86_insn i, again;
	int r = decode_exactly(data, len, bits, &i);

	assert(r == 0 || r == -ENODATA || r == -EINVAL || r == -E2BIG);
	assert(r != -ENODATA || len < INSN_MAX_LEN);
	if (r < 0)
		return 1;
	check_fields(&i, data);
	assert(decode_exactly(data, i.len, bits, &again) == 0 && again.len == i.len &&
	       again.mnemonic == i.mnemonic);
	for (size_t k = 0; k < i.len; k++)
		assert(decode_exactly(data, k, bits, &again) == -ENODATA);
	return i.len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	for (enum insn_bits bits = INSN_16; bits <= INSN_64; bits++) {
		for (size_t at = 0; at < size;)
			at += one(data + at, size - at, bits);
	}
	return 0;
}
