/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daemon/daemon.h - insulad's core: machines that last, whoever asks
 *
 * One table of operations (operations.h) is all that the faces - REST now, others later - call.
 *
 *	face --operation_call()--> operation --> store (what shall be)
 *	                                    \--> guests (what runs: one insula-vmm each)
 *
 * Threads: the loop's thread watches guests and serves faces; each operation runs in a thread of
 * its own and may block.  `lock` guards guests, jobs, claims and events; `changed` tells of any
 * change of them.  What is about one machine is done under a claim of it, one at a time.
 *
 * What lasts: DATA/insula.db, DATA/guests/UUID/ {disk.raw kernel modules nvram.fd console.log
 * vmm.log lock}, DATA/machines/NAME -> ../guests/UUID.  The row in the store says that a machine
 * exists; directories and links without one are swept at the next start.  While a machine runs:
 * RUN/vm/UUID/ {description.json initrd control vsock console exit}; its insula-vmm holds the lock
 * of guests/UUID/lock, and is found again by its control socket.
 */
#pragma once

#include "base/err.h"
#include "base/list.h"
#include "base/loop.h"
#include "store/store.h"

#include <jansson.h>
#include <pthread.h>
#include <sys/types.h>

struct daemon;

struct daemon_config {
	const char *data_dir, *run_dir; /* both exist */
	struct loop *loop;
};

/* Opens the store, sweeps what killed ones left, finds the guests that run. */
must_check int daemon_new(const struct daemon_config *cfg, struct daemon **ret, struct err *e);
/* After the loop has started: autostart, and what was to be restarted while we were away. */
void daemon_start(struct daemon *d);
/* Cancels jobs and waits for threads; guests go on.  To be called while the loop can still take
 * what threads post. */
void daemon_stop(struct daemon *d);
void daemon_free(struct daemon *d);
struct loop *daemon_loop(const struct daemon *d);
/* No guest runs, no job, no call, and nothing is to be restarted. */
bool daemon_is_idle(struct daemon *d);

/* --- events --- */

/* Called in the loop's thread when there are events after the last it read. */
struct daemon_listener {
	struct list node;
	struct loop_work work;
};
void daemon_listen(struct daemon *d, struct daemon_listener *l, void (*fn)(void *opaque),
		   void *opaque);
void daemon_unlisten(struct daemon *d, struct daemon_listener *l);
/* The id of the newest event, 0 before the first. */
uint64_t daemon_last_event(struct daemon *d);
/* The next event after @after as {"id", "type", "time", ...}, the caller's, or NULL; *@id gets its
 * id.  Events that are no longer kept are passed over. */
json_t *daemon_next_event(struct daemon *d, uint64_t after, uint64_t *id);
