/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store/migrations.c - the schema, as the list of steps that make it
 *
 * Step N takes a store of version N (PRAGMA user_version) to N + 1, in one transaction: a store is
 * of one version or of the next.  Steps that were released are never changed; a change of the
 * schema is a new step.
 */
#include "store/store_priv.h"

#include <errno.h>

static const char *const steps[] = {
    /* 0: machines and their labels */
    "CREATE TABLE machine ("
    " uuid TEXT PRIMARY KEY NOT NULL,"
    " name TEXT NOT NULL UNIQUE,"
    " config TEXT NOT NULL,"
    " created INTEGER NOT NULL,"
    " autostart INTEGER NOT NULL,"
    " autostart_order INTEGER NOT NULL,"
    " restart TEXT NOT NULL,"
    " watchdog INTEGER NOT NULL,"
    " wanted INTEGER NOT NULL,"
    " end_reason TEXT,"
    " end_status INTEGER NOT NULL DEFAULT 0,"
    " end_time INTEGER NOT NULL DEFAULT 0"
    ") STRICT, WITHOUT ROWID;"
    "CREATE TABLE label ("
    " machine TEXT NOT NULL REFERENCES machine(uuid) ON DELETE CASCADE,"
    " key TEXT NOT NULL,"
    " value TEXT NOT NULL,"
    " PRIMARY KEY (machine, key)"
    ") STRICT, WITHOUT ROWID;",
    /* 1: tokens of the API, storage pools */
    "CREATE TABLE token ("
    " name TEXT PRIMARY KEY NOT NULL,"
    " hash BLOB NOT NULL,"
    " role INTEGER NOT NULL,"
    " created INTEGER NOT NULL,"
    " expires INTEGER NOT NULL"
    ") STRICT, WITHOUT ROWID;"
    "CREATE TABLE pool ("
    " name TEXT PRIMARY KEY NOT NULL,"
    " kind TEXT NOT NULL,"
    " path TEXT NOT NULL UNIQUE,"
    " created INTEGER NOT NULL"
    ") STRICT, WITHOUT ROWID;",
    /* 2: templates */
    "ALTER TABLE machine ADD COLUMN template INTEGER NOT NULL DEFAULT 0;",
};

static int read_version(struct store *s, int *ret, struct err *e)
{
	sqlite3_stmt *st = store_prepare(s, "PRAGMA user_version", e);

	if (!st)
		return -EIO;
	if (sqlite3_step(st) != SQLITE_ROW) {
		sqlite3_finalize(st);
		return store_fail(s, "its version", e);
	}
	*ret = sqlite3_column_int(st, 0);
	sqlite3_finalize(st);
	return 0;
}

static int run_step(struct store *s, int version, struct err *e)
{
	autofree char *mark = xasprintf("PRAGMA user_version=%d", version + 1);
	int r = store_begin(s, e);

	if (r < 0)
		return r;
	r = store_exec(s, steps[version], e);
	if (r == 0)
		r = store_exec(s, mark, e);
	return store_end(s, r, e);
}

int store_migrate(struct store *s, struct err *e)
{
	int version = 0, r = read_version(s, &version, e);

	if (r == 0 && (version < 0 || version > (int)ARRAY_SIZE(steps)))
		return err_msg(e, -ENOTSUP,
			       "the store is of version %d, this Insula knows up to %zu: it was "
			       "written by a newer one",
			       version, ARRAY_SIZE(steps));
	for (; r == 0 && version < (int)ARRAY_SIZE(steps); version++)
		r = run_step(s, version, e);
	return r;
}
