/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmm/text_view.c - a text screen on a terminal
 */
#include "vmm/text_view.h"

#include "base/clock.h"

#include <stdio.h>

#define PERIOD (100 * NSEC_PER_MSEC)

struct text_view {
	struct loop *loop;
	struct chardev *chr;
	struct screen *screen;
	struct input *input;
	struct timer timer;
	struct strbuf shown; /* what the terminal has */
	struct strbuf out;   /* on its way there */
	char escape[8];      /* the beginning of a key's sequence */
	size_t n_escape;
};

/* --- out --- */

static void send_out(struct text_view *v)
{
	if (v->out.len)
		strbuf_consume(&v->out, chardev_write(v->chr, v->out.data, v->out.len));
}

/* Line @n of @text: start and length; false past the end. */
static bool line_at(const struct strbuf *text, size_t *pos, const char **line, size_t *len)
{
	const char *nl;

	if (*pos >= text->len)
		return false;
	*line = text->data + *pos;
	nl = memchr(*line, '\n', text->len - *pos);
	*len = nl ? (size_t)(nl - *line) : text->len - *pos;
	*pos += *len + 1;
	return true;
}

static void paint(struct text_view *v, const struct strbuf *now)
{
	size_t at_now = 0, at_shown = 0, len, shown_len;
	const char *line, *shown;

	for (unsigned int row = 1;; row++) {
		bool is = line_at(now, &at_now, &line, &len);
		bool was = line_at(&v->shown, &at_shown, &shown, &shown_len);

		if (!is && !was)
			break;
		if (is && was && len == shown_len && memcmp(line, shown, len) == 0)
			continue;
		strbuf_printf(&v->out, "\x1b[%u;1H\x1b[K", row);
		if (is)
			strbuf_add(&v->out, line, len);
	}
}

static void on_timer(void *opaque)
{
	struct text_view *v = opaque;
	autostrbuf struct strbuf now = {0};

	timer_set(&v->timer, timerq_now(v->timer.q) + PERIOD);
	/* A terminal that does not read gets the newest picture when it does. */
	send_out(v);
	if (v->out.len)
		return;
	if (screen_text(v->screen, &now) < 0) {
		screen_refresh(v->screen);
		strbuf_printf(&now, "[graphics, %u x %u: see it with --display vnc]\n",
			      v->screen->width, v->screen->height);
	}
	paint(v, &now);
	strbuf_fini(&v->shown);
	v->shown = now;
	now = (struct strbuf){0};
	send_out(v);
}

static void on_writable(void *opaque)
{
	send_out(opaque);
}

/* --- in --- */

static const struct {
	const char *sequence, *keys;
} sequences[] = {
    {"[A", "up"},        {"[B", "down"},  {"[C", "right"},   {"[D", "left"},    {"[H", "home"},
    {"[F", "end"},       {"OA", "up"},    {"OB", "down"},    {"OC", "right"},   {"OD", "left"},
    {"OH", "home"},      {"OF", "end"},   {"[2~", "insert"}, {"[3~", "delete"}, {"[5~", "pageup"},
    {"[6~", "pagedown"}, {"OP", "f1"},    {"OQ", "f2"},      {"OR", "f3"},      {"OS", "f4"},
    {"[15~", "f5"},      {"[17~", "f6"},  {"[18~", "f7"},    {"[19~", "f8"},    {"[20~", "f9"},
    {"[21~", "f10"},     {"[23~", "f11"}, {"[24~", "f12"},
};

static void press(struct text_view *v, const char *keys)
{
	(void)!input_chord(v->input, keys, NULL); /* a full queue loses it, as a keyboard does */
}

static void plain_key(struct text_view *v, uint8_t c)
{
	char text[16];

	if (c == '\r' || c == '\n')
		press(v, "enter");
	else if (c == 0x7f || c == 8)
		press(v, "backspace");
	else if (c == '\t')
		press(v, "tab");
	else if (c == 0x1b)
		press(v, "escape");
	else if (c && c < 27) {
		snprintf(text, sizeof(text), "ctrl-%c", 'a' + c - 1);
		press(v, text);
	} else if (c >= 0x20 && c < 0x7f) {
		text[0] = (char)c;
		text[1] = '\0';
		(void)!input_type(v->input, text, NULL);
	}
}

/* False: not a sequence, and cannot become one. */
static bool match(struct text_view *v, bool *whole)
{
	*whole = false;
	for (size_t i = 0; i < ARRAY_SIZE(sequences); i++) {
		if (strncmp(sequences[i].sequence, v->escape, v->n_escape) != 0)
			continue;
		if (sequences[i].sequence[v->n_escape])
			return true;
		press(v, sequences[i].keys);
		*whole = true;
		return true;
	}
	return false;
}

/* Sequences come whole in one read from a terminal; Escape comes alone. */
static size_t on_receive(void *opaque, const void *buf, size_t len)
{
	struct text_view *v = opaque;
	const uint8_t *p = buf;

	for (size_t i = 0; i < len; i++) {
		bool whole;

		if (p[i] != 0x1b || i + 1 == len) {
			plain_key(v, p[i]);
			continue;
		}
		v->n_escape = 0;
		do {
			v->escape[v->n_escape++] = (char)p[++i];
		} while (match(v, &whole) && !whole && i + 1 < len &&
			 v->n_escape < sizeof(v->escape));
	}
	return len;
}

static const struct chardev_front front = {.receive = on_receive, .writable = on_writable};

/* --- life --- */

struct text_view *text_view_new(struct loop *l, struct chardev *chr, struct screen *s,
				struct input *in)
{
	struct text_view *v = xnew(struct text_view);

	v->loop = l;
	v->chr = chr;
	v->screen = s;
	v->input = in;
	chr->front = &front;
	chr->frontend = v;
	strbuf_puts(&v->out, "\x1b[2J\x1b[H");
	timer_init(&v->timer, loop_timers(l), on_timer, v);
	timer_set(&v->timer, timerq_now(v->timer.q));
	return v;
}

void text_view_free(struct text_view *v)
{
	if (!v)
		return;
	timer_cancel(&v->timer);
	v->chr->front = NULL;
	strbuf_fini(&v->shown);
	strbuf_fini(&v->out);
	free(v);
}
