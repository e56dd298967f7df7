/* SPDX-License-Identifier: Apache-2.0 */
#include "bus/pci.h"

#include "test.h"

#include <errno.h>

struct card {
	struct pci_dev pci;
	uint64_t off, value;
	unsigned int n_reads, n_writes, n_resets;
	bool *freed;
};

static struct bus *bus;
static struct pci_bus *pci;
static unsigned int intx_pin, intx_changes, n_msi;
static bool intx_level;
static uint64_t msi_addr;
static uint32_t msi_data;

static void on_intx(void *opaque, unsigned int pin, bool level)
{
	intx_pin = pin;
	intx_level = level;
	intx_changes++;
}

static void on_msi(void *opaque, uint64_t addr, uint32_t data)
{
	msi_addr = addr;
	msi_data = data;
	n_msi++;
}

static uint64_t card_read(void *opaque, uint64_t off, unsigned int size)
{
	struct card *c = opaque;

	c->n_reads++;
	return off;
}

static void card_write(void *opaque, uint64_t off, unsigned int size, uint64_t value)
{
	struct card *c = opaque;

	c->n_writes++;
	c->off = off;
	c->value = value;
}

static void card_reset(struct pci_dev *d)
{
	container_of(d, struct card, pci)->n_resets++;
}

static void card_free(struct pci_dev *d)
{
	struct card *c = container_of(d, struct card, pci);

	*c->freed = true;
	pci_dev_fini(d);
	free(c);
}

static const struct bus_ops bar_ops = {.read = card_read, .write = card_write};
static const struct pci_ops card_ops = {.reset = card_reset, .free = card_free};

static struct card *card_new(bool *freed)
{
	struct card *c = xnew(struct card);

	pci_dev_init(&c->pci, &card_ops, "card", 0x1af4, 0x1041, 0x02000001, 0x1af4, 0x1100);
	c->freed = freed;
	c->pci.config[PCI_INTERRUPT_PIN] = 2; /* INTB */
	return c;
}

static uint32_t cf8_read(unsigned int devfn, unsigned int off, unsigned int size)
{
	bus_write(bus, BUS_PIO, 0xcf8, 4, 0x80000000 | devfn << 8 | (off & 0xfc));
	return (uint32_t)bus_read(bus, BUS_PIO, 0xcfc + (off & 3), size);
}

static void cf8_write(unsigned int devfn, unsigned int off, unsigned int size, uint32_t v)
{
	bus_write(bus, BUS_PIO, 0xcf8, 4, 0x80000000 | devfn << 8 | (off & 0xfc));
	bus_write(bus, BUS_PIO, 0xcfc + (off & 3), size, v);
}

static void test_config(void)
{
	CHECK_EQ(cf8_read(0x10, 0, 4), 0x10411af4);
	CHECK_EQ(cf8_read(0x10, 2, 2), 0x1041);
	CHECK_EQ(cf8_read(0x10, 0x0b, 1), 0x02);
	CHECK_EQ(cf8_read(0x11, 0, 4), 0xffffffff);
	/* Read-only bits hold. */
	cf8_write(0x10, 0, 4, 0);
	CHECK_EQ(cf8_read(0x10, 0, 4), 0x10411af4);
	cf8_write(0x10, PCI_COMMAND, 2, 0xffff);
	CHECK_EQ(cf8_read(0x10, PCI_COMMAND, 2), 0x0547);
	cf8_write(0x10, PCI_COMMAND, 2, 0);
	/* Only dwords reach the address register; without its enable bit nobody answers. */
	bus_write(bus, BUS_PIO, 0xcf8, 4, 0x80001000);
	bus_write(bus, BUS_PIO, 0xcf8, 2, 0x1234);
	CHECK_EQ(bus_read(bus, BUS_PIO, 0xcf8, 4), 0x80001000);
	CHECK_EQ(bus_read(bus, BUS_PIO, 0xcf8, 2), 0xffff);
	bus_write(bus, BUS_PIO, 0xcf8, 4, 0x00001000);
	CHECK_EQ(bus_read(bus, BUS_PIO, 0xcfc, 4), 0xffffffff);
	/* ECAM: same registers, larger space, other buses empty. */
	pci_bus_set_ecam(pci, 0xe0000000, 0x10000000);
	CHECK_EQ(bus_read(bus, BUS_MMIO, 0xe0010000, 4), 0x10411af4);
	CHECK_EQ(bus_read(bus, BUS_MMIO, 0xe0010ffc, 4), 0);
	CHECK_EQ(bus_read(bus, BUS_MMIO, 0xe0110000, 4), 0xffffffff);
	CHECK_EQ(bus_read(bus, BUS_MMIO, 0xefffffff, 1), 0xff);
	pci_bus_set_ecam(pci, 0, 0);
	CHECK_EQ(bus_read(bus, BUS_MMIO, 0xe0010000, 4), 0xffffffff);
	/* Outside of a function's space, or over a dword's edge. */
	CHECK_EQ(pci_config_read(pci, 0x10, 4096, 4), 0xffffffff);
	CHECK_EQ(pci_config_read(pci, 0x10, 4095, 1), 0);
	CHECK_EQ(pci_config_read(pci, 0x10, 2, 4), 0xffffffff);
	pci_config_write(pci, 0x10, 4095, 4, 0);
}

static void test_bars(struct card *c)
{
	/* Sizing. */
	cf8_write(0x10, 0x10, 4, 0xffffffff);
	CHECK_EQ(cf8_read(0x10, 0x10, 4), 0xfffff000);
	cf8_write(0x10, 0x14, 4, 0xffffffff);
	CHECK_EQ(cf8_read(0x10, 0x14, 4), 0xffffffe1);
	cf8_write(0x10, 0x18, 4, 0xffffffff);
	cf8_write(0x10, 0x1c, 4, 0xffffffff);
	CHECK_EQ(cf8_read(0x10, 0x18, 4), 0xffff000c);
	CHECK_EQ(cf8_read(0x10, 0x1c, 4), 0xffffffff);
	CHECK_EQ(cf8_read(0x10, 0x20, 4), 0);
	/* With decoding on, a sizing pattern maps nothing. */
	cf8_write(0x10, PCI_COMMAND, 2, 3);
	CHECK_EQ(bus_read(bus, BUS_MMIO, 0xfffff000, 4), 0xffffffff);
	CHECK_EQ(c->n_reads, 0);
	/* Mapped where the guest says, once it says so. */
	cf8_write(0x10, PCI_COMMAND, 2, 0);
	cf8_write(0x10, 0x10, 4, 0xfe000000);
	CHECK_EQ(bus_read(bus, BUS_MMIO, 0xfe000010, 4), 0xffffffff);
	cf8_write(0x10, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	CHECK_EQ(bus_read(bus, BUS_MMIO, 0xfe000010, 4), 0x10);
	CHECK_EQ(bus_read(bus, BUS_MMIO, 0xfe001000, 4), 0xffffffff);
	cf8_write(0x10, 0x14, 4, 0xc001);
	CHECK_EQ(bus_read(bus, BUS_PIO, 0xc004, 4), 0xffffffff);
	cf8_write(0x10, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_IO);
	CHECK_EQ(bus_read(bus, BUS_PIO, 0xc004, 4), 4);
	cf8_write(0x10, 0x14, 4, 0x1c001); /* past the ports */
	CHECK_EQ(bus_read(bus, BUS_PIO, 0xc004, 4), 0xffffffff);
	/* 64 bits, one half after the other. */
	cf8_write(0x10, 0x18, 4, 0x00010000);
	cf8_write(0x10, 0x1c, 4, 0x00000080);
	CHECK_EQ(bus_read(bus, BUS_MMIO, 0x8000010008, 8), 8);
	/* Two BARs on one place are not an error. */
	cf8_write(0x10, 0x1c, 4, 0);
	cf8_write(0x10, 0x18, 4, 0xfe000000);
	CHECK_EQ(bus_read(bus, BUS_MMIO, 0xfe000010, 4), 0x10);
	cf8_write(0x10, 0x18, 4, 0);
	CHECK_EQ(bus_read(bus, BUS_MMIO, 0xfe000010, 4), 0x10);
}

static void test_intx(struct card *c)
{
	pci_set_intx(&c->pci, true);
	CHECK_EQ(intx_pin, 0x10 << 2 | 1);
	CHECK(intx_level);
	CHECK_EQ(cf8_read(0x10, PCI_STATUS, 2) & 8, 8);
	cf8_write(0x10, PCI_COMMAND, 2, PCI_COMMAND_INTX_OFF);
	CHECK(!intx_level);
	CHECK_EQ(cf8_read(0x10, PCI_STATUS, 2) & 8, 8);
	cf8_write(0x10, PCI_STATUS, 2, 0xffff); /* not cleared by writing */
	CHECK_EQ(cf8_read(0x10, PCI_STATUS, 2) & 8, 8);
	cf8_write(0x10, PCI_COMMAND, 2, 0);
	CHECK(intx_level);
	intx_changes = 0;
	pci_set_intx(&c->pci, true);
	CHECK_EQ(intx_changes, 0);
	pci_set_intx(&c->pci, false);
	CHECK(!intx_level);
}

static void test_msix(struct card *c)
{
	struct pci_dev *d = &c->pci;
	uint8_t cap = d->msix.cap;
	autostrbuf struct strbuf saved = {0};
	size_t used;

	CHECK_EQ(cf8_read(0x10, PCI_CAP_POINTER, 1), cap);
	CHECK_EQ(cf8_read(0x10, cap, 4), 0x00020011);
	CHECK_EQ(cf8_read(0x10, cap + 4, 4), 0x800);
	pci_msix_write(d, 16, 4, 0xfee01000);
	pci_msix_write(d, 20, 4, 0);
	pci_msix_write(d, 24, 4, 0x41);
	CHECK_EQ(pci_msix_read(d, 16, 8, false), 0xfee01000);
	/* Off: nothing, not even pending. */
	pci_msix_notify(d, 1);
	CHECK_EQ(pci_msix_read(d, 0, 8, true), 0);
	/* On and masked: pending, sent once when unmasked. */
	cf8_write(0x10, cap + 2, 2, 0x8000);
	CHECK(pci_msix_enabled(d));
	pci_msix_notify(d, 1);
	pci_msix_notify(d, 1);
	CHECK_EQ(n_msi, 0);
	CHECK_EQ(pci_msix_read(d, 0, 8, true), 2);
	pci_msix_write(d, 28, 4, 0);
	CHECK_EQ(n_msi, 1);
	CHECK_EQ(msi_addr, 0xfee01000);
	CHECK_EQ(msi_data, 0x41);
	CHECK_EQ(pci_msix_read(d, 0, 8, true), 0);
	pci_msix_notify(d, 1);
	CHECK_EQ(n_msi, 2);
	/* The function's mask. */
	cf8_write(0x10, cap + 2, 2, 0xc000);
	pci_msix_notify(d, 1);
	CHECK_EQ(n_msi, 2);
	pci_msix_save(d, &saved);
	cf8_write(0x10, cap + 2, 2, 0x8000);
	CHECK_EQ(n_msi, 3);
	/* INTx is silent meanwhile. */
	pci_set_intx(d, true);
	CHECK(!intx_level);
	pci_set_intx(d, false);
	/* Vectors n-1, n and beyond; accesses at the table's end. */
	pci_msix_notify(d, 2);
	pci_msix_notify(d, 3);
	pci_msix_notify(d, UINT32_MAX);
	CHECK_EQ(pci_msix_read(d, 0, 8, true), 4);
	CHECK_EQ(pci_msix_read(d, 44, 4, false), 1);
	CHECK_EQ(pci_msix_read(d, 48, 4, false), 0);
	CHECK_EQ(pci_msix_read(d, UINT64_MAX - 1, 4, false), 0);
	pci_msix_write(d, 48, 4, 1);
	pci_msix_write(d, UINT64_MAX - 3, 4, 1);
	pci_msix_write(d, 30, 2, 0xffff);
	/* Saved state comes back; a cut one does not. */
	CHECK(pci_msix_load(d, saved.data, saved.len - 1, &used, NULL) < 0);
	CHECK_EQ(pci_msix_load(d, saved.data, saved.len, &used, NULL), 0);
	CHECK_EQ(used, saved.len);
	CHECK_EQ(pci_msix_read(d, 0, 8, true), 2);
	cf8_write(0x10, cap + 2, 2, 0);
}

static void test_state(struct card *c)
{
	autostrbuf struct strbuf s = {0};
	size_t used;

	cf8_write(0x10, 0x10, 4, 0xfd000000);
	cf8_write(0x10, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	CHECK(pci_dma_enabled(&c->pci));
	state_save(&pci_dev_state_table, &c->pci, &s);
	pci_bus_reset(pci);
	CHECK_EQ(c->n_resets, 1);
	CHECK(!pci_dma_enabled(&c->pci));
	CHECK_EQ(bus_read(bus, BUS_MMIO, 0xfd000010, 4), 0xffffffff);
	CHECK_EQ(state_load(&pci_dev_state_table, &c->pci, s.data, s.len, &used, NULL), 0);
	CHECK_EQ(bus_read(bus, BUS_MMIO, 0xfd000010, 4), 0x10);
}

int main(void)
{
	bool freed = false, freed2 = false;
	struct card *c, *other;
	struct err e = {0};

	CHECK_EQ(bus_new(&bus), 0);
	CHECK_EQ(
	    pci_bus_new(bus, (struct irq){on_intx, NULL, 0}, (struct msi_sink){on_msi, NULL}, &pci),
	    0);
	c = card_new(&freed);
	pci_add_bar(&c->pci, 0, 0x1000, false, false, false, &bar_ops, c);
	pci_add_bar(&c->pci, 1, 32, true, false, false, &bar_ops, c);
	pci_add_bar(&c->pci, 2, 0x10000, false, true, true, &bar_ops, c);
	CHECK_EQ(pci_add_msix(&c->pci, 3, 0, 0x800, 0xc00), 0);
	CHECK_EQ(pci_plug(pci, &c->pci, 0x10, &e), 0);
	other = card_new(&freed2);
	CHECK_EQ(pci_plug(pci, &other->pci, 0x10, &e), (uint64_t)-EBUSY);
	CHECK(strstr(e.msg, "02.0") != NULL);
	CHECK_EQ(cf8_read(0x10, PCI_HEADER_TYPE, 1), 0);
	CHECK_EQ(pci_plug(pci, &other->pci, 0x13, &e), 0);
	CHECK_EQ(cf8_read(0x10, PCI_HEADER_TYPE, 1), 0x80);
	pci_unplug(&other->pci);
	CHECK_EQ(cf8_read(0x10, PCI_HEADER_TYPE, 1), 0);
	CHECK_EQ(cf8_read(0x13, 0, 4), 0xffffffff);
	card_free(&other->pci);

	test_config();
	test_bars(c);
	test_intx(c);
	test_msix(c);
	test_state(c);
	pci_bus_free(pci);
	CHECK(freed);
	bus_free(bus);
	return 0;
}
