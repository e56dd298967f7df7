/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve/listen.h - a listening unix socket for its owner only
 */
#pragma once

#include "base/err.h"

/* Descriptor, or -errno.  A stale socket in the way (nobody listens) is replaced, a live one is
 * -EADDRINUSE. */
must_check int listen_unix(const char *path, struct err *e);
