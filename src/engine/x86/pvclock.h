/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/x86/pvclock.h - the paravirtual clock of the KVM interface
 *
 * The guest names a structure in its memory; we write there how its TSC becomes nanoseconds.  Our
 * clock starts at guest TSC 0, so that the structure depends on nothing but the frequency: it is
 * the same on all processors, and stays right in snapshots and forks, which keep the TSC.
 */
#pragma once

#include "guest/gmem.h"

#define MSR_PVCLOCK_WALL_OLD   0x11u
#define MSR_PVCLOCK_SYSTEM_OLD 0x12u
#define MSR_PVCLOCK_WALL       0x4b564d00u
#define MSR_PVCLOCK_SYSTEM     0x4b564d01u

/* Nanoseconds = ((tsc << shift, or >> -shift) * mul) >> 32. */
struct pvclock_scale {
	uint32_t mul;
	int8_t shift;
};

struct pvclock_scale pvclock_scale(uint32_t tsc_khz);
uint64_t pvclock_ns(const struct pvclock_scale *s, uint64_t tsc);

/* Write the structure at @msr & ~1 when bit 0 is set.  False: it is not in guest memory. */
bool pvclock_write_system(struct gmem *mem, uint64_t msr, uint32_t tsc_khz);
/* Write the wall clock at clock 0 to @gpa; @tsc is the guest's now. */
bool pvclock_write_wall(struct gmem *mem, uint64_t gpa, uint32_t tsc_khz, uint64_t tsc);
