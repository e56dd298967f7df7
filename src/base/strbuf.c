/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/strbuf.c - growing byte buffer
 */
#include "base/strbuf.h"

#include <stdarg.h>
#include <stdio.h>

static void strbuf_reserve(struct strbuf *b, size_t extra)
{
	size_t want;

	if (__builtin_add_overflow(b->len, extra, &want) || __builtin_add_overflow(want, 1, &want))
		abort();
	if (want <= b->cap)
		return;
	b->cap = MAX(want, b->cap * 2);
	b->data = realloc(b->data, b->cap);
	if (!b->data)
		abort();
}

void strbuf_add(struct strbuf *b, const void *data, size_t len)
{
	strbuf_reserve(b, len);
	if (len)
		memcpy(b->data + b->len, data, len);
	b->len += len;
	b->data[b->len] = '\0';
}

void strbuf_puts(struct strbuf *b, const char *s)
{
	strbuf_add(b, s, strlen(s));
}

void strbuf_putc(struct strbuf *b, char c)
{
	strbuf_add(b, &c, 1);
}

void strbuf_printf(struct strbuf *b, const char *fmt, ...)
{
	va_list ap;
	char *s;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&s, fmt, ap);
	va_end(ap);
	if (n < 0)
		abort();
	strbuf_add(b, s, (size_t)n);
	free(s);
}

void strbuf_consume(struct strbuf *b, size_t n)
{
	if (!n)
		return;
	b->len -= n;
	memmove(b->data, b->data + n, b->len + 1);
}

void strbuf_fini(struct strbuf *b)
{
	free(b->data);
	*b = (struct strbuf){0};
}

char *strbuf_steal(struct strbuf *b)
{
	char *s;

	strbuf_reserve(b, 0);
	b->data[b->len] = '\0';
	s = b->data;
	*b = (struct strbuf){0};
	return s;
}
