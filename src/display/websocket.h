/* SPDX-License-Identifier: Apache-2.0 */
/*
 * display/websocket.h - the server's side of a WebSocket (RFC 6455) that carries a byte stream, as
 * noVNC uses it
 */
#pragma once

#include "base/err.h"
#include "base/strbuf.h"

/* A browser tells which page asks (Origin, RFC 6455, 10.2).  Pages of the host that the request was
 * sent to may, whatever their port (all names of loopback are one host), if it was named by address
 * or as localhost: any other name could be one that a page's owner points at us.  So may the pages
 * of @allowed. */
struct websocket {
	const char *allowed; /* "https://HOST[:PORT]"; NULL = none */
	struct strbuf in;
	bool open, closed;
};

/* What came: payload is added to @data, answers to @reply.  -EPROTO: drop it when @reply is sent.
 */
must_check int websocket_receive(struct websocket *w, const void *bytes, size_t len,
				 struct strbuf *data, struct strbuf *reply);
/* One binary frame. */
void websocket_send(const void *data, size_t len, struct strbuf *out);
void websocket_fini(struct websocket *w);
