/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container/container.h - operations on containers, as the command insula-oci and a daemon call
 * them (runtime-spec, runtime.md, "Operations")
 *
 * Each works from the files below rt->root alone, so that any process may call it at any time;
 * container/state.h says how they lock.  create, run and exec fork: the caller has one thread and
 * ignores SIGPIPE.
 */
#pragma once

#include "container/state.h"

struct container_runtime {
	const char *root; /* where the state is */
	bool systemd_cgroup;
};

struct container_create {
	const char *id;
	const char *bundle;         /* a directory */
	const char *config;         /* file name, NULL = config.json in the bundle */
	const char *pid_file;       /* NULL = none */
	const char *console_socket; /* NULL = none */
	unsigned int preserve_fds;
	bool no_pivot, no_new_keyring;
	bool detach; /* of run */
	bool keep;   /* of run: do not delete it at its end */
};

/* Makes the container; its process waits for container_start.  Hooks up to createContainer ran. */
must_check int container_create(const struct container_runtime *rt,
				const struct container_create *c, struct err *e);
must_check int container_start(const struct container_runtime *rt, const char *id, struct err *e);
/* Both; without c->detach waits for its end, hands signals on, deletes it, and sets @status. */
must_check int container_run(const struct container_runtime *rt, const struct container_create *c,
			     int *status, struct err *e);

/* To its process, or with @all to everything in its control group. */
must_check int container_kill(const struct container_runtime *rt, const char *id, int signal,
			      bool all, struct err *e);
/* A stopped one; with @force one in any state, and none at all is fine. */
must_check int container_delete(const struct container_runtime *rt, const char *id, bool force,
				struct err *e);
must_check int container_pause(const struct container_runtime *rt, const char *id, bool on,
			       struct err *e);
must_check int container_update(const struct container_runtime *rt, const char *id,
				const struct spec_resources *r, struct err *e);
/* Process ids, to be freed. */
must_check int container_pids(const struct container_runtime *rt, const char *id, pid_t **ret,
			      size_t *n, struct err *e);
/* Appends a JSON object. */
must_check int container_state(const struct container_runtime *rt, const char *id,
			       struct strbuf *out, struct err *e);
must_check int container_stats(const struct container_runtime *rt, const char *id,
			       struct strbuf *out, struct err *e);
/* @fn for each container, in no order; those that go away meanwhile are left out. */
must_check int container_list(const struct container_runtime *rt,
			      void (*fn)(void *opaque, const struct state *s,
					 enum state_status status),
			      void *opaque, struct err *e);
struct container_exec {
	const char *id;
	const struct spec_process *process; /* NULL = the container's, changed as below */
	const char *const *args;            /* replaces the container's, if not NULL */
	const char *cwd;
	const char *const *env; /* further ones; ends with NULL */
	bool has_user;
	uint32_t uid, gid;
	const char *const *more_caps; /* ends with NULL */
	bool terminal, no_new_privileges;
	const char *apparmor, *selinux; /* NULL = the container's */
	const char *pid_file, *console_socket;
	const char *cgroup; /* below the container's */
	unsigned int preserve_fds;
	bool detach, ignore_paused;
};

/* Another process in a running container; without x->detach waits for it and sets @status. */
must_check int container_exec(const struct container_runtime *rt, const struct container_exec *x,
			      int *status, struct err *e);
