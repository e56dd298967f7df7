/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec/base64.c - bytes as text, by nettle
 */
#include "codec/base64.h"

#include <errno.h>
#include <nettle/base64.h>

#define CHUNK 3072u /* a multiple of three: no padding inside */

void base64_encode(const void *data, size_t len, struct strbuf *out)
{
	char text[BASE64_ENCODE_RAW_LENGTH(CHUNK)];
	const uint8_t *p = data;

	while (len) {
		size_t n = MIN(len, (size_t)CHUNK);

		base64_encode_raw(text, n, p);
		strbuf_add(out, text, BASE64_ENCODE_RAW_LENGTH(n));
		p += n;
		len -= n;
	}
}

int base64_decode(const char *text, size_t len, struct strbuf *out)
{
	struct base64_decode_ctx ctx;

	base64_decode_init(&ctx);
	for (size_t i = 0; i < len; i++) {
		uint8_t byte;
		int n = base64_decode_single(&ctx, &byte, text[i]);

		if (n < 0)
			return -EINVAL;
		if (n)
			strbuf_add(out, &byte, 1);
	}
	return base64_decode_final(&ctx) ? 0 : -EINVAL;
}
