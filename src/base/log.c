/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/log.c - messages to stderr
 */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>

static const char *program_name = "insula";
static enum log_level max_level = LOG_WARN;

void log_init(const char *program, enum log_level level)
{
	program_name = program;
	max_level = level;
}

bool log_enabled(enum log_level level)
{
	return level <= max_level;
}

void log_line(enum log_level level, const char *fmt, ...)
{
	static const char *const word[] = {"error: ", "warning: ", "", "debug: "};
	char text[1024];
	va_list ap;

	if (!log_enabled(level))
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	/* One write, so that lines of several threads do not mix. */
	dprintf(STDERR_FILENO, "%s: %s%s\n", program_name, word[level], text);
}

bool log_rate_ok(struct log_rate *r)
{
	struct timespec ts;
	uint64_t now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
	now = (uint64_t)ts.tv_sec;
	if (r->window != now) {
		r->window = now;
		r->n = 0;
	}
	return r->n++ < 10;
}
