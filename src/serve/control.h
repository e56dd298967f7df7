/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve/control.h - the control socket: one JSON object a line, both ways of insula-vmm and
 * insula-monitor (docs/vmm.md)
 *
 *	-> {"id":1,"command":"status"}
 *	<- {"id":1,"return":{"state":"running",...}}
 *	<- {"id":2,"error":{"code":"unknown-command","message":"..."}}
 *	<- {"event":"shutdown","reason":"poweroff"}
 */
#pragma once

#include "base/err.h"
#include "base/loop.h"

#include <jansson.h>

struct control;

/* Descriptors that came with a request, by SCM_RIGHTS, in their order.  control_take_fd takes one
 * over; those that are left are closed. */
#define CONTROL_FDS_MAX 64
struct control_fds {
	unsigned int n;
	int fd[CONTROL_FDS_MAX];
};

#define CONTROL_LATER 1

struct control_ops {
	/* A given listener goes on naming its maker, to those who ask the kernel who listens. */
	bool of_maker;
	/* @args is an object (empty if absent).  0 with *ret = a new object, NULL for {}; -errno
	 * with a message; or CONTROL_LATER: control_answer will be called. */
	int (*run)(void *opaque, const char *command, json_t *args, struct control_fds *fds,
		   json_t **ret, struct err *e);
};

/* The @i-th descriptor, now the caller's; -EINVAL with words when there are not so many. */
must_check int control_take_fd(struct control_fds *fds, unsigned int i, struct err *e);

/* @listener is a socket that listens at @path already, taken over, also on failure; -1 = none. */
must_check int control_new(struct loop *l, const char *path, int listener,
			   const struct control_ops *ops, void *opaque, struct control **ret,
			   struct err *e);
/* Inside run(), before it returns CONTROL_LATER: the request's name for control_answer. */
uint64_t control_defer(struct control *c);
/* The answer to a deferred request: @ret (taken over, NULL for {}) if @r is 0, else the error.  A
 * client that has gone does not get it. */
void control_answer(struct control *c, uint64_t request, int r, json_t *ret, const struct err *e);
/* To every client; takes over @event. */
void control_event(struct control *c, json_t *event);
/* Sends what is waiting, closes, removes the socket.  NULL is fine. */
void control_free(struct control *c);
