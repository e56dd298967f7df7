/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bus/pci_msix.c - MSI-X (PCI 3.0, 6.8.2) and INTx
 *
 * A table entry is: address low, address high, data, control (bit 0 = masked).  A vector notified
 * while it or the whole function is masked becomes pending and is sent when unmasked.
 */
#include "bus/pci_priv.h"

#include <assert.h>
#include <errno.h>

#define ENTRY_SIZE   16
#define ENTRY_CTRL   12
#define CTRL_ENABLE  0x8000
#define CTRL_MASKALL 0x4000

int pci_add_msix(struct pci_dev *d, unsigned int n, unsigned int bar, uint32_t table_off,
		 uint32_t pba_off)
{
	uint8_t cap;

	assert(n >= 1 && n <= 2048 && bar < PCI_BARS && !d->msix.n);
	assert(!(table_off & 7) && !(pba_off & 7));
	d->msix.table = calloc(n, ENTRY_SIZE);
	d->msix.pending = calloc((n + 63) / 64, sizeof(uint64_t));
	if (!d->msix.table || !d->msix.pending)
		return -ENOMEM; /* pci_dev_fini frees */
	cap = pci_add_cap(d, PCI_CAP_MSIX, 12);
	store_le16(d->config + cap + 2, (uint16_t)(n - 1));
	store_le16(d->wmask + cap + 2, CTRL_ENABLE | CTRL_MASKALL);
	store_le32(d->config + cap + 4, table_off | bar);
	store_le32(d->config + cap + 8, pba_off | bar);
	d->msix.n = n;
	d->msix.cap = cap;
	pci_msix_reset(d);
	return 0;
}

void pci_msix_reset(struct pci_dev *d)
{
	struct pci_msix *m = &d->msix;

	if (!m->n)
		return;
	pthread_mutex_lock(&d->irq_lock);
	store_le16(d->config + m->cap + 2, (uint16_t)(m->n - 1));
	memset(m->table, 0, (size_t)m->n * ENTRY_SIZE);
	for (unsigned int i = 0; i < m->n; i++)
		m->table[i * ENTRY_SIZE + ENTRY_CTRL] = 1;
	memset(m->pending, 0, (size_t)(m->n + 63) / 64 * sizeof(uint64_t));
	m->enabled = m->masked = false;
	pthread_mutex_unlock(&d->irq_lock);
}

static bool is_pending(const struct pci_msix *m, unsigned int n)
{
	return m->pending[n / 64] & BIT(n % 64);
}

static void entry_send(struct pci_dev *d, unsigned int n)
{
	const uint8_t *entry = d->msix.table + (size_t)n * ENTRY_SIZE;

	d->msix.pending[n / 64] &= ~BIT(n % 64);
	if (d->bus)
		msi_send(&d->bus->msi, load_le64(entry), load_le32(entry + 8));
}

static bool entry_masked(const struct pci_msix *m, unsigned int n)
{
	return m->masked || (m->table[(size_t)n * ENTRY_SIZE + ENTRY_CTRL] & 1);
}

void pci_msix_notify(struct pci_dev *d, unsigned int n)
{
	struct pci_msix *m = &d->msix;

	pthread_mutex_lock(&d->irq_lock);
	if (n < m->n && m->enabled) {
		if (entry_masked(m, n))
			m->pending[n / 64] |= BIT(n % 64);
		else
			entry_send(d, n);
	}
	pthread_mutex_unlock(&d->irq_lock);
}

bool pci_msix_enabled(const struct pci_dev *d)
{
	return __atomic_load_n(&d->msix.enabled, __ATOMIC_RELAXED);
}

uint64_t pci_msix_read(struct pci_dev *d, uint64_t off, unsigned int size, bool pba)
{
	const struct pci_msix *m = &d->msix;
	uint64_t len = pba ? (uint64_t)(m->n + 63) / 64 * 8 : (uint64_t)m->n * ENTRY_SIZE;
	uint64_t v = 0;

	if (size > 8 || !range_ok(off, size, len))
		return 0;
	pthread_mutex_lock(&d->irq_lock);
	memcpy(&v, (pba ? (const uint8_t *)m->pending : m->table) + off, size);
	pthread_mutex_unlock(&d->irq_lock);
	return v;
}

void pci_msix_write(struct pci_dev *d, uint64_t off, unsigned int size, uint64_t value)
{
	struct pci_msix *m = &d->msix;

	/* Dwords and qwords only: others are undefined, and dropped here. */
	if ((size != 4 && size != 8) || off % size || !range_ok(off, size, m->n * ENTRY_SIZE))
		return;
	pthread_mutex_lock(&d->irq_lock);
	memcpy(m->table + off, &value, size);
	if (off % ENTRY_SIZE + size > ENTRY_CTRL) {
		unsigned int n = (unsigned int)(off / ENTRY_SIZE);
		uint8_t *ctrl = m->table + (size_t)n * ENTRY_SIZE + ENTRY_CTRL;

		store_le32(ctrl, load_le32(ctrl) & 1);
		if (m->enabled && is_pending(m, n) && !entry_masked(m, n))
			entry_send(d, n);
	}
	pthread_mutex_unlock(&d->irq_lock);
}

static void drive_intx(struct pci_dev *d)
{
	unsigned int pin = d->config[PCI_INTERRUPT_PIN];
	struct irq line;

	if (!d->bus || pin < 1 || pin > 4)
		return;
	line = d->bus->intx;
	line.pin = (unsigned int)d->devfn << 2 | (pin - 1);
	irq_set(&line, d->intx_level && !d->intx_off);
}

/* Status bit 3 shows what the device asks for, whether it may or not. */
void pci_set_intx(struct pci_dev *d, bool level)
{
	pthread_mutex_lock(&d->irq_lock);
	if (d->intx_level != level) {
		d->intx_level = level;
		if (level)
			__atomic_fetch_or(&d->config[PCI_STATUS], 8, __ATOMIC_RELAXED);
		else
			__atomic_fetch_and(&d->config[PCI_STATUS], 0xf7, __ATOMIC_RELAXED);
		drive_intx(d);
	}
	pthread_mutex_unlock(&d->irq_lock);
}

void pci_irq_update(struct pci_dev *d)
{
	struct pci_msix *m = &d->msix;
	uint16_t ctrl = m->n ? load_le16(d->config + m->cap + 2) : 0;
	bool off;

	pthread_mutex_lock(&d->irq_lock);
	__atomic_store_n(&m->enabled, ctrl & CTRL_ENABLE, __ATOMIC_RELAXED);
	m->masked = ctrl & CTRL_MASKALL;
	for (unsigned int i = 0; m->enabled && !m->masked && i < m->n; i++) {
		if (is_pending(m, i) && !entry_masked(m, i))
			entry_send(d, i);
	}
	off = m->enabled || (load_le16(d->config + PCI_COMMAND) & PCI_COMMAND_INTX_OFF);
	if (off != d->intx_off) {
		d->intx_off = off;
		drive_intx(d);
	}
	pthread_mutex_unlock(&d->irq_lock);
}

void pci_irq_drive(struct pci_dev *d)
{
	pthread_mutex_lock(&d->irq_lock);
	drive_intx(d);
	pthread_mutex_unlock(&d->irq_lock);
}

/* u32 n | table | pending */
void pci_msix_save(struct pci_dev *d, struct strbuf *out)
{
	struct pci_msix *m = &d->msix;
	uint32_t n = m->n;

	pthread_mutex_lock(&d->irq_lock);
	strbuf_add(out, &n, sizeof(n));
	if (n) {
		strbuf_add(out, m->table, (size_t)n * ENTRY_SIZE);
		strbuf_add(out, m->pending, (size_t)(n + 63) / 64 * 8);
	}
	pthread_mutex_unlock(&d->irq_lock);
}

int pci_msix_load(struct pci_dev *d, const void *data, size_t len, size_t *used, struct err *e)
{
	struct pci_msix *m = &d->msix;
	size_t table = (size_t)m->n * ENTRY_SIZE, pba = (size_t)(m->n + 63) / 64 * 8;

	if (len < 4 || load_le32(data) != m->n || len - 4 < table + pba)
		return err_msg(e, -EINVAL, "%s: saved MSI-X table does not fit", d->name);
	pthread_mutex_lock(&d->irq_lock);
	if (m->n) {
		memcpy(m->table, (const uint8_t *)data + 4, table);
		memcpy(m->pending, (const uint8_t *)data + 4 + table, pba);
		/* Bits past the last vector name no entry. */
		if (m->n % 64)
			m->pending[m->n / 64] &= BIT(m->n % 64) - 1;
	}
	pthread_mutex_unlock(&d->irq_lock);
	*used = 4 + table + pba;
	return 0;
}
