/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/i8042.h - keyboard controller with a PS/2 keyboard and mouse (IBM PS/2 Technical
 * Reference)
 *
 * The A20 line is a bit that can be read back; memory is never wrapped at 1 MiB.
 */
#pragma once

#include "device/device.h"

#define I8042_QUEUE 32

struct i8042_config {
	struct irq kbd, mouse; /* IRQ 1 and 12 */
	struct request_sink requests;
};

struct ps2_queue {
	uint8_t bytes[I8042_QUEUE];
	uint8_t head, n;
}; /* bytes only: saved as it is */

struct i8042 {
	struct device dev;
	struct irq irq[2];
	struct request_sink requests;
	uint8_t status, control, outport, out, command; /* command: waits for its data byte */
	uint8_t ram[32];
	uint8_t release;           /* translation saw the prefix of a key's release */
	struct ps2_queue queue[3]; /* keyboard, mouse, the controller's answers */
	uint8_t kbd_command, kbd_leds, kbd_set, kbd_scanning, kbd_rate;
	uint8_t mouse_command, mouse_rate, mouse_resolution, mouse_flags, mouse_id;
	uint8_t mouse_buttons;
	uint8_t mouse_rates[3]; /* last sample rates asked for: a knock for the wheel */
};

must_check int i8042_new(const struct i8042_config *cfg, struct i8042 **ret);
/* Input from a display: one key's scan codes of set 2.  False: not taken, the queue is full.
 * Taken and dropped while scanning is off. */
bool i8042_key(struct i8042 *k, const uint8_t *codes, size_t n);
/* Relative motion; @buttons bit 0 left, 1 right, 2 middle. */
void i8042_mouse(struct i8042 *k, int dx, int dy, int dz, unsigned int buttons);
