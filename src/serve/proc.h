/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve/proc.h - one command of the host's: start, terminal or pipes, input, end
 */
#pragma once

#include "base/err.h"
#include "base/strbuf.h"

#include <jansson.h>
#include <sys/types.h>

/* A command of the host's, or the remains of one. */
struct proc {
	pid_t pid;
	bool tty;
	int in, out, err; /* our ends, non-blocking; tty: in == out == the master, err -1 */
	struct strbuf to_child;
	bool eof_wanted;   /* close (or ^D) once to_child is written */
	uint64_t next_eof; /* tty: when to type ^D again */
	bool exited;
	int status;
};

/* Starts what an EXEC frame asks for.  On failure @what says which step, for the host's status. */
must_check int proc_start(const json_t *request, struct proc **ret, const char **what,
			  struct err *e);
/* Hangs up a command that is still running. */
void proc_free(struct proc *p);
/* Moves bytes from to_child towards the command, and its end of file. */
void proc_feed(struct proc *p, uint64_t now);
void proc_winsize(struct proc *p, unsigned int rows, unsigned int cols);
