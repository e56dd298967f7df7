/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/codec/test_http.c - HTTP/1.1 heads, bodies and targets, and what must not pass for one
 */
#include "codec/http.h"

#include "test.h"

#include <errno.h>

static int parse(const char *text, enum http_kind kind, struct http_head *h)
{
	size_t used = 0;
	int r = http_head_parse(text, strlen(text), kind, h, &used);

	if (r == 1)
		CHECK(used <= strlen(text));
	return r;
}

static void test_request(void)
{
	static const char text[] =
	    "POST /v1/x?a=%20b HTTP/1.1\r\nHost: x\r\nContent-Length:  5 \r\n"
	    "connection: Keep-Alive, Upgrade\r\n\r\nhello";
	struct http_head h;
	enum http_framing framing;
	uint64_t length = 0;
	size_t used;

	for (size_t n = 0; n < strlen(text) - 5; n++)
		CHECK_EQ(http_head_parse(text, n, HTTP_REQUEST, &h, &used), 0);
	CHECK_EQ(http_head_parse(text, strlen(text), HTTP_REQUEST, &h, &used), 1);
	CHECK_EQ(used, strlen(text) - 5);
	CHECK_STR(h.method, "POST");
	CHECK_STR(h.target, "/v1/x?a=%20b");
	CHECK_STR(http_header(&h, "content-length"), "5");
	CHECK(http_header_has(&h, "Connection", "upgrade"));
	CHECK(!http_header_has(&h, "Connection", "up"));
	CHECK(!http_header(&h, "Hos"));
	CHECK(http_keeps_alive(&h));
	CHECK_EQ(http_framing_of(&h, HTTP_REQUEST, &framing, &length), 0);
	CHECK(framing == HTTP_LENGTH && length == 5);
	http_head_fini(&h);
}

static void test_bad_heads(void)
{
	static const char *const bad[] = {
	    "GET / HTTP/2.0\r\n\r\n",
	    "GET /\r\n\r\n",
	    "GET  / HTTP/1.1\r\n\r\n",
	    "GET / HTTP/1.1 \r\n\r\n",
	    "G(T / HTTP/1.1\r\n\r\n",
	    "GET /\x01 HTTP/1.1\r\n\r\n",
	    "GET / HTTP/1.1\r\nNo colon\r\n\r\n",
	    "GET / HTTP/1.1\r\nA : b\r\n\r\n",
	    "GET / HTTP/1.1\r\nA: b\r\n folded\r\n\r\n",
	    "GET / HTTP/1.1\r\nA: b\nC: d\r\n\r\n",
	    "GET / HTTP/1.1\r\n: b\r\n\r\n",
	    "\r\n\r\n",
	};
	static char large[HTTP_MAX_HEAD + 10];
	autostrbuf struct strbuf many = {0};
	struct http_head h;
	size_t used;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		CHECK_EQ(parse(bad[i], HTTP_REQUEST, &h), (uint64_t)-EPROTO);
	CHECK_EQ(http_head_parse("GET / HTTP/1.1\r\nA: \0\r\n\r\n", 25, HTTP_REQUEST, &h, &used),
		 (uint64_t)-EPROTO);
	memset(large, 'a', sizeof(large));
	CHECK_EQ(http_head_parse(large, HTTP_MAX_HEAD - 1, HTTP_REQUEST, &h, &used), 0);
	CHECK_EQ(http_head_parse(large, HTTP_MAX_HEAD, HTTP_REQUEST, &h, &used), (uint64_t)-E2BIG);
	strbuf_puts(&many, "GET / HTTP/1.1\r\n");
	for (int i = 0; i < HTTP_MAX_HEADERS + 1; i++)
		strbuf_puts(&many, "A: b\r\n");
	strbuf_puts(&many, "\r\n");
	CHECK_EQ(parse(many.data, HTTP_REQUEST, &h), (uint64_t)-E2BIG);
}

/* Bodies whose length two readers could see differently. */
static void test_framing(void)
{
	static const struct {
		const char *headers;
		int r;
		enum http_framing framing;
	} cases[] = {
	    {"", 0, HTTP_NO_BODY},
	    {"Content-Length: 0\r\n", 0, HTTP_LENGTH},
	    {"Content-Length: +1\r\n", -EPROTO, 0},
	    {"Content-Length: 1, 1\r\n", -EPROTO, 0},
	    {"Content-Length: \r\n", -EPROTO, 0},
	    {"Content-Length: 99999999999999999999999\r\n", -EPROTO, 0},
	    {"Content-Length: 1\r\nContent-Length: 1\r\n", -EPROTO, 0},
	    {"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", -EPROTO, 0},
	    {"Transfer-Encoding: Chunked\r\n", 0, HTTP_CHUNKED},
	    {"Transfer-Encoding: gzip, chunked\r\n", -EPROTO, 0},
	    {"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", -EPROTO, 0},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		autofree char *text = xasprintf("GET / HTTP/1.1\r\n%s\r\n", cases[i].headers);
		enum http_framing framing = HTTP_UNTIL_CLOSE;
		uint64_t length = 0;
		struct http_head h;

		CHECK_EQ(parse(text, HTTP_REQUEST, &h), 1);
		CHECK_EQ(http_framing_of(&h, HTTP_REQUEST, &framing, &length), cases[i].r);
		if (cases[i].r == 0)
			CHECK_EQ(framing, cases[i].framing);
		http_head_fini(&h);
	}
}

static void test_responses(void)
{
	enum http_framing framing;
	uint64_t length;
	struct http_head h;

	CHECK_EQ(parse("HTTP/1.1 204 No Content\r\n\r\n", HTTP_RESPONSE, &h), 1);
	CHECK_EQ(h.status, 204);
	CHECK_EQ(http_framing_of(&h, HTTP_RESPONSE, &framing, &length), 0);
	CHECK_EQ(framing, HTTP_NO_BODY);
	http_head_fini(&h);
	CHECK_EQ(parse("HTTP/1.0 200\r\n\r\n", HTTP_RESPONSE, &h), 1);
	CHECK_EQ(http_framing_of(&h, HTTP_RESPONSE, &framing, &length), 0);
	CHECK_EQ(framing, HTTP_UNTIL_CLOSE);
	CHECK(!http_keeps_alive(&h));
	http_head_fini(&h);
	CHECK(parse("HTTP/1.1 20 x\r\n\r\n", HTTP_RESPONSE, &h) < 0);
	CHECK(parse("HTTP/1.1 2000 x\r\n\r\n", HTTP_RESPONSE, &h) < 0);
}

static int chunks(const char *text, size_t max, size_t piece, struct strbuf *out)
{
	autostrbuf struct strbuf in = {0};
	struct http_chunks c = {0};
	int r = 0;

	for (size_t i = 0; i < strlen(text) && r == 0; i += piece) {
		strbuf_add(&in, text + i, MIN(piece, strlen(text) - i));
		r = http_chunks_take(&c, &in, out, max);
	}
	return r;
}

static void test_chunks(void)
{
	static const char good[] =
	    "5;x=y\r\nhello\r\n1\r\n \r\n00A\r\n0123456789\r\n0\r\nT: 1\r\n\r\n";
	static const char *const bad[] = {
	    "x\r\n",          "\r\n", "5\r\nhelloX\r\n", "-1\r\n", "11111111111111111\r\n",
	    " 5\r\nhello\r\n"};

	for (size_t piece = 1; piece < 12; piece++) {
		autostrbuf struct strbuf out = {0};

		CHECK_EQ(chunks(good, 16, piece, &out), 1);
		CHECK_STR(out.data, "hello 0123456789");
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		autostrbuf struct strbuf out = {0};

		CHECK_EQ(chunks(bad[i], 100, 100, &out), (uint64_t)-EPROTO);
	}
	for (size_t piece = 1; piece < 12; piece++) {
		autostrbuf struct strbuf out = {0};

		CHECK_EQ(chunks(good, 15, piece, &out), (uint64_t)-E2BIG);
		CHECK(out.len <= 15);
	}
}

static void test_escapes(void)
{
	char a[] = "a%2Fb+c%41", b[] = "a+b", c[] = "%00", d[] = "%4", e[] = "%zz";
	autostrbuf struct strbuf out = {0};

	CHECK(http_unescape(a, false));
	CHECK_STR(a, "a/b+cA");
	CHECK(http_unescape(b, true));
	CHECK_STR(b, "a b");
	CHECK(!http_unescape(c, true) && !http_unescape(d, true) && !http_unescape(e, true));
	http_escape("a/b c\xff~", &out);
	CHECK_STR(out.data, "a%2Fb%20c%FF~");
}

int main(void)
{
	test_request();
	test_bad_heads();
	test_framing();
	test_responses();
	test_chunks();
	test_escapes();
	return 0;
}
