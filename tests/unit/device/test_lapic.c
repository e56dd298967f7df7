/* SPDX-License-Identifier: Apache-2.0 */
#include "device/lapic.h"

#include "fake.h"

#define N    3
#define BASE LAPIC_DEFAULT_BASE

static struct fake_clock clk;
static struct apic_bus *apics;
static struct lapic *l[N];
static unsigned int woken, eois;
static uint8_t eoi_vector;
static int pic_vector = -1;

static uint64_t tsc(void *opaque)
{
	return clk.now;
}

static void on_wake(void *opaque)
{
	woken++;
}

static int pic(void *opaque)
{
	return pic_vector;
}

static void on_eoi(void *opaque, uint8_t vector)
{
	eois++;
	eoi_vector = vector;
}

static uint32_t get(unsigned int n, uint32_t off)
{
	uint64_t v = 0;

	CHECK(lapic_mmio(l[n], BASE + off, 4, false, &v));
	return (uint32_t)v;
}

static void set(unsigned int n, uint32_t off, uint32_t value)
{
	uint64_t v = value;

	CHECK(lapic_mmio(l[n], BASE + off, 4, true, &v));
}

static void send(uint64_t addr, uint32_t data)
{
	struct msi_sink sink = apic_bus_msi(apics);

	msi_send(&sink, addr, data);
}

static void start(void)
{
	for (unsigned int i = 0; i < N; i++) {
		lapic_reset(l[i]);
		set(i, 0xf0, 0x1ff);
	}
	woken = eois = 0;
}

/* Takes what is pending everywhere; returns a bitmap of who had @vector. */
static unsigned int takers(int vector)
{
	unsigned int map = 0;

	for (unsigned int i = 0; i < N; i++) {
		if (lapic_pending(l[i]) != vector)
			continue;
		map |= 1u << i;
		CHECK_EQ(lapic_ack(l[i]), vector);
		set(i, 0xb0, 0);
	}
	return map;
}

static void test_priority(void)
{
	start();
	CHECK_EQ(get(0, 0x30), 0x01050014);
	CHECK_EQ(get(2, 0x20), 2u << 24);
	send(0xfee00000, 0x41);
	CHECK_EQ(woken, 1);
	send(0xfee00000, 0x42);
	send(0xfee00000, 0x55);
	CHECK(lapic_has_work(l[0]));
	CHECK_EQ(get(0, 0x220), 0x200006);
	CHECK_EQ(lapic_pending(l[0]), 0x55);
	CHECK_EQ(lapic_ack(l[0]), 0x55);
	CHECK_EQ(get(0, 0xa0), 0x50);
	CHECK_EQ(get(0, 0x120), 1u << 0x15);
	CHECK_EQ(lapic_pending(l[0]), -1);
	send(0xfee00000, 0x61);
	CHECK_EQ(lapic_pending(l[0]), 0x61);
	set(0, 0x80, 0x60);
	CHECK_EQ(lapic_pending(l[0]), -1);
	CHECK_EQ(lapic_get_cr8(l[0]), 6);
	lapic_set_cr8(l[0], 0);
	CHECK_EQ(lapic_ack(l[0]), 0x61);
	set(0, 0xb0, 0);
	set(0, 0xb0, 0);
	/* The same class: 0x42 waits for nobody, 0x41 for it. */
	CHECK_EQ(lapic_ack(l[0]), 0x42);
	CHECK_EQ(lapic_pending(l[0]), -1);
	set(0, 0xb0, 0);
	CHECK_EQ(lapic_ack(l[0]), 0x41);
	set(0, 0xb0, 0);
	set(0, 0xb0, 0); /* nothing in service */
	CHECK_EQ(eois, 0);
	CHECK_EQ(lapic_ack(l[0]), -1);
	/* Level-triggered ones tell the IOAPIC. */
	send(0xfee00000, 0xc071);
	CHECK_EQ(get(0, 0x1b0), 1u << 0x11);
	CHECK_EQ(lapic_ack(l[0]), 0x71);
	set(0, 0xb0, 0);
	CHECK_EQ(eois, 1);
	CHECK_EQ(eoi_vector, 0x71);
	/* Edge again: TMR follows. */
	send(0xfee00000, 0x71);
	CHECK_EQ(get(0, 0x1b0), 0);
	CHECK_EQ(takers(0x71), 1);
	CHECK_EQ(eois, 1);
}

static void test_destinations(void)
{
	start();
	send(0xfee02000, 0x40);
	CHECK_EQ(takers(0x40), 4);
	send(0xfee03000, 0x40); /* nobody */
	CHECK_EQ(takers(0x40), 0);
	send(0xfeeff000, 0x40);
	CHECK_EQ(takers(0x40), 7);
	send(0xfef00000, 0x40); /* not an MSI */
	CHECK_EQ(takers(0x40), 0);
	/* Flat logical. */
	for (unsigned int i = 0; i < N; i++)
		set(i, 0xd0, 1u << (24 + i));
	send(0xfee05004, 0x40);
	CHECK_EQ(takers(0x40), 5);
	/* Lowest priority: one of them, the least busy. */
	set(0, 0x80, 0x20);
	send(0xfee0500c, 0x140);
	CHECK_EQ(takers(0x40), 4);
	set(0, 0x80, 0);
	/* Cluster. */
	for (unsigned int i = 0; i < N; i++) {
		set(i, 0xe0, 0x0fffffff);
		set(i, 0xd0, (i == 2 ? 0x21u : 0x11u << i) << 24);
	}
	CHECK_EQ(get(0, 0xe0), 0x0fffffff);
	send(0xfee11004, 0x40);
	CHECK_EQ(takers(0x40), 1);
	send(0xfee23004, 0x40);
	CHECK_EQ(takers(0x40), 6);
	/* Renumbered: physical messages find the new id, two may share one. */
	set(1, 0x20, 0u);
	send(0xfee00000, 0x40);
	CHECK_EQ(takers(0x40), 3);
	set(1, 0x20, 1u << 24);
}

static void ipi(unsigned int n, uint32_t dest, uint32_t low)
{
	set(n, 0x310, dest << 24);
	set(n, 0x300, low);
	CHECK_EQ(get(n, 0x300) & 0x1000, 0);
}

static void test_ipi(void)
{
	struct lapic_events ev;

	start();
	ipi(0, 1, 0x4050);
	CHECK_EQ(takers(0x50), 2);
	ipi(0, 0, 0x44050);
	CHECK_EQ(takers(0x50), 1);
	ipi(1, 0, 0x84050);
	CHECK_EQ(takers(0x50), 7);
	ipi(1, 0, 0xc4050);
	CHECK_EQ(takers(0x50), 5);
	/* INIT, its de-assert, SIPI; one after the other. */
	ipi(0, 2, 0xc500);
	ipi(0, 2, 0x8500);
	lapic_take_events(l[2], &ev);
	CHECK(ev.init && !ev.sipi);
	ipi(0, 2, 0x4699);
	lapic_take_events(l[2], &ev);
	CHECK(!ev.init && ev.sipi);
	CHECK_EQ(ev.sipi_vector, 0x99);
	lapic_take_events(l[2], &ev);
	CHECK(!ev.init && !ev.sipi && !ev.nmi);
	/* Both at once; an INIT after a SIPI swallows it. */
	ipi(0, 2, 0x4500);
	ipi(0, 2, 0x4612);
	lapic_take_events(l[2], &ev);
	CHECK(ev.init && ev.sipi);
	ipi(0, 2, 0x4612);
	ipi(0, 2, 0x4500);
	lapic_take_events(l[2], &ev);
	CHECK(ev.init && !ev.sipi);
	ipi(0, 1, 0x400);
	lapic_take_events(l[1], &ev);
	CHECK(ev.nmi);
	lapic_take_events(l[1], &ev);
	CHECK(!ev.nmi);
	/* Two are kept, not three. */
	for (unsigned int i = 0; i < 3; i++)
		ipi(0, 1, 0x400);
	for (unsigned int i = 0; i < 3; i++) {
		lapic_take_events(l[1], &ev);
		CHECK_EQ(ev.nmi, i < 2);
	}
	/* INIT to oneself by shorthand is not allowed. */
	ipi(0, 0, 0x44500);
	lapic_take_events(l[0], &ev);
	CHECK(!ev.init);
	/* Illegal vector: an error, shown after a write to ESR. */
	set(0, 0x370, 0xee);
	ipi(0, 1, 0x400f);
	CHECK_EQ(get(0, 0x280), 0);
	set(0, 0x280, 0);
	CHECK_EQ(get(0, 0x280), 0x20);
	CHECK_EQ(takers(0xee), 1);
	/* Both halves of the spurious: software-disabled takes nothing, masks the LVT. */
	set(1, 0xf0, 0xff);
	ipi(0, 1, 0x4050);
	CHECK_EQ(takers(0x50), 0);
	CHECK_EQ(get(1, 0x370), 0x10000);
	set(1, 0x370, 0xee);
	CHECK_EQ(get(1, 0x370), 0x100ee);
}

static void test_lint(void)
{
	struct irq intr = lapic_lint(l[0], 0), nmi = lapic_lint(l[0], 1);
	struct lapic_events ev;

	start();
	pic_vector = 0x38;
	irq_set(&intr, true);
	CHECK_EQ(lapic_pending(l[0]), -1); /* masked after reset */
	lapic_virtual_wire(l[0]);
	CHECK_EQ(lapic_pending(l[0]), LAPIC_EXTINT);
	CHECK_EQ(lapic_ack(l[0]), 0x38);
	irq_set(&intr, false);
	CHECK_EQ(lapic_pending(l[0]), -1);
	irq_pulse(&nmi);
	lapic_take_events(l[0], &ev);
	CHECK(ev.nmi);
	/* Without an APIC the pins are the CPU's own. */
	CHECK(lapic_wrmsr(l[0], MSR_APIC_BASE, BASE | APIC_BASE_BSP));
	irq_set(&intr, true);
	CHECK_EQ(lapic_pending(l[0]), LAPIC_EXTINT);
	irq_pulse(&nmi);
	lapic_take_events(l[0], &ev);
	CHECK(ev.nmi);
	irq_set(&intr, false);
	/* A level on LINT0 in fixed mode: remote IRR until EOI, again while high. */
	start();
	set(0, 0x350, 0x8044);
	irq_set(&intr, true);
	CHECK_EQ(get(0, 0x350), 0xc044);
	CHECK_EQ(lapic_ack(l[0]), 0x44);
	set(0, 0xb0, 0);
	CHECK_EQ(lapic_ack(l[0]), 0x44);
	irq_set(&intr, false);
	set(0, 0xb0, 0);
	CHECK_EQ(get(0, 0x350), 0x8044);
	CHECK_EQ(lapic_pending(l[0]), -1);
}

static void test_access(void)
{
	uint64_t v = 7;

	start();
	CHECK(!lapic_mmio(l[0], BASE - 1, 1, false, &v));
	CHECK(!lapic_mmio(l[0], BASE + 0x1000, 4, false, &v));
	CHECK(lapic_mmio(l[0], BASE + 0xfff, 1, false, &v));
	CHECK(lapic_mmio(l[0], BASE + 0x32, 1, false, &v)); /* a byte of a register */
	CHECK_EQ(v, 0x05);
	CHECK(lapic_mmio(l[0], BASE + 0x34, 4, false, &v));
	CHECK_EQ(v, 0);
	v = 0xff;
	CHECK(lapic_mmio(l[0], BASE + 0x80, 1, true, &v));
	CHECK_EQ(get(0, 0x80), 0);
	/* Every register and value: nothing breaks. */
	for (uint32_t off = 0; off < 0x1000; off += 16) {
		set(1, off, UINT32_MAX);
		set(1, off, 0);
		get(1, off);
	}
	set(1, 0x280, 0);
	CHECK_EQ(get(1, 0x280) & 0x80, 0x80);
	for (unsigned int i = 0; i < N; i++)
		lapic_reset(l[i]);
}

static void test_x2apic(void)
{
	struct lapic_events ev;
	uint64_t base, v;

	start();
	CHECK(lapic_rdmsr(l[1], MSR_APIC_BASE, &base));
	CHECK_EQ(base, 0xfee00800);
	CHECK(lapic_rdmsr(l[0], MSR_APIC_BASE, &v));
	CHECK_EQ(v, 0xfee00900);
	CHECK(!lapic_rdmsr(l[1], 0x803, &v));
	CHECK(!lapic_wrmsr(l[1], MSR_APIC_BASE, BASE | 0x400));
	CHECK(!lapic_wrmsr(l[1], MSR_APIC_BASE, BASE | 0x801));
	CHECK(!lapic_wrmsr(l[1], MSR_APIC_BASE, BASE | BIT(40) | 0x800));
	CHECK(lapic_wrmsr(l[1], MSR_APIC_BASE, BASE | 0xc00));
	CHECK(!lapic_mmio(l[1], BASE + 0x30, 4, false, &v));
	CHECK(lapic_rdmsr(l[1], 0x802, &v));
	CHECK_EQ(v, 1);
	CHECK(lapic_rdmsr(l[1], 0x80d, &v));
	CHECK_EQ(v, 2);
	CHECK(!lapic_wrmsr(l[1], 0x80d, 2));
	CHECK(!lapic_rdmsr(l[1], 0x80e, &v)); /* no DFR, no ICR high, no self-IPI to read */
	CHECK(!lapic_rdmsr(l[1], 0x831, &v));
	CHECK(!lapic_rdmsr(l[1], 0x83f, &v));
	CHECK(!lapic_rdmsr(l[1], 0x8ff, &v));
	CHECK(!lapic_wrmsr(l[1], 0x80b, 1));
	CHECK(!lapic_wrmsr(l[1], 0x828, 1));
	CHECK(!lapic_wrmsr(l[1], 0x808, 0x100));
	CHECK(!lapic_wrmsr(l[1], 0x80f, BIT(32)));
	CHECK(lapic_wrmsr(l[1], 0x83f, 0x60));
	CHECK_EQ(lapic_ack(l[1]), 0x60);
	CHECK(lapic_wrmsr(l[1], 0x80b, 0));
	CHECK(lapic_wrmsr(l[1], 0x830, UINT64_C(2) << 32 | 0x400));
	lapic_take_events(l[2], &ev);
	CHECK(ev.nmi);
	CHECK(lapic_rdmsr(l[1], 0x830, &v));
	CHECK_EQ(v, UINT64_C(2) << 32 | 0x400);
	/* Logical, cluster 0, bit 1; and everybody. */
	CHECK(lapic_wrmsr(l[1], 0x830, UINT64_C(2) << 32 | 0x861));
	CHECK_EQ(lapic_ack(l[1]), 0x61);
	CHECK(lapic_wrmsr(l[1], 0x80b, 0));
	CHECK(lapic_wrmsr(l[1], 0x830, UINT64_C(0xffffffff) << 32 | 0x62));
	CHECK_EQ(lapic_pending(l[0]), 0x62);
	CHECK_EQ(lapic_pending(l[1]), 0x62);
	/* Out of x2APIC only through off. */
	CHECK(!lapic_wrmsr(l[1], MSR_APIC_BASE, BASE | 0x800));
	CHECK(lapic_wrmsr(l[1], MSR_APIC_BASE, BASE));
	CHECK(!lapic_wrmsr(l[1], MSR_APIC_BASE, BASE | 0xc00));
	CHECK(lapic_wrmsr(l[1], MSR_APIC_BASE, 0xfed40000 | 0x800));
	CHECK(lapic_mmio(l[1], 0xfed40030, 4, false, &v));
	CHECK_EQ(v, 0x01050014);
	/* INIT keeps APIC_BASE. */
	CHECK(lapic_wrmsr(l[1], MSR_APIC_BASE, BASE | 0xc00));
	lapic_init(l[1]);
	CHECK(lapic_rdmsr(l[1], MSR_APIC_BASE, &v));
	CHECK_EQ(v, BASE | 0xc00);
	CHECK(lapic_owns_msr(0x800) && lapic_owns_msr(0x8ff) && !lapic_owns_msr(0x900));
	lapic_reset(l[1]);
}

static void test_state(void)
{
	autostrbuf struct strbuf s = {0};
	size_t used;

	start();
	send(0xfee00000, 0xc071);
	set(0, 0x80, 0x10);
	state_save(&lapic_state_table, l[0], &s);
	lapic_reset(l[0]);
	CHECK_EQ(state_load(&lapic_state_table, l[0], s.data, s.len, &used, NULL), 0);
	CHECK_EQ(lapic_pending(l[0]), 0x71);
	CHECK_EQ(lapic_get_cr8(l[0]), 1);
}

int main(void)
{
	fake_clock_init(&clk);
	CHECK_EQ(apic_bus_new(N, &apics), 0);
	apic_bus_on_eoi(apics, on_eoi, NULL);
	for (unsigned int i = 0; i < N; i++)
		CHECK_EQ(lapic_new(&(struct lapic_config){.id = i,
							  .bsp = i == 0,
							  .bus = apics,
							  .timers = &clk.q,
							  .tsc_hz = NSEC_PER_SEC,
							  .guest_tsc = tsc,
							  .on_wake = on_wake,
							  .extint_ack = pic},
				   &l[i]),
			 0);
	test_priority();
	test_destinations();
	test_ipi();
	test_lint();
	test_access();
	test_x2apic();
	test_state();
	for (unsigned int i = 0; i < N; i++)
		lapic_free(l[i]);
	apic_bus_free(apics);
	return 0;
}
