/* SPDX-License-Identifier: Apache-2.0 */
/*
 * display/rfb_encode.c - rectangles of the screen as Raw, Hextile and ZRLE (RFC 6143, 7.7)
 */
#include "display/rfb_priv.h"

#define ZRLE_TILE   64u
#define PALETTE_MAX 16u

void rfb_put16(struct strbuf *out, unsigned int v)
{
	strbuf_putc(out, (char)(v >> 8));
	strbuf_putc(out, (char)v);
}

void rfb_put32(struct strbuf *out, uint32_t v)
{
	rfb_put16(out, v >> 16);
	rfb_put16(out, v & 0xffff);
}

unsigned int rfb_pixel(const struct rfb_format *f, uint32_t rgb, uint8_t out[4])
{
	unsigned int n = f->bits / 8u;
	uint32_t v = 0;

	for (unsigned int i = 0; i < 3; i++) {
		uint32_t c = rgb >> (16 - 8 * i) & 0xff;

		v |= (c * f->max[i] + 127) / 255 << f->shift[i];
	}
	for (unsigned int i = 0; i < n; i++)
		out[i] = (uint8_t)(v >> 8 * (f->big_endian ? n - 1 - i : i));
	return n;
}

static const uint32_t *pixels_at(const struct screen *s, unsigned int x, unsigned int y)
{
	return s->pixels + (size_t)y * s->width + x;
}

void rfb_encode_raw(const struct screen *s, const struct rfb_format *f, const struct rfb_rect *r,
		    struct strbuf *out)
{
	uint8_t line[SCREEN_MAX * 4];

	for (unsigned int y = 0; y < r->height; y++) {
		const uint32_t *p = pixels_at(s, r->x, r->y + y);
		size_t n = 0;

		for (unsigned int x = 0; x < r->width; x++)
			n += rfb_pixel(f, p[x], line + n);
		strbuf_add(out, line, n);
	}
}

/* --- the few colours of a tile --- */

struct palette {
	uint32_t color[PALETTE_MAX];
	unsigned int n; /* PALETTE_MAX + 1 = too many */
};

static unsigned int palette_index(const struct palette *p, uint32_t color)
{
	unsigned int i = 0;

	while (i < p->n && p->color[i] != color)
		i++;
	return i;
}

static void find_palette(const struct screen *s, const struct rfb_rect *t, struct palette *p)
{
	p->n = 0;
	for (unsigned int y = 0; y < t->height; y++) {
		const uint32_t *row = pixels_at(s, t->x, t->y + y);

		for (unsigned int x = 0; x < t->width; x++) {
			if (x && row[x] == row[x - 1])
				continue;
			if (palette_index(p, row[x]) < p->n)
				continue;
			if (p->n == PALETTE_MAX) {
				p->n++;
				return;
			}
			p->color[p->n++] = row[x];
		}
	}
}

/* --- Hextile (7.7.4) --- */

#define HEXTILE 16u
enum { HEX_RAW = 1, HEX_BACKGROUND = 2, HEX_FOREGROUND = 4, HEX_SUBRECTS = 8, HEX_COLOURED = 16 };

static void put_pixel(const struct rfb_format *f, uint32_t rgb, struct strbuf *out)
{
	uint8_t raw[4];

	strbuf_add(out, raw, rfb_pixel(f, rgb, raw));
}

/* Runs along each row of what is not the background; how many there are. */
static unsigned int put_runs(const struct screen *s, const struct rfb_format *f,
			     const struct rfb_rect *t, const struct palette *p, struct strbuf *out)
{
	unsigned int n = 0;

	for (unsigned int y = 0; y < t->height; y++) {
		const uint32_t *row = pixels_at(s, t->x, t->y + y);

		for (unsigned int x = 0, end; x < t->width; x = end) {
			for (end = x + 1; end < t->width && row[end] == row[x]; end++)
				;
			if (row[x] == p->color[0])
				continue;
			if (p->n > 2)
				put_pixel(f, row[x], out);
			strbuf_putc(out, (char)(x << 4 | y));
			strbuf_putc(out, (char)((end - x - 1) << 4));
			n++;
		}
	}
	return n;
}

static void put_hextile(const struct screen *s, const struct rfb_format *f,
			const struct rfb_rect *t, struct strbuf *out)
{
	size_t start = out->len, raw = (size_t)t->width * t->height * (f->bits / 8u), count;
	struct palette p;
	unsigned int n;

	find_palette(s, t, &p);
	if (p.n <= PALETTE_MAX) {
		strbuf_putc(out,
			    (char)(HEX_BACKGROUND | (p.n > 1 ? HEX_SUBRECTS : 0) |
				   (p.n == 2 ? HEX_FOREGROUND : 0) | (p.n > 2 ? HEX_COLOURED : 0)));
		put_pixel(f, p.color[0], out);
		if (p.n == 1)
			return;
		if (p.n == 2)
			put_pixel(f, p.color[1], out);
		count = out->len;
		strbuf_putc(out, 0);
		n = put_runs(s, f, t, &p, out);
		out->data[count] = (char)n;
		if (n <= 255 && out->len - start <= raw)
			return;
		out->len = start;
	}
	strbuf_putc(out, HEX_RAW);
	rfb_encode_raw(s, f, t, out);
}

void rfb_encode_hextile(const struct screen *s, const struct rfb_format *f,
			const struct rfb_rect *r, struct strbuf *out)
{
	for (unsigned int y = 0; y < r->height; y += HEXTILE)
		for (unsigned int x = 0; x < r->width; x += HEXTILE)
			put_hextile(s, f,
				    &(struct rfb_rect){r->x + x, r->y + y,
						       MIN(HEXTILE, r->width - x),
						       MIN(HEXTILE, r->height - y)},
				    out);
}

/* --- ZRLE (7.7.6) --- */

static void put_cpixel(const struct rfb_format *f, uint32_t rgb, struct strbuf *out)
{
	uint8_t raw[4];

	rfb_pixel(f, rgb, raw);
	strbuf_add(out, raw + f->cpixel_at, f->cpixel);
}

/* Indices of 1, 2 or 4 bits, each row filled up to a byte. */
static void put_packed(const struct screen *s, const struct rfb_rect *t, const struct palette *p,
		       struct strbuf *out)
{
	unsigned int bits = p->n == 2 ? 1 : p->n <= 4 ? 2 : 4;

	for (unsigned int y = 0; y < t->height; y++) {
		const uint32_t *row = pixels_at(s, t->x, t->y + y);
		unsigned int byte = 0, used = 0;

		for (unsigned int x = 0; x < t->width; x++) {
			byte = byte << bits | palette_index(p, row[x]);
			used += bits;
			if (used == 8) {
				strbuf_putc(out, (char)byte);
				byte = used = 0;
			}
		}
		if (used)
			strbuf_putc(out, (char)(byte << (8 - used)));
	}
}

static void put_tile(const struct screen *s, const struct rfb_format *f, const struct rfb_rect *t,
		     struct strbuf *out)
{
	struct palette p;

	find_palette(s, t, &p);
	if (p.n > PALETTE_MAX) {
		strbuf_putc(out, 0); /* raw */
		for (unsigned int y = 0; y < t->height; y++)
			for (unsigned int x = 0; x < t->width; x++)
				put_cpixel(f, pixels_at(s, t->x, t->y + y)[x], out);
		return;
	}
	strbuf_putc(out, (char)p.n); /* 1 = one colour, else a palette of that many */
	for (unsigned int i = 0; i < p.n; i++)
		put_cpixel(f, p.color[i], out);
	if (p.n > 1)
		put_packed(s, t, &p, out);
}

/* All that deflate has for @in, to a byte's end. */
static void compress_into(z_stream *z, struct strbuf *in, struct strbuf *out)
{
	uint8_t chunk[16384];

	z->next_in = (uint8_t *)in->data;
	z->avail_in = (unsigned int)in->len;
	do {
		z->next_out = chunk;
		z->avail_out = sizeof(chunk);
		deflate(z, Z_SYNC_FLUSH);
		strbuf_add(out, chunk, sizeof(chunk) - z->avail_out);
	} while (z->avail_out == 0);
}

void rfb_encode_zrle(const struct screen *s, const struct rfb_format *f, const struct rfb_rect *r,
		     z_stream *z, struct strbuf *out)
{
	autostrbuf struct strbuf plain = {0}, packed = {0};

	for (unsigned int y = 0; y < r->height; y += ZRLE_TILE) {
		for (unsigned int x = 0; x < r->width; x += ZRLE_TILE) {
			struct rfb_rect t = {r->x + x, r->y + y, MIN(ZRLE_TILE, r->width - x),
					     MIN(ZRLE_TILE, r->height - y)};

			put_tile(s, f, &t, &plain);
		}
	}
	compress_into(z, &plain, &packed);
	rfb_put32(out, (uint32_t)packed.len);
	strbuf_add(out, packed.data, packed.len);
}
