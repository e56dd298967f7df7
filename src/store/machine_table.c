/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store/machine_table.c - machines, and their labels (label_table.c)
 */
#include "base/strbuf.h"
#include "store/tables_priv.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

#define COLUMNS                                                                                    \
	"uuid, name, config, created, autostart, autostart_order, restart, watchdog, wanted, "     \
	"end_reason, end_status, end_time, template"

static char *column_string(sqlite3_stmt *st, int i)
{
	const unsigned char *text = sqlite3_column_text(st, i);

	return text ? xstrdup((const char *)text) : NULL;
}

static enum machine_restart restart_of(const char *name)
{
	for (int i = 0; name && machine_restart_names[i]; i++) {
		if (strcmp(name, machine_restart_names[i]) == 0)
			return (enum machine_restart)i;
	}
	return MACHINE_RESTART_NO;
}

static void read_row(sqlite3_stmt *st, struct machine_record *m)
{
	const unsigned char *uuid = sqlite3_column_text(st, 0);

	*m = (struct machine_record){
	    .name = column_string(st, 1),
	    .config = column_string(st, 2),
	    .created = sqlite3_column_int64(st, 3),
	    .autostart = sqlite3_column_int(st, 4) != 0,
	    .autostart_order = sqlite3_column_int64(st, 5),
	    .restart = restart_of((const char *)sqlite3_column_text(st, 6)),
	    .watchdog = sqlite3_column_int64(st, 7),
	    .wanted = sqlite3_column_int(st, 8) != 0,
	    .end_reason = column_string(st, 9),
	    .end_status = sqlite3_column_int64(st, 10),
	    .end_time = sqlite3_column_int64(st, 11),
	    .template = sqlite3_column_int(st, 12) != 0,
	    .labels = json_object(),
	};
	snprintf(m->uuid, sizeof(m->uuid), "%s", uuid ? (const char *)uuid : "");
}

static void bind_text(sqlite3_stmt *st, const char *name, const char *value)
{
	sqlite3_bind_text(st, sqlite3_bind_parameter_index(st, name), value, -1, SQLITE_TRANSIENT);
}

static void bind_int(sqlite3_stmt *st, const char *name, int64_t value)
{
	sqlite3_bind_int64(st, sqlite3_bind_parameter_index(st, name), value);
}

/* What people change. */
static void bind_record(sqlite3_stmt *st, const struct machine_record *m)
{
	bind_text(st, ":uuid", m->uuid);
	bind_text(st, ":name", m->name);
	bind_text(st, ":config", m->config);
	bind_int(st, ":autostart", m->autostart);
	bind_int(st, ":autostart_order", m->autostart_order);
	bind_text(st, ":restart", machine_restart_names[m->restart]);
	bind_int(st, ":watchdog", m->watchdog);
	bind_int(st, ":wanted", m->wanted);
	bind_int(st, ":template", m->template);
}

static int run_change(struct store *s, sqlite3_stmt *st, const char *name, struct err *e)
{
	int r = store_run(s, st, "change a machine", e);

	if (r < 0 && sqlite3_extended_errcode(s->db) == SQLITE_CONSTRAINT_UNIQUE)
		return err_msg(e, -EEXIST, "there is a machine named '%s' already", name);
	if (r == 0 && sqlite3_changes(s->db) == 0)
		return err_msg(e, -ENOENT, "this machine is not there any more");
	return r;
}

/* Within a transaction. */
static int insert(struct store *s, const struct machine_record *m, struct err *e)
{
	sqlite3_stmt *st = store_prepare(
	    s,
	    "INSERT INTO machine (uuid, name, config, created, autostart, autostart_order, "
	    "restart, watchdog, wanted, template) VALUES (:uuid, :name, :config, :created, "
	    ":autostart, :autostart_order, :restart, :watchdog, :wanted, :template)",
	    e);
	int r;

	if (!st)
		return -EIO;
	bind_record(st, m);
	bind_int(st, ":created", m->created);
	r = run_change(s, st, m->name, e);
	return r < 0 ? r : label_table_write(s, m->uuid, m->labels, e);
}

int store_machine_add(struct store *s, const struct machine_record *m, size_t n, struct err *e)
{
	int r = store_begin(s, e);

	if (r < 0)
		return r;
	for (size_t i = 0; i < n && r == 0; i++)
		r = insert(s, &m[i], e);
	return store_end(s, r, e);
}

int store_machine_update(struct store *s, const struct machine_record *m, struct err *e)
{
	sqlite3_stmt *st;
	int r = store_begin(s, e);

	if (r < 0)
		return r;
	st = store_prepare(s,
			   "UPDATE machine SET name=:name, config=:config, autostart=:autostart, "
			   "autostart_order=:autostart_order, restart=:restart, "
			   "watchdog=:watchdog, wanted=:wanted, template=:template "
			   "WHERE uuid=:uuid",
			   e);
	if (!st)
		return store_end(s, -EIO, e);
	bind_record(st, m);
	r = run_change(s, st, m->name, e);
	if (r == 0)
		r = label_table_write(s, m->uuid, m->labels, e);
	return store_end(s, r, e);
}

/* One statement about one machine. */
static sqlite3_stmt *prepare_for(struct store *s, const char *sql, const char *uuid, struct err *e)
{
	sqlite3_stmt *st = store_prepare(s, sql, e);

	if (st)
		bind_text(st, ":uuid", uuid);
	return st;
}

static int run_locked(struct store *s, sqlite3_stmt *st, struct err *e)
{
	int r = st ? run_change(s, st, "", e) : -EIO;

	pthread_mutex_unlock(&s->lock);
	return r;
}

int store_machine_set_wanted(struct store *s, const char *uuid, bool wanted, struct err *e)
{
	sqlite3_stmt *st;

	pthread_mutex_lock(&s->lock);
	st = prepare_for(s, "UPDATE machine SET wanted=:wanted WHERE uuid=:uuid", uuid, e);
	if (st)
		bind_int(st, ":wanted", wanted);
	return run_locked(s, st, e);
}

int store_machine_set_end(struct store *s, const char *uuid, const char *reason, int64_t status,
			  struct err *e)
{
	sqlite3_stmt *st;

	pthread_mutex_lock(&s->lock);
	st = prepare_for(s,
			 "UPDATE machine SET end_reason=:reason, end_status=:status, "
			 "end_time=:time WHERE uuid=:uuid",
			 uuid, e);
	if (st) {
		bind_text(st, ":reason", reason);
		bind_int(st, ":status", status);
		bind_int(st, ":time", (int64_t)time(NULL));
	}
	return run_locked(s, st, e);
}

int store_machine_remove(struct store *s, const char *uuid, struct err *e)
{
	sqlite3_stmt *st;

	pthread_mutex_lock(&s->lock);
	st = prepare_for(s, "DELETE FROM machine WHERE uuid=:uuid", uuid, e);
	return run_locked(s, st, e);
}

/* --- reading --- */

static void free_rows(struct machine_record *rows, size_t n)
{
	for (size_t i = 0; i < n; i++)
		machine_record_fini(&rows[i]);
	free(rows);
}

/* The rows of @st, which is finalized. */
static int read_rows(struct store *s, sqlite3_stmt *st, struct machine_record **ret, size_t *n,
		     struct err *e)
{
	struct machine_record *rows = NULL;
	size_t have = 0, room = 0;
	int step;

	while ((step = sqlite3_step(st)) == SQLITE_ROW) {
		if (have == room) {
			struct machine_record *more;

			room = room ? 2 * room : 16;
			more = reallocarray(rows, room, sizeof(*rows));
			if (!more)
				break;
			rows = more;
		}
		read_row(st, &rows[have++]);
	}
	sqlite3_finalize(st);
	if (step != SQLITE_DONE) {
		free_rows(rows, have);
		return store_fail(s, "read machines", e);
	}
	*ret = rows;
	*n = have;
	return 0;
}

int store_machine_list(struct store *s, struct machine_record **ret, size_t *n, struct err *e)
{
	struct machine_record *rows = NULL;
	size_t have = 0;
	sqlite3_stmt *st;
	int r = -EIO;

	pthread_mutex_lock(&s->lock);
	st = store_prepare(s, "SELECT " COLUMNS " FROM machine ORDER BY name", e);
	if (st)
		r = read_rows(s, st, &rows, &have, e);
	if (r == 0)
		r = label_table_read(s, rows, have, e);
	pthread_mutex_unlock(&s->lock);
	if (r < 0) {
		free_rows(rows, have);
		return r;
	}
	*ret = rows;
	*n = have;
	return 0;
}

/* At most @limit machines that fit @where, which names :ref. */
static int select_some(struct store *s, const char *where, const char *ref, int limit,
		       struct machine_record **ret, size_t *n, struct err *e)
{
	autofree char *sql = xasprintf(
	    "SELECT " COLUMNS " FROM machine WHERE %s ORDER BY name LIMIT %d", where, limit);
	sqlite3_stmt *st = store_prepare(s, sql, e);
	int r;

	if (!st)
		return -EIO;
	bind_text(st, ":ref", ref);
	r = read_rows(s, st, ret, n, e);
	return r == 0 ? label_table_read(s, *ret, *n, e) : r;
}

static int say_ambiguous(const char *ref, const struct machine_record *rows, size_t n,
			 struct err *e)
{
	autostrbuf struct strbuf names = {0};

	for (size_t i = 0; i < n && i < 4; i++)
		strbuf_printf(&names, "%s%s", i ? ", " : "", rows[i].name);
	return err_msg(e, -EINVAL, "'%.64s' may be %s%s; give more of the name", ref, names.data,
		       n > 4 ? "..." : "");
}

/* Exactly one of the machines that fit @where becomes *@ret; *@found = false when none does. */
static int take_one(struct store *s, const char *where, const char *ref, struct machine_record *ret,
		    bool *found, struct err *e)
{
	struct machine_record *rows = NULL;
	size_t n = 0;
	int r = select_some(s, where, ref, 5, &rows, &n, e);

	*found = false;
	if (r == 0 && n > 1)
		r = say_ambiguous(ref, rows, n, e);
	if (r == 0 && n == 1) {
		*ret = rows[0];
		*found = true;
		free(rows);
		return 0;
	}
	free_rows(rows, n);
	return r;
}

int store_machine_get(struct store *s, const char *uuid, struct machine_record *ret, struct err *e)
{
	bool found = false;
	int r;

	pthread_mutex_lock(&s->lock);
	r = take_one(s, "uuid=:ref", uuid, ret, &found, e);
	pthread_mutex_unlock(&s->lock);
	return r == 0 && !found ? err_msg(e, -ENOENT, "this machine is not there any more") : r;
}

int store_machine_check_name(struct store *s, const char *name, struct err *e)
{
	struct machine_record m;
	bool found = false;
	int r;

	pthread_mutex_lock(&s->lock);
	r = take_one(s, "name=:ref", name, &m, &found, e);
	pthread_mutex_unlock(&s->lock);
	if (r < 0 || !found)
		return r;
	machine_record_fini(&m);
	return err_msg(e, -EEXIST, "there is a machine named '%s' already", name);
}

int store_machine_find(struct store *s, const char *ref, struct machine_record *ret, struct err *e)
{
	/* A whole name goes first, so that "web" is found beside "web2"; nobody who says "db" means
	 * a UUID. */
	static const char *const ways[] = {
	    "name=:ref OR uuid=lower(:ref)",
	    "substr(name, 1, length(:ref))=:ref",
	    "substr(uuid, 1, length(:ref))=lower(:ref)",
	};
	bool found = false;
	int r = 0;

	if (!ref[0])
		return err_msg(e, -EINVAL, "which machine? A name is missing");
	pthread_mutex_lock(&s->lock);
	for (size_t i = 0; i < ARRAY_SIZE(ways) && r == 0 && !found; i++)
		r = take_one(s, ways[i], ref, ret, &found, e);
	pthread_mutex_unlock(&s->lock);
	if (r == 0 && !found)
		return err_msg(e, -ENOENT,
			       "no machine named '%.64s'; `insula list --all` shows them all", ref);
	return r;
}
