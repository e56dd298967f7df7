/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/cmd_archive.c - insula export, import, backup: machines in files
 */
#include "base/exit.h"
#include "cli/cli.h"
#include "cli/client.h"
#include "cli/machine.h"
#include "cli/ui.h"
#include "live/machine_archive.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

struct archive_config {
	char *name, *after;
	bool json;
};

static int set_name(void *config, const char *value, struct err *e)
{
	struct archive_config *c = config;

	free(c->name);
	c->name = xstrdup(value);
	return 0;
}

static int set_after(void *config, const char *value, struct err *e)
{
	struct archive_config *c = config;

	free(c->after);
	c->after = realpath(value, NULL);
	return c->after ? 0 : err_set(e, -errno, "%s", value);
}

static int set_json(void *config, const char *value, struct err *e)
{
	((struct archive_config *)config)->json = true;
	return 0;
}

static void archive_fini(void *config)
{
	struct archive_config *c = config;

	free(c->name);
	free(c->after);
}

/* insulad works elsewhere; the file need not be there yet. */
static char *absolute(const char *path)
{
	char here[PATH_MAX];

	if (path[0] == '/' || !getcwd(here, sizeof(here)))
		return xstrdup(path);
	return xasprintf("%s/%s", here, path);
}

static int finish(const struct archive_config *c, json_t *result, int r, const struct err *e)
{
	if (r < 0)
		return ui_fail(e, EXIT_FAIL);
	if (c->json)
		machine_print_json(json_incref(result));
	else if (json_object_get(result, "name"))
		puts(machine_text(result, "name"));
	json_decref(result);
	return EXIT_OK;
}

/* export and backup. */
static int write_run(const struct archive_config *c, const char *command, int argc, char **argv,
		     const char *rest)
{
	autofree char *url = NULL, *path = NULL;
	json_t *body, *result = NULL;
	struct err e = {0};
	int r, status = machine_need_words(command, argc, 2, "NAME FILE");

	if (status != EXIT_OK)
		return status;
	url = client_machine_path(argv[0], rest);
	path = absolute(argv[1]);
	body = json_pack("{s:s}", "path", path);
	if (c->after)
		json_object_set_new(body, "after", json_string(c->after));
	r = client_job("POST", url, body, &result, &e);
	return finish(c, result, r, &e);
}

static int export_run(void *config, int argc, char **argv, char **command)
{
	return write_run(config, "export", argc, argv, "/export");
}

static int backup_create_run(void *config, int argc, char **argv, char **command)
{
	return write_run(config, "backup create", argc, argv, "/backup");
}

/* import and backup restore. */
static int import_run(void *config, int argc, char **argv, char **command)
{
	const struct archive_config *c = config;
	json_t *paths = json_array(), *body, *result = NULL;
	struct err e = {0};
	int r;

	if (argc < 1) {
		json_decref(paths);
		return ui_error(EXIT_USAGE, "insula import FILE [INCREMENT...]: which file?");
	}
	for (int i = 0; i < argc; i++) {
		autofree char *path = absolute(argv[i]);

		json_array_append_new(paths, json_string(path));
	}
	body = json_pack("{s:o}", "paths", paths);
	if (c->name)
		json_object_set_new(body, "name", json_string(c->name));
	r = client_job("POST", "/v1/import", body, &result, &e);
	return finish(c, result, r, &e);
}

/* Here: a file needs no insulad to be read. */
static int verify_run(void *config, int argc, char **argv, char **command)
{
	int status = EXIT_OK;

	if (argc < 1)
		return ui_error(EXIT_USAGE, "insula backup verify FILE...: which file?");
	for (int i = 0; i < argc; i++) {
		json_t *manifest = NULL;
		struct err e = {0};

		if (machine_archive_read(argv[i], NULL, NULL, &manifest, &e) < 0)
			status = ui_fail(&e, EXIT_FAIL);
		else
			printf("%s: %s of '%s'\n", argv[i], machine_text(manifest, "kind"),
			       machine_text(manifest, "name"));
		json_decref(manifest);
	}
	return status;
}

static const struct cli_option json_option[] = {
    {"json", NULL, NULL, "print JSON", set_json},
};

static const struct cli_option import_options[] = {
    {"name", "NAME", NULL, "its name instead of the one in the file", set_name},
    {"json", NULL, NULL, "print the machine as JSON", set_json},
};

static const struct cli_option backup_options[] = {
    {"after", "FILE", NULL, "an earlier backup: keep only what was written since", set_after},
    {"json", NULL, NULL, "print JSON", set_json},
};

const struct cli_command cmd_export = {
    .name = "export",
    .usage = "NAME FILE",
    .summary = "Write a machine to one file.",
    .more = "FILE is a .tar.zst with the disk, what the machine boots from, its configuration and "
	    "checksums. One that runs goes on; the file has its disk of one instant.",
    .words = MACHINE_WORDS,
    .options = json_option,
    .n_options = ARRAY_SIZE(json_option),
    .config_size = sizeof(struct archive_config),
    .fini = archive_fini,
    .run = export_run,
};

const struct cli_command cmd_import = {
    .name = "import",
    .usage = "FILE [INCREMENT...]",
    .summary = "Make a machine of what export or backup wrote.",
    .more = "With increments it is the machine as of the last one; each follows the file before.",
    .options = import_options,
    .n_options = ARRAY_SIZE(import_options),
    .config_size = sizeof(struct archive_config),
    .fini = archive_fini,
    .run = import_run,
};

const struct cli_command cmd_backup_create = {
    .name = "backup create",
    .usage = "NAME FILE",
    .summary = "Write a machine to a file after which increments can be made.",
    .more = "A snapshot named backup-ID remembers the instant until the next backup. With --after "
	    "only what was written since that backup is in FILE.",
    .words = MACHINE_WORDS,
    .options = backup_options,
    .n_options = ARRAY_SIZE(backup_options),
    .config_size = sizeof(struct archive_config),
    .fini = archive_fini,
    .run = backup_create_run,
};

const struct cli_command cmd_backup_verify = {
    .name = "backup verify",
    .usage = "FILE...",
    .summary = "Check that backups are whole.",
    .options = json_option,
    .n_options = ARRAY_SIZE(json_option),
    .config_size = sizeof(struct archive_config),
    .fini = archive_fini,
    .run = verify_run,
};

const struct cli_command cmd_backup_restore = {
    .name = "backup restore",
    .usage = "FILE [INCREMENT...]",
    .summary = "Make a machine of a backup and its increments, as `insula import` does.",
    .options = import_options,
    .n_options = ARRAY_SIZE(import_options),
    .config_size = sizeof(struct archive_config),
    .fini = archive_fini,
    .run = import_run,
};
