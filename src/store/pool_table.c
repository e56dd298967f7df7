/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store/pool_table.c - storage pools
 */
#include "store/store_priv.h"

#include <errno.h>
#include <stdio.h>

void pool_record_fini(struct pool_record *p)
{
	free(p->name);
	free(p->kind);
	free(p->path);
	*p = (struct pool_record){0};
}

int store_pool_add(struct store *s, const struct pool_record *p, struct err *e)
{
	sqlite3_stmt *st;
	int r = store_begin(s, e);

	if (r < 0)
		return r;
	st =
	    store_prepare(s, "INSERT INTO pool (name, kind, path, created) VALUES (?, ?, ?, ?)", e);
	if (!st)
		return store_end(s, -EIO, e);
	sqlite3_bind_text(st, 1, p->name, -1, SQLITE_TRANSIENT);
	sqlite3_bind_text(st, 2, p->kind, -1, SQLITE_TRANSIENT);
	sqlite3_bind_text(st, 3, p->path, -1, SQLITE_TRANSIENT);
	sqlite3_bind_int64(st, 4, p->created);
	r = store_run(s, st, "add a pool", e);
	if (r < 0 && sqlite3_extended_errcode(s->db) == SQLITE_CONSTRAINT_PRIMARYKEY)
		r = err_msg(e, -EEXIST, "there is a pool '%s' already", p->name);
	if (r < 0 && sqlite3_extended_errcode(s->db) == SQLITE_CONSTRAINT_UNIQUE)
		r = err_msg(e, -EEXIST, "another pool is in %s", p->path);
	return store_end(s, r, e);
}

static int step_row(struct store *s, sqlite3_stmt *st, struct pool_record *p, struct err *e)
{
	int step = sqlite3_step(st);

	if (step == SQLITE_DONE)
		return 0;
	if (step != SQLITE_ROW)
		return store_fail(s, "read pools", e);
	*p = (struct pool_record){
	    .name = xstrdup((const char *)sqlite3_column_text(st, 0)),
	    .kind = xstrdup((const char *)sqlite3_column_text(st, 1)),
	    .path = xstrdup((const char *)sqlite3_column_text(st, 2)),
	    .created = sqlite3_column_int64(st, 3),
	};
	return 1;
}

int store_pool_get(struct store *s, const char *name, struct pool_record *ret, struct err *e)
{
	sqlite3_stmt *st;
	int r = store_begin(s, e);

	if (r < 0)
		return r;
	st = store_prepare(s, "SELECT name, kind, path, created FROM pool WHERE name=?", e);
	if (!st)
		return store_end(s, -EIO, e);
	sqlite3_bind_text(st, 1, name, -1, SQLITE_TRANSIENT);
	r = step_row(s, st, ret, e);
	sqlite3_finalize(st);
	if (r == 0)
		r = err_msg(e, -ENOENT, "there is no pool '%s'", name);
	return store_end(s, MIN(r, 0), e);
}

int store_pool_list(struct store *s, struct pool_record **ret, size_t *n, struct err *e)
{
	struct pool_record p;
	sqlite3_stmt *st;
	int r = store_begin(s, e);

	if (r < 0)
		return r;
	st = store_prepare(s, "SELECT name, kind, path, created FROM pool ORDER BY name", e);
	if (!st)
		return store_end(s, -EIO, e);
	*ret = NULL;
	*n = 0;
	while ((r = step_row(s, st, &p, e)) == 1) {
		struct pool_record *more = xcalloc(*n + 1, sizeof(*more));

		if (*n)
			memcpy(more, *ret, *n * sizeof(*more));
		free(*ret);
		*ret = more;
		more[(*n)++] = p;
	}
	sqlite3_finalize(st);
	return store_end(s, r, e);
}

int store_pool_remove(struct store *s, const char *name, struct err *e)
{
	sqlite3_stmt *st;
	int r = store_begin(s, e);

	if (r < 0)
		return r;
	st = store_prepare(s, "DELETE FROM pool WHERE name=?", e);
	if (!st)
		return store_end(s, -EIO, e);
	sqlite3_bind_text(st, 1, name, -1, SQLITE_TRANSIENT);
	r = store_run(s, st, "remove a pool", e);
	if (r == 0 && sqlite3_changes(s->db) == 0)
		r = err_msg(e, -ENOENT, "there is no pool '%s'", name);
	return store_end(s, r, e);
}
