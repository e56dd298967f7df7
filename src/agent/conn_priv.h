/* SPDX-License-Identifier: Apache-2.0 */
/*
 * agent/conn_priv.h - one connection from the host, and the command it carries
 */
#pragma once

#include "agent/agent_priv.h"
#include "base/list.h"
#include "codec/agent_proto.h"

#include <poll.h>

#define CONN_POLLS 4 /* most descriptors that one connection waits for */

struct conn {
	struct list node;
	int fd;
	bool serial; /* a virtio port: never ends, carries one command after the other */
	bool closing;
	struct strbuf in, out;
	struct proc *proc;
	struct pollfd *polls[CONN_POLLS]; /* this round's, NULL = not waited for */
	enum power_mode power;
	bool power_wanted; /* the host asked for SHUTDOWN */
};

/* Owns @fd. */
struct conn *conn_new(int fd, bool serial);
void conn_free(struct conn *c);

/* Adds what it waits for to @polls, which has room; returns how many. */
size_t conn_prepare(struct conn *c, struct pollfd *polls);
/* Moves what can be moved.  Afterwards @c->closing says that it is over. */
void conn_step(struct conn *c, uint64_t now);
/* The first process learned that a child ended. */
void conn_child_ended(struct conn *c, pid_t pid, int status);
void conn_send_json(struct conn *c, enum agent_frame type, json_t *payload);
