/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oci/runner.c - from an image to a container that runs
 */
#include "oci/runner_parts.h"

#include "base/exit.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <sys/wait.h>

#define RUNTIME_ROOT "state"

/* What the runtime failed at it wrote to its log too: a status of its own, as shells have. */
static int judge(const char *log, int status)
{
	autostrbuf struct strbuf text = {0};

	if (read_file(log, 65536, &text) < 0 || !text.len)
		return status;
	if (strstr(text.data, "not found") || strstr(text.data, "No such file"))
		return EXIT_NOT_FOUND;
	return strstr(text.data, "Permission denied") ? EXIT_NOT_EXECUTABLE : EXIT_FAIL;
}

/* For a process that is about to end: never freed. */
static void image_layers(const struct oci_store *s, const struct oci_image *image,
			 struct root_layers *ret)
{
	ret->v = xcalloc(image->config.diff_ids.n + 1, sizeof(*ret->v));
	for (; ret->n < image->config.diff_ids.n; ret->n++)
		ret->v[ret->n] = oci_store_layer(s, image->config.diff_ids.v[ret->n]);
	ret->unpacker = s->unpacker;
}

/* In the monitor; returns the container's status, or tells over @report why there is none. */
static int monitor(const struct oci_store *s, const struct oci_image *image,
		   const struct container_options *o, const char *dir, int go, struct err *e)
{
	autofree char *state = xasprintf("%s/" RUNTIME_ROOT, dir);
	autofree char *log = xasprintf("%s/log", dir), *cgroup = cgroup_path(s, dir);
	autofree char *id = xasprintf("insula-%s", strrchr(dir, '/') + 1);
	struct root_layers layers = {0};
	sigset_t set, none;
	pid_t pid;
	int r = runner_enter(go, e);

	image_layers(s, image, &layers);
	if (r == 0)
		r = layers_mount(&layers, dir, e);
	if (r == 0)
		r = bundle_write(dir, cgroup, &image->config, o, e);
	if (r < 0)
		return r;
	runner_block_signals(&set);
	pid = fork();
	if (pid == 0) {
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		signal(SIGPIPE, SIG_DFL);
		if (geteuid() != 0)
			setgroups(0, NULL);
		execl(o->runtime, "insula-oci", "--root", state, "--log", log, "run", "--bundle",
		      dir, id, (char *)NULL);
		_exit(127);
	}
	return pid < 0 ? err_set(e, -errno, "fork") : judge(log, runner_wait(pid, &set));
}

/* The monitor's own failures, and its status, come over a pipe. */
struct report {
	int r;
	struct err e;
};

static int start(const struct oci_store *s, const struct oci_image *image,
		 const struct container_options *o, const char *dir, int *go, int *report,
		 pid_t *ret, struct err *e)
{
	int g[2], r[2];
	pid_t pid;

	if (pipe2(g, O_CLOEXEC) < 0 || pipe2(r, O_CLOEXEC) < 0)
		return err_set(e, -errno, "pipe");
	pid = runner_clone();
	if (pid == 0) {
		struct report answer = {0};

		close(g[1]);
		close(r[0]);
		answer.r = monitor(s, image, o, dir, g[0], &answer.e);
		(void)!write(r[1], &answer, sizeof(answer));
		_exit(0);
	}
	close(g[0]);
	close(r[1]);
	*go = g[1];
	*report = r[0];
	if (pid < 0)
		return err_set(e, -errno, "new namespaces");
	*ret = pid;
	return 0;
}

static int run_in(const struct oci_store *s, const struct oci_image *image,
		  const struct container_options *o, const char *dir, int *status, struct err *e)
{
	const struct passwd *pw = getpwuid(geteuid());
	autoclose int go = -1, report = -1;
	struct report answer = {0};
	struct slirp net = {0};
	sigset_t set;
	pid_t pid = 0;
	int ended, r;

	runner_block_signals(&set);
	r = start(s, image, o, dir, &go, &report, &pid, e);
	if (r == 0)
		r = runner_map_ids(pid, pw ? pw->pw_name : NULL, e);
	if (r == 0 && o->net)
		r = slirp_start(pid, dir, o, &net, e);
	if (r == 0 && write(go, "", 1) != 1)
		r = err_set(e, -errno, "start the container");
	if (pid > 0 && r < 0)
		kill(pid, SIGKILL);
	ended = pid > 0 ? runner_wait(pid, &set) : 0;
	slirp_stop(&net);
	if (r < 0)
		return r;
	if (read(report, &answer, sizeof(answer)) != sizeof(answer)) {
		*status = ended;
		return 0;
	}
	if (answer.r < 0) {
		answer.e.msg[sizeof(answer.e.msg) - 1] = '\0';
		return err_msg(e, answer.r, "%s", answer.e.msg);
	}
	*status = answer.r;
	return 0;
}

int runner_run(const struct oci_store *s, const struct oci_image *image,
	       const struct container_options *o, int *status, struct err *e)
{
	struct workspace w;
	int r = workspace_make(s->cache, &w, e);

	if (r < 0)
		return r;
	cgroup_sweep(s);
	r = run_in(s, image, o, w.dir, status, e);
	workspace_fini(&w);
	return r;
}
