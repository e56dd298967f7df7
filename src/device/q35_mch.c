/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/q35_mch.c - Q35's host bridge (Intel 316966, 5.1)
 */
#include "device/q35_mch.h"

#include <errno.h>

#define PCIEXBAR_ENABLE    1u
#define PCIEXBAR_LENGTH(v) ((unsigned int)((v) >> 1 & 3))

#define SMRAM_OPEN   0x40
#define SMRAM_LOCK   0x10
#define SMRAM_LEGACY 0x02 /* C_BASE_SEG, fixed */

static uint64_t pciexbar(const struct q35_mch *m)
{
	return load_le64(m->pci.config + Q35_PCIEXBAR);
}

static bool ecam_window(const struct q35_mch *m, uint64_t *base, uint64_t *size)
{
	uint64_t v = pciexbar(m);

	/* Length: 0 = 256, 1 = 128, 2 = 64 MiB; 3 is reserved. */
	if (!(v & PCIEXBAR_ENABLE) || PCIEXBAR_LENGTH(v) == 3)
		return false;
	*size = UINT64_C(0x10000000) >> PCIEXBAR_LENGTH(v);
	*base = v & (BIT(36) - 1) & ~(*size - 1);
	return true;
}

bool q35_mch_ecam(struct q35_mch *m, uint64_t *base, uint64_t *size)
{
	bool on;

	pthread_mutex_lock(&m->pci.lock);
	on = ecam_window(m, base, size);
	pthread_mutex_unlock(&m->pci.lock);
	return on;
}

static void update_ecam(struct q35_mch *m)
{
	uint64_t base = 0, size = 0;

	if (!m->pci.bus)
		return;
	if (!ecam_window(m, &base, &size))
		base = 0;
	pci_bus_set_ecam(m->pci.bus, base, size);
}

/* Locked, SMRAM stays closed until reset. */
static void update_smram(struct q35_mch *m)
{
	uint8_t *smram = &m->pci.config[Q35_SMRAM];

	if (!(*smram & SMRAM_LOCK))
		return;
	*smram &= (uint8_t)~SMRAM_OPEN;
	m->pci.wmask[Q35_SMRAM] = 0x20;
	m->pci.wmask[Q35_ESMRAMC] = 0;
}

static void mch_config_write(struct pci_dev *d, unsigned int off, unsigned int size, uint32_t value)
{
	struct q35_mch *m = container_of(d, struct q35_mch, pci);

	if (off >= Q35_PCIEXBAR && off < Q35_PCIEXBAR + 8)
		update_ecam(m);
	if (off + size > Q35_PAM0 && off <= Q35_ESMRAMC) {
		update_smram(m);
		if (m->cfg.memory_changed)
			m->cfg.memory_changed(m->cfg.opaque);
	}
}

static void mch_reset(struct pci_dev *d)
{
	struct q35_mch *m = container_of(d, struct q35_mch, pci);

	store_le64(d->config + Q35_PCIEXBAR, Q35_ECAM_DEFAULT);
	memset(d->config + Q35_PAM0, 0, 7);
	d->config[Q35_SMRAM] = SMRAM_LEGACY;
	d->config[Q35_ESMRAMC] = 0x38;
	d->wmask[Q35_SMRAM] = 0x78;
	d->wmask[Q35_ESMRAMC] = 0x87;
	update_ecam(m);
	if (m->cfg.memory_changed)
		m->cfg.memory_changed(m->cfg.opaque);
}

static void mch_free(struct pci_dev *d)
{
	pci_dev_fini(d);
	free(container_of(d, struct q35_mch, pci));
}

/* All is in configuration space. */
static int mch_load(struct pci_dev *d, const void *data, size_t len, size_t *used, struct err *e)
{
	struct q35_mch *m = container_of(d, struct q35_mch, pci);

	update_ecam(m);
	update_smram(m);
	if (m->cfg.memory_changed)
		m->cfg.memory_changed(m->cfg.opaque);
	*used = 0;
	return 0;
}

static const struct pci_ops mch_ops = {
    .config_write = mch_config_write, .reset = mch_reset, .free = mch_free, .load = mch_load};

void q35_mch_set_ecam(struct q35_mch *m, uint64_t base)
{
	pthread_mutex_lock(&m->pci.lock);
	store_le64(m->pci.config + Q35_PCIEXBAR, base | PCIEXBAR_ENABLE);
	update_ecam(m);
	pthread_mutex_unlock(&m->pci.lock);
}

int q35_mch_new(const struct q35_mch_config *cfg, struct q35_mch **ret)
{
	struct q35_mch *m = calloc(1, sizeof(*m));
	struct pci_dev *d;

	if (!m)
		return -ENOMEM;
	d = &m->pci;
	pci_dev_init(d, &mch_ops, "q35-mch", 0x8086, 0x29c0, 0x06000002, 0x1af4, 0x1100);
	store_le32(d->wmask + Q35_PCIEXBAR, 0xfc000007);
	d->wmask[Q35_PCIEXBAR + 4] = 0x0f;
	d->wmask[Q35_PAM0] = 0x30;
	memset(d->wmask + Q35_PAM0 + 1, 0x33, 6);
	mch_reset(d);
	m->cfg = *cfg;
	*ret = m;
	return 0;
}
