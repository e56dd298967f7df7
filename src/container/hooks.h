/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container/hooks.h - programs that the configuration wants run at points of a container's life
 * (runtime-spec, config.md, "POSIX-platform Hooks")
 */
#pragma once

#include "container/spec.h"

/* One after the other, each with @state on its standard input, until one fails: its words, or its
 * exit status, in @e.  They run in the caller's namespaces; @cwd is theirs. */
must_check int hooks_run(const struct spec *s, enum spec_hook_kind kind, const char *state,
			 const char *cwd, struct err *e);
