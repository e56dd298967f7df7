/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image/progress.h - how far a long job is, with an estimate learned from earlier runs
 *
 * A job is a list of steps, each with the seconds it usually takes.  The real times are kept in the
 * cache (timings.json), so that estimates fit the machine from the second run on.
 */
#pragma once

#include "base/err.h"

struct progress_step {
	const char *name; /* key in timings.json: "deb.download" */
	const char *text; /* for a person: "downloading packages" */
	double seconds;   /* usual time, before any is known for this machine */
};

struct progress_event {
	const char *subject; /* "deb:bookworm" */
	const char *text;
	double fraction, seconds_left;
	bool new_step;
};

struct progress {
	/* Set by whoever shows it; both may be NULL. */
	void (*show)(void *opaque, const struct progress_event *ev);
	bool (*cancelled)(void *opaque);
	/* Something to tell that is not a step, such as waiting for another process. */
	void (*note)(void *opaque, const char *text);
	void *opaque;

	/* progress.c's own */
	const struct progress_step *steps;
	double *seconds;
	size_t n, at;
	char *subject, *timings;
	uint64_t step_start;
};

/* A job within a job (a kernel for an image) is not shown by itself: begin returns false and the
 * steps of the outer job go on. */
bool progress_begin(struct progress *p, const char *subject, const char *timings,
		    const struct progress_step *steps, size_t n);
/* The step of that name starts; the one before it is done. */
void progress_enter(struct progress *p, const char *name);
/* To be called now and then. */
void progress_tick(struct progress *p);
/* @whole: the job was done, so its times are worth keeping. */
void progress_end(struct progress *p, bool whole);
bool progress_cancelled(const struct progress *p);
void progress_note(const struct progress *p, const char *text);
