/* SPDX-License-Identifier: Apache-2.0 */
#include "device/ioapic.h"

#include "fake.h"

static struct ioapic *io;
static struct bus *b;
static unsigned int n_msi, n_vectors;
static uint64_t msi_addr, vectors[4];
static uint32_t msi_data;

static void on_msi(void *opaque, uint64_t addr, uint32_t data)
{
	n_msi++;
	msi_addr = addr;
	msi_data = data;
}

static void on_vectors(void *opaque, const uint64_t v[4])
{
	n_vectors++;
	memcpy(vectors, v, sizeof(vectors));
}

static uint32_t get(uint8_t reg)
{
	bus_write(b, BUS_MMIO, IOAPIC_BASE, 4, reg);
	return (uint32_t)bus_read(b, BUS_MMIO, IOAPIC_BASE + 0x10, 4);
}

static void set(uint8_t reg, uint32_t v)
{
	bus_write(b, BUS_MMIO, IOAPIC_BASE, 4, reg);
	bus_write(b, BUS_MMIO, IOAPIC_BASE + 0x10, 4, v);
}

static void entry(unsigned int pin, uint32_t high, uint32_t low)
{
	set((uint8_t)(0x11 + 2 * pin), high);
	set((uint8_t)(0x10 + 2 * pin), low);
}

static void line(unsigned int pin, bool level)
{
	struct irq irq = ioapic_irq(io, pin);

	irq_set(&irq, level);
}

int main(void)
{
	CHECK_EQ(
	    ioapic_new(
		&(struct ioapic_config){.id = 3, .msi = {on_msi, NULL}, .on_vectors = on_vectors},
		&io),
	    0);
	b = fake_bus(&io->dev);
	CHECK_EQ(get(0), 3u << 24);
	CHECK_EQ(get(1), 0x170020);
	set(0, UINT32_MAX);
	CHECK_EQ(get(0), 0x0f000000);
	CHECK_EQ(get(2), 0x0f000000);
	set(2, 0);
	CHECK_EQ(get(2), 0x0f000000);
	CHECK_EQ(get(0x10), 0x10000);

	/* Edge: only the rise, and not while masked. */
	line(0, true);
	line(0, false);
	CHECK_EQ(n_msi, 0);
	entry(0, 0x01000000, 0x30);
	CHECK_EQ(n_msi, 0);
	line(0, true);
	CHECK_EQ(n_msi, 1);
	CHECK_EQ(msi_addr, 0xfee01000);
	CHECK_EQ(msi_data, 0x30);
	line(0, true);
	line(0, false);
	CHECK_EQ(n_msi, 1);
	CHECK_EQ(n_vectors, 0);

	/* Level: once until EOI, again while high. */
	entry(23, 0xff000000, 0x8941); /* logical, lowest priority */
	CHECK_EQ(n_vectors, 1);
	CHECK_EQ(vectors[1], 2);
	line(23, true);
	CHECK_EQ(n_msi, 2);
	CHECK_EQ(msi_addr, 0xfeeff00c);
	CHECK_EQ(msi_data, 0xc141);
	CHECK_EQ(get(0x10 + 46), 0xc941);
	line(23, false);
	line(23, true);
	CHECK_EQ(n_msi, 2);
	ioapic_eoi(io, 0x42);
	CHECK_EQ(n_msi, 2);
	ioapic_eoi(io, 0x41);
	CHECK_EQ(n_msi, 3);
	line(23, false);
	bus_write(b, BUS_MMIO, IOAPIC_BASE + 0x40, 4, 0x41); /* the EOI register */
	CHECK_EQ(get(0x10 + 46), 0x8941);
	CHECK_EQ(n_msi, 3);
	/* Masked while high: kept until unmasked. */
	set(0x10 + 46, 0x18941);
	line(23, true);
	CHECK_EQ(n_msi, 3);
	fake_snapshot(&io->dev);
	set(0x10 + 46, 0x8941);
	CHECK_EQ(n_msi, 4);
	/* Remote IRR is read-only, but edge mode clears it. */
	set(0x10 + 46, 0x18941);
	CHECK_EQ(get(0x10 + 46), 0x1c941);
	set(0x10 + 46, 0x10941);
	CHECK_EQ(get(0x10 + 46), 0x10941);
	CHECK_EQ(vectors[1], 0);
	/* NMI is an edge whatever the trigger bit says. */
	line(23, false);
	entry(23, 0, 0x8400);
	line(23, true);
	CHECK_EQ(n_msi, 5);
	CHECK_EQ(msi_data, 0x400);
	ioapic_eoi(io, 0);
	CHECK_EQ(n_msi, 5);

	/* Past the last pin, past the registers, odd widths. */
	CHECK_EQ(get(0x40), 0);
	set(0x40, UINT32_MAX);
	set(0xff, UINT32_MAX);
	CHECK_EQ(get(0xff), 0);
	CHECK_EQ(bus_read(b, BUS_MMIO, IOAPIC_BASE + 0xffc, 4), 0);
	CHECK_EQ(bus_read(b, BUS_MMIO, IOAPIC_BASE + 0x1000, 4), 0xffffffff);
	set(1, 0);
	CHECK_EQ(bus_read(b, BUS_MMIO, IOAPIC_BASE + 0x12, 1), 0x17);
	for (unsigned int reg = 0; reg < 256; reg++)
		set((uint8_t)reg, UINT32_MAX);
	device_reset(&io->dev);
	CHECK_EQ(get(0), 3u << 24);
	device_free(&io->dev);
	bus_free(b);
	return 0;
}
