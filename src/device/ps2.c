/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/ps2.c - the keyboard and the mouse behind the i8042 (IBM PS/2 Technical Reference)
 */
#include "device/i8042_priv.h"

#define ACK    0xfa
#define RESEND 0xfe
#define BAT_OK 0xaa

/* --- keyboard ----------------------------------------------------------------------------------
 */

void ps2_kbd_defaults(struct i8042 *k)
{
	k->kbd_set = 2;
	k->kbd_rate = 0x2b;
	k->kbd_leds = 0;
}

static void kbd_put(struct i8042 *k, uint8_t byte)
{
	ps2_put(k, PS2_KBD, byte);
}

static void kbd_data(struct i8042 *k, uint8_t command, uint8_t v)
{
	kbd_put(k, ACK);
	switch (command) {
	case 0xed:
		k->kbd_leds = v & 7;
		break;
	case 0xf0: /* scan code set; 0 asks.  Only set 2 is spoken */
		if (v == 0)
			kbd_put(k, k->kbd_set);
		break;
	case 0xf3:
		k->kbd_rate = v & 0x7f;
		break;
	default:
		break;
	}
}

void ps2_kbd_write(struct i8042 *k, uint8_t v)
{
	uint8_t command = k->kbd_command;

	k->kbd_command = 0;
	if (command && v < 0xed) {
		kbd_data(k, command, v);
		return;
	}
	/* What was not yet sent is forgotten when a command comes. */
	k->queue[PS2_KBD].n = 0;
	k->release = 0;
	switch (v) {
	case 0xed: /* LEDs, scan code set, typematic rate: a byte follows */
	case 0xf0:
	case 0xf3:
		k->kbd_command = v;
		kbd_put(k, ACK);
		break;
	case 0xee: /* echo */
		kbd_put(k, 0xee);
		break;
	case 0xf2: /* identify: MF2 */
		kbd_put(k, ACK);
		kbd_put(k, 0xab);
		kbd_put(k, 0x83);
		break;
	case 0xf4:
		k->kbd_scanning = 1;
		kbd_put(k, ACK);
		break;
	case 0xf5:
	case 0xf6:
		ps2_kbd_defaults(k);
		k->kbd_scanning = v == 0xf6;
		kbd_put(k, ACK);
		break;
	case 0xf7 ... 0xfd: /* key types of set 3 */
		kbd_put(k, ACK);
		break;
	case 0xff:
		ps2_kbd_defaults(k);
		k->kbd_scanning = 1;
		kbd_put(k, ACK);
		kbd_put(k, BAT_OK);
		break;
	default:
		kbd_put(k, RESEND);
		break;
	}
}

/* --- mouse -------------------------------------------------------------------------------------
 */

#define MOUSE_SCALING 0x10
#define MOUSE_ENABLED 0x20
#define MOUSE_REMOTE  0x40
#define MOUSE_WRAP    0x80 /* not in the status byte */

static void mouse_put(struct i8042 *k, uint8_t byte)
{
	ps2_put(k, PS2_MOUSE, byte);
}

void ps2_mouse_defaults(struct i8042 *k)
{
	k->mouse_rate = 100;
	k->mouse_resolution = 2;
	k->mouse_flags = 0;
	k->mouse_id = 0;
	k->mouse_buttons = 0;
	memset(k->mouse_rates, 0, sizeof(k->mouse_rates));
}

/* One packet; motion beyond its nine bits is cut off. */
static void mouse_packet(struct i8042 *k, int dx, int dy, int dz)
{
	unsigned int len = k->mouse_id == 3 ? 4 : 3;

	if (k->queue[PS2_MOUSE].n + len > I8042_QUEUE)
		return;
	dx = MIN(MAX(dx, -255), 255);
	dy = MIN(MAX(dy, -255), 255);
	mouse_put(k, (uint8_t)(8 | k->mouse_buttons | (dx < 0) << 4 | (dy < 0) << 5));
	mouse_put(k, (uint8_t)dx);
	mouse_put(k, (uint8_t)dy);
	if (len == 4)
		mouse_put(k, (uint8_t)MIN(MAX(dz, -8), 7));
}

void ps2_mouse_move(struct i8042 *k, int dx, int dy, int dz, unsigned int buttons)
{
	k->mouse_buttons = buttons & 7;
	if ((k->mouse_flags & MOUSE_ENABLED) && !(k->mouse_flags & (MOUSE_REMOTE | MOUSE_WRAP)))
		mouse_packet(k, dx, dy, dz);
}

/* Rates 200, 100, 80 in a row turn a wheel mouse's fourth byte on. */
static void mouse_rate(struct i8042 *k, uint8_t v)
{
	static const uint8_t knock[3] = {200, 100, 80};

	k->mouse_rate = v;
	k->mouse_rates[0] = k->mouse_rates[1];
	k->mouse_rates[1] = k->mouse_rates[2];
	k->mouse_rates[2] = v;
	if (memcmp(k->mouse_rates, knock, sizeof(knock)) == 0)
		k->mouse_id = 3;
}

static void mouse_flag(struct i8042 *k, uint8_t flag, bool on)
{
	k->mouse_flags = (uint8_t)(on ? k->mouse_flags | flag : k->mouse_flags & ~flag);
	mouse_put(k, ACK);
}

static void mouse_status(struct i8042 *k)
{
	uint8_t b = k->mouse_buttons;

	mouse_put(k, ACK);
	mouse_put(k,
		  (uint8_t)((k->mouse_flags & 0x70) | (b & 1) << 2 | (b & 4) >> 1 | (b & 2) >> 1));
	mouse_put(k, k->mouse_resolution);
	mouse_put(k, k->mouse_rate);
}

static void mouse_run(struct i8042 *k, uint8_t v)
{
	switch (v) {
	case 0xe6:
	case 0xe7:
		mouse_flag(k, MOUSE_SCALING, v == 0xe7);
		break;
	case 0xe8: /* resolution, rate: a byte follows */
	case 0xf3:
		k->mouse_command = v;
		mouse_put(k, ACK);
		break;
	case 0xe9:
		mouse_status(k);
		break;
	case 0xea:
	case 0xf0:
		mouse_flag(k, MOUSE_REMOTE, v == 0xf0);
		break;
	case 0xeb:
		mouse_put(k, ACK);
		mouse_packet(k, 0, 0, 0);
		break;
	case 0xec:
	case 0xee:
		mouse_flag(k, MOUSE_WRAP, v == 0xee);
		break;
	case 0xf2:
		mouse_put(k, ACK);
		mouse_put(k, k->mouse_id);
		break;
	case 0xf4:
	case 0xf5:
		mouse_flag(k, MOUSE_ENABLED, v == 0xf4);
		break;
	case 0xf6:
	case 0xff:
		ps2_mouse_defaults(k);
		mouse_put(k, ACK);
		if (v == 0xff) {
			mouse_put(k, BAT_OK);
			mouse_put(k, 0);
		}
		break;
	default:
		mouse_put(k, RESEND);
		break;
	}
}

void ps2_mouse_write(struct i8042 *k, uint8_t v)
{
	uint8_t command = k->mouse_command;

	k->mouse_command = 0;
	if ((k->mouse_flags & MOUSE_WRAP) && v != 0xec && v != 0xff) {
		mouse_put(k, v);
		return;
	}
	if (command == 0xe8) {
		k->mouse_resolution = v & 3;
		mouse_put(k, ACK);
	} else if (command == 0xf3) {
		mouse_rate(k, v);
		mouse_put(k, ACK);
	} else {
		k->queue[PS2_MOUSE].n = 0;
		mouse_run(k, v);
	}
}
