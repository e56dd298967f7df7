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

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>

#define REPLY_MAX (64u << 20)

/* One line, events left out. */
static int read_reply(int fd, struct strbuf *line, struct err *e)
{
	char chunk[65536];

	for (;;) {
		char *nl = line->len ? memchr(line->data, '\n', line->len) : NULL;
		ssize_t n;

		if (nl && strncmp(line->data, "{\"event\"", 8) != 0) {
			line->len = (size_t)(nl - line->data);
			return 0;
		}
		if (nl) {
			strbuf_consume(line, (size_t)(nl - line->data) + 1);
			continue;
		}
		n = read(fd, chunk, sizeof(chunk));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0 || line->len > REPLY_MAX)
			return err_msg(e, -EIO, "the machine did not answer");
		strbuf_add(line, chunk, (size_t)n);
	}
}

/* A line, with a descriptor if @pass is one. */
static int send_line(int fd, const char *line, int pass)
{
	char control[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8))) = {0};
	struct iovec iov = {(void *)(uintptr_t)line, 1};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	struct cmsghdr *c;

	if (pass >= 0) {
		msg.msg_control = control;
		msg.msg_controllen = sizeof(control);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &pass, sizeof(int));
	}
	/* It goes with the first byte. */
	if (sendmsg(fd, &msg, MSG_NOSIGNAL) != 1)
		return -errno;
	return write_full(fd, line + 1, strlen(line) - 1);
}

/* Takes over @args; *@ret is the answer's object, the caller's. */
static int ask(const char *name, const char *command, json_t *args, int pass, json_t **ret,
	       struct err *e)
{
	json_t *request = json_pack("{s:i, s:s, s:o}", "id", 1, "command", command, "arguments",
				    args ? args : json_object());
	autofree char *text = json_dumps(request, JSON_COMPACT);
	autofree char *line = xasprintf("%s\n", text ? text : "");
	autostrbuf struct strbuf reply = {0};
	autoclose int fd = machine_connect(name, e);
	json_t *answer, *value;
	int r;

	json_decref(request);
	if (fd < 0)
		return fd;
	r = send_line(fd, line, pass);
	r = r < 0 ? err_set(e, r, "ask the machine") : read_reply(fd, &reply, e);
	if (r < 0)
		return r;
	answer = json_loadb(reply.data, reply.len, 0, NULL);
	value = json_object_get(answer, "return");
	if (value)
		*ret = json_incref(value);
	else
		r = err_msg(
		    e, -EIO, "%s",
		    json_string_value(json_object_get(json_object_get(answer, "error"), "message"))
			?: "the machine's answer makes no sense");
	json_decref(answer);
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
