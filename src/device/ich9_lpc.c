/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/ich9_lpc.c - ICH9's LPC bridge: power-management base and interrupt routing (Intel 316972,
 * 13.1)
 */
#include "device/ich9_lpc.h"

#include <errno.h>

#define REG_PMBASE    0x40
#define REG_ACPI_CNTL 0x44
#define REG_GPIOBASE  0x48
#define REG_GPIO_CNTL 0x4c
#define REG_PIRQ_A    0x60 /* A-D */
#define REG_SIRQ      0x64
#define REG_PIRQ_E    0x68 /* E-H */
#define REG_GEN_PMCON 0xa0
#define REG_RCBA      0xf0

#define ACPI_ENABLE 0x80
#define ROUTE_OFF   0x80
/* IRQs a PIRQ can be routed to: 3-7, 9-12, 14, 15. */
#define ROUTE_MASK 0xdef8

#define FIRST_GSI 16

static unsigned int pirq_of(unsigned int devfn, unsigned int pin)
{
	unsigned int slot = devfn >> 3;

	return slot < 25 ? 4 + (slot + pin) % 4 : pin;
}

/* PIC lines follow from all PIRQs together; only changes are told. */
static void update_isa(struct ich9_lpc *l)
{
	uint16_t high = 0, changed;

	for (unsigned int i = 0; i < 8; i++) {
		uint16_t bit = (uint16_t)(1 << (l->route[i] & 15));

		if (l->count[i] && !(l->route[i] & ROUTE_OFF) && (bit & ROUTE_MASK))
			high |= bit;
	}
	changed = high ^ l->isa_high;
	l->isa_high = high;
	for (unsigned int line = 0; line < 16; line++) {
		struct irq irq = l->cfg.isa;

		irq.pin = line;
		if (changed >> line & 1)
			irq_set(&irq, high >> line & 1);
	}
}

/* @pin is devfn << 2 | pin, as struct pci_bus says. */
static void intx_set(void *opaque, unsigned int pin, bool level)
{
	struct ich9_lpc *l = opaque;
	uint64_t bit = BIT(pin % 64), *word = &l->source[pin / 64 % 16];
	unsigned int pirq = pirq_of(pin >> 2 & 255, pin & 3);
	struct irq gsi = l->cfg.gsi;

	gsi.pin = FIRST_GSI + pirq;
	pthread_mutex_lock(&l->route_lock);
	if (!(*word & bit) != !level) {
		*word ^= bit;
		l->count[pirq] = (uint16_t)(l->count[pirq] + (level ? 1 : -1));
		if (l->count[pirq] == (level ? 1 : 0)) {
			irq_set(&gsi, level);
			update_isa(l);
		}
	}
	pthread_mutex_unlock(&l->route_lock);
}

struct irq ich9_lpc_intx(struct ich9_lpc *l)
{
	return (struct irq){intx_set, l, 0};
}

static void update_pm_base(struct ich9_lpc *l)
{
	const uint8_t *c = l->pci.config;
	uint16_t base = 0;

	if (c[REG_ACPI_CNTL] & ACPI_ENABLE)
		base = load_le16(c + REG_PMBASE) & 0xff80;
	if (base == l->pm_base)
		return;
	l->pm_base = base;
	if (l->cfg.pm_moved)
		l->cfg.pm_moved(l->cfg.opaque, base);
}

static void update_routes(struct ich9_lpc *l)
{
	pthread_mutex_lock(&l->route_lock);
	memcpy(l->route, l->pci.config + REG_PIRQ_A, 4);
	memcpy(l->route + 4, l->pci.config + REG_PIRQ_E, 4);
	update_isa(l);
	pthread_mutex_unlock(&l->route_lock);
}

static void lpc_config_write(struct pci_dev *d, unsigned int off, unsigned int size, uint32_t value)
{
	struct ich9_lpc *l = container_of(d, struct ich9_lpc, pci);

	if (off >= REG_PMBASE && off < REG_ACPI_CNTL + 4)
		update_pm_base(l);
	if (off >= REG_PIRQ_A && off < REG_PIRQ_E + 4)
		update_routes(l);
}

static void lpc_reset(struct pci_dev *d)
{
	struct ich9_lpc *l = container_of(d, struct ich9_lpc, pci);

	store_le32(d->config + REG_PMBASE, 1);
	d->config[REG_ACPI_CNTL] = 0;
	store_le32(d->config + REG_GPIOBASE, 1);
	d->config[REG_GPIO_CNTL] = 0;
	memset(d->config + REG_PIRQ_A, ROUTE_OFF, 4);
	memset(d->config + REG_PIRQ_E, ROUTE_OFF, 4);
	d->config[REG_SIRQ] = 0x10;
	memset(d->config + REG_GEN_PMCON, 0, 4);
	store_le32(d->config + REG_RCBA, 0);
	update_pm_base(l);
	update_routes(l);
}

static void lpc_free(struct pci_dev *d)
{
	struct ich9_lpc *l = container_of(d, struct ich9_lpc, pci);

	pci_dev_fini(d);
	pthread_mutex_destroy(&l->route_lock);
	free(l);
}

/* All is in configuration space.  Who is high follows from the devices' own saved lines, which
 * raise them again. */
static int lpc_load(struct pci_dev *d, const void *data, size_t len, size_t *used, struct err *e)
{
	struct ich9_lpc *l = container_of(d, struct ich9_lpc, pci);

	update_pm_base(l);
	update_routes(l);
	*used = 0;
	return 0;
}

static const struct pci_ops lpc_ops = {
    .config_write = lpc_config_write, .reset = lpc_reset, .free = lpc_free, .load = lpc_load};

void ich9_lpc_set_pm_base(struct ich9_lpc *l, uint16_t base)
{
	pthread_mutex_lock(&l->pci.lock);
	store_le32(l->pci.config + REG_PMBASE, (base & 0xff80u) | 1);
	l->pci.config[REG_ACPI_CNTL] = ACPI_ENABLE; /* SCI on IRQ 9 */
	update_pm_base(l);
	pthread_mutex_unlock(&l->pci.lock);
}

int ich9_lpc_new(const struct ich9_lpc_config *cfg, struct ich9_lpc **ret)
{
	struct ich9_lpc *l = calloc(1, sizeof(*l));
	struct pci_dev *d;

	if (!l)
		return -ENOMEM;
	d = &l->pci;
	pci_dev_init(d, &lpc_ops, "ich9-lpc", 0x8086, 0x2918, 0x06010002, 0x1af4, 0x1100);
	l->cfg = *cfg;
	pthread_mutex_init(&l->route_lock, NULL);
	store_le16(d->config + PCI_COMMAND, 0x0007);
	store_le16(d->wmask + REG_PMBASE, 0xff80);
	d->wmask[REG_ACPI_CNTL] = 0x87;
	store_le16(d->wmask + REG_GPIOBASE, 0xff80);
	d->wmask[REG_GPIO_CNTL] = 0x10;
	memset(d->wmask + REG_PIRQ_A, 0x8f, 4);
	memset(d->wmask + REG_PIRQ_E, 0x8f, 4);
	d->wmask[REG_SIRQ] = 0xff;
	memset(d->wmask + REG_GEN_PMCON, 0xff, 4);
	store_le32(d->wmask + REG_RCBA, 0xffffc001);
	lpc_reset(d);
	*ret = l;
	return 0;
}
