/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store/label_table.c - labels of machines
 */
#include "store/tables_priv.h"

#include <errno.h>

int label_table_write(struct store *s, const char *uuid, const json_t *labels, struct err *e)
{
	sqlite3_stmt *st = store_prepare(s, "DELETE FROM label WHERE machine=?", e);
	const char *key;
	json_t *v;
	int r;

	if (!st)
		return -EIO;
	sqlite3_bind_text(st, 1, uuid, -1, SQLITE_TRANSIENT);
	r = store_run(s, st, "labels", e);
	json_object_foreach((json_t *)labels, key, v)
	{
		if (r < 0)
			return r;
		st =
		    store_prepare(s, "INSERT INTO label (machine, key, value) VALUES (?, ?, ?)", e);
		if (!st)
			return -EIO;
		sqlite3_bind_text(st, 1, uuid, -1, SQLITE_TRANSIENT);
		sqlite3_bind_text(st, 2, key, -1, SQLITE_TRANSIENT);
		sqlite3_bind_text(st, 3, json_string_value(v), -1, SQLITE_TRANSIENT);
		r = store_run(s, st, "labels", e);
	}
	return r;
}

static int compare_uuid(const void *a, const void *b)
{
	return strcmp((*(struct machine_record *const *)a)->uuid,
		      (*(struct machine_record *const *)b)->uuid);
}

static void put_label(struct machine_record **sorted, size_t n, sqlite3_stmt *st)
{
	struct machine_record key = {0}, *pkey = &key, **found;

	strncpy(key.uuid, (const char *)sqlite3_column_text(st, 0), MACHINE_UUID_LEN);
	found = bsearch(&pkey, sorted, n, sizeof(*sorted), compare_uuid);
	if (found)
		json_object_set_new((*found)->labels, (const char *)sqlite3_column_text(st, 1),
				    json_string((const char *)sqlite3_column_text(st, 2)));
}

int label_table_read(struct store *s, struct machine_record *rows, size_t n, struct err *e)
{
	autofree struct machine_record **sorted = calloc(n + 1, sizeof(struct machine_record *));
	sqlite3_stmt *st;
	int step = SQLITE_NOMEM;

	if (!sorted)
		return err_set(e, -ENOMEM, "labels");
	if (n == 0)
		return 0;
	for (size_t i = 0; i < n; i++)
		sorted[i] = &rows[i];
	qsort(sorted, n, sizeof(*sorted), compare_uuid);
	/* Of one machine, or of all: what a list wants. */
	st = store_prepare(s,
			   n == 1 ? "SELECT machine, key, value FROM label WHERE machine=?"
				  : "SELECT machine, key, value FROM label",
			   e);
	if (!st)
		return -EIO;
	if (n == 1)
		sqlite3_bind_text(st, 1, rows[0].uuid, -1, SQLITE_TRANSIENT);
	while ((step = sqlite3_step(st)) == SQLITE_ROW)
		put_label(sorted, n, st);
	sqlite3_finalize(st);
	return step == SQLITE_DONE ? 0 : store_fail(s, "read labels", e);
}
