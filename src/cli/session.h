/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/session.h - one run, from the start of the machine to the exit status
 */
#pragma once

#include "base/strbuf.h"
#include "cli/run.h"
#include "codec/agent_proto.h"

#include <termios.h>

#define CONSOLE_KEEP 16384 /* of the guest's console, to quote when it crashes */

enum session_state {
	SESSION_STARTING,   /* insula-vmm has not said ready */
	SESSION_CONNECTING, /* the agent does not answer yet */
	SESSION_RUNNING,    /* the command runs */
	SESSION_ENDING,     /* the command ended, the guest shuts down */
	SESSION_OVER,
};

struct session {
	const struct session_config *cfg;
	struct vm *vm;
	enum session_state state;
	int status; /* to exit with, once known */
	bool status_known;
	bool goodbye, reboot; /* the guest said that it goes down, and how */
	char
	    reason_text[16]; /* of the machine's shutdown event: "poweroff", "reset", "crash", "" */

	int agent;     /* connection, -1 while there is none */
	bool accepted; /* the VMM's "OK" was read */
	uint64_t retry_at, give_up_at;
	struct strbuf in, out;                  /* to and from the agent */
	struct strbuf stdout_text, stderr_text; /* not yet written */
	bool stdin_open;
	unsigned int guest_pid;

	struct strbuf console;    /* the last CONSOLE_KEEP bytes */
	struct strbuf to_console; /* typed, for the serial console */
	struct strbuf errors;     /* insula-vmm's standard error, line by line */
	char error_line[512];
	struct strbuf control;

	int signals;
	unsigned int ctrl_c;
	bool ended_by_signal; /* nobody waits for the rest of the output */
	uint64_t kill_at;     /* a signal was passed on: end the machine if it does not help */
	int kill_signal;
	bool raw;
	struct termios saved;
};

/* session_agent.c */
void session_agent_start(struct session *s);
void session_agent_read(struct session *s);
void session_agent_write(struct session *s);
void session_agent_lost(struct session *s);
/* On a connection of its own. */
void session_signal(struct session *s, int signal);
void session_shutdown_guest(struct session *s);

/* session_report.c: the status once the machine is gone. */
int session_conclude(struct session *s);
void session_take_errors(struct session *s);
void session_take_control(struct session *s);
void session_take_console(struct session *s);
