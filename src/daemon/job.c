/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daemon/job.c - operations that take long: progress, cancelling, results kept for a while
 *
 * A job lives as long as the daemon: one that was cut off leaves nothing but what is swept at the
 * next start, so there is nothing of it to keep.
 */
#include "daemon/daemon_priv.h"

#include "base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

#define KEEP_ENDED    200
#define TELL_INTERVAL (500 * NSEC_PER_MSEC)

static const char *const state_names[] = {"running", "done", "failed", "cancelled"};

json_t *job_format(const struct job *j)
{
	json_t *o = json_pack("{s:I, s:s, s:s, s:f, s:I}", "id", (json_int_t)j->id, "operation",
			      j->op->name, "state", state_names[j->state], "percent",
			      j->state == JOB_DONE ? 100.0 : j->fraction * 100, "started",
			      (json_int_t)j->started);

	if (j->text[0])
		json_object_set_new(o, "step", json_string(j->text));
	if (j->state != JOB_RUNNING)
		json_object_set_new(o, "ended", json_integer(j->ended));
	if (j->result)
		json_object_set(o, "result", j->result);
	if (j->state == JOB_FAILED || j->state == JOB_CANCELLED)
		json_object_set_new(o, "error",
				    json_pack("{s:s, s:i}", "message", j->error.msg, "exit_status",
					      j->error.exit_code));
	return o;
}

/* --- progress --- */

static void tell(struct job *j, const char *type)
{
	json_t *o;

	pthread_mutex_lock(&j->d->lock);
	o = job_format(j);
	pthread_mutex_unlock(&j->d->lock);
	json_object_del(o, "result");
	event_emit(j->d, type, NULL, NULL, json_pack("{s:o}", "job", o));
}

static void on_progress(void *opaque, const struct progress_event *ev)
{
	struct job *j = opaque;
	uint64_t now = clock_now();

	pthread_mutex_lock(&j->d->lock);
	j->fraction = ev->fraction;
	snprintf(j->text, sizeof(j->text), "%s: %s", ev->subject, ev->text);
	pthread_cond_broadcast(&j->d->changed);
	pthread_mutex_unlock(&j->d->lock);
	if (!ev->new_step && now - j->told < TELL_INTERVAL)
		return;
	j->told = now;
	tell(j, "job.progress");
}

static void on_note(void *opaque, const char *text)
{
	struct job *j = opaque;

	pthread_mutex_lock(&j->d->lock);
	snprintf(j->text, sizeof(j->text), "%s", text);
	pthread_cond_broadcast(&j->d->changed);
	pthread_mutex_unlock(&j->d->lock);
	tell(j, "job.progress");
}

static bool is_cancelled(void *opaque)
{
	struct job *j = opaque;
	bool cancel;

	pthread_mutex_lock(&j->d->lock);
	cancel = j->cancel;
	pthread_mutex_unlock(&j->d->lock);
	return cancel;
}

void job_progress(struct job *j, struct progress *ret)
{
	*ret = (struct progress){
	    .show = on_progress, .note = on_note, .cancelled = is_cancelled, .opaque = j};
}

void job_fraction(struct job *j, const char *text, double fraction)
{
	if (j)
		on_progress(j, &(struct progress_event){
				   .subject = j->op->name, .text = text, .fraction = fraction});
}

/* --- life --- */

static void job_free(struct job *j)
{
	list_remove(&j->node);
	json_decref(j->args);
	json_decref(j->result);
	free(j);
}

/* The oldest of those that ended, beyond what is kept; the lock held. */
static void forget_old(struct daemon *d)
{
	struct list *at, *tmp;
	size_t ended = 0;

	list_for_each(at, &d->jobs) ended +=
	    container_of(at, struct job, node)->state != JOB_RUNNING;
	list_for_each_safe(at, tmp, &d->jobs)
	{
		struct job *j = container_of(at, struct job, node);

		if (ended <= KEEP_ENDED)
			return;
		if (j->state == JOB_RUNNING)
			continue;
		job_free(j);
		ended--;
	}
}

static void job_main(struct daemon *d, void *opaque)
{
	struct job *j = opaque;
	struct op_call call = {.d = d, .op = j->op, .args = j->args, .job = j, .stream = -1};
	struct err e = {0};
	int r = operation_run(&call, &e);
	json_t *o;

	strbuf_fini(&call.text);
	pthread_mutex_lock(&d->lock);
	j->result = call.result;
	j->error = e;
	j->error.code = r;
	j->state = r == 0 ? JOB_DONE : j->cancel ? JOB_CANCELLED : JOB_FAILED;
	j->ended = (int64_t)time(NULL);
	o = job_format(j);
	pthread_cond_broadcast(&d->changed);
	/* From here on it may be forgotten. */
	pthread_mutex_unlock(&d->lock);
	json_object_del(o, "result");
	event_emit(d, "job.ended", NULL, NULL, json_pack("{s:o}", "job", o));
}

int operation_start_job(struct daemon *d, const struct operation *op, json_t *args, json_t **ret,
			struct err *e)
{
	struct job *j;
	json_t *o;
	int r = operation_check_args(op, args, e);

	if (r < 0)
		return r;
	j = xnew(struct job);
	j->d = d;
	j->op = op;
	j->args = json_incref(args);
	j->started = (int64_t)time(NULL);
	pthread_mutex_lock(&d->lock);
	forget_old(d);
	j->id = ++d->last_job;
	list_append(&d->jobs, &j->node);
	o = job_format(j);
	pthread_mutex_unlock(&d->lock);
	r = daemon_thread(d, job_main, j, e);
	if (r < 0) {
		json_decref(o);
		pthread_mutex_lock(&d->lock);
		job_free(j);
		pthread_mutex_unlock(&d->lock);
		return r;
	}
	*ret = o;
	return 0;
}

void jobs_cancel(struct daemon *d)
{
	struct list *at;

	pthread_mutex_lock(&d->lock);
	list_for_each(at, &d->jobs) container_of(at, struct job, node)->cancel = true;
	pthread_mutex_unlock(&d->lock);
}

void jobs_free(struct daemon *d)
{
	struct list *at, *tmp;

	list_for_each_safe(at, tmp, &d->jobs) job_free(container_of(at, struct job, node));
}

/* --- operations --- */

/* The lock held. */
static struct job *find_job(struct op_call *c)
{
	uint64_t id = (uint64_t)op_int(c, "job", 0);
	struct list *at;

	list_for_each(at, &c->d->jobs)
	{
		struct job *j = container_of(at, struct job, node);

		if (j->id == id)
			return j;
	}
	return NULL;
}

static int no_job(struct op_call *c, struct err *e)
{
	return err_msg(e, -ENOENT, "there is no job %lld (any more)",
		       (long long)op_int(c, "job", 0));
}

int op_job_list(struct op_call *c, struct err *e)
{
	json_t *list = json_array();
	struct list *at;

	pthread_mutex_lock(&c->d->lock);
	list_for_each(at, &c->d->jobs)
	    json_array_append_new(list, job_format(container_of(at, struct job, node)));
	pthread_mutex_unlock(&c->d->lock);
	c->result = json_pack("{s:o}", "jobs", list);
	return 0;
}

/* With `wait`, until it ends or its progress changes. */
int op_job_show(struct op_call *c, struct err *e)
{
	int64_t ms = op_int(c, "wait", 0);
	struct timespec deadline = daemon_deadline((unsigned int)MIN(ms, (int64_t)60000));
	double fraction = -1;
	struct job *j;

	pthread_mutex_lock(&c->d->lock);
	while ((j = find_job(c)) && j->state == JOB_RUNNING && ms > 0 &&
	       (fraction < 0 || fraction == j->fraction)) {
		fraction = j->fraction;
		if (!daemon_wait(c->d, &deadline))
			break;
	}
	j = find_job(c);
	c->result = j ? job_format(j) : NULL;
	pthread_mutex_unlock(&c->d->lock);
	return c->result ? 0 : no_job(c, e);
}

int op_job_cancel(struct op_call *c, struct err *e)
{
	struct job *j;

	pthread_mutex_lock(&c->d->lock);
	j = find_job(c);
	if (j)
		j->cancel = true;
	c->result = j ? job_format(j) : NULL;
	pthread_mutex_unlock(&c->d->lock);
	return c->result ? 0 : no_job(c, e);
}
