/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daemon/op_snapshot.c - snapshots made, listed, gone back to, deleted (live/snapshots.h)
 */
#include "daemon/daemon_priv.h"

#include "live/snapshots.h"

#include <errno.h>

static json_t *format_snapshot(const char *dir, const struct snapshot_record *s)
{
	json_t *o =
	    json_pack("{s:s, s:I, s:b, s:I}", "name", s->name, "created", (json_int_t)s->created,
		      "memory", s->memory != NULL, "bytes", (json_int_t)snapshot_bytes(dir, s));

	if (s->disk)
		json_object_set_new(o, "disk", json_string(s->disk));
	if (json_array_size(s->parents))
		json_object_set_new(o, "incremental", json_true());
	return o;
}

/* Has the job been cancelled?  -EINTR with words. */
int op_cancelled(const struct op_call *c, struct err *e)
{
	struct progress p = {0};

	if (!c->job)
		return 0;
	job_progress(c->job, &p);
	return progress_cancelled(&p) ? err_msg(e, -EINTR, "cancelled") : 0;
}

void op_note(const struct op_call *c, const char *text)
{
	struct progress p = {0};

	if (!c->job)
		return;
	job_progress(c->job, &p);
	progress_note(&p, text);
}

/* --- create --- */

static int create_claimed(struct op_call *c, const struct machine_record *m, struct err *e)
{
	autofree char *dir = path_guest(c->d, m->uuid, NULL);
	autofree char *control = path_run(c->d, m->uuid, "control");
	struct snapshot_request q = {
	    .dir = dir,
	    .machine = m->name,
	    .name = op_string(c, "name"),
	    .control = guest_get(c->d, m->uuid, NULL) ? control : NULL,
	    .disk_only = op_bool(c, "disk_only"),
	    .compress = op_bool(c, "compress"),
	    .whole = op_bool(c, "whole"),
	};
	struct snapshot_record s = {0};
	double stall_ms;
	int r = op_cancelled(c, e);

	if (r < 0)
		return r;
	op_note(c, "keeping memory and disks");
	r = snapshot_make(&q, &stall_ms, e);
	if (r == 0 && op_cancelled(c, e) < 0) {
		r = snapshot_remove(dir, q.name, e);
		r = r < 0 ? r : -EINTR;
	}
	if (r == 0)
		r = snapshot_read(dir, q.name, &s, e);
	if (r < 0) {
		disks_tidy(c->d, m->uuid);
		return r;
	}
	c->result = format_snapshot(dir, &s);
	json_object_set_new(c->result, "stall_ms", json_real(stall_ms));
	snapshot_record_fini(&s);
	event_emit(c->d, "snapshot.created", m->uuid, m->name,
		   json_pack("{s:s}", "snapshot", q.name));
	return 0;
}

int op_snapshot_create(struct op_call *c, struct err *e)
{
	struct machine_record m;
	int r = op_claim(c, &m, e);

	if (r < 0)
		return r;
	r = container_is(&m) ? container_snapshot_create(c, &m, op_string(c, "name"), e)
			     : create_claimed(c, &m, e);
	op_unclaim(c, &m);
	return r;
}

/* --- list --- */

int op_snapshot_list(struct op_call *c, struct err *e)
{
	struct snapshot_record *all = NULL;
	json_t *list = json_array();
	struct machine_record m;
	size_t n = 0;
	int r = op_machine(c, &m, e);

	if (r == 0 && container_is(&m)) {
		json_decref(list);
		list = container_snapshots(c->d, &m);
		machine_record_fini(&m);
	} else if (r == 0) {
		autofree char *dir = path_guest(c->d, m.uuid, NULL);

		r = snapshot_read_all(dir, &all, &n, e);
		for (size_t i = 0; i < n; i++) {
			json_array_append_new(list, format_snapshot(dir, &all[i]));
			snapshot_record_fini(&all[i]);
		}
		free(all);
		machine_record_fini(&m);
	}
	c->result = json_pack("{s:o}", "snapshots", list);
	return r;
}

/* --- restore --- */

/* The overlay becomes the machine's when it runs (power_start), or here. */
static int put_back(struct op_call *c, const struct machine_record *m,
		    const struct snapshot_record *s, struct err *e)
{
	autofree char *dir = path_guest(c->d, m->uuid, NULL);
	autofree char *state = s->memory ? snapshot_path(dir, s->memory) : NULL;
	autofree char *disk = NULL;
	struct vmm_origin o = {.description = s->description, .state = state};
	int r = snapshot_put_back(dir, s, &disk, e);

	o.disk = disk;
	if (r == 0 && s->memory)
		r = power_start_from(c->d, m, &o, e);
	else if (r == 0)
		r = live_set_disk(dir, disk, e);
	disks_tidy(c->d, m->uuid);
	return r;
}

static int restore_claimed(struct op_call *c, const struct machine_record *m, struct err *e)
{
	autofree char *dir = path_guest(c->d, m->uuid, NULL);
	struct snapshot_record s = {0};
	int r = snapshot_read(dir, op_string(c, "snapshot"), &s, e);

	if (r < 0)
		return r;
	if (m->template)
		r = err_msg(e, -EBUSY, "'%s' is a template", m->name);
	if (r == 0 && guest_get(c->d, m->uuid, NULL)) {
		if (op_bool(c, "force"))
			r = power_stop(c->d, m->uuid, e);
		else
			r = err_msg(e, -EBUSY,
				    "'%s' is running: stop it first, or restore with --force",
				    m->name);
	}
	if (r == 0 && guest_is_locked(c->d, m->uuid))
		r = err_msg(e, -EBUSY, "'%s' is run by another command", m->name);
	if (r == 0)
		r = op_cancelled(c, e);
	if (r == 0)
		r = put_back(c, m, &s, e);
	if (r == 0) {
		c->result = op_format_machine(c->d, m, false);
		event_emit(c->d, "snapshot.restored", m->uuid, m->name,
			   json_pack("{s:s}", "snapshot", s.name));
	}
	snapshot_record_fini(&s);
	return r;
}

int op_snapshot_restore(struct op_call *c, struct err *e)
{
	struct machine_record m;
	int r = op_claim(c, &m, e);

	if (r < 0)
		return r;
	r = container_is(&m) ? container_snapshot_restore(c, &m, op_string(c, "snapshot"), e)
			     : restore_claimed(c, &m, e);
	op_unclaim(c, &m);
	return r;
}

/* --- delete --- */

int op_snapshot_delete(struct op_call *c, struct err *e)
{
	const char *name = op_string(c, "snapshot");
	struct machine_record m;
	int r = op_claim(c, &m, e);

	if (r < 0)
		return r;
	if (container_is(&m)) {
		r = container_snapshot_delete(c, &m, name, e);
		op_unclaim(c, &m);
		return r;
	}
	{
		autofree char *dir = path_guest(c->d, m.uuid, NULL);

		r = snapshot_remove(dir, name, e);
	}
	if (r == 0) {
		disks_tidy(c->d, m.uuid);
		event_emit(c->d, "snapshot.deleted", m.uuid, m.name,
			   json_pack("{s:s}", "snapshot", name));
	}
	op_unclaim(c, &m);
	return r;
}
