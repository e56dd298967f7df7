/* SPDX-License-Identifier: Apache-2.0 */
/*
 * api/conn.c - one connection: requests in, answers out
 */
#include "api/api_priv.h"

#include "base/clock.h"
#include "daemon/token.h"

#include <errno.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>

/* The kernel's word about who connected. */
static enum role role_of(int fd)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
		return ROLE_VIEWER;
	return peer.uid == 0 || peer.uid == geteuid() ? ROLE_ADMIN : ROLE_OPERATOR;
}

void conn_free(struct conn *c)
{
	struct api *a = c->api;

	if (c->watch.added)
		loop_remove(a->loop, &c->watch);
	stream_fini(c);
	close_p(&c->fd);
	c->fd = -1;
	if (c->link)
		remote_conn_gone(c->link);
	c->link = NULL;
	if (c->call) { /* whoever ends it comes back here */
		c->dead = true;
		return;
	}
	list_remove(&c->node);
	if (--a->n_conns == 0)
		a->idle_since = clock_now();
	http_head_fini(&c->head);
	strbuf_fini(&c->in);
	strbuf_fini(&c->out);
	strbuf_fini(&c->body);
	free(c);
}

/* --- out --- */

static void watch_for(struct conn *c)
{
	uint32_t events = c->out.len ? EPOLLOUT : 0;

	if ((c->state == CONN_HEAD || c->state == CONN_BODY || c->state == CONN_EVENTS) && !c->eof)
		events |= EPOLLIN;
	loop_modify(c->api->loop, &c->watch, events);
}

bool conn_flush(struct conn *c)
{
	while (c->out.len) {
		ssize_t n = send(c->fd, c->out.data, c->out.len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) {
			conn_free(c);
			return false;
		}
		strbuf_consume(&c->out, (size_t)n);
	}
	if (c->state == CONN_LAST && !c->out.len) {
		conn_free(c);
		return false;
	}
	watch_for(c);
	return true;
}

void conn_answer(struct conn *c, int status, const char *type, const char *headers,
		 const void *body, size_t len)
{
	strbuf_printf(&c->out,
		      "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n%s%s\r\n",
		      status, http_reason(status), type, len, headers ? headers : "",
		      c->keep ? "" : "Connection: close\r\n");
	strbuf_add(&c->out, body, len);
	c->state = c->keep ? CONN_HEAD : CONN_LAST;
	http_head_fini(&c->head);
	strbuf_fini(&c->body);
}

void conn_error(struct conn *c, int status, const char *headers, const struct err *e)
{
	json_t *o = json_pack("{s:{s:i, s:s, s:i}}", "error", "status", status, "message", e->msg,
			      "exit_status", e->exit_code);
	/* What a client sent may be quoted, and need not be UTF-8. */
	autofree char *text = o ? json_dumps(o, JSON_COMPACT) : xstrdup("{\"error\":{}}");

	json_decref(o);
	conn_answer(c, status, "application/json", headers, text, strlen(text));
}

/* --- in --- */

/* A request that cannot be read: what follows cannot, either. */
static void refuse(struct conn *c, int status, const char *why)
{
	struct err e = {0};

	err_msg(&e, -EPROTO, "%s", why);
	c->keep = false;
	conn_error(c, status, NULL, &e);
}

/* Each request shows its token: one that was taken back opens nothing any more. */
static bool is_known(struct conn *c)
{
	struct err e = {0};

	if (!c->remote)
		return true;
	if (token_role(c->api->d, http_header(&c->head, "Authorization"), &c->role, &e) < 0) {
		c->keep = false;
		conn_error(c, 401, "WWW-Authenticate: Bearer\r\n", &e);
		return false;
	}
	if (c->link)
		remote_known(c->link);
	return true;
}

/* Returns whether there was something to do. */
static bool take_head(struct conn *c)
{
	size_t used;
	int r =
	    http_head_parse(c->in.data ? c->in.data : "", c->in.len, HTTP_REQUEST, &c->head, &used);

	if (r == 0)
		return false;
	if (r < 0) {
		refuse(c, r == -E2BIG ? 431 : 400, "this is not an HTTP/1.1 request");
		return true;
	}
	strbuf_consume(&c->in, used);
	c->keep = http_keeps_alive(&c->head);
	c->length = 0;
	c->chunks = (struct http_chunks){0};
	if (!is_known(c))
		return true;
	if (http_framing_of(&c->head, HTTP_REQUEST, &c->framing, &c->length) < 0) {
		refuse(c, 400, "how long the body is cannot be told");
		return true;
	}
	if (c->length > API_MAX_BODY) {
		refuse(c, 413, "the body is too large");
		return true;
	}
	if (http_header_has(&c->head, "Expect", "100-continue"))
		strbuf_puts(&c->out, "HTTP/1.1 100 Continue\r\n\r\n");
	c->state = CONN_BODY;
	return true;
}

static bool take_body(struct conn *c)
{
	size_t n = (size_t)MIN(c->length, (uint64_t)c->in.len);
	int r = 1;

	if (c->framing == HTTP_CHUNKED) {
		r = http_chunks_take(&c->chunks, &c->in, &c->body, API_MAX_BODY);
	} else if (c->framing == HTTP_LENGTH) {
		strbuf_add(&c->body, c->in.data, n);
		strbuf_consume(&c->in, n);
		c->length -= n;
		r = c->length == 0;
	}
	if (r == 0)
		return false;
	if (r < 0) {
		refuse(c, r == -E2BIG ? 413 : 400, "the body cannot be read");
		return true;
	}
	c->state = CONN_WAIT;
	request_run(c);
	return true;
}

/* Sends what waits, and takes the requests that have come; @c may be gone afterwards. */
void conn_resume(struct conn *c)
{
	for (;;) {
		bool again = false;

		if (c->state == CONN_SPLICE) {
			stream_splice_step(c, 0);
			return;
		}
		if (!conn_flush(c))
			return;
		/* A client that does not read its answers asks no more. */
		if (c->state == CONN_HEAD && c->in.len && c->out.len < API_MAX_OUT)
			again = take_head(c);
		else if (c->state == CONN_BODY)
			again = take_body(c);
		if (!again)
			return;
	}
}

static void on_event(void *opaque, uint32_t events)
{
	struct conn *c = opaque;
	char chunk[16384];
	ssize_t n;

	if (c->state == CONN_SPLICE) {
		stream_splice_step(c, events);
		return;
	}
	if (events & (EPOLLHUP | EPOLLERR)) {
		conn_free(c);
		return;
	}
	if (events & EPOLLIN) {
		n = recv(c->fd, chunk, sizeof(chunk), MSG_DONTWAIT);
		if (n == 0)
			c->eof = true;
		if (n > 0 && c->state != CONN_EVENTS)
			strbuf_add(&c->in, chunk, (size_t)n);
		if (n < 0 && errno != EAGAIN && errno != EINTR) {
			conn_free(c);
			return;
		}
		if (c->eof &&
		    (c->state == CONN_HEAD || c->state == CONN_BODY || c->state == CONN_EVENTS)) {
			conn_free(c);
			return;
		}
	}
	conn_resume(c);
}

struct conn *conn_new(struct api *a, int fd, struct link *link)
{
	struct conn *c = xnew(struct conn);

	c->api = a;
	c->fd = fd;
	c->peer = -1;
	c->link = link;
	c->remote = link != NULL;
	c->role = link ? ROLE_VIEWER : role_of(fd);
	list_append(&a->conns, &c->node);
	a->n_conns++;
	if (loop_add(a->loop, &c->watch, fd, EPOLLIN, on_event, c) == 0)
		return c;
	c->link = NULL;
	conn_free(c);
	return NULL;
}
