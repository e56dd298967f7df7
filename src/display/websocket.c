/* SPDX-License-Identifier: Apache-2.0 */
/*
 * display/websocket.c - the server's side of a WebSocket (RFC 6455)
 */
#include "display/websocket.h"

#include "codec/base64.h"

#include <errno.h>
#include <nettle/sha1.h>
#include <strings.h>

#define HEAD_MAX  8192u
#define FRAME_MAX (64u << 10)

enum opcode { OP_MORE = 0, OP_TEXT = 1, OP_BINARY = 2, OP_CLOSE = 8, OP_PING = 9, OP_PONG = 10 };

static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/* --- the HTTP request --- */

/* Value of header @name among the lines of @head (NUL-terminated), its length in @len. */
static const char *header(const char *head, const char *name, size_t *len)
{
	size_t n = strlen(name);

	for (const char *line = strstr(head, "\r\n"); line; line = strstr(line, "\r\n")) {
		line += 2;
		if (strncasecmp(line, name, n) != 0 || line[n] != ':')
			continue;
		line += n + 1;
		line += strspn(line, " \t");
		*len = strcspn(line, "\r");
		return line;
	}
	return NULL;
}

static int refuse(struct strbuf *reply, const char *status)
{
	strbuf_puts(reply, "HTTP/1.1 ");
	strbuf_puts(reply, status);
	strbuf_puts(reply, "\r\nConnection: close\r\n\r\n");
	return -EPROTO;
}

/* Of "HOST[:PORT]"; an IPv6 address has brackets. */
static size_t host_len(const char *host, size_t len)
{
	const char *end = *host == '[' ? memchr(host, ']', len) : memchr(host, ':', len);

	return !end ? len : (size_t)(end - host) + (*host == '[');
}

static bool is_local_name(const char *host, size_t len)
{
	return host[0] == '[' || strspn(host, "0123456789.") >= len ||
	       (len == 9 && strncasecmp(host, "localhost", 9) == 0);
}

/* The names of this host to itself are one. */
static bool is_loopback(const char *host, size_t len)
{
	return (len == 9 && strncasecmp(host, "localhost", 9) == 0) ||
	       (len == 5 && memcmp(host, "[::1]", 5) == 0) ||
	       (len > 4 && memcmp(host, "127.", 4) == 0 && strspn(host, "0123456789.") >= len);
}

static bool may_connect(const struct websocket *w, const char *head)
{
	size_t len, n;
	const char *origin = header(head, "Origin", &len), *host, *at;

	if (!origin)
		return true; /* no browser */
	if (w->allowed && strlen(w->allowed) == len && strncasecmp(origin, w->allowed, len) == 0)
		return true;
	host = header(head, "Host", &n);
	at = memmem(origin, len, "://", 3);
	if (!host || !n || !at)
		return false;
	len -= (size_t)(at + 3 - origin);
	at += 3;
	n = host_len(host, n);
	len = host_len(at, len);
	if (!n || !len || !is_local_name(host, n))
		return false;
	return (len == n && strncasecmp(at, host, n) == 0) ||
	       (is_loopback(host, n) && is_loopback(at, len));
}

static int answer(const struct websocket *w, const char *head, struct strbuf *reply)
{
	uint8_t digest[SHA1_DIGEST_SIZE];
	struct sha1_ctx sha;
	const char *key, *protocol;
	size_t len, n;

	key = header(head, "Sec-WebSocket-Key", &len);
	if (strncmp(head, "GET ", 4) != 0 || !key || len > 64)
		return refuse(reply, "400 Bad Request");
	if (!may_connect(w, head))
		return refuse(reply, "403 Forbidden");
	sha1_init(&sha);
	sha1_update(&sha, len, (const uint8_t *)key);
	sha1_update(&sha, strlen(guid), (const uint8_t *)guid);
	sha1_digest(&sha, sizeof(digest), digest);
	strbuf_puts(reply, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
			   "Connection: Upgrade\r\nSec-WebSocket-Accept: ");
	base64_encode(digest, sizeof(digest), reply);
	protocol = header(head, "Sec-WebSocket-Protocol", &n);
	if (protocol && n >= 6 && strncasecmp(protocol, "binary", 6) == 0)
		strbuf_puts(reply, "\r\nSec-WebSocket-Protocol: binary");
	strbuf_puts(reply, "\r\n\r\n");
	return 0;
}

static int handshake(struct websocket *w, struct strbuf *reply)
{
	const char *end = w->in.len ? memmem(w->in.data, w->in.len, "\r\n\r\n", 4) : NULL;
	int r;

	if (!end)
		return w->in.len > HEAD_MAX ? refuse(reply, "400 Bad Request") : 0;
	if (memchr(w->in.data, '\0', (size_t)(end - w->in.data)))
		return refuse(reply, "400 Bad Request");
	w->in.data[end + 2 - w->in.data] = '\0';
	r = answer(w, w->in.data, reply);
	strbuf_consume(&w->in, (size_t)(end + 4 - w->in.data));
	w->open = r == 0;
	return r;
}

/* --- frames --- */

static void put_frame(enum opcode op, const void *data, size_t len, struct strbuf *out)
{
	strbuf_putc(out, (char)(0x80 | op));
	if (len < 126) {
		strbuf_putc(out, (char)len);
	} else if (len < 65536) {
		strbuf_putc(out, 126);
		strbuf_putc(out, (char)(len >> 8));
		strbuf_putc(out, (char)len);
	} else {
		strbuf_putc(out, 127);
		for (int shift = 56; shift >= 0; shift -= 8)
			strbuf_putc(out, (char)((uint64_t)len >> shift));
	}
	strbuf_add(out, data, len);
}

void websocket_send(const void *data, size_t len, struct strbuf *out)
{
	put_frame(OP_BINARY, data, len, out);
}

static int take_frame(struct websocket *w, uint8_t op, uint8_t *payload, size_t len,
		      struct strbuf *data, struct strbuf *reply)
{
	switch (op) {
	case OP_MORE:
	case OP_TEXT:
	case OP_BINARY:
		strbuf_add(data, payload, len);
		return 0;
	case OP_PING:
		put_frame(OP_PONG, payload, len, reply);
		return 0;
	case OP_PONG:
		return 0;
	case OP_CLOSE:
		put_frame(OP_CLOSE, payload, len, reply);
		w->closed = true;
		return -EPROTO;
	}
	return -EPROTO;
}

/* The frame at the front: 1 = taken, 0 = more bytes are needed. */
static int next_frame(struct websocket *w, struct strbuf *data, struct strbuf *reply)
{
	uint8_t *p = (uint8_t *)w->in.data;
	size_t head = 2, have = w->in.len;
	uint64_t len;
	int r;

	if (have < 2)
		return 0;
	/* Reserved bits mean extensions, which were not agreed on; clients must mask. */
	if ((p[0] & 0x70) || !(p[1] & 0x80))
		return -EPROTO;
	len = p[1] & 0x7f;
	if (len >= 126) {
		unsigned int n = len == 126 ? 2 : 8;

		if (have < head + n)
			return 0;
		len = 0;
		for (unsigned int i = 0; i < n; i++)
			len = len << 8 | p[head + i];
		head += n;
	}
	if (len > FRAME_MAX || ((p[0] & 8) && len > 125))
		return -EPROTO;
	if (have < head + 4 + len)
		return 0;
	for (size_t i = 0; i < len; i++)
		p[head + 4 + i] ^= p[head + i % 4];
	r = take_frame(w, p[0] & 15, p + head + 4, (size_t)len, data, reply);
	strbuf_consume(&w->in, head + 4 + (size_t)len);
	return r < 0 ? r : 1;
}

int websocket_receive(struct websocket *w, const void *bytes, size_t len, struct strbuf *data,
		      struct strbuf *reply)
{
	int r = 0;

	if (w->closed)
		return -EPROTO;
	strbuf_add(&w->in, bytes, len);
	if (!w->open)
		r = handshake(w, reply);
	if (r < 0 || !w->open)
		return r;
	do
		r = next_frame(w, data, reply);
	while (r > 0);
	return r;
}

void websocket_fini(struct websocket *w)
{
	strbuf_fini(&w->in);
}
