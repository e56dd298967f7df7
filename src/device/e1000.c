/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/e1000.c - the 82540EM: registers, interrupts, life (Intel 317453, 13)
 */
#include "device/e1000_priv.h"

#include "base/log.h"

#include <errno.h>

#define BAR_SIZE    0x20000u
#define IO_BAR_SIZE 64u

enum {
	CTRL = 0x0000,
	STATUS = 0x0008,
	EECD = 0x0010,
	EERD = 0x0014,
	MDIC = 0x0020,
	ICR = 0x00c0,
	ITR = 0x00c4,
	ICS = 0x00c8,
	IMS = 0x00d0,
	IMC = 0x00d8,
	RCTL = 0x0100,
	TCTL = 0x0400,
	PBA = 0x1000,
	RX = 0x2800, /* RDBAL, RDBAH, RDLEN, RDH, RDT */
	RDTR = 0x2820,
	RADV = 0x282c,
	TX = 0x3800,
	TIDV = 0x3820,
	TADV = 0x382c,
	RXCSUM = 0x5000,
	MTA = 0x5200,
	RA = 0x5400,
	VFTA = 0x5600,
};
enum { BAL = 0x00, BAH = 0x04, LEN = 0x08, HEAD = 0x10, TAIL = 0x18 };

#define RING_LENGTH  0xfff80u /* bytes of a ring: 128 each */
#define CTRL_RST     BIT(26)
#define CTRL_PHY_RST BIT(31)
#define STATUS_VALUE 0x83u       /* full duplex, link up, 1000 Mbit/s */
#define RAH_AV       0x80000000u /* the address is valid */

static struct e1000 *from_pci(struct pci_dev *d)
{
	return container_of(d, struct e1000, pci);
}

void e1000_irq(struct e1000 *d, uint32_t causes)
{
	d->icr |= causes;
	pci_set_intx(&d->pci, d->icr & d->ims);
}

/* --- registers --- */

static uint32_t ring_read(const struct e1000_ring *r, unsigned int off)
{
	switch (off) {
	case BAL:
		return (uint32_t)r->base;
	case BAH:
		return (uint32_t)(r->base >> 32);
	case LEN:
		return r->len;
	case HEAD:
		return r->head;
	case TAIL:
		return r->tail;
	}
	return 0;
}

static void ring_write(struct e1000_ring *r, unsigned int off, uint32_t v)
{
	switch (off) {
	case BAL:
		r->base = (r->base & ~UINT64_C(0xffffffff)) | (v & ~15u);
		break;
	case BAH:
		r->base = (r->base & 0xffffffff) | (uint64_t)v << 32;
		break;
	case LEN:
		r->len = v & RING_LENGTH;
		break;
	case HEAD:
		r->head = v & 0xffff;
		break;
	case TAIL:
		r->tail = v & 0xffff;
		break;
	}
}

static uint32_t *plain_register(struct e1000 *d, unsigned int off)
{
	if (off >= MTA && off < MTA + sizeof(d->mta))
		return &d->mta[(off - MTA) / 4];
	if (off >= RA && off < RA + sizeof(d->ra))
		return &d->ra[(off - RA) / 4];
	if (off >= VFTA && off < VFTA + sizeof(d->vfta))
		return &d->vfta[(off - VFTA) / 4];
	switch (off) {
	case ITR:
		return &d->itr;
	case RCTL:
		return &d->rctl;
	case TCTL:
		return &d->tctl;
	case PBA:
		return &d->pba;
	case RXCSUM:
		return &d->rxcsum;
	case RDTR:
		return &d->timers[0];
	case RADV:
		return &d->timers[1];
	case TIDV:
		return &d->timers[2];
	case TADV:
		return &d->timers[3];
	}
	return NULL;
}

static uint32_t read_icr(struct e1000 *d)
{
	uint32_t v = d->icr;

	d->icr = 0;
	e1000_irq(d, 0);
	return v;
}

static uint32_t reg_read(struct e1000 *d, unsigned int off)
{
	const uint32_t *plain = plain_register(d, off);

	if (plain)
		return *plain;
	if (off >= RX && off <= RX + TAIL)
		return ring_read(&d->rx, off - RX);
	if (off >= TX && off <= TX + TAIL)
		return ring_read(&d->tx, off - TX);
	switch (off) {
	case CTRL:
		return d->ctrl;
	case STATUS:
		return STATUS_VALUE;
	case EECD:
		return d->eecd;
	case EERD:
		return d->eerd;
	case MDIC:
		return d->mdic;
	case ICR:
		return read_icr(d);
	case IMS:
		return d->ims;
	}
	return 0; /* statistics, too: nothing is counted */
}

static void controller_reset(struct e1000 *d)
{
	memset(d->mta, 0, sizeof(d->mta));
	memset(d->vfta, 0, sizeof(d->vfta));
	memset(d->ra, 0, sizeof(d->ra));
	memset(d->timers, 0, sizeof(d->timers));
	d->ra[0] = load_le32(d->mac);
	d->ra[1] = load_le16(d->mac + 4) | RAH_AV;
	d->ctrl = 0x00000241; /* full duplex, link, 1000 Mbit/s */
	d->icr = d->ims = d->rctl = d->tctl = d->rxcsum = d->itr = d->io_address = 0;
	d->pba = 0x00100030;
	d->rx = d->tx = (struct e1000_ring){0};
	d->rx_blocked = false;
	e1000_wire_reset(d);
	e1000_tx_reset(d);
	e1000_irq(d, 0);
}

static void receive_again(struct e1000 *d)
{
	if (!d->rx_blocked)
		return;
	d->rx_blocked = false;
	net_rx_ready(d->net);
}

static void write_ctrl(struct e1000 *d, uint32_t v)
{
	if (v & CTRL_RST) {
		controller_reset(d);
		return;
	}
	if (v & CTRL_PHY_RST)
		e1000_wire_reset(d);
	d->ctrl = v & ~(uint32_t)CTRL_PHY_RST;
}

static void reg_write(struct e1000 *d, unsigned int off, uint32_t v)
{
	uint32_t *plain = plain_register(d, off);

	if (plain) {
		*plain = v;
	} else if (off >= RX && off <= RX + TAIL) {
		ring_write(&d->rx, off - RX, v);
	} else if (off >= TX && off <= TX + TAIL) {
		ring_write(&d->tx, off - TX, v);
	}
	switch (off) {
	case CTRL:
		write_ctrl(d, v);
		break;
	case EECD:
		e1000_write_eecd(d, v);
		break;
	case EERD:
		e1000_write_eerd(d, v);
		break;
	case MDIC:
		e1000_write_mdic(d, v);
		break;
	case ICR:
		d->icr &= ~v;
		e1000_irq(d, 0);
		break;
	case ICS:
		e1000_irq(d, v);
		break;
	case IMS:
		d->ims |= v;
		e1000_irq(d, 0);
		break;
	case IMC:
		d->ims &= ~v;
		e1000_irq(d, 0);
		break;
	case RCTL:
	case RX + TAIL:
		receive_again(d);
		break;
	case TCTL:
	case TX + TAIL:
		loop_post(d->loop, &d->tx_work);
		break;
	}
}

static uint64_t bar_read(void *opaque, uint64_t off, unsigned int size)
{
	return reg_read(opaque, (unsigned int)off);
}

static void bar_write(void *opaque, uint64_t off, unsigned int size, uint64_t value)
{
	reg_write(opaque, (unsigned int)off, (uint32_t)value);
}

static const struct bus_ops bar_ops = {.read = bar_read, .write = bar_write, .min = 4, .max = 4};

/* IOADDR and IODATA: the registers through two ports (13.2.2). */
static uint64_t io_read(void *opaque, uint64_t off, unsigned int size)
{
	struct e1000 *d = opaque;

	return off == 4 ? reg_read(d, d->io_address & (BAR_SIZE - 4)) : off ? 0 : d->io_address;
}

static void io_write(void *opaque, uint64_t off, unsigned int size, uint64_t value)
{
	struct e1000 *d = opaque;

	if (off == 0)
		d->io_address = (uint32_t)value;
	else if (off == 4)
		reg_write(d, d->io_address & (BAR_SIZE - 4), (uint32_t)value);
}

static const struct bus_ops io_ops = {.read = io_read, .write = io_write, .min = 4, .max = 4};

/* --- life --- */

static void e1000_reset(struct pci_dev *pci)
{
	controller_reset(from_pci(pci));
}

static void e1000_free(struct pci_dev *pci)
{
	struct e1000 *d = from_pci(pci);

	net_close(d->net);
	loop_unpost(d->loop, &d->tx_work);
	pci_dev_fini(pci);
	free(d);
}

/* --- saved state --- */

#define RING_FIELDS(ring)                                                                          \
	STATE_FIELD(struct e1000, ring.base, 1), STATE_FIELD(struct e1000, ring.len, 1),           \
	    STATE_FIELD(struct e1000, ring.head, 1), STATE_FIELD(struct e1000, ring.tail, 1)

static const struct state_field e1000_fields[] = {
    STATE_FIELD(struct e1000, ctrl, 1),
    STATE_FIELD(struct e1000, eecd, 1),
    STATE_FIELD(struct e1000, eerd, 1),
    STATE_FIELD(struct e1000, mdic, 1),
    STATE_FIELD(struct e1000, icr, 1),
    STATE_FIELD(struct e1000, ims, 1),
    STATE_FIELD(struct e1000, rctl, 1),
    STATE_FIELD(struct e1000, tctl, 1),
    STATE_FIELD(struct e1000, rxcsum, 1),
    STATE_FIELD(struct e1000, itr, 1),
    STATE_FIELD(struct e1000, pba, 1),
    STATE_FIELD(struct e1000, io_address, 1),
    STATE_ARRAY(struct e1000, timers, 1),
    STATE_ARRAY(struct e1000, mta, 1),
    STATE_ARRAY(struct e1000, vfta, 1),
    STATE_ARRAY(struct e1000, ra, 1),
    STATE_ARRAY(struct e1000, phy, 1),
    STATE_FIELD(struct e1000, wire_in, 1),
    STATE_FIELD(struct e1000, wire_out, 1),
    STATE_FIELD(struct e1000, wire_bits, 1),
    RING_FIELDS(rx),
    RING_FIELDS(tx),
    STATE_FIELD(struct e1000, context.ipcss, 1),
    STATE_FIELD(struct e1000, context.ipcso, 1),
    STATE_FIELD(struct e1000, context.tucss, 1),
    STATE_FIELD(struct e1000, context.tucso, 1),
    STATE_FIELD(struct e1000, context.hdrlen, 1),
    STATE_FIELD(struct e1000, context.ipcse, 1),
    STATE_FIELD(struct e1000, context.tucse, 1),
    STATE_FIELD(struct e1000, context.mss, 1),
    STATE_FIELD(struct e1000, context.paylen, 1),
    STATE_FIELD(struct e1000, context.tcp, 1),
    STATE_FIELD(struct e1000, context.ip4, 1),
    STATE_FIELD(struct e1000, tx_segment, 1),
    STATE_FIELD(struct e1000, tx_ip_csum, 1),
    STATE_FIELD(struct e1000, tx_csum, 1),
    STATE_FIELD(struct e1000, tx_len, 1),
    STATE_ARRAY(struct e1000, tx_frame, 1),
};

/* What waits to be sent is looked at once more; what the backend held is not there any more. */
static int e1000_loaded(void *opaque, struct err *e)
{
	struct e1000 *d = opaque;

	if (d->tx_len > E1000_SEGMENTED || (d->rx.len & ~RING_LENGTH) ||
	    (d->tx.len & ~RING_LENGTH)) {
		controller_reset(d);
		return err_msg(e, -EINVAL, "e1000: saved with impossible lengths");
	}
	d->rx.head &= 0xffff;
	d->rx.tail &= 0xffff;
	d->tx.head &= 0xffff;
	d->tx.tail &= 0xffff;
	d->rx_blocked = false;
	e1000_irq(d, 0);
	loop_post(d->loop, &d->tx_work);
	return 0;
}

static const struct state_table e1000_table = {
    .name = "e1000",
    .version = 1,
    .fields = e1000_fields,
    .n_fields = ARRAY_SIZE(e1000_fields),
    .loaded = e1000_loaded,
};

static void e1000_save(struct pci_dev *pci, struct strbuf *out)
{
	pthread_mutex_lock(&pci->lock);
	state_save(&e1000_table, from_pci(pci), out);
	pthread_mutex_unlock(&pci->lock);
}

static int e1000_load(struct pci_dev *pci, const void *data, size_t len, size_t *used,
		      struct err *e)
{
	return state_load(&e1000_table, from_pci(pci), data, len, used, e);
}

static const struct pci_ops e1000_ops = {
    .reset = e1000_reset, .free = e1000_free, .save = e1000_save, .load = e1000_load};

struct pci_dev *e1000_new(struct gmem *mem, struct loop *loop, struct net *net,
			  const uint8_t mac[6])
{
	struct e1000 *d = xnew(struct e1000);

	d->mem = mem;
	d->loop = loop;
	d->net = net;
	memcpy(d->mac, mac, sizeof(d->mac));
	loop_work_init(&d->tx_work, e1000_tx_work, d);
	pci_dev_init(&d->pci, &e1000_ops, "e1000", 0x8086, 0x100e, 0x02000003, 0x1af4, 0x1100);
	d->pci.config[PCI_INTERRUPT_PIN] = 1;
	pci_add_bar(&d->pci, 0, BAR_SIZE, false, false, false, &bar_ops, d);
	pci_add_bar(&d->pci, 1, IO_BAR_SIZE, true, false, false, &io_ops, d);
	e1000_wire_init(d);
	controller_reset(d);
	net->rx = e1000_receive;
	net->rx_opaque = d;
	return &d->pci;
}
