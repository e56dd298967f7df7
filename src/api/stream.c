/* SPDX-License-Identifier: Apache-2.0 */
/*
 * api/stream.c - connections that stay: events to a listener, bytes through to a machine
 */
#include "api/api_priv.h"

#include "base/fd.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>

/* --- events (server-sent: WHATWG HTML, 9.2) --- */

void stream_events(struct conn *c, uint64_t after)
{
	/* The head goes out at once: a listener knows that it misses nothing from here on. */
	strbuf_puts(&c->out, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
			     "Cache-Control: no-store\r\nTransfer-Encoding: chunked\r\n\r\n");
	http_head_fini(&c->head);
	c->event = after;
	c->state = CONN_EVENTS;
	stream_more_events(c);
}

void stream_more_events(struct conn *c)
{
	uint64_t id;
	json_t *ev;

	/* One who does not read misses events, and sees it by their ids. */
	while (c->out.len < API_MAX_OUT &&
	       (ev = daemon_next_event(c->api->d, c->event, &id)) != NULL) {
		autofree char *data = json_dumps(ev, JSON_COMPACT);
		autofree char *text =
		    xasprintf("id: %llu\nevent: %s\ndata: %s\n\n", (unsigned long long)id,
			      json_string_value(json_object_get(ev, "type")), data ? data : "{}");

		http_chunk_put(&c->out, text, strlen(text));
		json_decref(ev);
		c->event = id;
	}
	loop_modify(c->api->loop, &c->watch, EPOLLIN | EPOLLOUT); /* sent from there */
}

/* --- bytes through --- */

static bool pull(int fd, struct strbuf *b, bool *eof)
{
	while (!*eof && b->len < API_STREAM_BUF) {
		char chunk[32768];
		ssize_t n = recv(fd, chunk, sizeof(chunk), MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN;
		if (n == 0)
			*eof = true;
		strbuf_add(b, chunk, (size_t)MAX(n, (ssize_t)0));
	}
	return true;
}

/* The end of one direction is passed on, the other one goes on. */
static void pass_end(bool eof, const struct strbuf *left, int fd, bool *shut)
{
	if (eof && !left->len && !*shut) {
		shutdown(fd, SHUT_WR);
		*shut = true;
	}
}

static uint32_t events_for(bool eof, const struct strbuf *in, const struct strbuf *out)
{
	return (!eof && in->len < API_STREAM_BUF ? EPOLLIN : 0u) | (out->len ? EPOLLOUT : 0u);
}

void stream_splice_step(struct conn *c, uint32_t events)
{
	bool ok = pull(c->fd, &c->to_peer, &c->eof) && send_buffer(c->peer, &c->to_peer) &&
		  pull(c->peer, &c->out, &c->peer_eof) && send_buffer(c->fd, &c->out);

	if (!ok || (c->peer_eof && !c->out.len) ||
	    ((events & (EPOLLHUP | EPOLLERR)) && !c->to_peer.len && c->eof)) {
		conn_free(c);
		return;
	}
	pass_end(c->eof, &c->to_peer, c->peer, &c->peer_shut);
	loop_modify(c->api->loop, &c->watch, events_for(c->eof, &c->to_peer, &c->out));
	loop_modify(c->api->loop, &c->peer_watch, events_for(c->peer_eof, &c->out, &c->to_peer));
}

static void on_peer(void *opaque, uint32_t events)
{
	stream_splice_step(opaque, 0);
}

void stream_splice(struct conn *c, int peer)
{
	strbuf_puts(&c->out, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n"
			     "Upgrade: insula-stream\r\n\r\n");
	http_head_fini(&c->head);
	c->peer = peer;
	c->state = CONN_SPLICE;
	/* What came behind the request is the stream's already. */
	strbuf_add(&c->to_peer, c->in.data, c->in.len);
	strbuf_consume(&c->in, c->in.len);
	if (loop_add(c->api->loop, &c->peer_watch, peer, EPOLLIN, on_peer, c) < 0)
		c->peer_eof = true;
}

void stream_fini(struct conn *c)
{
	if (c->peer_watch.added)
		loop_remove(c->api->loop, &c->peer_watch);
	close_p(&c->peer);
	c->peer = -1;
	strbuf_fini(&c->to_peer);
}
