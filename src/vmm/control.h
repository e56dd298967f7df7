/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmm/control.h - the control socket: one JSON object a line, both ways (docs/vmm.md)
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

struct control_ops {
	/* @args is an object (empty if absent); *@fd a descriptor that came with the request (by
	 * SCM_RIGHTS), -1 if none did: steal_fd takes it over.  0 with *ret = a new object, NULL
	 * for {}; or -errno with a message. */
	int (*run)(void *opaque, const char *command, json_t *args, int *fd, json_t **ret,
		   struct err *e);
};

must_check int control_new(struct loop *l, const char *path, const struct control_ops *ops,
			   void *opaque, struct control **ret, struct err *e);
/* To every client; takes over @event. */
void control_event(struct control *c, json_t *event);
/* Sends what is waiting, closes, removes the socket.  NULL is fine. */
void control_free(struct control *c);
