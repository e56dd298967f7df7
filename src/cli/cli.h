/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/cli.h - commands and their options as tables
 *
 * Help texts, shell completion and the check of the man pages come from the same rows that the
 * parser reads, so they cannot disagree.
 */
#pragma once

#include "base/err.h"
#include "base/exit.h"
#include "base/strbuf.h"

struct cli_option {
	const char *name;   /* without the dashes */
	const char *arg;    /* "SIZE"; NULL for a flag */
	const char *values; /* "auto kvm soft": what completion offers; may be NULL */
	const char *help;
	/* @value is NULL for a flag. */
	int (*set)(void *config, const char *value, struct err *e);
};

struct cli_command {
	const char *name;  /* "run", "image build" */
	const char *usage; /* what follows the name and [OPTIONS] */
	const char *summary;
	const char *more;  /* further paragraphs for --help; may be NULL */
	const char *words; /* shell command that lists what completion offers; NULL: images */
	const struct cli_option *options;
	size_t n_options;
	size_t config_size;
	void (*init)(void *config); /* defaults; may be NULL */
	void (*fini)(void *config); /* may be NULL */
	/* Everything before "--" that is no option, and everything after it.  Returns the exit
	 * status, having told the person about failures. */
	int (*run)(void *config, int argc, char **argv, char **command);
};

extern const struct cli_command cmd_run, cmd_advise, cmd_create, cmd_start, cmd_stop, cmd_shutdown,
    cmd_reboot, cmd_reset, cmd_pause, cmd_resume, cmd_delete, cmd_define, cmd_rename, cmd_edit,
    cmd_show, cmd_list, cmd_console, cmd_exec, cmd_cp, cmd_logs, cmd_stats, cmd_top, cmd_events,
    cmd_wait, cmd_autostart, cmd_image_build, cmd_image_list, cmd_image_inspect, cmd_image_remove,
    cmd_image_pull, cmd_image_push, cmd_image_save, cmd_image_load, cmd_image_prune,
    cmd_disk_create, cmd_disk_info, cmd_disk_check, cmd_disk_convert, cmd_disk_resize,
    cmd_disk_snapshot, cmd_disk_attach, cmd_disk_detach, cmd_pool_create, cmd_pool_list,
    cmd_pool_show, cmd_pool_delete, cmd_disk_remove, cmd_token_create, cmd_token_list,
    cmd_token_revoke, cmd_nic_attach, cmd_nic_detach, cmd_snapshot_create, cmd_snapshot_list,
    cmd_snapshot_restore, cmd_snapshot_delete, cmd_fork, cmd_clone, cmd_template, cmd_export,
    cmd_import, cmd_backup_create, cmd_backup_verify, cmd_backup_restore, cmd_screenshot, cmd_type,
    cmd_keys, cmd_eject, cmd_insert, cmd_build, cmd_doctor, cmd_version, cmd_completion, cmd_help;
/* Ends with NULL. */
extern const struct cli_command *const cli_commands[];

/* Fills in @config.  @argv's non-options end up in @words (room for @argc, NULL-terminated), what
 * follows "--" in *@command (NULL if there is no "--").  --help sets *@help. */
must_check int cli_parse(const struct cli_command *cmd, int argc, char **argv, void *config,
			 char **words, int *n_words, char ***command, bool *help, struct err *e);
void cli_print_help(const struct cli_command *cmd);
void cli_print_overview(void);
void cli_print_completion(void);
/* The second words of the commands that begin with @group, with @between between them; false if
 * there are none. */
bool cli_group(const char *group, const char *between, struct strbuf *ret);
/* The most similar of @names (ends with NULL), or NULL if none is near. */
const char *cli_nearest(const char *word, const char *const *names);

/* "512M", "2G", plain bytes; K, M, G, T with an optional "iB" or "B". */
must_check int cli_parse_size(const char *text, uint64_t *ret, struct err *e);
