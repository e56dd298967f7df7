/* SPDX-License-Identifier: Apache-2.0 */
/*
 * display/screen.c - the picture, and which tiles of it changed when
 */
#include "display/screen.h"

#include <errno.h>

struct screen *screen_new(void)
{
	return xnew(struct screen);
}

void screen_free(struct screen *s)
{
	if (!s)
		return;
	free(s->pixels);
	free(s->tiles);
	free(s);
}

void screen_attach(struct screen *s, const struct screen_ops *ops, void *opaque)
{
	s->ops = ops;
	s->opaque = opaque;
}

void screen_refresh(struct screen *s)
{
	s->refresh++;
	if (s->ops)
		s->ops->paint(s->opaque, s);
	else if (!s->width)
		screen_size(s, 640, 400);
}

int screen_text(struct screen *s, struct strbuf *out)
{
	return s->ops ? s->ops->text(s->opaque, out) : -ENODATA;
}

void screen_size(struct screen *s, unsigned int width, unsigned int height)
{
	width = MIN(MAX(width, 1u), SCREEN_MAX);
	height = MIN(MAX(height, 1u), SCREEN_MAX);
	if (width == s->width && height == s->height)
		return;
	free(s->pixels);
	free(s->tiles);
	s->width = width;
	s->height = height;
	s->tiles_x = (width + SCREEN_TILE - 1) / SCREEN_TILE;
	s->tiles_y = (height + SCREEN_TILE - 1) / SCREEN_TILE;
	s->pixels = xcalloc((size_t)width * height, sizeof(*s->pixels));
	s->tiles = xcalloc((size_t)s->tiles_x * s->tiles_y, sizeof(*s->tiles));
	for (unsigned int i = 0; i < s->tiles_x * s->tiles_y; i++)
		s->tiles[i] = s->refresh;
}

void screen_set_cursor(struct screen *s, const struct screen_cursor *c)
{
	if (c->number != s->cursor.number)
		memcpy(s->cursor_pixels, c->pixels, sizeof(s->cursor_pixels));
	s->cursor = *c;
	s->cursor.pixels = s->cursor_pixels;
}

int screen_resize(struct screen *s, unsigned int width, unsigned int height)
{
	if (!s->ops || !s->ops->resize)
		return -ENOTSUP;
	s->ops->resize(s->opaque, width, height);
	return 0;
}

static uint32_t blend(uint32_t below, uint32_t above)
{
	uint32_t alpha = above >> 24, rgb = 0;

	for (unsigned int shift = 0; shift < 24; shift += 8)
		rgb |= ((above >> shift & 0xff) * alpha + (below >> shift & 0xff) * (255 - alpha)) /
			   255
		       << shift;
	return rgb;
}

/* The row with the cursor over it. */
static const uint32_t *with_cursor(struct screen *s, unsigned int y, const uint32_t *row)
{
	const struct screen_cursor *c = &s->cursor;
	int line = (int)y - c->y;

	if (!s->draw_cursor || !c->shown || line < 0 || line >= (int)SCREEN_CURSOR)
		return row;
	memcpy(s->line, row, s->width * sizeof(*row));
	for (int i = 0; i < (int)SCREEN_CURSOR; i++)
		if (c->x + i >= 0 && c->x + i < (int)s->width)
			s->line[c->x + i] =
			    blend(row[c->x + i], c->pixels[line * (int)SCREEN_CURSOR + i]);
	return s->line;
}

void screen_row(struct screen *s, unsigned int y, const uint32_t *row)
{
	uint32_t *old, *tiles;

	if (y >= s->height)
		return;
	row = with_cursor(s, y, row);
	old = s->pixels + (size_t)y * s->width;
	tiles = s->tiles + (size_t)(y / SCREEN_TILE) * s->tiles_x;
	if (memcmp(old, row, s->width * sizeof(*row)) == 0)
		return;
	for (unsigned int x = 0; x < s->width; x += SCREEN_TILE) {
		size_t n = MIN(SCREEN_TILE, s->width - x) * sizeof(*row);

		if (memcmp(old + x, row + x, n) == 0)
			continue;
		memcpy(old + x, row + x, n);
		tiles[x / SCREEN_TILE] = s->refresh;
	}
}
