/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/cmd_machine.c - insula list, show, rename
 */
#include "base/exit.h"
#include "base/fd.h"
#include "base/strbuf.h"
#include "cli/cli.h"
#include "cli/client.h"
#include "cli/loose.h"
#include "cli/machine.h"
#include "cli/ui.h"
#include "codec/http.h"

#include <stdio.h>
#include <time.h>

/* --- list --- */

static int set_label(void *config, const char *value, struct err *e)
{
	struct machine_options *o = config;

	free(o->label);
	o->label = xstrdup(value);
	return 0;
}

static int set_names(void *config, const char *value, struct err *e)
{
	((struct machine_options *)config)->names = true;
	return 0;
}

/* "3m 2s" of one that runs, "poweroff 2h ago" of one that did. */
static void format_since(const json_t *m, char *ret, size_t size)
{
	const json_t *end = json_object_get(m, "end");
	char time_text[32];

	ret[0] = '\0';
	if (json_object_get(m, "started")) {
		machine_duration(time(NULL) - machine_int(m, "started"), time_text);
		snprintf(ret, size, "%s", time_text);
	} else if (end) {
		machine_duration(time(NULL) - machine_int(end, "time"), time_text);
		snprintf(ret, size, "%s %s ago", machine_text(end, "reason"), time_text);
	}
}

static const char *what_boots(const json_t *m)
{
	static const char *const keys[] = {"image", "kernel", "firmware"};

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		if (json_object_get(m, keys[i]))
			return machine_text(m, keys[i]);
	}
	return "";
}

static void print_table(const json_t *machines)
{
	size_t i, width = 4;
	json_t *m;

	json_array_foreach((json_t *)machines, i, m) width =
	    MAX(width, strlen(machine_text(m, "name")));
	printf("%-*s  %-8s  %4s  %6s  %-24s  %s\n", (int)width, "NAME", "STATE", "CPUS", "MEMORY",
	       "SINCE", "BOOTS");
	json_array_foreach((json_t *)machines, i, m)
	{
		char memory[16], since[64];

		machine_size(machine_int(m, "memory"), memory);
		format_since(m, since, sizeof(since));
		printf("%-*s  %-8s  %4lld  %6s  %-24s  %s\n", (int)width, machine_text(m, "name"),
		       machine_text(m, "state"), machine_int(m, "cpus"), memory, since,
		       what_boots(m));
	}
}

static int list_run(void *config, int argc, char **argv, char **command)
{
	struct machine_options *o = config;
	autostrbuf struct strbuf path = {0};
	struct err e = {0};
	json_t *answer = NULL, *list, *m;
	size_t i;
	int status = machine_need_words("list", argc, 0, "");

	if (status != EXIT_OK)
		return status;
	strbuf_printf(&path, "/v1/machines?all=%s", o->all ? "true" : "false");
	if (o->label) {
		strbuf_puts(&path, "&label=");
		http_escape(o->label, &path);
	}
	if (client_call("GET", path.data, NULL, &answer, &e) < 0)
		return ui_fail(&e, EXIT_FAIL);
	list = json_object_get(answer, "machines");
	if (!o->label)
		loose_list(list);
	if (o->json)
		machine_print_json(json_incref(list));
	else if (o->names)
		json_array_foreach(list, i, m) puts(machine_text(m, "name"));
	else
		print_table(list);
	json_decref(answer);
	return EXIT_OK;
}

static const struct cli_option list_options[] = {
    {"all", NULL, NULL, "those that do not run, too", machine_set_all},
    {"label", "KEY[=VALUE]", NULL, "only those with this label", set_label},
    {"names", NULL, NULL, "only their names", set_names},
    {"json", NULL, NULL, "print JSON", machine_set_json},
};

const struct cli_command cmd_list = {
    .name = "list",
    .usage = "",
    .summary = "List the machines that run, or all.",
    .options = list_options,
    .n_options = ARRAY_SIZE(list_options),
    .config_size = sizeof(struct machine_options),
    .init = machine_options_init,
    .fini = machine_options_fini,
    .run = list_run,
};

/* --- show --- */

static void print_value(const char *key, const json_t *v)
{
	autofree char *text = json_is_string(v)
				  ? xstrdup(json_string_value(v))
				  : json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY | JSON_SORT_KEYS);

	printf("%-16s %s\n", key, text ? text : "");
}

static void print_machine(const json_t *m)
{
	static const char *const hidden[] = {"config", "created",  "started", "end",   "image",
					     "kernel", "firmware", "cpus",    "memory"};
	const char *key;
	json_t *v;
	char since[64];

	json_object_foreach((json_t *)m, key, v)
	{
		bool hide = false;

		for (size_t i = 0; i < ARRAY_SIZE(hidden); i++)
			hide = hide || strcmp(hidden[i], key) == 0;
		if (!hide)
			print_value(key, v);
	}
	format_since(m, since, sizeof(since));
	if (since[0])
		printf("%-16s %s\n", "since", since);
	json_object_foreach(json_object_get(m, "config"), key, v) print_value(key, v);
}

static int show_xml(const char *path)
{
	autostrbuf struct strbuf text = {0};
	struct err e = {0};

	if (client_text(path, &text, NULL, &e) < 0)
		return ui_fail(&e, EXIT_FAIL);
	fputs(text.data, stdout);
	return EXIT_OK;
}

static int set_xml(void *config, const char *value, struct err *e)
{
	((struct machine_options *)config)->xml = true;
	return 0;
}

static int show_run(void *config, int argc, char **argv, char **command)
{
	struct machine_options *o = config;
	autofree char *path = NULL;
	struct err e = {0};
	json_t *m = NULL;
	int status = machine_need_words("show", argc, 1, "NAME");

	if (status != EXIT_OK)
		return status;
	path = client_machine_path(argv[0], o->xml ? "/xml" : "");
	if (o->xml)
		return show_xml(path);
	if (client_call("GET", path, NULL, &m, &e) < 0)
		return ui_fail(&e, EXIT_FAIL);
	if (o->json) {
		machine_print_json(m);
		return EXIT_OK;
	}
	print_machine(m);
	json_decref(m);
	return EXIT_OK;
}

static const struct cli_option show_options[] = {
    {"json", NULL, NULL, "print JSON", machine_set_json},
    {"xml", NULL, NULL, "print libvirt's domain XML", set_xml},
};
static const struct cli_option json_options[] = {
    {"json", NULL, NULL, "tell errors as JSON", machine_set_json},
};

const struct cli_command cmd_show = {
    .name = "show",
    .usage = "NAME",
    .summary = "Show everything about a machine.",
    .words = MACHINE_WORDS,
    .options = show_options,
    .n_options = ARRAY_SIZE(show_options),
    .config_size = sizeof(struct machine_options),
    .init = machine_options_init,
    .fini = machine_options_fini,
    .run = show_run,
};

/* --- rename --- */

static int rename_run(void *config, int argc, char **argv, char **command)
{
	autofree char *path = NULL;
	struct err e = {0};
	int status = machine_need_words("rename", argc, 2, "NAME NEW");

	if (status != EXIT_OK)
		return status;
	path = client_machine_path(argv[0], "");
	if (client_call("PATCH", path, json_pack("{s:s}", "name", argv[1]), NULL, &e) < 0)
		return ui_fail(&e, EXIT_FAIL);
	return EXIT_OK;
}

const struct cli_command cmd_rename = {
    .name = "rename",
    .usage = "NAME NEW",
    .summary = "Give a machine another name.",
    .more = "It may run meanwhile; its guest's host name follows at the next start.",
    .words = MACHINE_WORDS,
    .options = json_options,
    .n_options = ARRAY_SIZE(json_options),
    .config_size = sizeof(struct machine_options),
    .init = machine_options_init,
    .fini = machine_options_fini,
    .run = rename_run,
};

/* --- define --- */

/* Of a file, or of standard input. */
static int read_xml(const char *path, struct strbuf *text, struct err *e)
{
	int r = read_file(strcmp(path, "-") == 0 ? "/dev/stdin" : path, 1u << 19, text);

	return r < 0 ? err_set(e, r, "read %s", path) : 0;
}

static int define_run(void *config, int argc, char **argv, char **command)
{
	struct machine_options *o = config;
	autostrbuf struct strbuf text = {0};
	struct err e = {0};
	json_t *m = NULL, *w;
	size_t i;
	int r, status = machine_need_words("define", argc, 1, "FILE.xml");

	if (status != EXIT_OK)
		return status;
	r = read_xml(argv[0], &text, &e);
	if (r == 0)
		r = client_job("POST", "/v1/define",
			       json_pack("{s:s}", "xml", text.data ? text.data : ""), &m, &e);
	if (r < 0)
		return ui_fail(&e, EXIT_FAIL);
	json_array_foreach(json_object_get(m, "warnings"), i, w)
	    ui_note("%s: %s", argv[0], json_string_value(w));
	if (o->json)
		machine_print_json(json_incref(m));
	else
		puts(machine_text(m, "name"));
	json_decref(m);
	return EXIT_OK;
}

static const struct cli_option define_options[] = {
    {"json", NULL, NULL, "print the machine as JSON", machine_set_json},
};

const struct cli_command cmd_define = {
    .name = "define",
    .usage = "FILE.xml",
    .summary = "Make a machine as libvirt's domain XML says.",
    .more = "What of it is left out is told line by line. `insula show --xml` writes it.",
    .options = define_options,
    .n_options = ARRAY_SIZE(define_options),
    .config_size = sizeof(struct machine_options),
    .init = machine_options_init,
    .fini = machine_options_fini,
    .run = define_run,
};
