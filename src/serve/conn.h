/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve/conn.h - one connection from whoever commands us, and the command it carries
 *
 * Of insula-agent in a guest, and of insula-monitor beside a container (docs/agent.md).
 */
#pragma once

#include "base/list.h"
#include "codec/agent_proto.h"
#include "serve/proc.h"

#include <poll.h>

#define CONN_POLLS 4 /* most descriptors that one connection waits for */

enum power_mode { POWER_OFF, POWER_REBOOT };

/* Starts what an EXEC frame asks for, as proc_start does. */
typedef int conn_start_fn(void *opaque, const json_t *request, struct proc **ret, const char **what,
			  struct err *e);

struct conn {
	struct list node;
	int fd;
	conn_start_fn *start;
	void *opaque;
	bool serial; /* a virtio port: never ends, carries one command after the other */
	bool closing;
	bool greeting; /* "CONNECT 1024" comes first, and gets "OK 1024" */
	struct strbuf in, out;
	struct proc *proc;
	struct pollfd *polls[CONN_POLLS]; /* this round's, NULL = not waited for */
	enum power_mode power;
	bool power_wanted; /* the host asked for SHUTDOWN */
};

/* Owns @fd. */
struct conn *conn_new(int fd, bool serial, conn_start_fn *start, void *opaque);
void conn_free(struct conn *c);

/* Adds what it waits for to @polls, which has room; returns how many. */
size_t conn_prepare(struct conn *c, struct pollfd *polls);
/* Moves what can be moved.  Afterwards @c->closing says that it is over. */
void conn_step(struct conn *c, uint64_t now);
/* The first process learned that a child ended. */
void conn_child_ended(struct conn *c, pid_t pid, int status);
void conn_send_json(struct conn *c, enum agent_frame type, json_t *payload);
