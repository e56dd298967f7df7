/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daemon/policy.c - what is done without being asked: autostart, restarts with back-off, the
 * watchdog
 *
 * `wanted` in the store says that a person started a machine and did not stop it since: only such a
 * machine is restarted, also by a daemon that finds it gone.
 */
#include "daemon/daemon_priv.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#define FIRST_DELAY    (1 * NSEC_PER_SEC)
#define LONGEST_DELAY  (60 * NSEC_PER_SEC)
#define GOOD_RUN       60 /* seconds after which the next failure is a first one again */
#define WATCHDOG_EVERY (2 * NSEC_PER_SEC)
#define PING_MS        1500

/* A machine that ends too often; stays until it ran well. */
struct restart {
	struct list node;
	struct daemon *d;
	char uuid[MACHINE_UUID_LEN + 1];
	uint64_t delay;
	struct timer timer;
	bool due; /* waits for its time */
};

/* The lock held. */
static struct restart *find_restart(struct daemon *d, const char *uuid)
{
	struct list *at;

	list_for_each(at, &d->restarts)
	{
		struct restart *r = container_of(at, struct restart, node);

		if (strcmp(r->uuid, uuid) == 0)
			return r;
	}
	return NULL;
}

static void restart_free(struct restart *r)
{
	timer_cancel(&r->timer);
	list_remove(&r->node);
	free(r);
}

static bool is_failure(const char *reason, int64_t status)
{
	return status != 0 || (strcmp(reason, "poweroff") != 0 && strcmp(reason, "stop") != 0 &&
			       strcmp(reason, "exit") != 0 && strcmp(reason, "reset") != 0);
}

static bool applies(const struct machine_record *m, bool failure)
{
	return m->wanted && (m->restart == MACHINE_RESTART_ALWAYS ||
			     (m->restart == MACHINE_RESTART_ON_FAILURE && failure));
}

/* --- starting --- */

static void schedule(struct daemon *d, const struct machine_record *m);

static void start_claimed(struct daemon *d, const char *uuid)
{
	struct machine_record m;
	struct err e = {0};

	if (store_machine_get(d->store, uuid, &m, NULL) < 0)
		return; /* deleted meanwhile */
	if (m.wanted && !guest_get(d, uuid, NULL) && power_start(d, &m, &e) < 0) {
		event_emit(d, "machine.failed", uuid, m.name, json_pack("{s:s}", "message", e.msg));
		if (applies(&m, true))
			schedule(d, &m);
	}
	machine_record_fini(&m);
}

/* Frees @opaque, a UUID. */
static void start_main(struct daemon *d, void *opaque)
{
	autofree char *uuid = opaque;

	if (daemon_claim(d, uuid, uuid, NULL) < 0)
		return;
	start_claimed(d, uuid);
	daemon_release(d, uuid);
}

static void on_restart(void *opaque)
{
	struct restart *r = opaque;
	char *uuid = xstrdup(r->uuid);

	pthread_mutex_lock(&r->d->lock);
	r->due = false;
	pthread_mutex_unlock(&r->d->lock);
	if (daemon_thread(r->d, start_main, uuid, NULL) < 0)
		free(uuid);
}

static void schedule(struct daemon *d, const struct machine_record *m)
{
	struct restart *r;
	uint64_t delay;

	pthread_mutex_lock(&d->lock);
	r = find_restart(d, m->uuid);
	if (!r) {
		r = xnew(struct restart);
		r->d = d;
		snprintf(r->uuid, sizeof(r->uuid), "%s", m->uuid);
		timer_init(&r->timer, loop_timers(d->loop), on_restart, r);
		list_append(&d->restarts, &r->node);
	}
	r->delay = delay = r->delay ? MIN(2 * r->delay, LONGEST_DELAY) : FIRST_DELAY;
	r->due = true;
	timer_set(&r->timer, clock_now() + delay);
	pthread_mutex_unlock(&d->lock);
	event_emit(d, "machine.restarting", m->uuid, m->name,
		   json_pack("{s:I}", "delay", (json_int_t)(delay / NSEC_PER_SEC)));
}

/* The loop's thread alone frees them: none of their timers' calls is on its way then. */
static void forget_failures(struct daemon *d, const char *uuid)
{
	struct restart *r;

	pthread_mutex_lock(&d->lock);
	r = find_restart(d, uuid);
	if (r)
		restart_free(r);
	pthread_mutex_unlock(&d->lock);
}

void policy_ended(struct daemon *d, const char *uuid, const char *reason, int64_t status,
		  bool stop_wanted, int64_t ran)
{
	struct machine_record m;

	if (ran >= GOOD_RUN || stop_wanted)
		forget_failures(d, uuid);
	if (store_machine_get(d->store, uuid, &m, NULL) < 0)
		return;
	if (!stop_wanted && applies(&m, is_failure(reason, status)))
		schedule(d, &m);
	else if (m.wanted && store_machine_set_wanted(d->store, uuid, false, NULL) < 0)
		log_warn("'%s': the store cannot be written", m.name);
	machine_record_fini(&m);
}

/* --- at the start --- */

/* Once a boot: a machine that was stopped by hand stays so when insulad is started again. */
static bool first_since_boot(struct daemon *d)
{
	autofree char *path = xasprintf("%s/autostarted", d->run_dir);
	autoclose int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	return fd >= 0;
}

static int by_order(const void *a, const void *b)
{
	const struct machine_record *x = a, *y = b;

	return x->autostart_order != y->autostart_order
		   ? (x->autostart_order < y->autostart_order ? -1 : 1)
		   : strcmp(x->name, y->name);
}

/* One after the other, in their order. */
static void autostart_main(struct daemon *d, void *opaque)
{
	struct machine_record *rows = NULL;
	size_t n = 0;

	if (store_machine_list(d->store, &rows, &n, NULL) < 0)
		return;
	if (n)
		qsort(rows, n, sizeof(*rows), by_order);
	for (size_t i = 0; i < n; i++) {
		struct machine_record *m = &rows[i];

		if (m->autostart && !d->stopping && !guest_get(d, m->uuid, NULL) &&
		    store_machine_set_wanted(d->store, m->uuid, true, NULL) == 0)
			start_main(d, xstrdup(m->uuid));
		machine_record_fini(m);
	}
	free(rows);
}

static void on_watchdog(void *opaque);

void policy_start(struct daemon *d)
{
	struct machine_record *rows = NULL;
	size_t n = 0;

	timer_init(&d->watchdog, loop_timers(d->loop), on_watchdog, d);
	timer_set(&d->watchdog, clock_now() + WATCHDOG_EVERY);
	if (store_machine_list(d->store, &rows, &n, NULL) < 0)
		return;
	for (size_t i = 0; i < n; i++) {
		struct machine_record *m = &rows[i];

		/* Of an end that nobody wrote down, a power cut's, we know only that it was none
		 * that was asked for. */
		if (!guest_get(d, m->uuid, NULL) &&
		    applies(m, is_failure(m->end_reason ? m->end_reason : "killed", m->end_status)))
			schedule(d, m);
		machine_record_fini(m);
	}
	free(rows);
	if (first_since_boot(d) && daemon_thread(d, autostart_main, NULL, NULL) < 0)
		log_warn("autostart: no thread");
}

/* --- watchdog --- */

/* Silent for too long since it answered for the first time: pressed its reset button. */
static void check_guest(struct daemon *d, const char *uuid)
{
	struct machine_record m;
	struct guest_info info;
	struct guest *g;
	uint64_t seen = 0;
	bool ok;

	if (store_machine_get(d->store, uuid, &m, NULL) < 0)
		return;
	if (!m.watchdog || !guest_get(d, uuid, &info) || !info.agent) {
		machine_record_fini(&m);
		return;
	}
	ok = info.state == GUEST_RUNNING && agent_ping(d, uuid, PING_MS);
	pthread_mutex_lock(&d->lock);
	g = guest_find(d, uuid);
	if (g && (ok || g->state != GUEST_RUNNING))
		g->agent_seen = ok || g->agent_seen ? clock_now() : 0;
	seen = g ? g->agent_seen : 0;
	pthread_mutex_unlock(&d->lock);
	if (seen && clock_now() - seen > (uint64_t)m.watchdog * NSEC_PER_SEC) {
		event_emit(d, "machine.hung", uuid, m.name,
			   json_pack("{s:I}", "silent", (json_int_t)m.watchdog));
		(void)!vmm_call(d, uuid, "reset", NULL, NULL, NULL);
		pthread_mutex_lock(&d->lock);
		g = guest_find(d, uuid);
		if (g)
			g->agent_seen = 0; /* until it is up again */
		pthread_mutex_unlock(&d->lock);
	}
	machine_record_fini(&m);
}

static void watchdog_main(struct daemon *d, void *opaque)
{
	char(*uuids)[MACHINE_UUID_LEN + 1];
	struct list *at;
	size_t n = 0, i = 0;

	pthread_mutex_lock(&d->lock);
	list_for_each(at, &d->guests) n++;
	uuids = xcalloc(n + 1, sizeof(*uuids));
	list_for_each(at, &d->guests)
	{
		const struct guest *g = container_of(at, struct guest, node);

		if (g->agent)
			memcpy(uuids[i++], g->uuid, sizeof(*uuids));
	}
	pthread_mutex_unlock(&d->lock);
	for (n = i, i = 0; i < n && !d->stopping; i++)
		check_guest(d, uuids[i]);
	free(uuids);
	timer_set(&d->watchdog, clock_now() + WATCHDOG_EVERY);
}

static void on_watchdog(void *opaque)
{
	struct daemon *d = opaque;
	bool any;

	pthread_mutex_lock(&d->lock);
	any = !list_empty(&d->guests);
	pthread_mutex_unlock(&d->lock);
	if (!any || daemon_thread(d, watchdog_main, NULL, NULL) < 0)
		timer_set(&d->watchdog, clock_now() + WATCHDOG_EVERY);
}

bool policy_pending(struct daemon *d)
{
	struct list *at;
	bool due = false;

	pthread_mutex_lock(&d->lock);
	list_for_each(at, &d->restarts) due = due || container_of(at, struct restart, node)->due;
	pthread_mutex_unlock(&d->lock);
	return due;
}

void policy_free(struct daemon *d)
{
	struct list *at, *tmp;

	if (d->watchdog.fn)
		timer_cancel(&d->watchdog);
	list_for_each_safe(at, tmp, &d->restarts)
	    restart_free(container_of(at, struct restart, node));
}
