/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container/cmd_lifecycle.c - create, run, start, state, kill, delete, pause, resume
 */
#include "container/cmd.h"
#include "container/proc.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>

enum {
	OPT_CONSOLE = 256,
	OPT_PID_FILE,
	OPT_PRESERVE,
	OPT_NO_PIVOT,
	OPT_NO_KEYRING,
	OPT_KEEP,
	OPT_IGNORED,
};

static const struct option create_options[] = {
    {"bundle", required_argument, NULL, 'b'},
    {"config", required_argument, NULL, 'f'},
    {"console-socket", required_argument, NULL, OPT_CONSOLE},
    {"pid-file", required_argument, NULL, OPT_PID_FILE},
    {"preserve-fds", required_argument, NULL, OPT_PRESERVE},
    {"no-pivot", no_argument, NULL, OPT_NO_PIVOT},
    {"no-new-keyring", no_argument, NULL, OPT_NO_KEYRING},
    {"no-subreaper", no_argument, NULL, OPT_IGNORED},
    {"detach", no_argument, NULL, 'd'},
    {"keep", no_argument, NULL, OPT_KEEP},
    {0},
};

static int apply_create_option(int c, struct container_create *o, struct err *e)
{
	int64_t n = 0;
	int r = 0;

	switch (c) {
	case 'b':
		o->bundle = optarg;
		break;
	case 'f':
		o->config = optarg;
		break;
	case 'd':
		o->detach = true;
		break;
	case OPT_CONSOLE:
		o->console_socket = optarg;
		break;
	case OPT_PID_FILE:
		o->pid_file = optarg;
		break;
	case OPT_PRESERVE:
		r = cmd_number("--preserve-fds", optarg, 0, 1024, &n, e);
		o->preserve_fds = (unsigned int)n;
		break;
	case OPT_NO_PIVOT:
		o->no_pivot = true;
		break;
	case OPT_NO_KEYRING:
		o->no_new_keyring = true;
		break;
	case OPT_KEEP:
		o->keep = true;
		break;
	case OPT_IGNORED:
		break;
	default:
		return -EINVAL;
	}
	return r;
}

static int parse_create(int argc, char **argv, struct container_create *o, struct err *e)
{
	int c;

	*o = (struct container_create){.bundle = "."};
	while ((c = cmd_option(argc, argv, create_options, e)) != -1)
		if (apply_create_option(c, o, e) < 0)
			return -1;
	o->id = cmd_id(argc, argv, e);
	return o->id ? 0 : -1;
}

int cmd_create(const struct container_runtime *rt, int argc, char **argv, struct err *e)
{
	struct container_create o;

	if (parse_create(argc, argv, &o, e) < 0)
		return -1;
	return container_create(rt, &o, e) < 0 ? -1 : 0;
}

int cmd_run(const struct container_runtime *rt, int argc, char **argv, struct err *e)
{
	struct container_create o;
	int status = 0;

	if (parse_create(argc, argv, &o, e) < 0)
		return -1;
	return container_run(rt, &o, &status, e) < 0 ? -1 : status;
}

static const struct option no_options[] = {{0}};

static const char *only_id(int argc, char **argv, struct err *e)
{
	return cmd_option(argc, argv, no_options, e) == -1 ? cmd_id(argc, argv, e) : NULL;
}

int cmd_start(const struct container_runtime *rt, int argc, char **argv, struct err *e)
{
	const char *id = only_id(argc, argv, e);

	return !id || container_start(rt, id, e) < 0 ? -1 : 0;
}

int cmd_state(const struct container_runtime *rt, int argc, char **argv, struct err *e)
{
	const char *id = only_id(argc, argv, e);
	autostrbuf struct strbuf out = {0};

	if (!id || container_state(rt, id, &out, e) < 0)
		return -1;
	puts(out.data);
	return 0;
}

int cmd_kill(const struct container_runtime *rt, int argc, char **argv, struct err *e)
{
	static const struct option options[] = {{"all", no_argument, NULL, 'a'}, {0}};
	const char *word = "TERM";
	bool all = false;
	int c, signal;

	while ((c = cmd_option(argc, argv, options, e)) != -1) {
		if (c == '?')
			return -1;
		all = true;
	}
	if (argc - optind == 2)
		word = argv[--argc];
	signal = proc_parse_signal(word);
	if (signal < 0) {
		err_msg(e, -EINVAL, "there is no signal '%s'", word);
		return -1;
	}
	if (!cmd_id(argc, argv, e))
		return -1;
	return container_kill(rt, argv[optind], signal, all, e) < 0 ? -1 : 0;
}

int cmd_delete(const struct container_runtime *rt, int argc, char **argv, struct err *e)
{
	static const struct option options[] = {{"force", no_argument, NULL, 'f'}, {0}};
	bool force = false;
	const char *id;
	int c;

	while ((c = cmd_option(argc, argv, options, e)) != -1) {
		if (c == '?')
			return -1;
		force = true;
	}
	id = cmd_id(argc, argv, e);
	return !id || container_delete(rt, id, force, e) < 0 ? -1 : 0;
}

int cmd_pause(const struct container_runtime *rt, int argc, char **argv, struct err *e)
{
	const char *id = only_id(argc, argv, e);

	return !id || container_pause(rt, id, true, e) < 0 ? -1 : 0;
}

int cmd_resume(const struct container_runtime *rt, int argc, char **argv, struct err *e)
{
	const char *id = only_id(argc, argv, e);

	return !id || container_pause(rt, id, false, e) < 0 ? -1 : 0;
}

int cmd_checkpoint(const struct container_runtime *rt, int argc, char **argv, struct err *e)
{
	err_msg(e, -ENOTSUP, "%s: insula-oci has no checkpoint and restore (CRIU)", argv[0]);
	return -1;
}
