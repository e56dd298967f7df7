/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/log.h - messages to stderr
 *
 * One line each: "insula: warning: text".  Libraries log only at debug; the process's edge says
 * what a person must see.  guest_warn() is for mistakes of the guest: rate-limited, since the guest
 * decides how often it makes them.
 */
#pragma once

#include "base/macro.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* Set once by main(): program name shown on each line, and the most verbose level printed. */
void log_init(const char *program, enum log_level level);
bool log_enabled(enum log_level level);
void log_line(enum log_level level, const char *fmt, ...) printf_like(2, 3);

#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_line(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...)                                                                             \
	do {                                                                                       \
		if (log_enabled(LOG_DEBUG))                                                        \
			log_line(LOG_DEBUG, __VA_ARGS__);                                          \
	} while (0)

/* At most 10 lines per calling site and second-long window; shown from --verbose on. */
#define guest_warn(...)                                                                            \
	do {                                                                                       \
		static struct log_rate rate_;                                                      \
		if (log_enabled(LOG_INFO) && log_rate_ok(&rate_))                                  \
			log_line(LOG_INFO, "guest: " __VA_ARGS__);                                 \
	} while (0)

struct log_rate {
	_Atomic uint64_t window;
	_Atomic unsigned int n;
};
bool log_rate_ok(struct log_rate *r);
