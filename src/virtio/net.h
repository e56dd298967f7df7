/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio/net.h - virtio network card (virtio 1.2, 5.1)
 */
#pragma once

#include "net/net.h"
#include "virtio/virtio.h"

#define VIRTIO_NET_CSUM          BIT(0)
#define VIRTIO_NET_GUEST_CSUM    BIT(1)
#define VIRTIO_NET_MTU           BIT(3)
#define VIRTIO_NET_MAC           BIT(5)
#define VIRTIO_NET_HOST_TSO4     BIT(11)
#define VIRTIO_NET_HOST_TSO6     BIT(12)
#define VIRTIO_NET_MRG_RXBUF     BIT(15)
#define VIRTIO_NET_STATUS        BIT(16)
#define VIRTIO_NET_CTRL_VQ       BIT(17)
#define VIRTIO_NET_CTRL_RX       BIT(18)
#define VIRTIO_NET_CTRL_RX_EXTRA BIT(20)
#define VIRTIO_NET_CTRL_MAC_ADDR BIT(23)

/* The card owns @n from here on.  Queues: 0 receive, 1 transmit, 2 control. */
struct virtio_dev *virtio_net_new(struct gmem *mem, struct loop *l, struct net *n,
				  const uint8_t mac[6]);
