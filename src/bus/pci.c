/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bus/pci.c - the PCI bus and its slots
 */
#include "bus/pci_priv.h"

#include <assert.h>
#include <errno.h>

static void recursive_mutex_init(pthread_mutex_t *m)
{
	pthread_mutexattr_t attr;

	pthread_mutexattr_init(&attr);
	pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_RECURSIVE);
	pthread_mutex_init(m, &attr);
	pthread_mutexattr_destroy(&attr);
}

int pci_bus_new(struct bus *b, struct irq intx, struct msi_sink msi, struct pci_bus **ret)
{
	struct pci_bus *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	p->bus = b;
	p->intx = intx;
	p->msi = msi;
	recursive_mutex_init(&p->lock);
	p->ports = (struct bus_region){.name = "pci-config",
				       .ops = &pci_port_ops,
				       .opaque = p,
				       .lock = &p->lock,
				       .space = BUS_PIO,
				       .base = 0xcf8,
				       .size = 8};
	p->ecam = (struct bus_region){.name = "pci-ecam",
				      .ops = &pci_ecam_ops,
				      .opaque = p,
				      .lock = &p->lock,
				      .space = BUS_MMIO};
	bus_add(b, &p->ports);
	bus_add(b, &p->ecam); /* hidden until it has a place */
	*ret = p;
	return 0;
}

void pci_bus_free(struct pci_bus *p)
{
	if (!p)
		return;
	bus_remove(p->bus, &p->ports);
	bus_remove(p->bus, &p->ecam);
	for (size_t i = 0; i < ARRAY_SIZE(p->dev); i++) {
		struct pci_dev *d = p->dev[i];

		if (!d)
			continue;
		pci_unplug(d);
		if (d->ops->free)
			d->ops->free(d);
	}
	pthread_mutex_destroy(&p->lock);
	free(p);
}

void pci_bus_set_ecam(struct pci_bus *p, uint64_t base, uint64_t size)
{
	bus_move(p->bus, &p->ecam, base, base ? size : 0);
}

static void dev_reset(struct pci_dev *d)
{
	pthread_mutex_lock(&d->lock);
	store_le16(d->config + PCI_COMMAND, 0);
	d->config[PCI_INTERRUPT_LINE] = 0;
	for (unsigned int i = 0; i < PCI_BARS; i++) {
		unsigned int off = PCI_BAR0 + 4 * i;

		/* The type bits are hardwired, the address is not. */
		store_le32(d->config + off,
			   load_le32(d->config + off) & ~load_le32(d->wmask + off));
	}
	pci_msix_reset(d);
	pci_bars_update(d);
	pci_irq_update(d);
	if (d->ops->reset)
		d->ops->reset(d);
	pthread_mutex_unlock(&d->lock);
}

void pci_bus_reset(struct pci_bus *p)
{
	pthread_mutex_lock(&p->lock);
	p->address = 0;
	for (size_t i = 0; i < ARRAY_SIZE(p->dev); i++) {
		if (p->dev[i])
			dev_reset(p->dev[i]);
	}
	pthread_mutex_unlock(&p->lock);
}

/* Function 0 says whether others are behind it. */
static void update_multifunction(struct pci_bus *p, unsigned int devfn)
{
	struct pci_dev *first = p->dev[devfn & ~7u];
	bool more = false;

	for (unsigned int fn = 1; fn < 8; fn++)
		more |= p->dev[(devfn & ~7u) | fn] != NULL;
	if (!first)
		return;
	if (more)
		first->config[PCI_HEADER_TYPE] |= 0x80;
	else
		first->config[PCI_HEADER_TYPE] &= 0x7f;
}

void pci_dev_init(struct pci_dev *d, const struct pci_ops *ops, const char *name, uint16_t vendor,
		  uint16_t device, uint32_t class_rev, uint16_t sub_vendor, uint16_t sub_device)
{
	*d = (struct pci_dev){.ops = ops, .name = name, .cap_end = 0x40};
	recursive_mutex_init(&d->lock);
	pthread_mutex_init(&d->irq_lock, NULL);
	store_le16(d->config + PCI_VENDOR_ID, vendor);
	store_le16(d->config + PCI_DEVICE_ID, device);
	store_le32(d->config + PCI_CLASS_REVISION, class_rev);
	store_le16(d->config + PCI_SUB_VENDOR_ID, sub_vendor);
	store_le16(d->config + PCI_SUB_DEVICE_ID, sub_device);
	/* IO, memory, master, parity, SERR, INTx disable */
	store_le16(d->wmask + PCI_COMMAND, 0x0547);
	store_le16(d->w1c + PCI_STATUS, 0xf900);
	d->wmask[0x0c] = 0xff; /* cache line size */
	d->wmask[PCI_INTERRUPT_LINE] = 0xff;
}

void pci_dev_fini(struct pci_dev *d)
{
	free(d->msix.table);
	free(d->msix.pending);
	d->msix = (struct pci_msix){0};
	pthread_mutex_destroy(&d->lock);
	pthread_mutex_destroy(&d->irq_lock);
}

int pci_plug(struct pci_bus *p, struct pci_dev *d, unsigned int devfn, struct err *e)
{
	if (devfn > 255)
		return err_msg(e, -EINVAL, "%s: no PCI slot %u", d->name, devfn >> 3);
	pthread_mutex_lock(&p->lock);
	if (p->dev[devfn]) {
		const char *other = p->dev[devfn]->name;

		pthread_mutex_unlock(&p->lock);
		return err_msg(e, -EBUSY, "%s: PCI slot %02x.%u holds %s", d->name, devfn >> 3,
			       devfn & 7, other);
	}
	for (unsigned int i = 0; i < PCI_BARS; i++) {
		if (d->bar[i].size)
			bus_add(p->bus, &d->bar[i].region);
	}
	d->bus = p;
	d->devfn = (uint8_t)devfn;
	p->dev[devfn] = d;
	update_multifunction(p, devfn);
	pci_bars_update(d);
	pthread_mutex_unlock(&p->lock);
	return 0;
}

/* The slot is emptied first: no configuration access can bring a BAR back afterwards. */
void pci_unplug(struct pci_dev *d)
{
	struct pci_bus *p = d->bus;

	if (!p)
		return;
	pci_set_intx(d, false);
	pthread_mutex_lock(&p->lock);
	p->dev[d->devfn] = NULL;
	update_multifunction(p, d->devfn);
	pthread_mutex_unlock(&p->lock);
	for (unsigned int i = 0; i < PCI_BARS; i++) {
		if (d->bar[i].size)
			bus_remove(p->bus, &d->bar[i].region);
	}
	d->bus = NULL;
}

uint8_t pci_add_cap(struct pci_dev *d, uint8_t id, uint8_t len)
{
	uint8_t at = d->cap_end;

	assert(at + len <= 0x100);
	d->config[at] = id;
	d->config[at + 1] = d->config[PCI_CAP_POINTER];
	d->config[PCI_CAP_POINTER] = at;
	d->config[PCI_STATUS] |= 0x10;
	d->cap_end = (uint8_t)ALIGN_UP(at + len, 4);
	return at;
}

bool pci_dma_enabled(const struct pci_dev *d)
{
	return __atomic_load_n(&d->config[PCI_COMMAND], __ATOMIC_RELAXED) & PCI_COMMAND_MASTER;
}

static int pci_dev_loaded(void *obj, struct err *e)
{
	struct pci_dev *d = obj;

	pci_bars_update(d);
	pci_irq_update(d);
	pci_irq_drive(d); /* whoever listens knows of a line that is low */
	return 0;
}

static const struct state_field pci_dev_fields[] = {
    STATE_ARRAY(struct pci_dev, config, 1),
    STATE_FIELD(struct pci_dev, intx_level, 1),
};

const struct state_table pci_dev_state_table = {
    .name = "pci-dev",
    .version = 1,
    .fields = pci_dev_fields,
    .n_fields = ARRAY_SIZE(pci_dev_fields),
    .loaded = pci_dev_loaded,
};

/* --- a whole device --- */

struct pci_dev *pci_bus_dev(struct pci_bus *p, unsigned int devfn)
{
	return devfn < 256 ? p->dev[devfn] : NULL;
}

void pci_bus_save(struct pci_bus *p, struct strbuf *out)
{
	strbuf_add(out, &p->address, sizeof(p->address));
}

int pci_bus_load(struct pci_bus *p, const void *data, size_t len, size_t *used, struct err *e)
{
	if (len < sizeof(p->address))
		return err_msg(e, -EINVAL, "pci: saved state is cut short");
	p->address = load_le32(data);
	*used = sizeof(p->address);
	return 0;
}

int pci_dev_can_save(struct pci_dev *d, struct err *e)
{
	const struct pci_ops *ops = d->ops;

	if (!ops->save && !ops->load && !ops->config_only)
		return err_msg(e, -EBUSY, "device %s (PCI %02x.%u) cannot be saved yet", d->name,
			       d->devfn >> 3, d->devfn & 7);
	return ops->can_save ? ops->can_save(d, e) : 0;
}

/* The device's own part is made first, since what it finishes may raise interrupts, and written
 * last, since it leans on the rest when it is read. */
void pci_dev_save(struct pci_dev *d, struct strbuf *out)
{
	autostrbuf struct strbuf own = {0};

	if (d->ops->save)
		d->ops->save(d, &own);
	pthread_mutex_lock(&d->lock);
	state_save(&pci_dev_state_table, d, out);
	pci_msix_save(d, out);
	pthread_mutex_unlock(&d->lock);
	strbuf_add(out, own.data, own.len);
}

static int load_common(struct pci_dev *d, const char *data, size_t len, size_t *used, struct err *e)
{
	uint32_t ids = load_le32(d->config + PCI_VENDOR_ID), saved;
	size_t config, msix;
	int r;

	r = state_load(&pci_dev_state_table, d, data, len, &config, e);
	if (r < 0)
		return r;
	saved = load_le32(d->config + PCI_VENDOR_ID);
	if (saved != ids) {
		store_le32(d->config + PCI_VENDOR_ID, ids); /* it is still what it is */
		return err_msg(e, -EINVAL, "%s: saved device is %04x:%04x, not %04x:%04x", d->name,
			       saved & 0xffff, saved >> 16, ids & 0xffff, ids >> 16);
	}
	r = pci_msix_load(d, data + config, len - config, &msix, e);
	if (r == 0)
		*used = config + msix;
	return r;
}

int pci_dev_load(struct pci_dev *d, const void *data, size_t len, size_t *used, struct err *e)
{
	size_t common = 0, own = 0;
	int r;

	pthread_mutex_lock(&d->lock);
	r = load_common(d, data, len, &common, e);
	if (r == 0 && d->ops->load)
		r = d->ops->load(d, (const char *)data + common, len - common, &own, e);
	pthread_mutex_unlock(&d->lock);
	if (r < 0)
		return err_wrap(e, r, "PCI %02x.%u", d->devfn >> 3, d->devfn & 7);
	*used = common + own;
	return 0;
}
