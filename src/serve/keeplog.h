/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve/keeplog.h - a file that keeps the end of what a guest says, and never grows past 1 MiB
 */
#pragma once

#include "base/err.h"

struct keeplog {
	int fd; /* -1 = none */
	uint64_t len;
};

/* What was kept before stays in front. */
must_check int keeplog_open(struct keeplog *k, const char *path, struct err *e);
/* The same of a file that is open for reading and appending; @fd is taken over. */
must_check int keeplog_take(struct keeplog *k, int fd, struct err *e);
/* A full disk of the host's is not the guest's trouble: the log ends there. */
void keeplog_add(struct keeplog *k, const void *data, size_t len);
void keeplog_close(struct keeplog *k);
