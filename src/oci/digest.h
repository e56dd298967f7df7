/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oci/digest.h - content addresses (image-spec, descriptor.md, "Digests")
 *
 * Only sha256 is taken: every registry and tool makes it.
 */
#pragma once

#include "base/err.h"

#include <nettle/sha2.h>

#define DIGEST_PREFIX "sha256:"
#define DIGEST_HEX    64
#define DIGEST_LEN    (sizeof(DIGEST_PREFIX) - 1 + DIGEST_HEX)

/* "sha256:" and 64 lower-case hexadecimal digits, nothing else: safe as a file name after the
 * colon. */
bool digest_is_valid(const char *text);
/* The digits of a valid one. */
const char *digest_hex(const char *digest);

struct digest_text {
	char s[DIGEST_LEN + 1];
};
struct digest_text digest_final(struct sha256_ctx *c);
struct digest_text digest_of(const void *data, size_t len);
/* Of the whole file behind @fd, from its start. */
must_check int digest_of_file(int fd, struct digest_text *ret);
