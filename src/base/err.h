/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/err.h - an error with words for a person
 *
 * Functions return 0 or a negative errno.  Those whose failure a person will read also take
 * `struct err *e`: a value on the caller's stack, initialised `= {0}`, may be NULL, nothing to
 *free.
 *
 *	return err_set(e, -errno, "open %s", path);          where it happened; adds ": strerror"
 *	return err_msg(e, -EINVAL, "cpus: 65 is more than 64");   complete sentence, nothing added
 *	return err_wrap(e, r, "disk '%s'", name);            further out: "disk 'x': open ...: ..."
 */
#pragma once

#include "base/macro.h"

struct err {
	int code;      /* negative errno, 0 = none */
	int exit_code; /* process exit status for this failure, 0 = EXIT_FAIL (base/exit.h) */
	char msg[512];
};

int err_set(struct err *e, int code, const char *fmt, ...) printf_like(3, 4);
int err_msg(struct err *e, int code, const char *fmt, ...) printf_like(3, 4);
int err_wrap(struct err *e, int code, const char *fmt, ...) printf_like(3, 4);

/* Note the process exit status that fits this failure; returns @code for `return err_exit(...)`. */
int err_exit(struct err *e, int code, int exit_code);
