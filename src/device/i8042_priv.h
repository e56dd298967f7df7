/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/i8042_priv.h - between the controller and the two devices on its ports
 */
#pragma once

#include "device/i8042.h"

enum ps2_port { PS2_KBD, PS2_MOUSE, PS2_CONTROLLER };

/* False when the queue is full: the byte is lost, as on the wire. */
bool ps2_put(struct i8042 *k, enum ps2_port port, uint8_t byte);
void ps2_kbd_write(struct i8042 *k, uint8_t byte);
void ps2_kbd_defaults(struct i8042 *k);
void ps2_mouse_write(struct i8042 *k, uint8_t byte);
void ps2_mouse_defaults(struct i8042 *k);
void ps2_mouse_move(struct i8042 *k, int dx, int dy, int dz, unsigned int buttons);
