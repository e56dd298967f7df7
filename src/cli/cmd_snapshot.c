/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/cmd_snapshot.c - insula snapshot create, list, restore, delete
 */
#include "base/exit.h"
#include "cli/cli.h"
#include "cli/client.h"
#include "cli/loose.h"
#include "cli/machine.h"
#include "cli/ui.h"
#include "live/snapshots.h"

#include <stdio.h>
#include <time.h>

struct snapshot_config {
	bool json, verbose, compress, disk_only, whole, force;
};

#define SETTER(field)                                                                              \
	static int set_##field(void *config, const char *value, struct err *e)                     \
	{                                                                                          \
		((struct snapshot_config *)config)->field = true;                                  \
		return 0;                                                                          \
	}

SETTER(json)
SETTER(verbose)
SETTER(compress)
SETTER(disk_only)
SETTER(whole)
SETTER(force)

static const struct cli_option create_options[] = {
    {"disk-only", NULL, NULL, "without memory, also of a machine that runs", set_disk_only},
    {"compress", NULL, NULL, "take less room; it takes longer to go on from", set_compress},
    {"whole", NULL, NULL, "keep all of memory, also what an earlier snapshot has already",
     set_whole},
    {"json", NULL, NULL, "print JSON", set_json},
};

static const struct cli_option json_option[] = {
    {"json", NULL, NULL, "print JSON", set_json},
};

static const struct cli_option restore_options[] = {
    {"force", NULL, NULL, "cut the power of the machine first if it runs", set_force},
    {"verbose", NULL, NULL, "show the guest's console and what Insula decides, on standard error",
     set_verbose},
    {"json", NULL, NULL, "print the machine as JSON", set_json},
};

/* EXIT_USAGE with words unless there are a machine and a snapshot whose name is one. */
static int need(const char *what, int argc, char **argv)
{
	struct err e = {0};

	if (argc != 2)
		return ui_error(EXIT_USAGE, "insula snapshot %s: %s", what,
				argc > 2 ? "too many words" : "which machine and snapshot?");
	return snapshot_check_name(argv[1], &e) < 0 ? ui_fail(&e, EXIT_USAGE) : EXIT_OK;
}

static char *snapshot_url(char **argv, const char *rest)
{
	autofree char *end = xasprintf("/snapshots/%s%s", argv[1], rest);

	return client_machine_path(argv[0], end);
}

/* --- create, delete --- */

static int create_run(void *config, int argc, char **argv, char **command)
{
	const struct snapshot_config *cfg = config;
	autofree char *path = NULL;
	struct err e = {0};
	json_t *s = NULL;
	int status;

	ui_init(cfg->json, false);
	status = need("create", argc, argv);
	if (status != EXIT_OK)
		return status;
	if (loose_is(argv[0]))
		return loose_snapshot_create(argv[0], argv[1], cfg->compress, cfg->disk_only,
					     cfg->json);
	path = client_machine_path(argv[0], "/snapshots");
	if (client_job("POST", path,
		       json_pack("{s:s, s:b, s:b, s:b}", "name", argv[1], "compress", cfg->compress,
				 "disk_only", cfg->disk_only, "whole", cfg->whole),
		       &s, &e) < 0)
		return ui_fail(&e, EXIT_FAIL);
	if (cfg->json)
		machine_print_json(json_incref(s));
	json_decref(s);
	return EXIT_OK;
}

static int delete_run(void *config, int argc, char **argv, char **command)
{
	autofree char *path = NULL;
	struct err e = {0};
	int status = need("delete", argc, argv);

	if (status != EXIT_OK)
		return status;
	if (loose_is(argv[0]))
		return loose_snapshot_delete(argv[0], argv[1]);
	path = snapshot_url(argv, "");
	return client_call("DELETE", path, NULL, NULL, &e) < 0 ? ui_fail(&e, EXIT_FAIL) : EXIT_OK;
}

/* --- list --- */

void snapshot_print_line(const json_t *o)
{
	time_t t = (time_t)machine_int(o, "created");
	char when[32];
	struct tm tm;

	localtime_r(&t, &tm);
	strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", &tm);
	printf("%-24s %-19s  %-8s %8.1f MiB%s\n", machine_text(o, "name"), when,
	       json_is_true(json_object_get(o, "memory")) ? "machine" : "disk",
	       (double)machine_int(o, "bytes") / (1 << 20),
	       json_object_get(o, "incremental") ? "  incremental" : "");
}

static int list_run(void *config, int argc, char **argv, char **command)
{
	const struct snapshot_config *cfg = config;
	autofree char *path = NULL;
	json_t *answer = NULL, *list, *o;
	struct err e = {0};
	size_t i;

	if (argc != 1)
		return ui_error(EXIT_USAGE, "insula snapshot list: which machine?");
	if (loose_is(argv[0]))
		return loose_snapshot_list(argv[0], cfg->json);
	path = client_machine_path(argv[0], "/snapshots");
	if (client_call("GET", path, NULL, &answer, &e) < 0)
		return ui_fail(&e, EXIT_FAIL);
	list = json_object_get(answer, "snapshots");
	if (cfg->json)
		machine_print_json(json_incref(list));
	else
		json_array_foreach(list, i, o) snapshot_print_line(o);
	json_decref(answer);
	return EXIT_OK;
}

/* --- restore --- */

static int restore_run(void *config, int argc, char **argv, char **command)
{
	const struct snapshot_config *cfg = config;
	autofree char *path = NULL;
	struct err e = {0};
	json_t *m = NULL;
	int status;

	ui_init(cfg->json, cfg->verbose);
	status = need("restore", argc, argv);
	if (status != EXIT_OK)
		return status;
	if (loose_is(argv[0]))
		return loose_snapshot_restore(argv[0], argv[1], cfg->verbose, command);
	if (command)
		return ui_error(EXIT_USAGE,
				"insulad keeps '%s': restore it, then `insula exec %s -- ...`",
				argv[0], argv[0]);
	path = snapshot_url(argv, "/restore");
	if (client_job("POST", path, json_pack("{s:b}", "force", cfg->force), &m, &e) < 0)
		return ui_fail(&e, EXIT_FAIL);
	if (cfg->json)
		machine_print_json(json_incref(m));
	json_decref(m);
	return EXIT_OK;
}

const struct cli_command cmd_snapshot_create = {
    .name = "snapshot create",
    .usage = "NAME SNAP",
    .summary = "Keep a machine as it is now.",
    .more =
	"A running machine is kept with memory, devices and disk of one instant; it stands still "
	"for some milliseconds and goes on. One that does not run is kept as its disk. What the "
	"newest snapshot has of memory already is not kept twice.",
    .words = MACHINE_WORDS,
    .options = create_options,
    .n_options = ARRAY_SIZE(create_options),
    .config_size = sizeof(struct snapshot_config),
    .run = create_run,
};

const struct cli_command cmd_snapshot_list = {
    .name = "snapshot list",
    .usage = "NAME",
    .summary = "List the snapshots of a machine.",
    .words = MACHINE_WORDS,
    .options = json_option,
    .n_options = ARRAY_SIZE(json_option),
    .config_size = sizeof(struct snapshot_config),
    .run = list_run,
};

const struct cli_command cmd_snapshot_restore = {
    .name = "snapshot restore",
    .usage = "NAME SNAP [-- COMMAND...]",
    .summary = "Go back to a snapshot; a running machine's goes on running.",
    .more = "What the machine has written since is gone, unless another snapshot holds it. From a "
	    "snapshot with memory it goes on at once. A machine of `insula run --name` does so in "
	    "this terminal, with a shell or COMMAND in it, and lives as long as that.",
    .words = MACHINE_WORDS,
    .options = restore_options,
    .n_options = ARRAY_SIZE(restore_options),
    .config_size = sizeof(struct snapshot_config),
    .run = restore_run,
};

const struct cli_command cmd_snapshot_delete = {
    .name = "snapshot delete",
    .usage = "NAME SNAP",
    .summary = "Forget a snapshot, and what only it held.",
    .words = MACHINE_WORDS,
    .options = json_option,
    .n_options = ARRAY_SIZE(json_option),
    .config_size = sizeof(struct snapshot_config),
    .run = delete_run,
};
