/* SPDX-License-Identifier: Apache-2.0 */
/* tests/unit/base/test_alloc.c - allocations are zeroed and as aligned as their type asks */
#include "base/macro.h"
#include "test.h"

struct wide {
	uint8_t bytes[192];
} __attribute__((aligned(64)));

static void check_zeroed(const void *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		CHECK_EQ(((const uint8_t *)p)[i], 0);
}

/* malloc's 16 bytes are not enough for what holds vector state. */
static void test_alignment(void)
{
	struct wide *w[8];

	for (size_t i = 0; i < ARRAY_SIZE(w); i++) {
		w[i] = i % 2 ? xnew(struct wide) : xnew_n(struct wide, 3);
		CHECK_EQ((uintptr_t)w[i] % 64, 0);
		check_zeroed(w[i], (i % 2 ? 1 : 3) * sizeof(struct wide));
		memset(w[i], 1, sizeof(struct wide));
	}
	for (size_t i = 0; i < ARRAY_SIZE(w); i++)
		free(w[i]);
}

int main(void)
{
	uint32_t *small = xnew(uint32_t);

	check_zeroed(small, sizeof(*small));
	free(small);
	test_alignment();
	return 0;
}
