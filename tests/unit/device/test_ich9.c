/* SPDX-License-Identifier: Apache-2.0 */
#include "device/ich9_lpc.h"
#include "device/q35_mch.h"

#include "fake.h"

#define LPC (31 << 3)

static struct fake_lines gsi, isa;
static uint16_t pm_base;
static unsigned int n_memory;
static struct bus *b;
static struct pci_bus *pci;
static struct ich9_lpc *lpc;
static struct q35_mch *mch;

static void on_pm(void *opaque, uint16_t base)
{
	pm_base = base;
}

static void on_memory(void *opaque)
{
	n_memory++;
}

static void on_msi(void *opaque, uint64_t addr, uint32_t data)
{
}

static void pin(unsigned int slot, unsigned int fn, unsigned int n, bool level)
{
	struct irq irq = ich9_lpc_intx(lpc);

	irq.pin = (slot << 3 | fn) << 2 | n;
	irq_set(&irq, level);
}

static void test_power(void)
{
	CHECK_EQ(pci_config_read(pci, LPC, 0, 4), 0x29188086);
	pci_config_write(pci, LPC, 0x40, 4, 0x601);
	CHECK_EQ(pm_base, 0);
	pci_config_write(pci, LPC, 0x44, 1, 0x80);
	CHECK_EQ(pm_base, 0x600);
	CHECK_EQ(pci_config_read(pci, LPC, 0x40, 4), 0x601);
	pci_config_write(pci, LPC, 0x41, 1, 0xb0);
	CHECK_EQ(pm_base, 0xb000);
	pci_config_write(pci, LPC, 0xf0, 4, 0xfed1c001);
	CHECK_EQ(pci_config_read(pci, LPC, 0xf0, 4), 0xfed1c001);
	pci_config_write(pci, LPC, 0x44, 1, 0);
	CHECK_EQ(pm_base, 0);
	ich9_lpc_set_pm_base(lpc, 0x600);
	CHECK_EQ(pm_base, 0x600);
}

static void test_routing(void)
{
	/* Slot 2: INTA is PIRQ G, IOAPIC pin 22; slot 31: PIRQ A, 16. */
	pin(2, 0, 0, true);
	CHECK(gsi.level[22]);
	pin(6, 0, 0, true); /* shares it */
	pin(2, 0, 0, false);
	CHECK(gsi.level[22]);
	pin(6, 0, 0, true);
	pin(6, 0, 0, false);
	CHECK(!gsi.level[22]);
	pin(6, 0, 0, false);
	pin(31, 2, 0, true);
	CHECK(gsi.level[16]);
	/* To the PIC only when routed; moving the route moves the level. */
	CHECK(!isa.level[11]);
	pci_config_write(pci, LPC, 0x60, 1, 11);
	CHECK(isa.level[11]);
	pci_config_write(pci, LPC, 0x60, 1, 10);
	CHECK(!isa.level[11] && isa.level[10]);
	/* Two PIRQs on one line. */
	pci_config_write(pci, LPC, 0x68, 1, 10);
	pin(0, 0, 0, true);
	pin(31, 2, 0, false);
	CHECK(isa.level[10]);
	pin(0, 0, 0, false);
	CHECK(!isa.level[10]);
	/* Reserved targets: timer, keyboard, cascade, RTC, FPU. */
	pin(31, 2, 0, true);
	for (unsigned int i = 0; i < 16; i++) {
		pci_config_write(pci, LPC, 0x60, 1, i);
		CHECK_EQ(isa.level[i], i >= 3 && i != 8 && i != 13);
	}
	pci_config_write(pci, LPC, 0x60, 1, 0x8a);
	CHECK(!isa.level[10]);
	pin(255, 7, 3, true); /* beyond the bus */
	pin(255, 7, 3, false);
}

static void test_mch(void)
{
	uint64_t base, size;

	CHECK_EQ(pci_config_read(pci, 0, 0, 4), 0x29c08086);
	CHECK_EQ(pci_config_read(pci, 0, 0x2c, 4), 0x11001af4);
	CHECK(!q35_mch_ecam(mch, &base, &size));
	pci_config_write(pci, 0, 0x64, 4, 0);
	pci_config_write(pci, 0, 0x60, 4, 0xb0000001);
	CHECK(q35_mch_ecam(mch, &base, &size));
	CHECK_EQ(base, 0xb0000000);
	CHECK_EQ(size, 0x10000000);
	CHECK_EQ(bus_read(b, BUS_MMIO, 0xb0000000, 4), 0x29c08086);
	/* Moved by a write through itself. */
	bus_write(b, BUS_MMIO, 0xb0000060, 4, 0xe0000005);
	CHECK_EQ(bus_read(b, BUS_MMIO, 0xb0000000, 4), 0xffffffff);
	CHECK_EQ(bus_read(b, BUS_MMIO, 0xe0000000, 4), 0x29c08086);
	CHECK(q35_mch_ecam(mch, &base, &size));
	CHECK_EQ(size, 0x4000000);
	pci_config_write(pci, 0, 0x60, 4, 0xe0000007); /* reserved length */
	CHECK(!q35_mch_ecam(mch, &base, &size));
	CHECK_EQ(bus_read(b, BUS_MMIO, 0xe0000000, 4), 0xffffffff);
	n_memory = 0;
	pci_config_write(pci, 0, 0x91, 1, 0xff);
	CHECK_EQ(n_memory, 1);
	CHECK_EQ(pci_config_read(pci, 0, 0x91, 1), 0x33);
	/* Locking SMRAM closes it for good. */
	pci_config_write(pci, 0, 0x9d, 1, 0x4a);
	CHECK_EQ(pci_config_read(pci, 0, 0x9d, 1), 0x4a);
	pci_config_write(pci, 0, 0x9d, 1, 0x5a);
	CHECK_EQ(pci_config_read(pci, 0, 0x9d, 1), 0x1a);
	pci_config_write(pci, 0, 0x9d, 1, 0x4a);
	CHECK_EQ(pci_config_read(pci, 0, 0x9d, 1), 0x1a);
	pci_bus_reset(pci);
	CHECK_EQ(pci_config_read(pci, 0, 0x9d, 1), 0x02);
	CHECK_EQ(pci_config_read(pci, LPC, 0x60, 4), 0x80808080);
	CHECK_EQ(pm_base, 0);
	q35_mch_set_ecam(mch, 0xe0000000);
	CHECK_EQ(bus_read(b, BUS_MMIO, 0xe00f8000, 4), 0x29188086);
}

int main(void)
{
	struct err e = {0};

	CHECK_EQ(bus_new(&b), 0);
	CHECK_EQ(ich9_lpc_new(&(struct ich9_lpc_config){.gsi = fake_line(&gsi, 0),
							.isa = fake_line(&isa, 0),
							.pm_moved = on_pm},
			      &lpc),
		 0);
	CHECK_EQ(q35_mch_new(&(struct q35_mch_config){.memory_changed = on_memory}, &mch), 0);
	CHECK_EQ(pci_bus_new(b, ich9_lpc_intx(lpc), (struct msi_sink){on_msi, NULL}, &pci), 0);
	CHECK_EQ(pci_plug(pci, &lpc->pci, LPC, &e), 0);
	CHECK_EQ(pci_plug(pci, &mch->pci, 0, &e), 0);
	test_power();
	test_routing();
	test_mch();
	pci_bus_free(pci);
	bus_free(b);
	return 0;
}
