/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/loose.h - running machines that no insulad keeps: of `insula run --name` and `insula fork`
 */
#pragma once

#include "base/err.h"

#include <jansson.h>

/* Commands about machines come here when insulad knows none of that name. */

/* Has @name a directory that no insulad keeps, whether it runs or not? */
bool loose_is(const char *name);
/* A command of its control socket (docs/vmm.md), such as "stop"; -ENOENT if none runs. */
must_check int loose_call(const char *name, const char *command, struct err *e);
/* The socket that leads to its agent; NULL if none runs.  The caller's. */
char *loose_vsock(const char *name);
/* Adds them to insulad's list: name, state, cpus, memory. */
void loose_list(json_t *machines);

/* loose_snapshots.c: snapshots of such machines, as the commands have it; exit statuses. */
int loose_snapshot_create(const char *name, const char *snapshot, bool compress, bool disk_only,
			  bool json);
int loose_snapshot_list(const char *name, bool json);
int loose_snapshot_delete(const char *name, const char *snapshot);
/* As `insula run` from there on, with @command in it. */
int loose_snapshot_restore(const char *name, const char *snapshot, bool verbose, char **command);
/* A line of a list; @o has name, created, memory, bytes. */
void snapshot_print_line(const json_t *o);
