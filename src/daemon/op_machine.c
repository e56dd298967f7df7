/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daemon/op_machine.c - machines made, changed, shown and deleted
 *
 * A machine exists from the commit of its row to the commit of the row's removal; its files are
 * made before and removed after, so that what is cut off leaves at most files that are swept.
 */
#include "daemon/daemon_priv.h"

#include "base/fd.h"
#include "image/image.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

static int set_restart(const char *word, enum machine_restart *ret, struct err *e)
{
	for (int i = 0; machine_restart_names[i]; i++) {
		if (strcmp(word, machine_restart_names[i]) == 0) {
			*ret = (enum machine_restart)i;
			return 0;
		}
	}
	return err_msg(e, -EINVAL, "restart: '%.32s' is not no, on-failure or always", word);
}

/* What create and edit have in common. */
static int take_policies(struct op_call *c, struct machine_record *m, struct err *e)
{
	const char *restart = op_string(c, "restart");

	if (restart && set_restart(restart, &m->restart, e) < 0)
		return -EINVAL;
	if (json_object_get(c->args, "autostart"))
		m->autostart = op_bool(c, "autostart");
	m->autostart_order = op_int(c, "autostart_order", m->autostart_order);
	m->watchdog = op_int(c, "watchdog", m->watchdog);
	if (m->watchdog < 0 || m->watchdog > 86400)
		return err_msg(e, -EINVAL, "watchdog: %lld is not between 0 and 86400 seconds",
			       (long long)m->watchdog);
	return machine_labels_check(m->labels, e);
}

/* --- create --- */

int op_check_name_free(struct daemon *d, const char *name, struct err *e)
{
	autofree char *link = path_link(d, name);
	struct stat st;
	int r = store_machine_check_name(d->store, name, e);

	if (r == 0 && lstat(link, &st) == 0 && S_ISDIR(st.st_mode))
		r = err_msg(e, -EEXIST,
			    "'%s' is a machine of `insula run --name` with its disk in %s; take "
			    "another name, or delete that directory",
			    name, link);
	return r;
}

static int make_record(struct op_call *c, const char *uuid, struct machine_config *config,
		       struct machine_record *m, struct err *e)
{
	const char *name = op_string(c, "name");
	json_t *labels = json_object_get(c->args, "labels");
	int r = machine_config_parse(json_object_get(c->args, "config"), config, e);

	if (r < 0)
		return r;
	if (uuid[0])
		snprintf(m->uuid, sizeof(m->uuid), "%s", uuid);
	else
		machine_uuid_make(m->uuid);
	m->name = name ? xstrdup(name) : xasprintf("m-%.8s", m->uuid);
	m->labels = labels ? json_incref(labels) : json_object();
	m->created = (int64_t)time(NULL);
	r = machine_config_text(config, &m->config, e);
	if (r < 0)
		return r;
	r = machine_name_check(m->name, e);
	return r < 0 ? r : take_policies(c, m, e);
}

/* Disk, kernel and modules of the image; the machine does not need the image afterwards. */
static int install_image(struct op_call *c, const struct machine_config *config, const char *uuid,
			 const char *dir, struct err *e)
{
	struct image_cache cache = {0};
	struct image image = {.lock = -1};
	struct progress p = {0};
	int r;

	if (c->job)
		job_progress(c->job, &p);
	if (config->container.on)
		return container_install(config, uuid, dir, &p, e);
	r = image_cache_open(&cache, e);
	if (r < 0)
		return r;
	r = image_get(&cache, config->image, false, &p, &image, e);
	if (r == 0)
		r = image_install(&image, dir, e);
	image_fini(&image);
	image_cache_fini(&cache);
	return r;
}

static int make_files(struct op_call *c, const struct machine_config *config,
		      const struct machine_record *m, struct err *e)
{
	autofree char *dir = path_guest(c->d, m->uuid, NULL);
	autofree char *parent = xasprintf("%s/guests", c->d->data_dir);
	int r = access(dir, F_OK) < 0 ? make_dir(dir, MACHINE_FILES_MODE, e) : -EEXIST;

	if (r == -EEXIST)
		return err_msg(
		    e, r, "clones still need files of a deleted machine of this UUID: %s", m->uuid);
	if (r == 0 && config->image)
		r = install_image(c, config, m->uuid, dir, e);
	if (r == 0)
		r = path_sync(dir, e);
	if (r == 0)
		r = path_sync(parent, e);
	if (r < 0)
		path_guest_remove(c->d, m->uuid);
	return r;
}

static int create_claimed(struct op_call *c, const struct machine_config *config,
			  const struct machine_record *m, struct err *e)
{
	int r = op_check_name_free(c->d, m->name, e);

	if (r == 0)
		r = make_files(c, config, m, e);
	if (r < 0)
		return r;
	r = store_machine_add(c->d->store, m, 1, e);
	if (r < 0) {
		path_guest_remove(c->d, m->uuid);
		return r;
	}
	path_link_make(c->d, m->name, m->uuid);
	event_emit(c->d, "machine.created", m->uuid, m->name, NULL);
	c->result = op_format_machine(c->d, m, true);
	return 0;
}

int op_machine_create(struct op_call *c, struct err *e)
{
	return create_machine(c, "", e);
}

int create_machine(struct op_call *c, const char *uuid, struct err *e)
{
	struct machine_config config = {0};
	struct machine_record m = {0};
	int r = make_record(c, uuid, &config, &m, e);

	if (r == 0) {
		autofree char *key = xasprintf("name/%s", m.name);

		r = daemon_claim(c->d, key, m.name, e);
		if (r == 0) {
			r = create_claimed(c, &config, &m, e);
			daemon_release(c->d, key);
		}
	}
	machine_record_fini(&m);
	machine_config_fini(&config);
	return r;
}

/* --- delete --- */

static int delete_claimed(struct op_call *c, const struct machine_record *m, struct err *e)
{
	bool elsewhere = disks_lie_elsewhere(c->d, m->uuid);
	int r = 0;

	if (guest_get(c->d, m->uuid, NULL)) {
		if (!op_bool(c, "force"))
			return err_msg(e, -EBUSY,
				       "'%s' is running: stop it first, or delete it with --force",
				       m->name);
		r = power_stop(c->d, m->uuid, e);
	}
	if (r == 0)
		r = store_machine_remove(c->d->store, m->uuid, e);
	if (r < 0)
		return r;
	path_link_remove(c->d, m->name, m->uuid);
	disks_remove(c->d, m->uuid, elsewhere);
	event_emit(c->d, "machine.deleted", m->uuid, m->name, NULL);
	return 0;
}

int op_machine_delete(struct op_call *c, struct err *e)
{
	struct machine_record m;
	int r = op_claim(c, &m, e);

	if (r < 0)
		return r;
	r = delete_claimed(c, &m, e);
	op_unclaim(c, &m);
	return r;
}

/* --- edit --- */

/* RFC 7396 */
static void merge(json_t *target, const json_t *patch)
{
	const char *key;
	json_t *v;

	json_object_foreach((json_t *)patch, key, v)
	{
		json_t *old = json_object_get(target, key);

		if (json_is_null(v)) {
			json_object_del(target, key);
		} else if (json_is_object(v)) {
			json_t *o = json_is_object(old) ? json_deep_copy(old) : json_object();

			merge(o, v);
			json_object_set_new(target, key, o);
		} else {
			json_object_set(target, key, v);
		}
	}
}

static int edit_config(struct machine_record *m, const json_t *patch, struct err *e)
{
	struct machine_config config = {0};
	static const char *const fixed[] = {"image", "isolation"};
	json_t *o = json_loads(m->config, 0, NULL), *before = json_deep_copy(o);
	char *text;
	int r;

	merge(o, patch);
	r = machine_config_parse(o, &config, e);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(fixed); i++) {
		const json_t *was = json_object_get(before, fixed[i]),
			     *is = json_object_get(o, fixed[i]);

		if ((was || is) && !json_equal(was, is))
			r = err_msg(e, -EINVAL,
				    "config.%s: a machine's disk was made for it: create another "
				    "machine instead",
				    fixed[i]);
	}
	json_decref(before);
	json_decref(o);
	if (r < 0) {
		machine_config_fini(&config);
		return r;
	}
	r = machine_config_text(&config, &text, e);
	machine_config_fini(&config);
	if (r < 0)
		return r;
	free(m->config);
	m->config = text;
	return 0;
}

/* Some of it counts at once. */
static int change_config(struct op_call *c, struct machine_record *m, const json_t *patch,
			 struct err *e)
{
	struct machine_config old = {0}, new = {0};
	int r = machine_record_config(m, &old, e);

	if (r == 0)
		r = edit_config(m, patch, e);
	if (r == 0)
		r = machine_record_config(m, &new, e);
	if (r == 0)
		r = change_running(c->d, m, &old, &new, e);
	machine_config_fini(&old);
	machine_config_fini(&new);
	return r;
}

static void renamed(struct op_call *c, const struct machine_record *m, const char *old)
{
	struct guest *g;

	path_link_remove(c->d, old, m->uuid);
	path_link_make(c->d, m->name, m->uuid);
	pthread_mutex_lock(&c->d->lock);
	g = guest_find(c->d, m->uuid);
	if (g) {
		free(g->name);
		g->name = xstrdup(m->name);
	}
	pthread_mutex_unlock(&c->d->lock);
	event_emit(c->d, "machine.renamed", m->uuid, m->name, json_pack("{s:s}", "old", old));
}

static int edit_claimed(struct op_call *c, struct machine_record *m, struct err *e)
{
	const char *name = op_string(c, "name");
	const json_t *config = json_object_get(c->args, "config");
	const json_t *labels = json_object_get(c->args, "labels");
	autofree char *old = xstrdup(m->name);
	int r = 0;

	if (name && strcmp(name, old) != 0) {
		r = machine_name_check(name, e);
		if (r == 0)
			r = op_check_name_free(c->d, name, e);
		free(m->name);
		m->name = xstrdup(name);
	}
	if (r == 0 && labels)
		merge(m->labels, labels);
	if (r == 0)
		r = take_policies(c, m, e);
	if (r == 0 && config)
		r = change_config(c, m, config, e);
	if (r == 0)
		r = store_machine_update(c->d->store, m, e);
	if (r < 0)
		return r;
	if (strcmp(m->name, old) != 0)
		renamed(c, m, old);
	else
		event_emit(c->d, "machine.changed", m->uuid, m->name, NULL);
	c->result = op_format_machine(c->d, m, true);
	return 0;
}

int op_machine_edit(struct op_call *c, struct err *e)
{
	struct machine_record m;
	int r = op_claim(c, &m, e);

	if (r < 0)
		return r;
	r = edit_claimed(c, &m, e);
	op_unclaim(c, &m);
	return r;
}

/* --- show, list --- */

int op_machine_show(struct op_call *c, struct err *e)
{
	struct machine_record m;
	int r = op_machine(c, &m, e);

	if (r < 0)
		return r;
	c->result = op_format_machine(c->d, &m, true);
	machine_record_fini(&m);
	return 0;
}

/* "KEY" or "KEY=VALUE" */
static bool has_label(const struct machine_record *m, const char *filter)
{
	autofree char *key = xstrdup(filter);
	char *value = strchr(key, '=');
	const char *have;

	if (value)
		*value++ = '\0';
	have = json_string_value(json_object_get(m->labels, key));
	return have && (!value || strcmp(have, value) == 0);
}

int op_machine_list(struct op_call *c, struct err *e)
{
	const char *label = op_string(c, "label");
	struct machine_record *rows = NULL;
	json_t *list = json_array();
	size_t n = 0;
	int r = store_machine_list(c->d->store, &rows, &n, e);

	for (size_t i = 0; i < n; i++) {
		bool wanted = op_bool(c, "all") || guest_get(c->d, rows[i].uuid, NULL);

		if (wanted && (!label || has_label(&rows[i], label)))
			json_array_append_new(list, op_format_machine(c->d, &rows[i], false));
		machine_record_fini(&rows[i]);
	}
	free(rows);
	c->result = json_pack("{s:o}", "machines", list);
	return r;
}

int op_system_info(struct op_call *c, struct err *e)
{
	struct machine_record *rows = NULL;
	size_t n = 0, running = 0;
	struct list *at;
	int r = store_machine_list(c->d->store, &rows, &n, e);

	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++)
		machine_record_fini(&rows[i]);
	free(rows);
	pthread_mutex_lock(&c->d->lock);
	list_for_each(at, &c->d->guests) running++;
	pthread_mutex_unlock(&c->d->lock);
	c->result =
	    json_pack("{s:s, s:s, s:i, s:I, s:I, s:s, s:s}", "version", INSULA_VERSION, "api", "v1",
		      "pid", (int)getpid(), "machines", (json_int_t)n, "running",
		      (json_int_t)running, "data", c->d->data_dir, "run", c->d->run_dir);
	return 0;
}
