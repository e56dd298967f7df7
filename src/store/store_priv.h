/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store/store_priv.h - what the tables share
 */
#pragma once

#include "store/store.h"

#include <pthread.h>
#include <sqlite3.h>

struct store {
	sqlite3 *db;
	pthread_mutex_t lock; /* one statement, or transaction, at a time */
};

/* Runs statements without results. */
must_check int store_exec(struct store *s, const char *sql, struct err *e);
/* What went wrong, in the caller's words and SQLite's; a negative errno. */
int store_fail(struct store *s, const char *what, struct err *e);
/* Between these the lock is held.  store_end commits if @r is 0, else rolls back; returns @r or the
 * commit's failure. */
must_check int store_begin(struct store *s, struct err *e);
must_check int store_end(struct store *s, int r, struct err *e);
/* NULL, with @e set, when @sql cannot be compiled. */
sqlite3_stmt *store_prepare(struct store *s, const char *sql, struct err *e);
/* Steps a statement that gives no rows, and finalizes it. */
must_check int store_run(struct store *s, sqlite3_stmt *st, const char *what, struct err *e);

/* migrations.c: from whatever version the file has to ours. */
must_check int store_migrate(struct store *s, struct err *e);
