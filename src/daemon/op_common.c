/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daemon/op_common.c - what operations share: arguments, claimed machines, their JSON form
 */
#include "daemon/daemon_priv.h"

#include <errno.h>

const char *op_string(const struct op_call *c, const char *name)
{
	return json_string_value(json_object_get(c->args, name));
}

int64_t op_int(const struct op_call *c, const char *name, int64_t preset)
{
	const json_t *v = json_object_get(c->args, name);

	return v ? (int64_t)json_integer_value(v) : preset;
}

bool op_bool(const struct op_call *c, const char *name)
{
	return json_is_true(json_object_get(c->args, name));
}

int machine_record_config(const struct machine_record *m, struct machine_config *ret, struct err *e)
{
	json_t *o = json_loads(m->config, 0, NULL);
	int r = machine_config_parse(o, ret, e);

	json_decref(o);
	return r < 0 ? err_wrap(e, r, "'%s'", m->name) : 0;
}

int machine_config_text(const struct machine_config *c, char **ret, struct err *e)
{
	json_t *o = machine_config_format(c);
	char *text = json_dumps(o, JSON_COMPACT);

	json_decref(o);
	if (!text)
		return err_msg(e, -EINVAL, "config: is not UTF-8");
	*ret = text;
	return 0;
}

int op_machine(struct op_call *c, struct machine_record *ret, struct err *e)
{
	return store_machine_find(c->d->store, op_string(c, "machine"), ret, e);
}

int op_claim(struct op_call *c, struct machine_record *ret, struct err *e)
{
	struct machine_record m, now;
	int r = op_machine(c, &m, e);

	if (r < 0)
		return r;
	r = daemon_claim(c->d, m.uuid, m.name, e);
	if (r == 0) {
		/* Whoever had it before may have changed it. */
		r = store_machine_get(c->d->store, m.uuid, &now, e);
		if (r < 0)
			daemon_release(c->d, m.uuid);
	}
	machine_record_fini(&m);
	if (r == 0)
		*ret = now;
	return r;
}

void op_unclaim(struct op_call *c, struct machine_record *m)
{
	daemon_release(c->d, m->uuid);
	machine_record_fini(m);
}

int op_need_running(struct op_call *c, const struct machine_record *m, struct guest_info *ret,
		    struct err *e)
{
	struct guest_info info;

	if (!guest_get(c->d, m->uuid, &info) || info.state == GUEST_STARTING)
		return err_msg(e, -ENOTCONN, "'%s' does not run; `insula start %s` starts it",
			       m->name, m->name);
	if (ret)
		*ret = info;
	return 0;
}

int op_refuse_container(const struct machine_record *m, const char *done, struct err *e)
{
	return container_is(m)
		   ? err_msg(e, -ENOTSUP, "'%s' is a container, which cannot be %s", m->name, done)
		   : 0;
}

static const char *state_of(bool there, const struct guest_info *g)
{
	static const char *const names[] = {"starting", "running", "paused"};

	return there ? names[g->state] : "stopped";
}

static void put_summary(json_t *o, const json_t *config)
{
	static const char *const keys[] = {"image",    "isolation", "kernel",
					   "firmware", "cpus",      "memory"};

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		json_t *v = json_object_get(config, keys[i]);

		if (v)
			json_object_set(o, keys[i], v);
	}
}

static void put_whole(struct daemon *d, json_t *o, const struct machine_record *m, json_t *config)
{
	autofree char *files = path_guest(d, m->uuid, NULL);

	json_object_set(o, "config", config);
	json_object_set_new(o, "autostart", json_boolean(m->autostart));
	json_object_set_new(o, "autostart_order", json_integer(m->autostart_order));
	json_object_set_new(o, "watchdog", json_integer(m->watchdog));
	json_object_set_new(o, "files", json_string(files));
	/* Of no use to who may look only. */
	if (json_object_get(config, "vnc_password"))
		json_object_set_new(json_object_get(o, "config"), "vnc_password",
				    json_string("********"));
}

json_t *op_format_machine(struct daemon *d, const struct machine_record *m, bool whole)
{
	struct guest_info g;
	bool there = guest_get(d, m->uuid, &g);
	json_t *config = json_loads(m->config, 0, NULL);
	json_t *o = json_pack("{s:s, s:s, s:s, s:I, s:O, s:s}", "uuid", m->uuid, "name", m->name,
			      "state", state_of(there, &g), "created", (json_int_t)m->created,
			      "labels", m->labels, "restart", machine_restart_names[m->restart]);

	if (there && g.pid) {
		json_object_set_new(o, "pid", json_integer(g.pid));
		json_object_set_new(o, "started", json_integer(g.started));
	}
	if (m->template)
		json_object_set_new(o, "template", json_true());
	if (m->end_reason)
		json_object_set_new(o, "end",
				    json_pack("{s:s, s:I, s:I}", "reason", m->end_reason, "status",
					      (json_int_t)m->end_status, "time",
					      (json_int_t)m->end_time));
	put_summary(o, config);
	if (whole)
		put_whole(d, o, m, config);
	json_decref(config);
	return o;
}
