/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/cmd_create.c - insula create, and insula run --detach
 */
#include "base/exit.h"
#include "cli/cli.h"
#include "cli/client.h"
#include "cli/machine.h"
#include "cli/machine_options.h"
#include "cli/oci.h"
#include "cli/policy.h"
#include "cli/ui.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

struct create_config {
	struct run_config run; /* first: the options of `insula run` set it */
	struct policy_options policy;
	bool start;
};

static int set_json(void *config, const char *value, struct err *e)
{
	((struct create_config *)config)->run.json = true;
	return 0;
}

static int set_tty(void *config, const char *value, struct err *e)
{
	((struct create_config *)config)->run.tty = true;
	return 0;
}

static int set_start(void *config, const char *value, struct err *e)
{
	((struct create_config *)config)->start = true;
	return 0;
}

POLICY_SETTERS(create_config)

static const struct cli_option create_options[] = {
    {"isolation", "KIND", "vm container",
     "a virtual machine, or a container on this host's kernel; the default is container for images "
     "of registries, else vm",
     run_set_isolation},
    RUN_MACHINE_OPTIONS,
    {"env", "NAME[=VALUE]", NULL,
     "of a container: a variable; without VALUE pass ours on; repeatable", run_set_env},
    {"workdir", "DIR", NULL, "of a container: where its command starts (default: the image's)",
     run_set_workdir},
    {"user", "USER[:GROUP]", NULL, "of a container: who runs its command (default: the image's)",
     run_set_user},
    {"tty", NULL, NULL, "of a container: its command has a terminal, which is the console",
     set_tty},
    {"name", "NAME", NULL, "its name: letters, digits and '-' (one is made up if not given)",
     run_set_name},
    {"label", "KEY=VALUE", NULL, POLICY_LABEL_HELP, set_label},
    {"restart", "no|on-failure|always", "no on-failure always", POLICY_RESTART_HELP, set_restart},
    {"autostart", NULL, NULL, "start it with the host (or with the user's insulad)", set_autostart},
    {"autostart-order", "N", NULL, POLICY_ORDER_HELP, set_autostart_order},
    POLICY_LIMIT_OPTIONS,
    {"watchdog", "SECONDS", NULL, POLICY_WATCHDOG_HELP, set_watchdog},
    {"start", NULL, NULL, "start it at once", set_start},
    {"json", NULL, NULL, "print the machine as JSON", set_json},
};

static void create_init(void *config)
{
	struct create_config *c = config;

	machine_config_init(&c->run.m);
	policy_init(&c->policy);
}

static void create_fini(void *config)
{
	struct create_config *c = config;

	machine_config_fini(&c->run.m);
	policy_fini(&c->policy);
	free(c->run.name);
	free(c->run.isolation);
	free(c->run.workdir);
	free(c->run.user);
	for (size_t i = 0; i < c->run.n_env; i++)
		free(c->run.env[i]);
}

/* insulad works elsewhere. */
static int make_absolute(char **path, struct err *e)
{
	char *full;

	if (!*path || (*path)[0] == '/')
		return 0;
	full = realpath(*path, NULL);
	if (!full) {
		err_exit(e, 0, EXIT_BAD_KERNEL);
		return err_set(e, -errno, "%s", *path);
	}
	free(*path);
	*path = full;
	return 0;
}

/* A name of an image that is a path, as `insula run` tells: one with a slash, or . and .. */
static int take_image(struct machine_config *m, const char *image, struct err *e)
{
	bool path = strncmp(image, "deb:", 4) != 0 && (strchr(image, '/') || image[0] == '.');
	int r;

	free(m->image);
	m->image = xstrdup(image);
	r = path ? make_absolute(&m->image, e) : 0;
	return r < 0 ? err_exit(e, r, EXIT_NO_IMAGE) : 0;
}

static char **copy_words(char *const *v, size_t n)
{
	char **copy = n ? xcalloc(n + 1, sizeof(*copy)) : NULL;

	for (size_t i = 0; i < n; i++)
		copy[i] = xstrdup(v[i]);
	return copy;
}

/* A container: its process, and its image's name as it is. */
static int complete_container(struct run_config *run, const char *image, char **command,
			      struct err *e)
{
	struct machine_container *c = &run->m.container;
	size_t n = 0;
	int r;

	while (command && command[n])
		n++;
	c->on = true;
	c->command = copy_words(command, n);
	c->env = copy_words(run->env, run->n_env);
	c->workdir = run->workdir ? xstrdup(run->workdir) : NULL;
	c->user = run->user ? xstrdup(run->user) : NULL;
	c->tty = run->tty;
	run->m.image = xstrdup(image);
	r = machine_config_check(&run->m, e);
	return r < 0 ? err_exit(e, r, EXIT_USAGE) : 0;
}

static int check_vm(const struct run_config *run, const char *image, bool registry, char **command,
		    struct err *e)
{
	int r = 0;

	if (registry)
		r = err_msg(e, -EINVAL,
			    "a virtual machine of insulad cannot be made from '%s' yet: give "
			    "--isolation container",
			    image);
	else if (run->isolation && run->isolation[0] == 'c')
		r = err_msg(e, -EINVAL,
			    "a container is made from an image of a registry, or deb:SUITE");
	else if ((command && command[0]) || run->n_env || run->workdir || run->user || run->tty)
		r = err_msg(e, -EINVAL,
			    "a command, --env, --workdir, --user and --tty are of containers: "
			    "`insula exec` runs a command in a machine");
	return r < 0 ? err_exit(e, r, EXIT_USAGE) : 0;
}

static int complete_vm(struct machine_config *m, const char *image, struct err *e)
{
	int r = image ? take_image(m, image, e) : 0;

	if (r == 0)
		r = make_absolute(&m->kernel, e);
	if (r == 0)
		r = make_absolute(&m->initrd, e);
	if (r == 0)
		r = make_absolute(&m->vnc_tls, e);
	if (!image && !m->kernel && !m->firmware && m->n_disks)
		m->firmware = xstrdup("bios");
	if (r == 0)
		r = machine_config_check(m, e);
	return r < 0 && !e->exit_code ? err_exit(e, r, EXIT_USAGE) : r;
}

static int complete(struct run_config *run, const char *image, bool registry, char **command,
		    struct err *e)
{
	int r;

	if (registry && (!run->isolation || run->isolation[0] == 'c'))
		return complete_container(run, image, command, e);
	r = check_vm(run, image, registry, command, e);
	return r < 0 ? r : complete_vm(&run->m, image, e);
}

static bool is_registry_image(const char *name, const char *isolation)
{
	struct cli_store s = {0};
	bool is;

	if (name && strncmp(name, "deb:", 4) == 0)
		return isolation && isolation[0] == 'c';
	if (!name || cli_store_open(&s, NULL) < 0)
		return false;
	is = cli_is_registry_image(&s, name);
	cli_store_close(&s);
	return is;
}

/* *@ret = the machine as JSON. */
static int create(const struct run_config *run, const struct policy_options *policy, json_t **ret,
		  struct err *e)
{
	json_t *body = json_pack("{s:o}", "config", machine_config_format(&run->m));

	if (run->name)
		json_object_set_new(body, "name", json_string(run->name));
	if (policy)
		policy_format(policy, body);
	return client_job("POST", "/v1/machines", body, ret, e);
}

static int start(const char *name, struct err *e)
{
	autofree char *path = client_machine_path(name, "/start");

	return client_call("POST", path, NULL, NULL, e);
}

static int create_run(void *config, int argc, char **argv, char **command)
{
	struct create_config *c = config;
	struct err e = {0};
	json_t *machine = NULL;
	int r;

	if (argc > 1)
		return ui_error(EXIT_USAGE, "insula create IMAGE [-- COMMAND...]: one image");
	r = complete(&c->run, argv[0], is_registry_image(argv[0], c->run.isolation), command, &e);
	if (r == 0)
		r = create(&c->run, &c->policy, &machine, &e);
	if (r == 0 && c->start)
		r = start(machine_text(machine, "uuid"), &e);
	if (r == 0 && c->run.json)
		machine_print_json(json_incref(machine));
	else if (r == 0)
		puts(machine_text(machine, "name"));
	json_decref(machine);
	return r < 0 ? ui_fail(&e, EXIT_FAIL) : EXIT_OK;
}

const struct cli_command cmd_create = {
    .name = "create",
    .usage = "[IMAGE] [-- COMMAND...]",
    .summary = "Make a machine that lasts, and print its name.",
    .more = "The options are those of `insula run`; without IMAGE, --kernel or --firmware and "
	    "--disk say what starts. The machine has a disk of its own, made from the image, and "
	    "is kept until `insula delete`. It does not run yet, unless --start is given. A "
	    "container, of an image of a registry, runs COMMAND or the image's own.",
    .options = create_options,
    .n_options = ARRAY_SIZE(create_options),
    .config_size = sizeof(struct create_config),
    .init = create_init,
    .fini = create_fini,
    .run = create_run,
};

/* --- run --detach --- */

/* A later run of a name uses its machine again, as without --detach. */
static int find_named(const char *name, json_t **ret, struct err *e)
{
	autofree char *path = client_machine_path(name, "");
	int r = client_call("GET", path, NULL, ret, e);

	if (r == 0 && strcmp(machine_text(*ret, "name"), name) != 0) {
		json_decref(*ret); /* a longer name that begins so */
		*ret = NULL;
		r = -ENOENT;
	}
	return r;
}

int run_detached(struct run_config *cfg, const char *image, bool registry, char **command)
{
	struct err e = {0};
	json_t *machine = NULL;
	int r = complete(cfg, image, registry, command, &e);

	if (r == 0) {
		r = cfg->name ? find_named(cfg->name, &machine, &e) : -ENOENT;
		if (r == -ENOENT || r == -EINVAL) {
			e = (struct err){0};
			r = create(cfg, NULL, &machine, &e);
		}
	}
	if (r == 0)
		r = start(machine_text(machine, "uuid"), &e);
	if (r == 0)
		puts(machine_text(machine, "name"));
	json_decref(machine);
	return r < 0 ? ui_fail(&e, EXIT_FAIL) : EXIT_OK;
}
