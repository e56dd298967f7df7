/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmm/listen_any.h - a listening socket of either kind, as a person names it
 */
#pragma once

#include "base/err.h"

/* "unix:PATH" or "ADDRESS:PORT"; EXIT_PORT_TAKEN when somebody has the port. */
must_check int listen_any(const char *where, struct err *e);
