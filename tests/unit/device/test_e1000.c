/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/device/test_e1000.c - a driver's view of the 82540EM: EEPROM by its wires and by EERD,
 * PHY, sending plain, with checksums and in segments, filters, receiving over several buffers, and
 * rings that are full or nowhere
 */
#include "device/e1000.h"

#include "fake.h"

#define BAR    0xfe000000u
#define TX     0x1000u
#define RX     0x2000u
#define DATA   0x10000u
#define BUFFER 0x20000u
#define RING   8u

static struct loop *loop;
static struct gmem *mem;
static struct bus *bus;
static struct pci_bus *pci;
static bool line;
static uint32_t tail;

/* What the card sent. */
static struct {
	uint8_t frame[4][2048];
	size_t len[4];
	unsigned int n, ready;
} sent;

static const uint8_t mac[6] = {0x52, 0x54, 0, 1, 2, 3};

static void take_frame(struct net *n, const void *frame, size_t len)
{
	CHECK(sent.n < 4 && len <= sizeof(sent.frame[0]));
	memcpy(sent.frame[sent.n], frame, len);
	sent.len[sent.n++] = len;
}

static void ready(struct net *n)
{
	sent.ready++;
}

static void no_close(struct net *n)
{
}

static const struct net_ops ops = {"fake", take_frame, ready, no_close};
static struct net net = {.ops = &ops};

static void no_msi(void *opaque, uint64_t addr, uint32_t data)
{
}

static void intx(void *opaque, unsigned int pin, bool level)
{
	line = level;
}

static uint32_t rd(unsigned int off)
{
	return (uint32_t)bus_read(bus, BUS_MMIO, BAR + off, 4);
}

static void wr(unsigned int off, uint32_t v)
{
	bus_write(bus, BUS_MMIO, BAR + off, 4, v);
}

static void put(uint64_t gpa, const void *p, size_t n)
{
	CHECK_EQ(gmem_write(mem, gpa, p, n), 0);
}

static void get(uint64_t gpa, void *p, size_t n)
{
	CHECK_EQ(gmem_read(mem, gpa, p, n), 0);
}

static void start(void)
{
	struct err e = {0};

	memset(&sent, 0, sizeof(sent));
	tail = 0;
	CHECK_EQ(loop_new(&loop, &e), 0);
	CHECK_EQ(gmem_new(1 << 20, UINT64_C(1) << 31, &mem, &e), 0);
	CHECK_EQ(bus_new(&bus), 0);
	CHECK_EQ(
	    pci_bus_new(bus, (struct irq){intx, NULL, 0}, (struct msi_sink){no_msi, NULL}, &pci),
	    0);
	CHECK_EQ(pci_plug(pci, e1000_new(mem, loop, &net, mac), 8, &e), 0);
	pci_config_write(pci, 8, PCI_BAR0, 4, BAR);
	pci_config_write(pci, 8, PCI_BAR0 + 4, 4, 0xc000);
	pci_config_write(pci, 8, PCI_COMMAND, 2, 7);
	wr(0x3800, TX);
	wr(0x3808, RING * 16);
	wr(0x400, 2);
	wr(0x2800, RX);
	wr(0x2808, RING * 16);
	for (uint64_t i = 0; i < RING; i++) {
		uint8_t d[16] = {0};

		store_le64(d, BUFFER + i * 2048);
		put(RX + 16 * i, d, sizeof(d));
	}
	wr(0x2818, RING - 1);
	wr(0x100, 0x8002); /* on, broadcasts too */
	wr(0xd0, 0xff);
}

static void stop(void)
{
	pci_bus_free(pci);
	bus_free(bus);
	gmem_free(mem);
	loop_free(loop);
}

/* --- EEPROM and PHY --- */

static uint16_t wire_read(unsigned int word)
{
	uint32_t in = 6u << 6 | word, out = 0;

	wr(0x10, 0x40);
	CHECK(rd(0x10) & 0x80);
	for (int i = 8; i >= 0; i--) {
		uint32_t di = in >> i & 1 ? 4 : 0;

		wr(0x10, 0x42 | di);
		wr(0x10, 0x43 | di);
		wr(0x10, 0x42 | di);
	}
	for (int i = 0; i < 16; i++) {
		wr(0x10, 0x43);
		out = out << 1 | (rd(0x10) >> 3 & 1);
		wr(0x10, 0x42);
	}
	wr(0x10, 0);
	return (uint16_t)out;
}

static void test_eeprom(void)
{
	uint16_t sum = 0;

	start();
	for (unsigned int i = 0; i < 64; i++) {
		uint16_t w = wire_read(i);

		sum = (uint16_t)(sum + w);
		wr(0x14, i << 8 | 1);
		CHECK_EQ(rd(0x14), (uint32_t)w << 16 | i << 8 | 0x10);
	}
	CHECK_EQ(sum, 0xbaba);
	CHECK_EQ(wire_read(0), 0x5452);
	CHECK_EQ(wire_read(2), 0x0302);
	wr(0x14, 64 << 8 | 1); /* past its end */
	CHECK_EQ(rd(0x14), 64 << 8 | 0x10);
	CHECK_EQ(rd(0x5400), 0x01005452);
	CHECK_EQ(rd(0x5404), 0x80000302);
	/* PHY 1 answers, no other one. */
	wr(0x20, 2 << 26 | 1 << 21 | 2 << 16);
	CHECK_EQ(rd(0x20) & 0x5000ffff, 0x10000141);
	wr(0x20, 2 << 26 | 2 << 21 | 2 << 16);
	CHECK_EQ(rd(0x20) & 0x50000000, 0x50000000);
	/* A reset by the ports. */
	bus_write(bus, BUS_PIO, 0xc000, 4, 0);
	bus_write(bus, BUS_PIO, 0xc004, 4, 1 << 26);
	CHECK_EQ(rd(0x100), 0);
	stop();
}

/* --- sending --- */

static void describe(uint64_t gpa, uint32_t low, uint32_t high)
{
	uint8_t d[16];

	store_le64(d, gpa);
	store_le32(d + 8, low);
	store_le32(d + 12, high);
	put(TX + 16 * tail, d, sizeof(d));
	tail = (tail + 1) % RING;
}

static void ring(void)
{
	wr(0x3818, tail);
	loop_once(loop, 100);
}

static void test_send(void)
{
	uint8_t data[64], d[16];

	start();
	for (unsigned int i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)i;
	put(DATA, data, sizeof(data));
	describe(DATA, 20, 0);
	describe(DATA + 20, 0x09000000 | 40, 0); /* end of packet, report */
	ring();
	CHECK(sent.n == 1 && sent.len[0] == 60 && memcmp(sent.frame[0], data, 60) == 0);
	get(TX + 16, d, sizeof(d));
	CHECK_EQ(d[12], 1);
	get(TX, d, sizeof(d));
	CHECK_EQ(d[12], 0);
	CHECK(line);
	CHECK_EQ(rd(0xc0), 3);
	CHECK(!line && rd(0xc0) == 0);
	/* A checksum of bytes 34 on, at 50. */
	describe(DATA, 0x0d000000 | 50 << 16 | 60, 34 << 8);
	ring();
	CHECK_EQ(sent.n, 2);
	CHECK(memcmp(sent.frame[1] + 50, data + 50, 2) != 0);
	/* Too short; a buffer outside of memory is zeroes; a ring outside of memory. */
	describe(DATA, 0x09000000 | 13, 0);
	ring();
	CHECK_EQ(sent.n, 2);
	describe(UINT64_C(1) << 60, 0x09000000 | 60, 0);
	ring();
	CHECK(sent.n == 3 && sent.frame[2][0] == 0);
	wr(0x3804, 0x1000);
	describe(DATA, 0x09000000 | 60, 0);
	ring();
	CHECK_EQ(sent.n, 3);
	CHECK_EQ(rd(0x3810), tail);
	stop();
}

static uint32_t sum_of(const uint8_t *p, size_t n, uint32_t sum)
{
	for (size_t i = 0; i < n; i++)
		sum += i & 1 ? p[i] : (uint32_t)p[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* 2500 bytes over TCP in pieces of 1000: what each segment must say. */
static void test_segments(void)
{
	static uint8_t data[54 + 2500];
	uint8_t context[16] = {14, 24, 33, 0, 34, 50, 0, 0};
	uint8_t pseudo[4] = {0, 6};

	start();
	for (unsigned int i = 54; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 3);
	data[12] = 8;
	data[14] = 0x45;
	data[18] = 0x12; /* identification 1234h */
	data[19] = 0x34;
	data[23] = 6;
	memcpy(data + 26, "\x0a\0\2\x0f\x0a\0\2\2", 8);
	memcpy(data + 38, "\xff\xff\xff\x00", 4); /* sequence */
	data[46] = 0x50;
	data[47] = 0x19; /* ACK, PSH, FIN */
	/* The driver's part of the checksum: addresses and protocol. */
	store_le16(data + 50,
		   __builtin_bswap16((uint16_t)sum_of(data + 26, 8, sum_of(pseudo, 2, 0))));
	put(DATA, data, sizeof(data));
	store_le32(context + 8, 0x27000000 | 2500); /* DEXT, TSE, IPv4, TCP */
	context[13] = 54;
	store_le16(context + 14, 1000);
	put(TX, context, sizeof(context));
	tail = 1;
	describe(DATA, 0x24100000 | 54, 0x300);
	describe(DATA + 54, 0x2d100000 | 2500, 0x300);
	ring();
	CHECK_EQ(sent.n, 3);
	for (unsigned int i = 0; i < 3; i++) {
		const uint8_t *f = sent.frame[i];
		uint32_t payload = i < 2 ? 1000 : 500, seq = 0xffffff00 + 1000 * i;
		uint8_t tcp_len[2] = {(uint8_t)((20 + payload) >> 8), (uint8_t)(20 + payload)};

		CHECK_EQ(sent.len[i], 54 + payload);
		CHECK(memcmp(f + 54, data + 54 + 1000 * i, payload) == 0);
		CHECK_EQ((uint32_t)f[16] << 8 | f[17], 40 + payload);
		CHECK_EQ((uint32_t)f[18] << 8 | f[19], 0x1234 + i);
		CHECK_EQ(sum_of(f + 14, 20, 0), 0xffff);
		CHECK_EQ(__builtin_bswap32(load_le32(f + 38)), seq);
		CHECK_EQ(f[47], i < 2 ? 0x10 : 0x19);
		CHECK_EQ(sum_of(f + 34, 20 + payload,
				sum_of(f + 26, 8, sum_of(pseudo, 2, sum_of(tcp_len, 2, 0)))),
			 0xffff);
	}
	/* Without a segment size nothing goes out. */
	store_le16(context + 14, 0);
	put(TX + 16 * tail, context, sizeof(context));
	tail = (tail + 1) % RING;
	describe(DATA, 0x2d100000 | 1000, 0x300);
	ring();
	CHECK_EQ(sent.n, 3);
	stop();
}

/* --- receiving --- */

static bool receive(const char *to, size_t len)
{
	uint8_t frame[4096] = {0};

	memcpy(frame, to, 6);
	for (size_t i = 14; i < len; i++)
		frame[i] = (uint8_t)i;
	return net.rx(net.rx_opaque, frame, len);
}

#define OURS "\x52\x54\0\1\2\3"

static void test_filters(void)
{
	start();
	CHECK(receive(OURS, 60));
	CHECK_EQ(rd(0x2810), 1);
	CHECK(receive("\x52\x54\0\1\2\4", 60) && receive("\1\0\x5e\0\0\1", 60));
	CHECK(receive(OURS, 13) && receive(OURS, 1519));
	CHECK_EQ(rd(0x2810), 1);
	CHECK(receive("\xff\xff\xff\xff\xff\xff", 60));
	CHECK_EQ(rd(0x2810), 2);
	wr(0x5200, 1 << 16); /* bytes 00 01: 0100h >> 4 is bit 10h */
	CHECK(receive("\1\0\x5e\0\0\1", 60));
	CHECK_EQ(rd(0x2810), 3);
	wr(0x100, 0x1a); /* promiscuous, both ways; no broadcasts */
	CHECK(receive("\x52\x54\0\1\2\4", 60) && receive("\1\0\x5e\0\0\2", 60));
	CHECK(receive("\xff\xff\xff\xff\xff\xff", 60));
	CHECK_EQ(rd(0x2810), 5);
	wr(0x100, 0); /* off: all are lost */
	CHECK(receive(OURS, 60));
	CHECK_EQ(rd(0x2810), 5);
	stop();
}

static void test_receive(void)
{
	uint8_t d[16], byte;

	start();
	CHECK(receive(OURS, 42)); /* padded, with its checksum */
	get(RX, d, sizeof(d));
	CHECK(load_le16(d + 8) == 64 && (d[12] & 3) == 3);
	CHECK(line && (rd(0xc0) & 0x80));
	/* 3000 bytes in buffers of 2048. */
	wr(0x100, 0x04008022);
	CHECK(receive(OURS, 3000));
	get(RX + 16, d, sizeof(d));
	CHECK(load_le16(d + 8) == 2048 && (d[12] & 3) == 1);
	get(RX + 32, d, sizeof(d));
	CHECK(load_le16(d + 8) == 952 && (d[12] & 3) == 3);
	get(BUFFER + 2 * 2048 + 951, &byte, 1);
	CHECK_EQ(byte, (uint8_t)2999);
	/* Four are left: two more, then the backend keeps what comes until there is room. */
	CHECK(receive(OURS, 3000) && receive(OURS, 3000));
	CHECK(!receive(OURS, 60));
	CHECK(rd(0xc0) & 0x40);
	CHECK_EQ(sent.ready, 0);
	wr(0x2818, 4);
	CHECK_EQ(sent.ready, 1);
	CHECK(receive(OURS, 60));
	/* Tails and heads past the end, a ring of none, one outside of memory. */
	wr(0x2818, RING);
	CHECK(!receive(OURS, 60));
	wr(0x2808, 0);
	CHECK(!receive(OURS, 60));
	wr(0x2808, RING * 16);
	wr(0x2804, 0x1000);
	wr(0x2810, 0);
	wr(0x2818, 2);
	CHECK(receive(OURS, 60));
	stop();
}

int main(void)
{
	test_eeprom();
	test_send();
	test_segments();
	test_filters();
	test_receive();
	return 0;
}
