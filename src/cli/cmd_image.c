/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/cmd_image.c - insula image build, list, inspect, remove
 */
#include "cli/cli.h"
#include "cli/oci.h"
#include "cli/ui.h"
#include "image/image.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>

struct image_options {
	bool json, verbose, refresh, ids;
};

static int set_json(void *config, const char *value, struct err *e)
{
	((struct image_options *)config)->json = true;
	return 0;
}

static int set_verbose(void *config, const char *value, struct err *e)
{
	((struct image_options *)config)->verbose = true;
	return 0;
}

static int set_refresh(void *config, const char *value, struct err *e)
{
	((struct image_options *)config)->refresh = true;
	return 0;
}

static int set_ids(void *config, const char *value, struct err *e)
{
	((struct image_options *)config)->ids = true;
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

static int open_cache(const struct image_options *cfg, struct image_cache *cache)
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
	const struct image_options *cfg = config;
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
    .config_size = sizeof(struct image_options),
    .run = build_run,
};

static void list_json(void *opaque, const struct image *i)
{
	json_array_append_new(opaque, describe(i));
}

static void list_line(void *opaque, const struct image *i)
{
	const struct image_options *cfg = opaque;
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

static void list_oci_json(void *opaque, const struct oci_image *i)
{
	json_array_append_new(opaque, cli_describe_oci(i));
}

static void list_oci_line(void *opaque, const struct oci_image *i)
{
	cli_list_oci(i, ((const struct image_options *)opaque)->ids);
}

static int list_run(void *config, int argc, char **argv, char **command)
{
	struct image_options *cfg = config;
	struct cli_store s = {0};
	struct err e = {0};
	json_t *list = json_array();
	int r;

	ui_init(cfg->json, false);
	if (cli_store_open(&s, &e) < 0)
		return ui_fail(&e, EXIT_FAIL);
	if (cfg->json) {
		r = image_each(&s.cache, list_json, list, &e);
		if (r == 0)
			r = oci_store_each(&s.store, list_oci_json, list, &e);
		if (r == 0)
			print_json(json_incref(list));
	} else {
		if (!cfg->ids)
			printf("%-36s %-10s %11s  %-16s  %s\n", "ID", "KIND", "SIZE", "CREATED",
			       "SOURCE");
		r = image_each(&s.cache, list_line, cfg, &e);
		if (r == 0)
			r = oci_store_each(&s.store, list_oci_line, cfg, &e);
	}
	json_decref(list);
	cli_store_close(&s);
	return r < 0 ? ui_fail(&e, EXIT_FAIL) : EXIT_OK;
}

const struct cli_command cmd_image_list = {
    .name = "image list",
    .usage = "",
    .summary = "List the images in the cache.",
    .options = list_options,
    .n_options = ARRAY_SIZE(list_options),
    .config_size = sizeof(struct image_options),
    .run = list_run,
};

static int inspect_run(void *config, int argc, char **argv, char **command)
{
	const struct image_options *cfg = config;
	struct image image = {.lock = -1};
	struct oci_image oci = {.use = -1};
	struct cli_store s = {0};
	struct err e = {0};
	int status;

	ui_init(cfg->json, false);
	status = need_one("inspect", argc);
	if (status != EXIT_OK)
		return status;
	if (cli_store_open(&s, &e) < 0)
		return ui_fail(&e, EXIT_FAIL);
	if (oci_store_find(&s.store, argv[0], &oci, NULL) == 0) {
		print_json(cli_describe_oci(&oci));
		oci_image_fini(&oci);
	} else if (image_find(&s.cache, argv[0], &image, &e) < 0) {
		status = ui_fail(&e, EXIT_NO_IMAGE);
	} else {
		print_json(describe(&image));
		image_fini(&image);
	}
	cli_store_close(&s);
	return status;
}

const struct cli_command cmd_image_inspect = {
    .name = "image inspect",
    .usage = "IMAGE",
    .summary = "Show what is known about an image, as JSON.",
    .options = json_options,
    .n_options = ARRAY_SIZE(json_options),
    .config_size = sizeof(struct image_options),
    .run = inspect_run,
};

/* With its content, as far as no other image has it too. */
static int remove_oci(struct cli_store *s, const char *name, struct progress *p, struct err *e)
{
	uint64_t freed;
	int r = oci_store_lock(&s->store, p, e);

	if (r == 0)
		r = oci_store_remove(&s->store, name, e);
	return r < 0 ? r : oci_store_prune(&s->store, &freed, e);
}

static int remove_run(void *config, int argc, char **argv, char **command)
{
	const struct image_options *cfg = config;
	struct cli_store s = {0};
	struct progress p;
	struct err e = {0};
	int status = EXIT_OK;

	ui_init(cfg->json, false);
	ui_progress_init(&p);
	if (argc == 0)
		return ui_error(EXIT_USAGE, "insula image remove: which image?");
	if (cli_store_open(&s, &e) < 0)
		return ui_fail(&e, EXIT_FAIL);
	for (int i = 0; i < argc; i++) {
		int r = remove_oci(&s, argv[i], &p, &e);

		if (r == -ENOENT)
			r = image_remove(&s.cache, argv[i], &e);
		if (r < 0)
			status = ui_fail(&e, r == -ENOENT ? EXIT_NO_IMAGE : EXIT_FAIL);
	}
	cli_store_close(&s);
	return status;
}

const struct cli_command cmd_image_remove = {
    .name = "image remove",
    .usage = "IMAGE...",
    .summary = "Remove images from the cache.",
    .options = json_options,
    .n_options = ARRAY_SIZE(json_options),
    .config_size = sizeof(struct image_options),
    .run = remove_run,
};
