/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio/net_priv.h - the receive filter, between the card and its control queue
 */
#pragma once

#include "virtio/virtio.h"

#define NET_MAC_LEN   6
#define NET_TABLE_MAX 64

/* Which frames the driver wants (5.1.6.5.1, 5.1.6.5.2).  Plain fields, for the state table. */
struct net_filter {
	uint8_t mac[NET_MAC_LEN];
	uint8_t promisc, allmulti, alluni, nomulti, nouni, nobcast;
	uint8_t n_uni, n_multi; /* in the tables; 0xff = the driver gave more than fit: take all */
	uint8_t uni[NET_TABLE_MAX * NET_MAC_LEN], multi[NET_TABLE_MAX * NET_MAC_LEN];
};

/* As after reset: everything passes until the driver says otherwise. */
void net_filter_reset(struct net_filter *f, const uint8_t *mac);
/* @dst is the frame's first six bytes. */
bool net_filter_wants(const struct net_filter *f, const uint8_t *dst);
/* One command of the control queue; false = refused. */
bool net_filter_command(struct net_filter *f, const struct vq_chain *c);
