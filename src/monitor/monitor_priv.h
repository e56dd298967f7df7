/* SPDX-License-Identifier: Apache-2.0 */
/*
 * monitor/monitor_priv.h - the parts of insula-monitor, the process beside one container
 *
 *	insulad --> the outer process            the inner one, process 1 of new namespaces
 *	            sockets, clone          -->  waits
 *	            ids; slirp4netns; ports
 *	            go                      -->  root file system; insula-oci run --detach
 *	                                         "ready"; serves control, agent, console
 *	            waits                        the container ends: reports how
 *	            writes how it ended
 *
 * It speaks as insula-vmm does, so that insulad needs to know little of what a machine is.  When
 * the outer process is killed the inner one dies, and with it, as process 1, all of the container.
 */
#pragma once

#include "base/list.h"
#include "base/loop.h"
#include "monitor/desc.h"
#include "serve/conn.h"
#include "serve/control.h"
#include "serve/keeplog.h"
#include "serve/listen.h"

#include "base/log.h"

#define BOX_ID "box" /* the container's name; each has a state directory of its own */

/* From the inner process to the outer one. */
struct report {
	int r; /* -errno: it did not start, or we failed; words in @e */
	struct err e;
	int status; /* of its first process, as a shell tells it */
	char reason[16];
};

/* --- console.c: what the container says and, on a terminal, hears --- */

struct console {
	int output; /* a pipe's end or a terminal's master, -1 = it has ended */
	int slave;  /* of a terminal, so that it is there while nobody in the container has it open
		     */
	bool tty;   /* the latter */
	int listener;      /* where a person connects */
	int client;        /* -1 = nobody; one at a time */
	struct strbuf out; /* to the client */
	struct strbuf in;  /* from the client, to the terminal */
	struct keeplog log;
};

#define CONSOLE_POLLS 3
/* Adds what it waits for; returns how many, at most CONSOLE_POLLS. */
size_t console_prepare(const struct console *c, struct pollfd *polls);
void console_step(struct console *c);
/* What is left of the output of a container that ended. */
void console_drain(struct console *c);

/* --- box.c: the container --- */

enum box_wish { WISH_NONE, WISH_STOP, WISH_RESTART };

struct box {
	struct desc d;
	char *state, *log; /* insula-oci's */
	pid_t pid;
	bool ended, paused;
	int status; /* of waitpid, once ended */
	enum box_wish wish;
	uint64_t started; /* clock */
	int stop_signal;
	struct console console;
	struct loop *loop;
	struct control *control;
	int signals, agent;
	struct list conns;
};

/* In the inner process: until the container has ended for good.  Owns the descriptors. */
void box_run(struct box *b, int go, int ready, struct report *ret);
must_check int box_start(struct box *b, struct err *e);
/* Its rest is removed, its console told. */
void box_clear(struct box *b);
/* To its first process; a paused container goes on for it. */
must_check int box_signal(struct box *b, int signal, struct err *e);
must_check int box_pause(struct box *b, bool on, struct err *e);

/* --- serve.c: until the container has ended --- */

must_check int serve_open(struct box *b, int control, struct err *e);
void serve(struct box *b);
void serve_close(struct box *b);

/* --- command.c: a conn_start_fn, @opaque is the box: the command runs in the container --- */

conn_start_fn command_start;
