/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container/process.h - from a prepared process inside the namespaces to the user's program
 */
#pragma once

#include "container/seccomp_filter.h"

struct process {
	const struct spec_process *spec;
	const struct spec_seccomp *seccomp; /* NULL = none */
	struct seccomp_flags seccomp_flags;
	int seccomp_fd;    /* the program */
	int proc;          /* the host's procfs */
	unsigned int keep; /* descriptors past standard error that stay open */
	char *path;        /* of the program */
	bool in_cwd;       /* root came into the working directory already */
	char **env;
};

/* In the runtime, with its privileges, right after the process was made: its score for the OOM
 * killer and hard limits that only the host's root may raise. */
must_check int process_favour(const struct spec_process *p, pid_t pid, int proc, struct err *e);

/* In the process, with "/" the container's root, still root: working directory, environment,
 * program, owner of the streams.  @more are further variables "NAME=value", ends with NULL. */
must_check int process_prepare(struct process *p, const char *const *more, struct err *e);
/* The last steps; returns only on failure.  A seccomp listener is handed over on @conn. */
int process_exec(struct process *p, int conn, struct err *e);
