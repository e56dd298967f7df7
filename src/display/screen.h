/* SPDX-License-Identifier: Apache-2.0 */
/*
 * display/screen.h - what is to be seen: the picture a display device paints and viewers look at
 *
 *	device   --screen_size, screen_row-->  picture, XRGB  --tiles that changed-->  viewers
 *
 * The picture is painted only when somebody looks: screen_refresh asks the device.  Each tile of
 * SCREEN_TILE pixels squared has the number of the refresh in which it last changed; a viewer
 * remembers the number it has seen and sends what is newer.  A picture that stays sends nothing.
 *
 * Threads: all of it in the loop's thread, but screen_lock'ed parts: none.  A device takes its own
 * lock in its callbacks.
 */
#pragma once

#include "base/err.h"
#include "base/strbuf.h"

#define SCREEN_TILE   16u
#define SCREEN_MAX    4096u /* pixels, either way */
#define SCREEN_CURSOR 64u   /* pixels of a cursor's side */

struct screen;

struct screen_ops {
	/* Paints: screen_size, then every row. */
	void (*paint)(void *opaque, struct screen *s);
	/* Appends the text shown, UTF-8, a line a row without blanks at its end; -ENODATA while it
	 * shows graphics. */
	int (*text)(void *opaque, struct strbuf *out);
	/* A viewer would like this size; NULL: sizes are the guest's alone. */
	void (*resize)(void *opaque, unsigned int width, unsigned int height);
};

/* A pointer that the device keeps apart from the picture. */
struct screen_cursor {
	const uint32_t *pixels; /* 0xAARRGGBB, SCREEN_CURSOR squared; copied when @number is new */
	uint32_t number;        /* of the shape, counted by the device */
	bool shown;
	int x, y; /* its upper left corner */
	unsigned int hot_x, hot_y;
};

struct screen {
	const struct screen_ops *ops;
	void *opaque;
	unsigned int width, height; /* 0 = nothing painted yet */
	uint32_t *pixels;           /* width * height, 0x00RRGGBB */
	uint32_t *tiles;            /* refresh number of each tile's last change */
	unsigned int tiles_x, tiles_y;
	uint32_t refresh; /* number of the current one, from 1 */
	struct screen_cursor cursor;
	uint32_t cursor_pixels[SCREEN_CURSOR * SCREEN_CURSOR];
	bool draw_cursor; /* into the picture, as some viewer draws none */
	uint32_t line[SCREEN_MAX];
};

struct screen *screen_new(void);
void screen_free(struct screen *s);
/* The device that paints; NULL ops = none (black). */
void screen_attach(struct screen *s, const struct screen_ops *ops, void *opaque);
void screen_refresh(struct screen *s);
int screen_text(struct screen *s, struct strbuf *out);

/* For paint: sizes are cut to SCREEN_MAX.  A new size changes every tile. */
void screen_size(struct screen *s, unsigned int width, unsigned int height);
/* Row @y as the device has it now, width pixels. */
void screen_row(struct screen *s, unsigned int y, const uint32_t *row);
/* Before the rows. */
void screen_set_cursor(struct screen *s, const struct screen_cursor *c);

/* A viewer's wish; -ENOTSUP: the device has its own mind. */
must_check int screen_resize(struct screen *s, unsigned int width, unsigned int height);

/* A binary PPM or PNG; see screen_png.c. */
must_check int screen_png(const struct screen *s, struct strbuf *out, struct err *e);
