/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/usb_hid.h - a USB tablet or keyboard (USB 2.0 chapter 9, HID 1.11)
 *
 * High speed, one configuration with one interface and one interrupt endpoint, 81h.  The tablet
 * tells where the pointer is, in 0 to USB_TABLET_MAX either way; the keyboard speaks the boot
 * protocol, whose report is also that of its descriptor.  Reports wait in a short queue until the
 * controller polls.  An idle rate is accepted and nothing repeated.
 *
 * Locks: the controller's.
 */
#pragma once

#include "base/state.h"

#define USB_TABLET_MAX  32767u
#define USB_HID_REPORT  8u /* bytes of one, at most */
#define USB_HID_QUEUE   16u
#define USB_CONTROL_MAX 256u /* bytes of a control transfer's data, at most */

enum usb_hid_kind { USB_TABLET, USB_KEYBOARD };

/* A control transfer's first packet (USB 2.0, 9.3) */
struct usb_setup {
	uint8_t type, request;
	uint16_t value, index, length;
};

struct usb_hid {
	enum usb_hid_kind kind;
	uint8_t configuration, protocol, idle, leds;
	bool remote_wakeup;
	uint8_t report[USB_HID_REPORT]; /* how it is now */
	uint8_t queue[USB_HID_QUEUE * USB_HID_REPORT];
	uint8_t head, n;
};

void usb_hid_init(struct usb_hid *h, enum usb_hid_kind kind);
/* As after a reset of its port. */
void usb_hid_reset(struct usb_hid *h);
/* @data of USB_CONTROL_MAX bytes: s->length of them came (type's bit 7 clear), or the answer goes
 * there.  Returns the answer's length, at most s->length; -1 = stall. */
int usb_hid_control(struct usb_hid *h, const struct usb_setup *s, uint8_t *data);
/* The next report's length; -1 = nothing new. */
int usb_hid_poll(struct usb_hid *h, uint8_t data[USB_HID_REPORT]);

/* @buttons bit 0 left, 1 right, 2 middle; @dz > 0: the wheel turned towards the person.  Motion
 * joins motion that still waits; false: the queue is full. */
bool usb_tablet_move(struct usb_hid *h, unsigned int x, unsigned int y, int dz,
		     unsigned int buttons);
/* @usage of the keyboard's page; more than six keys together are one error, as HID says. */
bool usb_keyboard_key(struct usb_hid *h, uint8_t usage, bool down);

extern const struct state_table usb_hid_state_table;
