/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daemon/guest.c - machines that run: each has a process insula-vmm, watched by its pidfd, and a
 * control connection that tells events
 *
 * Nothing here ends a guest when we end: the process is in a session of its own and does not know
 * us.
 */
#include "daemon/daemon_priv.h"

#include "base/clock.h"
#include "base/dirs.h"
#include "base/log.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#define LINE_LIMIT 65536u

struct guest *guest_find(struct daemon *d, const char *uuid)
{
	struct list *at;

	list_for_each(at, &d->guests)
	{
		struct guest *g = container_of(at, struct guest, node);

		if (strcmp(g->uuid, uuid) == 0)
			return g;
	}
	return NULL;
}

bool guest_get(struct daemon *d, const char *uuid, struct guest_info *ret)
{
	struct guest *g;

	pthread_mutex_lock(&d->lock);
	g = guest_find(d, uuid);
	if (g && ret)
		*ret = (struct guest_info){g->state, g->pid, g->started, g->agent};
	pthread_mutex_unlock(&d->lock);
	return g != NULL;
}

int guest_add(struct daemon *d, const char *uuid, const char *name, bool agent, struct err *e)
{
	struct guest *g = NULL;

	pthread_mutex_lock(&d->lock);
	if (!guest_find(d, uuid)) {
		g = xnew(struct guest);
		g->d = d;
		g->name = xstrdup(name);
		g->pidfd = g->control = -1;
		g->agent = agent;
		snprintf(g->uuid, sizeof(g->uuid), "%s", uuid);
		list_append(&d->guests, &g->node);
		list_init(&g->arrival);
	}
	pthread_mutex_unlock(&d->lock);
	return g ? 0 : err_msg(e, -EBUSY, "'%s' is running already", name);
}

static void guest_free(struct guest *g)
{
	list_remove(&g->node);
	list_remove(&g->arrival);
	if (g->pid_watch.added)
		loop_remove(g->d->loop, &g->pid_watch);
	if (g->control_watch.added)
		loop_remove(g->d->loop, &g->control_watch);
	close_p(&g->pidfd);
	close_p(&g->control);
	strbuf_fini(&g->lines);
	free(g->name);
	free(g);
}

void guest_drop(struct daemon *d, const char *uuid)
{
	struct guest *g;

	pthread_mutex_lock(&d->lock);
	g = guest_find(d, uuid);
	if (g)
		guest_free(g);
	pthread_cond_broadcast(&d->changed);
	pthread_mutex_unlock(&d->lock);
}

/* The same for every insulad that the guest sees. */
static int64_t started_at(struct daemon *d, const char *uuid)
{
	autofree char *path = path_run(d, uuid, "exit"); /* made at the start, written at the end */
	struct stat st;

	return stat(path, &st) == 0 ? (int64_t)st.st_mtime : (int64_t)time(NULL);
}

void guest_run(struct daemon *d, const char *uuid, pid_t pid, int pidfd, int control)
{
	int64_t started = started_at(d, uuid);
	struct guest *g;

	pthread_mutex_lock(&d->lock);
	g = guest_find(d, uuid);
	g->pid = pid;
	g->pidfd = pidfd;
	g->control = control;
	g->state = GUEST_RUNNING;
	g->started = started;
	g->agent_seen = 0; /* until its agent is up */
	list_append(&d->arrivals, &g->arrival);
	pthread_cond_broadcast(&d->changed);
	pthread_mutex_unlock(&d->lock);
	loop_post(d->loop, &d->arrive);
}

void guest_expect_end(struct daemon *d, const char *uuid)
{
	struct guest *g;

	pthread_mutex_lock(&d->lock);
	g = guest_find(d, uuid);
	if (g)
		g->stop_wanted = true;
	pthread_mutex_unlock(&d->lock);
}

bool guest_wait_gone(struct daemon *d, const char *uuid, unsigned int ms)
{
	struct timespec deadline = daemon_deadline(ms);
	bool gone;

	pthread_mutex_lock(&d->lock);
	while (guest_find(d, uuid) && daemon_wait(d, &deadline))
		;
	gone = !guest_find(d, uuid);
	pthread_mutex_unlock(&d->lock);
	return gone;
}

bool guest_wait_state(struct daemon *d, const char *uuid, enum guest_state state, unsigned int ms)
{
	struct timespec deadline = daemon_deadline(ms);
	struct guest *g;

	pthread_mutex_lock(&d->lock);
	while ((g = guest_find(d, uuid)) && g->state != state && daemon_wait(d, &deadline))
		;
	g = guest_find(d, uuid);
	state = g && g->state == state;
	pthread_mutex_unlock(&d->lock);
	return state;
}

void guest_kill(struct daemon *d, const char *uuid)
{
	struct guest *g;

	pthread_mutex_lock(&d->lock);
	g = guest_find(d, uuid);
	/* By descriptor: a number might be another process's by now. */
	if (g && g->pidfd >= 0)
		syscall(SYS_pidfd_send_signal, g->pidfd, SIGKILL, NULL, 0);
	pthread_mutex_unlock(&d->lock);
}

/* --- the loop's side --- */

/* A rename may change it at any time. */
static char *name_of(struct guest *g)
{
	char *name;

	pthread_mutex_lock(&g->d->lock);
	name = xstrdup(g->name);
	pthread_mutex_unlock(&g->d->lock);
	return name;
}

static void set_state(struct guest *g, enum guest_state state, const char *event)
{
	autofree char *name = name_of(g);

	pthread_mutex_lock(&g->d->lock);
	g->state = state;
	pthread_cond_broadcast(&g->d->changed);
	pthread_mutex_unlock(&g->d->lock);
	event_emit(g->d, event, g->uuid, name, NULL);
}

static void take_line(struct guest *g, const char *line, size_t len)
{
	json_t *o = json_loadb(line, len, 0, NULL);
	const char *event = json_string_value(json_object_get(o, "event"));
	autofree char *name = name_of(g);

	if (event && strcmp(event, "paused") == 0)
		set_state(g, GUEST_PAUSED, "machine.paused");
	else if (event && strcmp(event, "resumed") == 0)
		set_state(g, GUEST_RUNNING, "machine.resumed");
	else if (event && strcmp(event, "reset") == 0)
		event_emit(g->d, "machine.reset", g->uuid, name, NULL);
	/* "shutdown" is told when the process is gone. */
	json_decref(o);
}

static void on_control(void *opaque, uint32_t events)
{
	struct guest *g = opaque;
	char chunk[4096], *end;
	ssize_t n = recv(g->control, chunk, sizeof(chunk), MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0 || g->lines.len > LINE_LIMIT) {
		loop_remove(g->d->loop, &g->control_watch);
		return; /* the pidfd tells of the end */
	}
	strbuf_add(&g->lines, chunk, (size_t)n);
	while (g->lines.len && (end = memchr(g->lines.data, '\n', g->lines.len))) {
		size_t len = (size_t)(end - g->lines.data);

		take_line(g, g->lines.data, len);
		strbuf_consume(&g->lines, len + 1);
	}
}

static void on_end(void *opaque, uint32_t events)
{
	struct guest *g = opaque;
	struct daemon *d = g->d;
	char uuid[sizeof(g->uuid)], reason[32], words[256];
	autofree char *name = name_of(g);
	autofree char *control = path_guest(d, g->uuid, "control");
	bool stop_wanted = g->stop_wanted;
	int64_t status, ran = (int64_t)time(NULL) - g->started;
	siginfo_t si;

	/* Of a daemon before us it is no child. */
	(void)!waitid(P_PIDFD, (id_t)g->pidfd, &si, WEXITED | WNOHANG);
	snprintf(uuid, sizeof(uuid), "%s", g->uuid);
	vmm_read_end(d, uuid, reason, &status, words, sizeof(words));
	if (store_machine_set_end(d->store, uuid, reason, status, NULL) < 0)
		log_debug("%s: its end could not be written down", name);
	unlink(control);
	run_dir_remove(d, uuid);
	guest_drop(d, uuid);
	event_emit(d, "machine.stopped", uuid, name,
		   json_pack("{s:s, s:I, s:s}", "reason", reason, "status", (json_int_t)status,
			     "message", words));
	policy_ended(d, uuid, reason, status, stop_wanted, ran);
}

static void watch(struct guest *g)
{
	int r = loop_add(g->d->loop, &g->pid_watch, g->pidfd, EPOLLIN, on_end, g);

	if (r == 0 && g->control >= 0)
		r = loop_add(g->d->loop, &g->control_watch, g->control, EPOLLIN, on_control, g);
	if (r < 0)
		log_warn("%s: cannot be watched: %s", g->name, strerror(-r));
}

void guests_arrive(void *opaque)
{
	struct daemon *d = opaque;

	for (;;) {
		struct guest *g = NULL;

		pthread_mutex_lock(&d->lock);
		if (!list_empty(&d->arrivals)) {
			g = container_of(d->arrivals.next, struct guest, arrival);
			list_remove(&g->arrival);
		}
		pthread_mutex_unlock(&d->lock);
		if (!g)
			return;
		watch(g);
	}
}

void guests_free(struct daemon *d)
{
	struct list *at, *tmp;

	list_for_each_safe(at, tmp, &d->guests) guest_free(container_of(at, struct guest, node));
}
