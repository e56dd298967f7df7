/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/cmd_screen.c - insula screenshot, type, keys, eject, insert: a running machine used as a
 * person would
 */
#include "base/fd.h"
#include "cli/cli.h"
#include "cli/run.h"
#include "cli/ui.h"
#include "codec/base64.h"
#include "live/client.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

/* Takes over @args; *@ret is the answer's object, the caller's. */
static int ask(const char *name, const char *command, json_t *args, int pass, json_t **ret,
	       struct err *e)
{
	int fd = machine_connect(name, e), r;
	struct vmm_client c;

	if (fd < 0) {
		json_decref(args);
		return fd;
	}
	vmm_client_init(&c, fd);
	r = vmm_client_call(&c, command, args, &pass, pass >= 0, ret, e);
	vmm_client_fini(&c);
	return r;
}

static int tell(const char *name, const char *command, json_t *args, int pass)
{
	json_t *ret = NULL;
	struct err e = {0};

	if (ask(name, command, args, pass, &ret, &e) < 0)
		return ui_fail(&e, EXIT_FAIL);
	json_decref(ret);
	return EXIT_OK;
}

static int save(const char *path, const char *png, struct err *e)
{
	autostrbuf struct strbuf data = {0};
	autoclose int fd = -1;
	int r = png ? base64_decode(png, strlen(png), &data) : -EINVAL;

	if (r < 0)
		return err_set(e, r, "the picture");
	fd = strcmp(path, "-") == 0 ? dup(STDOUT_FILENO)
				    : open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	r = fd < 0 ? -errno : write_full(fd, data.data, data.len);
	return r < 0 ? err_set(e, r, "write %s", path) : 0;
}

struct screenshot_config {
	bool text;
};

static int set_text(void *config, const char *value, struct err *e)
{
	((struct screenshot_config *)config)->text = true;
	return 0;
}

static const struct cli_option screenshot_options[] = {
    {"text", NULL, NULL, "the text of a text screen on standard output, instead of a picture",
     set_text},
};

static int screenshot_run(void *config, int argc, char **argv, char **command)
{
	bool text = ((struct screenshot_config *)config)->text;
	json_t *ret = NULL;
	struct err e = {0};
	int r;

	if (argc != (text ? 1 : 2))
		return ui_error(EXIT_USAGE,
				"which machine%s? insula screenshot NAME FILE.png, or "
				"insula screenshot --text NAME",
				text ? "" : ", and to which file");
	r = ask(argv[0], text ? "screen-text" : "screenshot", NULL, -1, &ret, &e);
	if (r == 0 && text)
		fputs(json_string_value(json_object_get(ret, "text")) ?: "", stdout);
	else if (r == 0)
		r = save(argv[1], json_string_value(json_object_get(ret, "png")), &e);
	json_decref(ret);
	return r < 0 ? ui_fail(&e, EXIT_FAIL) : EXIT_OK;
}

static int type_run(void *config, int argc, char **argv, char **command)
{
	if (argc != 2)
		return ui_error(EXIT_USAGE, "insula type NAME TEXT");
	return tell(argv[0], "type", json_pack("{s:s}", "text", argv[1]), -1);
}

static int keys_run(void *config, int argc, char **argv, char **command)
{
	int status = argc < 2 ? ui_error(EXIT_USAGE, "insula keys NAME KEYS...") : EXIT_OK;

	for (int i = 1; i < argc && status == EXIT_OK; i++)
		status = tell(argv[0], "keys", json_pack("{s:s}", "keys", argv[i]), -1);
	return status;
}

static int eject_run(void *config, int argc, char **argv, char **command)
{
	if (argc != 1)
		return ui_error(EXIT_USAGE, "insula eject NAME");
	return tell(argv[0], "eject", NULL, -1);
}

/* The file is opened here, in the name of the person: the machine itself may open nothing. */
static int insert_run(void *config, int argc, char **argv, char **command)
{
	autoclose int fd = -1;
	struct err e = {0};

	if (argc != 2)
		return ui_error(EXIT_USAGE, "insula insert NAME FILE");
	if (run_check_disc(argv[1], &e) < 0)
		return ui_fail(&e, EXIT_BAD_DISK);
	fd = open(argv[1], O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return ui_error(EXIT_BAD_DISK, "%s: %s", argv[1], strerror(errno));
	return tell(argv[0], "insert", NULL, fd);
}

const struct cli_command cmd_screenshot = {
    .name = "screenshot",
    .usage = "NAME FILE",
    .summary = "Save what a machine's screen shows, as a PNG picture or as text.",
    .options = screenshot_options,
    .n_options = ARRAY_SIZE(screenshot_options),
    .config_size = sizeof(struct screenshot_config),
    .run = screenshot_run,
};

const struct cli_command cmd_type = {
    .name = "type",
    .usage = "NAME TEXT",
    .summary = "Type a text on a machine's keyboard.",
    .run = type_run,
};

const struct cli_command cmd_keys = {
    .name = "keys",
    .usage = "NAME KEYS...",
    .summary = "Press keys together, such as ctrl-alt-del, f12, enter or down.",
    .run = keys_run,
};

const struct cli_command cmd_eject = {
    .name = "eject",
    .usage = "NAME",
    .summary = "Take the disc out of a machine's CD-ROM drive.",
    .run = eject_run,
};

const struct cli_command cmd_insert = {
    .name = "insert",
    .usage = "NAME FILE",
    .summary = "Put a disc into a machine's CD-ROM drive, in the place of the one there.",
    .run = insert_run,
};
