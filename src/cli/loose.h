/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/loose.h - running machines that no insulad keeps: of `insula run --name` and `insula fork`
 */
#pragma once

#include "base/err.h"

#include <jansson.h>

/* Commands about machines come here when insulad knows none of that name. */

/* A command of its control socket (docs/vmm.md), such as "stop"; -ENOENT if none runs. */
must_check int loose_call(const char *name, const char *command, struct err *e);
/* The socket that leads to its agent; NULL if none runs.  The caller's. */
char *loose_vsock(const char *name);
/* Adds them to insulad's list: name, state, cpus, memory. */
void loose_list(json_t *machines);
