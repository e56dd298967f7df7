/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/fuzz/fuzz_http.c - HTTP messages: a head parses alike in one piece and in many, strings lie
 * in its text, no body grows past its bound
 */
#include "fuzz.h"

#include "codec/http.h"

#include <assert.h>

#define MAX_BODY 4096

static void check_string(const struct http_head *h, const char *s, size_t used)
{
	assert(s >= h->text && s + strlen(s) <= h->text + used);
}

static void check_head(const char *text, size_t len, enum http_kind kind)
{
	struct http_head h, again;
	enum http_framing framing;
	uint64_t length = 0;
	size_t used, used_again;
	int r = http_head_parse(text, len, kind, &h, &used);

	if (r <= 0)
		return;
	assert(used <= len);
	/* The bytes behind the head have no part in it, and one less is not enough. */
	assert(http_head_parse(text, used, kind, &again, &used_again) == 1 && used_again == used);
	assert(again.n_headers == h.n_headers);
	http_head_fini(&again);
	assert(http_head_parse(text, used - 1, kind, &again, &used_again) == 0);
	for (size_t i = 0; i < h.n_headers; i++) {
		check_string(&h, h.headers[i].name, used);
		check_string(&h, h.headers[i].value, used);
		assert(http_header(&h, h.headers[i].name));
	}
	if (kind == HTTP_REQUEST) {
		check_string(&h, h.method, used);
		check_string(&h, h.target, used);
		(void)http_unescape(h.target, true);
	}
	(void)http_keeps_alive(&h);
	(void)!http_framing_of(&h, kind, &framing, &length);
	http_head_fini(&h);
}

/* In one piece, and in pieces: the same bytes come out. */
static void check_chunks(const char *text, size_t len, size_t piece)
{
	autostrbuf struct strbuf whole = {0}, in = {0}, one = {0}, many = {0};
	struct http_chunks a = {0}, b = {0};
	int ra, rb = 0;

	strbuf_add(&whole, text, len);
	ra = http_chunks_take(&a, &whole, &one, MAX_BODY);
	for (size_t i = 0; i < len && rb == 0; i += piece) {
		strbuf_add(&in, text + i, MIN(piece, len - i));
		rb = http_chunks_take(&b, &in, &many, MAX_BODY);
	}
	assert(one.len <= MAX_BODY && many.len <= MAX_BODY);
	assert(ra == rb || (ra <= 0 && rb <= 0));
	if (ra == 1)
		assert(one.len == many.len &&
		       (!one.len || memcmp(one.data, many.data, one.len) == 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const seeds[] = {
	    "POST /v1/machines/a%20b/start?x=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
	    "Connection: keep-alive, upgrade\r\n\r\nhello",
	    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
	    "5;a=b\r\nhello\r\n10\r\n0123456789abcdef\r\n0\r\nT: x\r\n\r\n",
	};
	struct fuzz_input in = {data, size};
	unsigned int what = fuzz_u8(&in), piece = fuzz_u8(&in) % 16 + 1;
	autofree char *text = NULL;
	size_t len;

	if (what & 0x80) { /* the input itself */
		text = xcalloc(1, in.len + 1);
		len = in.len;
		fuzz_bytes(&in, text, len);
	} else { /* a seed with some bytes changed */
		text = xstrdup(seeds[what % ARRAY_SIZE(seeds)]);
		len = strlen(text);
		for (unsigned int n = fuzz_u8(&in) % 8; n; n--) {
			size_t at = fuzz_u8(&in) % len;

			text[at] = (char)fuzz_u8(&in);
		}
	}
	check_head(text, len, HTTP_REQUEST);
	check_head(text, len, HTTP_RESPONSE);
	check_chunks(text, len, piece);
	return 0;
}
