/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/cmd_fork.c - insula fork, insula clone: more machines from one
 */
#include "base/exit.h"
#include "base/fd.h"
#include "block/disk.h"
#include "cli/cli.h"
#include "cli/snapshots.h"
#include "cli/ui.h"
#include "live/identity.h"
#include "live/live.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#define FORKS_MAX            250
#define IDENTITY_PATIENCE_MS 30000

struct fork_config {
	unsigned int count;
	bool json, full;
};

static void fork_init(void *config)
{
	((struct fork_config *)config)->count = 1;
}

static int set_count(void *config, const char *value, struct err *e)
{
	struct fork_config *cfg = config;
	char *end;
	unsigned long n = strtoul(value, &end, 10);

	if (*end || n < 1 || n > FORKS_MAX)
		return err_msg(e, -EINVAL, "--count: '%s' is not between 1 and %d", value,
			       FORKS_MAX);
	cfg->count = (unsigned int)n;
	return 0;
}

static int set_json(void *config, const char *value, struct err *e)
{
	((struct fork_config *)config)->json = true;
	return 0;
}

static int set_full(void *config, const char *value, struct err *e)
{
	((struct fork_config *)config)->full = true;
	return 0;
}

static int set_linked(void *config, const char *value, struct err *e)
{
	((struct fork_config *)config)->full = false;
	return 0;
}

/* A name that has been used before has a disk: nothing is overwritten. */
static int claim_new(const char *name, int *lock, struct err *e)
{
	autofree char *disk = machine_current_disk(name);
	int r = snapshot_check_name(name, e);

	if (r == 0)
		r = machine_claim(name, lock, e);
	if (r == 0 && access(disk, F_OK) == 0) {
		close_p(lock);
		err_exit(e, 0, EXIT_NAME_IN_USE);
		return err_msg(e, -EEXIST, "a machine named '%s' has a disk already", name);
	}
	return r;
}

/* --- fork --- */

struct forked {
	char *name, *dir;
	struct run_dir run;
	int locks[2];
};

static int prepare_fork(struct forked *f, const char *parent, struct live_child *c, struct err *e)
{
	int r = claim_new(f->name, &f->locks[0], e);

	if (r == 0)
		r = run_dir_make(&f->run, e);
	if (r == 0)
		r = machine_note_clone(parent, f->name, e);
	if (r < 0)
		return r;
	f->locks[1] = f->run.lock;
	f->dir = machine_dir(f->name);
	*c = (struct live_child){.name = f->name,
				 .dir = f->dir,
				 .sockets = f->run.path,
				 .keep = f->locks,
				 .n_keep = ARRAY_SIZE(f->locks)};
	return 0;
}

/* Through the agent; a guest without one keeps its parent's names. */
static void rename_fork(const struct forked *f, const struct live_child *c)
{
	autofree char *vsock = run_dir_file(&f->run, "vsock");
	struct err e = {0};

	if (c->has_agent && live_new_identity(vsock, f->name, c->mac[0] ? c->mac : NULL,
					      IDENTITY_PATIENCE_MS, &e) < 0)
		ui_error(EXIT_OK, "%s", e.msg);
}

/* It runs: its name finds its socket, and its disk. */
static int settle_fork(struct forked *f, struct live_child *c, struct err *e)
{
	autofree char *control = run_dir_file(&f->run, "control");
	int r = machine_publish(f->name, control, e);

	for (unsigned int i = 0; i < LIVE_MAX_DISKS; i++) {
		if (i == 0 && r == 0 && c->disks[0])
			r = machine_set_disk(f->name, strrchr(c->disks[0], '/') + 1, e);
		free(c->disks[i]);
	}
	/* The directory is the machine's now: its lock is held there, too. */
	close_p(&f->run.lock);
	free(steal_ptr(&f->run.path));
	return r;
}

static void report(const struct fork_config *cfg, const struct live_child *children, double stall)
{
	for (unsigned int i = 0; i < cfg->count; i++) {
		if (cfg->json)
			printf("{\"name\":\"%s\",\"pid\":%d,\"ms\":%.3f,\"stall_ms\":%.3f}\n",
			       children[i].name, children[i].pid, children[i].ms, stall);
		else
			puts(children[i].name);
	}
}

static int on_switching(void *machine, const struct live_disks *disks, struct err *e)
{
	return disks->n ? machine_set_disk(machine, strrchr(disks->disk[0].overlay, '/') + 1, e)
			: 0;
}

static void on_not_switched(void *machine, const struct live_disks *disks)
{
	struct err e = {0};

	if (disks->n && machine_set_disk(machine, strrchr(disks->disk[0].path, '/') + 1, &e) < 0)
		ui_error(EXIT_FAIL, "%s", e.msg);
}

static int fork_machine(const struct fork_config *cfg, const char *parent, struct forked *f,
			struct live_child *children, struct err *e)
{
	autofree char *dir = machine_dir(parent), *link = xasprintf("%s/control", dir);
	char control[PATH_MAX];
	struct live_machine m = {.control = control,
				 .dir = dir,
				 .switching = on_switching,
				 .not_switched = on_not_switched,
				 .opaque = (void *)(uintptr_t)parent};
	json_t *answer;
	double stall;
	int r = 0;

	if (!realpath(link, control))
		return err_msg(e, -ENOENT, "no machine named '%s' is running", parent);
	for (unsigned int i = 0; i < cfg->count && r == 0; i++)
		r = prepare_fork(&f[i], parent, &children[i], e);
	if (r == 0)
		r = live_fork(&m, children, cfg->count, &answer, e);
	if (r < 0)
		return r;
	stall = json_real_value(json_object_get(answer, "stall_ms"));
	json_decref(answer);
	for (unsigned int i = 0; i < cfg->count && r == 0; i++) {
		rename_fork(&f[i], &children[i]);
		r = settle_fork(&f[i], &children[i], e);
	}
	if (r == 0)
		report(cfg, children, stall);
	return r;
}

static int fork_run(void *config, int argc, char **argv, char **command)
{
	const struct fork_config *cfg = config;
	struct live_child *children;
	struct forked *f;
	struct err e = {0};
	int r;

	ui_init(false, false);
	if (argc != 2)
		return ui_error(EXIT_USAGE, "insula fork RUNNING NEW");
	if (snapshot_check_name(argv[0], &e) < 0 || snapshot_check_name(argv[1], &e) < 0)
		return ui_fail(&e, EXIT_USAGE);
	f = xcalloc(cfg->count, sizeof(*f));
	children = xcalloc(cfg->count, sizeof(*children));
	for (unsigned int i = 0; i < cfg->count; i++) {
		f[i].locks[0] = f[i].locks[1] = f[i].run.lock = -1;
		f[i].name = cfg->count == 1 ? xstrdup(argv[1]) : xasprintf("%s-%u", argv[1], i + 1);
	}
	r = fork_machine(cfg, argv[0], f, children, &e);
	for (unsigned int i = 0; i < cfg->count; i++) {
		run_dir_fini(&f[i].run);
		close_p(&f[i].locks[0]);
		free(f[i].name);
		free(f[i].dir);
	}
	free(children);
	free(f);
	return r < 0 ? ui_fail(&e, EXIT_FAIL) : EXIT_OK;
}

/* --- clone --- */

static int clone_full(const char *disk, const char *name, struct err *e)
{
	autofree char *dir = machine_dir(name), *to = xasprintf("%s/disk.raw", dir);
	const struct qcow2_options o = {.refcount_order = -1};
	struct disk_copy c = {.from = disk, .to = to, .to_format = "raw", .options = &o};

	return disk_convert(&c, e);
}

/* What both see lies below: the source goes on in an overlay, too. */
static int clone_linked(const char *source, const char *disk, const char *name, struct err *e)
{
	autofree char *ours = NULL, *theirs = NULL;
	int r = machine_note_clone(source, name, e);

	if (r == 0)
		r = snapshot_overlay(name, disk, &ours, e);
	if (r == 0)
		r = snapshot_overlay(source, disk, &theirs, e);
	if (r == 0)
		r = machine_set_disk(source, theirs, e);
	return r == 0 ? machine_set_disk(name, ours, e) : r;
}

static int clone_run(void *config, int argc, char **argv, char **command)
{
	const struct fork_config *cfg = config;
	autoclose int source = -1, lock = -1;
	autofree char *disk = NULL;
	struct err e = {0};
	int r;

	ui_init(false, false);
	if (argc != 2)
		return ui_error(EXIT_USAGE, "insula clone SOURCE NEW");
	r = snapshot_check_name(argv[0], &e);
	if (r == 0)
		r = machine_must_exist(argv[0], &e);
	if (r == 0)
		r = machine_claim(argv[0], &source, &e);
	if (r == 0)
		r = claim_new(argv[1], &lock, &e);
	if (r < 0)
		return ui_fail(&e, EXIT_FAIL);
	disk = machine_current_disk(argv[0]);
	r = cfg->full ? clone_full(disk, argv[1], &e) : clone_linked(argv[0], disk, argv[1], &e);
	return r < 0 ? ui_fail(&e, EXIT_FAIL) : EXIT_OK;
}

static const struct cli_option fork_options[] = {
    {"count", "N", NULL, "so many, named NEW-1, NEW-2..., all of the same instant", set_count},
    {"json", NULL, NULL,
     "print a JSON line for each: name, pid, milliseconds until it ran, and how "
     "long the parent stood still",
     set_json},
};

static const struct cli_option clone_options[] = {
    {"linked", NULL, NULL, "share with the source what neither has written since (default)",
     set_linked},
    {"full", NULL, NULL, "copy the disk", set_full},
};

const struct cli_command cmd_fork = {
    .name = "fork",
    .usage = "RUNNING NEW",
    .summary = "Make a running copy of a running machine, which goes on.",
    .more =
	"Memory is shared until one of them writes; the copy has a disk and addresses of its own "
	"and lives until it is shut down. Shared folders and published ports stay the parent's.",
    .options = fork_options,
    .n_options = ARRAY_SIZE(fork_options),
    .config_size = sizeof(struct fork_config),
    .init = fork_init,
    .run = fork_run,
};

const struct cli_command cmd_clone = {
    .name = "clone",
    .usage = "SOURCE NEW",
    .summary = "Make a machine with the disk of another one, which does not run.",
    .options = clone_options,
    .n_options = ARRAY_SIZE(clone_options),
    .config_size = sizeof(struct fork_config),
    .init = fork_init,
    .run = clone_run,
};
