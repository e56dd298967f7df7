/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio/net_filter.c - receive filter and control commands of the network card
 * (virtio 1.2, 5.1.6.5)
 */
#include "virtio/net_priv.h"

#define CLASS_RX          0
#define CLASS_MAC         1
#define CMD_MAC_TABLE_SET 0
#define CMD_MAC_ADDR_SET  1
#define TABLE_OVERFLOW    0xff

void net_filter_reset(struct net_filter *f, const uint8_t *mac)
{
	*f = (struct net_filter){.promisc = 1};
	memcpy(f->mac, mac, NET_MAC_LEN);
}

static bool in_table(const uint8_t *table, unsigned int n, const uint8_t *dst)
{
	if (n == TABLE_OVERFLOW)
		return true;
	for (unsigned int i = 0; i < n; i++) {
		if (!memcmp(table + (size_t)i * NET_MAC_LEN, dst, NET_MAC_LEN))
			return true;
	}
	return false;
}

bool net_filter_wants(const struct net_filter *f, const uint8_t *dst)
{
	static const uint8_t broadcast[NET_MAC_LEN] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

	if (f->promisc)
		return true;
	if (!memcmp(dst, broadcast, NET_MAC_LEN))
		return !f->nobcast;
	if (dst[0] & 1)
		return !f->nomulti && (f->allmulti || in_table(f->multi, f->n_multi, dst));
	if (f->nouni)
		return false;
	return f->alluni || !memcmp(dst, f->mac, NET_MAC_LEN) || in_table(f->uni, f->n_uni, dst);
}

static bool rx_mode(struct net_filter *f, uint8_t cmd, const struct vq_chain *c)
{
	uint8_t *const mode[] = {&f->promisc, &f->allmulti, &f->alluni,
				 &f->nomulti, &f->nouni,    &f->nobcast};
	uint8_t on;

	if (cmd >= ARRAY_SIZE(mode) || iov_to_buf(c->out, c->n_out, 2, &on, 1) != 1)
		return false;
	*mode[cmd] = on != 0;
	return true;
}

/* u32 n, then n addresses; returns the length, 0 when it does not fit the command. */
static size_t read_table(const struct vq_chain *c, size_t off, uint8_t *n, uint8_t *table)
{
	uint8_t raw[4];
	uint32_t count;
	size_t len;

	if (iov_to_buf(c->out, c->n_out, off, raw, sizeof(raw)) != sizeof(raw))
		return 0;
	count = load_le32(raw);
	if (count > (c->out_len - off - sizeof(raw)) / NET_MAC_LEN)
		return 0;
	len = (size_t)count * NET_MAC_LEN;
	if (count > NET_TABLE_MAX) {
		*n = TABLE_OVERFLOW;
		return sizeof(raw) + len;
	}
	*n = (uint8_t)count;
	iov_to_buf(c->out, c->n_out, off + sizeof(raw), table, len);
	return sizeof(raw) + len;
}

static bool mac_table(struct net_filter *f, const struct vq_chain *c)
{
	struct net_filter next = *f;
	size_t uni = read_table(c, 2, &next.n_uni, next.uni);

	if (!uni || !read_table(c, 2 + uni, &next.n_multi, next.multi))
		return false;
	*f = next;
	return true;
}

static bool mac_address(struct net_filter *f, const struct vq_chain *c)
{
	uint8_t mac[NET_MAC_LEN];

	if (iov_to_buf(c->out, c->n_out, 2, mac, sizeof(mac)) != sizeof(mac))
		return false;
	memcpy(f->mac, mac, sizeof(mac));
	return true;
}

bool net_filter_command(struct net_filter *f, const struct vq_chain *c)
{
	uint8_t head[2];

	if (iov_to_buf(c->out, c->n_out, 0, head, sizeof(head)) != sizeof(head))
		return false;
	if (head[0] == CLASS_RX)
		return rx_mode(f, head[1], c);
	if (head[0] == CLASS_MAC && head[1] == CMD_MAC_TABLE_SET)
		return mac_table(f, c);
	if (head[0] == CLASS_MAC && head[1] == CMD_MAC_ADDR_SET)
		return mac_address(f, c);
	return false;
}
