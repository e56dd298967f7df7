/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/cmd_disk_convert.c - insula disk convert
 */
#include "cli/disk.h"
#include "cli/ui.h"

#include <errno.h>
#include <stdio.h>

static int set_from(void *config, const char *value, struct err *e)
{
	struct disk_config *cfg = config;

	free(cfg->from);
	cfg->from = xstrdup(value);
	return 0;
}

static int set_compress(void *config, const char *value, struct err *e)
{
	((struct disk_config *)config)->compress = true;
	return 0;
}

static const struct cli_option options[] = {
    {"from", "FORMAT", "raw qcow2 vmdk vdi vhdx", "SOURCE's format (default: as its name says)",
     set_from},
    {"to", "FORMAT", "raw qcow2 vmdk vdi vhdx", "the copy's format (default: as its name says)",
     disk_set_format},
    {"compress", NULL, NULL, "qcow2: compress what gets smaller by it", set_compress},
    DISK_COMPRESSION_OPTION,
    DISK_CLUSTER_OPTION,
    {"force", NULL, NULL, "replace a file that is there", disk_set_force},
    DISK_JSON_OPTION,
};

struct bar {
	struct progress *p;
	struct progress_event ev;
	bool shown;
};

static int tick(void *opaque, uint64_t done, uint64_t total)
{
	struct bar *b = opaque;
	double fraction = total ? (double)done / (double)total : 0;

	if (progress_cancelled(b->p))
		return -EINTR;
	if (!b->shown || fraction - b->ev.fraction >= 0.01) {
		b->ev.fraction = MIN(fraction, 0.999);
		b->ev.new_step = !b->shown;
		b->shown = true;
		b->p->show(b->p->opaque, &b->ev);
	}
	return 0;
}

static int known(const char *format, struct err *e)
{
	if (disk_is_foreign(format) || strcmp(format, "raw") == 0 || strcmp(format, "qcow2") == 0)
		return 0;
	err_exit(e, 0, EXIT_USAGE);
	return err_msg(e, -EINVAL, "format '%s' is none of raw, qcow2, vmdk, vdi, vhdx", format);
}

static int run(void *config, int argc, char **argv, char **command)
{
	struct disk_config *cfg = config;
	struct progress p;
	struct bar bar = {.p = &p, .ev = {.text = "copying"}};
	struct disk_progress progress = {tick, &bar};
	struct disk_copy c = {.options = &cfg->image,
			      .compress = cfg->compress,
			      .force = cfg->force,
			      .progress = &progress};
	struct err e = {0};
	int r;

	ui_init(cfg->json, false);
	if (disk_need("convert", argc, 2, "a file and the copy's name") != EXIT_OK)
		return EXIT_USAGE;
	c.from = bar.ev.subject = argv[0];
	c.to = argv[1];
	c.from_format = cfg->from ? cfg->from : disk_guess(c.from);
	c.to_format = cfg->format ? cfg->format : disk_guess(c.to);
	ui_progress_init(&p);
	r = known(c.from_format, &e);
	if (r == 0)
		r = known(c.to_format, &e);
	/* The name chose raw, not the person: what contradicts it is worth a question. */
	if (r == 0 && !cfg->from && strcmp(c.from_format, "raw") == 0)
		c.from_format = NULL;
	if (r == 0)
		r = (c.from_format && disk_is_foreign(c.from_format)) ||
			    disk_is_foreign(c.to_format)
			? disk_convert_foreign(&c, &p, &e)
			: disk_convert(&c, &e);
	ui_clear_bar();
	if (r < 0)
		return ui_fail(&e, EXIT_BAD_DISK);
	if (cfg->json)
		disk_print_json(json_pack("{s:s, s:s}", "path", c.to, "format", c.to_format));
	return EXIT_OK;
}

const struct cli_command cmd_disk_convert = {
    .name = "disk convert",
    .usage = "SOURCE COPY",
    .summary = "Copy a disk image into another format.",
    .more = "A qcow2 source is copied with all of its backing files. vmdk, vdi and vhdx are read "
	    "and written by qemu-img, which must be installed.",
    .options = options,
    .n_options = ARRAY_SIZE(options),
    .config_size = sizeof(struct disk_config),
    .init = disk_init,
    .fini = disk_fini,
    .run = run,
};
