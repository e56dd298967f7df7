/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/clock.c - host time in nanoseconds
 */
#include "base/clock.h"

#include <time.h>

static uint64_t clock_read(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

uint64_t clock_now(void)
{
	return clock_read(CLOCK_MONOTONIC);
}

uint64_t clock_wall(void)
{
	return clock_read(CLOCK_REALTIME);
}
