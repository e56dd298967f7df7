/* SPDX-License-Identifier: Apache-2.0 */
/*
 * api/remote.c - insulad over TCP: TLS outside, and a connection like those of the socket inside
 */
#include "api/remote.h"

#include "api/api_priv.h"
#include "base/clock.h"
#include "base/fd.h"
#include "tls/tls.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define MAX_LINKS   64
#define PATIENCE    (30 * NSEC_PER_SEC) /* until a token was shown */
#define BUFFER_FULL (256u << 10)

/* One client. */
struct link {
	struct list node;
	struct remote *r;
	int fd, inner;     /* TCP; the other end of the conn's */
	struct conn *conn; /* NULL = it has gone */
	struct loop_fd watch, inner_watch;
	struct tls *tls;
	struct strbuf in, out; /* content for the conn; TLS for the client */
	bool in_over, out_over,
	    in_shut; /* the client's goodbye; the conn's end; told to the conn */
	bool broken; /* no TLS, or no more: goes when @out is sent */
	struct timer timer;
};

struct remote {
	struct api *api;
	int fd;
	struct loop_fd watch;
	struct tls_identity *identity;
	struct list links;
	unsigned int n_links;
};

static void link_free(struct link *k)
{
	timer_cancel(&k->timer);
	if (k->conn)
		k->conn->link = NULL;
	if (k->watch.added)
		loop_remove(k->r->api->loop, &k->watch);
	if (k->inner_watch.added)
		loop_remove(k->r->api->loop, &k->inner_watch);
	close_p(&k->fd);
	close_p(&k->inner);
	list_remove(&k->node);
	k->r->n_links--;
	tls_free(k->tls);
	strbuf_fini(&k->in);
	strbuf_fini(&k->out);
	free(k);
}

/* --- four directions --- */

/* 1 = something came, 0 = nothing now, -1 = never again. */
static int receive(int fd, char *chunk, size_t size, ssize_t *n)
{
	do
		*n = recv(fd, chunk, size, MSG_DONTWAIT);
	while (*n < 0 && errno == EINTR);
	return *n > 0 ? 1 : *n < 0 && errno == EAGAIN ? 0 : -1;
}

static void from_client(struct link *k)
{
	char chunk[16384];
	ssize_t n;
	int r = 0;

	while (!k->in_over && !k->broken && k->in.len < BUFFER_FULL && k->out.len < BUFFER_FULL &&
	       (r = receive(k->fd, chunk, sizeof(chunk), &n)) > 0) {
		int e = tls_receive(k->tls, chunk, (size_t)n, &k->in, &k->out);

		k->in_over = e == -ESHUTDOWN;
		k->broken = e < 0 && e != -ESHUTDOWN;
	}
	/* Without a goodbye, what came may not be all: the conn sees no end, it is cut off. */
	if (r < 0 && !k->in_over)
		k->broken = true;
}

static void from_conn(struct link *k)
{
	char chunk[16384];
	ssize_t n;
	int r = 0;

	if (!tls_ready(k->tls))
		return;
	while (!k->out_over && k->out.len < BUFFER_FULL &&
	       (r = receive(k->inner, chunk, sizeof(chunk), &n)) > 0)
		tls_send(k->tls, chunk, (size_t)n, &k->out);
	if (r < 0 && !k->out_over) {
		k->out_over = true;
		tls_end(k->tls, &k->out);
	}
}

static void step(struct link *k)
{
	struct loop *l = k->r->api->loop;
	uint32_t client, conn;

	from_client(k);
	if (!send_buffer(k->inner,
			 &k->in)) /* the conn has gone; what it said last still goes out */
		strbuf_consume(&k->in, k->in.len);
	if (k->in_over && !k->in.len && !k->in_shut) {
		shutdown(k->inner, SHUT_WR);
		k->in_shut = true;
	}
	from_conn(k);
	if (!send_buffer(k->fd, &k->out) || ((k->broken || k->out_over) && !k->out.len)) {
		link_free(k);
		return;
	}
	client = (!k->in_over && !k->broken && k->in.len < BUFFER_FULL ? EPOLLIN : 0u) |
		 (k->out.len ? EPOLLOUT : 0u);
	conn =
	    (!k->out_over && k->out.len < BUFFER_FULL ? EPOLLIN : 0u) | (k->in.len ? EPOLLOUT : 0u);
	loop_modify(l, &k->watch, client);
	if (k->out_over && k->inner_watch.added)
		loop_remove(l, &k->inner_watch); /* it would say so again and again */
	else if (k->inner_watch.added)
		loop_modify(l, &k->inner_watch, conn);
}

static void on_client(void *opaque, uint32_t events)
{
	struct link *k = opaque;

	if ((events & (EPOLLHUP | EPOLLERR)) && !(events & EPOLLIN))
		link_free(k);
	else
		step(k);
}

static void on_conn(void *opaque, uint32_t events)
{
	step(opaque);
}

static void on_patience(void *opaque)
{
	link_free(opaque);
}

void remote_conn_gone(struct link *k)
{
	k->conn = NULL;
}

void remote_known(struct link *k)
{
	timer_cancel(&k->timer);
}

/* --- clients --- */

static void link_new(struct remote *r, int fd)
{
	struct loop *l = r->api->loop;
	struct link *k = xnew(struct link);
	int ends[2] = {-1, -1}, one = 1;
	unsigned int silence_ms = 120000;

	k->r = r;
	k->fd = fd;
	k->inner = -1;
	list_append(&r->links, &k->node);
	r->n_links++;
	timer_init(&k->timer, loop_timers(l), on_patience, k);
	timer_set(&k->timer, timerq_now(k->timer.q) + PATIENCE);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &silence_ms, sizeof(silence_ms));
	k->tls = tls_new(r->identity);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0) {
		k->inner = ends[0];
		k->conn = api_add_conn(r->api, ends[1], k);
	}
	if (!k->conn || loop_add(l, &k->watch, fd, EPOLLIN, on_client, k) < 0 ||
	    loop_add(l, &k->inner_watch, k->inner, EPOLLIN, on_conn, k) < 0)
		link_free(k); /* the conn finds its other end closed */
}

static void on_accept(void *opaque, uint32_t events)
{
	struct remote *r = opaque;
	int fd = accept4(r->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return;
	if (r->n_links >= MAX_LINKS)
		close(fd);
	else
		link_new(r, fd);
}

/* --- the listener --- */

static int split(const char *address, char **host, char **port, struct err *e)
{
	const char *colon = strrchr(address, ':');
	size_t n = colon ? (size_t)(colon - address) : 0;

	if (!colon || !colon[1] || (address[0] == '[' && (n < 3 || address[n - 1] != ']')))
		return err_msg(e, -EINVAL, "--listen: '%s' is not ADDRESS:PORT", address);
	*host = address[0] == '[' ? xasprintf("%.*s", (int)n - 2, address + 1)
				  : xasprintf("%.*s", (int)n, address);
	*port = xstrdup(colon + 1);
	return 0;
}

static int listen_on(const char *address, struct err *e)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
				 .ai_flags = AI_PASSIVE | AI_NUMERICHOST | AI_NUMERICSERV};
	autofree char *host = NULL, *port = NULL;
	struct addrinfo *list = NULL;
	autoclose int fd = -1;
	int r = split(address, &host, &port, e), one = 1;

	if (r < 0)
		return r;
	r = getaddrinfo(host[0] ? host : NULL, port, &hints, &list);
	if (r != 0)
		return err_msg(e, -EINVAL, "--listen: '%s': %s", address, gai_strerror(r));
	fd = socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	r = fd < 0 ? -errno : 0;
	if (r == 0)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (r == 0 && (bind(fd, list->ai_addr, list->ai_addrlen) < 0 || listen(fd, 64) < 0))
		r = -errno;
	freeaddrinfo(list);
	return r < 0 ? err_set(e, r, "listen on %s", address) : steal_fd(&fd);
}

int remote_new(struct api *a, const char *address, const char *pem, struct remote **ret,
	       struct err *e)
{
	struct remote *r = xnew(struct remote);
	int n;

	r->api = a;
	r->fd = -1;
	list_init(&r->links);
	n = tls_identity_open(pem, &r->identity, e);
	if (n == 0)
		n = r->fd = listen_on(address, e);
	if (n >= 0)
		n = loop_add(a->loop, &r->watch, r->fd, EPOLLIN, on_accept, r);
	if (n < 0) {
		remote_free(r);
		return n;
	}
	*ret = r;
	return 0;
}

void remote_free(struct remote *r)
{
	struct list *at, *tmp;

	if (!r)
		return;
	list_for_each_safe(at, tmp, &r->links) link_free(container_of(at, struct link, node));
	if (r->watch.added)
		loop_remove(r->api->loop, &r->watch);
	close_p(&r->fd);
	tls_identity_free(r->identity);
	free(r);
}
