/* SPDX-License-Identifier: Apache-2.0 */
/*
 * display/websocket.h - the server's side of a WebSocket (RFC 6455) that carries a byte stream, as
 * noVNC uses it
 */
#pragma once

#include "base/err.h"
#include "base/strbuf.h"

struct websocket {
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
