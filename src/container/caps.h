/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container/caps.h - capabilities by name, and the five sets of a process (capabilities(7))
 */
#pragma once

#include "container/spec.h"

#define CAPS_KNOWN 41 /* CAP_CHECKPOINT_RESTORE, Linux 5.9, is number 40 */

extern const char *const caps_names[CAPS_KNOWN];

/* Bit of "CAP_CHOWN" (in any case), 0 when unknown. */
uint64_t caps_parse(const char *name);
/* The same with a warning in the log, which is what the specification asks for. */
uint64_t caps_parse_warn(const char *name);

/*
 * Of this process, in this order with the change of user between the first two:
 * caps_bound drops from the bounding set what is not in it;
 * caps_keep makes permitted capabilities survive the change of user;
 * caps_apply sets the other four.  What cannot be granted is left out.
 */
must_check int caps_bound(const struct spec_caps *c, struct err *e);
must_check int caps_keep(struct err *e);
must_check int caps_apply(const struct spec_caps *c, struct err *e);
