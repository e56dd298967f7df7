/* SPDX-License-Identifier: Apache-2.0 */
/*
 * display/input.c - keys and pointer: the queue before the keyboard
 */
#include "display/input.h"

#include "base/clock.h"

#include <errno.h>

#define INPUT_GAP    (8 * NSEC_PER_MSEC)
#define CHORD_KEYS   8u
#define KEYSYM_CTRL  0xffe3u
#define KEYSYM_SHIFT 0xffe1u

struct event {
	struct keymap_key key;
	bool down;
};

struct input {
	const struct input_ops *ops;
	void *opaque;
	const struct input_usb_ops *usb;
	void *usb_opaque;
	struct timer next;
	struct event *queue; /* a ring of INPUT_QUEUE */
	unsigned int head, n;
	unsigned int x, y, buttons;
	bool has_pointer;
};

static bool send_codes(struct input *in, const struct event *ev)
{
	uint8_t codes[INPUT_CODES];
	size_t n = 0;

	if (!in->ops)
		return true;
	if (ev->key.extended)
		codes[n++] = 0xe0;
	if (!ev->down)
		codes[n++] = 0xf0;
	codes[n++] = ev->key.code;
	return in->ops->key(in->opaque, codes, n);
}

/* To the keyboard that the guest listens to; false: it takes no more for now. */
static bool send(struct input *in, const struct event *ev)
{
	uint8_t usage = keymap_usage(&ev->key);

	if (usage && in->usb && in->usb->has_keyboard(in->usb_opaque))
		return in->usb->key(in->usb_opaque, usage, ev->down);
	return send_codes(in, ev);
}

static void on_next(void *opaque)
{
	struct input *in = opaque;

	if (!in->n)
		return;
	if (send(in, &in->queue[in->head])) {
		in->head = (in->head + 1) % INPUT_QUEUE;
		in->n--;
	}
	if (in->n)
		timer_set(&in->next, timerq_now(in->next.q) + INPUT_GAP);
}

struct input *input_new(struct timerq *timers)
{
	struct input *in = xnew(struct input);

	in->queue = xcalloc(INPUT_QUEUE, sizeof(*in->queue));
	timer_init(&in->next, timers, on_next, in);
	return in;
}

void input_free(struct input *in)
{
	if (!in)
		return;
	timer_cancel(&in->next);
	free(in->queue);
	free(in);
}

void input_attach(struct input *in, const struct input_ops *ops, void *opaque)
{
	in->ops = ops;
	in->opaque = opaque;
	in->n = 0;
}

void input_attach_usb(struct input *in, const struct input_usb_ops *ops, void *opaque)
{
	in->usb = ops;
	in->usb_opaque = opaque;
}

/* --- keys --- */

static int put(struct input *in, const struct keymap_key *k, bool down)
{
	if (in->n == INPUT_QUEUE)
		return -ENOBUFS;
	in->queue[(in->head + in->n++) % INPUT_QUEUE] = (struct event){*k, down};
	if (in->n == 1)
		timer_set(&in->next, timerq_now(in->next.q));
	return 0;
}

int input_key(struct input *in, uint32_t keysym, bool down)
{
	struct keymap_key k;

	return keymap_find(keysym, &k) ? put(in, &k, down) : -ENOENT;
}

static uint32_t keysym_of(char c)
{
	return c == '\n' ? 0xff0d : c == '\t' ? 0xff09 : (uint8_t)c;
}

int input_type(struct input *in, const char *text, struct err *e)
{
	static const struct keymap_key shift = {.code = 0x12};
	struct keymap_key k;
	unsigned int events = 0;

	for (const char *s = text; *s; s++) {
		if (!keymap_find(keysym_of(*s), &k))
			return err_msg(e, -EINVAL, "text: byte %zu is no key of a US keyboard",
				       (size_t)(s - text));
		events += k.shift ? 4 : 2;
		if (events > INPUT_QUEUE - in->n)
			return err_msg(e, -EBUSY, "text: the keyboard is still busy typing");
	}
	for (const char *s = text; *s; s++) {
		(void)keymap_find(keysym_of(*s), &k);
		if (k.shift)
			put(in, &shift, true);
		put(in, &k, true);
		put(in, &k, false);
		if (k.shift)
			put(in, &shift, false);
	}
	return 0;
}

int input_chord(struct input *in, const char *names, struct err *e)
{
	uint32_t keysyms[CHORD_KEYS];
	unsigned int n = 0;
	const char *s = names;

	do { /* a '-' alone, or at the end, is the key */
		size_t len = *s == '-' ? 1 : strcspn(s, "-");

		if (n == CHORD_KEYS || !(keysyms[n++] = keymap_name(s, len)))
			return err_msg(e, -EINVAL, "'%.64s' is no key, or more than %u together",
				       names, CHORD_KEYS);
		s += len;
	} while (*s++ == '-' && *s);
	if (2 * n > INPUT_QUEUE - in->n)
		return err_msg(e, -EBUSY, "the keyboard is still busy typing");
	for (unsigned int i = 0; i < n; i++)
		input_key(in, keysyms[i], true);
	while (n)
		input_key(in, keysyms[--n], false);
	return 0;
}

/* --- pointer --- */

static unsigned int scale(unsigned int at, unsigned int size)
{
	return size > 1 ? MIN(at, size - 1) * INPUT_RANGE / (size - 1) : 0;
}

void input_pointer(struct input *in, unsigned int x, unsigned int y, unsigned int width,
		   unsigned int height, unsigned int buttons)
{
	int dx = in->has_pointer ? (int)x - (int)in->x : 0;
	int dy = in->has_pointer ? (int)y - (int)in->y : 0;
	unsigned int pressed = buttons & ~in->buttons, mouse;
	int dz = (pressed >> 4 & 1 ? 1 : 0) - (pressed >> 3 & 1 ? 1 : 0);

	mouse = (buttons & 1) | (buttons >> 1 & 2) | (buttons << 1 & 4);
	if (in->usb && in->usb->has_tablet(in->usb_opaque))
		in->usb->move(in->usb_opaque, scale(x, width), scale(y, height), dz, mouse);
	else if (in->ops && (dx || dy || dz || ((buttons ^ in->buttons) & 7)))
		in->ops->mouse(in->opaque, dx, dy, dz, mouse);
	in->x = x;
	in->y = y;
	in->buttons = buttons;
	in->has_pointer = true;
}
