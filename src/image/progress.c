/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image/progress.c - how far a long job is, with an estimate learned from earlier runs
 */
#include "image/progress.h"

#include "base/clock.h"

#include <jansson.h>

static json_t *timings_read(const char *path)
{
	json_t *t = json_load_file(path, 0, NULL);

	if (!json_is_object(t)) {
		json_decref(t);
		t = json_object();
	}
	return t;
}

bool progress_begin(struct progress *p, const char *subject, const char *timings,
		    const struct progress_step *steps, size_t n)
{
	json_t *known;

	if (p->steps)
		return false;
	known = timings_read(timings);
	p->seconds = xcalloc(n, sizeof(*p->seconds));
	for (size_t i = 0; i < n; i++) {
		double s = json_number_value(json_object_get(known, steps[i].name));

		p->seconds[i] = s > 0 && s < 3600 ? s : steps[i].seconds;
	}
	json_decref(known);
	p->subject = xstrdup(subject);
	p->timings = xstrdup(timings);
	p->steps = steps;
	p->n = n;
	p->at = 0;
	p->step_start = clock_now();
	return true;
}

static double step_elapsed(const struct progress *p)
{
	return (double)(clock_now() - p->step_start) / 1e9;
}

static void show(struct progress *p, bool new_step)
{
	struct progress_event ev = {.subject = p->subject, .new_step = new_step};
	double usual = p->seconds[p->at], elapsed = step_elapsed(p);
	double total = 0, done = 0, left = 0;

	for (size_t i = 0; i < p->n; i++) {
		total += p->seconds[i];
		if (i < p->at)
			done += p->seconds[i];
		if (i > p->at)
			left += p->seconds[i];
	}
	/* A step that overruns approaches its end ever more slowly, never past it. */
	done += elapsed < usual * 0.8 ? elapsed : usual * (1 - 0.16 / (elapsed / usual));
	left += elapsed < usual * 0.9 ? usual - elapsed : usual * 0.1;
	ev.text = p->steps[p->at].text;
	ev.fraction = total > 0 ? MIN(done / total, 0.99) : 0;
	ev.seconds_left = left;
	if (p->show)
		p->show(p->opaque, &ev);
}

void progress_enter(struct progress *p, const char *name)
{
	size_t i = 0;

	while (i < p->n && strcmp(p->steps[i].name, name) != 0)
		i++;
	if (i >= p->n)
		return; /* a step that the outer job does not list */
	if (p->at < i)
		p->seconds[p->at] = MAX(step_elapsed(p), 0.05);
	p->at = i;
	p->step_start = clock_now();
	show(p, true);
}

void progress_tick(struct progress *p)
{
	if (p->steps)
		show(p, false);
}

static void timings_write(const struct progress *p)
{
	json_t *t = timings_read(p->timings);
	autofree char *temp = xasprintf("%s.%d", p->timings, (int)getpid());

	for (size_t i = 0; i < p->n; i++)
		json_object_set_new(t, p->steps[i].name, json_real(p->seconds[i]));
	/* Lost timings cost an estimate, nothing else. */
	if (json_dump_file(t, temp, JSON_INDENT(1) | JSON_REAL_PRECISION(4)) < 0 ||
	    rename(temp, p->timings) < 0)
		unlink(temp);
	json_decref(t);
}

void progress_end(struct progress *p, bool whole)
{
	struct progress_event ev = {.subject = p->subject, .text = "done", .fraction = 1};

	if (!p->steps)
		return;
	if (whole) {
		p->seconds[p->at] = MAX(step_elapsed(p), 0.05);
		timings_write(p);
		if (p->show)
			p->show(p->opaque, &ev);
	}
	free(p->seconds);
	free(p->subject);
	free(p->timings);
	p->steps = NULL;
	p->seconds = NULL;
	p->subject = p->timings = NULL;
	p->n = 0;
}

bool progress_cancelled(const struct progress *p)
{
	return p->cancelled && p->cancelled(p->opaque);
}

void progress_note(const struct progress *p, const char *text)
{
	if (p->note)
		p->note(p->opaque, text);
}
