/* SPDX-License-Identifier: Apache-2.0 */
/*
 * api/api_priv.h - the parts of the REST face
 */
#pragma once

#include "api/api.h"
#include "codec/http.h"

#define API_MAX_BODY   (1u << 20)
#define API_MAX_OUT    (1u << 20) /* waiting for a slow reader of events */
#define API_STREAM_BUF (256u << 10)

struct api {
	struct daemon *d;
	struct loop *loop;
	int fd;
	struct loop_fd watch;
	struct list conns;
	size_t n_conns;
	uint64_t idle_since;
	struct daemon_listener listener;
};

enum conn_state {
	CONN_HEAD,   /* reads the head of a request */
	CONN_BODY,   /* and its body */
	CONN_WAIT,   /* the operation runs */
	CONN_EVENTS, /* gets events for ever */
	CONN_SPLICE, /* bytes go through, to and from @peer */
	CONN_LAST,   /* closes when all is sent */
};

struct call;

struct conn {
	struct list node;
	struct api *api;
	int fd;
	struct loop_fd watch;
	enum conn_state state;
	enum role role;
	struct link *link; /* of one that came over TCP, while that stands (remote.c) */
	bool remote;       /* each request needs a token */
	bool dead;         /* waits for its call to be freed */
	bool eof;          /* the client sends no more */
	struct strbuf in, out;

	/* the request */
	struct http_head head;
	enum http_framing framing;
	uint64_t length;
	struct http_chunks chunks;
	struct strbuf body;
	bool keep;
	struct call *call;

	uint64_t event; /* the last one sent */

	/* the spliced stream */
	int peer;
	struct loop_fd peer_watch;
	struct strbuf to_peer;
	bool peer_eof, peer_shut;
};

/* api.c: NULL when there are too many, with @fd closed; else @link's, which is told when it goes.
 */
struct conn *api_add_conn(struct api *a, int fd, struct link *link);

/* remote.c: the conn of @k has gone; its client has shown a token. */
void remote_conn_gone(struct link *k);
void remote_known(struct link *k);

/* conn.c: NULL on failure, with @fd closed. */
struct conn *conn_new(struct api *a, int fd, struct link *link);
void conn_free(struct conn *c);
/* Sends what it can; false when @c is gone. */
bool conn_flush(struct conn *c);
void conn_resume(struct conn *c);
/* A whole answer, after which the connection goes on, or ends. */
void conn_answer(struct conn *c, int status, const char *type, const char *headers,
		 const void *body, size_t len);
void conn_error(struct conn *c, int status, const char *headers, const struct err *e);

/* request.c: a request has come whole. */
void request_run(struct conn *c);
int request_status(int code); /* of a negative errno */

/* stream.c */
void stream_events(struct conn *c, uint64_t after);
void stream_more_events(struct conn *c);
/* Owns @peer. */
void stream_splice(struct conn *c, int peer);
void stream_splice_step(struct conn *c, uint32_t events);
void stream_fini(struct conn *c);
