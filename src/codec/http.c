/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec/http.c - HTTP/1.1 messages as bytes
 */
#include "codec/http.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <strings.h>

/* RFC 9110, 5.6.2 */
static bool is_token(const char *s)
{
	const char *p = s;

	for (; *p; p++) {
		if (!isalnum((unsigned char)*p) && !strchr("!#$%&'*+-.^_`|~", *p))
			return false;
	}
	return p > s;
}

static char *trim(char *s)
{
	size_t n;

	s += strspn(s, " \t");
	n = strlen(s);
	while (n && (s[n - 1] == ' ' || s[n - 1] == '\t'))
		n--;
	s[n] = '\0';
	return s;
}

static bool parse_version(const char *s, bool *http10)
{
	*http10 = strcmp(s, "HTTP/1.0") == 0;
	return *http10 || strcmp(s, "HTTP/1.1") == 0;
}

static bool printable(const char *s)
{
	for (; *s; s++) {
		if ((unsigned char)*s <= ' ' || *s == 0x7f)
			return false;
	}
	return true;
}

static bool parse_request_line(char *line, struct http_head *h)
{
	char *target = strchr(line, ' '), *version = target ? strchr(target + 1, ' ') : NULL;

	if (!version)
		return false;
	*target++ = '\0';
	*version++ = '\0';
	h->method = line;
	h->target = target;
	return is_token(line) && target[0] && printable(target) &&
	       parse_version(version, &h->http10);
}

static bool parse_status_line(char *line, struct http_head *h)
{
	char *status = strchr(line, ' ');

	if (!status)
		return false;
	*status++ = '\0';
	for (int i = 0; i < 3; i++) {
		if (!isdigit((unsigned char)status[i]))
			return false;
	}
	if (status[3] && status[3] != ' ')
		return false;
	h->status = (status[0] - '0') * 100 + (status[1] - '0') * 10 + status[2] - '0';
	return h->status >= 100 && parse_version(line, &h->http10);
}

static int parse_header(char *line, struct http_head *h)
{
	char *colon = strchr(line, ':');

	/* Folded lines and spaces before the colon are where readers differ. */
	if (!colon || line[0] == ' ' || line[0] == '\t')
		return -EPROTO;
	if (h->n_headers == HTTP_MAX_HEADERS)
		return -E2BIG;
	*colon = '\0';
	if (!is_token(line))
		return -EPROTO;
	h->headers[h->n_headers++] = (struct http_header){line, trim(colon + 1)};
	return 0;
}

/* Where the head ends, with its empty line; 0 = not there. */
static size_t find_end(const char *in, size_t len)
{
	const char *p = len ? memmem(in, len, "\r\n\r\n", 4) : NULL;

	return p ? (size_t)(p - in) + 4 : 0;
}

static int parse_lines(enum http_kind kind, struct http_head *h)
{
	char *line = h->text, *end = strstr(line, "\r\n");
	int r = 0;

	*end = '\0';
	if (!(kind == HTTP_REQUEST ? parse_request_line(line, h) : parse_status_line(line, h)))
		return -EPROTO;
	for (line = end + 2; r == 0; line = end + 2) {
		end = strstr(line, "\r\n");
		if (end == line)
			return 0;
		*end = '\0';
		if (strpbrk(line, "\r\n"))
			return -EPROTO;
		r = parse_header(line, h);
	}
	return r;
}

int http_head_parse(const char *in, size_t len, enum http_kind kind, struct http_head *ret,
		    size_t *used)
{
	struct http_head h = {0};
	size_t end = find_end(in, MIN(len, (size_t)HTTP_MAX_HEAD));
	int r;

	if (!end)
		return len >= HTTP_MAX_HEAD ? -E2BIG : 0;
	if (memchr(in, '\0', end))
		return -EPROTO;
	h.text = malloc(end + 1);
	if (!h.text)
		return -ENOMEM;
	memcpy(h.text, in, end);
	h.text[end] = '\0';
	r = parse_lines(kind, &h);
	if (r < 0) {
		free(h.text);
		return r;
	}
	*ret = h;
	*used = end;
	return 1;
}

void http_head_fini(struct http_head *h)
{
	free(h->text);
	memset(h, 0, sizeof(*h));
}

const char *http_header(const struct http_head *h, const char *name)
{
	for (size_t i = 0; i < h->n_headers; i++) {
		if (strcasecmp(h->headers[i].name, name) == 0)
			return h->headers[i].value;
	}
	return NULL;
}

static bool list_has(const char *list, const char *word)
{
	size_t n = strlen(word);

	while (*list) {
		size_t len;

		list += strspn(list, " \t,");
		len = strcspn(list, " \t,");
		if (len == n && strncasecmp(list, word, n) == 0)
			return true;
		list += strcspn(list, ",");
	}
	return false;
}

bool http_header_has(const struct http_head *h, const char *name, const char *word)
{
	for (size_t i = 0; i < h->n_headers; i++) {
		if (strcasecmp(h->headers[i].name, name) == 0 &&
		    list_has(h->headers[i].value, word))
			return true;
	}
	return false;
}

bool http_keeps_alive(const struct http_head *h)
{
	if (http_header_has(h, "Connection", "close"))
		return false;
	return !h->http10 || http_header_has(h, "Connection", "keep-alive");
}

static size_t count_headers(const struct http_head *h, const char *name)
{
	size_t n = 0;

	for (size_t i = 0; i < h->n_headers; i++)
		n += strcasecmp(h->headers[i].name, name) == 0;
	return n;
}

static int parse_length(const char *text, uint64_t *ret)
{
	uint64_t n = 0;

	if (!text[0])
		return -EPROTO;
	for (; *text; text++) {
		if (!isdigit((unsigned char)*text) || n > (UINT64_MAX - 9) / 10)
			return -EPROTO;
		n = n * 10 + (uint64_t)(*text - '0');
	}
	*ret = n;
	return 0;
}

/* RFC 9112, 6.3; a body with both framings, or two lengths, may be an attack on what is between. */
int http_framing_of(const struct http_head *h, enum http_kind kind, enum http_framing *ret,
		    uint64_t *length)
{
	size_t lengths = count_headers(h, "Content-Length");
	size_t codings = count_headers(h, "Transfer-Encoding");

	if (lengths + codings > 1 || (codings && h->http10))
		return -EPROTO;
	if (kind == HTTP_RESPONSE && (h->status < 200 || h->status == 204 || h->status == 304)) {
		*ret = HTTP_NO_BODY;
		return 0;
	}
	if (codings) {
		if (strcasecmp(http_header(h, "Transfer-Encoding"), "chunked") != 0)
			return -EPROTO;
		*ret = HTTP_CHUNKED;
		return 0;
	}
	if (lengths) {
		*ret = HTTP_LENGTH;
		return parse_length(http_header(h, "Content-Length"), length);
	}
	*ret = kind == HTTP_REQUEST ? HTTP_NO_BODY : HTTP_UNTIL_CLOSE;
	return 0;
}

/* --- chunks --- */

/* "1a2b[;extension]\r\n" at the front of @in: its length, 0 = not whole yet. */
static int take_size(struct http_chunks *c, struct strbuf *in)
{
	char *end = in->len ? memmem(in->data, MIN(in->len, (size_t)1024), "\r\n", 2) : NULL;
	uint64_t n = 0;
	const char *p;

	if (!end)
		return in->len >= 1024 ? -EPROTO : 0;
	for (p = in->data; p < end && isxdigit((unsigned char)*p); p++) {
		if (n >> 60)
			return -EPROTO;
		n = n << 4 |
		    (uint64_t)(isdigit((unsigned char)*p) ? *p - '0' : (*p | 32) - 'a' + 10);
	}
	if (p == in->data || (p < end && *p != ';'))
		return -EPROTO;
	strbuf_consume(in, (size_t)(end - in->data) + 2);
	c->left = n;
	c->at = n ? HTTP_CHUNK_DATA : HTTP_CHUNK_TRAILER;
	return 1;
}

static int take_data(struct http_chunks *c, struct strbuf *in, struct strbuf *out, size_t max)
{
	size_t n = (size_t)MIN(c->left, (uint64_t)in->len);

	if (c->left > max || out->len > max - c->left)
		return -E2BIG;
	if (!n)
		return 0;
	strbuf_add(out, in->data, n);
	strbuf_consume(in, n);
	c->left -= n;
	if (!c->left)
		c->at = HTTP_CHUNK_END;
	return 1;
}

/* Trailers are read and dropped. */
static int take_trailer(struct http_chunks *c, struct strbuf *in)
{
	char *end = in->len ? memmem(in->data, in->len, "\r\n", 2) : NULL;
	size_t n = end ? (size_t)(end - in->data) + 2 : in->len;

	if (c->trailer + n > HTTP_MAX_HEAD)
		return -E2BIG;
	if (!end)
		return 0;
	c->trailer += n;
	strbuf_consume(in, n);
	return n == 2 ? 2 : 1;
}

int http_chunks_take(struct http_chunks *c, struct strbuf *in, struct strbuf *out, size_t max)
{
	for (;;) {
		int r = 0;

		switch (c->at) {
		case HTTP_CHUNK_SIZE:
			r = take_size(c, in);
			break;
		case HTTP_CHUNK_DATA:
			r = take_data(c, in, out, max);
			break;
		case HTTP_CHUNK_END:
			if (in->len >= 2) {
				r = memcmp(in->data, "\r\n", 2) == 0 ? 1 : -EPROTO;
				strbuf_consume(in, 2);
				c->at = HTTP_CHUNK_SIZE;
			}
			break;
		case HTTP_CHUNK_TRAILER:
			r = take_trailer(c, in);
			break;
		}
		if (r <= 0)
			return r;
		if (r == 2)
			return 1;
	}
}

void http_chunk_put(struct strbuf *out, const void *data, size_t len)
{
	if (!len)
		return;
	strbuf_printf(out, "%zx\r\n", len);
	strbuf_add(out, data, len);
	strbuf_puts(out, "\r\n");
}

/* --- targets --- */

static int hex_digit(char c)
{
	if (isdigit((unsigned char)c))
		return c - '0';
	c |= 32;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool http_unescape(char *text, bool query)
{
	char *to = text;

	for (const char *p = text; *p; p++) {
		if (*p == '%') {
			int high = hex_digit(p[1]), low = high < 0 ? -1 : hex_digit(p[2]);

			if (low < 0 || (high == 0 && low == 0))
				return false;
			*to++ = (char)(high << 4 | low);
			p += 2;
		} else {
			*to++ = query && *p == '+' ? ' ' : *p;
		}
	}
	*to = '\0';
	return true;
}

void http_escape(const char *text, struct strbuf *out)
{
	for (; *text; text++) {
		if (isalnum((unsigned char)*text) || strchr("-._~", *text))
			strbuf_putc(out, *text);
		else
			strbuf_printf(out, "%%%02X", (unsigned char)*text);
	}
}

const char *http_reason(int status)
{
	static const struct {
		int status;
		const char *text;
	} reasons[] = {
	    {100, "Continue"},
	    {101, "Switching Protocols"},
	    {200, "OK"},
	    {201, "Created"},
	    {202, "Accepted"},
	    {204, "No Content"},
	    {400, "Bad Request"},
	    {401, "Unauthorized"},
	    {403, "Forbidden"},
	    {404, "Not Found"},
	    {405, "Method Not Allowed"},
	    {409, "Conflict"},
	    {413, "Content Too Large"},
	    {426, "Upgrade Required"},
	    {431, "Request Header Fields Too Large"},
	    {500, "Internal Server Error"},
	    {501, "Not Implemented"},
	    {503, "Service Unavailable"},
	    {504, "Gateway Timeout"},
	    {507, "Insufficient Storage"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(reasons); i++) {
		if (reasons[i].status == status)
			return reasons[i].text;
	}
	return "Unknown";
}
