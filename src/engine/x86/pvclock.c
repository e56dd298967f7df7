/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/x86/pvclock.c - the paravirtual clock of the KVM interface
 */
#include "engine/x86/pvclock.h"

#include "base/clock.h"

#define FLAG_TSC_STABLE 0x01u

struct system_time {
	uint32_t version; /* odd while being written */
	uint32_t pad0;
	uint64_t tsc_timestamp;
	uint64_t system_time; /* ns, at tsc_timestamp */
	uint32_t mul;
	int8_t shift;
	uint8_t flags;
	uint8_t pad1[2];
};

_Static_assert(sizeof(struct system_time) == 32, "guest ABI");

struct wall_clock {
	uint32_t version;
	uint32_t sec;
	uint32_t nsec;
};

struct pvclock_scale pvclock_scale(uint32_t tsc_khz)
{
	uint64_t hz = (uint64_t)tsc_khz * 1000, ns = NSEC_PER_SEC;
	struct pvclock_scale s = {0};

	/* mul = 2^32 * ns / hz must fit in 32 bits, with its top bit in use. */
	while (hz > ns * 2) {
		hz >>= 1;
		s.shift--;
	}
	while (hz <= ns) {
		hz <<= 1;
		s.shift++;
	}
	s.mul = (uint32_t)(((unsigned __int128)ns << 32) / hz);
	return s;
}

uint64_t pvclock_ns(const struct pvclock_scale *s, uint64_t tsc)
{
	unsigned __int128 x = s->shift < 0 ? tsc >> -s->shift : tsc << s->shift;

	return (uint64_t)(x * s->mul >> 32);
}

/*
 * @buf begins with its version, which continues the one in guest memory: odd first, then the rest,
 * then even.
 */
static bool write_versioned(struct gmem *mem, uint64_t gpa, void *buf, size_t len)
{
	uint32_t version;

	if (gmem_read(mem, gpa, &version, sizeof(version)) < 0 || !gmem_ptr(mem, gpa, len))
		return false;
	version = (version | 1) + 2;
	if (gmem_write(mem, gpa, &version, sizeof(version)) < 0)
		return false;
	__atomic_thread_fence(__ATOMIC_RELEASE);
	if (gmem_write(mem, gpa + 4, (char *)buf + 4, len - 4) < 0)
		return false;
	__atomic_thread_fence(__ATOMIC_RELEASE);
	version++;
	return gmem_write(mem, gpa, &version, sizeof(version)) == 0;
}

bool pvclock_write_system(struct gmem *mem, uint64_t msr, uint32_t tsc_khz)
{
	struct pvclock_scale s = pvclock_scale(tsc_khz);
	struct system_time t = {.mul = s.mul, .shift = s.shift, .flags = FLAG_TSC_STABLE};

	if (!(msr & 1))
		return true;
	return write_versioned(mem, msr & ~UINT64_C(1), &t, sizeof(t));
}

bool pvclock_write_wall(struct gmem *mem, uint64_t gpa, uint32_t tsc_khz, uint64_t tsc)
{
	struct pvclock_scale s = pvclock_scale(tsc_khz);
	uint64_t start = clock_wall() - pvclock_ns(&s, tsc);
	struct wall_clock w = {.sec = (uint32_t)(start / NSEC_PER_SEC),
			       .nsec = (uint32_t)(start % NSEC_PER_SEC)};

	return write_versioned(mem, gpa, &w, sizeof(w));
}
