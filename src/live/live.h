/* SPDX-License-Identifier: Apache-2.0 */
/*
 * live/live.h - snapshots and forks of a running machine, as whoever runs machines asks for them
 *
 * What the machine cannot do behind its walls is done here: overlays are made, files and sockets
 * opened and passed along.  Calls block until the machine has answered.
 */
#pragma once

#include "base/err.h"

#include <jansson.h>

#define LIVE_MAX_DISKS   8
#define LIVE_MAX_PARENTS 16

/* One that the guest writes to. */
struct live_disk {
	unsigned int number; /* in the description */
	char *path;          /* what it is as of the instant */
	char *overlay;       /* where the machine goes on */
};

struct live_disks {
	struct live_disk disk[LIVE_MAX_DISKS];
	unsigned int n;
};

struct live_machine {
	const char *control; /* its control socket */
	/* Where its disks are and overlays of them are made; -ENOTSUP for a disk that is written to
	 * and lies elsewhere: nobody would find it again. */
	const char *dir;
	bool compress; /* live_save: takes less room, and longer to go on from */
	/* live_save: names of files beside the new one, the nearest first: what they hold is left
	 * out.  NULL or empty = none. */
	const json_t *parents;
	/* The overlays are there, empty.  Note down, so that it lasts, that they are what the
	 * machine writes to: it will in a moment, and until then they show what is below. */
	int (*switching)(void *opaque, const struct live_disks *disks, struct err *e);
	/* It did not come to it, says the machine: these disks go on as before.  The overlays are
	 * removed. */
	void (*not_switched)(void *opaque, const struct live_disks *disks);
	void *opaque;
};

/* Memory and devices to @file, made anew (NULL: neither); disks to overlays.  *@ret: {stall_ms,
 * total_ms, description} with disks as they are in the snapshot. */
must_check int live_save(const struct live_machine *m, const char *file, json_t **ret,
			 struct err *e);

/* One that is to be. */
struct live_child {
	const char *name;
	const char *uuid;    /* NULL = none */
	const char *dir;     /* for its overlays */
	const char *sockets; /* directory for "control" and "vsock" */
	/* A socket for its serial console, and what keeps the end of that; NULL: it goes to the
	 * log. */
	const char *console, *console_log;
	const char *log;  /* what the process says; NULL = "log" beside the sockets */
	const char *exit; /* how it ended (vmm.h); NULL = nowhere */
	const int *keep;  /* descriptors that it holds open as long as it lives: locks */
	unsigned int n_keep;
	/* out */
	char *disks[LIVE_MAX_DISKS]; /* overlays, by number in the description; NULL = none */
	char mac[18];                /* of its first card; empty = none */
	bool has_agent;
	int pid;
	double ms;
};

/*
 * Children that go on from one instant of a machine that goes on, too: memory shared until one of
 * them writes, a disk overlay and addresses of its own each; ports that the parent publishes stay
 * the parent's.  The caller has to give back child->disks.  *@ret: {stall_ms}.
 */
must_check int live_fork(const struct live_machine *m, struct live_child *children, unsigned int n,
			 json_t **ret, struct err *e);
