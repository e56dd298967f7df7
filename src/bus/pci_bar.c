/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bus/pci_bar.c - base address registers (PCI 3.0, 6.2.5)
 */
#include "bus/pci_priv.h"

#include <assert.h>

void pci_add_bar(struct pci_dev *d, unsigned int n, uint64_t size, bool io, bool is64,
		 bool prefetch, const struct bus_ops *ops, void *opaque)
{
	struct pci_bar *bar = &d->bar[n];
	unsigned int off = PCI_BAR0 + 4 * n;
	uint64_t mask = ~(size - 1);

	assert(n < PCI_BARS && !d->bus && !bar->size);
	assert(size >= 16 && (size & (size - 1)) == 0);
	assert(!is64 || (!io && n + 1 < PCI_BARS));
	assert(is64 || size <= (io ? UINT64_C(256) : UINT64_C(1) << 31));
	*bar = (struct pci_bar){.size = size, .io = io, .is64 = is64, .prefetch = prefetch};
	bar->region = (struct bus_region){.name = d->name,
					  .ops = ops,
					  .opaque = opaque,
					  .lock = &d->lock,
					  .space = io ? BUS_PIO : BUS_MMIO,
					  .priority = PCI_BAR_PRIORITY};
	store_le32(d->config + off, io ? 1 : (is64 ? 4u : 0) | (prefetch ? 8u : 0));
	store_le32(d->wmask + off, (uint32_t)mask);
	if (is64)
		store_le32(d->wmask + off + 4, (uint32_t)(mask >> 32));
}

/* Where @bar is decoded now; false when it is not. */
static bool bar_place(const struct pci_dev *d, unsigned int n, uint64_t *base)
{
	const struct pci_bar *bar = &d->bar[n];
	const uint8_t *reg = d->config + PCI_BAR0 + 4 * n;
	uint16_t command = load_le16(d->config + PCI_COMMAND);
	uint64_t at, ones = bar->io || !bar->is64 ? UINT32_MAX : UINT64_MAX;

	if (!(command & (bar->io ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY)))
		return false;
	at = load_le32(reg) & (bar->io ? ~3u : ~15u);
	if (bar->is64)
		at |= (uint64_t)load_le32(reg + 4) << 32;
	/* A sizing write with decoding left on must not cover what is really there. */
	if (at == 0 || at + (bar->size - 1) >= ones)
		return false;
	if (bar->io && at > 0xffff)
		return false;
	*base = at;
	return true;
}

void pci_bars_update(struct pci_dev *d)
{
	if (!d->bus)
		return;
	for (unsigned int i = 0; i < PCI_BARS; i++) {
		struct pci_bar *bar = &d->bar[i];
		uint64_t base;

		if (!bar->size)
			continue;
		if (bar_place(d, i, &base))
			bus_move(d->bus->bus, &bar->region, base, bar->size);
		else
			bus_move(d->bus->bus, &bar->region, 0, 0);
	}
}
