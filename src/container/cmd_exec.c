/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container/cmd_exec.c - exec
 */
#include "container/cmd.h"

#include <errno.h>
#include <stdio.h>

enum {
	OPT_CONSOLE = 256,
	OPT_PID_FILE,
	OPT_PRESERVE,
	OPT_CWD,
	OPT_LABEL,
	OPT_APPARMOR,
	OPT_NO_NEW_PRIVS,
	OPT_CGROUP,
	OPT_IGNORE_PAUSED,
};

static const struct option options[] = {
    {"console-socket", required_argument, NULL, OPT_CONSOLE},
    {"cwd", required_argument, NULL, OPT_CWD},
    {"env", required_argument, NULL, 'e'},
    {"tty", no_argument, NULL, 't'},
    {"user", required_argument, NULL, 'u'},
    {"process", required_argument, NULL, 'p'},
    {"detach", no_argument, NULL, 'd'},
    {"pid-file", required_argument, NULL, OPT_PID_FILE},
    {"process-label", required_argument, NULL, OPT_LABEL},
    {"apparmor", required_argument, NULL, OPT_APPARMOR},
    {"no-new-privs", no_argument, NULL, OPT_NO_NEW_PRIVS},
    {"cap", required_argument, NULL, 'c'},
    {"preserve-fds", required_argument, NULL, OPT_PRESERVE},
    {"cgroup", required_argument, NULL, OPT_CGROUP},
    {"ignore-paused", no_argument, NULL, OPT_IGNORE_PAUSED},
    {0},
};

struct arguments {
	struct container_exec x;
	const char *process_file;
	const char **env, **caps; /* as long as argv */
	size_t n_env, n_caps;
};

static int parse_user(const char *text, struct container_exec *x, struct err *e)
{
	unsigned int uid, gid;
	int used = 0;

	if (sscanf(text, "%u:%u%n", &uid, &gid, &used) != 2 || text[used]) {
		gid = 0;
		used = 0;
		if (sscanf(text, "%u%n", &uid, &used) != 1 || text[used])
			return err_msg(e, -EINVAL, "--user: '%s' is not UID[:GID]", text);
	}
	x->has_user = true;
	x->uid = uid;
	x->gid = gid;
	return 0;
}

static int apply(int c, struct arguments *a, struct err *e)
{
	struct container_exec *x = &a->x;
	int64_t n;

	switch (c) {
	case OPT_CONSOLE:
		x->console_socket = optarg;
		return 0;
	case OPT_CWD:
		x->cwd = optarg;
		return optarg[0] == '/'
			   ? 0
			   : err_msg(e, -EINVAL, "--cwd: '%s' is not absolute", optarg);
	case 'e':
		a->env[a->n_env++] = optarg;
		return 0;
	case 't':
		x->terminal = true;
		return 0;
	case 'u':
		return parse_user(optarg, x, e);
	case 'p':
		a->process_file = optarg;
		return 0;
	case 'd':
		x->detach = true;
		return 0;
	case OPT_PID_FILE:
		x->pid_file = optarg;
		return 0;
	case OPT_LABEL:
		x->selinux = optarg;
		return 0;
	case OPT_APPARMOR:
		x->apparmor = optarg;
		return 0;
	case OPT_NO_NEW_PRIVS:
		x->no_new_privileges = true;
		return 0;
	case 'c':
		a->caps[a->n_caps++] = optarg;
		return 0;
	case OPT_PRESERVE:
		if (cmd_number("--preserve-fds", optarg, 0, 1024, &n, e) < 0)
			return -EINVAL;
		x->preserve_fds = (unsigned int)n;
		return 0;
	case OPT_CGROUP:
		x->cgroup = optarg;
		return 0;
	case OPT_IGNORE_PAUSED:
		x->ignore_paused = true;
		return 0;
	default:
		return -EINVAL;
	}
}

static int run(const struct container_runtime *rt, struct arguments *a, struct err *e)
{
	autostrbuf struct strbuf text = {0};
	struct spec_process process = {0};
	struct json_doc doc = {0};
	int status = 0, r = 0;

	if (a->process_file) {
		r = cmd_read(a->process_file, &text, e);
		if (r == 0)
			r = spec_process_parse(text.data ? text.data : "", text.len, &doc, &process,
					       e);
		if (r == 0 && a->x.terminal)
			process.terminal = true;
		a->x.process = &process;
	} else if (!a->x.args) {
		r = err_msg(e, -EINVAL, "exec: a program or --process is missing");
	}
	if (r == 0)
		r = container_exec(rt, &a->x, &status, e);
	spec_process_fini(&process);
	json_doc_fini(&doc);
	return r < 0 ? -1 : status;
}

int cmd_exec(const struct container_runtime *rt, int argc, char **argv, struct err *e)
{
	autofree const char **env = xnew_n(const char *, argc + 1),
			    **caps = xnew_n(const char *, argc + 1);
	struct arguments a = {.env = env, .caps = caps};
	int c;

	while ((c = cmd_option(argc, argv, options, e)) != -1)
		if (apply(c, &a, e) < 0)
			return -1;
	if (optind == argc) {
		err_msg(e, -EINVAL, "exec: the container's name is missing");
		return -1;
	}
	a.x.id = argv[optind];
	a.x.env = env;
	a.x.more_caps = caps;
	if (optind + 1 < argc)
		a.x.args = (const char *const *)argv + optind + 1;
	return run(rt, &a, e);
}
