/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/i8042.c - keyboard controller (IBM PS/2 Technical Reference, keyboard and auxiliary
 * device)
 *
 * Bytes wait in three queues - controller answers, keyboard, mouse - and move one by one into the
 * output buffer, whose filling is the interrupt's edge.
 */
#include "device/i8042_priv.h"

#include <errno.h>

#define ST_OBF      0x01
#define ST_SYS      0x04
#define ST_CMD      0x08
#define ST_UNLOCKED 0x10
#define ST_AUX      0x20

#define CTL_KBD_IRQ   0x01
#define CTL_AUX_IRQ   0x02
#define CTL_SYS       0x04
#define CTL_KBD_OFF   0x10
#define CTL_AUX_OFF   0x20
#define CTL_TRANSLATE 0x40

#define OUT_RESET 0x01 /* low = CPU in reset */
#define OUT_A20   0x02

/* Scan codes of set 2 to those of set 1. */
static const uint8_t set1[128] = {
    0xff, 0x43, 0x41, 0x3f, 0x3d, 0x3b, 0x3c, 0x58, 0x64, 0x44, 0x42, 0x40, 0x3e, 0x0f, 0x29, 0x59,
    0x65, 0x38, 0x2a, 0x70, 0x1d, 0x10, 0x02, 0x5a, 0x66, 0x71, 0x2c, 0x1f, 0x1e, 0x11, 0x03, 0x5b,
    0x67, 0x2e, 0x2d, 0x20, 0x12, 0x05, 0x04, 0x5c, 0x68, 0x39, 0x2f, 0x21, 0x14, 0x13, 0x06, 0x5d,
    0x69, 0x31, 0x30, 0x23, 0x22, 0x15, 0x07, 0x5e, 0x6a, 0x72, 0x32, 0x24, 0x16, 0x08, 0x09, 0x5f,
    0x6b, 0x33, 0x25, 0x17, 0x18, 0x0b, 0x0a, 0x60, 0x6c, 0x34, 0x35, 0x26, 0x27, 0x19, 0x0c, 0x61,
    0x6d, 0x73, 0x28, 0x74, 0x1a, 0x0d, 0x62, 0x6e, 0x3a, 0x36, 0x1c, 0x1b, 0x75, 0x2b, 0x63, 0x76,
    0x55, 0x56, 0x77, 0x78, 0x79, 0x7a, 0x0e, 0x7b, 0x7c, 0x4f, 0x7d, 0x4b, 0x47, 0x7e, 0x7f, 0x6f,
    0x52, 0x53, 0x50, 0x4c, 0x4d, 0x48, 0x01, 0x45, 0x57, 0x4e, 0x51, 0x4a, 0x37, 0x49, 0x46, 0x54,
};

bool ps2_put(struct i8042 *k, enum ps2_port port, uint8_t byte)
{
	struct ps2_queue *q = &k->queue[port];

	if (q->n == I8042_QUEUE)
		return false;
	q->bytes[(q->head + q->n) % I8042_QUEUE] = byte;
	q->n++;
	return true;
}

static uint8_t take(struct ps2_queue *q)
{
	uint8_t byte = q->bytes[q->head];

	q->head = (q->head + 1) % I8042_QUEUE;
	q->n--;
	return byte;
}

static void update_irq(struct i8042 *k)
{
	bool full = k->status & ST_OBF, aux = k->status & ST_AUX;

	irq_set(&k->irq[PS2_KBD], full && !aux && (k->control & CTL_KBD_IRQ));
	irq_set(&k->irq[PS2_MOUSE], full && aux && (k->control & CTL_AUX_IRQ));
}

static void fill(struct i8042 *k, uint8_t byte, bool aux)
{
	k->out = byte;
	k->status = (uint8_t)((k->status & ~ST_AUX) | ST_OBF | (aux ? ST_AUX : 0));
}

/* A byte of the keyboard in the set the guest asked for; false while only a prefix came. */
static bool translate(struct i8042 *k, uint8_t byte, uint8_t *ret)
{
	if (!(k->control & CTL_TRANSLATE)) {
		*ret = byte;
		return true;
	}
	if (byte == 0xf0) {
		k->release = 0x80;
		return false;
	}
	if (byte == 0x83)
		byte = 0x41;
	else if (byte == 0x84)
		byte = 0x54;
	else if (byte < 0x80)
		byte = set1[byte];
	*ret = byte | k->release;
	k->release = 0;
	return true;
}

/* Moves the next byte into the output buffer when that is free. */
static void advance(struct i8042 *k)
{
	uint8_t byte;

	while (!(k->status & ST_OBF)) {
		if (k->queue[PS2_CONTROLLER].n) {
			fill(k, take(&k->queue[PS2_CONTROLLER]), false);
		} else if (k->queue[PS2_KBD].n && !(k->control & CTL_KBD_OFF)) {
			if (translate(k, take(&k->queue[PS2_KBD]), &byte))
				fill(k, byte, false);
		} else if (k->queue[PS2_MOUSE].n && !(k->control & CTL_AUX_OFF)) {
			fill(k, take(&k->queue[PS2_MOUSE]), true);
		} else {
			break;
		}
	}
	update_irq(k);
}

/* --- the controller ----------------------------------------------------------------------------
 */

static void write_outport(struct i8042 *k, uint8_t v)
{
	k->outport = v;
	if (!(v & OUT_RESET))
		request_send(&k->requests, REQUEST_RESET, 0);
}

static void answer(struct i8042 *k, uint8_t byte)
{
	ps2_put(k, PS2_CONTROLLER, byte);
}

/* Bits 0-3 low: pulse these lines of the output port.  Line 0 is the CPU's reset. */
static void pulse(struct i8042 *k, uint8_t command)
{
	if (!(command & OUT_RESET))
		request_send(&k->requests, REQUEST_RESET, 0);
}

static uint8_t outport(const struct i8042 *k)
{
	uint8_t v = k->outport;

	if (k->status & ST_OBF)
		v |= k->status & ST_AUX ? 0x20 : 0x10;
	return v;
}

static void run_command(struct i8042 *k, uint8_t v)
{
	k->command = 0;
	switch (v) {
	case 0x20:
		answer(k, k->control);
		break;
	case 0x21 ... 0x3f:
		answer(k, k->ram[v & 31]);
		break;
	case 0x60 ... 0x7f: /* with data */
	case 0xd1 ... 0xd4:
		k->command = v;
		break;
	case 0xa7:
		k->control |= CTL_AUX_OFF;
		break;
	case 0xa8:
		k->control &= (uint8_t)~CTL_AUX_OFF;
		break;
	case 0xa9: /* test of the mouse's lines, of the controller, of the keyboard's lines */
	case 0xab:
		answer(k, 0x00);
		break;
	case 0xaa:
		k->status |= ST_SYS;
		answer(k, 0x55);
		break;
	case 0xad:
		k->control |= CTL_KBD_OFF;
		break;
	case 0xae:
		k->control &= (uint8_t)~CTL_KBD_OFF;
		break;
	case 0xc0: /* input port: not locked, colour display */
		answer(k, 0xbf);
		break;
	case 0xd0:
		answer(k, outport(k));
		break;
	case 0xdd:
		k->outport &= (uint8_t)~OUT_A20;
		break;
	case 0xdf:
		k->outport |= OUT_A20;
		break;
	case 0xe0: /* test inputs: both clocks high */
		answer(k, 0x03);
		break;
	case 0xf0 ... 0xff:
		pulse(k, v);
		break;
	default: /* not a command */
		break;
	}
}

static void run_data(struct i8042 *k, uint8_t v)
{
	uint8_t command = k->command;

	k->command = 0;
	switch (command) {
	case 0x60:
		k->control = v & 0x77;
		k->status = (uint8_t)((k->status & ~ST_SYS) | (v & CTL_SYS));
		break;
	case 0x61 ... 0x7f:
		k->ram[command & 31] = v;
		break;
	case 0xd1:
		write_outport(k, v);
		break;
	case 0xd2:
		answer(k, v);
		break;
	case 0xd3:
		/* As if the mouse had sent it, but past its queue and even while the port is off:
		 * drivers test the line with this, and wait half a second for an answer. */
		fill(k, v, true);
		break;
	case 0xd4:
		k->control &= (uint8_t)~CTL_AUX_OFF;
		ps2_mouse_write(k, v);
		break;
	default:
		k->control &= (uint8_t)~CTL_KBD_OFF;
		ps2_kbd_write(k, v);
		break;
	}
}

static uint64_t data_read(void *opaque, uint64_t off, unsigned int size)
{
	struct i8042 *k = opaque;
	uint8_t v = k->out;

	/* The line falls before the next byte raises it. */
	k->status &= (uint8_t) ~(ST_OBF | ST_AUX);
	update_irq(k);
	advance(k);
	return v;
}

static void data_write(void *opaque, uint64_t off, unsigned int size, uint64_t value)
{
	struct i8042 *k = opaque;

	k->status &= (uint8_t)~ST_CMD;
	run_data(k, (uint8_t)value);
	advance(k);
}

static uint64_t command_read(void *opaque, uint64_t off, unsigned int size)
{
	const struct i8042 *k = opaque;

	return k->status;
}

static void command_write(void *opaque, uint64_t off, unsigned int size, uint64_t value)
{
	struct i8042 *k = opaque;

	k->status |= ST_CMD;
	run_command(k, (uint8_t)value);
	advance(k);
}

static const struct bus_ops data_ops = {.read = data_read, .write = data_write, .max = 1};
static const struct bus_ops command_ops = {.read = command_read, .write = command_write, .max = 1};

/* --- input -------------------------------------------------------------------------------------
 */

bool i8042_key(struct i8042 *k, const uint8_t *codes, size_t n)
{
	bool taken;

	device_lock(&k->dev);
	/* A key goes in whole or not at all. */
	taken = !k->kbd_scanning || n <= (size_t)(I8042_QUEUE - k->queue[PS2_KBD].n);
	if (k->kbd_scanning && taken) {
		for (size_t i = 0; i < n; i++)
			ps2_put(k, PS2_KBD, codes[i]);
		advance(k);
	}
	device_unlock(&k->dev);
	return taken;
}

void i8042_mouse(struct i8042 *k, int dx, int dy, int dz, unsigned int buttons)
{
	device_lock(&k->dev);
	ps2_mouse_move(k, dx, dy, dz, buttons);
	advance(k);
	device_unlock(&k->dev);
}

/* --- life --------------------------------------------------------------------------------------
 */

static void i8042_reset(void *opaque)
{
	struct i8042 *k = opaque;

	memset(k->queue, 0, sizeof(k->queue));
	memset(k->ram, 0, sizeof(k->ram));
	k->status = ST_UNLOCKED | ST_SYS;
	k->control = CTL_KBD_IRQ | CTL_SYS | CTL_TRANSLATE | CTL_AUX_OFF;
	k->outport = 0xcf;
	k->out = k->command = k->release = 0;
	k->kbd_command = k->mouse_command = 0;
	ps2_kbd_defaults(k);
	k->kbd_scanning = 1;
	ps2_mouse_defaults(k);
	update_irq(k);
}

static int i8042_loaded(void *opaque, struct err *e)
{
	struct i8042 *k = opaque;

	for (size_t i = 0; i < ARRAY_SIZE(k->queue); i++) {
		if (k->queue[i].head >= I8042_QUEUE || k->queue[i].n > I8042_QUEUE)
			return err_msg(e, -EINVAL, "i8042: saved queue is larger than the chip's");
	}
	update_irq(k);
	return 0;
}

static const struct state_field i8042_fields[] = {
    STATE_FIELD(struct i8042, status, 1),      STATE_FIELD(struct i8042, control, 1),
    STATE_FIELD(struct i8042, outport, 1),     STATE_FIELD(struct i8042, out, 1),
    STATE_FIELD(struct i8042, command, 1),     STATE_FIELD(struct i8042, release, 1),
    STATE_ARRAY(struct i8042, ram, 1),         STATE_ARRAY(struct i8042, queue, 1),
    STATE_FIELD(struct i8042, kbd_command, 1), STATE_FIELD(struct i8042, kbd_leds, 1),
    STATE_FIELD(struct i8042, kbd_set, 1),     STATE_FIELD(struct i8042, kbd_scanning, 1),
    STATE_FIELD(struct i8042, kbd_rate, 1),    STATE_FIELD(struct i8042, mouse_command, 1),
    STATE_FIELD(struct i8042, mouse_rate, 1),  STATE_FIELD(struct i8042, mouse_resolution, 1),
    STATE_FIELD(struct i8042, mouse_flags, 1), STATE_FIELD(struct i8042, mouse_id, 1),
    STATE_ARRAY(struct i8042, mouse_rates, 1), STATE_FIELD(struct i8042, mouse_buttons, 1),
};

static const struct state_table i8042_state = {
    .name = "i8042",
    .version = 1,
    .fields = i8042_fields,
    .n_fields = ARRAY_SIZE(i8042_fields),
    .loaded = i8042_loaded,
};

int i8042_new(const struct i8042_config *cfg, struct i8042 **ret)
{
	struct i8042 *k = device_alloc(sizeof(*k), "i8042", &i8042_state, i8042_reset, NULL);

	if (!k)
		return -ENOMEM;
	k->irq[PS2_KBD] = cfg->kbd;
	k->irq[PS2_MOUSE] = cfg->mouse;
	k->requests = cfg->requests;
	device_region(&k->dev, "i8042-data", BUS_PIO, 0x60, 1, &data_ops);
	device_region(&k->dev, "i8042-command", BUS_PIO, 0x64, 1, &command_ops);
	i8042_reset(k);
	*ret = k;
	return 0;
}
