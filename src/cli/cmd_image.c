/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/cmd_image.c - insula image build, list, inspect, remove
 */
#include "cli/cli.h"
#include "cli/ui.h"
#include "image/image.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>

struct image_config {
	bool json, verbose, refresh, ids;
};

static int set_json(void *config, const char *value, struct err *e)
{
	((struct image_config *)config)->json = true;
	return 0;
}

static int set_verbose(void *config, const char *value, struct err *e)
{
	((struct image_config *)config)->verbose = true;
	return 0;
}

static int set_refresh(void *config, const char *value, struct err *e)
{
	((struct image_config *)config)->refresh = true;
	return 0;
}

static int set_ids(void *config, const char *value, struct err *e)
{
	((struct image_config *)config)->ids = true;
	return 0;
}

#define JSON_OPTION                                                                                \
	{                                                                                          \
		"json", NULL, NULL, "print JSON", set_json                                         \
	}

static const struct cli_option build_options[] = {
    {"refresh", NULL, NULL, "make it anew even if the cache has it", set_refresh},
    JSON_OPTION,
    {"verbose", NULL, NULL, "tell more", set_verbose},
};
static const struct cli_option list_options[] = {
    {"ids", NULL, NULL, "print only the IDs", set_ids},
    JSON_OPTION,
};
static const struct cli_option json_options[] = {JSON_OPTION};

static json_t *describe(const struct image *i)
{
	return json_pack("{s:s, s:s, s:s, s:I, s:I, s:s, s:s, s:s, s:s}", "id", i->id, "source",
			 i->source, "kind", image_kind_name(i->kind), "created",
			 (json_int_t)i->created, "bytes", (json_int_t)i->bytes, "root", i->root,
			 "kernel", i->kernel, "initrd", i->initrd, "kernel_version",
			 i->kernel_version);
}

static void print_json(json_t *o)
{
	json_dumpf(o, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(o);
}

static int open_cache(const struct image_config *cfg, struct image_cache *cache)
{
	struct err e = {0};

	ui_init(cfg->json, cfg->verbose);
	return image_cache_open(cache, &e) < 0 ? ui_fail(&e, EXIT_FAIL) : EXIT_OK;
}

static int need_one(const char *cmd, int argc)
{
	if (argc == 1)
		return EXIT_OK;
	return ui_error(EXIT_USAGE, "insula image %s: give one image (%d given)", cmd, argc);
}

static int build_run(void *config, int argc, char **argv, char **command)
{
	const struct image_config *cfg = config;
	struct image image = {.lock = -1};
	struct image_cache cache;
	struct progress p;
	struct err e = {0};
	int status = open_cache(cfg, &cache);

	if (status == EXIT_OK)
		status = need_one("build", argc);
	if (status != EXIT_OK)
		return status;
	ui_progress_init(&p);
	if (image_get(&cache, argv[0], cfg->refresh, &p, &image, &e) < 0) {
		status = ui_fail(&e, EXIT_NO_IMAGE);
	} else {
		ui_clear_bar();
		if (cfg->json)
			print_json(describe(&image));
		else
			printf("%s\n", image.id);
		image_fini(&image);
	}
	image_cache_fini(&cache);
	return status;
}

const struct cli_command cmd_image_build = {
    .name = "image build",
    .usage = "IMAGE",
    .summary = "Make an image, or make it anew.",
    .more = "IMAGE is deb:SUITE[+PACKAGE...], a directory, a tar archive or a raw disk. Prints "
	    "the image's ID.",
    .options = build_options,
    .n_options = ARRAY_SIZE(build_options),
    .config_size = sizeof(struct image_config),
    .run = build_run,
};

static void list_json(void *opaque, const struct image *i)
{
	json_array_append_new(opaque, describe(i));
}

static void list_line(void *opaque, const struct image *i)
{
	const struct image_config *cfg = opaque;
	struct tm tm;
	char when[32];

	if (cfg->ids) {
		printf("%s\n", i->id);
		return;
	}
	localtime_r(&i->created, &tm);
	strftime(when, sizeof(when), "%Y-%m-%d %H:%M", &tm);
	printf("%-36s %-10s %7llu MiB  %s  %s\n", i->id, image_kind_name(i->kind),
	       (unsigned long long)i->bytes >> 20, when, i->source);
}

static int list_run(void *config, int argc, char **argv, char **command)
{
	struct image_config *cfg = config;
	struct image_cache cache;
	struct err e = {0};
	json_t *list = json_array();
	int r, status = open_cache(cfg, &cache);

	if (status != EXIT_OK)
		return status;
	if (cfg->json) {
		r = image_each(&cache, list_json, list, &e);
		if (r == 0)
			print_json(json_incref(list));
	} else {
		if (!cfg->ids)
			printf("%-36s %-10s %11s  %-16s  %s\n", "ID", "KIND", "SIZE", "CREATED",
			       "SOURCE");
		r = image_each(&cache, list_line, cfg, &e);
	}
	json_decref(list);
	image_cache_fini(&cache);
	return r < 0 ? ui_fail(&e, EXIT_FAIL) : EXIT_OK;
}

const struct cli_command cmd_image_list = {
    .name = "image list",
    .usage = "",
    .summary = "List the images in the cache.",
    .options = list_options,
    .n_options = ARRAY_SIZE(list_options),
    .config_size = sizeof(struct image_config),
    .run = list_run,
};

static int inspect_run(void *config, int argc, char **argv, char **command)
{
	struct image image = {.lock = -1};
	struct image_cache cache;
	struct err e = {0};
	int status = open_cache(config, &cache);

	if (status == EXIT_OK)
		status = need_one("inspect", argc);
	if (status != EXIT_OK)
		return status;
	if (image_find(&cache, argv[0], &image, &e) < 0) {
		status = ui_fail(&e, EXIT_NO_IMAGE);
	} else {
		print_json(describe(&image));
		image_fini(&image);
	}
	image_cache_fini(&cache);
	return status;
}

const struct cli_command cmd_image_inspect = {
    .name = "image inspect",
    .usage = "IMAGE",
    .summary = "Show what is known about an image, as JSON.",
    .options = json_options,
    .n_options = ARRAY_SIZE(json_options),
    .config_size = sizeof(struct image_config),
    .run = inspect_run,
};

static int remove_run(void *config, int argc, char **argv, char **command)
{
	struct image_cache cache;
	int status = open_cache(config, &cache);

	if (status == EXIT_OK && argc == 0)
		status = ui_error(EXIT_USAGE, "insula image remove: which image?");
	if (status != EXIT_OK)
		return status;
	for (int i = 0; i < argc; i++) {
		struct err e = {0};

		if (image_remove(&cache, argv[i], &e) < 0)
			status = ui_fail(&e, e.code == -ENOENT ? EXIT_NO_IMAGE : EXIT_FAIL);
	}
	image_cache_fini(&cache);
	return status;
}

const struct cli_command cmd_image_remove = {
    .name = "image remove",
    .usage = "IMAGE...",
    .summary = "Remove images from the cache.",
    .options = json_options,
    .n_options = ARRAY_SIZE(json_options),
    .config_size = sizeof(struct image_config),
    .run = remove_run,
};
