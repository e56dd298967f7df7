/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net/user.c - user-mode network: NAT, DHCP and DNS through libslirp, no privileges needed
 *
 * libslirp runs in the loop thread alone.  Frames from the card wait in a bounded queue and are
 * handed over by one posted call; frames for a card without buffers wait in another.  What
 * overflows is dropped, as on a wire: TCP sends it again.
 *
 * See docs/network.md.
 */
#include "net/user_priv.h"

#include "base/clock.h"
#include "base/exit.h"
#include "base/log.h"

#include <errno.h>
#include <glib.h>
#include <sys/epoll.h>

/* Larger ones were tried: slower, and transfers stalled for seconds (docs/network.md). */
#define USER_MTU    1500
#define QUEUE_BYTES (4u << 20)

struct frame {
	struct list node;
	size_t len;
	uint8_t data[];
};

struct frame_queue {
	struct list frames;
	size_t bytes;
};

struct user_net {
	struct net net;
	struct loop *loop;
	Slirp *slirp;
	struct user_poll poll;
	struct loop_fd watch;
	struct timer timer; /* libslirp's own timeouts */
	struct loop_work work;
	pthread_mutex_t lock;  /* tx */
	struct frame_queue tx; /* from the card */
	struct frame_queue rx; /* for the card */
};

struct user_timer {
	struct timer timer;
	struct user_net *u;
	SlirpTimerId id;
	void *cb_opaque;
};

/* --- queues --- */

static void queue_add(struct frame_queue *q, const void *data, size_t len)
{
	struct frame *f;

	if (q->bytes + len > QUEUE_BYTES)
		return;
	f = malloc(sizeof(*f) + len);
	if (!f)
		return;
	f->len = len;
	memcpy(f->data, data, len);
	list_append(&q->frames, &f->node);
	q->bytes += len + sizeof(*f);
}

static struct frame *queue_first(const struct frame_queue *q)
{
	return list_empty(&q->frames) ? NULL : container_of(q->frames.next, struct frame, node);
}

static void queue_drop_first(struct frame_queue *q)
{
	struct frame *f = queue_first(q);

	list_remove(&f->node);
	q->bytes -= f->len + sizeof(*f);
	free(f);
}

static void queue_clear(struct frame_queue *q)
{
	while (queue_first(q))
		queue_drop_first(q);
}

/* --- the loop thread --- */

/* To be called after anything that ran libslirp. */
static void user_settle(struct user_net *u)
{
	uint32_t ms = user_poll_fill(&u->poll, u->slirp);

	if (ms == UINT32_MAX)
		timer_cancel(&u->timer);
	else
		timer_set(&u->timer, timerq_now(u->timer.q) + MAX(ms, 1u) * NSEC_PER_MSEC);
}

static void user_event(void *opaque, uint32_t events)
{
	struct user_net *u = opaque;

	user_poll_run(&u->poll, u->slirp);
	user_settle(u);
}

static void user_timeout(void *opaque)
{
	user_event(opaque, 0);
}

static void rx_flush(struct user_net *u)
{
	struct frame *f;

	while ((f = queue_first(&u->rx)) && u->net.rx(u->net.rx_opaque, f->data, f->len))
		queue_drop_first(&u->rx);
}

static void user_work(void *opaque)
{
	struct user_net *u = opaque;
	struct frame_queue todo = {0};
	struct frame *f;

	list_init(&todo.frames);
	pthread_mutex_lock(&u->lock);
	while ((f = queue_first(&u->tx))) {
		list_remove(&f->node);
		list_append(&todo.frames, &f->node);
	}
	todo.bytes = u->tx.bytes;
	u->tx.bytes = 0;
	pthread_mutex_unlock(&u->lock);
	rx_flush(u);
	while ((f = queue_first(&todo))) {
		slirp_input(u->slirp, f->data, (int)f->len);
		queue_drop_first(&todo);
	}
	user_settle(u);
}

/* --- what libslirp calls --- */

static ssize_t cb_send_packet(const void *buf, size_t len, void *opaque)
{
	struct user_net *u = opaque;

	if (!u->net.rx)
		return (ssize_t)len;
	if (queue_first(&u->rx) || !u->net.rx(u->net.rx_opaque, buf, len))
		queue_add(&u->rx, buf, len);
	return (ssize_t)len;
}

static void cb_guest_error(const char *msg, void *opaque)
{
	guest_warn("user network: %s", msg);
}

static int64_t cb_clock_get_ns(void *opaque)
{
	return (int64_t)clock_now();
}

static void slirp_timer_fire(void *opaque)
{
	struct user_timer *t = opaque;

	slirp_handle_timer(t->u->slirp, t->id, t->cb_opaque);
	user_settle(t->u);
}

static void *cb_timer_new(SlirpTimerId id, void *cb_opaque, void *opaque)
{
	struct user_timer *t = xnew(struct user_timer);

	t->u = opaque;
	t->id = id;
	t->cb_opaque = cb_opaque;
	timer_init(&t->timer, loop_timers(t->u->loop), slirp_timer_fire, t);
	return t;
}

static void cb_timer_free(void *timer, void *opaque)
{
	struct user_timer *t = timer;

	timer_cancel(&t->timer);
	free(t);
}

static void cb_timer_mod(void *timer, int64_t expire_ms, void *opaque)
{
	struct user_timer *t = timer;

	timer_set(&t->timer, expire_ms < 0 ? 0 : (uint64_t)expire_ms * NSEC_PER_MSEC);
}

static void cb_forget_fd(int fd, void *opaque)
{
	struct user_net *u = opaque;

	user_poll_forget(&u->poll, fd);
}

static void cb_notify(void *opaque)
{
	struct user_net *u = opaque;

	loop_post(u->loop, &u->work);
}

static const SlirpCb callbacks = {
    .send_packet = cb_send_packet,
    .guest_error = cb_guest_error,
    .clock_get_ns = cb_clock_get_ns,
    .timer_new_opaque = cb_timer_new,
    .timer_free = cb_timer_free,
    .timer_mod = cb_timer_mod,
    .register_poll_fd = cb_forget_fd,
    .unregister_poll_fd = cb_forget_fd,
    .notify = cb_notify,
};

/* libslirp's complaints are about what the guest sent. */
static void slirp_log(const gchar *domain, GLogLevelFlags level, const gchar *msg, gpointer opaque)
{
	guest_warn("user network: %s", msg);
}

/* --- the card's side --- */

static void user_send(struct net *n, const void *frame, size_t len)
{
	struct user_net *u = container_of(n, struct user_net, net);

	if (len > NET_FRAME_MAX)
		return;
	pthread_mutex_lock(&u->lock);
	queue_add(&u->tx, frame, len);
	pthread_mutex_unlock(&u->lock);
	loop_post(u->loop, &u->work);
}

static void user_rx_ready(struct net *n)
{
	struct user_net *u = container_of(n, struct user_net, net);

	loop_post(u->loop, &u->work);
}

static void user_close(struct net *n)
{
	struct user_net *u = container_of(n, struct user_net, net);

	u->net.rx = NULL;
	loop_remove(u->loop, &u->watch);
	timer_cancel(&u->timer);
	if (u->slirp)
		slirp_cleanup(u->slirp);
	loop_unpost(u->loop, &u->work);
	user_poll_fini(&u->poll);
	queue_clear(&u->tx);
	queue_clear(&u->rx);
	pthread_mutex_destroy(&u->lock);
	free(u);
}

static const struct net_ops user_ops = {
    .name = "user",
    .send = user_send,
    .rx_ready = user_rx_ready,
    .close = user_close,
};

/* --- opening --- */

static int start_slirp(struct user_net *u, const struct net_user_spec *spec, struct err *e)
{
	SlirpConfig cfg = {
	    .version = 4,
	    .restricted = spec->restrict_host,
	    .in_enabled = true,
	    .in6_enabled = true,
	    .vprefix_len = 64,
	    .vhostname = spec->hostname,
	    .if_mtu = USER_MTU,
	    .if_mru = USER_MTU,
	};

	inet_pton(AF_INET, "10.0.2.0", &cfg.vnetwork);
	inet_pton(AF_INET, "255.255.255.0", &cfg.vnetmask);
	inet_pton(AF_INET, "10.0.2.2", &cfg.vhost);
	inet_pton(AF_INET, "10.0.2.15", &cfg.vdhcp_start);
	inet_pton(AF_INET, "10.0.2.3", &cfg.vnameserver);
	inet_pton(AF_INET6, "fec0::", &cfg.vprefix_addr6);
	inet_pton(AF_INET6, "fec0::2", &cfg.vhost6);
	inet_pton(AF_INET6, "fec0::3", &cfg.vnameserver6);
	g_log_set_handler("Slirp", G_LOG_LEVEL_MASK, slirp_log, NULL);
	u->slirp = slirp_new(&cfg, &callbacks, u);
	return u->slirp ? 0 : err_msg(e, -EINVAL, "user network: libslirp did not start");
}

static int publish_failed(const struct net_publish *p, const char *addr, int code, struct err *e)
{
	const char *proto = p->udp ? "udp" : "tcp", *l = "", *r = "";

	if (strchr(addr, ':'))
		l = "[", r = "]";
	if (code == EADDRINUSE) {
		err_msg(e, -EADDRINUSE, "port %s%s%s:%u/%s is taken by another program", l, addr, r,
			p->host_port, proto);
		return err_exit(e, -EADDRINUSE, EXIT_PORT_TAKEN);
	}
	return err_set(e, -code, "publish port %s%s%s:%u/%s", l, addr, r, p->host_port, proto);
}

static int publish_port(struct user_net *u, const struct net_publish *p, struct err *e)
{
	const char *addr = p->host_addr[0] ? p->host_addr : "127.0.0.1";
	struct sockaddr_in h4 = {.sin_family = AF_INET, .sin_port = htons(p->host_port)};
	struct sockaddr_in g4 = {.sin_family = AF_INET, .sin_port = htons(p->guest_port)};
	struct sockaddr_in6 h6 = {.sin6_family = AF_INET6, .sin6_port = htons(p->host_port)};
	struct sockaddr_in6 g6 = {.sin6_family = AF_INET6, .sin6_port = htons(p->guest_port)};
	int flags = p->udp ? SLIRP_HOSTFWD_UDP : 0, r;

	/* The guest's address is left open: libslirp takes the one DHCP gave, or was seen (IPv6).
	 */
	errno = 0;
	if (inet_pton(AF_INET, addr, &h4.sin_addr) == 1)
		r = slirp_add_hostxfwd(u->slirp, (struct sockaddr *)&h4, sizeof(h4),
				       (struct sockaddr *)&g4, sizeof(g4), flags);
	else if (inet_pton(AF_INET6, addr, &h6.sin6_addr) == 1)
		r = slirp_add_hostxfwd(u->slirp, (struct sockaddr *)&h6, sizeof(h6),
				       (struct sockaddr *)&g6, sizeof(g6),
				       flags | SLIRP_HOSTFWD_V6ONLY);
	else
		return err_msg(e, -EINVAL, "publish: '%s' is not an IP address", addr);
	return r == 0 ? 0 : publish_failed(p, addr, errno ? errno : EINVAL, e);
}

int net_user_open(const struct net_user_spec *spec, struct loop *l, struct net **ret, struct err *e)
{
	struct user_net *u = xnew(struct user_net);
	int r;

	u->net =
	    (struct net){.ops = &user_ops, .mtu = USER_MTU, .big_tcp = true, .good_csum = true};
	u->loop = l;
	list_init(&u->tx.frames);
	list_init(&u->rx.frames);
	pthread_mutex_init(&u->lock, NULL);
	loop_work_init(&u->work, user_work, u);
	timer_init(&u->timer, loop_timers(l), user_timeout, u);
	r = user_poll_init(&u->poll, e);
	if (r == 0)
		r = start_slirp(u, spec, e);
	for (size_t i = 0; r == 0 && i < spec->n_publish; i++)
		r = publish_port(u, &spec->publish[i], e);
	if (r == 0) {
		r = loop_add(l, &u->watch, u->poll.epfd, EPOLLIN, user_event, u);
		if (r < 0)
			err_set(e, r, "user network");
	}
	if (r < 0) {
		user_close(&u->net);
		return r;
	}
	user_settle(u);
	*ret = &u->net;
	return 0;
}
