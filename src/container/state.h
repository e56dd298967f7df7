/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container/state.h - what is known about containers, in files
 *
 *	ROOT/ID/state.json    process, bundle, control group; replaced as a whole
 *	ROOT/ID/config.json   the configuration as it was at create
 *	ROOT/ID/start.sock    the container's process waits here for `start`; gone once it was told
 *	ROOT/ID/notify/       where NOTIFY_SOCKET leads, if the caller has one
 *	ROOT/.new/ID/         a container on its way in or out
 *
 * A directory is locked (flock) by who changes its container.  One in .new without a lock is what
 * a killed runtime left: the next command that makes or lists containers clears it away.
 */
#pragma once

#include "base/strbuf.h"
#include "container/spec.h"

struct state {
	char *id, *bundle;
	char *version; /* of the specification, as the configuration says */
	pid_t pid;     /* 0 = none yet */
	uint64_t start_time;
	char *cgroup_path, *cgroup_unit; /* NULL = none */
	int64_t created;                 /* seconds since 1970 */
	uint32_t owner;
	bool making; /* found in .new; not written */
};

enum state_status {
	STATE_CREATING,
	STATE_CREATED,
	STATE_RUNNING,
	STATE_PAUSED,
	STATE_STOPPED,
};
extern const char *const state_status_names[];

/* Letters, digits, "_+-." and not only dots; at most 255. */
bool state_id_ok(const char *id);

/* The directory of all; made if it is not there. */
must_check int state_open_root(const char *path, struct err *e);

/* A new directory for @id in .new, locked; -EEXIST when there is a container of that name. */
must_check int state_new(int root, const char *id, int *dir, struct err *e);
/* From .new to its place. */
must_check int state_commit(int root, const char *id, struct err *e);
/* To .new again, and away.  @dir is locked. */
must_check int state_remove(int root, const char *id, int dir, struct err *e);

/* -ENOENT when there is none.  @id is a name (state_id_ok).  @locked waits for who changes it. */
must_check int state_open(int root, const char *id, bool locked, int *dir, struct state *ret,
			  struct err *e);
must_check int state_write(int dir, const struct state *s, struct err *e);
void state_fini(struct state *s);
/* Lets others change the container meanwhile, and takes it back: -ENOENT when it has gone. */
void state_unlock(int dir);
must_check int state_lock(int dir);

/* Names in the root (@fresh: what nobody locks in .new); each to be freed, ends with NULL. */
must_check int state_names(int root, bool fresh, char ***ret, struct err *e);
void state_names_free(char **names);
/* Opens and locks what state_names found in .new; -EAGAIN when somebody works on it, -ENOENT when
 * it is there no longer.  A state that was not written yet is left zeroed. */
must_check int state_open_fresh(int root, const char *id, int *dir, struct state *ret);

/* From the files and the process; a paused one shows as running. */
enum state_status state_status(int dir, const struct state *s);
/* The JSON of the specification (runtime.md, "State"). */
void state_format(const struct state *s, enum state_status status,
		  const struct spec_pairs *annotations, struct strbuf *out);
