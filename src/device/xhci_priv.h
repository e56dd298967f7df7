/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/xhci_priv.h - between the host controller's registers, commands and transfers
 */
#pragma once

#include "device/usb_hid.h"
#include "device/xhci.h"

#define XHCI_SLOTS     8u
#define XHCI_EPS       31u /* of a slot: 1 is control, 2n + 1 in, 2n out */
#define XHCI_PORTS     8u
#define XHCI_USB2      4u /* ports 1 to 4; the others are USB 3's */
#define XHCI_HIDS      2u
#define XHCI_CONTROL   1u /* endpoint numbers */
#define XHCI_INTERRUPT 3u
#define XHCI_TD_MAX    64u /* TRBs of one transfer that are looked at */

/* TRB types (6.4.6) */
enum {
	TRB_NORMAL = 1,
	TRB_SETUP = 2,
	TRB_DATA = 3,
	TRB_STATUS = 4,
	TRB_LINK = 6,
	TRB_EVENT_DATA = 7,
	TRB_NOOP = 8,
	TRB_ENABLE_SLOT = 9,
	TRB_DISABLE_SLOT = 10,
	TRB_ADDRESS_DEVICE = 11,
	TRB_CONFIGURE_EP = 12,
	TRB_EVALUATE = 13,
	TRB_RESET_EP = 14,
	TRB_STOP_EP = 15,
	TRB_SET_DEQUEUE = 16,
	TRB_RESET_DEVICE = 17,
	TRB_NOOP_COMMAND = 23,
	TRB_TRANSFER_EVENT = 32,
	TRB_COMMAND_EVENT = 33,
	TRB_PORT_EVENT = 34,
};

/* Completion codes (6.4.5) */
enum {
	CC_SUCCESS = 1,
	CC_DATA_BUFFER = 2,
	CC_TRB = 5,
	CC_STALL = 6,
	CC_NO_SLOTS = 9,
	CC_SLOT_DISABLED = 11,
	CC_EP_DISABLED = 12,
	CC_SHORT_PACKET = 13,
	CC_PARAMETER = 17,
	CC_CONTEXT_STATE = 19,
	CC_RING_STOPPED = 24,
	CC_STOPPED = 26,
};

/* TRB control bits */
#define TRB_CYCLE     BIT(0)
#define TRB_TOGGLE    BIT(1) /* of a link */
#define TRB_ISP       BIT(2) /* event on a short packet */
#define TRB_CHAIN     BIT(4)
#define TRB_IOC       BIT(5) /* event on completion */
#define TRB_IMMEDIATE BIT(6)

/* Slot and endpoint states (6.2.2, 6.2.3) */
enum { SLOT_ENABLED = 0, SLOT_DEFAULT = 1, SLOT_ADDRESSED = 2, SLOT_CONFIGURED = 3 };
enum { EP_DISABLED = 0, EP_RUNNING = 1, EP_HALTED = 2, EP_STOPPED = 3, EP_ERROR = 4 };

struct xhci_trb {
	uint64_t parameter;
	uint32_t status, control;
	uint64_t gpa; /* where it was */
};

struct xhci_ring {
	uint64_t dequeue; /* gpa */
	bool cycle;
};

struct xhci_slot {
	bool enabled;
	uint8_t state, port; /* port from 1; 0 = not addressed yet */
	uint64_t context;    /* gpa of the output device context */
	uint8_t ep_state[XHCI_EPS + 1];
	uint64_t ep_dequeue[XHCI_EPS + 1];
	bool ep_cycle[XHCI_EPS + 1];
	bool polled; /* the interrupt endpoint's doorbell has been rung */
};

struct xhci {
	struct pci_dev pci;
	struct gmem *mem;
	struct timerq *timers;
	struct usb_hid hid[XHCI_HIDS]; /* at ports 1 and 2 */
	unsigned int n_hid;
	/* operational registers (5.4) */
	uint32_t usbcmd, usbsts, dnctrl, config, portsc[XHCI_PORTS];
	uint64_t crcr, dcbaap;
	bool command_running;
	struct xhci_ring command;
	/* the interrupter's (5.5.2) */
	uint32_t iman, imod, erstsz;
	uint64_t erstba, erdp;
	uint64_t event_base; /* of the event ring's one segment */
	uint32_t event_size, event_index;
	bool event_cycle;
	struct xhci_slot slot[XHCI_SLOTS + 1];
};

static inline unsigned int xhci_trb_type(const struct xhci_trb *t)
{
	return t->control >> 10 & 0x3f;
}

/* --- xhci.c --- */
bool xhci_running(const struct xhci *x);
/* The next TRB that is ours to take, past links; false = none. */
must_check bool xhci_ring_next(const struct xhci *x, struct xhci_ring *r, struct xhci_trb *t);
void xhci_event(struct xhci *x, uint64_t parameter, uint32_t status, uint32_t control);
/* The device at @port (from 1); NULL = none. */
struct usb_hid *xhci_device(struct xhci *x, unsigned int port);

/* --- xhci_command.c --- */
void xhci_run_commands(struct xhci *x);
/* What the guest reads of an endpoint's state, as it is now. */
void xhci_put_endpoint(struct xhci *x, unsigned int slot, unsigned int ep);
void xhci_disable_slot(struct xhci *x, unsigned int slot);

/* --- xhci_transfer.c --- */
void xhci_run_endpoint(struct xhci *x, unsigned int slot, unsigned int ep);
/* Transfer event of the one that waits, which is stopped (4.6.9). */
void xhci_stop_transfer(struct xhci *x, unsigned int slot, unsigned int ep);
