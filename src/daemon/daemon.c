/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daemon/daemon.c - the core's life, its threads, claims
 */
#include "daemon/daemon_priv.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

#define MAX_THREADS     512
#define THREAD_STACK    (1u << 20)
#define CLAIM_MS        30000
#define STOP_PATIENCE_S 20

struct claim {
	struct list node;
	char key[80];
};

/* --- waiting --- */

struct timespec daemon_deadline(unsigned int ms)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	ts.tv_sec += ms / 1000;
	ts.tv_nsec += (long)(ms % 1000) * 1000000;
	if (ts.tv_nsec >= 1000000000) {
		ts.tv_sec++;
		ts.tv_nsec -= 1000000000;
	}
	return ts;
}

bool daemon_wait(struct daemon *d, const struct timespec *deadline)
{
	return !d->stopping &&
	       pthread_cond_timedwait(&d->changed, &d->lock, deadline) != ETIMEDOUT && !d->stopping;
}

static struct claim *find_claim(struct daemon *d, const char *key)
{
	struct list *at;

	list_for_each(at, &d->claims)
	{
		struct claim *c = container_of(at, struct claim, node);

		if (strcmp(c->key, key) == 0)
			return c;
	}
	return NULL;
}

int daemon_claim(struct daemon *d, const char *key, const char *name, struct err *e)
{
	struct timespec deadline = daemon_deadline(CLAIM_MS);
	struct claim *c;

	pthread_mutex_lock(&d->lock);
	while (find_claim(d, key) && daemon_wait(d, &deadline))
		;
	if (d->stopping || find_claim(d, key)) {
		pthread_mutex_unlock(&d->lock);
		return err_msg(e, -EBUSY, "another operation on '%s' takes long: try again later",
			       name);
	}
	c = xnew(struct claim);
	snprintf(c->key, sizeof(c->key), "%s", key);
	list_append(&d->claims, &c->node);
	pthread_mutex_unlock(&d->lock);
	return 0;
}

void daemon_release(struct daemon *d, const char *key)
{
	struct claim *c;

	pthread_mutex_lock(&d->lock);
	c = find_claim(d, key);
	if (c) {
		list_remove(&c->node);
		free(c);
	}
	pthread_cond_broadcast(&d->changed);
	pthread_mutex_unlock(&d->lock);
}

/* --- threads --- */

static bool enter(struct daemon *d)
{
	bool ok;

	pthread_mutex_lock(&d->lock);
	ok = !d->stopping && d->n_threads < MAX_THREADS;
	d->n_threads += ok;
	pthread_mutex_unlock(&d->lock);
	return ok;
}

static void leave(struct daemon *d)
{
	pthread_mutex_lock(&d->lock);
	d->n_threads--;
	pthread_cond_broadcast(&d->changed);
	pthread_mutex_unlock(&d->lock);
}

struct thread {
	struct daemon *d;
	void (*fn)(struct daemon *d, void *opaque);
	void *opaque;
};

static void *thread_main(void *arg)
{
	struct thread t = *(struct thread *)arg;

	free(arg);
	t.fn(t.d, t.opaque);
	leave(t.d);
	return NULL;
}

int daemon_thread(struct daemon *d, void (*fn)(struct daemon *d, void *opaque), void *opaque,
		  struct err *e)
{
	struct thread *t;
	pthread_attr_t attr;
	pthread_t id;
	int r;

	if (!enter(d))
		return err_msg(e, -EAGAIN, "insulad is busy: try again");
	t = xnew(struct thread);
	*t = (struct thread){d, fn, opaque};
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, THREAD_STACK);
	r = -pthread_create(&id, &attr, thread_main, t);
	pthread_attr_destroy(&attr);
	if (r < 0) {
		free(t);
		leave(d);
		return err_set(e, r, "start a thread");
	}
	return 0;
}

/* --- life --- */

static int make_dirs(const struct daemon *d, struct err *e)
{
	static const char *const data[] = {"guests", "machines"};
	autofree char *vm = xasprintf("%s/vm", d->run_dir);
	int r = make_dir(vm, 0700, e);

	for (size_t i = 0; i < ARRAY_SIZE(data) && r == 0; i++) {
		autofree char *path = xasprintf("%s/%s", d->data_dir, data[i]);

		r = make_dir(path, 0700, e);
	}
	return r;
}

int daemon_new(const struct daemon_config *cfg, struct daemon **ret, struct err *e)
{
	struct daemon *d = xnew(struct daemon);
	autofree char *db = xasprintf("%s/insula.db", cfg->data_dir);
	pthread_condattr_t attr;
	int r;

	d->loop = cfg->loop;
	d->data_dir = xstrdup(cfg->data_dir);
	d->run_dir = xstrdup(cfg->run_dir);
	pthread_mutex_init(&d->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&d->changed, &attr);
	pthread_condattr_destroy(&attr);
	list_init(&d->guests);
	list_init(&d->arrivals);
	list_init(&d->claims);
	list_init(&d->jobs);
	list_init(&d->listeners);
	list_init(&d->restarts);
	loop_work_init(&d->arrive, guests_arrive, d);
	r = make_dirs(d, e);
	if (r == 0)
		r = store_open(db, &d->store, e);
	if (r == 0)
		r = tokens_load(d, e);
	if (r == 0)
		r = recover(d, e);
	if (r < 0)
		daemon_free(d);
	else
		*ret = d;
	return r;
}

void daemon_start(struct daemon *d)
{
	policy_start(d);
}

struct loop *daemon_loop(const struct daemon *d)
{
	return d->loop;
}

bool daemon_is_idle(struct daemon *d)
{
	bool idle;

	pthread_mutex_lock(&d->lock);
	idle = list_empty(&d->guests) && d->n_threads == 0;
	pthread_mutex_unlock(&d->lock);
	return idle && !policy_pending(d);
}

void daemon_stop(struct daemon *d)
{
	struct timespec deadline = daemon_deadline(STOP_PATIENCE_S * 1000);

	jobs_cancel(d);
	pthread_mutex_lock(&d->lock);
	d->stopping = true;
	pthread_cond_broadcast(&d->changed);
	while (d->n_threads > 0 &&
	       pthread_cond_timedwait(&d->changed, &d->lock, &deadline) != ETIMEDOUT)
		;
	if (d->n_threads > 0) {
		/* They would use what is freed; what they do is safe to cut anywhere. */
		log_warn("%u operations did not end in time: left in the middle", d->n_threads);
		_exit(0);
	}
	pthread_mutex_unlock(&d->lock);
}

void daemon_free(struct daemon *d)
{
	if (!d)
		return;
	daemon_stop(d);
	policy_free(d);
	guests_free(d);
	jobs_free(d);
	loop_unpost(d->loop, &d->arrive);
	for (size_t i = 0; i < ARRAY_SIZE(d->events); i++)
		json_decref(d->events[i]);
	tokens_free(d);
	store_close(d->store);
	free(d->data_dir);
	free(d->run_dir);
	pthread_cond_destroy(&d->changed);
	pthread_mutex_destroy(&d->lock);
	free(d);
}
