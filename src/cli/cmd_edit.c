/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/cmd_edit.c - insula edit: by options, or the whole of it in an editor
 */
#include "base/exit.h"
#include "base/fd.h"
#include "base/strbuf.h"
#include "cli/cli.h"
#include "cli/client.h"
#include "cli/machine.h"
#include "cli/policy.h"
#include "cli/ui.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/wait.h>

struct edit_config {
	struct policy_options policy;
	json_t *config; /* what shall change */
	bool json;
};

static json_t *patch_of(struct edit_config *c)
{
	if (!c->config)
		c->config = json_object();
	return c->config;
}

static int set_cpus(void *config, const char *value, struct err *e)
{
	char *end;
	long n = strtol(value, &end, 10);

	if (end == value || *end)
		return err_msg(e, -EINVAL, "'%s' is no number", value);
	return json_object_set_new(patch_of(config), "cpus", json_integer(n));
}

static int set_memory(void *config, const char *value, struct err *e)
{
	uint64_t bytes;
	int r = cli_parse_size(value, &bytes, e);

	return r < 0 ? r
		     : json_object_set_new(patch_of(config), "memory",
					   json_integer((json_int_t)bytes));
}

/* VALUE is JSON, or else a string; nothing takes the key away. */
static int set_any(void *config, const char *value, struct err *e)
{
	autofree char *key = xstrdup(value);
	char *text = strchr(key, '=');
	json_t *v;

	if (!text || text == key)
		return err_msg(e, -EINVAL, "'%s' is not KEY=VALUE", value);
	*text++ = '\0';
	v = *text ? json_loads(text, JSON_DECODE_ANY, NULL) : json_null();
	if (!v)
		v = json_string(text);
	if (json_object_set_new(patch_of(config), key, v) < 0)
		return err_msg(e, -EINVAL, "'%s' is not UTF-8", value);
	return 0;
}

static int set_json(void *config, const char *value, struct err *e)
{
	((struct edit_config *)config)->json = true;
	return 0;
}

POLICY_SETTERS(edit_config)

static const struct cli_option edit_options[] = {
    {"cpus", "N", NULL, "virtual CPUs", set_cpus},
    {"memory", "SIZE", NULL, "guest memory, such as 2G", set_memory},
    {"set", "KEY=VALUE", NULL,
     "any member of the configuration, as `insula show --json` has it, such as append=quiet; an "
     "empty VALUE takes it out; repeatable",
     set_any},
    {"label", "KEY=VALUE", NULL, POLICY_LABEL_HELP "; KEY- takes it away", set_label},
    {"restart", "no|on-failure|always", "no on-failure always", POLICY_RESTART_HELP, set_restart},
    {"autostart", "on|off", "on off", "start it with the host (or with the user's insulad)",
     set_autostart},
    {"autostart-order", "N", NULL, POLICY_ORDER_HELP, set_autostart_order},
    POLICY_LIMIT_OPTIONS,
    {"watchdog", "SECONDS", NULL, POLICY_WATCHDOG_HELP, set_watchdog},
    {"json", NULL, NULL, "print the machine as JSON", set_json},
};

static void edit_init(void *config)
{
	policy_init(&((struct edit_config *)config)->policy);
}

static void edit_fini(void *config)
{
	struct edit_config *c = config;

	policy_fini(&c->policy);
	json_decref(c->config);
}

/* --- in an editor --- */

static const char *editor_name(void)
{
	const char *visual = getenv("VISUAL"), *editor = getenv("EDITOR");

	return visual && *visual ? visual : editor && *editor ? editor : "vi";
}

/* It may have arguments: a shell reads it, the file's name does not pass through one. */
static int run_editor(const char *path, struct err *e)
{
	autofree char *line = xasprintf("%s \"$1\"", editor_name());
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		execlp("sh", "sh", "-c", line, "sh", path, (char *)NULL);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		return err_set(e, -errno, "run %s", editor_name());
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return err_msg(e, -ECANCELED, "%s failed: nothing was changed", editor_name());
	return 0;
}

/* What people may change of a machine. */
static json_t *editable(const json_t *m)
{
	static const char *const keys[] = {
	    "name", "labels", "restart", "autostart", "autostart_order", "watchdog", "config"};
	json_t *o = json_object();

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		json_object_set(o, keys[i], json_object_get(m, keys[i]));
	return o;
}

/* RFC 7396: what is not in @after any more is taken out. */
static json_t *difference(const json_t *before, const json_t *after)
{
	json_t *patch = json_object(), *v;
	const char *key;

	json_object_foreach((json_t *)before, key, v)
	{
		if (!json_object_get(after, key))
			json_object_set_new(patch, key, json_null());
	}
	json_object_foreach((json_t *)after, key, v)
	{
		json_t *old = json_object_get(before, key);

		if (json_is_object(v) && json_is_object(old)) {
			json_t *inner = difference(old, v);

			if (json_object_size(inner))
				json_object_set(patch, key, inner);
			json_decref(inner);
		} else if (!json_equal(v, old)) {
			json_object_set(patch, key, v);
		}
	}
	return patch;
}

static int edit_file(const char *path, const json_t *before, json_t **ret, struct err *e)
{
	json_error_t je;
	json_t *after;
	int r;

	if (json_dump_file(before, path, JSON_INDENT(2)) < 0)
		return err_msg(e, -EIO, "cannot write %s", path);
	r = run_editor(path, e);
	if (r < 0)
		return r;
	after = json_load_file(path, JSON_REJECT_DUPLICATES, &je);
	if (!json_is_object(after)) {
		json_decref(after);
		return err_msg(e, -EINVAL, "not JSON: line %d: %s; nothing was changed", je.line,
			       je.text);
	}
	*ret = difference(before, after);
	json_decref(after);
	return 0;
}

static int ask_editor(const char *path, json_t **ret, struct err *e)
{
	char file[] = "/tmp/insula-edit-XXXXXX.json";
	json_t *m = NULL, *before;
	int r = client_call("GET", path, NULL, &m, e), fd;

	if (r < 0)
		return r;
	before = editable(m);
	json_decref(m);
	fd = mkstemps(file, 5);
	r = fd < 0 ? err_set(e, -errno, "%s", file) : edit_file(file, before, ret, e);
	if (fd >= 0) {
		close(fd);
		unlink(file);
	}
	json_decref(before);
	return r;
}

static int edit_run(void *config, int argc, char **argv, char **command)
{
	struct edit_config *c = config;
	autofree char *path = NULL;
	struct err e = {0};
	json_t *body = json_object(), *machine = NULL;
	int r = 0, status = machine_need_words("edit", argc, 1, "NAME");

	if (status != EXIT_OK)
		return status;
	path = client_machine_path(argv[0], "");
	if (c->config)
		json_object_set(body, "config", c->config);
	policy_format(&c->policy, body);
	if (!json_object_size(body)) {
		json_decref(body);
		body = NULL;
		r = ask_editor(path, &body, &e);
	}
	if (r == 0)
		r = client_call("PATCH", path, body, &machine, &e);
	if (r < 0)
		return ui_fail(&e, EXIT_FAIL);
	if (json_object_get(machine, "pid") && !c->json)
		ui_note(
		    "it runs: limits, rates and less memory count at once, the rest from its next "
		    "start on");
	if (c->json)
		machine_print_json(json_incref(machine));
	json_decref(machine);
	return EXIT_OK;
}

const struct cli_command cmd_edit = {
    .name = "edit",
    .usage = "NAME",
    .summary = "Change a machine.",
    .more = "Without options, all that can be changed is shown as JSON in $VISUAL or $EDITOR. The "
	    "configuration takes effect at the machine's next start; limits, rates and less memory "
	    "at once.",
    .words = MACHINE_WORDS,
    .options = edit_options,
    .n_options = ARRAY_SIZE(edit_options),
    .config_size = sizeof(struct edit_config),
    .init = edit_init,
    .fini = edit_fini,
    .run = edit_run,
};
