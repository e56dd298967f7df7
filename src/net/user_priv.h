/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net/user_priv.h - the parts of the user-mode network that its two files share
 */
#pragma once

#include "net/net.h"

#include <slirp/libslirp.h>

/*
 * The descriptors libslirp wants polled, in an epoll set of their own: the loop watches that one
 * set, so that a burst of events costs one round through libslirp.
 */
struct user_poll {
	int epfd;
	struct user_poll_entry {
		int fd;
		uint32_t events, revents;
	} * now, *before; /* of this round and the last one */
	size_t n_now, n_before, cap;
	struct user_poll_fd {
		uint32_t events; /* in the epoll set */
		bool added;
		uint64_t round;
		int index; /* into now[], when round is the current one */
	} * by_fd;
	size_t n_fds;
	uint64_t round;
};

must_check int user_poll_init(struct user_poll *p, struct err *e);
void user_poll_fini(struct user_poll *p);
/* Ask libslirp what to wait for; returns the time (ms) after which it wants to run anyway. */
uint32_t user_poll_fill(struct user_poll *p, Slirp *slirp);
/* Tell libslirp what happened. */
void user_poll_run(struct user_poll *p, Slirp *slirp);
/* The descriptor is about to be closed, or is a new file with an old number. */
void user_poll_forget(struct user_poll *p, int fd);
