/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/strbuf.h - growing byte buffer, always NUL-terminated past its end
 */
#pragma once

#include "base/macro.h"

struct strbuf {
	char *data; /* NULL while empty and never grown */
	size_t len, cap;
};

void strbuf_add(struct strbuf *b, const void *data, size_t len);
void strbuf_puts(struct strbuf *b, const char *s);
void strbuf_putc(struct strbuf *b, char c);
void strbuf_printf(struct strbuf *b, const char *fmt, ...) printf_like(2, 3);
/* Drop the first @n bytes (n <= len). */
void strbuf_consume(struct strbuf *b, size_t n);
void strbuf_fini(struct strbuf *b);
/* The heap string, owned by the caller; the buffer is empty afterwards. */
char *strbuf_steal(struct strbuf *b);

#define autostrbuf __attribute__((cleanup(strbuf_fini)))
