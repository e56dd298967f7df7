/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec/http.h - HTTP/1.1 messages as bytes (RFC 9112): heads, bodies, targets
 *
 * Ours because the faces of insulad need what no packaged server library offers together: taking
 * over a connection after 101 and after 200, half-closed connections, heads that go out at once
 * (docs/dependencies.md).  Strict: what two readers could read differently is refused.
 */
#pragma once

#include "base/err.h"
#include "base/strbuf.h"

#define HTTP_MAX_HEAD    65536u
#define HTTP_MAX_HEADERS 100

struct http_header {
	char *name, *value; /* value without spaces around */
};

struct http_head {
	char *text;            /* what the others point into */
	char *method, *target; /* of requests */
	int status;            /* of responses */
	bool http10;
	struct http_header headers[HTTP_MAX_HEADERS];
	size_t n_headers;
};

enum http_kind { HTTP_REQUEST, HTTP_RESPONSE };

/* Looks for a whole head at the front of @in.  1 and *@used bytes, 0 when bytes are missing,
 * -EPROTO when it is none, -E2BIG past the limits.  @ret is to be finished after 1 only. */
must_check int http_head_parse(const char *in, size_t len, enum http_kind kind,
			       struct http_head *ret, size_t *used);
void http_head_fini(struct http_head *h);
/* The value of the first header of that name (any case), or NULL. */
const char *http_header(const struct http_head *h, const char *name);
/* Does the comma-separated list in header @name hold @word (any case)? */
bool http_header_has(const struct http_head *h, const char *name, const char *word);
/* Whether the connection may carry another message after this one. */
bool http_keeps_alive(const struct http_head *h);

enum http_framing { HTTP_NO_BODY, HTTP_LENGTH, HTTP_CHUNKED, HTTP_UNTIL_CLOSE };

/* How the body after @h is framed: *@ret and, for HTTP_LENGTH, *@length.  -EPROTO when it cannot be
 * told for sure. */
must_check int http_framing_of(const struct http_head *h, enum http_kind kind,
			       enum http_framing *ret, uint64_t *length);

/* A chunked body being read; zero it first. */
struct http_chunks {
	enum { HTTP_CHUNK_SIZE, HTTP_CHUNK_DATA, HTTP_CHUNK_END, HTTP_CHUNK_TRAILER } at;
	uint64_t left;
	size_t trailer;
};
/* Moves what it can from @in to @out, which may grow to @max.  1 at the end of the body, 0 when
 * bytes are missing, -EPROTO, -E2BIG. */
must_check int http_chunks_take(struct http_chunks *c, struct strbuf *in, struct strbuf *out,
				size_t max);
/* Appends @data as one chunk; none of length 0, which would end the body. */
void http_chunk_put(struct strbuf *out, const void *data, size_t len);

/* Decodes %XX in @text in place ('+' as a space with @query); false for bad escapes and NUL. */
bool http_unescape(char *text, bool query);
/* Appends @text with all but unreserved characters escaped. */
void http_escape(const char *text, struct strbuf *out);
const char *http_reason(int status);
