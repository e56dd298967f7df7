/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store/store.c - opening the database, transactions
 */
#include "store/store_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

int store_fail(struct store *s, const char *what, struct err *e)
{
	int code = s->db ? sqlite3_errcode(s->db) & 0xff : SQLITE_NOMEM;
	int r = code == SQLITE_BUSY || code == SQLITE_LOCKED ? -EBUSY
		: code == SQLITE_FULL                        ? -ENOSPC
							     : -EIO;

	return err_msg(e, r, "the store: %s: %s", what,
		       s->db ? sqlite3_errmsg(s->db) : "no memory");
}

int store_exec(struct store *s, const char *sql, struct err *e)
{
	return sqlite3_exec(s->db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : store_fail(s, sql, e);
}

sqlite3_stmt *store_prepare(struct store *s, const char *sql, struct err *e)
{
	sqlite3_stmt *st = NULL;

	if (sqlite3_prepare_v2(s->db, sql, -1, &st, NULL) != SQLITE_OK)
		store_fail(s, sql, e);
	return st;
}

int store_run(struct store *s, sqlite3_stmt *st, const char *what, struct err *e)
{
	int r = sqlite3_step(st) == SQLITE_DONE ? 0 : store_fail(s, what, e);

	sqlite3_finalize(st);
	return r;
}

int store_begin(struct store *s, struct err *e)
{
	int r;

	pthread_mutex_lock(&s->lock);
	r = store_exec(s, "BEGIN IMMEDIATE", e);
	if (r < 0)
		pthread_mutex_unlock(&s->lock);
	return r;
}

int store_end(struct store *s, int r, struct err *e)
{
	if (r == 0)
		r = store_exec(s, "COMMIT", e);
	if (r < 0)
		(void)!store_exec(s, "ROLLBACK", NULL);
	pthread_mutex_unlock(&s->lock);
	return r;
}

/* Exclusive: a second daemon on the same store is refused by SQLite as well.  FULL: a commit that
 * returned has been synced. */
static int configure(struct store *s, struct err *e)
{
	int r = store_exec(s, "PRAGMA locking_mode=EXCLUSIVE", e);

	if (r == 0)
		r = store_exec(s, "PRAGMA journal_mode=WAL", e);
	if (r == 0)
		r = store_exec(s, "PRAGMA synchronous=FULL", e);
	if (r == 0)
		r = store_exec(s, "PRAGMA foreign_keys=ON", e);
	return r;
}

int store_open(const char *path, struct store **ret, struct err *e)
{
	struct store *s = xnew(struct store);
	int fd, r;

	pthread_mutex_init(&s->lock, NULL);
	/* Made by us, so that it is its owner's alone from the first moment. */
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	close_p(&fd);
	r = sqlite3_open_v2(path, &s->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_FULLMUTEX, NULL);
	r = r == SQLITE_OK ? configure(s, e) : store_fail(s, path, e);
	if (r == 0)
		r = store_migrate(s, e);
	if (r < 0)
		store_close(s);
	else
		*ret = s;
	return r;
}

void store_close(struct store *s)
{
	if (!s)
		return;
	sqlite3_close_v2(s->db);
	pthread_mutex_destroy(&s->lock);
	free(s);
}
