/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container/operations.c - what the operations share, and those on a container that is there
 */
#include "container/container_priv.h"

#include "base/fd.h"
#include "base/log.h"
#include "container/hooks.h"
#include "container/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>

static int find_cgroup(struct handle *h, struct err *e)
{
	int r = cgroup_init(&h->cgroup, e);

	if (r < 0)
		return r;
	if (h->state.cgroup_path)
		h->cgroup.path = xstrdup(h->state.cgroup_path);
	if (h->state.cgroup_unit)
		h->cgroup.unit = xstrdup(h->state.cgroup_unit);
	return 0;
}

int handle_open(const struct container_runtime *rt, const char *id, bool lock, struct handle *ret,
		struct err *e)
{
	int r;

	*ret = (struct handle){.root = -1, .dir = -1};
	if (!state_id_ok(id))
		return err_msg(e, -EINVAL, "'%s' is no name of a container", id);
	ret->root = open(rt->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (ret->root < 0)
		return errno == ENOENT ? err_msg(e, -ENOENT, "container '%s' does not exist", id)
				       : err_set(e, -errno, "open %s", rt->root);
	r = state_open(ret->root, id, lock, &ret->dir, &ret->state, e);
	if (r == 0)
		r = find_cgroup(ret, e);
	if (r < 0)
		return r;
	ret->status = state_status(ret->dir, &ret->state);
	if (ret->status == STATE_RUNNING && cgroup_is_frozen(&ret->cgroup))
		ret->status = STATE_PAUSED;
	return 0;
}

void handle_close(struct handle *h)
{
	close_p(&h->root);
	close_p(&h->dir);
	state_fini(&h->state);
	cgroup_fini(&h->cgroup);
}

int handle_kill(struct handle *h, struct err *e)
{
	autoclose int pidfd = h->state.pid ? proc_open(h->state.pid, h->state.start_time) : -ESRCH;

	if (pidfd >= 0)
		(void)!proc_signal(pidfd, SIGKILL);
	return cgroup_signal(&h->cgroup, SIGKILL, e);
}

int handle_destroy(struct handle *h, struct err *e)
{
	const struct timespec pause = {.tv_nsec = 1000000};

	/* Again, for what forked between our looking and our killing. */
	for (unsigned int i = 0; i < 5000; i++) {
		autofree pid_t *pids = NULL;
		size_t n = 0;
		int r = handle_kill(h, e);

		if (r == 0)
			r = cgroup_pids(&h->cgroup, &pids, &n, e);
		if (r < 0)
			return r;
		if (!n)
			break;
		nanosleep(&pause, NULL);
	}
	return cgroup_remove(&h->cgroup, e);
}

char *hook_state(const struct state *s, enum state_status status, const struct spec *spec)
{
	struct strbuf text = {0};

	state_format(s, status, &spec->annotations, &text);
	return strbuf_steal(&text);
}

int pid_file_write(const char *path, pid_t pid, struct err *e)
{
	autofree char *temp = xasprintf("%s.%d", path, getpid());
	autofree char *text = xasprintf("%d", pid);
	autoclose int fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	int r = fd < 0 ? -errno : write_full(fd, text, strlen(text));

	if (r == 0 && rename(temp, path) < 0)
		r = -errno;
	if (r < 0 && fd >= 0)
		unlink(temp);
	return r < 0 ? err_set(e, r, "write %s", path) : 0;
}

void hold_signals(void)
{
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
}

int wait_forwarding(pid_t pid, int *status, struct err *e)
{
	sigset_t all;
	int s, r;

	sigfillset(&all);
	for (;;) {
		int signal;

		/* Looked at before each wait: the child may have ended before signals were blocked.
		 */
		r = waitpid(pid, &s, WNOHANG);
		if (r < 0)
			return err_set(e, -errno, "wait for the container");
		if (r > 0) {
			*status = proc_exit_status(s);
			return 0;
		}
		if (sigwait(&all, &signal) == 0 && signal != SIGCHLD && signal != SIGPIPE)
			kill(pid, signal);
	}
}

static const char *status_word(const struct handle *h)
{
	return state_status_names[h->status];
}

int container_kill(const struct container_runtime *rt, const char *id, int signal, bool all,
		   struct err *e)
{
	autoclose int pidfd = -1;
	struct handle h;
	int r = handle_open(rt, id, false, &h, e);

	if (r == 0 && all)
		r = cgroup_signal(&h.cgroup, signal, e);
	else if (r == 0 && (h.status == STATE_STOPPED || h.status == STATE_CREATING))
		r = err_msg(e, -ESRCH, "container '%s' is %s: process already finished", id,
			    status_word(&h));
	else if (r == 0) {
		pidfd = r = proc_open(h.state.pid, h.state.start_time);
		if (pidfd >= 0)
			r = proc_signal(pidfd, signal);
		if (r < 0)
			err_set(e, r, "signal container '%s'", id);
		/* The dead of a frozen group stay until it thaws; version 1 never thaws for it. */
		if (r == 0 && signal == SIGKILL && h.status == STATE_PAUSED && !h.cgroup.v2)
			r = cgroup_freeze(&h.cgroup, false, e);
	}
	handle_close(&h);
	return r;
}

static void run_poststop(struct handle *h)
{
	autofree char *state = NULL;
	struct spec spec = {0};
	struct err e = {0};

	if (spec_load(h->dir, "config.json", &spec, &e) < 0)
		return;
	state = hook_state(&h->state, STATE_STOPPED, &spec);
	/* The container goes away all the same. */
	if (hooks_run(&spec, SPEC_HOOK_POSTSTOP, state, NULL, &e) < 0)
		log_warn("%s", e.msg);
	spec_fini(&spec);
}

/* Until the process has gone: who asks for its state next shall not find it. */
static void await_end(const struct handle *h)
{
	const struct timespec pause = {.tv_nsec = 1000000};

	for (unsigned int i = 0; i < 5000; i++) {
		if (!h->state.pid || proc_start_time(h->state.pid) != h->state.start_time)
			return;
		nanosleep(&pause, NULL);
	}
}

int container_delete(const struct container_runtime *rt, const char *id, bool force, struct err *e)
{
	struct handle h;
	int r = handle_open(rt, id, true, &h, e);

	if (r == -ENOENT && force)
		r = 0; /* what is not there is deleted */
	else if (r == 0 && !force && h.status != STATE_STOPPED)
		r = err_msg(e, -EBUSY, "container '%s' is %s, not stopped", id, status_word(&h));
	else if (r == 0) {
		container_sweep(h.root);
		r = handle_destroy(&h, e);
		if (r == 0) {
			await_end(&h);
			run_poststop(&h);
			r = state_remove(h.root, id, h.dir, e);
		}
	}
	handle_close(&h);
	return r;
}

int container_pause(const struct container_runtime *rt, const char *id, bool on, struct err *e)
{
	struct handle h;
	int r = handle_open(rt, id, true, &h, e);

	if (r == 0 && h.status != (on ? STATE_RUNNING : STATE_PAUSED) &&
	    !(on && h.status == STATE_CREATED))
		r = err_msg(e, -EINVAL, "container '%s' is %s, not %s", id, status_word(&h),
			    on ? "running" : "paused");
	if (r == 0)
		r = cgroup_freeze(&h.cgroup, on, e);
	handle_close(&h);
	return r;
}

int container_update(const struct container_runtime *rt, const char *id,
		     const struct spec_resources *res, struct err *e)
{
	struct handle h;
	int r = handle_open(rt, id, true, &h, e);

	if (r == 0 && h.status == STATE_STOPPED)
		r = err_msg(e, -ESRCH, "container '%s' is stopped", id);
	if (r == 0)
		r = cgroup_apply(&h.cgroup, res, e);
	if (r == 0)
		r = cgroup_apply_devices(&h.cgroup, res, e);
	handle_close(&h);
	return r;
}

int container_pids(const struct container_runtime *rt, const char *id, pid_t **ret, size_t *n,
		   struct err *e)
{
	struct handle h;
	int r = handle_open(rt, id, false, &h, e);

	if (r == 0)
		r = cgroup_pids(&h.cgroup, ret, n, e);
	handle_close(&h);
	return r;
}

int container_state(const struct container_runtime *rt, const char *id, struct strbuf *out,
		    struct err *e)
{
	struct spec spec = {0};
	struct handle h;
	int r = handle_open(rt, id, false, &h, e);

	if (r == 0) {
		/* Annotations are the configuration's; it is not there while it is being made. */
		(void)!spec_load(h.dir, "config.json", &spec, NULL);
		state_format(&h.state, h.status, &spec.annotations, out);
		spec_fini(&spec);
	}
	handle_close(&h);
	return r;
}

int container_stats(const struct container_runtime *rt, const char *id, struct strbuf *out,
		    struct err *e)
{
	struct handle h;
	int r = handle_open(rt, id, false, &h, e);

	if (r == 0)
		cgroup_stats(&h.cgroup, out);
	handle_close(&h);
	return r;
}

int container_list(const struct container_runtime *rt,
		   void (*fn)(void *opaque, const struct state *s, enum state_status status),
		   void *opaque, struct err *e)
{
	autoclose int root = open(rt->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char **names;
	int r;

	if (root < 0)
		return errno == ENOENT ? 0 : err_set(e, -errno, "open %s", rt->root);
	container_sweep(root);
	r = state_names(root, false, &names, e);
	if (r < 0)
		return r;
	for (size_t i = 0; names[i]; i++) {
		struct handle h;

		if (handle_open(rt, names[i], false, &h, NULL) == 0)
			fn(opaque, &h.state, h.status);
		handle_close(&h);
	}
	state_names_free(names);
	return 0;
}

void container_sweep(int root)
{
	char **names;

	if (state_names(root, true, &names, NULL) < 0)
		return;
	for (size_t i = 0; names[i]; i++) {
		struct handle h = {.root = -1, .dir = -1};
		struct err e = {0};

		if (state_open_fresh(root, names[i], &h.dir, &h.state) < 0)
			continue;
		if (find_cgroup(&h, &e) < 0 || handle_destroy(&h, &e) < 0 ||
		    state_remove(root, names[i], h.dir, &e) < 0)
			log_warn("remains of container '%s': %s", names[i], e.msg);
		handle_close(&h);
	}
	state_names_free(names);
}
