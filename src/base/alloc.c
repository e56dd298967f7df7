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
