/* SPDX-License-Identifier: Apache-2.0 */
/*
 * live/identity.h - what a copy of a machine must not have in common with it
 */
#pragma once

#include "base/err.h"

/*
 * Through the agent behind the socket @vsock: host name, machine-id, ssh host keys, the address of
 * the first card (@mac; NULL = as it is), and fresh entropy.  Waits @patience_ms at most.
 * -ETIMEDOUT when the agent does not answer.
 */
must_check int live_new_identity(const char *vsock, const char *name, const char *mac,
				 unsigned int patience_ms, struct err *e);
