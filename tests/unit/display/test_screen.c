/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/display/test_screen.c - tiles change when their pixels do, and a PNG has the pixels
 */
#include "display/screen.h"

#include "test.h"

#include <errno.h>
#include <png.h>

static struct {
	unsigned int width, height;
	uint32_t color, dot_x, dot_y;
} now = {100, 40, 0x112233, 0, 0};

static void paint(void *opaque, struct screen *s)
{
	uint32_t row[SCREEN_MAX];

	screen_size(s, now.width, now.height);
	for (unsigned int y = 0; y < now.height; y++) {
		for (unsigned int x = 0; x < now.width; x++)
			row[x] = x == now.dot_x && y == now.dot_y ? 0xffffff : now.color;
		screen_row(s, y, row);
	}
	screen_row(s, now.height, row); /* past the end: ignored */
}

static int text(void *opaque, struct strbuf *out)
{
	return -ENODATA;
}

static const struct screen_ops ops = {paint, text};

static unsigned int changed(const struct screen *s)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < s->tiles_x * s->tiles_y; i++)
		n += s->tiles[i] == s->refresh;
	return n;
}

static void test_tiles(struct screen *s)
{
	screen_refresh(s);
	CHECK(s->width == 100 && s->height == 40 && s->tiles_x == 7 && s->tiles_y == 3);
	CHECK_EQ(changed(s), 21);
	screen_refresh(s);
	CHECK_EQ(changed(s), 0);
	now.dot_x = 99;
	now.dot_y = 39;
	screen_refresh(s);
	CHECK_EQ(changed(s), 2); /* where it was and where it is */
	CHECK_EQ(s->tiles[20], s->refresh);
	now.width = 5;
	screen_refresh(s);
	CHECK(s->width == 5 && changed(s) == 3);
	screen_size(s, 100000, 0);
	CHECK(s->width == SCREEN_MAX && s->height == 1);
}

static void test_png(struct screen *s)
{
	struct strbuf out = {0};
	png_image image = {.version = PNG_IMAGE_VERSION};
	uint8_t rgb[20 * 4 * 3];

	now.width = 20;
	now.height = 4;
	now.dot_x = 3;
	now.dot_y = 2;
	screen_refresh(s);
	CHECK_EQ(screen_png(s, &out, NULL), 0);
	CHECK(png_image_begin_read_from_memory(&image, out.data, out.len));
	CHECK(image.width == 20 && image.height == 4);
	image.format = PNG_FORMAT_RGB;
	CHECK(png_image_finish_read(&image, NULL, rgb, 0, NULL));
	CHECK(rgb[0] == 0x11 && rgb[1] == 0x22 && rgb[2] == 0x33);
	CHECK(rgb[(2 * 20 + 3) * 3] == 0xff);
	strbuf_fini(&out);
}

int main(void)
{
	struct screen *s = screen_new();
	struct strbuf t = {0};

	screen_refresh(s); /* no device: black */
	CHECK(s->width == 640 && s->pixels[0] == 0 && screen_text(s, &t) == -ENODATA);
	screen_attach(s, &ops, NULL);
	test_tiles(s);
	test_png(s);
	screen_free(s);
	return 0;
}
