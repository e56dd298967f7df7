/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bus/pci_config.c - configuration accesses: ports 0xcf8-0xcff (PCI 3.0, 3.2.2.3.2) and ECAM
 * (PCI Express 3.0, 7.2.2)
 */
#include "bus/pci_priv.h"

static uint32_t ones(unsigned int size)
{
	return UINT32_MAX >> (32 - 8 * size);
}

uint32_t pci_dev_config_read(struct pci_dev *d, unsigned int off, unsigned int size)
{
	uint32_t v = 0;

	pthread_mutex_lock(&d->lock);
	if (!d->ops->config_read || !d->ops->config_read(d, off, size, &v)) {
		v = 0;
		memcpy(&v, d->config + off, size);
	}
	pthread_mutex_unlock(&d->lock);
	return v & ones(size);
}

void pci_dev_config_write(struct pci_dev *d, unsigned int off, unsigned int size, uint32_t value)
{
	unsigned int end = off + size;

	pthread_mutex_lock(&d->lock);
	for (unsigned int i = 0; i < size; i++) {
		uint8_t v = (uint8_t)(value >> (8 * i)), mask = d->wmask[off + i];
		uint8_t now = d->config[off + i];

		/* Not even stored: the INTx status bit changes from other threads. */
		if (!(mask | d->w1c[off + i]))
			continue;
		now = (uint8_t)((now & ~mask) | (v & mask));
		now &= (uint8_t) ~(v & d->w1c[off + i]);
		__atomic_store_n(&d->config[off + i], now, __ATOMIC_RELAXED);
	}
	if ((off < PCI_COMMAND + 2 && end > PCI_COMMAND) ||
	    (off < PCI_BAR0 + 4 * PCI_BARS && end > PCI_BAR0))
		pci_bars_update(d);
	pci_irq_update(d);
	if (d->ops->config_write)
		d->ops->config_write(d, off, size, value);
	pthread_mutex_unlock(&d->lock);
}

/* Only bus 0 has slots; the rest answers like an empty one. */
static struct pci_dev *find_dev(struct pci_bus *p, uint16_t bdf)
{
	return bdf < ARRAY_SIZE(p->dev) ? p->dev[bdf] : NULL;
}

static bool access_ok(unsigned int off, unsigned int size)
{
	return (size == 1 || size == 2 || size == 4) && range_ok(off, size, PCI_CONFIG_SIZE) &&
	       (off & 3) + size <= 4;
}

uint32_t pci_config_read(struct pci_bus *p, uint16_t bdf, unsigned int off, unsigned int size)
{
	struct pci_dev *d;
	uint32_t v;

	if (!access_ok(off, size))
		return UINT32_MAX;
	pthread_mutex_lock(&p->lock);
	d = find_dev(p, bdf);
	v = d ? pci_dev_config_read(d, off, size) : ones(size);
	pthread_mutex_unlock(&p->lock);
	return v;
}

void pci_config_write(struct pci_bus *p, uint16_t bdf, unsigned int off, unsigned int size,
		      uint32_t value)
{
	struct pci_dev *d;

	if (!access_ok(off, size))
		return;
	pthread_mutex_lock(&p->lock);
	d = find_dev(p, bdf);
	if (d)
		pci_dev_config_write(d, off, size, value);
	pthread_mutex_unlock(&p->lock);
}

/* --- ports -------------------------------------------------------------------------------------
 */

static uint64_t port_read(void *opaque, uint64_t off, unsigned int size)
{
	struct pci_bus *p = opaque;

	if (off < 4)
		return off == 0 && size == 4 ? p->address : UINT64_MAX;
	if (!(p->address >> 31))
		return UINT64_MAX;
	return pci_config_read(p, (uint16_t)(p->address >> 8),
			       (p->address & 0xfc) | (unsigned int)(off & 3), size);
}

static void port_write(void *opaque, uint64_t off, unsigned int size, uint64_t value)
{
	struct pci_bus *p = opaque;

	if (off < 4) {
		if (off == 0 && size == 4)
			p->address = (uint32_t)value & 0x80fffffc;
		return;
	}
	if (p->address >> 31)
		pci_config_write(p, (uint16_t)(p->address >> 8),
				 (p->address & 0xfc) | (unsigned int)(off & 3), size,
				 (uint32_t)value);
}

const struct bus_ops pci_port_ops = {.read = port_read, .write = port_write, .max = 4};

/* --- ECAM: bus << 20 | devfn << 12 | offset ----------------------------------------------------
 */

static uint64_t ecam_read(void *opaque, uint64_t off, unsigned int size)
{
	if (off >> 28)
		return UINT64_MAX;
	return pci_config_read(opaque, (uint16_t)(off >> 12), off & 0xfff, size);
}

static void ecam_write(void *opaque, uint64_t off, unsigned int size, uint64_t value)
{
	if (off >> 28)
		return;
	pci_config_write(opaque, (uint16_t)(off >> 12), off & 0xfff, size, (uint32_t)value);
}

const struct bus_ops pci_ecam_ops = {.read = ecam_read, .write = ecam_write, .max = 4};
