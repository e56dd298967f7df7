/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bucket.h"

#include "test.h"

/* How much of @want a second's worth of asking every microsecond gets. */
static uint64_t taken(struct bucket *b, uint64_t start, uint64_t piece)
{
	uint64_t n = 0;

	for (uint64_t t = 0; t < NSEC_PER_SEC; t += NSEC_PER_USEC) {
		if (bucket_wait(b, start + t))
			continue;
		bucket_take(b, start + t, piece);
		n += piece;
	}
	return n;
}

int main(void)
{
	struct bucket b;
	uint64_t n;

	/* The burst first, then the rate; the time since does not add up beyond the burst. */
	bucket_set(&b, 1000, 500);
	n = taken(&b, 5, 1);
	CHECK(n >= 1499 && n <= 1502);
	n = taken(&b, 5 + NSEC_PER_SEC, 1);
	CHECK(n >= 999 && n <= 1001);
	n = taken(&b, 100 * NSEC_PER_SEC, 1);
	CHECK(n >= 1499 && n <= 1502);
	/* Without one, a tenth of a second's. */
	bucket_set(&b, 1000, 0);
	n = taken(&b, 0, 1);
	CHECK(n >= 1099 && n <= 1102);
	/* What is larger than the burst goes, and is paid for. */
	bucket_set(&b, 1000, 1);
	CHECK_EQ(bucket_wait(&b, 0), 0);
	bucket_take(&b, 0, 3000);
	CHECK_EQ(bucket_wait(&b, 0), 3 * NSEC_PER_SEC - NSEC_PER_MSEC);
	/* No limit; and one that would not fit in any number. */
	bucket_set(&b, 0, 0);
	bucket_take(&b, 0, UINT64_MAX);
	CHECK_EQ(bucket_wait(&b, 0), 0);
	bucket_set(&b, 1, UINT64_C(1) << 50);
	CHECK_EQ(b.burst_ns, 3600 * NSEC_PER_SEC);
	return 0;
}
