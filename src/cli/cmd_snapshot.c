/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/cmd_snapshot.c - insula snapshot create, list, restore, delete
 */
#include "base/exit.h"
#include "cli/cli.h"
#include "cli/session.h"
#include "cli/snapshots.h"
#include "cli/ui.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

struct snapshot_config {
	bool json, verbose, compress;
};

static int set_json(void *config, const char *value, struct err *e)
{
	((struct snapshot_config *)config)->json = true;
	return 0;
}

static int set_verbose(void *config, const char *value, struct err *e)
{
	((struct snapshot_config *)config)->verbose = true;
	return 0;
}

static int set_compress(void *config, const char *value, struct err *e)
{
	((struct snapshot_config *)config)->compress = true;
	return 0;
}

static const struct cli_option create_options[] = {
    {"compress", NULL, NULL, "take less room; it takes longer to go on from", set_compress},
    {"json", NULL, NULL, "print JSON", set_json},
};

static const struct cli_option json_option[] = {
    {"json", NULL, NULL, "print JSON", set_json},
};

static const struct cli_option restore_options[] = {
    {"verbose", NULL, NULL, "show the guest's console and what Insula decides, on standard error",
     set_verbose},
};

static int need(const char *what, int argc, int n)
{
	return argc == n ? EXIT_OK
			 : ui_error(EXIT_USAGE, "insula snapshot %s: %s", what,
				    argc > n ? "too many words" : "which machine and snapshot?");
}

/* --- create, delete --- */

static int create_run(void *config, int argc, char **argv, char **command)
{
	const struct snapshot_config *cfg = config;
	struct err e = {0};
	double stall;

	ui_init(cfg->json, false);
	if (need("create", argc, 2) != EXIT_OK)
		return EXIT_USAGE;
	if (snapshot_check_name(argv[0], &e) < 0 ||
	    snapshot_make(argv[0], argv[1], cfg->compress, &stall, &e) < 0)
		return ui_fail(&e, EXIT_FAIL);
	if (cfg->json)
		printf("{\"name\":\"%s\",\"stall_ms\":%.3f}\n", argv[1], stall);
	return EXIT_OK;
}

static int delete_run(void *config, int argc, char **argv, char **command)
{
	struct err e = {0};

	if (need("delete", argc, 2) != EXIT_OK)
		return EXIT_USAGE;
	if (snapshot_check_name(argv[0], &e) < 0 || snapshot_remove(argv[0], argv[1], &e) < 0)
		return ui_fail(&e, EXIT_FAIL);
	return EXIT_OK;
}

/* --- list --- */

static int64_t state_bytes(const char *machine, const char *snapshot)
{
	autofree char *path = snapshot_file(machine, snapshot, "state");
	struct stat st;

	return stat(path, &st) == 0 ? (int64_t)st.st_blocks * 512 : 0;
}

static void print_line(const char *machine, const struct snapshot_record *s)
{
	time_t t = (time_t)s->created;
	char when[32];
	struct tm tm;

	localtime_r(&t, &tm);
	strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", &tm);
	printf("%-24s %-19s  %-8s %6.1f MiB  %s\n", s->name, when, s->state ? "machine" : "disk",
	       (double)state_bytes(machine, s->name) / (1 << 20), s->disk);
}

static int list_run(void *config, int argc, char **argv, char **command)
{
	const struct snapshot_config *cfg = config;
	struct snapshot_record *all = NULL;
	json_t *list = json_array();
	struct err e = {0};
	size_t n = 0;
	int r;

	if (argc != 1)
		return ui_error(EXIT_USAGE, "insula snapshot list: which machine?");
	r = snapshot_check_name(argv[0], &e);
	if (r == 0)
		r = snapshot_read_all(argv[0], &all, &n, &e);
	for (size_t i = 0; i < n; i++) {
		if (cfg->json)
			json_array_append_new(
			    list, json_pack("{s:s, s:I, s:b, s:s, s:I}", "name", all[i].name,
					    "created", (json_int_t)all[i].created, "state",
					    all[i].state, "disk", all[i].disk, "bytes",
					    (json_int_t)state_bytes(argv[0], all[i].name)));
		else if (r == 0)
			print_line(argv[0], &all[i]);
		snapshot_record_fini(&all[i]);
	}
	if (r == 0 && cfg->json) {
		json_dumpf(list, stdout, JSON_INDENT(1));
		putchar('\n');
	}
	json_decref(list);
	free(all);
	return r < 0 ? ui_fail(&e, EXIT_FAIL) : EXIT_OK;
}

/* --- restore --- */

static void put_disk(json_t *description, const char *path)
{
	json_t *disks = json_object_get(description, "disks"), *d;
	size_t i;

	json_array_foreach(disks, i, d)
	{
		const char *serial = json_string_value(json_object_get(d, "serial"));

		if (!serial || strcmp(serial, "root") != 0)
			continue;
		json_object_set_new(d, "path", json_string(path));
		json_object_set_new(d, "format", json_string("qcow2"));
	}
}

/* As `insula run` from here on: the machine lives as long as we do. */
static int go_on(const struct snapshot_config *cfg, const char *machine,
		 const struct snapshot_record *s, char **command, struct err *e)
{
	autofree char *state = snapshot_file(machine, s->name, "state");
	autofree char *disk = machine_current_disk(machine);
	struct run_config run = {.verbose = cfg->verbose};
	struct session_config session = {.run = &run, .argv = command, .clean_end = true};
	struct run_dir dir = {.lock = -1};
	struct vm vm = {.ready = -1, .parent = -1, .errors = -1, .console = -1, .control = -1};
	int status = EXIT_FAIL, r = run_dir_make(&dir, e);

	put_disk(s->description, disk);
	session.agent = json_object_get(s->description, "vsock") != NULL;
	session.tty = (!command || !command[0]) || (isatty(STDIN_FILENO) && isatty(STDOUT_FILENO));
	if (r == 0)
		r = vm_restore(s->description, state, cfg->verbose, &dir, &vm, e);
	if (r == 0) {
		r = machine_publish(machine, vm.control_path, e);
		if (r == 0)
			status = session_run(&session, &vm);
		machine_unpublish(machine);
	}
	vm_fini(&vm);
	run_dir_fini(&dir);
	return r < 0 ? r : status;
}

static int restore_run(void *config, int argc, char **argv, char **command)
{
	const struct snapshot_config *cfg = config;
	struct snapshot_record s = {0};
	autoclose int lock = -1;
	struct err e = {0};
	int r;

	ui_init(false, cfg->verbose);
	if (need("restore", argc, 2) != EXIT_OK)
		return EXIT_USAGE;
	r = snapshot_check_name(argv[0], &e);
	if (r == 0)
		r = snapshot_read(argv[0], argv[1], &s, &e);
	if (r == 0)
		r = machine_claim(argv[0], &lock, &e);
	if (r == 0 && command && !s.state)
		r = err_msg(&e, -EINVAL, "snapshot '%s' is of the disk only: nothing runs in it",
			    argv[1]);
	if (r == 0)
		r = snapshot_put_back(argv[0], &s, &e);
	if (r == 0 && s.state)
		r = go_on(cfg, argv[0], &s, command, &e);
	snapshot_record_fini(&s);
	return r < 0 ? ui_fail(&e, EXIT_FAIL) : r;
}

const struct cli_command cmd_snapshot_create = {
    .name = "snapshot create",
    .usage = "NAME SNAP",
    .summary = "Keep a named machine as it is now.",
    .more =
	"A running machine is kept with memory, devices and disk of one instant; it stands still "
	"for some milliseconds and goes on. One that does not run is kept as its disk.",
    .options = create_options,
    .n_options = ARRAY_SIZE(create_options),
    .config_size = sizeof(struct snapshot_config),
    .run = create_run,
};

const struct cli_command cmd_snapshot_list = {
    .name = "snapshot list",
    .usage = "NAME",
    .summary = "List the snapshots of a named machine.",
    .options = json_option,
    .n_options = ARRAY_SIZE(json_option),
    .config_size = sizeof(struct snapshot_config),
    .run = list_run,
};

const struct cli_command cmd_snapshot_restore = {
    .name = "snapshot restore",
    .usage = "NAME SNAP [-- COMMAND...]",
    .summary = "Go back to a snapshot; a running machine's goes on running.",
    .more = "The machine must not run. What it has written since is gone, unless another snapshot "
	    "holds it. From a snapshot of a running machine it goes on at once, with a shell or "
	    "COMMAND in it as in `insula run`, and lives as long as that.",
    .options = restore_options,
    .n_options = ARRAY_SIZE(restore_options),
    .config_size = sizeof(struct snapshot_config),
    .run = restore_run,
};

const struct cli_command cmd_snapshot_delete = {
    .name = "snapshot delete",
    .usage = "NAME SNAP",
    .summary = "Forget a snapshot, and what only it held.",
    .config_size = sizeof(struct snapshot_config),
    .run = delete_run,
};
