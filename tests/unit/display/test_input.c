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
	input_pointer(in, 100, 100, 0); /* the first says where, not how far */
	CHECK_EQ(w.moves, 0);
	input_pointer(in, 110, 95, 0);
	CHECK(w.dx == 10 && w.dy == -5 && w.buttons == 0);
	input_pointer(in, 110, 95, 0);
	CHECK_EQ(w.moves, 1);
	input_pointer(in, 110, 95, 4); /* RFB's right is bit 2, ours bit 1 */
	CHECK_EQ(w.buttons, 2);
	input_pointer(in, 110, 95, 2);
	CHECK_EQ(w.buttons, 4);
	input_pointer(in, 110, 95, 8); /* wheel up, once for each press */
	CHECK_EQ(w.dz, -1);
	input_pointer(in, 110, 95, 16);
	CHECK_EQ(w.dz, 1);
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
	input_free(in);
	timerq_fini(&w.q);
	return 0;
}
