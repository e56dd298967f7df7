/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/xhci_transfer.c - transfers: control, and interrupt endpoints that are polled (xHCI 1.1,
 * 4.9 to 4.11)
 *
 * A transfer is looked at when all of its TRBs are there, and taken from the ring when it is done:
 * a poll that finds no report leaves everything as it is until there is one.
 */
#include "device/xhci_priv.h"

#define PER_KICK 64u /* transfers at most */

/* TRBs from the front of a ring. */
struct transfer {
	struct xhci_ring ring; /* behind them */
	struct xhci_trb trb[XHCI_TD_MAX];
	unsigned int n;
};

static bool is_chained(const struct transfer *t)
{
	return t->trb[t->n - 1].control & TRB_CHAIN;
}

/* False: not all of it is there, or it is longer than anything of ours. */
static bool gather_td(const struct xhci *x, struct transfer *t)
{
	do {
		if (t->n == XHCI_TD_MAX || !xhci_ring_next(x, &t->ring, &t->trb[t->n]))
			return false;
		t->n++;
	} while (is_chained(t));
	return true;
}

/* A control transfer ends with the status stage's descriptor. */
static bool gather(const struct xhci *x, const struct xhci_slot *s, unsigned int ep,
		   struct transfer *t)
{
	unsigned int first;

	t->ring = (struct xhci_ring){s->ep_dequeue[ep], s->ep_cycle[ep]};
	t->n = 0;
	do {
		first = t->n;
		if (!gather_td(x, t))
			return false;
	} while (ep == XHCI_CONTROL && xhci_trb_type(&t->trb[0]) == TRB_SETUP &&
		 xhci_trb_type(&t->trb[first]) != TRB_STATUS);
	return true;
}

static void commit(struct xhci_slot *s, unsigned int ep, const struct transfer *t)
{
	s->ep_dequeue[ep] = t->ring.dequeue;
	s->ep_cycle[ep] = t->ring.cycle;
}

static void transfer_event(struct xhci *x, unsigned int slot, unsigned int ep, uint64_t parameter,
			   int code, uint32_t length, bool data)
{
	xhci_event(x, parameter, (uint32_t)code << 24 | (length & 0xffffff),
		   slot << 24 | ep << 16 | TRB_TRANSFER_EVENT << 10 | (data ? 4u : 0u));
}

/* --- data --- */

static bool has_data(const struct xhci_trb *t)
{
	return xhci_trb_type(t) == TRB_NORMAL || xhci_trb_type(t) == TRB_DATA;
}

/* What the guest sends; false: not in memory. */
static bool read_data(const struct xhci *x, const struct transfer *t, uint8_t *data, uint32_t len)
{
	uint32_t at = 0;

	for (unsigned int i = 0; i < t->n && at < len; i++) {
		const struct xhci_trb *trb = &t->trb[i];
		uint32_t n = MIN(trb->status & 0x1ffff, len - at);

		if (!has_data(trb))
			continue;
		if (trb->control & TRB_IMMEDIATE)
			memcpy(data + at, &trb->parameter, MIN(n, 8u));
		else if (gmem_read(x->mem, trb->parameter, data + at, n) < 0)
			return false;
		at += n;
	}
	return true;
}

/* The transfer is over: @len bytes, from @data if it was in; events as the TRBs ask for them. */
static void finish(struct xhci *x, unsigned int slot, unsigned int ep, const struct transfer *t,
		   const uint8_t *data, uint32_t len)
{
	bool reported = false, is_short = false;
	uint32_t left = len, sum = 0; /* since the last event that told it */

	for (unsigned int i = 0; i < t->n; i++) {
		const struct xhci_trb *trb = &t->trb[i];
		uint32_t size = has_data(trb) ? trb->status & 0x1ffff : 0, n = MIN(size, left);
		bool told = xhci_trb_type(trb) == TRB_EVENT_DATA;
		int code;

		if (data && n && gmem_write(x->mem, trb->parameter, data + (len - left), n) < 0) {
			transfer_event(x, slot, ep, trb->gpa, CC_DATA_BUFFER, size, false);
			x->slot[slot].ep_state[ep] = EP_HALTED;
			xhci_put_endpoint(x, slot, ep);
			return;
		}
		left -= n;
		sum += n;
		is_short |= n < size;
		code = is_short ? CC_SHORT_PACKET : CC_SUCCESS;
		if (!reported && ((trb->control & TRB_IOC) ||
				  (is_short && has_data(trb) && (trb->control & TRB_ISP)))) {
			transfer_event(x, slot, ep, told ? trb->parameter : trb->gpa, code,
				       told ? sum : size - n, told);
			reported = true;
		}
		if (told || !(trb->control & TRB_CHAIN))
			sum = 0;
		if (!(trb->control & TRB_CHAIN)) /* another stage follows */
			reported = is_short = false;
	}
}

static void stall(struct xhci *x, unsigned int slot, unsigned int ep, const struct transfer *t)
{
	const struct xhci_trb *last = &t->trb[t->n - 1];

	x->slot[slot].ep_state[ep] = EP_HALTED;
	xhci_put_endpoint(x, slot, ep);
	for (unsigned int i = 0; i < t->n; i++)
		if (has_data(&t->trb[i])) {
			last = &t->trb[i];
			break;
		}
	transfer_event(x, slot, ep, last->gpa, CC_STALL, last->status & 0x1ffff, false);
}

/* --- kinds of transfers --- */

static void control(struct xhci *x, unsigned int slot, struct usb_hid *h, const struct transfer *t)
{
	const struct xhci_trb *first = &t->trb[0];
	struct usb_setup setup = {
	    .type = (uint8_t)first->parameter,
	    .request = (uint8_t)(first->parameter >> 8),
	    .value = (uint16_t)(first->parameter >> 16),
	    .index = (uint16_t)(first->parameter >> 32),
	    .length = (uint16_t)(first->parameter >> 48),
	};
	uint8_t data[USB_CONTROL_MAX] = {0};
	bool in = setup.type & 0x80;
	int n = -1;

	if (xhci_trb_type(first) == TRB_SETUP && (first->control & TRB_IMMEDIATE) &&
	    (in || (setup.length <= sizeof(data) && read_data(x, t, data, setup.length))))
		n = usb_hid_control(h, &setup, data);
	if (n < 0)
		stall(x, slot, XHCI_CONTROL, t);
	else
		finish(x, slot, XHCI_CONTROL, t, in ? data : NULL, in ? (uint32_t)n : setup.length);
}

/* False: there is no report yet. */
static bool interrupt_in(struct xhci *x, unsigned int slot, struct usb_hid *h,
			 const struct transfer *t)
{
	uint8_t data[USB_HID_REPORT];
	int n = usb_hid_poll(h, data);

	if (n < 0)
		return false;
	commit(&x->slot[slot], XHCI_INTERRUPT, t);
	finish(x, slot, XHCI_INTERRUPT, t, data, (uint32_t)n);
	return true;
}

/* One transfer from the front of the ring; false: nothing to do now. */
static bool run_one(struct xhci *x, unsigned int slot, unsigned int ep, struct transfer *t)
{
	struct xhci_slot *s = &x->slot[slot];
	struct usb_hid *h = xhci_device(x, s->port);

	if (!h || !gather(x, s, ep, t))
		return false;
	if (ep == XHCI_INTERRUPT && xhci_trb_type(&t->trb[0]) != TRB_NOOP)
		return interrupt_in(x, slot, h, t);
	commit(s, ep, t);
	if (xhci_trb_type(&t->trb[0]) == TRB_NOOP)
		finish(x, slot, ep, t, NULL, 0);
	else if (ep == XHCI_CONTROL)
		control(x, slot, h, t);
	else /* an endpoint that the device has not */
		stall(x, slot, ep, t);
	return true;
}

void xhci_run_endpoint(struct xhci *x, unsigned int slot, unsigned int ep)
{
	struct xhci_slot *s = &x->slot[slot];
	struct transfer t;

	for (unsigned int i = 0; i < PER_KICK && s->ep_state[ep] == EP_RUNNING; i++)
		if (!run_one(x, slot, ep, &t))
			break;
}

void xhci_stop_transfer(struct xhci *x, unsigned int slot, unsigned int ep)
{
	struct transfer t;

	if (xhci_device(x, x->slot[slot].port) && gather(x, &x->slot[slot], ep, &t))
		transfer_event(x, slot, ep, t.trb[0].gpa, CC_STOPPED, t.trb[0].status & 0x1ffff,
			       false);
}
