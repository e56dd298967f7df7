/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/fuzz/fuzz.h - what a fuzz target defines, and reading its input piece by piece
 */
#pragma once

#include "base/macro.h"

/* Returns 0.  Any input is fine; a fault shows as a crash. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct fuzz_input {
	const uint8_t *data;
	size_t len;
};

/* Zeroes once the input is used up. */
static inline uint8_t fuzz_u8(struct fuzz_input *in)
{
	if (!in->len)
		return 0;
	in->len--;
	return *in->data++;
}

static inline void fuzz_bytes(struct fuzz_input *in, void *buf, size_t len)
{
	for (size_t i = 0; i < len; i++)
		((uint8_t *)buf)[i] = fuzz_u8(in);
}
