/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/cmd_image_oci.c - insula image pull, push, save, load, prune
 */
#include "cli/cli.h"
#include "cli/oci.h"
#include "cli/ui.h"
#include "oci/policy.h"
#include "oci/transfer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

struct oci_config {
	bool json, verbose;
	char *platform, *output;
};

static int set_json(void *config, const char *value, struct err *e)
{
	((struct oci_config *)config)->json = true;
	return 0;
}

static int set_verbose(void *config, const char *value, struct err *e)
{
	((struct oci_config *)config)->verbose = true;
	return 0;
}

static int set_platform(void *config, const char *value, struct err *e)
{
	struct oci_config *cfg = config;

	free(cfg->platform);
	cfg->platform = xstrdup(value);
	return 0;
}

static int set_output(void *config, const char *value, struct err *e)
{
	struct oci_config *cfg = config;

	free(cfg->output);
	cfg->output = xstrdup(value);
	return 0;
}

static void config_fini(void *config)
{
	struct oci_config *cfg = config;

	free(cfg->platform);
	free(cfg->output);
}

#define COMMON_OPTIONS                                                                             \
	{"json", NULL, NULL, "tell events as JSON lines on standard error", set_json},             \
	{                                                                                          \
		"verbose", NULL, NULL, "tell more", set_verbose                                    \
	}

static const struct cli_option pull_options[] = {
    {"platform", "OS/ARCH[/VARIANT]", NULL, "of an image for several (default linux/amd64)",
     set_platform},
    COMMON_OPTIONS,
};
static const struct cli_option save_options[] = {
    {"output", "FILE", NULL, "where to (default: standard output)", set_output},
    COMMON_OPTIONS,
};
static const struct cli_option common_options[] = {COMMON_OPTIONS};

/* The store and a progress to show, for @argc words between @min and @max. */
static int begin(const struct oci_config *cfg, const char *usage, int argc, int min, int max,
		 struct cli_store *s, struct progress *p)
{
	struct err e = {0};

	ui_init(cfg->json, cfg->verbose);
	ui_progress_init(p);
	if (argc < min || argc > max)
		return ui_error(EXIT_USAGE, "usage: insula image %s", usage);
	return cli_store_open(s, &e) < 0 ? ui_fail(&e, EXIT_FAIL) : EXIT_OK;
}

static int end(struct cli_store *s, int r, const struct err *e)
{
	ui_clear_bar();
	cli_store_close(s);
	return r < 0 ? ui_fail(e, e->code == -EBUSY ? EXIT_FAIL : EXIT_NO_IMAGE) : EXIT_OK;
}

static int pull_run(void *config, int argc, char **argv, char **command)
{
	const struct oci_config *cfg = config;
	autofree char *platform = cfg->platform ? xstrdup(cfg->platform) : NULL;
	struct platform want = platform_host();
	struct cli_store s = {0};
	struct reference ref = {0};
	struct progress p;
	struct err e = {0};
	int status = begin(cfg, "pull IMAGE", argc, 1, 1, &s, &p), r = 0;

	if (status != EXIT_OK)
		return status;
	if (platform)
		r = platform_parse(platform, &want, &e);
	if (r == 0)
		r = reference_parse(argv[0], &ref, &e);
	if (r == 0)
		r = image_pull(&s.store, &ref, &want, &p, &e);
	if (r == 0) {
		struct oci_image i;

		r = oci_store_find(&s.store, argv[0], &i, &e);
		ui_clear_bar();
		if (r == 0) {
			printf("%s\n", i.digest);
			oci_image_fini(&i);
		}
	}
	reference_fini(&ref);
	return end(&s, r, &e);
}

const struct cli_command cmd_image_pull = {
    .name = "image pull",
    .usage = "IMAGE",
    .summary = "Get an image from a registry, or what is new of it.",
    .more = "IMAGE is [HOST[:PORT]/]NAME[:TAG][@sha256:DIGEST]; without HOST it is docker.io's. "
	    "What an interrupted pull brought is not fetched again. Prints the manifest's digest.",
    .options = pull_options,
    .n_options = ARRAY_SIZE(pull_options),
    .config_size = sizeof(struct oci_config),
    .fini = config_fini,
    .run = pull_run,
};

static int push_run(void *config, int argc, char **argv, char **command)
{
	struct cli_store s = {0};
	struct reference ref = {0};
	struct oci_image i = {.use = -1};
	struct progress p;
	struct err e = {0};
	int status = begin(config, "push IMAGE [NAME]", argc, 1, 2, &s, &p), r;

	if (status != EXIT_OK)
		return status;
	r = oci_store_find(&s.store, argv[0], &i, &e);
	if (r == 0)
		r = oci_image_use(&s.store, &i, &e);
	if (r == 0)
		r = reference_parse(argc == 2 ? argv[1] : i.reference, &ref, &e);
	if (r == 0)
		r = image_push(&s.store, &i, &ref, &p, &e);
	oci_image_fini(&i);
	reference_fini(&ref);
	return end(&s, r, &e);
}

const struct cli_command cmd_image_push = {
    .name = "image push",
    .usage = "IMAGE [NAME]",
    .summary = "Send an image to a registry, under another NAME if one is given.",
    .options = common_options,
    .n_options = ARRAY_SIZE(common_options),
    .config_size = sizeof(struct oci_config),
    .run = push_run,
};

static int save_run(void *config, int argc, char **argv, char **command)
{
	const struct oci_config *cfg = config;
	struct cli_store s = {0};
	struct oci_image i = {.use = -1};
	struct progress p;
	struct err e = {0};
	int status = begin(cfg, "save [--output FILE] IMAGE", argc, 1, 1, &s, &p), r, fd = 1;

	if (status != EXIT_OK)
		return status;
	if (!cfg->output && isatty(1)) {
		cli_store_close(&s);
		return ui_error(EXIT_USAGE, "an archive is nothing for a terminal: give --output");
	}
	r = oci_store_find(&s.store, argv[0], &i, &e);
	if (r == 0)
		r = oci_image_use(&s.store, &i, &e);
	if (r == 0 && cfg->output) {
		fd = open(cfg->output, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
		if (fd < 0)
			r = err_set(&e, -errno, "%s", cfg->output);
	}
	if (r == 0)
		r = image_save(&s.store, &i, fd, &e);
	if (cfg->output)
		close_p(&fd);
	oci_image_fini(&i);
	return end(&s, r, &e);
}

const struct cli_command cmd_image_save = {
    .name = "image save",
    .usage = "IMAGE",
    .summary = "Write an image of a registry to a tar archive, for `image load`, podman or Docker.",
    .options = save_options,
    .n_options = ARRAY_SIZE(save_options),
    .config_size = sizeof(struct oci_config),
    .fini = config_fini,
    .run = save_run,
};

static void tell_loaded(void *opaque, const char *reference)
{
	ui_clear_bar();
	printf("%s\n", reference);
}

static int load_run(void *config, int argc, char **argv, char **command)
{
	struct cli_store s = {0};
	struct progress p;
	struct err e = {0};
	int status = begin(config, "load FILE [NAME]", argc, 1, 2, &s, &p), r;

	if (status != EXIT_OK)
		return status;
	/* Which of the two it is shows only inside. */
	r = policy_check_archive("oci-archive", &e);
	if (r == 0)
		r = policy_check_archive("docker-archive", &e);
	if (r == 0)
		r = image_load(&s.store, argv[0], argc == 2 ? argv[1] : "localhost/loaded",
			       tell_loaded, NULL, &p, &e);
	return end(&s, r, &e);
}

const struct cli_command cmd_image_load = {
    .name = "image load",
    .usage = "FILE [NAME]",
    .summary = "Take the image of an archive: an OCI layout, or what `docker save` writes.",
    .more = "An image without a name in the archive gets NAME, or localhost/loaded. Prints the "
	    "names.",
    .options = common_options,
    .n_options = ARRAY_SIZE(common_options),
    .config_size = sizeof(struct oci_config),
    .run = load_run,
};

static int prune_run(void *config, int argc, char **argv, char **command)
{
	struct cli_store s = {0};
	struct progress p;
	struct err e = {0};
	uint64_t freed;
	int status = begin(config, "prune", argc, 0, 0, &s, &p), r;

	if (status != EXIT_OK)
		return status;
	r = oci_store_lock(&s.store, &p, &e);
	if (r == 0)
		r = oci_store_prune(&s.store, &freed, &e);
	if (r == 0)
		printf("%llu MiB\n", (unsigned long long)freed >> 20);
	return end(&s, r, &e);
}

const struct cli_command cmd_image_prune = {
    .name = "image prune",
    .usage = "",
    .summary = "Remove layers of no image, images without a name, and half-pulled ones.",
    .more = "Prints how much the disk has more.",
    .options = common_options,
    .n_options = ARRAY_SIZE(common_options),
    .config_size = sizeof(struct oci_config),
    .run = prune_run,
};
