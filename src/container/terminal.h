/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container/terminal.h - the pseudoterminal of a process with process.terminal
 */
#pragma once

#include "container/spec.h"

/* Connects to the socket that wants the terminal's master. */
must_check int terminal_connect(const char *path, struct err *e);

/* A terminal of the devpts below @root, checked to be one; both ends belong to the caller. */
must_check int terminal_open(int root, const struct spec_process *p, int *master, int *slave,
			     struct err *e);
/* Binds it to /dev/console below @root. */
must_check int terminal_bind_console(int root, int slave, struct err *e);
/* Sends @master over @socket; @slave becomes standard input, output, error and the controlling
 * terminal.  The caller is leader of a session without one. */
must_check int terminal_take(int socket, int master, int slave, struct err *e);

/* `run` and `exec` without a console socket: copies between our own standard streams and the
 * master until @pidfd's process ends.  Signals are blocked; they go to the process, and the
 * window's size follows. */
must_check int terminal_relay(int master, int pidfd, struct err *e);
