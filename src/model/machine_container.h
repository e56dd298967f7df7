/* SPDX-License-Identifier: Apache-2.0 */
/*
 * model/machine_container.h - what only a machine that is a container has: the part of struct
 * machine_config about its process
 */
#pragma once

#include "codec/json_read.h"

struct machine_container {
	bool on;        /* "isolation": "container" */
	char **command; /* instead of the image's; ends with NULL, NULL = the image's */
	char **env;     /* further variables, "NAME=value"; ends with NULL */
	char *workdir, *user;
	bool tty; /* its first process has a terminal */
};

void machine_container_read(const struct json_reader *r, struct machine_container *ret);
/* Adds members to @config; none for a VM. */
void machine_container_format(const struct machine_container *c, json_t *config);
/* -EINVAL when a VM has what only containers can. */
must_check int machine_container_check(const struct machine_container *c, struct err *e);
void machine_container_fini(struct machine_container *c);
