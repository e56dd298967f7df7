/* SPDX-License-Identifier: Apache-2.0 */
/*
 * display/screen_png.c - the picture as a PNG file
 */
#include "display/screen.h"

#include <errno.h>
#include <png.h>

static void append(png_structp png, png_bytep data, png_size_t len)
{
	strbuf_add(png_get_io_ptr(png), data, len);
}

static void flush(png_structp png)
{
}

/* Row by row; libpng comes back by longjmp when something fails. */
static int write_image(const struct screen *s, png_structp png, png_infop info, uint8_t *row,
		       struct strbuf *out)
{
	if (setjmp(png_jmpbuf(png)))
		return -EIO;
	png_set_write_fn(png, out, append, flush);
	png_set_IHDR(png, info, s->width, s->height, 8, PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
		     PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
	png_set_compression_level(png, 3);
	png_write_info(png, info);
	for (unsigned int y = 0; y < s->height; y++) {
		const uint32_t *p = s->pixels + (size_t)y * s->width;

		for (unsigned int x = 0; x < s->width; x++) {
			row[3 * x] = (uint8_t)(p[x] >> 16);
			row[3 * x + 1] = (uint8_t)(p[x] >> 8);
			row[3 * x + 2] = (uint8_t)p[x];
		}
		png_write_row(png, row);
	}
	png_write_end(png, info);
	return 0;
}

int screen_png(const struct screen *s, struct strbuf *out, struct err *e)
{
	png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
	png_infop info = png ? png_create_info_struct(png) : NULL;
	autofree uint8_t *row = malloc(3 * (size_t)s->width + 1);
	int r = png && info && row && s->width ? 0 : -ENOMEM;

	if (r == 0)
		r = write_image(s, png, info, row, out);
	png_destroy_write_struct(&png, &info);
	return r < 0 ? err_set(e, r, "make a PNG of the screen") : 0;
}
