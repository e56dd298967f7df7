/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net/net.h - where a network card's frames go
 *
 * A backend carries whole Ethernet frames (no FCS, no virtio header).  net_send and net_rx_ready
 * may be called from any thread and under the card's lock; received frames come in the loop thread,
 * never from inside net_send.
 */
#pragma once

#include "base/err.h"
#include "base/loop.h"

#define NET_FRAME_MAX 65550

struct net;

struct net_ops {
	const char *name;
	/* Takes a copy; drops the frame when its queue is full. */
	void (*send)(struct net *n, const void *frame, size_t len);
	/* The receiver has room again after a rx callback returned false. */
	void (*rx_ready)(struct net *n);
	void (*close)(struct net *n); /* frees @n */
};

struct net {
	const struct net_ops *ops;
	/* Set by the card.  Returns false when it has no buffer: the backend keeps or drops the
	 * frame. */
	bool (*rx)(void *opaque, const void *frame, size_t len);
	void *rx_opaque;
	/* What the backend promises; set by it before the card is made. */
	uint16_t mtu; /* largest IP packet it carries; 0 = 1500 */
	bool big_tcp; /* takes TCP frames larger than the MTU, as one frame, up to NET_FRAME_MAX */
	bool good_csum; /* checksums of received frames are known to be right */
};

static inline void net_send(struct net *n, const void *frame, size_t len)
{
	n->ops->send(n, frame, len);
}

static inline void net_rx_ready(struct net *n)
{
	n->ops->rx_ready(n);
}

static inline void net_close(struct net *n)
{
	if (n)
		n->ops->close(n);
}

/* Bytes a second, and what may go at once (0 = a tenth of that); 0 = no limit. */
struct net_limits {
	uint64_t in, in_burst, out, out_burst;
};

/* @inner with limits between, none yet; owns it. */
struct net *net_rate_new(struct net *inner, struct loop *l);
/* Of one that net_rate_new made, at once; in the loop's thread. */
void net_rate_set(struct net *n, const struct net_limits *l);

struct net_publish {
	bool udp;
	char host_addr[46]; /* IPv4 or IPv6; "" = 127.0.0.1 */
	uint16_t host_port, guest_port;
};

struct net_user_spec {
	const char *hostname; /* given by DHCP; may be NULL */
	const struct net_publish *publish;
	size_t n_publish;
	bool restrict_host; /* no access to the host and the world */
};

/*
 * User-mode network (libslirp): NAT behind 10.0.2.2 with DHCP (guest 10.0.2.15), DNS 10.0.2.3, and
 * IPv6 fec0::/64.  -EADDRINUSE with EXIT_PORT_TAKEN when a published port is taken.
 */
must_check int net_user_open(const struct net_user_spec *spec, struct loop *l, struct net **ret,
			     struct err *e);
