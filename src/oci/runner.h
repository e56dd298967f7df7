/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oci/runner.h - an image as a container: namespaces, root file system, network, insula-oci
 *
 *	caller                              the monitor, process 1 of new namespaces
 *	clone: user (without root), mount,
 *	       pid, network            -->  waits
 *	maps ids; slirp4netns; ports
 *	go                             -->  overlay; config.json; insula-oci run
 *	waits, hands signals on             waits, hands signals on
 *
 * The monitor dies with its caller, and all in the container with the monitor; its mounts and its
 * network go with its namespaces.  What is left after any kill is a directory of the cache's tmp/,
 * which the next command removes.
 */
#pragma once

#include "oci/store.h"

struct run_mount {
	const char *host, *guest;
	bool read_only;
};

struct run_port {
	const char *address;
	unsigned int host, guest;
	bool udp;
};

struct container_options {
	const char *runtime; /* path of insula-oci */
	const char *hostname;
	char *const *args; /* all of it; ends with NULL */
	char *const *env;  /* further variables */
	size_t n_env;
	const char *workdir, *user; /* NULL = the image's */
	bool tty, net;
	unsigned int cpus;
	uint64_t memory;
	int64_t cpu_percent, cpu_weight; /* 0 = as @cpus says, and as others */
	const struct run_mount *mounts;
	size_t n_mounts;
	const struct run_port *ports;
	size_t n_ports;
};

/* Runs it to its end; @status as a shell tells it. */
must_check int runner_run(const struct oci_store *s, const struct oci_image *image,
			  const struct container_options *o, int *status, struct err *e);

/* Do they start an init, and so a whole system? */
bool runner_is_system(char *const *args);
/* The words to run: the image's entry point and either @command or the image's own; to be freed,
 * ends with NULL.  What they point to belongs to others. */
char **runner_args(const struct image_config *c, char *const *command);
