/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oci/digest.c - content addresses
 */
#include "oci/digest.h"

#include <errno.h>
#include <stdio.h>

bool digest_is_valid(const char *text)
{
	return strncmp(text, DIGEST_PREFIX, sizeof(DIGEST_PREFIX) - 1) == 0 &&
	       strlen(text) == DIGEST_LEN &&
	       strspn(digest_hex(text), "0123456789abcdef") == DIGEST_HEX;
}

const char *digest_hex(const char *digest)
{
	return digest + sizeof(DIGEST_PREFIX) - 1;
}

struct digest_text digest_final(struct sha256_ctx *c)
{
	uint8_t raw[SHA256_DIGEST_SIZE];
	struct digest_text t = {.s = DIGEST_PREFIX};

	sha256_digest(c, sizeof(raw), raw);
	for (size_t i = 0; i < sizeof(raw); i++)
		snprintf(t.s + sizeof(DIGEST_PREFIX) - 1 + 2 * i, 3, "%02x", raw[i]);
	return t;
}

struct digest_text digest_of(const void *data, size_t len)
{
	struct sha256_ctx c;

	sha256_init(&c);
	sha256_update(&c, len, data);
	return digest_final(&c);
}

int digest_of_file(int fd, struct digest_text *ret)
{
	static uint8_t chunk[1 << 18];
	struct sha256_ctx c;
	uint64_t at = 0;

	sha256_init(&c);
	for (;;) {
		ssize_t n = pread(fd, chunk, sizeof(chunk), (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		sha256_update(&c, (size_t)n, chunk);
		at += (uint64_t)n;
	}
	*ret = digest_final(&c);
	return 0;
}
