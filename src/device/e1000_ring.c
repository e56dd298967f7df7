/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/e1000_ring.c - the 82540EM's descriptor rings: sending with checksums and segmentation,
 * filtering and receiving (Intel 317453, 3.2 to 3.5)
 *
 * Frames are sent in the loop's thread, at most TX_BATCH descriptors at a time.
 */
#include "device/e1000_priv.h"

#include "base/log.h"

#define DESCRIPTOR 16u
#define TX_BATCH   256u
#define ETH_HEADER 14u
#define ETH_MIN    60u
#define ETH_MAX    1518u /* with a VLAN tag, without the checksum behind it */
#define FCS        4u

/* Transmit descriptors (3.3.3, 3.3.6, 3.3.7): the command byte, and what the others share with it
 */
enum { TX_EOP = 0x01, TX_IC = 0x04, TX_TSE = 0x04, TX_RS = 0x08, TX_DEXT = 0x20 };
enum { TX_IXSM = 0x01, TX_TXSM = 0x02 };
enum { TU_TCP = 0x01, TU_IP4 = 0x02 };
enum { STATUS_DD = 0x01, STATUS_EOP = 0x02, STATUS_IXSM = 0x04 };

#define RCTL_UPE   BIT(3)
#define RCTL_MPE   BIT(4)
#define RCTL_LPE   BIT(5)
#define RCTL_BAM   BIT(15)
#define RCTL_BSEX  BIT(25)
#define RCTL_SECRC BIT(26)
#define RAH_AV     BIT(31)

static uint32_t ring_size(const struct e1000_ring *r)
{
	return r->len / DESCRIPTOR;
}

/* Descriptors that are ours: from head up to tail. */
static uint32_t ring_ready(const struct e1000_ring *r)
{
	uint32_t n = ring_size(r);

	return r->head < n && r->tail < n ? (r->tail + n - r->head) % n : 0;
}

static uint64_t ring_gpa(const struct e1000_ring *r)
{
	return r->base + (uint64_t)r->head * DESCRIPTOR;
}

static void ring_next(struct e1000_ring *r)
{
	r->head = (r->head + 1) % ring_size(r);
}

/* --- checksums and segmentation --- */

static void put_be16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static void put_be32(uint8_t *p, uint32_t v)
{
	put_be16(p, v >> 16);
	put_be16(p + 2, v);
}

static uint32_t get_be16(const uint8_t *p)
{
	return (uint32_t)p[0] << 8 | p[1];
}

/* The sum from @start to @end (inclusive; 0 = to the frame's end) goes to @at. */
static void fill_sum(uint8_t *frame, uint32_t len, uint32_t start, uint32_t at, uint32_t end)
{
	uint32_t sum = 0;

	if (!end || end >= len)
		end = len - 1;
	if (start > end || at + 2 > len)
		return;
	for (uint32_t i = start; i <= end; i += 2)
		sum += i < end ? get_be16(frame + i) : (uint32_t)frame[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	put_be16(frame + at, ~sum & 0xffff);
}

static void fill_sums(struct e1000 *d, uint8_t *frame, uint32_t len)
{
	const struct e1000_context *c = &d->context;

	if (d->tx_ip_csum)
		fill_sum(frame, len, c->ipcss, c->ipcso, c->ipcse);
	if (d->tx_csum)
		fill_sum(frame, len, c->tucss, c->tucso, c->tucse);
}

static void send_frame(struct e1000 *d, uint8_t *frame, uint32_t len)
{
	fill_sums(d, frame, len);
	net_send(d->net, frame, len);
}

/* The sum that the driver left in the TCP header has no length in it (3.5.7). */
static void add_length(uint8_t *at, uint32_t len)
{
	uint32_t sum = get_be16(at) + len;

	put_be16(at, (sum & 0xffff) + (sum >> 16));
}

/* Headers of one segment: lengths, identification, sequence number, flags of the last one only. */
static void segment_headers(const struct e1000_context *c, uint8_t *h, uint32_t payload,
			    uint32_t offset, uint32_t number, bool last)
{
	uint8_t *ip = h + c->ipcss, *tcp = h + c->tucss;
	uint32_t seq = get_be16(tcp + 4) << 16 | get_be16(tcp + 6);

	if (c->ip4) {
		put_be16(ip + 2, c->hdrlen - c->ipcss + payload);
		put_be16(ip + 4, get_be16(ip + 4) + number);
	} else {
		put_be16(ip + 4, c->hdrlen - c->ipcss - 40u + payload);
	}
	if (c->tcp) {
		put_be32(tcp + 4, seq + offset);
		if (!last)
			tcp[13] &= (uint8_t)~0x09; /* FIN, PSH */
	} else {
		put_be16(tcp + 4, c->hdrlen - c->tucss + payload);
	}
	add_length(h + c->tucso, c->hdrlen - c->tucss + payload);
}

static bool can_segment(const struct e1000 *d)
{
	const struct e1000_context *c = &d->context;

	return c->mss && d->tx_len > c->hdrlen && c->hdrlen + c->mss <= E1000_FRAME_MAX &&
	       c->ipcss >= ETH_HEADER && c->ipcss + 20u <= c->tucss &&
	       c->tucss + (c->tcp ? 20u : 8u) <= c->hdrlen && c->tucso >= c->tucss &&
	       c->tucso + 2u <= c->hdrlen && (c->ip4 || c->hdrlen - c->ipcss >= 40);
}

static void send_segments(struct e1000 *d)
{
	const struct e1000_context *c = &d->context;
	uint8_t out[E1000_FRAME_MAX];
	uint32_t total = d->tx_len - c->hdrlen, number = 0;

	for (uint32_t at = 0; at < total; at += c->mss, number++) {
		uint32_t n = MIN(total - at, (uint32_t)c->mss);

		memcpy(out, d->tx_frame, c->hdrlen);
		memcpy(out + c->hdrlen, d->tx_frame + c->hdrlen + at, n);
		segment_headers(c, out, n, at, number, at + n == total);
		send_frame(d, out, c->hdrlen + n);
	}
}

static void end_frame(struct e1000 *d)
{
	if (d->tx_segment && can_segment(d))
		send_segments(d);
	else if (!d->tx_segment && d->tx_len >= ETH_HEADER && d->tx_len <= E1000_FRAME_MAX)
		send_frame(d, d->tx_frame, d->tx_len);
	else
		guest_warn("e1000: frame of %u bytes dropped", d->tx_len);
	d->tx_len = 0;
	d->tx_segment = d->tx_ip_csum = d->tx_csum = false;
}

/* --- transmit descriptors --- */

static void take_context(struct e1000 *d, const uint8_t desc[DESCRIPTOR])
{
	d->context = (struct e1000_context){
	    .ipcss = desc[0],
	    .ipcso = desc[1],
	    .ipcse = load_le16(desc + 2),
	    .tucss = desc[4],
	    .tucso = desc[5],
	    .tucse = load_le16(desc + 6),
	    .paylen = load_le32(desc + 8) & 0xfffff,
	    .tcp = desc[11] & TU_TCP,
	    .ip4 = desc[11] & TU_IP4,
	    .hdrlen = desc[13],
	    .mss = load_le16(desc + 14),
	};
}

static void add_data(struct e1000 *d, uint64_t gpa, uint32_t len)
{
	if (len > E1000_SEGMENTED - d->tx_len) /* too long for any frame: end_frame drops it */
		len = E1000_SEGMENTED - d->tx_len;
	if (gmem_read(d->mem, gpa, d->tx_frame + d->tx_len, len) < 0)
		memset(d->tx_frame + d->tx_len, 0, len);
	d->tx_len += len;
}

static void take_descriptor(struct e1000 *d, const uint8_t desc[DESCRIPTOR])
{
	uint8_t command = desc[11];
	bool first = d->tx_len == 0;

	if ((command & TX_DEXT) && (desc[10] >> 4) == 0) {
		take_context(d, desc);
		return;
	}
	if (command & TX_DEXT) {
		if (first) { /* 3.3.7.3: options are those of the first one */
			d->tx_segment = command & TX_TSE;
			d->tx_ip_csum = desc[13] & TX_IXSM;
			d->tx_csum = desc[13] & TX_TXSM;
		}
		add_data(d, load_le64(desc), load_le32(desc + 8) & 0xfffff);
	} else {
		add_data(d, load_le64(desc), load_le16(desc + 8));
		if ((command & TX_IC) && (command & TX_EOP) && d->tx_len)
			fill_sum(d->tx_frame, d->tx_len, desc[13], desc[10], 0);
	}
	if (command & TX_EOP)
		end_frame(d);
}

void e1000_tx_reset(struct e1000 *d)
{
	d->tx_len = 0;
	d->tx_segment = d->tx_ip_csum = d->tx_csum = false;
	d->context = (struct e1000_context){0};
}

void e1000_tx_work(void *opaque)
{
	struct e1000 *d = opaque;
	uint8_t desc[DESCRIPTOR];
	uint32_t causes = 0;
	unsigned int n = 0;

	pthread_mutex_lock(&d->pci.lock);
	while ((d->tctl & TCTL_EN) && pci_dma_enabled(&d->pci) && ring_ready(&d->tx) &&
	       n++ < TX_BATCH) {
		uint64_t gpa = ring_gpa(&d->tx);

		if (gmem_read(d->mem, gpa, desc, sizeof(desc)) < 0) {
			guest_warn("e1000: a descriptor to send is not in memory");
			d->tx.head = d->tx.tail;
			break;
		}
		take_descriptor(d, desc);
		if (desc[11] & TX_RS) {
			desc[12] |= STATUS_DD;
			(void)!gmem_write(d->mem, gpa + 12, desc + 12, 1);
			causes |= ICR_TXDW;
		}
		ring_next(&d->tx);
	}
	if (n && !ring_ready(&d->tx))
		causes |= ICR_TXQE;
	if (n > TX_BATCH)
		loop_post(d->loop, &d->tx_work);
	e1000_irq(d, causes);
	pthread_mutex_unlock(&d->pci.lock);
}

/* --- receiving --- */

/* Bits of the address choose one of 4096 (13.4.22, MO). */
static bool multicast_wanted(const struct e1000 *d, const uint8_t *to)
{
	static const uint8_t shifts[4] = {4, 3, 2, 0};
	uint32_t hash = load_le16(to + 4) >> shifts[d->rctl >> 12 & 3] & 0xfff;

	return d->mta[hash / 32] >> (hash % 32) & 1;
}

static bool is_for_us(const struct e1000 *d, const uint8_t *to)
{
	static const uint8_t broadcast[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

	for (unsigned int i = 0; i < ARRAY_SIZE(d->ra); i += 2)
		if ((d->ra[i + 1] & RAH_AV) && load_le32(to) == d->ra[i] &&
		    load_le16(to + 4) == (d->ra[i + 1] & 0xffff))
			return true;
	if (memcmp(to, broadcast, 6) == 0)
		return d->rctl & RCTL_BAM;
	if (to[0] & 1)
		return (d->rctl & RCTL_MPE) || multicast_wanted(d, to);
	return d->rctl & RCTL_UPE;
}

static uint32_t buffer_size(const struct e1000 *d)
{
	uint32_t size = 2048u >> (d->rctl >> 16 & 3);

	return (d->rctl & RCTL_BSEX) && size < 2048 ? size * 16 : size;
}

/* Ethernet's checksum (IEEE 802.3, 3.2.9), which drivers cut off again. */
static uint32_t frame_check(const uint8_t *p, size_t len)
{
	uint32_t crc = UINT32_MAX;

	for (size_t i = 0; i < len; i++) {
		crc ^= p[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
	}
	return ~crc;
}

static void put_frame(struct e1000 *d, const uint8_t *frame, uint32_t len, uint32_t size)
{
	for (uint32_t at = 0; at < len; at += size) {
		uint32_t n = MIN(size, len - at);
		uint64_t gpa = ring_gpa(&d->rx);
		uint8_t desc[DESCRIPTOR], buffer[8];

		memset(desc, 0, sizeof(desc));
		store_le16(desc + 8, (uint16_t)n);
		desc[12] = (uint8_t)(STATUS_DD | STATUS_IXSM | (at + n == len ? STATUS_EOP : 0));
		/* A buffer or ring outside of memory loses the frame, as its owner asked for. */
		if (gmem_read(d->mem, gpa, buffer, sizeof(buffer)) < 0 ||
		    gmem_write(d->mem, load_le64(buffer), frame + at, n) < 0)
			guest_warn("e1000: a buffer to receive into is not in memory");
		(void)!gmem_write(d->mem, gpa + 8, desc + 8, 8);
		ring_next(&d->rx);
	}
}

static bool receive(struct e1000 *d, const uint8_t *frame, size_t len)
{
	uint8_t whole[E1000_FRAME_MAX + ETH_MIN + FCS];
	uint32_t size = buffer_size(d), n = (uint32_t)MAX(len, (size_t)ETH_MIN);

	if (!(d->rctl & RCTL_EN) || !pci_dma_enabled(&d->pci) || len < ETH_HEADER ||
	    len > (d->rctl & RCTL_LPE ? E1000_FRAME_MAX : ETH_MAX) || !is_for_us(d, frame))
		return true;
	memset(whole, 0, ETH_MIN);
	memcpy(whole, frame, len);
	if (!(d->rctl & RCTL_SECRC)) {
		store_le32(whole + n, frame_check(whole, n));
		n += FCS;
	}
	if (ring_ready(&d->rx) < (n + size - 1) / size) {
		d->rx_blocked = true;
		e1000_irq(d, ICR_RXO);
		return false;
	}
	put_frame(d, whole, n, size);
	/* RDMTS: a half, a quarter or an eighth of the ring is left. */
	e1000_irq(d, ICR_RXT0 | (ring_ready(&d->rx) <= ring_size(&d->rx) >> (1 + (d->rctl >> 8 & 3))
				     ? ICR_RXDMT0
				     : 0));
	return true;
}

bool e1000_receive(void *opaque, const void *frame, size_t len)
{
	struct e1000 *d = opaque;
	bool taken;

	pthread_mutex_lock(&d->pci.lock);
	taken = receive(d, frame, len);
	pthread_mutex_unlock(&d->pci.lock);
	return taken;
}
