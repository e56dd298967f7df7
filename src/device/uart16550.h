/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/uart16550.h - serial port (National PC16550D)
 *
 * Bytes go out as fast as the backend takes them; the baud rate divisor only sets the receiver's
 * character time-out.  Incoming bytes wait in the backend while the FIFO is full, so overruns
 * happen in loopback only.
 */
#pragma once

#include "device/chardev.h"
#include "device/device.h"

#define UART_FIFO 16

struct uart16550_config {
	const char *name;
	uint16_t port; /* first of eight, e.g. 0x3f8 */
	struct irq irq;
	struct timerq *timers;
	struct chardev *chr; /* NULL = nothing plugged in */
};

struct uart16550 {
	struct device dev;
	struct irq irq;
	struct chardev *chr;
	struct timer timeout_timer;
	bool resume_wanted; /* the backend holds bytes back */
	/* registers, as the datasheet names them */
	uint8_t ier, fcr, lcr, mcr, lsr, msr, scr, dll, dlm;
	uint8_t rx[UART_FIFO], tx[UART_FIFO];
	uint8_t rx_break[UART_FIFO]; /* BI and FE bits that go with the byte */
	uint8_t rx_head, rx_n, tx_n;
	uint8_t thre_pending;    /* the THRE interrupt was not yet read or served */
	uint8_t timeout_pending; /* bytes below the trigger level lay too long */
};

must_check int uart16550_new(const struct uart16550_config *cfg, struct uart16550 **ret);
