/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/ui.h - what insula tells people and programs on standard error
 *
 * For people: lines "insula: text", and a progress bar on terminals.  With --json: one JSON object
 * a line, {"event": "error"|"note"|"progress"|"started"|"console"|"exit", ...}; docs/cli.md lists
 * them.
 */
#pragma once

#include "base/err.h"
#include "image/progress.h"

struct ui {
	bool json, verbose, terminal;
	bool bar; /* a progress bar stands on the last line */
	char last_note[128];
};
extern struct ui ui;

void ui_init(bool json, bool verbose);
/* Tells of the failure and returns the status to exit with: the error's own or @fallback. */
int ui_fail(const struct err *e, int fallback);
int ui_error(int exit_status, const char *fmt, ...) printf_like(2, 3);
void ui_note(const char *fmt, ...) printf_like(1, 2);
/* An event line, only with --json; format and arguments as for json_pack. */
void ui_event(const char *format, ...);
void ui_clear_bar(void);
/* Raw bytes of the guest's console, for --verbose. */
void ui_console(const char *data, size_t len);

/* A progress that shows itself here and stops at SIGINT, SIGTERM and SIGHUP. */
void ui_progress_init(struct progress *p);
/* The signal that stopped it, or 0. */
int ui_interrupted(void);
