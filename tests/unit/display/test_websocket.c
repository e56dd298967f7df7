/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/display/test_websocket.c - the handshake of RFC 6455's example, frames in pieces, and
 * what is no frame
 */
#include "display/websocket.h"

#include "test.h"

static const char hello[] =
    "GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\n"
    "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    "Sec-WebSocket-Protocol: binary\r\nSec-WebSocket-Version: 13\r\n\r\n";

static int feed(struct websocket *w, const void *p, size_t n, struct strbuf *data,
		struct strbuf *reply)
{
	return websocket_receive(w, p, n, data, reply);
}

static void open_it(struct websocket *w)
{
	struct strbuf data = {0}, reply = {0};

	for (size_t i = 0; i + 1 < sizeof(hello); i++)
		CHECK_EQ(feed(w, hello + i, 1, &data, &reply), 0);
	CHECK(strstr(reply.data, "HTTP/1.1 101 ") == reply.data);
	CHECK(strstr(reply.data, "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
	CHECK(strstr(reply.data, "Sec-WebSocket-Protocol: binary\r\n\r\n"));
	CHECK_EQ(data.len, 0);
	strbuf_fini(&reply);
}

static void test_frames(void)
{
	/* "Hello" masked as in RFC 6455, 5.7; a ping; a close. */
	static const uint8_t text[] = {0x82, 0x85, 0x37, 0xfa, 0x21, 0x3d,
				       0x7f, 0x9f, 0x4d, 0x51, 0x58};
	static const uint8_t ping[] = {0x89, 0x81, 0, 0, 0, 0, 'p'};
	static const uint8_t end[] = {0x88, 0x80, 1, 2, 3, 4};
	struct strbuf data = {0}, reply = {0};
	struct websocket w = {0};

	open_it(&w);
	for (size_t i = 0; i < sizeof(text); i++)
		CHECK_EQ(feed(&w, text + i, 1, &data, &reply), 0);
	CHECK(data.len == 5 && memcmp(data.data, "Hello", 5) == 0 && reply.len == 0);
	CHECK_EQ(feed(&w, ping, sizeof(ping), &data, &reply), 0);
	CHECK(reply.len == 3 && memcmp(reply.data, "\x8a\x01p", 3) == 0);
	CHECK(feed(&w, end, sizeof(end), &data, &reply) < 0);
	CHECK(feed(&w, text, sizeof(text), &data, &reply) < 0); /* closed is closed */
	strbuf_fini(&data);
	strbuf_fini(&reply);
	websocket_fini(&w);
}

/* Which pages may connect. */
static void test_origin(void)
{
	static const struct {
		const char *host, *origin, *allowed;
		bool may;
	} cases[] = {
	    {"127.0.0.1:5900", "http://127.0.0.1:8080", NULL, true},
	    {"127.0.0.1:5900", "http://127.0.0.1", NULL, true},
	    {"localhost:5900", "https://LOCALHOST:1", NULL, true},
	    {"[::1]:5900", "http://[::1]:80", NULL, true},
	    {"localhost:5900", "http://127.0.0.1:8080", NULL, true}, /* the same host to itself */
	    {"192.0.2.1:5900", "http://192.0.2.2", NULL, false},
	    {"192.0.2.1:5900", "http://localhost", NULL, false},
	    {"127.0.0.1:5900", "http://127.0.0.1.example.com", NULL, false},
	    {"127.0.0.1:5900", "https://example.com", NULL, false},
	    {"127.0.0.1:5900", "null", NULL, false},
	    {"example.com:5900", "http://example.com", NULL,
	     false}, /* a name that its owner points here */
	    {"example.com:5900", "https://example.com", "https://example.com", true},
	    {"127.0.0.1:5900", "https://desk.example", "https://desk.example", true},
	    {"127.0.0.1:5900", "https://desk.example.org", "https://desk.example", false},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		autofree char *head =
		    xasprintf("GET / HTTP/1.1\r\nHost: %s\r\nOrigin: %s\r\n"
			      "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
			      cases[i].host, cases[i].origin);
		struct websocket w = {.allowed = cases[i].allowed};
		struct strbuf data = {0}, reply = {0};

		CHECK_EQ(feed(&w, head, strlen(head), &data, &reply) == 0, cases[i].may);
		CHECK(strstr(reply.data, cases[i].may ? " 101 " : " 403 "));
		strbuf_fini(&reply);
		websocket_fini(&w);
	}
}

static void refused(const void *p, size_t n, bool opened)
{
	struct strbuf data = {0}, reply = {0};
	struct websocket w = {0};

	if (opened)
		open_it(&w);
	CHECK(feed(&w, p, n, &data, &reply) < 0);
	strbuf_fini(&data);
	strbuf_fini(&reply);
	websocket_fini(&w);
}

static void test_sizes(void)
{
	struct strbuf out = {0};
	static const char big[70000];

	websocket_send(big, 125, &out);
	CHECK(out.len == 127 && (uint8_t)out.data[0] == 0x82);
	strbuf_consume(&out, out.len);
	websocket_send(big, 126, &out);
	CHECK(out.len == 130 && out.data[1] == 126 && out.data[3] == 126);
	strbuf_consume(&out, out.len);
	websocket_send(big, sizeof(big), &out);
	CHECK(out.len == sizeof(big) + 10 && out.data[1] == 127);
	strbuf_fini(&out);
}

int main(void)
{
	static const char no_key[] = "GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n";
	static const char post[] = "POST / HTTP/1.1\r\nSec-WebSocket-Key: x\r\n\r\n";
	static const char nul[] = "GET / HTTP/1.1\r\n\0Sec-WebSocket-Key: x\r\n\r\n";
	static char endless[9000];

	test_frames();
	test_origin();
	test_sizes();
	memset(endless, 'a', sizeof(endless));
	refused(no_key, sizeof(no_key) - 1, false);
	refused(post, sizeof(post) - 1, false);
	refused(nul, sizeof(nul) - 1, false);
	refused(endless, sizeof(endless), false);
	refused("\x82\x05hello", 7, true);        /* not masked */
	refused("\xc2\x80....", 6, true);         /* an extension */
	refused("\x83\x80....", 6, true);         /* no such frame */
	refused("\x89\xfe\x01\x00....", 8, true); /* a ping that is too long */
	refused("\x82\xff\x00\x00\x00\x00\x01\x00\x00\x00", 10, true);
	return 0;
}
