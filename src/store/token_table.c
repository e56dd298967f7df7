/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store/token_table.c - tokens of the API, by their hashes
 */
#include "store/store_priv.h"

#include <errno.h>
#include <stdio.h>

void token_record_fini(struct token_record *t)
{
	free(t->name);
	*t = (struct token_record){0};
}

int store_token_add(struct store *s, const struct token_record *t, struct err *e)
{
	sqlite3_stmt *st;
	int r = store_begin(s, e);

	if (r < 0)
		return r;
	st = store_prepare(s,
			   "INSERT INTO token (name, hash, role, created, expires) "
			   "VALUES (?, ?, ?, ?, ?)",
			   e);
	if (!st)
		return store_end(s, -EIO, e);
	sqlite3_bind_text(st, 1, t->name, -1, SQLITE_TRANSIENT);
	sqlite3_bind_blob(st, 2, t->hash, sizeof(t->hash), SQLITE_TRANSIENT);
	sqlite3_bind_int64(st, 3, t->role);
	sqlite3_bind_int64(st, 4, t->created);
	sqlite3_bind_int64(st, 5, t->expires);
	r = store_run(s, st, "add a token", e);
	if (r < 0 && sqlite3_extended_errcode(s->db) == SQLITE_CONSTRAINT_PRIMARYKEY)
		r = err_msg(e, -EEXIST, "there is a token '%s' already", t->name);
	return store_end(s, r, e);
}

static void read_row(sqlite3_stmt *st, struct token_record *t)
{
	*t = (struct token_record){
	    .name = xstrdup((const char *)sqlite3_column_text(st, 0)),
	    .role = sqlite3_column_int64(st, 2),
	    .created = sqlite3_column_int64(st, 3),
	    .expires = sqlite3_column_int64(st, 4),
	};
	if (sqlite3_column_bytes(st, 1) == sizeof(t->hash))
		memcpy(t->hash, sqlite3_column_blob(st, 1), sizeof(t->hash));
}

int store_token_list(struct store *s, struct token_record **ret, size_t *n, struct err *e)
{
	sqlite3_stmt *st;
	int r = store_begin(s, e), step;

	if (r < 0)
		return r;
	st = store_prepare(s, "SELECT name, hash, role, created, expires FROM token ORDER BY name",
			   e);
	if (!st)
		return store_end(s, -EIO, e);
	*ret = NULL;
	*n = 0;
	while ((step = sqlite3_step(st)) == SQLITE_ROW) {
		struct token_record *more = xcalloc(*n + 1, sizeof(*more));

		if (*n)
			memcpy(more, *ret, *n * sizeof(*more));
		free(*ret);
		*ret = more;
		read_row(st, &more[(*n)++]);
	}
	sqlite3_finalize(st);
	r = step == SQLITE_DONE ? 0 : store_fail(s, "read tokens", e);
	return store_end(s, r, e);
}

int store_token_remove(struct store *s, const char *name, struct err *e)
{
	sqlite3_stmt *st;
	int r = store_begin(s, e);

	if (r < 0)
		return r;
	st = store_prepare(s, "DELETE FROM token WHERE name=?", e);
	if (!st)
		return store_end(s, -EIO, e);
	sqlite3_bind_text(st, 1, name, -1, SQLITE_TRANSIENT);
	r = store_run(s, st, "remove a token", e);
	if (r == 0 && sqlite3_changes(s->db) == 0)
		r = err_msg(e, -ENOENT, "there is no token '%s'", name);
	return store_end(s, r, e);
}
