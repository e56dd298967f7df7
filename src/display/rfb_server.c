/* SPDX-License-Identifier: Apache-2.0 */
/*
 * display/rfb_server.c - the VNC server: sockets, viewers, when to paint
 */
#include "display/rfb_server.h"

#include "base/clock.h"
#include "display/websocket.h"
#include "tls/tls.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define FRAME       (NSEC_PER_SEC / 30)
#define IDLE_FRAME  (NSEC_PER_SEC / 10)
#define IDLE_AFTER  30u /* frames without news */
#define GREET_AFTER (200 * NSEC_PER_MSEC)

#define TLS_HANDSHAKE 0x16 /* the first byte of a TLS connection */

/* Who says the first word tells what is spoken: a viewer waits for ours, a browser does not. */
enum kind { KIND_UNKNOWN, KIND_RFB, KIND_WEBSOCKET };

struct viewer {
	struct list node;
	struct rfb_server *server;
	struct loop_fd watch;
	int fd;
	enum kind kind;
	uint64_t greet_at;
	struct rfb *rfb;
	struct websocket ws;
	struct tls *tls;   /* NULL: what is said is in the clear */
	struct strbuf out; /* what is on its way to the socket */
	bool dead;         /* dropped when out is sent */
};

struct rfb_server {
	struct loop *loop;
	struct rfb_config cfg;
	struct tls_identity *id;
	int fd;
	struct loop_fd watch;
	struct list viewers;
	unsigned int n_viewers, still; /* frames without news */
	struct timer timer;
};

static void viewer_free(struct viewer *v)
{
	loop_remove(v->server->loop, &v->watch);
	list_remove(&v->node);
	v->server->n_viewers--;
	close(v->fd);
	rfb_free(v->rfb);
	websocket_fini(&v->ws);
	tls_free(v->tls);
	strbuf_fini(&v->out);
	free(v);
}

/* --- sending --- */

static void put(struct viewer *v, const void *data, size_t len)
{
	if (v->tls)
		tls_send(v->tls, data, len, &v->out);
	else
		strbuf_add(&v->out, data, len);
}

static void gather(struct viewer *v)
{
	struct strbuf *from = rfb_out(v->rfb);
	autostrbuf struct strbuf frame = {0};

	if (v->kind == KIND_UNKNOWN || !from->len || (v->tls && !tls_ready(v->tls)))
		return;
	if (v->kind == KIND_RFB) {
		put(v, from->data, from->len);
	} else if (v->ws.open) {
		websocket_send(from->data, from->len, &frame);
		put(v, frame.data, frame.len);
	} else {
		return;
	}
	strbuf_consume(from, from->len);
}

/* False: the viewer is gone. */
static bool viewer_flush(struct viewer *v)
{
	gather(v);
	while (v->out.len) {
		ssize_t n = send(v->fd, v->out.data, v->out.len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) {
			viewer_free(v);
			return false;
		}
		strbuf_consume(&v->out, (size_t)n);
	}
	if (v->dead && !v->out.len) {
		viewer_free(v);
		return false;
	}
	loop_modify(v->server->loop, &v->watch,
		    (v->dead ? 0 : EPOLLIN) | (v->out.len ? EPOLLOUT : 0u));
	return true;
}

/* --- frames --- */

static void arm(struct rfb_server *s)
{
	uint64_t period = s->still > IDLE_AFTER ? IDLE_FRAME : FRAME;

	if (s->timer.deadline == TIMER_NEVER && s->n_viewers)
		timer_set(&s->timer, timerq_now(s->timer.q) + period);
}

/* Input makes things happen: look again soon. */
static void wake(struct rfb_server *s)
{
	if (s->still > IDLE_AFTER)
		timer_cancel(&s->timer);
	s->still = 0;
	arm(s);
}

static bool is_ready(const struct viewer *v)
{
	return !v->dead && !v->out.len && v->kind != KIND_UNKNOWN && rfb_wants_update(v->rfb);
}

static void on_frame(void *opaque)
{
	struct rfb_server *s = opaque;
	struct list *pos, *tmp;
	bool wanted = false, news = false;

	list_for_each(pos, &s->viewers)
	{
		struct viewer *v = container_of(pos, struct viewer, node);

		if (v->kind == KIND_UNKNOWN && clock_now() >= v->greet_at)
			v->kind = KIND_RFB;
		wanted |= is_ready(v);
	}
	if (wanted)
		screen_refresh(s->cfg.screen);
	list_for_each_safe(pos, tmp, &s->viewers)
	{
		struct viewer *v = container_of(pos, struct viewer, node);

		if (is_ready(v))
			news |= rfb_update(v->rfb);
		(void)viewer_flush(v);
	}
	s->still = news ? 0 : MIN(s->still + 1, IDLE_AFTER + 1);
	arm(s);
}

/* --- receiving --- */

static int take_websocket(struct viewer *v, const char *buf, size_t n)
{
	autostrbuf struct strbuf data = {0}, reply = {0};
	int r = websocket_receive(&v->ws, buf, n, &data, &reply);

	put(v, reply.data, reply.len);
	return data.len && rfb_receive(v->rfb, data.data, data.len) < 0 ? -EPROTO : r;
}

static int take_clear(struct viewer *v, const char *buf, size_t n)
{
	if (!n)
		return 0;
	return v->kind == KIND_WEBSOCKET ? take_websocket(v, buf, n) : rfb_receive(v->rfb, buf, n);
}

static int take_tls(struct viewer *v, const char *buf, size_t n)
{
	autostrbuf struct strbuf data = {0};
	bool was_ready = tls_ready(v->tls);
	int r = tls_receive(v->tls, buf, n, &data, &v->out);

	if (!was_ready && tls_ready(v->tls))
		rfb_secured(v->rfb);
	return take_clear(v, data.data, data.len) < 0 ? -EPROTO : r;
}

/* A request in the clear is refused where TLS is asked for, though RFB begins so. */
static int find_kind(struct viewer *v, char first)
{
	struct tls_identity *id = v->server->id;

	if (id && first == TLS_HANDSHAKE)
		v->tls = tls_new(id);
	v->kind = first == 'G' || v->tls ? KIND_WEBSOCKET : KIND_RFB;
	return id && first == 'G' ? -EPROTO : 0;
}

static void take(struct viewer *v, const char *buf, size_t n)
{
	int r = v->kind == KIND_UNKNOWN ? find_kind(v, buf[0]) : 0;

	if (r == 0)
		r = v->tls ? take_tls(v, buf, n) : take_clear(v, buf, n);
	v->dead |= r < 0;
	if (!v->dead && !v->tls && rfb_wants_tls(v->rfb)) {
		gather(v);
		v->tls = tls_new(v->server->id);
	}
	wake(v->server);
}

static void on_viewer(void *opaque, uint32_t events)
{
	struct viewer *v = opaque;
	char buf[16384];
	ssize_t n;

	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
		n = v->dead ? 0 : recv(v->fd, buf, sizeof(buf), MSG_DONTWAIT);
		if (n > 0) {
			take(v, buf, (size_t)n);
		} else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
			viewer_free(v);
			return;
		}
	}
	(void)viewer_flush(v);
}

static void on_connect(void *opaque, uint32_t events)
{
	struct rfb_server *s = opaque;
	int fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK), on = 1;
	struct viewer *v;

	if (fd < 0)
		return;
	if (s->n_viewers == RFB_VIEWERS) {
		close(fd);
		return;
	}
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)); /* not on unix sockets */
	v = xnew(struct viewer);
	v->server = s;
	v->fd = fd;
	v->rfb = rfb_new(&s->cfg);
	v->greet_at = clock_now() + GREET_AFTER;
	list_append(&s->viewers, &v->node);
	s->n_viewers++;
	if (loop_add(s->loop, &v->watch, fd, EPOLLIN, on_viewer, v) < 0)
		viewer_free(v);
	wake(s);
}

/* --- life --- */

int rfb_server_new(struct loop *l, int fd, const struct rfb_config *cfg, struct tls_identity *id,
		   struct rfb_server **ret, struct err *e)
{
	struct rfb_server *s = xnew(struct rfb_server);
	int r;

	s->loop = l;
	s->cfg = *cfg;
	s->cfg.tls = id;
	s->id = id;
	s->fd = fd;
	list_init(&s->viewers);
	timer_init(&s->timer, loop_timers(l), on_frame, s);
	r = loop_add(l, &s->watch, fd, EPOLLIN, on_connect, s);
	if (r < 0) {
		close(fd);
		free(s);
		return err_set(e, r, "VNC");
	}
	*ret = s;
	return 0;
}

void rfb_server_free(struct rfb_server *s)
{
	struct list *pos, *tmp;

	if (!s)
		return;
	timer_cancel(&s->timer);
	list_for_each_safe(pos, tmp, &s->viewers)
	    viewer_free(container_of(pos, struct viewer, node));
	loop_remove(s->loop, &s->watch);
	close(s->fd);
	free(s);
}

unsigned int rfb_server_viewers(const struct rfb_server *s)
{
	return s->n_viewers;
}
