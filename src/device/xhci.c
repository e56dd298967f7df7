/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/xhci.c - the USB host controller: registers, ports, events, life (xHCI 1.1, 5)
 *
 *	BAR 0   0000h capabilities     0040h operational registers   1000h runtime registers
 *	        2000h doorbells        3000h MSI-X table             3800h pending bits
 */
#include "device/xhci_priv.h"

#include "base/log.h"

#include <errno.h>

#define BAR_SIZE    0x4000u
#define OPERATIONAL 0x40u
#define PORT_REGS   0x440u
#define RUNTIME     0x1000u
#define INTERRUPTER 0x1020u
#define DOORBELLS   0x2000u
#define MSIX_TABLE  0x3000u
#define MSIX_PBA    0x3800u

enum { /* from OPERATIONAL */
       USBCMD = 0x00,
       USBSTS = 0x04,
       PAGESIZE = 0x08,
       DNCTRL = 0x14,
       CRCR = 0x18,
       DCBAAP = 0x30,
       CONFIG = 0x38,
};
enum { IMAN = 0x00, IMOD = 0x04, ERSTSZ = 0x08, ERSTBA = 0x10, ERDP = 0x18 };

#define CMD_RUN   BIT(0)
#define CMD_RESET BIT(1)
#define CMD_INTE  BIT(2)
#define CMD_CRS   BIT(9) /* restore what we never saved */
#define STS_HALT  BIT(0)
#define STS_EINT  BIT(3)
#define STS_PCD   BIT(4)
#define STS_SRE   BIT(10)
#define STS_HCE   BIT(12)
#define STS_W1C   (BIT(2) | STS_EINT | STS_PCD | STS_SRE)

#define CRCR_RCS  BIT(0)
#define CRCR_STOP (BIT(1) | BIT(2)) /* stop, abort */
#define CRCR_CRR  BIT(3)

#define IMAN_IP  BIT(0)
#define IMAN_IE  BIT(1)
#define ERDP_EHB BIT(3)

#define PORT_CCS     BIT(0)
#define PORT_PED     BIT(1)
#define PORT_PR      BIT(4)
#define PORT_PLS     0x1e0u
#define PORT_PP      BIT(9)
#define PORT_SPEED   0x3c00u
#define PORT_HIGH    (3u << 10)
#define PORT_LWS     BIT(16)
#define PORT_CSC     BIT(17)
#define PORT_PRC     BIT(21)
#define PORT_PLC     BIT(22)
#define PORT_CHANGES 0xfe0000u
#define PORT_WAKES   0xe000000u
#define PORT_WPR     BIT(31)
enum { PLS_U0 = 0, PLS_U3 = 3, PLS_RX_DETECT = 5, PLS_POLLING = 7, PLS_RESUME = 15 };

#define MICROFRAME 125000u /* ns */

static struct xhci *from_pci(struct pci_dev *d)
{
	return container_of(d, struct xhci, pci);
}

bool xhci_running(const struct xhci *x)
{
	return (x->usbcmd & CMD_RUN) && !(x->usbsts & STS_HCE) && pci_dma_enabled(&x->pci);
}

struct usb_hid *xhci_device(struct xhci *x, unsigned int port)
{
	return port && port <= x->n_hid ? &x->hid[port - 1] : NULL;
}

/* --- rings (4.9) --- */

bool xhci_ring_next(const struct xhci *x, struct xhci_ring *r, struct xhci_trb *t)
{
	uint8_t bytes[16];

	for (unsigned int links = 0; links < 8; links++) {
		if (gmem_read(x->mem, r->dequeue, bytes, sizeof(bytes)) < 0)
			return false;
		*t = (struct xhci_trb){.parameter = load_le64(bytes),
				       .status = load_le32(bytes + 8),
				       .control = load_le32(bytes + 12),
				       .gpa = r->dequeue};
		if ((t->control & TRB_CYCLE) != (r->cycle ? TRB_CYCLE : 0))
			return false;
		if (xhci_trb_type(t) != TRB_LINK) {
			r->dequeue += sizeof(bytes);
			return true;
		}
		r->dequeue = t->parameter & ~UINT64_C(15);
		r->cycle ^= (t->control & TRB_TOGGLE) != 0;
	}
	return false;
}

static void update_intx(struct xhci *x)
{
	pci_set_intx(&x->pci, !pci_msix_enabled(&x->pci) && (x->usbcmd & CMD_INTE) &&
				  (x->iman & (IMAN_IP | IMAN_IE)) == (IMAN_IP | IMAN_IE));
}

/* A message takes the pending bit away, a line stays up until the guest does. */
static void deliver(struct xhci *x)
{
	if (pci_msix_enabled(&x->pci) && (x->usbcmd & CMD_INTE) &&
	    (x->iman & (IMAN_IP | IMAN_IE)) == (IMAN_IP | IMAN_IE)) {
		x->iman &= ~(uint32_t)IMAN_IP;
		pci_msix_notify(&x->pci, 0);
	}
	update_intx(x);
}

/* An interrupt, but while the guest is still busy with the one before (4.17.2). */
static void interrupt(struct xhci *x)
{
	bool busy = x->erdp & ERDP_EHB;

	x->erdp |= ERDP_EHB;
	x->iman |= (uint32_t)IMAN_IP;
	x->usbsts |= (uint32_t)STS_EINT;
	if (!busy)
		deliver(x);
}

static uint64_t event_gpa(const struct xhci *x)
{
	return x->event_base + 16u * x->event_index;
}

void xhci_event(struct xhci *x, uint64_t parameter, uint32_t status, uint32_t control)
{
	uint64_t next = x->event_base + 16u * ((x->event_index + 1) % MAX(x->event_size, 1u));
	uint8_t bytes[16];

	if (!x->event_size || next == (x->erdp & ~UINT64_C(15))) {
		guest_warn("xhci: no room in the event ring");
		return;
	}
	store_le64(bytes, parameter);
	store_le32(bytes + 8, status);
	store_le32(bytes + 12, control | x->event_cycle);
	if (gmem_write(x->mem, event_gpa(x), bytes, sizeof(bytes)) < 0) {
		guest_warn("xhci: the event ring is not in memory");
		x->usbsts |= (uint32_t)(STS_HCE | STS_HALT);
		return;
	}
	x->event_index++;
	if (x->event_index == x->event_size) {
		x->event_index = 0;
		x->event_cycle = !x->event_cycle;
	}
	interrupt(x);
}

/* The guest says where its event ring is: one segment (6.5). */
static void open_event_ring(struct xhci *x)
{
	uint8_t entry[16];
	uint32_t size;

	x->event_size = x->event_index = 0;
	x->event_cycle = true;
	if (!x->erstsz || gmem_read(x->mem, x->erstba, entry, sizeof(entry)) < 0)
		return;
	size = load_le32(entry + 8) & 0xffff;
	if (size < 16 || size > 4096) {
		guest_warn("xhci: an event ring of %u entries", size);
		return;
	}
	x->event_base = load_le64(entry) & ~UINT64_C(63);
	x->event_size = size;
}

/* --- ports (4.19) --- */

static void set_link(struct xhci *x, unsigned int port, unsigned int state)
{
	x->portsc[port] = (x->portsc[port] & ~PORT_PLS) | state << 5;
}

static unsigned int link_state(const struct xhci *x, unsigned int port)
{
	return (x->portsc[port] & PORT_PLS) >> 5;
}

static void port_changed(struct xhci *x, unsigned int port, uint64_t change)
{
	bool was = x->portsc[port] & change;

	x->portsc[port] |= (uint32_t)change;
	if (was)
		return;
	x->usbsts |= (uint32_t)STS_PCD;
	if (xhci_running(x))
		xhci_event(x, (uint64_t)(port + 1) << 24, CC_SUCCESS << 24, TRB_PORT_EVENT << 10);
}

/* Port number from 0. */
static void port_init(struct xhci *x, unsigned int port)
{
	struct usb_hid *h = xhci_device(x, port + 1);

	x->portsc[port] = (uint32_t)PORT_PP | PLS_RX_DETECT << 5;
	if (!h)
		return;
	usb_hid_reset(h);
	x->portsc[port] = (uint32_t)(PORT_PP | PORT_CCS | PORT_CSC) | PORT_HIGH | PLS_POLLING << 5;
}

static void port_reset(struct xhci *x, unsigned int port)
{
	struct usb_hid *h = xhci_device(x, port + 1);

	if (h) {
		usb_hid_reset(h);
		set_link(x, port, PLS_U0);
		x->portsc[port] |= (uint32_t)PORT_PED;
	}
	port_changed(x, port, PORT_PRC);
}

static void write_link(struct xhci *x, unsigned int port, unsigned int state)
{
	unsigned int was = link_state(x, port);

	if (!(x->portsc[port] & PORT_PED))
		return;
	if (state == PLS_U3 && was == PLS_U0) {
		set_link(x, port, PLS_U3);
	} else if (state == PLS_RESUME && was == PLS_U3) {
		set_link(x, port, PLS_RESUME);
	} else if (state == PLS_U0 && was != PLS_U0) {
		set_link(x, port, PLS_U0);
		port_changed(x, port, PORT_PLC);
	}
}

static void write_portsc(struct xhci *x, unsigned int port, uint32_t v)
{
	uint32_t keep = x->portsc[port] & ~(v & PORT_CHANGES);

	x->portsc[port] = (keep & ~PORT_WAKES) | (v & PORT_WAKES);
	if (v & PORT_PED)
		x->portsc[port] &= ~(uint32_t)PORT_PED;
	if ((v & PORT_PR) || ((v & PORT_WPR) && port >= XHCI_USB2))
		port_reset(x, port);
	else if (v & PORT_LWS)
		write_link(x, port, (v & PORT_PLS) >> 5);
}

/* --- capabilities (5.3, 7.2) --- */

static uint32_t capability(unsigned int off)
{
	static const uint32_t regs[] = {
	    [0x00 / 4] = 0x01000000 | OPERATIONAL,
	    [0x04 / 4] = XHCI_PORTS << 24 | 1 << 8 | XHCI_SLOTS,
	    [0x08 / 4] = 0x0000000f,         /* scheduling threshold; event rings of one segment */
	    [0x10 / 4] = 0x20 / 4 << 16 | 1, /* 64-bit addresses */
	    [0x14 / 4] = DOORBELLS,
	    [0x18 / 4] = RUNTIME,
	    /* Supported protocols: USB 2.0 on ports 1 to 4, 3.0 on the others. */
	    [0x20 / 4] = 0x02000000 | 0x10 / 4 << 8 | 2,
	    [0x24 / 4] = 0x20425355,
	    [0x28 / 4] = XHCI_USB2 << 8 | 1,
	    [0x30 / 4] = 0x03000000 | 2,
	    [0x34 / 4] = 0x20425355,
	    [0x38 / 4] = (XHCI_PORTS - XHCI_USB2) << 8 | (XHCI_USB2 + 1),
	    [0x3c / 4] = 0,
	};

	return regs[off / 4];
}

/* --- operational registers (5.4) --- */

static void controller_reset(struct xhci *x)
{
	for (unsigned int i = 1; i <= XHCI_SLOTS; i++)
		x->slot[i] = (struct xhci_slot){0};
	x->usbcmd = x->dnctrl = x->config = 0;
	x->usbsts = (uint32_t)STS_HALT;
	x->crcr = x->dcbaap = 0;
	x->command_running = false;
	x->command = (struct xhci_ring){0};
	x->iman = x->imod = x->erstsz = 0;
	x->erstba = x->erdp = x->event_base = 0;
	x->event_size = x->event_index = 0;
	x->event_cycle = true;
	for (unsigned int i = 0; i < XHCI_PORTS; i++)
		port_init(x, i);
	update_intx(x);
}

static void write_usbcmd(struct xhci *x, uint32_t v)
{
	bool was = x->usbcmd & CMD_RUN;

	if (v & CMD_RESET) {
		controller_reset(x);
		return;
	}
	x->usbcmd = v & (uint32_t)(CMD_RUN | CMD_INTE | 8 | 0xc00);
	if (v & CMD_CRS)
		x->usbsts |= (uint32_t)STS_SRE;
	if (!(v & CMD_RUN)) {
		x->usbsts |= (uint32_t)STS_HALT;
		x->command_running = false;
	} else if (!was) {
		x->usbsts &= ~(uint32_t)STS_HALT;
		for (unsigned int i = 0; i < XHCI_PORTS; i++)
			if (x->portsc[i] & PORT_CHANGES)
				xhci_event(x, (uint64_t)(i + 1) << 24, CC_SUCCESS << 24,
					   TRB_PORT_EVENT << 10);
	}
	update_intx(x);
}

static void set_half(uint64_t *reg, bool high, uint32_t v)
{
	unsigned int shift = high ? 32 : 0;

	*reg = (*reg & ~(UINT64_C(0xffffffff) << shift)) | (uint64_t)v << shift;
}

static void write_crcr(struct xhci *x, bool high, uint32_t v)
{
	if (x->command_running) {
		if (!high && (v & CRCR_STOP)) {
			x->command_running = false;
			xhci_event(x, x->command.dequeue, CC_RING_STOPPED << 24,
				   TRB_COMMAND_EVENT << 10);
		}
		return;
	}
	set_half(&x->crcr, high, high ? v : v & ~0x3eu);
	x->command =
	    (struct xhci_ring){.dequeue = x->crcr & ~UINT64_C(63), .cycle = x->crcr & CRCR_RCS};
}

static uint32_t operational_read(const struct xhci *x, unsigned int off)
{
	switch (off) {
	case USBCMD:
		return x->usbcmd;
	case USBSTS:
		return x->usbsts;
	case PAGESIZE:
		return 1;
	case DNCTRL:
		return x->dnctrl;
	case CRCR:
		return x->command_running ? (uint32_t)CRCR_CRR : 0;
	case DCBAAP:
		return (uint32_t)x->dcbaap;
	case DCBAAP + 4:
		return (uint32_t)(x->dcbaap >> 32);
	case CONFIG:
		return x->config;
	}
	return 0;
}

static void operational_write(struct xhci *x, unsigned int off, uint32_t v)
{
	switch (off) {
	case USBCMD:
		write_usbcmd(x, v);
		break;
	case USBSTS:
		x->usbsts &= ~(v & (uint32_t)STS_W1C);
		break;
	case DNCTRL:
		x->dnctrl = v & 0xffff;
		break;
	case CRCR:
	case CRCR + 4:
		write_crcr(x, off != CRCR, v);
		break;
	case DCBAAP:
	case DCBAAP + 4:
		set_half(&x->dcbaap, off != DCBAAP, off == DCBAAP ? v & ~63u : v);
		break;
	case CONFIG:
		x->config = v & 0xff;
		break;
	}
}

/* --- runtime registers (5.5) --- */

static uint32_t runtime_read(const struct xhci *x, unsigned int off)
{
	if (off == RUNTIME) /* MFINDEX */
		return (uint32_t)(timerq_now(x->timers) / MICROFRAME) & 0x3fff;
	switch (off - INTERRUPTER) {
	case IMAN:
		return x->iman;
	case IMOD:
		return x->imod;
	case ERSTSZ:
		return x->erstsz;
	case ERSTBA:
		return (uint32_t)x->erstba;
	case ERSTBA + 4:
		return (uint32_t)(x->erstba >> 32);
	case ERDP:
		return (uint32_t)x->erdp;
	case ERDP + 4:
		return (uint32_t)(x->erdp >> 32);
	}
	return 0;
}

static void write_erdp(struct xhci *x, bool high, uint32_t v)
{
	uint64_t busy = x->erdp & ERDP_EHB;

	if (!high && (v & ERDP_EHB))
		busy = 0;
	set_half(&x->erdp, high, high ? v : v & ~(uint32_t)ERDP_EHB);
	x->erdp |= busy;
	/* What came since is told again. */
	if (!high && (v & ERDP_EHB) && x->event_size && (x->erdp & ~UINT64_C(15)) != event_gpa(x))
		interrupt(x);
}

static void runtime_write(struct xhci *x, unsigned int off, uint32_t v)
{
	switch (off - INTERRUPTER) {
	case IMAN:
		x->iman = (x->iman & IMAN_IP & ~v) | (v & IMAN_IE);
		deliver(x);
		break;
	case IMOD:
		x->imod = v;
		break;
	case ERSTSZ:
		x->erstsz = v & 0xffff;
		break;
	case ERSTBA:
		set_half(&x->erstba, false, v & ~63u);
		break;
	case ERSTBA + 4:
		set_half(&x->erstba, true, v);
		open_event_ring(x);
		break;
	case ERDP:
	case ERDP + 4:
		write_erdp(x, off - INTERRUPTER != ERDP, v);
		break;
	}
}

/* --- the BAR --- */

static uint32_t reg_read(struct xhci *x, unsigned int off)
{
	if (off < OPERATIONAL)
		return capability(off);
	if (off >= PORT_REGS && off < PORT_REGS + 16 * XHCI_PORTS)
		return off % 16 ? 0 : x->portsc[(off - PORT_REGS) / 16];
	if (off < RUNTIME)
		return operational_read(x, off - OPERATIONAL);
	return runtime_read(x, off);
}

/* It wakes what was stopped (4.8.3). */
static void ring_endpoint(struct xhci *x, unsigned int slot, unsigned int ep)
{
	struct xhci_slot *s = &x->slot[slot];

	if (!s->enabled)
		return;
	s->polled |= ep == XHCI_INTERRUPT;
	if (s->ep_state[ep] == EP_STOPPED) {
		s->ep_state[ep] = EP_RUNNING;
		xhci_put_endpoint(x, slot, ep);
	}
	xhci_run_endpoint(x, slot, ep);
}

static void ring_doorbell(struct xhci *x, unsigned int slot, uint32_t v)
{
	if (!xhci_running(x))
		return;
	if (slot == 0 && v == 0) {
		x->command_running = true;
		xhci_run_commands(x);
	} else if (slot && slot <= XHCI_SLOTS && (v & 0xff) && (v & 0xff) <= XHCI_EPS) {
		ring_endpoint(x, slot, v & 0xff);
	}
}

static void reg_write(struct xhci *x, unsigned int off, uint32_t v)
{
	if (off >= DOORBELLS)
		ring_doorbell(x, (off - DOORBELLS) / 4, v);
	else if (off >= RUNTIME)
		runtime_write(x, off, v);
	else if (off >= PORT_REGS && off < PORT_REGS + 16 * XHCI_PORTS && off % 16 == 0)
		write_portsc(x, (off - PORT_REGS) / 16, v);
	else if (off >= OPERATIONAL && off < PORT_REGS)
		operational_write(x, off - OPERATIONAL, v);
}

static uint64_t bar_read(void *opaque, uint64_t off, unsigned int size)
{
	struct xhci *x = opaque;

	if (off >= MSIX_TABLE)
		return pci_msix_read(&x->pci, off & 0x7ff, size, off >= MSIX_PBA);
	if (off >= DOORBELLS)
		return 0;
	return reg_read(x, (unsigned int)off) |
	       (size == 8 ? (uint64_t)reg_read(x, (unsigned int)off + 4) << 32 : 0);
}

static void bar_write(void *opaque, uint64_t off, unsigned int size, uint64_t value)
{
	struct xhci *x = opaque;

	if (off >= MSIX_TABLE) {
		if (off < MSIX_PBA)
			pci_msix_write(&x->pci, off - MSIX_TABLE, size, value);
		return;
	}
	reg_write(x, (unsigned int)off, (uint32_t)value);
	if (size == 8)
		reg_write(x, (unsigned int)off + 4, (uint32_t)(value >> 32));
}

static const struct bus_ops bar_ops = {.read = bar_read, .write = bar_write, .min = 4, .max = 8};

/* --- input --- */

static struct usb_hid *find(struct xhci *x, enum usb_hid_kind kind, unsigned int *port)
{
	for (unsigned int i = 0; i < x->n_hid; i++)
		if (x->hid[i].kind == kind) {
			*port = i;
			return &x->hid[i];
		}
	return NULL;
}

static unsigned int slot_of(const struct xhci *x, unsigned int port)
{
	for (unsigned int i = 1; i <= XHCI_SLOTS; i++)
		if (x->slot[i].enabled && x->slot[i].port == port + 1)
			return i;
	return 0;
}

/* The guest polls the device, or can be woken by it. */
static bool listens(struct xhci *x, enum usb_hid_kind kind)
{
	unsigned int port, slot;
	const struct usb_hid *h = find(x, kind, &port);

	slot = h && h->configuration && xhci_running(x) ? slot_of(x, port) : 0;
	if (!slot)
		return false;
	if (link_state(x, port) == PLS_U3)
		return h->remote_wakeup;
	return x->slot[slot].polled && x->slot[slot].ep_state[XHCI_INTERRUPT] == EP_RUNNING;
}

static bool xhci_listens(struct pci_dev *d, enum usb_hid_kind kind)
{
	bool yes;

	pthread_mutex_lock(&d->lock);
	yes = listens(from_pci(d), kind);
	pthread_mutex_unlock(&d->lock);
	return yes;
}

bool xhci_has_tablet(struct pci_dev *d)
{
	return xhci_listens(d, USB_TABLET);
}

bool xhci_has_keyboard(struct pci_dev *d)
{
	return xhci_listens(d, USB_KEYBOARD);
}

/* There is a report: wake the port, or answer the poll. */
static void has_news(struct xhci *x, unsigned int port)
{
	unsigned int slot = slot_of(x, port);

	if (link_state(x, port) == PLS_U3) {
		set_link(x, port, PLS_RESUME);
		port_changed(x, port, PORT_PLC);
	} else if (slot && xhci_running(x)) {
		xhci_run_endpoint(x, slot, XHCI_INTERRUPT);
	}
}

bool xhci_move(struct pci_dev *d, unsigned int x, unsigned int y, int dz, unsigned int buttons)
{
	struct xhci *c = from_pci(d);
	unsigned int port;
	struct usb_hid *h;
	bool taken;

	pthread_mutex_lock(&d->lock);
	h = find(c, USB_TABLET, &port);
	taken = h && usb_tablet_move(h, x, y, dz, buttons);
	if (taken)
		has_news(c, port);
	pthread_mutex_unlock(&d->lock);
	return taken;
}

bool xhci_key(struct pci_dev *d, uint8_t usage, bool down)
{
	struct xhci *c = from_pci(d);
	unsigned int port;
	struct usb_hid *h;
	bool taken;

	pthread_mutex_lock(&d->lock);
	h = find(c, USB_KEYBOARD, &port);
	taken = h && usb_keyboard_key(h, usage, down);
	if (taken)
		has_news(c, port);
	pthread_mutex_unlock(&d->lock);
	return taken;
}

/* --- saved state --- */

#define SLOT_ONE(n, member)                                                                        \
	{                                                                                          \
		.name = "slot" #n "." #member, .offset = offsetof(struct xhci, slot[n].member),    \
		.size = sizeof(((struct xhci_slot *)0)->member), .count = 1, .since = 1,           \
		.is_bool = STATE_IS_BOOL(((struct xhci_slot *)0)->member)                          \
	}
#define SLOT_ARRAY(n, member)                                                                      \
	{                                                                                          \
		.name = "slot" #n "." #member, .offset = offsetof(struct xhci, slot[n].member),    \
		.size = sizeof(((struct xhci_slot *)0)->member[0]),                                \
		.count = ARRAY_SIZE(((struct xhci_slot *)0)->member), .since = 1,                  \
		.is_bool = STATE_IS_BOOL(((struct xhci_slot *)0)->member[0])                       \
	}
#define SLOT_FIELDS(n)                                                                             \
	SLOT_ONE(n, enabled), SLOT_ONE(n, state), SLOT_ONE(n, port), SLOT_ONE(n, context),         \
	    SLOT_ARRAY(n, ep_state), SLOT_ARRAY(n, ep_dequeue), SLOT_ARRAY(n, ep_cycle),           \
	    SLOT_ONE(n, polled)

static const struct state_field xhci_fields[] = {
    STATE_FIELD(struct xhci, usbcmd, 1),
    STATE_FIELD(struct xhci, usbsts, 1),
    STATE_FIELD(struct xhci, dnctrl, 1),
    STATE_FIELD(struct xhci, config, 1),
    STATE_ARRAY(struct xhci, portsc, 1),
    STATE_FIELD(struct xhci, crcr, 1),
    STATE_FIELD(struct xhci, dcbaap, 1),
    STATE_FIELD(struct xhci, command_running, 1),
    STATE_FIELD(struct xhci, command.dequeue, 1),
    STATE_FIELD(struct xhci, command.cycle, 1),
    STATE_FIELD(struct xhci, iman, 1),
    STATE_FIELD(struct xhci, imod, 1),
    STATE_FIELD(struct xhci, erstsz, 1),
    STATE_FIELD(struct xhci, erstba, 1),
    STATE_FIELD(struct xhci, erdp, 1),
    STATE_FIELD(struct xhci, event_base, 1),
    STATE_FIELD(struct xhci, event_size, 1),
    STATE_FIELD(struct xhci, event_index, 1),
    STATE_FIELD(struct xhci, event_cycle, 1),
    SLOT_FIELDS(1),
    SLOT_FIELDS(2),
    SLOT_FIELDS(3),
    SLOT_FIELDS(4),
    SLOT_FIELDS(5),
    SLOT_FIELDS(6),
    SLOT_FIELDS(7),
    SLOT_FIELDS(8),
};
_Static_assert(XHCI_SLOTS == 8, "every slot is saved");

static int xhci_loaded(void *opaque, struct err *e)
{
	struct xhci *x = opaque;

	if (x->event_size > 4096 || (x->event_size && x->event_index >= x->event_size))
		return err_msg(e, -EINVAL, "xhci: event %u of a ring of %u", x->event_index,
			       x->event_size);
	for (unsigned int i = 0; i < XHCI_PORTS; i++)
		if ((x->portsc[i] & PORT_CCS) && !xhci_device(x, i + 1))
			return err_msg(e, -EINVAL, "xhci: port %u was saved with a device", i + 1);
	update_intx(x);
	return 0;
}

static const struct state_table xhci_table = {
    .name = "xhci",
    .version = 1,
    .fields = xhci_fields,
    .n_fields = ARRAY_SIZE(xhci_fields),
    .loaded = xhci_loaded,
};

static void xhci_save(struct pci_dev *d, struct strbuf *out)
{
	struct xhci *x = from_pci(d);

	pthread_mutex_lock(&d->lock);
	state_save(&xhci_table, x, out);
	for (unsigned int i = 0; i < x->n_hid; i++)
		state_save(&usb_hid_state_table, &x->hid[i], out);
	pthread_mutex_unlock(&d->lock);
}

static int xhci_load(struct pci_dev *d, const void *data, size_t len, size_t *used, struct err *e)
{
	struct xhci *x = from_pci(d);
	size_t at, n;
	int r = state_load(&xhci_table, x, data, len, &at, e);

	for (unsigned int i = 0; i < x->n_hid && r == 0; i++) {
		r = state_load(&usb_hid_state_table, &x->hid[i], (const char *)data + at, len - at,
			       &n, e);
		at += r == 0 ? n : 0;
	}
	if (r == 0)
		*used = at;
	return r;
}

/* --- life --- */

static void xhci_reset(struct pci_dev *d)
{
	controller_reset(from_pci(d));
}

static void xhci_free(struct pci_dev *d)
{
	pci_dev_fini(d);
	free(from_pci(d));
}

static const struct pci_ops xhci_ops = {
    .reset = xhci_reset, .free = xhci_free, .save = xhci_save, .load = xhci_load};

int xhci_new(const struct xhci_config *cfg, struct pci_dev **ret, struct err *e)
{
	struct xhci *x = xnew(struct xhci);
	struct pci_dev *d = &x->pci;
	int r;

	x->mem = cfg->mem;
	x->timers = cfg->timers;
	if (cfg->tablet)
		usb_hid_init(&x->hid[x->n_hid++], USB_TABLET);
	if (cfg->keyboard)
		usb_hid_init(&x->hid[x->n_hid++], USB_KEYBOARD);
	pci_dev_init(d, &xhci_ops, "xhci", 0x1b36, 0x000d, 0x0c033001, 0x1af4, 0x1100);
	d->config[PCI_INTERRUPT_PIN] = 1;
	d->config[0x60] = 0x30; /* SBRN: USB 3.0 */
	pci_add_bar(d, 0, BAR_SIZE, false, true, false, &bar_ops, x);
	r = pci_add_msix(d, 1, 0, MSIX_TABLE, MSIX_PBA);
	if (r < 0) {
		xhci_free(d);
		return err_set(e, r, "make the USB controller");
	}
	controller_reset(x);
	*ret = d;
	return 0;
}
