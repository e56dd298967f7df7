/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container/container_priv.h - between the operations
 */
#pragma once

#include "container/cgroup.h"
#include "container/container.h"

/* The container an operation works on. */
struct handle {
	int root, dir;
	struct state state;
	enum state_status status;
	struct cgroup cgroup;
};

/* Opens the state (locked if @lock) and finds the control group.  Close in every case. */
must_check int handle_open(const struct container_runtime *rt, const char *id, bool lock,
			   struct handle *ret, struct err *e);
void handle_close(struct handle *h);

/* SIGKILL to everything in it. */
must_check int handle_kill(struct handle *h, struct err *e);
/* Ends everything in the container, whatever its state, and removes its control group. */
must_check int handle_destroy(struct handle *h, struct err *e);

/* Clears away what killed runtimes left below @root (state_open_root). */
void container_sweep(int root);

/* The state's JSON for hooks. */
char *hook_state(const struct state *s, enum state_status status, const struct spec *spec);

/* Both with a temporary file and a rename, so that nobody reads half a number. */
must_check int pid_file_write(const char *path, pid_t pid, struct err *e);

/* Blocks all signals, which wait_forwarding then takes. */
void hold_signals(void);
/* Waits for our child, handing on to it every signal that we get meanwhile. */
must_check int wait_forwarding(pid_t pid, int *status, struct err *e);

/* After GO: the listener's descriptor if there is one, until the program runs.  @conn's other end
 * is the process @pid. */
must_check int follow_exec(int conn, const struct spec_seccomp *seccomp, const struct state *s,
			   pid_t pid, const struct spec *spec, struct err *e);
