/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine/board_micro.c - the least that starts Linux: fewer things to probe, fewer to get wrong
 *
 * As q35 but without HPET, keyboard controller, port 92h, LPC bridge and Q35's registers: a plain
 * host bridge with ECAM, INTx straight to the IOAPIC, PIC and PIT (a clock that calibrates all
 * others), RTC, serial port, ACPI power management.
 */
#include "machine/machine_priv.h"

#include <errno.h>

/* --- INTx: 1024 sources (devfn << 2 | pin) on the IOAPIC's pins 16-23, each a wired OR --- */

static void intx_set(void *opaque, unsigned int source, bool level)
{
	struct machine *m = opaque;
	struct intx_router *x = &m->intx;
	unsigned int gsi = acpi_intx_gsi((source >> 5) & 31, source & 3);
	uint64_t *word = &x->high[(source >> 6) & 15], bit = BIT(source & 63);
	unsigned int *count = &x->count[gsi - 16];

	pthread_mutex_lock(&x->lock);
	if (level && !(*word & bit) && (*count)++ == 0)
		board_gsi_set(m, gsi, true);
	else if (!level && (*word & bit) && --*count == 0)
		board_gsi_set(m, gsi, false);
	*word = level ? *word | bit : *word & ~bit;
	pthread_mutex_unlock(&x->lock);
}

/* --- the host bridge: an id and a class, nothing behind it --- */

static void bridge_free(struct pci_dev *d)
{
	pci_dev_fini(d);
	free(d);
}

static const struct pci_ops bridge_ops = {.free = bridge_free, .config_only = true};

static int add_bridge(struct machine *m, struct err *e)
{
	struct pci_dev *d = xnew(struct pci_dev);
	int r;

	/* Red Hat's generic PCIe host bridge: known to be without any behaviour. */
	pci_dev_init(d, &bridge_ops, "host bridge", 0x1b36, 0x0008, 0x06000000, 0x1af4, 0x1100);
	r = pci_plug(m->pci, d, 0, e);
	if (r < 0)
		bridge_free(d);
	return r;
}

static int build(struct machine *m, struct err *e)
{
	int r = board_add_interrupts(m, e);

	if (r == 0)
		r = board_add_pci(m, (struct irq){.set = intx_set, .opaque = m}, e);
	if (r == 0)
		r = add_bridge(m, e);
	if (r == 0)
		r = chips_add_power(m, e);
	if (r == 0)
		r = chips_add_hotplug(m, e);
	if (r == 0)
		r = chips_add_timers(m, e);
	if (r == 0)
		r = chips_add_serial(m, e);
	if (r == 0)
		r = chips_add_debug(m, e);
	return r;
}

const struct board_ops board_micro = {
    .name = "micro",
    .build = build,
};
