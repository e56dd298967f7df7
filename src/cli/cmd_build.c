/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/cmd_build.c - insula build: an image out of a Containerfile, by buildah
 *
 * buildah knows the language and runs its steps, each in a container of insula-oci's; the image
 * comes to us as an archive.  Its storage is a place of the cache's, gone with the build.
 */
#include "base/dirs.h"
#include "cli/cli.h"
#include "cli/oci.h"
#include "cli/ui.h"
#include "image/exec.h"
#include "oci/transfer.h"

#include <errno.h>
#include <stdio.h>

#define ARGS_MAX 20

struct build_config {
	bool json, verbose;
	char *file, *tag;
	char *args[ARGS_MAX];
	size_t n_args;
};

static int set_json(void *config, const char *value, struct err *e)
{
	((struct build_config *)config)->json = true;
	return 0;
}

static int set_verbose(void *config, const char *value, struct err *e)
{
	((struct build_config *)config)->verbose = true;
	return 0;
}

static int set_file(void *config, const char *value, struct err *e)
{
	struct build_config *c = config;

	free(c->file);
	c->file = xstrdup(value);
	return 0;
}

static int set_tag(void *config, const char *value, struct err *e)
{
	struct build_config *c = config;

	free(c->tag);
	c->tag = xstrdup(value);
	return 0;
}

static int set_arg(void *config, const char *value, struct err *e)
{
	struct build_config *c = config;

	if (!strchr(value, '=') || value[0] == '=')
		return err_msg(e, -EINVAL, "'%s' is not NAME=VALUE", value);
	if (c->n_args == ARGS_MAX)
		return err_msg(e, -EINVAL, "more than %d", ARGS_MAX);
	c->args[c->n_args++] = xasprintf("--build-arg=%s", value);
	return 0;
}

static const struct cli_option build_options[] = {
    {"tag", "NAME[:TAG]", NULL, "the image's name; one without a host is localhost/NAME", set_tag},
    {"file", "FILE", NULL, "the Containerfile (default: CONTEXT/Containerfile or Dockerfile)",
     set_file},
    {"build-arg", "NAME=VALUE", NULL, "a value for ARG; repeatable", set_arg},
    {"json", NULL, NULL, "tell events as JSON lines on standard error", set_json},
    {"verbose", NULL, NULL, "show what buildah says", set_verbose},
};

static void build_fini(void *config)
{
	struct build_config *c = config;

	free(c->file);
	free(c->tag);
	for (size_t i = 0; i < c->n_args; i++)
		free(c->args[i]);
}

struct build {
	const struct build_config *cfg;
	struct progress *p;
	char *root, *runroot, *archive, *runtime, *name;
	struct workspace w;
};

/* "STEP 2/4: RUN ..." */
static void follow(void *opaque, const char *line)
{
	const struct build *b = opaque;

	if (b->cfg->verbose || strncmp(line, "STEP ", 5) == 0)
		progress_note(b->p, line);
}

static int run_buildah(struct build *b, const char *const *words, struct err *e)
{
	const char *argv[60] = {"buildah",  "--root",           b->root, "--runroot",
				b->runroot, "--storage-driver", "vfs"};
	struct exec x = {.argv = argv,
			 .line = follow,
			 .opaque = b,
			 .progress = b->p,
			 .tmp_dir = b->w.dir,
			 .contain = true};
	size_t n = 7;

	while (*words && n < ARRAY_SIZE(argv) - 1)
		argv[n++] = *words++;
	argv[n] = NULL;
	return exec_run(&x, e);
}

static int run_steps(struct build *b, const char *context, struct err *e)
{
	const char *words[50] = {"bud", "--tag", b->name, "--runtime", b->runtime};
	size_t n = 5;

	/* Without root buildah's own ways: user namespaces, slirp4netns. */
	if (geteuid() == 0) {
		words[n++] = "--isolation=oci";
		words[n++] = "--network=host";
	}
	if (b->cfg->file) {
		words[n++] = "--file";
		words[n++] = b->cfg->file;
	}
	for (size_t i = 0; i < b->cfg->n_args; i++)
		words[n++] = b->cfg->args[i];
	words[n++] = context;
	words[n] = NULL;
	return run_buildah(b, words, e);
}

static int fetch(struct build *b, struct err *e)
{
	autofree char *to = xasprintf("oci-archive:%s:%s", b->archive, b->name);
	const char *const words[] = {"push", b->name, to, NULL};

	return run_buildah(b, words, e);
}

static void tell_built(void *opaque, const char *reference)
{
	ui_clear_bar();
	printf("%s\n", reference);
}

static int build(struct cli_store *s, const struct build_config *cfg, const char *context,
		 struct progress *p, struct err *e)
{
	struct build b = {.cfg = cfg, .p = p};
	int r = dirs_program("insula-oci", &b.runtime, e);

	if (r == 0)
		r = workspace_make(&s->cache, &b.w, e);
	if (r < 0) {
		free(b.runtime);
		return r;
	}
	b.root = xasprintf("%s/root", b.w.dir);
	b.runroot = xasprintf("%s/run", b.w.dir);
	b.archive = xasprintf("%s/image.tar", b.w.dir);
	b.name = strchr(cfg->tag, '/') ? xstrdup(cfg->tag) : xasprintf("localhost/%s", cfg->tag);
	r = run_steps(&b, context, e);
	if (r == 0)
		r = fetch(&b, e);
	if (r == 0)
		r = image_load(&s->store, b.archive, b.name, tell_built, NULL, p, e);
	workspace_fini(&b.w);
	free(b.root);
	free(b.runroot);
	free(b.archive);
	free(b.runtime);
	free(b.name);
	return r;
}

static int build_run(void *config, int argc, char **argv, char **command)
{
	const struct build_config *cfg = config;
	struct cli_store s = {0};
	struct progress p;
	struct err e = {0};
	int r;

	ui_init(cfg->json, cfg->verbose);
	if (argc != 1 || !cfg->tag)
		return ui_error(EXIT_USAGE, "insula build --tag NAME CONTEXT: which directory, and "
					    "what is the image called?");
	if (!exec_have("buildah"))
		return ui_error(EXIT_FAIL, "insula build needs the program buildah (the package "
					   "buildah), which is not installed");
	ui_progress_init(&p);
	r = cli_store_open(&s, &e);
	if (r == 0)
		r = build(&s, cfg, argv[0], &p, &e);
	cli_store_close(&s);
	ui_clear_bar();
	return r < 0 ? ui_fail(&e, EXIT_NO_IMAGE) : EXIT_OK;
}

const struct cli_command cmd_build = {
    .name = "build",
    .usage = "CONTEXT",
    .summary = "Build an image from a Containerfile, with buildah.",
    .more = "The image can be run as a container or a virtual machine, pushed and saved. RUN steps "
	    "are containers of insula-oci's; as root they use the host's network. Nothing of the "
	    "build is kept but the image.",
    .options = build_options,
    .n_options = ARRAY_SIZE(build_options),
    .config_size = sizeof(struct build_config),
    .fini = build_fini,
    .run = build_run,
};
