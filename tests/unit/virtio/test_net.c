/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/virtio/test_net.c - the network card between a fake driver and a fake backend
 */
#include "test.h"
#include "virtio/driver.h"
#include "virtio/net.h"

#define HDR 12

static const uint8_t mac[6] = {0x52, 0x54, 0, 1, 2, 3};

static struct {
	struct net net;
	uint8_t frame[NET_FRAME_MAX];
	size_t len;
	unsigned int sent, ready;
	bool closed;
} back;

static struct loop *loop;
static struct gmem *mem;
static struct virtio_dev *dev;
static struct drv drv;

static void back_send(struct net *n, const void *frame, size_t len)
{
	memcpy(back.frame, frame, len);
	back.len = len;
	back.sent++;
}

static void back_ready(struct net *n)
{
	back.ready++;
}

static void back_close(struct net *n)
{
	back.closed = true;
}

static const struct net_ops back_ops = {
    .name = "fake", .send = back_send, .rx_ready = back_ready, .close = back_close};

static void start(uint64_t features)
{
	drv_start(&drv, features, 256);
	back.sent = back.ready = 0;
}

static bool receive(const void *frame, size_t len)
{
	return back.net.rx(back.net.rx_opaque, frame, len);
}

static uint64_t post_rx(uint32_t len)
{
	struct drv_buf b = {drv_alloc(&drv, len, 16), len};

	CHECK(drv_post(&drv, 0, &b, 0, 1, 0) >= 0);
	drv_kick(&drv, 0);
	return b.gpa;
}

/* Sends @len bytes behind @hdr, in two parts; returns what the backend got. */
static const uint8_t *transmit(const uint8_t *hdr, const void *frame, size_t len)
{
	struct drv_buf b[2] = {{drv_alloc(&drv, HDR, 16), HDR}, {drv_alloc(&drv, len, 16), 0}};
	unsigned int sent = back.sent;
	uint16_t head;
	uint32_t used;

	b[1].len = (uint32_t)len;
	memcpy(gmem_ptr(mem, b[0].gpa, HDR), hdr, HDR);
	memcpy(gmem_ptr(mem, b[1].gpa, len), frame, len);
	CHECK(drv_post(&drv, 1, b, 2, 0, 0) >= 0);
	drv_kick(&drv, 1);
	loop_once(loop, 0);
	CHECK(drv_used(&drv, 1, &head, &used));
	return back.sent > sent ? back.frame : NULL;
}

static void test_config(void)
{
	uint8_t c[12];

	virtio_config_read(dev, 0, c, sizeof(c));
	CHECK(!memcmp(c, mac, 6));
	CHECK_EQ(load_le16(c + 6), 1);
	CHECK_EQ(load_le16(c + 10), 9000);
}

static void test_tx(void)
{
	uint8_t hdr[HDR] = {0}, frame[64] = {0}, udp[12] = {0};
	const uint8_t *got;

	for (unsigned int i = 0; i < sizeof(frame); i++)
		frame[i] = (uint8_t)i;
	got = transmit(hdr, frame, sizeof(frame));
	CHECK(got && back.len == sizeof(frame) && !memcmp(got, frame, sizeof(frame)));
	CHECK(!transmit(hdr, frame, 13)); /* not even an Ethernet header */
	/* A checksum left to us: over [14, 64), stored at 14 + 4. */
	hdr[0] = 1;
	store_le16(hdr + 6, 14);
	store_le16(hdr + 8, 4);
	frame[18] = frame[19] = 0;
	got = transmit(hdr, frame, sizeof(frame));
	CHECK(got);
	{
		uint32_t sum = 0;

		for (unsigned int i = 14; i < 64; i += 2)
			sum += load_le16(got + i);
		while (sum >> 16)
			sum = (sum & 0xffff) + (sum >> 16);
		CHECK_EQ(sum, 0xffff);
	}
	/* A field that would be n+1, and far, beyond the end. */
	store_le16(hdr + 8, 48);
	CHECK(transmit(hdr, frame, sizeof(frame)));
	store_le16(hdr + 8, 49);
	CHECK(!transmit(hdr, frame, sizeof(frame)));
	store_le16(hdr + 6, 0xffff);
	CHECK(!transmit(hdr, frame, sizeof(frame)));
	/* Odd length, and a sum of zero that must not read as "no checksum". */
	store_le16(hdr + 6, 0);
	store_le16(hdr + 8, 0);
	memset(udp, 0, sizeof(udp));
	memset(frame, 0, 15);
	frame[2] = frame[3] = 0xff;
	got = transmit(hdr, frame, 15);
	CHECK(got && got[0] == 0xff && got[1] == 0xff);
	/* Segmentation nobody negotiated. */
	memset(hdr, 0, sizeof(hdr));
	hdr[1] = 1;
	CHECK(!transmit(hdr, frame, sizeof(frame)));
	CHECK(virtio_ready(dev));
}

static void test_rx_merge(void)
{
	static uint8_t frame[5000];
	uint64_t gpa[5];
	uint16_t head;
	uint32_t len;
	size_t at = 0;
	unsigned int n = 0;

	for (size_t i = 0; i < sizeof(frame); i++)
		frame[i] = (uint8_t)(i * 13);
	memset(frame, 0xff, 6);
	CHECK(!receive(frame, sizeof(frame))); /* no buffers at all */
	for (unsigned int i = 0; i < 2; i++)
		gpa[i] = post_rx(1100);
	CHECK(back.ready > 0);
	CHECK(!receive(frame, sizeof(frame))); /* too few: all stay in the ring */
	CHECK(!drv_used(&drv, 0, &head, &len));
	back.ready = 0;
	for (unsigned int i = 2; i < 5; i++)
		gpa[i] = post_rx(1100);
	CHECK_EQ(back.ready, 1);
	CHECK(receive(frame, sizeof(frame)));
	while (drv_used(&drv, 0, &head, &len)) {
		const uint8_t *p = gmem_ptr(mem, gpa[n], len);
		size_t skip = n ? 0 : HDR;

		if (!n)
			CHECK_EQ(load_le16(p + 10), 5);
		CHECK(!memcmp(p + skip, frame + at, len - skip));
		at += len - skip;
		n++;
	}
	CHECK_EQ(n, 5);
	CHECK_EQ(at, sizeof(frame));
	CHECK(drv.irqs > 0);
}

/* Without mergeable buffers a frame that does not fit is dropped, and its buffer stays. */
static void test_rx_plain(void)
{
	static uint8_t frame[2000];
	uint16_t head;
	uint32_t len;

	start(VIRTIO_F_EVENT_IDX);
	post_rx(1526);
	CHECK(receive(frame, 1515));
	CHECK(!drv_used(&drv, 0, &head, &len));
	CHECK(receive(frame, 1514));
	CHECK(drv_used(&drv, 0, &head, &len));
	CHECK_EQ(len, 1526);
	/* Smaller than the header: the driver broke the rules. */
	start(VIRTIO_NET_MRG_RXBUF);
	post_rx(HDR - 1);
	post_rx(2000);
	CHECK(receive(frame, 100));
	CHECK(!virtio_ready(dev));
	CHECK(receive(frame, 100)); /* dropped, not kept */
}

static uint8_t command(const void *data, uint32_t len)
{
	struct drv_buf b[2] = {{drv_alloc(&drv, len, 16), len}, {drv_alloc(&drv, 1, 1), 1}};
	uint16_t head;
	uint32_t used;

	memcpy(gmem_ptr(mem, b[0].gpa, len), data, len);
	CHECK(drv_post(&drv, 2, b, 1, 1, 0) >= 0);
	drv_kick(&drv, 2);
	CHECK(drv_used(&drv, 2, &head, &used));
	CHECK_EQ(used, 1);
	return *(uint8_t *)gmem_ptr(mem, b[1].gpa, 1);
}

static bool passes(const uint8_t *dst)
{
	uint8_t frame[60] = {0};
	uint16_t head;
	uint32_t len;

	memcpy(frame, dst, 6);
	CHECK(receive(frame, sizeof(frame)));
	return drv_used(&drv, 0, &head, &len);
}

static void test_filter(void)
{
	static const uint8_t other[6] = {2, 0, 0, 0, 0, 9}, group[6] = {1, 0, 0x5e, 0, 0, 1},
			     all[6] = {255, 255, 255, 255, 255, 255};
	uint8_t table[2 + 4 + 4 + 6] = {1, 0}, set_mac[8] = {1, 1, 2, 0, 0, 0, 0, 9};
	static uint8_t huge[2 + 4 + 100 * 6 + 4] = {1, 0, 100};

	start(VIRTIO_NET_MRG_RXBUF | VIRTIO_NET_CTRL_VQ | VIRTIO_NET_CTRL_RX);
	for (unsigned int i = 0; i < 40; i++)
		post_rx(100);
	CHECK(passes(other) && passes(group) && passes(all) && passes(mac));
	CHECK_EQ(command("\0\0\0", 3), 0); /* not promiscuous */
	CHECK(!passes(other) && !passes(group) && passes(all) && passes(mac));
	table[6] = 1;
	memcpy(table + 10, group, 6);
	CHECK_EQ(command(table, sizeof(table)), 0);
	CHECK(passes(group) && !passes(other));
	table[6] = 2; /* two addresses announced, one given */
	CHECK_EQ(command(table, sizeof(table)), 1);
	store_le32(table + 2, 0xffffffff);
	CHECK_EQ(command(table, sizeof(table)), 1);
	CHECK(passes(group));
	CHECK_EQ(command(huge, sizeof(huge)), 0); /* more than fit: every unicast, no multicast */
	CHECK(passes(other) && !passes(group));
	CHECK_EQ(command("\0\1\1", 3), 0);
	CHECK(passes(group));
	CHECK_EQ(command("\0\5\1", 3), 0);
	CHECK(!passes(all));
	CHECK_EQ(command(set_mac, sizeof(set_mac)), 0);
	CHECK_EQ(command("\0", 1), 1);
	CHECK_EQ(command("\7\0\0", 3), 1);
	CHECK_EQ(command("\0\6\0", 3), 1);
}

static void test_state(void)
{
	struct strbuf saved = {0};
	struct err e = {0};
	uint8_t c[6];
	size_t used;

	virtio_save(dev, &saved);
	start(0);
	virtio_config_read(dev, 0, c, 6);
	CHECK(!memcmp(c, mac, 6));
	CHECK(virtio_load(dev, saved.data, saved.len, &used, &e) == 0);
	virtio_config_read(dev, 0, c, 6);
	CHECK_EQ(c[5], 9); /* the address the driver had set */
	strbuf_fini(&saved);
}

int main(void)
{
	struct err e = {0};

	CHECK(loop_new(&loop, &e) == 0);
	CHECK(gmem_new(4u << 20, 4u << 20, &mem, &e) == 0);
	back.net = (struct net){.ops = &back_ops, .mtu = 9000};
	dev = virtio_net_new(mem, loop, &back.net, mac);
	CHECK(!(dev->features_offered & VIRTIO_NET_HOST_TSO4)); /* this backend takes none */
	drv_init(&drv, mem, dev, VIRTIO_F_EVENT_IDX | VIRTIO_NET_MRG_RXBUF | VIRTIO_NET_CSUM, 256);
	test_config();
	test_tx();
	test_rx_merge();
	test_rx_plain();
	test_filter();
	test_state();
	dev->ops->free(dev);
	CHECK(back.closed);
	gmem_free(mem);
	loop_free(loop);
	return 0;
}
