/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container/sync.h - what the runtime and the process that becomes the container tell each other
 *
 * One message, one packet, over a socket pair (create, run, exec) or over the start socket.  An end
 * that dies closes its socket, so that nobody waits for the dead.
 */
#pragma once

#include "base/err.h"

enum sync_type {
	SYNC_ERROR = 1, /* value = -errno, text = words */
	SYNC_PID,       /* value = the container's process, from the one that made it */
	SYNC_MAPS,      /* wants its ids mapped */
	SYNC_CLOCKS,    /* wants the offsets of its clocks set */
	SYNC_MOUNTED, /* wants its devices limited and the runtime's hooks run; GO brings its pid */
	SYNC_READY,   /* everything is prepared */
	SYNC_LISTENER, /* value = number of its seccomp listener */
	SYNC_GO,       /* go on */
};

struct sync_msg {
	int32_t type, value;
	char text[504];
};

must_check int sync_pair(int fds[2], struct err *e);
/* With write(), which every filter of system calls allows.  A peer that has gone is -EPIPE, if
 * SIGPIPE is ignored. */
must_check int sync_send(int fd, enum sync_type type, int32_t value, const char *text);
/* -EPIPE when the other end has gone. */
must_check int sync_receive(int fd, struct sync_msg *ret);
/* The same for one type; an error that comes instead goes to @e. */
must_check int sync_expect(int fd, enum sync_type type, int32_t *value, struct err *e);

/* One descriptor over a socket, with a byte string. */
must_check int sync_send_fd(int socket, int fd, const void *data, size_t len);
must_check int sync_receive_fd(int socket, int *ret);
