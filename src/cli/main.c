/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/main.c - the command insula: finds the command's table and runs it
 */
#include "cli/cli.h"
#include "cli/ui.h"

#include <errno.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>

const struct cli_command *const cli_commands[] = {
    &cmd_run,
    &cmd_advise,
    &cmd_create,
    &cmd_start,
    &cmd_stop,
    &cmd_shutdown,
    &cmd_reboot,
    &cmd_reset,
    &cmd_pause,
    &cmd_resume,
    &cmd_define,
    &cmd_delete,
    &cmd_rename,
    &cmd_edit,
    &cmd_show,
    &cmd_list,
    &cmd_console,
    &cmd_exec,
    &cmd_cp,
    &cmd_logs,
    &cmd_stats,
    &cmd_top,
    &cmd_events,
    &cmd_wait,
    &cmd_autostart,
    &cmd_build,
    &cmd_image_build,
    &cmd_image_list,
    &cmd_image_inspect,
    &cmd_image_remove,
    &cmd_image_pull,
    &cmd_image_push,
    &cmd_image_save,
    &cmd_image_load,
    &cmd_image_prune,
    &cmd_disk_create,
    &cmd_disk_info,
    &cmd_disk_check,
    &cmd_disk_convert,
    &cmd_disk_resize,
    &cmd_disk_snapshot,
    &cmd_disk_remove,
    &cmd_disk_attach,
    &cmd_disk_detach,
    &cmd_nic_attach,
    &cmd_nic_detach,
    &cmd_pool_create,
    &cmd_pool_list,
    &cmd_pool_show,
    &cmd_pool_delete,
    &cmd_token_create,
    &cmd_token_list,
    &cmd_token_revoke,
    &cmd_snapshot_create,
    &cmd_snapshot_list,
    &cmd_snapshot_restore,
    &cmd_snapshot_delete,
    &cmd_fork,
    &cmd_clone,
    &cmd_template,
    &cmd_export,
    &cmd_import,
    &cmd_backup_create,
    &cmd_backup_verify,
    &cmd_backup_restore,
    &cmd_screenshot,
    &cmd_type,
    &cmd_keys,
    &cmd_eject,
    &cmd_insert,
    &cmd_doctor,
    &cmd_version,
    &cmd_completion,
    &cmd_help,
    NULL,
};

static int version_run(void *config, int argc, char **argv, char **command)
{
	printf("insula %s\n", INSULA_VERSION);
	return EXIT_OK;
}

const struct cli_command cmd_version = {
    .name = "version", .usage = "", .summary = "Show the version.", .run = version_run};

static int completion_run(void *config, int argc, char **argv, char **command)
{
	cli_print_completion();
	return EXIT_OK;
}

const struct cli_command cmd_completion = {
    .name = "completion",
    .usage = "",
    .summary = "Print a completion script for bash.",
    .run = completion_run,
};

/* The command whose words start @argv; *@used gets how many they are. */
static const struct cli_command *find_command(int argc, char **argv, int *used)
{
	for (const struct cli_command *const *c = cli_commands; *c; c++) {
		const char *name = (*c)->name, *space = strchr(name, ' ');
		size_t first = space ? (size_t)(space - name) : strlen(name);

		if (argc < 1 || strlen(argv[0]) != first || strncmp(argv[0], name, first) != 0)
			continue;
		if (space && (argc < 2 || strcmp(argv[1], space + 1) != 0))
			continue;
		*used = space ? 2 : 1;
		return *c;
	}
	return NULL;
}

static int unknown_command(int argc, char **argv)
{
	const char *names[128] = {NULL};
	autostrbuf struct strbuf words = {0};
	const char *near;
	size_t n = 0;

	if (cli_group(argv[0], ", ", &words))
		return ui_error(EXIT_USAGE, "insula %s: %s%s%s; there are %s", argv[0],
				argc > 1 ? "'" : "a command is missing", argc > 1 ? argv[1] : "",
				argc > 1 ? "' is no command" : "", words.data);
	for (const struct cli_command *const *c = cli_commands; *c && n < 127; c++)
		names[n++] = (*c)->name;
	near = cli_nearest(argv[0], names);
	if (near)
		return ui_error(EXIT_USAGE, "unknown command '%s'; did you mean '%s'?", argv[0],
				near);
	return ui_error(EXIT_USAGE, "unknown command '%s'; `insula help` lists all", argv[0]);
}

static int help_run(void *config, int argc, char **argv, char **command)
{
	const struct cli_command *cmd;
	int used;

	if (argc == 0) {
		cli_print_overview();
		return EXIT_OK;
	}
	cmd = find_command(argc, argv, &used);
	if (!cmd)
		return unknown_command(argc, argv);
	cli_print_help(cmd);
	return EXIT_OK;
}

const struct cli_command cmd_help = {
    .name = "help",
    .usage = "[COMMAND]",
    .summary = "Show this overview, or explain a command.",
    .run = help_run,
};

static int run_command(const struct cli_command *cmd, int argc, char **argv)
{
	autofree void *config = xcalloc(1, cmd->config_size + 1);
	autofree char **words = xcalloc((size_t)argc + 1, sizeof(*words));
	char **command;
	struct err e = {0};
	int n_words, status;
	bool help;

	/* Before the options are read: how to tell about a mistake in them. */
	for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++) {
		if (strcmp(argv[i], "--json") == 0)
			ui_init(true, false);
	}
	if (cmd->init)
		cmd->init(config);
	if (cli_parse(cmd, argc, argv, config, words, &n_words, &command, &help, &e) < 0) {
		status = ui_fail(&e, EXIT_USAGE);
	} else if (help) {
		cli_print_help(cmd);
		status = EXIT_OK;
	} else {
		status = cmd->run(config, n_words, words, command);
	}
	if (cmd->fini)
		cmd->fini(config);
	return status;
}

int main(int argc, char **argv)
{
	const struct cli_command *cmd;
	int used = 0;

	signal(SIGPIPE, SIG_IGN);
	ui_init(false, false);
	argc--;
	argv++;
	/* Before the command: which insulad is asked. */
	if (argc >= 2 && strcmp(argv[0], "--host") == 0) {
		setenv("INSULA_HOST", argv[1], 1);
		argc -= 2;
		argv += 2;
	}
	if (argc == 0 || strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "-h") == 0) {
		cli_print_overview();
		return argc == 0 ? EXIT_USAGE : EXIT_OK;
	}
	if (strcmp(argv[0], "--version") == 0)
		return version_run(NULL, 0, NULL, NULL);
	cmd = find_command(argc, argv, &used);
	if (!cmd)
		return unknown_command(argc, argv);
	return run_command(cmd, argc - used, argv + used);
}
