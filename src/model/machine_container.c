/* SPDX-License-Identifier: Apache-2.0 */
/*
 * model/machine_container.c - what only a machine that is a container has
 */
#include "model/machine_container.h"

#include <errno.h>

#define WORDS_MAX 1024

static const char *const isolations[] = {"vm", "container", NULL};

static char **read_words(const struct json_reader *r, const char *key)
{
	struct json_reader list, entry;
	size_t n = json_read_array(r, key, WORDS_MAX, &list);
	char **v = n ? xcalloc(n + 1, sizeof(*v)) : NULL;

	for (size_t i = 0; i < n; i++) {
		json_read_entry(&list, i, &entry);
		v[i] = xstrdup(json_read_text(&entry));
	}
	return v;
}

static char *read_text(const struct json_reader *r, const char *key)
{
	const char *s = json_read_string(r, key);

	return s && *s ? xstrdup(s) : NULL;
}

void machine_container_read(const struct json_reader *r, struct machine_container *ret)
{
	ret->on = json_read_word(r, "isolation", isolations) == 1;
	ret->command = read_words(r, "command");
	ret->env = read_words(r, "env");
	ret->workdir = read_text(r, "workdir");
	ret->user = read_text(r, "user");
	ret->tty = json_read_bool(r, "tty", false);
	for (char **e = ret->env; e && *e; e++) {
		if (!strchr(*e, '=') || **e == '=')
			json_fail(r, "env", "'%.64s' is not NAME=value", *e);
	}
	if (ret->workdir && ret->workdir[0] != '/')
		json_fail(r, "workdir", "'%.64s' is not an absolute path", ret->workdir);
}

static void put_words(json_t *o, const char *key, char *const *v)
{
	json_t *list = json_array();

	for (; v && *v; v++)
		json_array_append_new(list, json_string(*v));
	if (json_array_size(list))
		json_object_set(o, key, list);
	json_decref(list);
}

void machine_container_format(const struct machine_container *c, json_t *config)
{
	if (!c->on)
		return;
	json_object_set_new(config, "isolation", json_string(isolations[1]));
	put_words(config, "command", c->command);
	put_words(config, "env", c->env);
	if (c->workdir)
		json_object_set_new(config, "workdir", json_string(c->workdir));
	if (c->user)
		json_object_set_new(config, "user", json_string(c->user));
	if (c->tty)
		json_object_set_new(config, "tty", json_true());
}

int machine_container_check(const struct machine_container *c, struct err *e)
{
	if (!c->on && (c->command || c->env || c->workdir || c->user || c->tty))
		return err_msg(e, -EINVAL,
			       "command, env, workdir, user and tty are for isolation container");
	return 0;
}

static void free_words(char **v)
{
	for (size_t i = 0; v && v[i]; i++)
		free(v[i]);
	free(v);
}

void machine_container_fini(struct machine_container *c)
{
	free_words(c->command);
	free_words(c->env);
	free(c->workdir);
	free(c->user);
}
