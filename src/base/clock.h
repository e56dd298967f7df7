/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/clock.h - host time in nanoseconds
 */
#pragma once

#include "base/macro.h"

#define NSEC_PER_SEC  UINT64_C(1000000000)
#define NSEC_PER_MSEC UINT64_C(1000000)
#define NSEC_PER_USEC UINT64_C(1000)

/* CLOCK_MONOTONIC: every device timer runs on it. */
uint64_t clock_now(void);
/* CLOCK_REALTIME: what the RTC shows. */
uint64_t clock_wall(void);

/* a * mul / div without overflow of the product. */
static inline uint64_t muldiv64(uint64_t a, uint64_t mul, uint64_t div)
{
	return (uint64_t)((unsigned __int128)a * mul / div);
}
