/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container/cmd.h - the commands of insula-oci
 */
#pragma once

#include "container/container.h"

#include <getopt.h>

/* argv[0] is the command's name.  Returns the exit status; failures are in @e with status -1. */
typedef int cmd_fn(const struct container_runtime *rt, int argc, char **argv, struct err *e);

cmd_fn cmd_create, cmd_run, cmd_start, cmd_state, cmd_kill, cmd_delete, cmd_pause, cmd_resume,
    cmd_exec, cmd_list, cmd_ps, cmd_update, cmd_events, cmd_spec, cmd_features, cmd_checkpoint;

/* The next option's value, -1 after the last; mistakes are told in @e and come as '?'. */
int cmd_option(int argc, char **argv, const struct option *options, struct err *e);
/* The one argument after the options, which is a container's name; NULL with words otherwise. */
const char *cmd_id(int argc, char **argv, struct err *e);
/* A whole number from @min to @max. */
must_check int cmd_number(const char *name, const char *text, int64_t min, int64_t max,
			  int64_t *ret, struct err *e);
/* A file's contents, "-" for standard input. */
must_check int cmd_read(const char *path, struct strbuf *ret, struct err *e);
