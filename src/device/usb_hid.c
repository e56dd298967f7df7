/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/usb_hid.c - descriptors, requests and reports of tablet and keyboard
 */
#include "device/usb_hid.h"

#include <errno.h>

enum {
	GET_STATUS = 0,
	CLEAR_FEATURE = 1,
	SET_FEATURE = 3,
	GET_DESCRIPTOR = 6,
	GET_CONFIGURATION = 8,
	SET_CONFIGURATION = 9,
	GET_INTERFACE = 10,
	SET_INTERFACE = 11,
};
enum { /* HID 1.11, 7.2 */
       GET_REPORT = 1,
       GET_IDLE = 2,
       GET_PROTOCOL = 3,
       SET_REPORT = 9,
       SET_IDLE = 10,
       SET_PROTOCOL = 11,
};
enum { DEVICE = 1, CONFIGURATION = 2, STRING = 3, HID = 0x21, REPORT = 0x22 };

#define REMOTE_WAKEUP   1 /* feature */
#define USAGE_LEFT_CTRL 0xe0u
#define ROLL_OVER       1 /* usage: too many keys */
#define KEYS            6u

/* bmRequestType: direction, kind and recipient */
#define TYPE(direction, kind, to) ((direction) | (kind) << 5 | (to))
#define IN                        0x80
#define OUT                       0
#define STANDARD                  0
#define CLASS                     1
#define TO_DEVICE                 0
#define TO_INTERFACE              1
#define TO_ENDPOINT               2
#define REQUEST(type, request)    ((unsigned int)(type) << 8 | (request))

static const uint8_t device_descriptor[] = {
    18,   DEVICE, 0x00, 0x02, 0, 0, 0, 64, /* USB 2.0; 64 bytes a packet */
    0x27, 0x06,   0x01, 0x00,              /* 0627:0001, as QEMU's are: known to udev */
    0x00, 0x01,   1,    2,    3, 1,
};

/* 6 bytes: buttons, x, y, wheel */
static const uint8_t tablet_report[] = {
    0x05, 0x01, 0x09, 0x02, 0xa1, 0x01,                         /* desktop, mouse, collection */
    0x09, 0x01, 0xa1, 0x00,                                     /* pointer, collection */
    0x05, 0x09, 0x19, 0x01, 0x29, 0x03, 0x15, 0x00, 0x25, 0x01, /* buttons 1 to 3, 0 or 1 */
    0x75, 0x01, 0x95, 0x03, 0x81, 0x02,                         /* a bit each */
    0x75, 0x05, 0x95, 0x01, 0x81, 0x03,                         /* filled up to a byte */
    0x05, 0x01, 0x09, 0x30, 0x09, 0x31, 0x15, 0x00, 0x26, 0xff, 0x7f, /* x, y: 0 to 32767 */
    0x35, 0x00, 0x46, 0xff, 0x7f, 0x75, 0x10, 0x95, 0x02, 0x81, 0x02, /* 16 bits, absolute */
    0x09, 0x38, 0x15, 0x81, 0x25, 0x7f, 0x35, 0x00, 0x45, 0x00,       /* wheel: -127 to 127 */
    0x75, 0x08, 0x95, 0x01, 0x81, 0x06, 0xc0, 0xc0,                   /* relative */
};

/* 8 bytes: modifiers, nothing, six keys */
static const uint8_t keyboard_report[] = {
    0x05, 0x01, 0x09, 0x06, 0xa1, 0x01,                         /* desktop, keyboard, collection */
    0x05, 0x07, 0x19, 0xe0, 0x29, 0xe7, 0x15, 0x00, 0x25, 0x01, /* keys: the modifiers, 0 or 1 */
    0x75, 0x01, 0x95, 0x08, 0x81, 0x02,                         /* a bit each */
    0x75, 0x08, 0x95, 0x01, 0x81, 0x03,                         /* a byte for nothing */
    0x05, 0x08, 0x19, 0x01, 0x29, 0x05, 0x75, 0x01, 0x95, 0x05, 0x91, 0x02, /* LEDs: out */
    0x75, 0x03, 0x95, 0x01, 0x91, 0x03, /* filled up to a byte */
    0x05, 0x07, 0x19, 0x00, 0x2a, 0xff, 0x00, 0x15, 0x00, 0x26, 0xff, 0x00, /* any key */
    0x75, 0x08, 0x95, 0x06, 0x81, 0x00, 0xc0,                               /* six of them */
};

static const struct {
	const char *name;
	uint8_t report_len, subclass, interval; /* interval: 2^(n-1) microframes */
	const uint8_t *descriptor;
	uint8_t descriptor_len;
} kinds[] = {
    [USB_TABLET] = {"USB Tablet", 6, 0, 6, tablet_report, sizeof(tablet_report)},
    [USB_KEYBOARD] = {"USB Keyboard", 8, 1, 7, keyboard_report, sizeof(keyboard_report)},
};

void usb_hid_init(struct usb_hid *h, enum usb_hid_kind kind)
{
	*h = (struct usb_hid){.kind = kind};
	usb_hid_reset(h);
}

void usb_hid_reset(struct usb_hid *h)
{
	h->configuration = h->idle = h->leds = h->head = h->n = 0;
	h->protocol = 1; /* not the boot protocol */
	h->remote_wakeup = false;
	memset(h->report, 0, sizeof(h->report));
}

/* --- descriptors --- */

static int put_string(const char *text, uint8_t *data)
{
	unsigned int n = 2;

	for (; *text; text++) {
		data[n++] = (uint8_t)*text;
		data[n++] = 0;
	}
	data[0] = (uint8_t)n;
	data[1] = STRING;
	return (int)n;
}

static int string_descriptor(const struct usb_hid *h, unsigned int index, uint8_t *data)
{
	switch (index) {
	case 0: /* languages: US English */
		memcpy(data, "\4\3\x09\4", 4);
		return 4;
	case 1:
		return put_string("Insula", data);
	case 2:
		return put_string(kinds[h->kind].name, data);
	case 3:
		return put_string("1", data);
	}
	return -1;
}

static int configuration_descriptor(const struct usb_hid *h, uint8_t *data)
{
	const uint8_t keyboard = h->kind == USB_KEYBOARD;
	/* clang-format off */
	const uint8_t d[] = {
	    9, CONFIGURATION, 34, 0, 1, 1, 0, 0xa0, 50,	/* remote wake-up, 100 mA */
	    9, 4, 0, 0, 1, 3, kinds[h->kind].subclass, keyboard, 0,
	    9, HID, 0x11, 0x01, 0, 1, REPORT, kinds[h->kind].descriptor_len, 0,
	    7, 5, 0x81, 3, USB_HID_REPORT, 0, kinds[h->kind].interval,
	};
	/* clang-format on */

	_Static_assert(sizeof(d) == 34, "its own length");
	memcpy(data, d, sizeof(d));
	return sizeof(d);
}

static int get_descriptor(const struct usb_hid *h, uint16_t value, uint8_t *data)
{
	switch (value >> 8) {
	case DEVICE:
		memcpy(data, device_descriptor, sizeof(device_descriptor));
		return sizeof(device_descriptor);
	case CONFIGURATION:
		return value & 0xff ? -1 : configuration_descriptor(h, data);
	case STRING:
		return string_descriptor(h, value & 0xff, data);
	case HID:
		configuration_descriptor(h, data);
		memmove(data, data + 18, 9);
		return 9;
	case REPORT:
		memcpy(data, kinds[h->kind].descriptor, kinds[h->kind].descriptor_len);
		return kinds[h->kind].descriptor_len;
	}
	return -1;
}

/* --- requests --- */

static int set_configuration(struct usb_hid *h, uint16_t value)
{
	if (value > 1)
		return -1;
	h->configuration = (uint8_t)value;
	h->n = 0;
	return 0;
}

static int answer_byte(uint8_t *data, uint8_t value)
{
	data[0] = value;
	return 1;
}

static int get_report(const struct usb_hid *h, uint8_t *data)
{
	memcpy(data, h->report, USB_HID_REPORT);
	return kinds[h->kind].report_len;
}

static int set_feature(struct usb_hid *h, uint16_t feature, bool on)
{
	if (feature != REMOTE_WAKEUP)
		return -1;
	h->remote_wakeup = on;
	return 0;
}

static int do_control(struct usb_hid *h, const struct usb_setup *s, uint8_t *data)
{
	switch (REQUEST(s->type, s->request)) {
	case REQUEST(TYPE(IN, STANDARD, TO_DEVICE), GET_DESCRIPTOR):
	case REQUEST(TYPE(IN, STANDARD, TO_INTERFACE), GET_DESCRIPTOR):
		return get_descriptor(h, s->value, data);
	case REQUEST(TYPE(IN, STANDARD, TO_DEVICE), GET_STATUS):
		store_le16(data, h->remote_wakeup ? 2 : 0);
		return 2;
	case REQUEST(TYPE(IN, STANDARD, TO_INTERFACE), GET_STATUS):
	case REQUEST(TYPE(IN, STANDARD, TO_ENDPOINT), GET_STATUS):
		store_le16(data, 0);
		return 2;
	case REQUEST(TYPE(OUT, STANDARD, TO_DEVICE), SET_FEATURE):
		return set_feature(h, s->value, true);
	case REQUEST(TYPE(OUT, STANDARD, TO_DEVICE), CLEAR_FEATURE):
		return set_feature(h, s->value, false);
	case REQUEST(TYPE(OUT, STANDARD, TO_ENDPOINT), CLEAR_FEATURE): /* it never halts */
		return 0;
	case REQUEST(TYPE(IN, STANDARD, TO_DEVICE), GET_CONFIGURATION):
		return answer_byte(data, h->configuration);
	case REQUEST(TYPE(OUT, STANDARD, TO_DEVICE), SET_CONFIGURATION):
		return set_configuration(h, s->value);
	case REQUEST(TYPE(IN, STANDARD, TO_INTERFACE), GET_INTERFACE):
		return answer_byte(data, 0);
	case REQUEST(TYPE(OUT, STANDARD, TO_INTERFACE), SET_INTERFACE):
		return s->value ? -1 : 0;
	case REQUEST(TYPE(IN, CLASS, TO_INTERFACE), GET_REPORT):
		return get_report(h, data);
	case REQUEST(TYPE(OUT, CLASS, TO_INTERFACE), SET_REPORT):
		if (h->kind == USB_KEYBOARD && s->length)
			h->leds = data[0];
		return h->kind == USB_KEYBOARD ? 0 : -1;
	case REQUEST(TYPE(IN, CLASS, TO_INTERFACE), GET_IDLE):
		return answer_byte(data, h->idle);
	case REQUEST(TYPE(OUT, CLASS, TO_INTERFACE), SET_IDLE):
		h->idle = (uint8_t)(s->value >> 8);
		return 0;
	case REQUEST(TYPE(IN, CLASS, TO_INTERFACE), GET_PROTOCOL):
		return answer_byte(data, h->protocol);
	case REQUEST(TYPE(OUT, CLASS, TO_INTERFACE), SET_PROTOCOL):
		h->protocol = s->value & 1;
		return 0;
	}
	return -1;
}

int usb_hid_control(struct usb_hid *h, const struct usb_setup *s, uint8_t *data)
{
	int n = do_control(h, s, data);

	return s->type & IN && n > s->length ? s->length : n;
}

/* --- reports --- */

static uint8_t *queued(struct usb_hid *h, unsigned int i)
{
	return h->queue + (h->head + i) % USB_HID_QUEUE * USB_HID_REPORT;
}

int usb_hid_poll(struct usb_hid *h, uint8_t data[USB_HID_REPORT])
{
	if (!h->n || !h->configuration)
		return -1;
	memcpy(data, queued(h, 0), USB_HID_REPORT);
	h->head = (h->head + 1) % USB_HID_QUEUE;
	h->n--;
	return kinds[h->kind].report_len;
}

static bool put_report(struct usb_hid *h, const uint8_t report[USB_HID_REPORT])
{
	if (h->n == USB_HID_QUEUE)
		return false;
	memcpy(queued(h, h->n++), report, USB_HID_REPORT);
	return true;
}

bool usb_tablet_move(struct usb_hid *h, unsigned int x, unsigned int y, int dz,
		     unsigned int buttons)
{
	uint8_t report[USB_HID_REPORT] = {buttons & 7};
	uint8_t *last = h->n ? queued(h, h->n - 1u) : NULL;

	store_le16(report + 1, (uint16_t)MIN(x, USB_TABLET_MAX));
	store_le16(report + 3, (uint16_t)MIN(y, USB_TABLET_MAX));
	report[5] = (uint8_t)(int8_t)MAX(-127, MIN(127, -dz)); /* HID's wheel: away is up */
	if (last && last[0] == report[0] && !last[5] && !report[5])
		memcpy(last, report, USB_HID_REPORT);
	else if (!put_report(h, report))
		return false;
	report[5] = 0; /* motion, not a place */
	memcpy(h->report, report, USB_HID_REPORT);
	return true;
}

/* The six places of keys; releases of what did not fit are nobody's. */
static void change_keys(uint8_t *keys, uint8_t usage, bool down)
{
	for (unsigned int i = 0; i < KEYS; i++)
		if (keys[i] == usage) {
			if (down)
				return;
			memmove(keys + i, keys + i + 1, KEYS - 1 - i);
			keys[KEYS - 1] = 0;
			return;
		}
	for (unsigned int i = 0; i < KEYS && down; i++)
		if (!keys[i]) {
			keys[i] = usage;
			return;
		}
	if (down)
		memset(keys, ROLL_OVER, KEYS);
}

bool usb_keyboard_key(struct usb_hid *h, uint8_t usage, bool down)
{
	uint8_t report[USB_HID_REPORT];

	memcpy(report, h->report, sizeof(report));
	if (report[2] == ROLL_OVER)
		memset(report + 2, 0, KEYS);
	if (usage >= USAGE_LEFT_CTRL && usage < USAGE_LEFT_CTRL + 8) {
		uint8_t bit = (uint8_t)(1u << (usage - USAGE_LEFT_CTRL));

		report[0] = (uint8_t)(down ? report[0] | bit : report[0] & ~bit);
	} else {
		change_keys(report + 2, usage, down);
	}
	if (!put_report(h, report))
		return false;
	memcpy(h->report, report, sizeof(report));
	return true;
}

/* --- saved state --- */

static const struct state_field fields[] = {
    STATE_FIELD(struct usb_hid, configuration, 1),
    STATE_FIELD(struct usb_hid, protocol, 1),
    STATE_FIELD(struct usb_hid, idle, 1),
    STATE_FIELD(struct usb_hid, leds, 1),
    STATE_FIELD(struct usb_hid, remote_wakeup, 1),
    STATE_ARRAY(struct usb_hid, report, 1),
    STATE_ARRAY(struct usb_hid, queue, 1),
    STATE_FIELD(struct usb_hid, head, 1),
    STATE_FIELD(struct usb_hid, n, 1),
};

static int loaded(void *opaque, struct err *e)
{
	const struct usb_hid *h = opaque;

	if (h->head >= USB_HID_QUEUE || h->n > USB_HID_QUEUE)
		return err_msg(e, -EINVAL, "usb-hid: queue at %u of %u", h->head, h->n);
	return 0;
}

const struct state_table usb_hid_state_table = {
    .name = "usb-hid",
    .version = 1,
    .fields = fields,
    .n_fields = ARRAY_SIZE(fields),
    .loaded = loaded,
};
