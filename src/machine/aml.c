/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine/aml.c - writing ACPI machine language (ACPI 6.4, chapter 20) and resource descriptors
 */
#include "machine/aml.h"

#include <assert.h>

enum {
	OP_ZERO = 0x00,
	OP_ONE = 0x01,
	OP_NAME = 0x08,
	OP_BYTE = 0x0a,
	OP_WORD = 0x0b,
	OP_DWORD = 0x0c,
	OP_STRING = 0x0d,
	OP_QWORD = 0x0e,
	OP_SCOPE = 0x10,
	OP_BUFFER = 0x11,
	OP_PACKAGE = 0x12,
	OP_METHOD = 0x14,
	OP_EXT = 0x5b,
	OP_ARG0 = 0x68,
	OP_STORE = 0x70,
	OP_AND = 0x7b,
	OP_NOTIFY = 0x86,
	OP_IF = 0xa0,
	/* behind OP_EXT */
	OP_REGION = 0x80,
	OP_FIELD = 0x81,
	OP_DEVICE = 0x82,
};

static void put(struct strbuf *b, unsigned int byte)
{
	strbuf_putc(b, (char)byte);
}

static void put_le(struct strbuf *b, uint64_t v, unsigned int bytes)
{
	for (unsigned int i = 0; i < bytes; i++)
		put(b, (v >> (8 * i)) & 0xff);
}

static void insert(struct strbuf *b, size_t at, const void *data, size_t len)
{
	strbuf_add(b, data, len);
	memmove(b->data + at + len, b->data + at, b->len - at - len);
	memcpy(b->data + at, data, len);
}

/* NameString: optional root, then one, two (0x2e) or more (0x2f count) segments of 4 characters. */
static void put_name(struct strbuf *b, const char *name)
{
	size_t segments;

	if (*name == '\\') {
		put(b, '\\');
		name++;
	}
	segments = (strlen(name) + 1) / 5;
	assert(segments >= 1 && strlen(name) == segments * 5 - 1);
	if (segments == 2) {
		put(b, 0x2e);
	} else if (segments > 2) {
		put(b, 0x2f);
		put(b, (unsigned int)segments);
	}
	for (size_t i = 0; i < segments; i++)
		strbuf_add(b, name + i * 5, 4);
}

void aml_notify(struct strbuf *b, const char *name, unsigned int value)
{
	put(b, OP_NOTIFY);
	put_name(b, name);
	aml_int(b, value);
}

/* 20.2.4: the length counts itself.  Written when the term ends, so that it takes as few bytes as
 * it can. */
void aml_end(struct strbuf *b, size_t mark)
{
	size_t len = b->len - mark;
	uint8_t enc[4];
	unsigned int n;

	for (n = 1; n < 4; n++)
		if (len + n < (n == 1 ? 64u : 1u << (4 + 8 * (n - 1))))
			break;
	len += n;
	assert(len < 1u << 28);
	if (n == 1) {
		enc[0] = (uint8_t)len;
	} else {
		enc[0] = (uint8_t)((n - 1) << 6 | (len & 0xf));
		for (unsigned int i = 1; i < n; i++)
			enc[i] = (uint8_t)(len >> (4 + 8 * (i - 1)));
	}
	insert(b, mark, enc, n);
}

size_t aml_scope(struct strbuf *b, const char *name)
{
	size_t mark;

	put(b, OP_SCOPE);
	mark = b->len;
	put_name(b, name);
	return mark;
}

size_t aml_device(struct strbuf *b, const char *name)
{
	size_t mark;

	put(b, OP_EXT);
	put(b, OP_DEVICE);
	mark = b->len;
	put_name(b, name);
	return mark;
}

size_t aml_method(struct strbuf *b, const char *name, unsigned int args)
{
	size_t mark;

	put(b, OP_METHOD);
	mark = b->len;
	put_name(b, name);
	put(b, args);
	return mark;
}

size_t aml_package(struct strbuf *b, unsigned int elements)
{
	size_t mark;

	put(b, OP_PACKAGE);
	mark = b->len;
	put(b, elements);
	return mark;
}

void aml_name(struct strbuf *b, const char *name)
{
	put(b, OP_NAME);
	put_name(b, name);
}

void aml_int(struct strbuf *b, uint64_t v)
{
	static const uint8_t ops[] = {OP_BYTE, OP_WORD, OP_DWORD, OP_QWORD};
	unsigned int k = v <= UINT8_MAX ? 0 : v <= UINT16_MAX ? 1 : v <= UINT32_MAX ? 2 : 3;

	if (v <= 1) {
		put(b, v ? OP_ONE : OP_ZERO);
		return;
	}
	put(b, ops[k]);
	put_le(b, v, 1u << k);
}

void aml_string(struct strbuf *b, const char *s)
{
	put(b, OP_STRING);
	strbuf_add(b, s, strlen(s) + 1);
}

static unsigned int hex_digit(char c)
{
	return (unsigned int)(c <= '9' ? c - '0' : c - 'A' + 10);
}

/* Three letters of 5 bits and four hex digits, big-endian (19.6.36). */
void aml_eisaid(struct strbuf *b, const char *id)
{
	uint32_t v = (uint32_t)(id[0] - 0x40) << 26 | (uint32_t)(id[1] - 0x40) << 21 |
		     (uint32_t)(id[2] - 0x40) << 16;

	assert(strlen(id) == 7);
	for (unsigned int i = 0; i < 4; i++)
		v |= hex_digit(id[3 + i]) << (12 - 4 * i);
	put(b, OP_DWORD);
	put_le(b, __builtin_bswap32(v), 4);
}

void aml_name_int(struct strbuf *b, const char *name, uint64_t v)
{
	aml_name(b, name);
	aml_int(b, v);
}

void aml_name_eisaid(struct strbuf *b, const char *name, const char *id)
{
	aml_name(b, name);
	aml_eisaid(b, id);
}

void aml_io_dwords(struct strbuf *b, const char *region, uint16_t port, const char *const *names,
		   unsigned int n)
{
	size_t field;

	put(b, OP_EXT);
	put(b, OP_REGION);
	put_name(b, region);
	put(b, 0x01); /* SystemIO */
	aml_int(b, port);
	aml_int(b, 4u * n);
	put(b, OP_EXT);
	put(b, OP_FIELD);
	field = b->len;
	put_name(b, region);
	put(b, 0x43); /* DWordAcc, NoLock, WriteAsZeros */
	for (unsigned int i = 0; i < n; i++) {
		put_name(b, names[i]);
		put(b, 32); /* bits, as a package length */
	}
	aml_end(b, field);
}

size_t aml_if_arg_and(struct strbuf *b, unsigned int arg, uint32_t mask)
{
	size_t mark;

	put(b, OP_IF);
	mark = b->len;
	put(b, OP_AND);
	put(b, OP_ARG0 + arg);
	aml_int(b, mask);
	put(b, OP_ZERO); /* the result goes nowhere else */
	return mark;
}

void aml_notify_arg(struct strbuf *b, const char *device, unsigned int arg)
{
	put(b, OP_NOTIFY);
	put_name(b, device);
	put(b, OP_ARG0 + arg);
}

void aml_store_int(struct strbuf *b, uint32_t v, const char *name)
{
	put(b, OP_STORE);
	aml_int(b, v);
	put_name(b, name);
}

void aml_call(struct strbuf *b, const char *method)
{
	put_name(b, method);
}

void aml_use(struct strbuf *b, const char *name)
{
	put_name(b, name);
}

size_t aml_resources(struct strbuf *b)
{
	aml_name(b, "_CRS");
	put(b, OP_BUFFER);
	return b->len;
}

/* Ends with an end tag of checksum 0 ("not checked"), then becomes Buffer (length) {...}. */
void aml_resources_end(struct strbuf *b, size_t mark)
{
	autostrbuf struct strbuf size = {0};

	put(b, 0x79);
	put(b, 0x00);
	aml_int(&size, b->len - mark);
	insert(b, mark, size.data, size.len);
	aml_end(b, mark);
}

void aml_res_io(struct strbuf *b, uint16_t port, uint8_t len)
{
	put(b, 0x47);
	put(b, 0x01); /* 16-bit decode */
	put_le(b, port, 2);
	put_le(b, port, 2);
	put(b, 0x01);
	put(b, len);
}

void aml_res_irq(struct strbuf *b, unsigned int irq)
{
	put(b, 0x22);
	put_le(b, BIT(irq), 2);
}

void aml_res_memory32(struct strbuf *b, uint32_t base, uint32_t len)
{
	put(b, 0x86);
	put_le(b, 9, 2);
	put(b, 0x01); /* writable */
	put_le(b, base, 4);
	put_le(b, len, 4);
}

/* Address space descriptors (6.4.3.5): fixed minimum and maximum, positive decode, producer. */
static void put_window(struct strbuf *b, unsigned int tag, unsigned int width, unsigned int kind,
		       unsigned int flags, uint64_t first, uint64_t last)
{
	put(b, tag);
	put_le(b, 3 + 5 * width, 2);
	put(b, kind);
	put(b, 0x0c);
	put(b, flags);
	put_le(b, 0, width); /* granularity */
	put_le(b, first, width);
	put_le(b, last, width);
	put_le(b, 0, width); /* translation */
	put_le(b, last - first + 1, width);
}

void aml_res_bus(struct strbuf *b, uint16_t first, uint16_t last)
{
	put_window(b, 0x88, 2, 2, 0, first, last);
}

void aml_res_io_window(struct strbuf *b, uint16_t first, uint16_t last)
{
	put_window(b, 0x88, 2, 1, 3 /* whole range */, first, last);
}

void aml_res_memory_window(struct strbuf *b, uint64_t first, uint64_t last, bool prefetch)
{
	unsigned int flags = 1 | (prefetch ? 3u << 1 : 0); /* writable, cacheability */

	if (last > UINT32_MAX)
		put_window(b, 0x8a, 8, 0, flags, first, last);
	else
		put_window(b, 0x87, 4, 0, flags, first, last);
}
