/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/display/test_input.c - keys as scan codes, one after the other; the pointer as motion
 */
#include "display/input.h"

#include "base/clock.h"
#include "test.h"

#include <errno.h>

static struct {
	struct timerq q;
	uint64_t now;
	uint8_t codes[256];
	size_t n;
	bool full;
	int dx, dy, dz;
	unsigned int buttons, moves;
} w;

static uint64_t now(void *opaque)
{
	return w.now;
}

static bool on_key(void *opaque, const uint8_t *codes, size_t n)
{
	if (w.full)
		return false;
	CHECK(w.n + n <= sizeof(w.codes));
	memcpy(w.codes + w.n, codes, n);
	w.n += n;
	return true;
}

static void on_mouse(void *opaque, int dx, int dy, int dz, unsigned int buttons)
{
	w.dx = dx;
	w.dy = dy;
	w.dz = dz;
	w.buttons = buttons;
	w.moves++;
}

static const struct input_ops ops = {on_key, on_mouse};

static void run(unsigned int ms)
{
	for (unsigned int i = 0; i < ms; i++) {
		w.now += NSEC_PER_MSEC;
		timerq_run(&w.q);
	}
}

#define EXPECT(...)                                                                                \
	do {                                                                                       \
		static const uint8_t want_[] = {__VA_ARGS__};                                      \
		run(1000);                                                                         \
		CHECK_EQ(w.n, sizeof(want_));                                                      \
		CHECK(memcmp(w.codes, want_, sizeof(want_)) == 0);                                 \
		w.n = 0;                                                                           \
	} while (0)

static void test_keys(struct input *in)
{
	CHECK_EQ(input_key(in, 'a', true), 0);
	CHECK_EQ(input_key(in, 'a', false), 0);
	CHECK_EQ(input_key(in, 0xff53, true), 0); /* right */
	CHECK_EQ(input_key(in, 0xff53, false), 0);
	CHECK_EQ(input_key(in, 0x1234567, true), -ENOENT);
	EXPECT(0x1c, 0xf0, 0x1c, 0xe0, 0x74, 0xe0, 0xf0, 0x74);
	CHECK_EQ(input_type(in, "aA\n", NULL), 0);
	EXPECT(0x1c, 0xf0, 0x1c, 0x12, 0x1c, 0xf0, 0x1c, 0xf0, 0x12, 0x5a, 0xf0, 0x5a);
	CHECK(input_type(in, "ok \xc3\xa4", NULL) == -EINVAL);
	EXPECT(); /* nothing of it */
	CHECK_EQ(input_chord(in, "Ctrl-alt-DEL", NULL), 0);
	EXPECT(0x14, 0x11, 0xe0, 0x71, 0xe0, 0xf0, 0x71, 0xf0, 0x11, 0xf0, 0x14);
	CHECK_EQ(input_chord(in, "ctrl--", NULL), 0);
	EXPECT(0x14, 0x4e, 0xf0, 0x4e, 0xf0, 0x14);
	CHECK_EQ(input_chord(in, "-", NULL), 0);
	EXPECT(0x4e, 0xf0, 0x4e);
	CHECK(input_chord(in, "", NULL) == -EINVAL);
	CHECK(input_chord(in, "hyper-x", NULL) == -EINVAL);
	CHECK(input_chord(in, "a-a-a-a-a-a-a-a-a", NULL) == -EINVAL);
	EXPECT();
}

/* Keys wait for a keyboard that is full, up to a limit. */
static void test_queue(struct input *in)
{
	unsigned int n = 0;

	w.full = true;
	while (input_key(in, 'x', true) == 0)
		n++;
	CHECK_EQ(n, INPUT_QUEUE);
	CHECK(input_type(in, "y", NULL) == -EBUSY);
	run(100);
	CHECK_EQ(w.n, 0);
	w.full = false;
	run(100);
	CHECK(w.n >= 10 && w.n <= 20); /* with gaps */
	input_attach(in, &ops, NULL);
	w.n = 0;
	EXPECT();
}

static void test_pointer(struct input *in)
{
	input_pointer(in, 100, 100, 640, 480, 0); /* the first says where, not how far */
	CHECK_EQ(w.moves, 0);
	input_pointer(in, 110, 95, 640, 480, 0);
	CHECK(w.dx == 10 && w.dy == -5 && w.buttons == 0);
	input_pointer(in, 110, 95, 640, 480, 0);
	CHECK_EQ(w.moves, 1);
	input_pointer(in, 110, 95, 640, 480, 4); /* RFB's right is bit 2, ours bit 1 */
	CHECK_EQ(w.buttons, 2);
	input_pointer(in, 110, 95, 640, 480, 2);
	CHECK_EQ(w.buttons, 4);
	input_pointer(in, 110, 95, 640, 480, 8); /* wheel up, once for each press */
	CHECK_EQ(w.dz, -1);
	input_pointer(in, 110, 95, 640, 480, 16);
	CHECK_EQ(w.dz, 1);
}

/* --- USB --- */

static struct {
	bool keyboard, tablet;
	uint8_t usage;
	bool down;
	unsigned int x, y, buttons;
	int dz;
} usb;

static bool usb_has_keyboard(void *opaque)
{
	return usb.keyboard;
}

static bool usb_key(void *opaque, uint8_t usage, bool down)
{
	usb.usage = usage;
	usb.down = down;
	return true;
}

static bool usb_has_tablet(void *opaque)
{
	return usb.tablet;
}

static void usb_move(void *opaque, unsigned int x, unsigned int y, int dz, unsigned int buttons)
{
	usb.x = x;
	usb.y = y;
	usb.dz = dz;
	usb.buttons = buttons;
}

/* The guest listens to USB, or not: then the others get it. */
static void test_usb(struct input *in)
{
	static const struct input_usb_ops usb_ops = {usb_has_keyboard, usb_key, usb_has_tablet,
						     usb_move};
	unsigned int moves = w.moves;

	input_attach_usb(in, &usb_ops, NULL);
	CHECK_EQ(input_key(in, 'a', true), 0);
	EXPECT(0x1c);
	usb.keyboard = usb.tablet = true;
	CHECK_EQ(input_key(in, 0xff54, true), 0); /* down */
	run(10);
	CHECK(usb.usage == 0x51 && usb.down && w.n == 0);
	input_pointer(in, 639, 240, 640, 481, 4);
	CHECK(usb.x == INPUT_RANGE && usb.y == INPUT_RANGE / 2 && usb.buttons == 2);
	input_pointer(in, 700, 0, 640, 481, 8);
	CHECK(usb.x == INPUT_RANGE && usb.y == 0 && usb.dz == -1 && usb.buttons == 0);
	CHECK_EQ(w.moves, moves);
	usb.tablet = false;
	input_pointer(in, 690, 10, 640, 481, 0);
	CHECK_EQ(w.moves, moves + 1);
	input_attach_usb(in, NULL, NULL);
}

/* Every key of the keyboard has a usage, but the one between left shift and Z. */
static void test_usages(void)
{
	struct keymap_key k;
	unsigned int n = 0;

	for (uint32_t keysym = 1; keysym < 0x10000; keysym++)
		if (keymap_find(keysym, &k)) {
			CHECK(keymap_usage(&k) >= 4);
			n++;
		}
	CHECK(n > 150);
}

int main(void)
{
	struct input *in;

	w.now = NSEC_PER_SEC;
	timerq_init(&w.q, now, NULL, NULL);
	in = input_new(&w.q);
	input_attach(in, &ops, NULL);
	test_keys(in);
	test_queue(in);
	test_pointer(in);
	test_usb(in);
	test_usages();
	input_free(in);
	timerq_fini(&w.q);
	return 0;
}
