/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container/seccomp_filter.h - system-call filters (runtime-spec, config-linux.md, "Seccomp")
 *
 * libseccomp makes the program; it travels as bytes in a memfd, so that the runtime compiles it
 * while the container's process mounts.
 */
#pragma once

#include "container/spec.h"

struct seccomp_flags {
	unsigned int filter; /* SECCOMP_FILTER_FLAG_* */
	bool listener;       /* some rule notifies */
};

/* Which flags loading needs; also refuses what could never be loaded. */
must_check int seccomp_check(const struct spec_seccomp *s, struct seccomp_flags *ret,
			     struct err *e);
/* Writes the program to @fd. */
must_check int seccomp_compile(const struct spec_seccomp *s, int fd, struct err *e);
/* Loads the program in @fd; @listener gets the descriptor for notifications, -1 if none. */
must_check int seccomp_install(int fd, struct seccomp_flags flags, int *listener, struct err *e);
/* Gives descriptor @number of process @pid to whoever listens on the spec's listenerPath, with
 * the state of the container (a JSON object). */
must_check int seccomp_hand_over(const struct spec_seccomp *s, int pidfd, int number,
				 const char *process_state, struct err *e);

/* For `features`. */
extern const char *const seccomp_actions[], *const seccomp_operators[],
						*const seccomp_archs[], *const seccomp_flag_names[];
