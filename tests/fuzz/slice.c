/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/fuzz/slice.c - runs a fuzz target without a fuzzer: on files, or on a fixed random sequence
 *
 *	fuzz_x_slice [N]       N inputs from a fixed seed (1000)
 *	fuzz_x_slice FILE...   these inputs, to look at a crash
 */
#include "fuzz.h"

#include "base/fd.h"

#include <stdio.h>

#define INPUT_MAX 2048

static int run_file(const char *path)
{
	struct strbuf b = {0};
	int r = read_file(path, 1u << 20, &b);

	if (r < 0) {
		fprintf(stderr, "%s: %s\n", path, strerror(-r));
		return 1;
	}
	LLVMFuzzerTestOneInput((const uint8_t *)b.data, b.len);
	strbuf_fini(&b);
	return 0;
}

int main(int argc, char **argv)
{
	uint64_t state = UINT64_C(0x9e3779b97f4a7c15);
	unsigned long n = 1000;
	static uint8_t input[INPUT_MAX];

	if (argc > 1) {
		char *end;

		n = strtoul(argv[1], &end, 10);
		if (*end) {
			int r = 0;

			for (int i = 1; i < argc; i++)
				r |= run_file(argv[i]);
			return r;
		}
	}
	for (unsigned long i = 0; i < n; i++) {
		size_t len;

		for (size_t k = 0; k < INPUT_MAX; k += 8) {
			state ^= state << 13;
			state ^= state >> 7;
			state ^= state << 17;
			store_le64(input + k, state);
		}
		len = state % INPUT_MAX;
		/* Every second input is mostly small numbers, which get further than noise. */
		for (size_t k = 0; i % 2 && k < len; k++) {
			if (input[k] >= 32)
				input[k] = input[k] < 160 ? 0 : input[k] % 16;
		}
		LLVMFuzzerTestOneInput(input, len);
	}
	return 0;
}
