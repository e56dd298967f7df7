/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/cmd_advise.c - insula advise: which isolation fits an image, and why
 */
#include "cli/cli.h"
#include "cli/client.h"
#include "cli/oci.h"
#include "cli/ui.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

struct advise_config {
	bool json;
};

struct advice {
	const char *isolation;
	json_t *reasons;
};

static int set_json(void *config, const char *value, struct err *e)
{
	((struct advise_config *)config)->json = true;
	return 0;
}

static const struct cli_option advise_options[] = {
    {"json", NULL, NULL, "print JSON", set_json},
};

static void add_reason(struct advice *a, const char *text)
{
	json_array_append_new(a->reasons, json_string(text));
}

/* Its words start an init, which wants a machine of its own. */
static bool starts_init(const struct image_config *c)
{
	static const char *const inits[] = {"/sbin/init", "/usr/sbin/init", "/lib/systemd/systemd",
					    "/usr/lib/systemd/systemd", "/init"};
	const struct strings *words = c->entrypoint.n ? &c->entrypoint : &c->cmd;

	for (size_t i = 0; words->n && i < ARRAY_SIZE(inits); i++) {
		if (strcmp(words->v[0], inits[i]) == 0)
			return true;
	}
	return false;
}

static void judge(const struct image_config *c, struct advice *a)
{
	if (starts_init(c)) {
		a->isolation = "vm";
		add_reason(a, "its command is an init; a container runs one too, but with no "
			      "devices, mounts or limits of its own");
		add_reason(a,
			   "a machine has a kernel of its own: modules, sysctls and mounts work");
		return;
	}
	a->isolation = "container";
	add_reason(a, "it runs one application on any Linux kernel");
	add_reason(a, "a container starts in a fraction of a second and takes no memory for a "
		      "kernel; its programs run on the host's CPU directly");
	if (geteuid() != 0)
		add_reason(a,
			   "without root, a container's limits on memory and CPU are left out; a "
			   "machine's hold");
	add_reason(a, "for programs that you do not trust give --isolation vm: a container shares "
		      "the host's kernel");
}

static int advise(struct cli_store *s, const char *name, struct advice *a, struct err *e)
{
	struct oci_image i;
	struct image_source source = {0};
	int r;

	if (cli_is_registry_image(s, name)) {
		r = oci_store_find(&s->store, name, &i, e);
		if (r == -ENOENT)
			return err_msg(e, r, "image '%s' is not here: `insula image pull` gets it",
				       name);
		if (r == 0) {
			judge(&i.config, a);
			oci_image_fini(&i);
		}
		return r;
	}
	r = image_source_parse(name, &source, e);
	if (r < 0)
		return r;
	a->isolation = "vm";
	add_reason(a,
		   source.kind == IMAGE_DISK
		       ? "it is a disk with an operating system, perhaps with a kernel of its own"
		       : "it is an operating system, made to be booted");
	add_reason(a, "a machine has a kernel of its own, and shares none with the host");
	image_source_fini(&source);
	return 0;
}

static bool has_any(const json_t *config, const char *const *keys)
{
	for (; *keys; keys++) {
		if (json_object_get(config, *keys))
			return true;
	}
	return false;
}

/* A machine of insulad's: what it is made of, and what it was given. */
static int advise_machine(struct cli_store *s, const char *name, struct advice *a, struct err *e)
{
	static const char *const own_system[] = {"kernel", "firmware", "disks", "vnc", NULL};
	autofree char *path = client_machine_path(name, "");
	json_t *m = NULL, *config;
	bool container;
	int r = client_call("GET", path, NULL, &m, e);

	if (r < 0)
		return r;
	config = json_object_get(m, "config");
	container = json_object_get(config, "isolation") != NULL;
	if (has_any(config, own_system)) {
		a->isolation = "vm";
		add_reason(a, "it has a kernel, firmware, disks or a screen of its own, which only "
			      "a machine has");
	} else {
		r = advise(s, json_string_value(json_object_get(config, "image")), a, e);
	}
	if (r == 0)
		add_reason(a, container == (a->isolation[0] == 'c') ? "it is one already"
			      : container                           ? "it is a container now"
					  : "it is a virtual machine now");
	json_decref(m);
	return r;
}

/* An image goes first: machines have names without slashes and colons. */
static int advise_any(struct cli_store *s, const char *name, struct advice *a, struct err *e)
{
	struct stat st;

	if (strpbrk(name, "/:") || stat(name, &st) == 0 || cli_is_registry_image(s, name))
		return advise(s, name, a, e);
	return advise_machine(s, name, a, e);
}

static int advise_run(void *config, int argc, char **argv, char **command)
{
	const struct advise_config *cfg = config;
	struct advice a = {.reasons = json_array()};
	struct cli_store s = {0};
	struct err e = {0};
	json_t *reason;
	size_t i;
	int r;

	ui_init(cfg->json, false);
	if (argc != 1) {
		json_decref(a.reasons);
		return ui_error(EXIT_USAGE, "insula advise: which image or machine?");
	}
	r = cli_store_open(&s, &e);
	if (r == 0)
		r = advise_any(&s, argv[0], &a, &e);
	if (r == 0 && cfg->json) {
		json_t *o = json_pack("{s:s, s:O}", "isolation", a.isolation, "reasons", a.reasons);

		json_dumpf(o, stdout, JSON_INDENT(2));
		putchar('\n');
		json_decref(o);
	} else if (r == 0) {
		printf("%s\n", a.isolation);
		json_array_foreach(a.reasons, i, reason)
		    printf("- %s\n", json_string_value(reason));
	}
	json_decref(a.reasons);
	cli_store_close(&s);
	return r < 0 ? ui_fail(&e, e.exit_code ? e.exit_code : EXIT_NO_IMAGE) : EXIT_OK;
}

const struct cli_command cmd_advise = {
    .name = "advise",
    .usage = "IMAGE|NAME",
    .summary =
	"Say whether an image, or a machine of insulad, is better as a virtual machine or as "
	"a container, and why.",
    .options = advise_options,
    .n_options = ARRAY_SIZE(advise_options),
    .config_size = sizeof(struct advise_config),
    .run = advise_run,
};
