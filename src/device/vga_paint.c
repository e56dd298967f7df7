/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/vga_paint.c - what the screen shows: text, planes, 256 colours, linear modes
 *
 * Painting reads the registers under the device's lock and the memory as it is: the guest may be
 * writing to it, which shows for one refresh.
 */
#include "device/vga_priv.h"

#include <errno.h>

#define CHAR_WIDTH 8u

/* Code page 437, 80h-FFh and 01h-1Fh, as Unicode. */
static const uint16_t cp437_high[128] = {
    0x00c7, 0x00fc, 0x00e9, 0x00e2, 0x00e4, 0x00e0, 0x00e5, 0x00e7, 0x00ea, 0x00eb, 0x00e8, 0x00ef,
    0x00ee, 0x00ec, 0x00c4, 0x00c5, 0x00c9, 0x00e6, 0x00c6, 0x00f4, 0x00f6, 0x00f2, 0x00fb, 0x00f9,
    0x00ff, 0x00d6, 0x00dc, 0x00a2, 0x00a3, 0x00a5, 0x20a7, 0x0192, 0x00e1, 0x00ed, 0x00f3, 0x00fa,
    0x00f1, 0x00d1, 0x00aa, 0x00ba, 0x00bf, 0x2310, 0x00ac, 0x00bd, 0x00bc, 0x00a1, 0x00ab, 0x00bb,
    0x2591, 0x2592, 0x2593, 0x2502, 0x2524, 0x2561, 0x2562, 0x2556, 0x2555, 0x2563, 0x2551, 0x2557,
    0x255d, 0x255c, 0x255b, 0x2510, 0x2514, 0x2534, 0x252c, 0x251c, 0x2500, 0x253c, 0x255e, 0x255f,
    0x255a, 0x2554, 0x2569, 0x2566, 0x2560, 0x2550, 0x256c, 0x2567, 0x2568, 0x2564, 0x2565, 0x2559,
    0x2558, 0x2552, 0x2553, 0x256b, 0x256a, 0x2518, 0x250c, 0x2588, 0x2584, 0x258c, 0x2590, 0x2580,
    0x03b1, 0x00df, 0x0393, 0x03c0, 0x03a3, 0x03c3, 0x00b5, 0x03c4, 0x03a6, 0x0398, 0x03a9, 0x03b4,
    0x221e, 0x03c6, 0x03b5, 0x2229, 0x2261, 0x00b1, 0x2265, 0x2264, 0x2320, 0x2321, 0x00f7, 0x2248,
    0x00b0, 0x2219, 0x00b7, 0x221a, 0x207f, 0x00b2, 0x25a0, 0x00a0};
static const uint16_t cp437_low[32] = {
    0x0020, 0x263a, 0x263b, 0x2665, 0x2666, 0x2663, 0x2660, 0x2022, 0x25d8, 0x25cb, 0x25d9,
    0x2642, 0x2640, 0x266a, 0x266b, 0x263c, 0x25ba, 0x25c4, 0x2195, 0x203c, 0x00b6, 0x00a7,
    0x25ac, 0x21a8, 0x2191, 0x2193, 0x2192, 0x2190, 0x221f, 0x2194, 0x25b2, 0x25bc};

/* --- geometry --- */

static bool is_text(const struct vga *v)
{
	return !vga_bga_on(v) && !(v->gc[GC_MISC] & 1);
}

/* The screen is dark: no mode was set yet, it is switched off, or the palette is being changed. */
static bool is_dark(const struct vga *v)
{
	if (vga_bga_on(v))
		return !v->bga[BGA_XRES] || !v->bga[BGA_YRES];
	return !(v->att_index & 0x20) || (v->seq[SEQ_CLOCK] & 0x20) || !v->crt[CRT_V_END];
}

static unsigned int lines(const struct vga *v)
{
	unsigned int over = v->crt[CRT_OVERFLOW];

	return 1 + v->crt[CRT_V_END] + (over & 2 ? 256 : 0) + (over & 0x40 ? 512 : 0);
}

static unsigned int line_compare(const struct vga *v)
{
	return v->crt[CRT_LINE_COMPARE] + (v->crt[CRT_OVERFLOW] & 0x10 ? 256 : 0) +
	       (v->crt[CRT_MAX_SCAN] & 0x40 ? 512 : 0);
}

static unsigned int columns(const struct vga *v)
{
	return v->crt[CRT_H_END] + 1u;
}

static unsigned int char_height(const struct vga *v)
{
	return (v->crt[CRT_MAX_SCAN] & 31) + 1u;
}

static uint32_t start_address(const struct vga *v)
{
	return (uint32_t)v->crt[CRT_START_HIGH] << 8 | v->crt[CRT_START_LOW];
}

/* From the CRT controller's counter to a plane address: bytes, words or doublewords. */
static uint32_t plane_address(const struct vga *v, uint32_t counter)
{
	unsigned int shift = v->crt[0x14] & 0x40 ? 2 : v->crt[CRT_MODE] & 0x40 ? 0 : 1;

	return counter << shift & (VGA_PLANE_SIZE - 1);
}

/* --- colours --- */

static uint32_t dac_color(const struct vga *v, uint8_t index)
{
	const uint8_t *c = v->dac + 3 * (index & v->dac_mask);
	uint32_t rgb = 0;

	for (unsigned int i = 0; i < 3; i++) {
		uint8_t x = c[i];

		if (!(v->bga[BGA_ENABLE] & BGA_8BIT_DAC))
			x = (uint8_t)((x & 0x3f) << 2 | (x & 0x3f) >> 4);
		rgb = rgb << 8 | x;
	}
	return rgb;
}

/* Of the 16 that an attribute can name. */
static uint32_t att_color(const struct vga *v, unsigned int n)
{
	uint8_t x = v->att[n & 15] & 0x3f, select = v->att[ATT_COLOR];

	if (v->att[ATT_MODE] & 0x80)
		x = (uint8_t)((x & 0x0f) | (select & 3) << 4);
	return dac_color(v, (uint8_t)(x | (select & 0x0c) << 4));
}

/* --- text --- */

struct text {
	unsigned int columns, rows, height;
	uint32_t start, pitch; /* in cells */
};

static struct text text_of(const struct vga *v)
{
	struct text t = {.columns = MIN(columns(v), 256u), .height = char_height(v)};

	t.rows = MIN(MAX(lines(v) / t.height, 1u), 256u);
	t.start = start_address(v);
	t.pitch = v->crt[CRT_OFFSET] * 2u;
	return t;
}

/* Character, attribute, and the fonts' bytes are in planes 0, 1 and 2. */
static const uint8_t *text_cell(const struct vga *v, const struct text *t, unsigned int x,
				unsigned int y)
{
	uint32_t n = t->start + y * t->pitch + x;

	return v->vram + 4 * (size_t)plane_address(v, n);
}

static uint8_t font_row(const struct vga *v, uint8_t ch, bool second, unsigned int line)
{
	/* Map select: two bits and one more, of 16 KiB; the odd maps lie between. */
	uint8_t sel = v->seq[SEQ_FONT];
	unsigned int a = (sel >> 2 & 3) | (sel >> 3 & 4), b = (sel & 3) | (sel >> 2 & 4);
	unsigned int n = second ? a : b;
	uint32_t base = (n & 3) * 0x4000 + (n & 4 ? 0x2000 : 0);

	return v->vram[4 * (size_t)((base + ch * 32u + line) & (VGA_PLANE_SIZE - 1)) + 2];
}

static bool is_cursor(const struct vga *v, const struct text *t, unsigned int x, unsigned int y,
		      unsigned int line)
{
	uint32_t at = (uint32_t)v->crt[CRT_CURSOR_HIGH] << 8 | v->crt[CRT_CURSOR_LOW];
	uint8_t first = v->crt[CRT_CURSOR_START], last = v->crt[CRT_CURSOR_END] & 31;

	return !(first & 0x20) && at == ((t->start + y * t->pitch + x) & 0xffff) &&
	       line >= (first & 31u) && line <= last;
}

static void text_line(const struct vga *v, const struct text *t, unsigned int y, unsigned int line,
		      const uint32_t colors[16], uint32_t *row)
{
	/* Bit 3 of the attribute chooses the font when the two differ. */
	bool blink = v->att[ATT_MODE] & 8;

	for (unsigned int x = 0; x < t->columns; x++) {
		const uint8_t *c = text_cell(v, t, x, y);
		uint32_t fg = colors[c[1] & 15], bg = colors[c[1] >> 4 & (blink ? 7 : 15)];
		uint8_t bits = font_row(v, c[0], c[1] & 8, line);

		if (is_cursor(v, t, x, y, line))
			bits = 0xff;
		for (unsigned int i = 0; i < CHAR_WIDTH; i++)
			*row++ = bits >> (7 - i) & 1 ? fg : bg;
	}
}

static void paint_text(const struct vga *v, struct screen *s, uint32_t *row)
{
	struct text t = text_of(v);
	uint32_t colors[16];

	for (unsigned int i = 0; i < 16; i++)
		colors[i] = att_color(v, i);
	screen_size(s, t.columns * CHAR_WIDTH, t.rows * t.height);
	for (unsigned int y = 0; y < t.rows; y++) {
		for (unsigned int line = 0; line < t.height; line++) {
			text_line(v, &t, y, line, colors, row);
			screen_row(s, y * t.height + line, row);
		}
	}
}

/* --- graphics of the VGA --- */

struct graphics {
	unsigned int width, height;
	bool doubled; /* each line is there twice */
};

static struct graphics graphics_of(const struct vga *v)
{
	struct graphics g = {.doubled = v->crt[CRT_MAX_SCAN] & 0x80};

	g.width = columns(v) * (v->gc[GC_MODE] & 0x40 ? 4 : 8);
	g.height = lines(v) / (g.doubled ? 2 : 1);
	/* More scan lines a row repeat it, but where CGA and Hercules put other memory there. */
	if (v->crt[CRT_MODE] & 1)
		g.height /= char_height(v);
	g.width = MIN(g.width, SCREEN_MAX);
	g.height = MIN(MAX(g.height, 1u), SCREEN_MAX);
	return g;
}

/* Plane address of the first byte of line @y. */
static uint32_t line_counter(const struct vga *v, const struct graphics *g, unsigned int y,
			     uint32_t *bank)
{
	unsigned int scans = v->crt[CRT_MODE] & 1 ? 1 : char_height(v), row = y / scans;
	unsigned int split = line_compare(v) / (g->doubled ? 2 : 1);
	uint32_t start = start_address(v);

	if (v->crt[CRT_MODE] & 1)
		split /= char_height(v);
	if (y > split) {
		row = (y - split - 1) / scans;
		start = 0;
	}
	*bank = !(v->crt[CRT_MODE] & 1) && (y % scans & 1) ? 0x2000 : 0;
	return start + row * v->crt[CRT_OFFSET] * 2u;
}

static const uint8_t *plane_cell(const struct vga *v, uint32_t counter, uint32_t bank)
{
	return v->vram + 4 * (size_t)((plane_address(v, counter) | bank) & (VGA_PLANE_SIZE - 1));
}

static void line_256(const struct vga *v, uint32_t at, unsigned int width, const uint32_t *pal,
		     uint32_t *row)
{
	for (unsigned int x = 0; x < width; x += 4, at++) {
		const uint8_t *c = plane_cell(v, at, 0);

		for (unsigned int p = 0; p < 4; p++)
			row[x + p] = pal[c[p]];
	}
}

/* CGA's two bits a pixel: four pixels in a byte of plane 0, four in one of plane 1. */
static void line_cga(const struct vga *v, uint32_t at, uint32_t bank, unsigned int width,
		     const uint32_t *pal, uint32_t *row)
{
	for (unsigned int x = 0; x + 8 <= width; x += 8, at++) {
		const uint8_t *c = plane_cell(v, at, bank);

		for (unsigned int i = 0; i < 8; i++)
			row[x + i] = pal[c[i / 4] >> (6 - 2 * (i % 4)) & 3];
	}
}

static void line_planes(const struct vga *v, uint32_t at, uint32_t bank, unsigned int width,
			const uint32_t *pal, uint32_t *row)
{
	uint8_t planes = v->att[ATT_PLANES] & 15;

	for (unsigned int x = 0; x + 8 <= width; x += 8, at++) {
		const uint8_t *c = plane_cell(v, at, bank);

		for (unsigned int i = 0; i < 8; i++) {
			unsigned int n = 0;

			for (unsigned int p = 0; p < 4; p++)
				n |= (c[p] >> (7 - i) & 1u) << p;
			row[x + i] = pal[n & planes];
		}
	}
}

static void paint_graphics(const struct vga *v, struct screen *s, uint32_t *row)
{
	struct graphics g = graphics_of(v);
	uint32_t pal[256], bank;
	bool deep = v->gc[GC_MODE] & 0x40;

	for (unsigned int i = 0; i < 256; i++)
		pal[i] = deep ? dac_color(v, (uint8_t)i) : att_color(v, i);
	screen_size(s, g.width, g.height);
	for (unsigned int y = 0; y < g.height; y++) {
		uint32_t at = line_counter(v, &g, y, &bank);

		if (deep)
			line_256(v, at, g.width, pal, row);
		else if (v->gc[GC_MODE] & 0x20)
			line_cga(v, at, bank, g.width, pal, row);
		else
			line_planes(v, at, bank, g.width, pal, row);
		screen_row(s, y, row);
	}
}

/* --- linear modes --- */

static uint32_t from_555(uint16_t x)
{
	uint32_t r = x >> 10 & 31, g = x >> 5 & 31, b = x & 31;

	return (r << 3 | r >> 2) << 16 | (g << 3 | g >> 2) << 8 | (b << 3 | b >> 2);
}

static uint32_t from_565(uint16_t x)
{
	uint32_t r = x >> 11 & 31, g = x >> 5 & 63, b = x & 31;

	return (r << 3 | r >> 2) << 16 | (g << 2 | g >> 4) << 8 | (b << 3 | b >> 2);
}

static uint32_t linear_pixel(const uint8_t *p, unsigned int bpp, const uint32_t *pal)
{
	switch (bpp) {
	case 8:
		return pal[*p];
	case 15:
		return from_555(load_le16(p));
	case 16:
		return from_565(load_le16(p));
	case 24:
		return (uint32_t)p[2] << 16 | (uint32_t)p[1] << 8 | p[0];
	}
	return 0;
}

/* What desktops use: a loop that the compiler makes vectors of. */
static void copy_32(uint32_t *row, const uint8_t *p, unsigned int n)
{
	for (unsigned int x = 0; x < n; x++)
		row[x] = load_le32(p + 4 * (size_t)x) & 0xffffff;
}

static void paint_linear(const struct vga *v, struct screen *s, uint32_t *row)
{
	unsigned int bpp = v->bga[BGA_BPP], bytes = (bpp + 7) / 8;
	uint64_t pitch = (uint64_t)v->bga[BGA_VIRT_WIDTH] * bytes;
	uint64_t at = v->bga[BGA_Y_OFFSET] * pitch + (uint64_t)v->bga[BGA_X_OFFSET] * bytes;
	uint32_t pal[256];

	for (unsigned int i = 0; i < 256; i++)
		pal[i] = dac_color(v, (uint8_t)i);
	screen_size(s, v->bga[BGA_XRES], v->bga[BGA_YRES]);
	for (unsigned int y = 0; y < s->height; y++, at += pitch) {
		unsigned int n = 0;

		if (at < VGA_VRAM_SIZE)
			n = (unsigned int)MIN((VGA_VRAM_SIZE - at) / bytes, (uint64_t)s->width);
		if (bpp == 32)
			copy_32(row, v->vram + at, n);
		else
			for (unsigned int x = 0; x < n; x++)
				row[x] = linear_pixel(v->vram + at + x * bytes, bpp, pal);
		memset(row + n, 0, (s->width - n) * sizeof(*row));
		screen_row(s, y, row);
	}
}

/* --- for the screen --- */

static void paint_dark(struct screen *s, uint32_t *row)
{
	screen_size(s, s->width ? s->width : 640, s->height ? s->height : 400);
	memset(row, 0, s->width * sizeof(*row));
	for (unsigned int y = 0; y < s->height; y++)
		screen_row(s, y, row);
}

static void paint(void *opaque, struct screen *s)
{
	struct vga *v = opaque;
	/* Lines end at whole characters, which may be past the width. */
	uint32_t row[SCREEN_MAX + 8];

	pthread_mutex_lock(&v->pci.lock);
	if (is_dark(v))
		paint_dark(s, row);
	else if (is_text(v))
		paint_text(v, s, row);
	else if (vga_bga_on(v) && v->bga[BGA_BPP] != 4)
		paint_linear(v, s, row);
	else
		paint_graphics(v, s, row);
	pthread_mutex_unlock(&v->pci.lock);
}

static void put_utf8(struct strbuf *out, uint16_t c)
{
	if (c < 0x80) {
		strbuf_putc(out, (char)c);
	} else if (c < 0x800) {
		strbuf_putc(out, (char)(0xc0 | c >> 6));
		strbuf_putc(out, (char)(0x80 | (c & 63)));
	} else {
		strbuf_putc(out, (char)(0xe0 | c >> 12));
		strbuf_putc(out, (char)(0x80 | (c >> 6 & 63)));
		strbuf_putc(out, (char)(0x80 | (c & 63)));
	}
}

static uint16_t to_unicode(uint8_t c)
{
	return c < 32 ? cp437_low[c] : c == 127 ? 0x2302 : c < 127 ? c : cp437_high[c - 128];
}

static void text_row(const struct vga *v, const struct text *t, unsigned int y, struct strbuf *out)
{
	unsigned int end = t->columns;

	while (end && (*text_cell(v, t, end - 1, y) & ~0x20) == 0) /* blank or NUL */
		end--;
	for (unsigned int x = 0; x < end; x++)
		put_utf8(out, to_unicode(*text_cell(v, t, x, y)));
	strbuf_putc(out, '\n');
}

static int text(void *opaque, struct strbuf *out)
{
	struct vga *v = opaque;
	struct text t;
	int r = 0;

	pthread_mutex_lock(&v->pci.lock);
	t = text_of(v);
	if (!is_text(v) || is_dark(v))
		r = -ENODATA;
	for (unsigned int y = 0; y < t.rows && r == 0; y++)
		text_row(v, &t, y, out);
	pthread_mutex_unlock(&v->pci.lock);
	return r;
}

const struct screen_ops vga_screen_ops = {.paint = paint, .text = text};
