/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/device/test_xhci.c - a driver's view: ports, slots, control transfers, reports that
 * are waited for, stalls, stopping, what is refused, and all of it saved in the middle and loaded
 */
#include "device/usb_hid.h"
#include "device/xhci.h"

#include "fake.h"

#define BAR      0xfe000000u
#define DCBAA    0x1000u
#define ERST     0x1100u
#define COMMANDS 0x2000u
#define EVENTS   0x3000u
#define INPUT    0x4000u
#define CONTEXT  0x5000u /* of slot n: 400h each */
#define RING     0x6000u /* control of slot n, then interrupt: 400h each */
#define DATA     0x9000u
#define ENTRIES  16u
#define RUN_INTE 5u

static struct fake_clock clk;
static struct gmem *mem;
static struct bus *bus;
static struct pci_bus *pci;
static struct pci_dev *xhci;
static bool line;
static unsigned int n_command, n_event, n_ring[2]; /* TRBs used so far */

static void no_msi(void *opaque, uint64_t addr, uint32_t data)
{
}

static void intx(void *opaque, unsigned int pin, bool level)
{
	line = level;
}

static uint32_t rd(unsigned int off)
{
	return (uint32_t)bus_read(bus, BUS_MMIO, BAR + off, 4);
}

static void wr(unsigned int off, uint32_t v)
{
	bus_write(bus, BUS_MMIO, BAR + off, 4, v);
}

static void put32(uint64_t gpa, uint32_t v)
{
	CHECK_EQ(gmem_write(mem, gpa, &v, 4), 0);
}

static uint32_t get32(uint64_t gpa)
{
	uint32_t v;

	CHECK_EQ(gmem_read(mem, gpa, &v, 4), 0);
	return v;
}

static void put_trb(uint64_t gpa, uint64_t parameter, uint32_t status, uint32_t control)
{
	put32(gpa, (uint32_t)parameter);
	put32(gpa + 4, (uint32_t)(parameter >> 32));
	put32(gpa + 8, status);
	put32(gpa + 12, control);
}

/* --- the driver --- */

struct event {
	uint64_t parameter;
	uint32_t length, code, type, slot, ep;
};

/* The next event; the ring goes round after ENTRIES. */
static bool next_event(struct event *e)
{
	uint64_t at = EVENTS + 16 * (n_event % ENTRIES);
	uint32_t status = get32(at + 8), control = get32(at + 12);

	if ((control & 1) == (n_event / ENTRIES & 1))
		return false;
	*e = (struct event){get32(at),          status & 0xffffff, status >> 24,
			    control >> 10 & 63, control >> 24,     control >> 16 & 31};
	n_event++;
	wr(0x1038, (uint32_t)(EVENTS + 16 * (n_event % ENTRIES)) | 8);
	return true;
}

static struct event expect(unsigned int type, unsigned int code)
{
	struct event e;

	CHECK(next_event(&e));
	CHECK_EQ(e.type, type);
	CHECK_EQ(e.code, code);
	return e;
}

static struct event command(unsigned int type, uint64_t parameter, uint32_t rest, unsigned int code)
{
	uint64_t at = COMMANDS + 16 * n_command++;
	struct event e;

	put_trb(at, parameter, 0, rest | type << 10 | 1);
	wr(0x2000, 0);
	e = expect(33, code);
	CHECK_EQ(e.parameter, at);
	return e;
}

static uint64_t ring_at(unsigned int which)
{
	return RING + 0x400u * which;
}

static void queue(unsigned int which, uint64_t parameter, uint32_t status, uint32_t control)
{
	put_trb(ring_at(which) + 16 * n_ring[which]++, parameter, status, control | 1);
}

/* A control transfer of @len bytes at DATA; its last event. */
static struct event control(uint64_t setup, uint32_t len, bool in)
{
	struct event e = {0};
	bool more = true;

	queue(0, setup | (uint64_t)len << 48, 8, 2 << 10 | 0x40);
	if (len)
		queue(0, DATA, len, 3 << 10 | (in ? 1 << 16 : 0) | 4);
	queue(0, 0, 0, 4 << 10 | 0x20);
	wr(0x2004, 1);
	for (unsigned int i = 0; i < 3 && more; i++)
		more = next_event(&e);
	return e;
}

static void build(void)
{
	struct xhci_config cfg = {.mem = mem, .timers = &clk.q, .tablet = true, .keyboard = true};
	struct err e = {0};

	CHECK_EQ(bus_new(&bus), 0);
	CHECK_EQ(
	    pci_bus_new(bus, (struct irq){intx, NULL, 0}, (struct msi_sink){no_msi, NULL}, &pci),
	    0);
	CHECK_EQ(xhci_new(&cfg, &xhci, &e), 0);
	CHECK_EQ(pci_plug(pci, xhci, 8, &e), 0);
	pci_config_write(pci, 8, PCI_BAR0, 4, BAR);
	pci_config_write(pci, 8, PCI_COMMAND, 2, 7);
}

/* Up to a running controller with empty rings. */
static void start(void)
{
	static const uint8_t zeroes[0x8000];

	CHECK_EQ(gmem_write(mem, 0x1000, zeroes, sizeof(zeroes)), 0);
	n_command = n_event = n_ring[0] = n_ring[1] = 0;
	wr(0x40, 2);
	CHECK_EQ(rd(0x44), 1); /* halted, ready */
	put32(DCBAA + 8, CONTEXT);
	put32(DCBAA + 16, CONTEXT + 0x400);
	wr(0x70, DCBAA);
	wr(0x74, 0);
	wr(0x58, COMMANDS | 1);
	wr(0x5c, 0);
	wr(0x78, 8);
	put32(ERST, EVENTS);
	put32(ERST + 8, ENTRIES);
	wr(0x1028, 1);
	wr(0x1038, EVENTS);
	wr(0x1030, ERST);
	wr(0x1034, 0);
	wr(0x1020, 2);
	wr(0x40, RUN_INTE);
	expect(34, 1); /* two ports have something */
	expect(34, 1);
	CHECK(line);
	wr(0x1020, 3);
	CHECK(!line);
}

static void address(void)
{
	wr(0x440, 0x200 | 1 << 4);
	CHECK_EQ(expect(34, 1).parameter, 1 << 24);
	CHECK_EQ(rd(0x440) & 0x3fff, 0xe03); /* there, enabled, U0, powered, high speed */
	CHECK_EQ(command(9, 0, 0, 1).slot, 1);
	put32(INPUT + 4, 3);
	put32(INPUT + 0x20, 3 << 20 | 1 << 27);
	put32(INPUT + 0x24, 1 << 16);
	put32(INPUT + 0x44, 64 << 16 | 4 << 3);
	put32(INPUT + 0x48, (uint32_t)ring_at(0) | 1);
	command(11, INPUT, 1 << 24, 1);
	CHECK_EQ(get32(CONTEXT + 12) >> 27, 2);
	CHECK_EQ(get32(CONTEXT + 0x20) & 7, 1);
}

static void configure(void)
{
	CHECK_EQ(control(0x00010900, 0, false).code, 1);
	put32(INPUT + 4, 1 | 1 << 3);
	put32(INPUT + 0x20, 3 << 20 | 3u << 27);
	put32(INPUT + 0x84, 8 << 16 | 7 << 3);
	put32(INPUT + 0x88, (uint32_t)ring_at(1) | 1);
	command(12, INPUT, 1 << 24, 1);
	CHECK_EQ(get32(CONTEXT + 12) >> 27, 3);
}

/* --- what is tested --- */

static void test_registers(void)
{
	CHECK_EQ(rd(0), 0x01000040);
	CHECK_EQ(bus_read(bus, BUS_MMIO, BAR, 1), 0x40);
	CHECK_EQ(rd(4), 8 << 24 | 1 << 8 | 8);
	CHECK_EQ(rd(0x24), 0x20425355); /* "USB " */
	CHECK_EQ(rd(0x1000), (uint32_t)(clk.now / 125000) & 0x3fff);
	CHECK_EQ(rd(0x480) & 1, 0); /* nothing on USB 3 */
}

static void test_control(void)
{
	struct event e;
	uint8_t d[18];

	address();
	e = control(0x01000680, 18, true);
	CHECK(e.code == 1 && e.type == 32 && e.ep == 1);
	CHECK_EQ(gmem_read(mem, DATA, d, 18), 0);
	CHECK(d[0] == 18 && d[1] == 1 && d[17] == 1);
	/* Shorter than asked for: told once for the data, once for the status. */
	queue(0, 0x01000680 | UINT64_C(64) << 48, 8, 2 << 10 | 0x40);
	queue(0, DATA, 64, 3 << 10 | 1 << 16 | 4);
	queue(0, 0, 0, 4 << 10 | 0x20);
	wr(0x2004, 1);
	CHECK_EQ(expect(32, 13).length, 64 - 18);
	expect(32, 1);
	/* No such descriptor. */
	CHECK_EQ(control(0x0f000680, 4, true).code, 6);
	CHECK_EQ(get32(CONTEXT + 0x20) & 7, 2);
	command(14, 0, 1 << 24 | 1 << 16, 1);
	command(16, (ring_at(0) + 16 * n_ring[0]) | 1, 1 << 24 | 1 << 16, 1);
	CHECK_EQ(control(0x00000880, 1, true).code, 1); /* not configured */
	CHECK_EQ(get32(DATA) & 0xff, 0);
	configure();
}

static void test_refused(void)
{
	command(11, INPUT, 1 << 24, 17);       /* flags of another command */
	command(12, INPUT, 5 << 24, 11);       /* no such slot */
	command(14, 0, 1 << 24 | 3 << 16, 19); /* it is not halted */
	command(15, 0, 1 << 24 | 5 << 16, 12); /* it is not there */
	command(18, 0, 0, 11);
	command(23, 0, 0, 1);
}

static void test_tablet(void)
{
	uint8_t report[8];

	CHECK(!xhci_has_tablet(xhci)); /* nobody polls yet */
	queue(1, DATA, 8, 1 << 10 | 0x24);
	wr(0x2004, 3);
	CHECK(xhci_has_tablet(xhci) && !xhci_has_keyboard(xhci));
	CHECK(xhci_move(xhci, 100, 40000, 0, 1));
	CHECK_EQ(expect(32, 13).length, 2); /* six bytes of eight */
	CHECK_EQ(gmem_read(mem, DATA, report, 6), 0);
	CHECK_EQ(memcmp(report, "\1\x64\0\xff\x7f\0", 6), 0);
	/* What comes meanwhile waits; motion joins motion. */
	CHECK(xhci_move(xhci, 1, 2, 0, 1));
	CHECK(xhci_move(xhci, 3, 4, 0, 1));
	CHECK(xhci_move(xhci, 3, 4, 1, 0));
	queue(1, DATA, 8, 1 << 10 | 0x24);
	queue(1, DATA + 16, 8, 1 << 10 | 0x24);
	queue(1, DATA + 32, 8, 1 << 10 | 0x24);
	wr(0x2004, 3);
	expect(32, 13);
	expect(32, 13);
	CHECK_EQ(get32(DATA), 0x04000301);
	CHECK_EQ(get32(DATA + 16), 0x04000300);
	CHECK_EQ(get32(DATA + 20) & 0xffff, 0xff00); /* the wheel, towards the person */
	put_trb(COMMANDS + 16 * n_command++, 0, 0, 1 << 24 | 3 << 16 | 15 << 10 | 1);
	wr(0x2000, 0);
	expect(32, 26);
}

/* Found by fuzzing: a state that was refused left its ids behind, and no state was good any more.
 */
static void load_another_device(const struct strbuf *state)
{
	struct strbuf copy = {0};
	size_t used;
	char *ids;

	strbuf_add(&copy, state->data, state->len);
	ids = memmem(copy.data, copy.len, "\x36\x1b\x0d\0", 4);
	CHECK(ids);
	*ids = 0;
	CHECK(pci_dev_load(xhci, copy.data, copy.len, &used, NULL) < 0);
	strbuf_fini(&copy);
}

/* Stopped with a poll under way; the same again after the state was loaded elsewhere. */
static void test_stop_and_load(void)
{
	struct strbuf state = {0};
	struct err e = {0};
	unsigned int taken = 0;
	size_t used;

	expect(33, 1);
	CHECK(!xhci_has_tablet(xhci));
	for (unsigned int i = 0; i < 40; i++)
		taken += xhci_move(xhci, i, i, 0, i & 1);
	CHECK_EQ(taken, USB_HID_QUEUE + 12); /* every second one then joins the last */
	pci_dev_save(xhci, &state);
	pci_bus_free(pci);
	bus_free(bus);
	build();
	load_another_device(&state);
	CHECK_EQ(pci_dev_load(xhci, state.data, state.len, &used, &e), 0);
	CHECK_EQ(used, state.len);
	wr(0x2004, 3); /* the poll that was stopped goes on */
	expect(32, 13);
	CHECK_EQ(get32(DATA + 32), 0);
	CHECK(xhci_has_tablet(xhci));
	strbuf_fini(&state);
	command(10, 0, 1 << 24, 1);
	CHECK(!xhci_has_tablet(xhci));
}

/* A ring that leads to itself, and one outside of memory. */
static void test_hostile(void)
{
	struct event e;

	start();
	put_trb(COMMANDS, COMMANDS, 0, 6 << 10 | 1);
	wr(0x2000, 0);
	CHECK(!next_event(&e));
	wr(0x40, 2);
	start();
	put32(ERST + 4, 0xff);
	wr(0x1034, 0);
	put_trb(COMMANDS, 0, 0, 23 << 10 | 1);
	wr(0x2000, 0);
	CHECK_EQ(rd(0x44) & 0x1001, 0x1001); /* host controller error */
}

static void test_keyboard(void)
{
	struct usb_hid h;
	uint8_t r[USB_HID_REPORT];

	usb_hid_init(&h, USB_KEYBOARD);
	h.configuration = 1;
	CHECK(usb_keyboard_key(&h, 0xe1, true) && usb_keyboard_key(&h, 4, true));
	CHECK(usb_keyboard_key(&h, 5, true) && usb_keyboard_key(&h, 4, false));
	CHECK_EQ(usb_hid_poll(&h, r), 8);
	CHECK_EQ(memcmp(r, "\2\0\0\0\0\0\0\0", 8), 0);
	CHECK_EQ(usb_hid_poll(&h, r), 8);
	CHECK_EQ(memcmp(r, "\2\0\4\0\0\0\0\0", 8), 0);
	CHECK_EQ(usb_hid_poll(&h, r), 8);
	CHECK_EQ(usb_hid_poll(&h, r), 8);
	CHECK_EQ(memcmp(r, "\2\0\5\0\0\0\0\0", 8), 0);
	CHECK_EQ(usb_hid_poll(&h, r), -1);
	for (uint8_t i = 10; i < 16; i++)
		CHECK(usb_keyboard_key(&h, i, true));
	for (unsigned int i = 0; i < 6; i++)
		CHECK_EQ(usb_hid_poll(&h, r), 8);
	CHECK_EQ(memcmp(r, "\2\0\1\1\1\1\1\1", 8), 0); /* too many at once */
}

int main(void)
{
	fake_clock_init(&clk);
	CHECK_EQ(gmem_new(1 << 20, UINT64_C(1) << 31, &mem, NULL), 0);
	build();
	test_registers();
	start();
	test_control();
	test_refused();
	test_tablet();
	test_stop_and_load();
	test_hostile();
	test_keyboard();
	pci_bus_free(pci);
	bus_free(bus);
	gmem_free(mem);
	return 0;
}
