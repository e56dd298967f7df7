/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/ui.c - what insula tells people and programs on standard error
 */
#include "cli/ui.h"

#include "base/clock.h"
#include "base/exit.h"
#include "base/fd.h"
#include "base/log.h"

#include <errno.h>
#include <jansson.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/ioctl.h>

struct ui ui;
static volatile sig_atomic_t interrupted;

void ui_init(bool json, bool verbose)
{
	ui.json = json;
	ui.verbose = verbose;
	ui.terminal = !json && isatty(STDERR_FILENO);
	log_init("insula", verbose && !json ? LOG_INFO : LOG_WARN);
}

static void put_json(json_t *object)
{
	autofree char *text = json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(6));

	json_decref(object);
	if (text)
		dprintf(STDERR_FILENO, "%s\n", text);
}

void ui_clear_bar(void)
{
	if (ui.bar)
		(void)!write(STDERR_FILENO, "\r\033[K", 4);
	ui.bar = false;
}

/* Names and guests' words may hold anything; a message is one line and moves no cursor: neither
 * C0 controls, nor C1 in UTF-8 (C2 80 to C2 9F). */
static void make_plain(char *text)
{
	for (unsigned char *p = (unsigned char *)text; *p; p++) {
		if (*p < ' ' || *p == 0x7f)
			*p = '?';
		else if (p[0] == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0)
			p[0] = p[1] = '?';
	}
}

int ui_error(int exit_status, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	make_plain(text);
	ui_clear_bar();
	if (ui.json)
		put_json(json_pack("{s:s, s:s, s:i}", "event", "error", "message", text,
				   "exit_status", exit_status));
	else
		dprintf(STDERR_FILENO, "insula: error: %s\n", text);
	return exit_status;
}

int ui_fail(const struct err *e, int fallback)
{
	if (e->code == -EINTR && interrupted)
		return EXIT_SIGNAL_BASE + interrupted;
	return ui_error(e->exit_code ? e->exit_code : fallback, "%s", e->msg);
}

void ui_note(const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	make_plain(text);
	ui_clear_bar();
	if (ui.json)
		put_json(json_pack("{s:s, s:s}", "event", "note", "message", text));
	else
		dprintf(STDERR_FILENO, "insula: %s\n", text);
}

void ui_event(const char *format, ...)
{
	json_t *o;
	va_list ap;

	if (!ui.json)
		return;
	va_start(ap, format);
	o = json_vpack_ex(NULL, 0, format, ap);
	va_end(ap);
	if (o)
		put_json(o);
}

void ui_console(const char *data, size_t len)
{
	if (ui.json)
		ui_event("{s:s, s:s%}", "event", "console", "text", data, len);
	else
		(void)!write(STDERR_FILENO, data, len);
}

static void show_bar(const struct progress_event *ev)
{
	struct winsize ws = {.ws_col = 80};
	char cells[41], tail[32] = "";
	int width, filled;

	ioctl(STDERR_FILENO, TIOCGWINSZ, &ws);
	if (ev->fraction >= 1) {
		ui_clear_bar();
		return;
	}
	width = ws.ws_col > 90 ? 30 : ws.ws_col > 60 ? 15 : 0;
	filled = (int)(ev->fraction * width);
	memset(cells, '#', (size_t)filled);
	memset(cells + filled, '.', (size_t)(width - filled));
	cells[width] = '\0';
	if (ev->seconds_left >= 1)
		snprintf(tail, sizeof(tail), ", about %.0f s left", ev->seconds_left);
	dprintf(STDERR_FILENO, "\r\033[K%s: [%s] %2.0f%% %s%s", ev->subject, cells,
		ev->fraction * 100, ev->text, tail);
	ui.bar = true;
}

static void show_progress(void *opaque, const struct progress_event *ev)
{
	static uint64_t last;
	bool due = ev->new_step || clock_now() - last > NSEC_PER_SEC;

	if (ui.terminal) {
		show_bar(ev);
	} else if (ui.json && due) {
		last = clock_now();
		ui_event("{s:s, s:s, s:s, s:f, s:f}", "event", "progress", "subject", ev->subject,
			 "step", ev->text, "percent", ev->fraction * 100, "seconds_left",
			 ev->seconds_left);
	} else if (!ui.json && ev->new_step) {
		dprintf(STDERR_FILENO, "insula: %s: %s (%.0f%%, about %.0f s left)\n", ev->subject,
			ev->text, ev->fraction * 100, ev->seconds_left);
	}
}

static void show_note(void *opaque, const char *text)
{
	ui_note("%s", text);
}

static void on_signal(int signal)
{
	interrupted = signal;
}

static bool is_cancelled(void *opaque)
{
	return interrupted != 0;
}

void ui_progress_init(struct progress *p)
{
	struct sigaction sa = {.sa_handler = on_signal};

	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGHUP, &sa, NULL);
	*p = (struct progress){.show = show_progress, .note = show_note, .cancelled = is_cancelled};
}

int ui_interrupted(void)
{
	return interrupted;
}
