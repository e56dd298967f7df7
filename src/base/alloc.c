/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/alloc.c - allocations whose size never comes from input: they abort on OOM
 */
#include "base/macro.h"

#include <stdarg.h>
#include <stdio.h>

void *xcalloc(size_t n, size_t size)
{
	void *p = calloc(n, size);

	if (!p)
		abort();
	return p;
}

void *xcalloc_aligned(size_t align, size_t n, size_t size)
{
	size_t len;
	void *p;

	if (align <= _Alignof(max_align_t))
		return xcalloc(n, size);
	if (__builtin_mul_overflow(n, size, &len) || posix_memalign(&p, align, len))
		abort();
	return memset(p, 0, len);
}

char *xstrdup(const char *s)
{
	char *p = strdup(s);

	if (!p)
		abort();
	return p;
}

char *xasprintf(const char *fmt, ...)
{
	va_list ap;
	char *p;

	va_start(ap, fmt);
	if (vasprintf(&p, fmt, ap) < 0)
		abort();
	va_end(ap);
	return p;
}
