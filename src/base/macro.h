/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/macro.h - compiler attributes, scope cleanup and small arithmetic used everywhere
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define must_check        __attribute__((warn_unused_result))
#define printf_like(f, a) __attribute__((format(printf, f, a)))
#define likely(x)         __builtin_expect(!!(x), 1)
#define unlikely(x)       __builtin_expect(!!(x), 0)
#define ARRAY_SIZE(a)     (sizeof(a) / sizeof((a)[0]))
#define BIT(n)            (UINT64_C(1) << (n))

/* From a pointer to a member back to the structure that embeds it. */
#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

#define MIN(a, b)                                                                                  \
	({                                                                                         \
		__typeof__(a) min_a_ = (a);                                                        \
		__typeof__(b) min_b_ = (b);                                                        \
		min_a_ < min_b_ ? min_a_ : min_b_;                                                 \
	})
#define MAX(a, b)                                                                                  \
	({                                                                                         \
		__typeof__(a) max_a_ = (a);                                                        \
		__typeof__(b) max_b_ = (b);                                                        \
		max_a_ > max_b_ ? max_a_ : max_b_;                                                 \
	})

/* @align is a power of two. */
#define ALIGN_DOWN(x, align) ((x) & ~((__typeof__(x))(align)-1))
#define ALIGN_UP(x, align)   ALIGN_DOWN((x) + (__typeof__(x))(align)-1, align)

/* True when [off, off+len) lies inside [0, size); safe against wrap. */
static inline bool range_ok(uint64_t off, uint64_t len, uint64_t size)
{
	return off <= size && len <= size - off;
}

static inline void free_p(void *p)
{
	free(*(void **)p);
}

static inline void close_p(const int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

#define autofree  __attribute__((cleanup(free_p)))
#define autoclose __attribute__((cleanup(close_p)))

/* Give up ownership of an auto variable. */
#define steal_ptr(pp)                                                                              \
	({                                                                                         \
		__typeof__(*(pp)) stolen_ = *(pp);                                                 \
		*(pp) = NULL;                                                                      \
		stolen_;                                                                           \
	})
static inline int steal_fd(int *fd)
{
	int r = *fd;

	*fd = -1;
	return r;
}

/* Zeroed allocation of a small fixed-size object; aborts on OOM.  Input-sized ones use calloc +
 * err. */
#define xnew(type)      ((type *)xcalloc_aligned(_Alignof(type), 1, sizeof(type)))
#define xnew_n(type, n) ((type *)xcalloc_aligned(_Alignof(type), n, sizeof(type)))
void *xcalloc(size_t n, size_t size);
/* Types that ask for more than malloc gives: what holds a struct cpu, for one. */
void *xcalloc_aligned(size_t align, size_t n, size_t size);
char *xstrdup(const char *s);
char *xasprintf(const char *fmt, ...) printf_like(1, 2);

/* Little-endian access to unaligned bytes (the host is x86-64, so plain copies). */
#define DEFINE_LE(bits)                                                                            \
	static inline uint##bits##_t load_le##bits(const void *p)                                  \
	{                                                                                          \
		uint##bits##_t v;                                                                  \
		memcpy(&v, p, sizeof(v));                                                          \
		return v;                                                                          \
	}                                                                                          \
	static inline void store_le##bits(void *p, uint##bits##_t v)                               \
	{                                                                                          \
		memcpy(p, &v, sizeof(v));                                                          \
	}
DEFINE_LE(16)
DEFINE_LE(32)
DEFINE_LE(64)
#undef DEFINE_LE
