/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/bucket.h - a token bucket: so much a second, and so much at once
 *
 * Kept as the time when all that was taken will have been paid for (GCRA, ITU-T I.371): nothing is
 * refilled.  What is larger than the burst goes as well, and whatever follows waits for it.
 */
#pragma once

#include "base/clock.h"

struct bucket {
	uint64_t rate; /* a second; 0 = no limit */
	uint64_t burst_ns;
	uint64_t due;
};

/* @burst 0 = a tenth of a second's. */
static inline void bucket_set(struct bucket *b, uint64_t rate, uint64_t burst)
{
	uint64_t most = burst;

	/* At most an hour's worth. */
	if (rate && burst / rate >= 3600)
		most = rate * 3600;
	b->rate = rate;
	b->burst_ns = rate && burst ? muldiv64(most, NSEC_PER_SEC, rate) : NSEC_PER_SEC / 10;
	b->due = 0;
}

/* Nanoseconds until something may be taken; 0 = now. */
static inline uint64_t bucket_wait(const struct bucket *b, uint64_t now)
{
	return b->rate && b->due > now + b->burst_ns ? b->due - now - b->burst_ns : 0;
}

static inline void bucket_take(struct bucket *b, uint64_t now, uint64_t n)
{
	if (b->rate)
		b->due = (b->due > now ? b->due : now) + muldiv64(n, NSEC_PER_SEC, b->rate);
}
