/* SPDX-License-Identifier: Apache-2.0 */
/*
 * monitor/command.c - commands for the container: insula-oci exec, with streams or a terminal of
 * ours
 *
 * The request is the one that insula-agent takes in a guest (docs/agent.md).
 */
#include "monitor/monitor_priv.h"

#include "base/fd.h"

#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>

#define WORDS_MAX 4096

/* @before and what @list holds, borrowed; ends with NULL. */
static int words_of(const struct strings *before, const json_t *list, const char *what, char ***ret,
		    size_t *n, struct err *e)
{
	size_t count = json_array_size(list), had = before ? before->n : 0;
	autofree char **v = NULL;

	if (count > WORDS_MAX)
		return err_msg(e, -E2BIG, "%s: more than %d words", what, WORDS_MAX);
	v = xcalloc(had + count + 1, sizeof(*v));
	for (size_t i = 0; i < had; i++)
		v[i] = before->v[i];
	for (size_t i = 0; i < count; i++) {
		v[had + i] = (char *)json_string_value(json_array_get(list, i));
		if (!v[had + i])
			return err_msg(e, -EINVAL, "%s: not a list of words", what);
	}
	*ret = steal_ptr(&v);
	*n = had + count;
	return 0;
}

/* The process as insula-oci reads it, in memory: no name of a file for others to be quicker at. */
static int write_process(const json_t *process, struct err *e)
{
	autoclose int fd = memfd_create("process", 0);
	autofree char *text = json_dumps(process, JSON_COMPACT);
	int r = fd < 0 ? -errno : write_full(fd, text, strlen(text));

	return r < 0 ? err_set(e, r, "process.json") : steal_fd(&fd);
}

static int describe(struct box *b, const json_t *request, struct err *e)
{
	struct container_options o = b->d.options;
	autofree char **args = NULL, **env = NULL, *shell = NULL;
	char *shell_args[2] = {NULL, NULL};
	json_t *process = NULL;
	const char *text;
	size_t n_args = 0;
	int r = words_of(NULL, json_object_get(request, "argv"), "argv", &args, &n_args, e), fd;

	if (r == 0)
		r = words_of(&b->d.env, json_object_get(request, "env"), "env", &env, &o.n_env, e);
	if (r < 0)
		return r;
	shell_args[0] = shell = bundle_shell(b->d.dir);
	o.args = n_args ? args : shell_args;
	o.env = env;
	o.tty = json_is_true(json_object_get(request, "tty"));
	text = json_string_value(json_object_get(request, "workdir"));
	if (text)
		o.workdir = text;
	text = json_string_value(json_object_get(request, "user"));
	if (text)
		o.user = text;
	r = bundle_process(b->d.dir, &b->d.image, &o, &process, e);
	if (r < 0)
		return r;
	fd = write_process(process, e);
	json_decref(process);
	return fd;
}

int command_start(void *opaque, const json_t *request, struct proc **ret, const char **what,
		  struct err *e)
{
	struct box *b = opaque;
	autoclose int fd = describe(b, request, e);
	autofree char *path = xasprintf("/proc/self/fd/%d", fd);
	json_t *own;
	int r;

	*what = "request";
	if (fd < 0)
		return fd;
	own = json_pack("{s:[s,s,s,s,s,s,s], s:[], s:s, s:b, s:O*, s:O*}", "argv",
			b->d.options.runtime, "--root", b->state, "exec", "--process", path, BOX_ID,
			"env", "workdir", "/", "tty", json_is_true(json_object_get(request, "tty")),
			"rows", json_object_get(request, "rows"), "cols",
			json_object_get(request, "cols"));
	r = proc_start(own, ret, what, e);
	json_decref(own);
	return r;
}
