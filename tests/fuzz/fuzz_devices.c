/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/fuzz/fuzz_devices.c - hostile port, MMIO and MSR accesses to all chips, wired as on a board
 *
 * Each input is a sequence of steps: accesses to the chips' addresses and anywhere else, time that
 * passes, lines that change, bytes from outside, saved states with flipped bits.  Nothing may
 * fault, and no timer may fire more often than its documented least period allows.
 */
#include "fuzz.h"

#include "base/clock.h"
#include "device/acpi_pm.h"
#include "device/fw_cfg.h"
#include "device/hpet.h"
#include "device/i8042.h"
#include "device/ich9_lpc.h"
#include "device/ioapic.h"
#include "device/isa_ports.h"
#include "device/lapic.h"
#include "device/pc_testdev.h"
#include "device/pic_i8259.h"
#include "device/pit_i8254.h"
#include "device/q35_mch.h"
#include "device/rtc_mc146818.h"
#include "device/uart16550.h"
#include "test.h"

#define CPUS      2
#define DEVICES   16
#define STEPS_MAX 2000
#define LEAST_NS  UINT64_C(50000)
#define TIMERS    16

static struct {
	uint64_t now;
	struct timerq timers;
	struct bus *bus;
	struct gmem *mem;
	struct apic_bus *apics;
	struct lapic *lapic[CPUS];
	struct ioapic *ioapic;
	struct pic *pic;
	struct pit *pit;
	struct rtc *rtc;
	struct hpet *hpet;
	struct acpi_pm *pm;
	struct i8042 *kbd;
	struct uart16550 *uart;
	struct fw_cfg *fw_cfg;
	struct pci_bus *pci;
	struct ich9_lpc *lpc;
	struct q35_mch *mch;
	struct pci_dev *card;
	struct chardev chr;
	size_t room;
	struct device *dev[DEVICES];
	unsigned int n_devices;
} m;

static uint64_t now(void *opaque)
{
	return m.now;
}

static uint64_t wall(void *opaque)
{
	return UINT64_C(1700000000) * NSEC_PER_SEC + m.now;
}

static void nothing(void *opaque, enum machine_request what, uint32_t arg)
{
}

static void gsi_set(void *opaque, unsigned int pin, bool level)
{
	struct irq irq;

	CHECK(pin < IOAPIC_PINS);
	irq = ioapic_irq(m.ioapic, pin);
	irq_set(&irq, level);
	if (pin < 16 && pin != 2) {
		irq = pic_irq(m.pic, pin);
		irq_set(&irq, level);
	}
}

static void pic_set(void *opaque, unsigned int pin, bool level)
{
	struct irq irq = pic_irq(m.pic, pin);

	irq_set(&irq, level);
}

static struct irq gsi(unsigned int pin)
{
	return (struct irq){gsi_set, NULL, pin};
}

static void lpc_pm_moved(void *opaque, uint16_t base)
{
	if (m.pm)
		acpi_pm_move(m.pm, base);
}

static void legacy(void *opaque, bool on)
{
	pit_disconnect(m.pit, on);
	rtc_disconnect(m.rtc, on);
}

static size_t chr_write(void *backend, const void *buf, size_t len)
{
	size_t n = MIN(len, m.room);

	m.room -= n;
	return n;
}

static const struct chardev_ops chr_ops = {.write = chr_write};

static int extint(void *opaque)
{
	return pic_ack(m.pic);
}

static uint64_t card_read(void *opaque, uint64_t off, unsigned int size)
{
	return off < 0x800 ? pci_msix_read(m.card, off, size, false)
			   : pci_msix_read(m.card, off - 0x800, size, true);
}

static void card_write(void *opaque, uint64_t off, unsigned int size, uint64_t value)
{
	if (off < 0x800)
		pci_msix_write(m.card, off, size, value);
}

static void card_free(struct pci_dev *d)
{
	pci_dev_fini(d);
	free(d);
}

static const struct bus_ops card_bar = {.read = card_read, .write = card_write};
static const struct pci_ops card_ops = {.free = card_free};

static void add(struct device *d)
{
	CHECK(m.n_devices < DEVICES);
	m.dev[m.n_devices++] = d;
	device_attach(d, m.bus);
}

static void build_interrupts(void)
{
	CHECK_EQ(apic_bus_new(CPUS, &m.apics), 0);
	for (unsigned int i = 0; i < CPUS; i++) {
		struct lapic_config cfg = {.id = i,
					   .bsp = i == 0,
					   .bus = m.apics,
					   .timers = &m.timers,
					   .tsc_hz = 2 * NSEC_PER_SEC,
					   .guest_tsc = now,
					   .extint_ack = extint};

		CHECK_EQ(lapic_new(&cfg, &m.lapic[i]), 0);
	}
	lapic_virtual_wire(m.lapic[0]);
	CHECK_EQ(ioapic_new(&(struct ioapic_config){.msi = apic_bus_msi(m.apics)}, &m.ioapic), 0);
	apic_bus_on_eoi(m.apics, ioapic_eoi, m.ioapic);
	CHECK_EQ(pic_new(&(struct pic_config){lapic_lint(m.lapic[0], 0)}, &m.pic), 0);
	add(&m.ioapic->dev);
	add(&m.pic->dev);
}

static void build_clocks(void)
{
	struct hpet_config hpet = {.timers = &m.timers,
				   .gsi = gsi(0),
				   .legacy_irq0 = gsi(0),
				   .legacy_irq8 = gsi(8),
				   .msi = apic_bus_msi(m.apics),
				   .legacy = legacy};
	struct rtc_config rtc = {.irq = gsi(8), .timers = &m.timers, .wall = wall};

	CHECK_EQ(pit_new(&(struct pit_config){gsi(0), &m.timers}, &m.pit), 0);
	CHECK_EQ(rtc_new(&rtc, &m.rtc), 0);
	CHECK_EQ(hpet_new(&hpet, &m.hpet), 0);
	add(&m.pit->dev);
	add(&m.rtc->dev);
	add(&m.hpet->dev);
}

static void build_rest(void)
{
	struct request_sink requests = {nothing, NULL};
	struct uart16550_config uart = {
	    .name = "com1", .port = 0x3f8, .irq = gsi(4), .timers = &m.timers, .chr = &m.chr};
	struct acpi_pm_config pm = {
	    .base = 0x600, .sci = gsi(9), .timers = &m.timers, .requests = requests};
	struct device *d[6];

	m.chr.ops = &chr_ops;
	CHECK_EQ(uart16550_new(&uart, &m.uart), 0);
	CHECK_EQ(acpi_pm_new(&pm, &m.pm), 0);
	CHECK_EQ(i8042_new(&(struct i8042_config){gsi(1), gsi(12), requests}, &m.kbd), 0);
	CHECK_EQ(fw_cfg_new(m.mem, &m.fw_cfg), 0);
	CHECK_EQ(fw_cfg_add_file(m.fw_cfg, "etc/file", "0123456789", 10), 0);
	CHECK_EQ(port92_new(requests, &d[0]), 0);
	CHECK_EQ(port80_new(&d[1]), 0);
	CHECK_EQ(debugcon_new(0x402, NULL, &d[2]), 0);
	CHECK_EQ(debug_exit_new(0xf4, requests, &d[3]), 0);
	CHECK_EQ(pvpanic_new(requests, &d[4]), 0);
	CHECK_EQ(pc_testdev_new(&(struct pc_testdev_config){gsi(0)}, &d[5]), 0);
	add(&m.uart->dev);
	add(&m.pm->dev);
	add(&m.kbd->dev);
	add(fw_cfg_device(m.fw_cfg));
	for (size_t i = 0; i < ARRAY_SIZE(d); i++)
		add(d[i]);
}

static void build_pci(void)
{
	struct ich9_lpc_config lpc = {
	    .gsi = gsi(0), .isa = {pic_set, NULL, 0}, .pm_moved = lpc_pm_moved};

	CHECK_EQ(ich9_lpc_new(&lpc, &m.lpc), 0);
	CHECK_EQ(q35_mch_new(&(struct q35_mch_config){0}, &m.mch), 0);
	CHECK_EQ(pci_bus_new(m.bus, ich9_lpc_intx(m.lpc), apic_bus_msi(m.apics), &m.pci), 0);
	m.card = xnew(struct pci_dev);
	pci_dev_init(m.card, &card_ops, "card", 0x1af4, 0x1041, 0x02000001, 0x1af4, 0x1100);
	m.card->config[PCI_INTERRUPT_PIN] = 1;
	pci_add_bar(m.card, 0, 0x1000, false, true, false, &card_bar, NULL);
	pci_add_bar(m.card, 2, 0x20, true, false, false, &card_bar, NULL);
	CHECK_EQ(pci_add_msix(m.card, 3, 0, 0, 0x800), 0);
	CHECK_EQ(pci_plug(m.pci, &m.mch->pci, 0, NULL), 0);
	CHECK_EQ(pci_plug(m.pci, &m.lpc->pci, 0xf8, NULL), 0);
	CHECK_EQ(pci_plug(m.pci, m.card, 0x10, NULL), 0);
}

static void build(void)
{
	memset(&m, 0, sizeof(m));
	m.now = NSEC_PER_SEC;
	timerq_init(&m.timers, now, NULL, NULL);
	CHECK_EQ(bus_new(&m.bus), 0);
	CHECK_EQ(gmem_new(1 << 20, UINT64_C(1) << 31, &m.mem, NULL), 0);
	build_interrupts();
	build_clocks();
	build_rest();
	build_pci();
}

static void tear_down(void)
{
	pci_bus_free(m.pci);
	/* The interrupt controllers came first and go last. */
	while (m.n_devices)
		device_free(m.dev[--m.n_devices]);
	for (unsigned int i = 0; i < CPUS; i++)
		lapic_free(m.lapic[i]);
	apic_bus_free(m.apics);
	bus_free(m.bus);
	gmem_free(m.mem);
	timerq_fini(&m.timers);
}

/* --- steps -------------------------------------------------------------------------------------
 */

static uint64_t number(struct fuzz_input *in, unsigned int bytes)
{
	uint64_t v = 0;

	fuzz_bytes(in, &v, bytes);
	return v;
}

/* Values that matter more often than chance would bring them. */
static uint64_t value(struct fuzz_input *in)
{
	static const uint64_t corner[] = {0,      1,          2,          0xff,
					  0xffff, UINT32_MAX, UINT64_MAX, 1ull << 63};
	uint8_t how = fuzz_u8(in);

	return how < 64 ? corner[how % ARRAY_SIZE(corner)] : number(in, how < 128 ? 1 : 8);
}

static void port_access(struct fuzz_input *in)
{
	static const uint16_t first[] = {0x20,  0xa0,  0x4d0, 0x40,  0x60,  0x64,   0x70,  0x80,
					 0x92,  0xb2,  0xe0,  0xe8,  0xf4,  0x2000, 0x3f8, 0x3fc,
					 0x505, 0x510, 0x514, 0x600, 0x620, 0xcf8,  0xcfc, 0xcf9};
	uint8_t where = fuzz_u8(in), how = fuzz_u8(in);
	uint16_t port = where < 0xf0 ? first[where % ARRAY_SIZE(first)] + (how >> 3 & 7)
				     : (uint16_t)number(in, 2);
	unsigned int size = 1u << (how & 1) << (how & 1 && how & 2);

	if (how & 4)
		bus_write(m.bus, BUS_PIO, port, size, value(in));
	else
		bus_read(m.bus, BUS_PIO, port, size);
}

static void mmio_access(struct fuzz_input *in)
{
	static const uint64_t first[] = {IOAPIC_BASE, HPET_BASE,        HPET_BASE + 0x100,
					 0xff000000,  Q35_ECAM_DEFAULT, LAPIC_DEFAULT_BASE};
	uint8_t where = fuzz_u8(in), how = fuzz_u8(in);
	uint64_t gpa = where < 0xf0 ? first[where % ARRAY_SIZE(first)] : number(in, 8), v;
	unsigned int size = 1u << (how & 3);
	bool write = how & 4;

	gpa += how & 8 ? number(in, 2) & 0xfff : (how >> 4) * 16u;
	v = write ? value(in) : 0;
	if (lapic_mmio(m.lapic[how >> 7], gpa, size, write, &v))
		return;
	if (write)
		bus_write(m.bus, BUS_MMIO, gpa, size, v);
	else
		bus_read(m.bus, BUS_MMIO, gpa, size);
}

static void msr_access(struct fuzz_input *in)
{
	static const uint32_t msrs[] = {MSR_APIC_BASE, MSR_TSC_DEADLINE};
	uint8_t how = fuzz_u8(in);
	struct lapic *l = m.lapic[how & 1];
	uint32_t msr = how & 2 ? MSR_X2APIC + number(in, 1) : msrs[how >> 2 & 1];
	uint64_t v = 0;
	bool ok;

	if (how & 8)
		ok = lapic_rdmsr(l, msr, &v);
	else if (msr == MSR_APIC_BASE && (how & 16))
		ok = lapic_wrmsr(l, msr, LAPIC_DEFAULT_BASE | (how & 0x60) << 5);
	else
		ok = lapic_wrmsr(l, msr, value(in));
	(void)ok; /* #GP is as good */
}

static void cpu_step(struct fuzz_input *in)
{
	struct lapic *l = m.lapic[fuzz_u8(in) & 1];
	struct lapic_events ev;

	lapic_take_events(l, &ev);
	if (ev.init)
		lapic_init(l);
	if (lapic_pending(l) >= 0)
		CHECK(lapic_ack(l) < 256);
}

/* Lets time pass and checks that it does not take for ever. */
static void time_step(struct fuzz_input *in)
{
	static const uint64_t steps[] = {1, 1000, 60000, NSEC_PER_MSEC, 10 * NSEC_PER_MSEC};
	uint8_t how = fuzz_u8(in);
	uint64_t ns = steps[how % ARRAY_SIZE(steps)], end = m.now + ns, n = 0;

	if (how >= 250) { /* the host slept */
		m.now += NSEC_PER_SEC * 3600;
		timerq_run(&m.timers);
		return;
	}
	while (timerq_next(&m.timers) <= end) {
		m.now = MAX(m.now, timerq_next(&m.timers));
		timerq_run(&m.timers);
		CHECK(++n <= (ns / LEAST_NS + 2) * TIMERS);
	}
	m.now = end;
}

static void outside_step(struct fuzz_input *in)
{
	uint8_t how = fuzz_u8(in), bytes[8];

	fuzz_bytes(in, bytes, sizeof(bytes));
	switch (how % 8) {
	case 0:
		chardev_receive(&m.chr, bytes, sizeof(bytes));
		break;
	case 1:
		chardev_line_break(&m.chr);
		break;
	case 2:
		m.room = how;
		chardev_writable(&m.chr);
		break;
	case 3:
		i8042_key(m.kbd, bytes, how / 8 % sizeof(bytes));
		break;
	case 4:
		i8042_mouse(m.kbd, (int8_t)bytes[0] * 8, (int8_t)bytes[1] * 8, (int8_t)bytes[2],
			    bytes[3]);
		break;
	case 5:
		pci_set_intx(m.card, how & 8);
		pci_msix_notify(m.card, bytes[0] % 5);
		break;
	case 6:
		acpi_pm_power_button(m.pm);
		acpi_pm_gpe(m.pm, bytes[0]);
		break;
	default:
		device_reset(m.dev[how / 8 % m.n_devices]);
		break;
	}
}

/* A snapshot comes back, perhaps with a byte that nobody wrote. */
static void state_step(struct fuzz_input *in)
{
	unsigned int n = fuzz_u8(in) % (m.n_devices + 2);
	uint16_t at = (uint16_t)number(in, 2);
	uint8_t flip = fuzz_u8(in);
	struct strbuf s = {0};
	size_t used;
	int r = 0;

	if (n < m.n_devices)
		device_save(m.dev[n], &s);
	else if (n == m.n_devices)
		state_save(&lapic_state_table, m.lapic[0], &s);
	else
		pci_dev_save(&m.lpc->pci, &s);
	if (s.len)
		s.data[at % s.len] ^= (char)flip;
	if (n < m.n_devices) {
		r = device_load(m.dev[n], s.data, s.len, &used, NULL);
	} else if (n == m.n_devices) {
		r = state_load(&lapic_state_table, m.lapic[0], s.data, s.len, &used, NULL);
		if (r < 0)
			lapic_reset(m.lapic[0]);
	} else {
		r = pci_dev_load(&m.lpc->pci, s.data, s.len, &used, NULL);
		if (r < 0)
			pci_bus_reset(m.pci);
	}
	strbuf_fini(&s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, size};
	unsigned int steps = 0;

	build();
	while (in.len && steps++ < STEPS_MAX) {
		uint8_t what = fuzz_u8(&in);

		if (what < 110)
			port_access(&in);
		else if (what < 170)
			mmio_access(&in);
		else if (what < 190)
			msr_access(&in);
		else if (what < 205)
			cpu_step(&in);
		else if (what < 225)
			time_step(&in);
		else if (what < 245)
			outside_step(&in);
		else
			state_step(&in);
	}
	tear_down();
	return 0;
}
