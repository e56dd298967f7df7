/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container/start.c - start: the word to the process that waits, and what comes of it
 */
#include "container/container_priv.h"

#include "container/hooks.h"
#include "container/proc.h"
#include "container/seccomp_filter.h"
#include "container/sync.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

/* What the listener's owner gets (runtime-spec, "The Container Process State"). */
static char *process_state(const struct spec_seccomp *seccomp, const struct state *s, pid_t pid,
			   const struct spec *spec)
{
	autofree char *inner = hook_state(s, STATE_CREATED, spec);
	json_t *state = json_loads(inner, 0, NULL), *o;
	char *text;

	o = json_pack("{s:s, s:[s], s:i, s:s, s:o}", "ociVersion", SPEC_VERSION, "fds", "seccompFd",
		      "pid", (int)pid, "metadata",
		      seccomp->listener_metadata ? seccomp->listener_metadata : "", "state",
		      state ? state : json_object());
	text = o ? json_dumps(o, JSON_COMPACT) : NULL;
	json_decref(o);
	return text ? text : xstrdup("{}");
}

int follow_exec(int conn, const struct spec_seccomp *seccomp, const struct state *s, pid_t pid,
		const struct spec *spec, struct err *e)
{
	struct sync_msg m;
	int r;

	for (;;) {
		r = sync_receive(conn, &m);
		if (r == -EPIPE)
			return 0; /* closed at exec: the program runs */
		if (r < 0)
			return err_set(e, r, "start the program");
		if (m.type == SYNC_ERROR)
			return err_msg(e, m.value < 0 ? m.value : -EPROTO, "%s", m.text);
		if (m.type == SYNC_LISTENER) {
			autofree char *state = process_state(seccomp, s, pid, spec);
			autoclose int pidfd = proc_open(pid, proc_start_time(pid));

			r = pidfd < 0 ? err_set(e, pidfd, "the container's process")
				      : seccomp_hand_over(seccomp, pidfd, m.value, state, e);
			if (r == 0)
				r = sync_send(conn, SYNC_GO, 0, NULL);
		}
		if (r < 0)
			return r;
	}
}

static int connect_start(struct handle *h, struct err *e)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	autoclose int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return err_set(e, -errno, "socket");
	snprintf(addr.sun_path, sizeof(addr.sun_path), "/proc/self/fd/%d/start.sock", h->dir);
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return err_set(e, -errno, "start container '%s'", h->state.id);
	/* From here on it counts as started.  Were we killed now, the process would end, for it
	 * finds the connection closed without the word. */
	if (unlinkat(h->dir, "start.sock", 0) < 0)
		return err_set(e, -errno, "start container '%s'", h->state.id);
	return steal_fd(&fd);
}

/* --- notify socket --- */

static int bind_notify(struct handle *h, struct err *e)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	autoclose int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return err_set(e, -errno, "socket");
	snprintf(addr.sun_path, sizeof(addr.sun_path), "/proc/self/fd/%d/notify/notify.sock",
		 h->dir);
	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
	    fchmodat(h->dir, "notify/notify.sock", 0777, 0) < 0)
		return err_set(e, -errno, "notify socket");
	return steal_fd(&fd);
}

static void tell(const char *path, const char *text)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	autoclose int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	size_t len = strlen(path);

	if (fd < 0 || len >= sizeof(addr.sun_path))
		return;
	memcpy(addr.sun_path, path, len);
	if (path[0] == '@') /* abstract */
		addr.sun_path[0] = '\0';
	sendto(fd, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&addr,
	       (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len));
}

/* Hands on READY=1 alone: other messages would make the host's manager act on a container's word.
 * Until it came, or the container ended. */
static void relay_notify(struct handle *h, int fd, const char *to)
{
	autoclose int pidfd = proc_open(h->state.pid, h->state.start_time);
	struct pollfd p[] = {{.fd = fd, .events = POLLIN}, {.fd = pidfd, .events = POLLIN}};
	char text[4097];

	while (pidfd >= 0) {
		ssize_t n;

		if (poll(p, 2, -1) < 0 && errno != EINTR)
			return;
		n = p[0].revents ? recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT) : 0;
		if (n > 0) {
			text[n] = '\0';
			if (strncmp(text, "READY=1", 7) == 0 || strstr(text, "\nREADY=1")) {
				autofree char *ready =
				    xasprintf("READY=1\nMAINPID=%d\n", h->state.pid);

				tell(to, ready);
				return;
			}
		} else if (p[1].revents) {
			return;
		}
	}
}

static int start(struct handle *h, struct spec *spec, struct err *e)
{
	const char *to = getenv("NOTIFY_SOCKET");
	autoclose int notify = -1, conn = -1;
	autofree char *state = NULL;
	int r;

	if (to && faccessat(h->dir, "notify", F_OK, 0) == 0) {
		notify = bind_notify(h, e);
		if (notify < 0)
			return notify;
	}
	conn = connect_start(h, e);
	if (conn < 0)
		return conn;
	r = sync_send(conn, SYNC_GO, 0, NULL);
	if (r == 0)
		r = follow_exec(conn, &spec->seccomp, &h->state, h->state.pid, spec, e);
	if (r < 0)
		return r;
	state = hook_state(&h->state, STATE_RUNNING, spec);
	r = hooks_run(spec, SPEC_HOOK_POSTSTART, state, NULL, e);
	if (r == 0 && notify >= 0) {
		state_unlock(h->dir);
		relay_notify(h, notify, to);
	}
	return r;
}

int container_start(const struct container_runtime *rt, const char *id, struct err *e)
{
	struct spec spec = {0};
	struct handle h;
	int r = handle_open(rt, id, true, &h, e);

	if (r == 0 && h.status != STATE_CREATED)
		r = err_msg(e, -EINVAL, "container '%s' is %s, not created", id,
			    state_status_names[h.status]);
	if (r == 0)
		r = spec_load(h.dir, "config.json", &spec, e);
	if (r == 0) {
		struct err ignored;

		r = start(&h, &spec, e);
		/* A container that could not be started is stopped, to be deleted. */
		if (r < 0)
			(void)!handle_kill(&h, &ignored);
	}
	spec_fini(&spec);
	handle_close(&h);
	return r;
}
