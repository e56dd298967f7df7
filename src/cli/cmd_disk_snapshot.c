/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/cmd_disk_snapshot.c - insula disk snapshot create, list, apply, delete
 */
#include "cli/disk.h"
#include "cli/ui.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

static const struct cli_option options[] = {DISK_JSON_OPTION};

static json_t *describe(const struct qcow2_snapshot *s)
{
	return json_pack("{s:s, s:s, s:I, s:I, s:I}", "id", s->id, "name", s->name, "date",
			 (json_int_t)s->date, "disk_size", (json_int_t)s->disk_size,
			 "vm_state_size", (json_int_t)s->vm_state_size);
}

static void print_line(const struct qcow2_snapshot *s)
{
	time_t t = s->date;
	char when[32], size[32];
	struct tm tm;

	localtime_r(&t, &tm);
	strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", &tm);
	printf("%-4s %-24s %10s  %s\n", s->id, s->name, disk_size_text(s->disk_size, size), when);
}

static void list(struct blk *b, bool json)
{
	json_t *all = json_array();
	struct qcow2_snapshot s;

	for (uint32_t i = 0; qcow2_snapshot_get(b, i, &s) == 0; i++) {
		if (json)
			json_array_append_new(all, describe(&s));
		else
			print_line(&s);
	}
	if (json)
		disk_print_json(json_incref(all));
	json_decref(all);
}

static const struct action {
	const char *name;
	int (*run)(struct blk *b, const char *name, struct err *e);
} actions[] = {
    {"create", qcow2_snapshot_create},
    {"apply", qcow2_snapshot_apply},
    {"delete", qcow2_snapshot_delete},
};

static int run(void *config, int argc, char **argv, char **command)
{
	struct disk_config *cfg = config;
	const struct action *a = NULL;
	bool listing = argc > 0 && strcmp(argv[0], "list") == 0;
	struct err e = {0};
	struct disk d;
	int r = 0;

	ui_init(cfg->json, false);
	for (size_t i = 0; argc && i < ARRAY_SIZE(actions); i++) {
		if (strcmp(argv[0], actions[i].name) == 0)
			a = &actions[i];
	}
	if (!a && !listing)
		return ui_error(EXIT_USAGE,
				"insula disk snapshot: %s; there are create, list, "
				"apply and delete",
				argc ? "no such action" : "an action is missing");
	if (disk_need("snapshot", argc, a ? 3 : 2,
		      a ? "an action, a file and a name" : "an action and a file") != EXIT_OK)
		return EXIT_USAGE;
	r = disk_open(argv[1], "qcow2", DISK_NO_BACKING | (listing ? DISK_READ_ONLY : 0), &d, &e);
	if (r < 0)
		return ui_fail(&e, EXIT_BAD_DISK);
	if (listing)
		list(d.blk, cfg->json);
	else
		r = a->run(d.blk, argv[2], &e);
	disk_close(&d);
	return r < 0 ? ui_fail(&e, EXIT_BAD_DISK) : EXIT_OK;
}

const struct cli_command cmd_disk_snapshot = {
    .name = "disk snapshot",
    .usage = "create|list|apply|delete FILE [NAME]",
    .summary = "Keep states of a qcow2 image inside of it.",
    .more = "create keeps the disk as it is under NAME, apply puts it back to that, delete "
	    "forgets it. The disk must not be in use.",
    .options = options,
    .n_options = ARRAY_SIZE(options),
    .config_size = sizeof(struct disk_config),
    .init = disk_init,
    .fini = disk_fini,
    .run = run,
};
