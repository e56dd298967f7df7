/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/cmd_fork.c - insula fork, insula clone, insula template: more machines from one
 *
 * insulad's are its to copy; those of `insula run --name` are copied here.
 */
#include "base/exit.h"
#include "base/fd.h"
#include "block/disk.h"
#include "cli/cli.h"
#include "cli/client.h"
#include "cli/loose.h"
#include "cli/machine.h"
#include "cli/policy.h"
#include "cli/run.h"
#include "cli/ui.h"
#include "live/identity.h"
#include "live/lineage.h"
#include "live/snapshots.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#define FORKS_MAX            250
#define IDENTITY_PATIENCE_MS 30000

struct fork_config {
	unsigned int count;
	bool json, full, off;
	struct policy_options policy; /* its labels alone */
};

POLICY_SETTER(fork_config, label)

static void fork_init(void *config)
{
	struct fork_config *cfg = config;

	policy_init(&cfg->policy);
	cfg->count = 1;
}

static void fork_fini(void *config)
{
	policy_fini(&((struct fork_config *)config)->policy);
}

/* A request about NEW. */
static json_t *copy_request(const struct fork_config *cfg, const char *name)
{
	json_t *o = json_pack("{s:s}", "name", name);

	if (cfg->policy.labels)
		json_object_set(o, "labels", cfg->policy.labels);
	return o;
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

static int prepare_fork(struct forked *f, struct live_child *c, struct err *e)
{
	int r = claim_new(f->name, &f->locks[0], e);

	if (r == 0)
		r = run_dir_make(&f->run, e);
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
			r = live_set_disk(f->dir, strrchr(c->disks[0], '/') + 1, e);
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

static int fork_machine(const struct fork_config *cfg, const char *parent, struct forked *f,
			struct live_child *children, struct err *e)
{
	autofree char *dir = machine_dir(parent), *link = xasprintf("%s/control", dir);
	char control[PATH_MAX];
	struct live_machine m = {.control = control,
				 .dir = dir,
				 .switching = snapshot_switching,
				 .not_switched = snapshot_not_switched,
				 .opaque = dir};
	json_t *answer;
	double stall;
	int r = 0;

	if (!realpath(link, control))
		return err_msg(e, -ENOENT, "no machine named '%s' is running", parent);
	for (unsigned int i = 0; i < cfg->count && r == 0; i++)
		r = prepare_fork(&f[i], &children[i], e);
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

static int fork_loose(const struct fork_config *cfg, char **argv)
{
	struct live_child *children;
	struct forked *f;
	struct err e = {0};
	int r;

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

/* Of insulad. */
static int fork_kept(const struct fork_config *cfg, char **argv)
{
	autofree char *path = client_machine_path(argv[0], "/fork");
	json_t *answer = NULL, *m, *body = copy_request(cfg, argv[1]);
	struct err e = {0};
	size_t i;

	json_object_set_new(body, "count", json_integer(cfg->count));
	if (client_job("POST", path, body, &answer, &e) < 0)
		return ui_fail(&e, EXIT_FAIL);
	json_array_foreach(json_object_get(answer, "machines"), i, m)
	{
		if (cfg->json)
			printf("{\"name\":\"%s\",\"pid\":%lld,\"ms\":%.3f,\"stall_ms\":%.3f}\n",
			       machine_text(m, "name"), machine_int(m, "pid"),
			       json_real_value(json_object_get(m, "ms")),
			       json_real_value(json_object_get(answer, "stall_ms")));
		else
			puts(machine_text(m, "name"));
	}
	json_decref(answer);
	return EXIT_OK;
}

static int fork_run(void *config, int argc, char **argv, char **command)
{
	struct err e = {0};

	ui_init(false, false);
	if (argc != 2)
		return ui_error(EXIT_USAGE, "insula fork RUNNING NEW");
	if (snapshot_check_name(argv[1], &e) < 0)
		return ui_fail(&e, EXIT_USAGE);
	return loose_is(argv[0]) ? fork_loose(config, argv) : fork_kept(config, argv);
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
	autofree char *to = machine_dir(name), *from = machine_dir(source);
	autofree char *ours = NULL, *theirs = NULL;
	int r = live_overlay_make(to, 0, disk, NULL, 0, &ours, e);

	if (r == 0)
		r = live_overlay_make(from, 0, disk, NULL, 0, &theirs, e);
	if (r == 0)
		r = live_set_disk(from, strrchr(theirs, '/') + 1, e);
	return r == 0 ? live_set_disk(to, strrchr(ours, '/') + 1, e) : r;
}

static int clone_loose(const struct fork_config *cfg, char **argv)
{
	autoclose int source = -1, lock = -1;
	autofree char *disk = NULL;
	struct err e = {0};
	int r = machine_must_exist(argv[0], &e);

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

static int clone_kept(const struct fork_config *cfg, char **argv)
{
	autofree char *path = client_machine_path(argv[0], "/clone");
	json_t *m = NULL, *body = copy_request(cfg, argv[1]);
	struct err e = {0};

	json_object_set_new(body, "full", json_boolean(cfg->full));
	if (client_job("POST", path, body, &m, &e) < 0)
		return ui_fail(&e, EXIT_FAIL);
	puts(machine_text(m, "name"));
	json_decref(m);
	return EXIT_OK;
}

static int clone_run(void *config, int argc, char **argv, char **command)
{
	struct err e = {0};

	ui_init(false, false);
	if (argc != 2)
		return ui_error(EXIT_USAGE, "insula clone SOURCE NEW");
	if (snapshot_check_name(argv[1], &e) < 0)
		return ui_fail(&e, EXIT_USAGE);
	return loose_is(argv[0]) ? clone_loose(config, argv) : clone_kept(config, argv);
}

/* --- template --- */

static int set_off(void *config, const char *value, struct err *e)
{
	((struct fork_config *)config)->off = true;
	return 0;
}

static int template_run(void *config, int argc, char **argv, char **command)
{
	const struct fork_config *cfg = config;
	autofree char *path = NULL;
	struct err e = {0};
	int status = machine_need_words("template", argc, 1, "NAME");

	if (status != EXIT_OK)
		return status;
	path = client_machine_path(argv[0], "/template");
	if (client_call("POST", path, json_pack("{s:b}", "template", !cfg->off), NULL, &e) < 0)
		return ui_fail(&e, EXIT_FAIL);
	return EXIT_OK;
}

#define LABEL_HELP "labels of yours instead of the source's; repeatable"

static const struct cli_option fork_options[] = {
    {"label", "KEY=VALUE", NULL, LABEL_HELP, set_label},
    {"count", "N", NULL, "so many, named NEW-1, NEW-2..., all of the same instant", set_count},
    {"json", NULL, NULL,
     "print a JSON line for each: name, pid, milliseconds until it ran, and how "
     "long the parent stood still",
     set_json},
};

static const struct cli_option clone_options[] = {
    {"label", "KEY=VALUE", NULL, LABEL_HELP, set_label},
    {"linked", NULL, NULL, "share with the source what neither has written since (default)",
     set_linked},
    {"full", NULL, NULL, "copy the disk", set_full},
};

static const struct cli_option template_options[] = {
    {"off", NULL, NULL, "make it a machine again", set_off},
};

const struct cli_command cmd_template = {
    .name = "template",
    .usage = "NAME",
    .summary = "Make a machine a template: it does not run, and is cloned.",
    .more = "`insula clone TEMPLATE NEW` makes a machine that shares the template's disk until it "
	    "writes.",
    .words = MACHINE_WORDS,
    .options = template_options,
    .n_options = ARRAY_SIZE(template_options),
    .config_size = sizeof(struct fork_config),
    .init = fork_init,
    .fini = fork_fini,
    .run = template_run,
};

const struct cli_command cmd_fork = {
    .name = "fork",
    .usage = "RUNNING NEW",
    .summary = "Make a running copy of a running machine, which goes on.",
    .more =
	"Memory is shared until one of them writes; the copy has a name, a disk and addresses of "
	"its own. Shared folders and published ports stay the parent's.",
    .words = MACHINE_WORDS,
    .options = fork_options,
    .n_options = ARRAY_SIZE(fork_options),
    .config_size = sizeof(struct fork_config),
    .init = fork_init,
    .fini = fork_fini,
    .run = fork_run,
};

const struct cli_command cmd_clone = {
    .name = "clone",
    .usage = "SOURCE NEW",
    .summary = "Make a machine with the disk of another one.",
    .more = "Of a machine that runs it is the disk of one instant, as after a power cut.",
    .words = MACHINE_WORDS,
    .options = clone_options,
    .n_options = ARRAY_SIZE(clone_options),
    .config_size = sizeof(struct fork_config),
    .init = fork_init,
    .fini = fork_fini,
    .run = clone_run,
};
