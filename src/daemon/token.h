/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daemon/token.h - who may use the API from elsewhere
 *
 * A token is 256 random bits, shown once, when it is made.  Kept is its SHA-256: with so many bits
 * that is as good as a slow hash, and can be looked for.
 */
#pragma once

#include "daemon/operations.h"

/* The role of the token in the value of an Authorization header ("Bearer TOKEN"; NULL = there was
 * none).  -EACCES with words that tell nothing about what there is.  From any thread. */
must_check int token_role(struct daemon *d, const char *authorization, enum role *ret,
			  struct err *e);
