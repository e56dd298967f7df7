/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/xhci.h - a USB 3 host controller (xHCI 1.1) with a tablet, a keyboard, or both
 *
 * Four ports for USB 2 and four for USB 3, which stay empty; one interrupter, MSI-X or INTx.
 * Control transfers and interrupt endpoints, which is what our devices have.
 */
#pragma once

#include "base/timerq.h"
#include "bus/pci.h"
#include "guest/gmem.h"

struct xhci_config {
	struct gmem *mem;
	struct timerq *timers; /* the clock of MFINDEX */
	bool tablet, keyboard;
};

must_check int xhci_new(const struct xhci_config *cfg, struct pci_dev **ret, struct err *e);

/* From the loop's thread.  Is there a tablet (a keyboard), and does the guest listen to it? */
bool xhci_has_tablet(struct pci_dev *d);
bool xhci_has_keyboard(struct pci_dev *d);
/* As usb_tablet_move and usb_keyboard_key (device/usb_hid.h). */
bool xhci_move(struct pci_dev *d, unsigned int x, unsigned int y, int dz, unsigned int buttons);
bool xhci_key(struct pci_dev *d, uint8_t usage, bool down);
