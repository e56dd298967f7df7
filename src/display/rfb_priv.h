/* SPDX-License-Identifier: Apache-2.0 */
/*
 * display/rfb_priv.h - between protocol and encodings
 */
#pragma once

#include "display/rfb.h"

#include <zlib.h>

struct rfb_format {
	uint8_t bits; /* 8, 16 or 32 */
	bool big_endian;
	uint16_t max[3]; /* red, green, blue */
	uint8_t shift[3];
	/* ZRLE's short pixels: bytes of one, and the first of them. */
	uint8_t cpixel, cpixel_at;
};

struct rfb_rect {
	unsigned int x, y, width, height;
};

/* One pixel in the viewer's format; returns its bytes. */
unsigned int rfb_pixel(const struct rfb_format *f, uint32_t rgb, uint8_t out[4]);
void rfb_encode_raw(const struct screen *s, const struct rfb_format *f, const struct rfb_rect *r,
		    struct strbuf *out);
void rfb_encode_hextile(const struct screen *s, const struct rfb_format *f,
			const struct rfb_rect *r, struct strbuf *out);
/* Length and compressed data; @z lives as long as the viewer. */
void rfb_encode_zrle(const struct screen *s, const struct rfb_format *f, const struct rfb_rect *r,
		     z_stream *z, struct strbuf *out);
void rfb_put16(struct strbuf *out, unsigned int v);
void rfb_put32(struct strbuf *out, uint32_t v);
