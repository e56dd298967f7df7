/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container/init.h - the process that becomes the container's first program
 */
#pragma once

#include "container/process.h"
#include "container/rootfs.h"

struct init {
	const struct spec *spec;
	struct rootfs fs;
	struct process process;
	const char *id, *version, *bundle; /* for the state that hooks get */
	int sync;
	int start_socket;   /* listening, -1 = the word to start comes over sync */
	int console_socket; /* -1 = none */
	int notify;         /* a detached mount that becomes /run/notify, -1 = none */
	bool no_pivot, no_new_keyring;
	bool await_scope;        /* systemd puts us into our control group: GO tells when */
	unsigned int listen_fds; /* as LISTEN_FDS told us */
	pid_t pid;               /* as the host sees us; comes over sync */
};

/* Never returns: execs, or reports over sync or the start socket and exits. */
void init_main(void *arg);
