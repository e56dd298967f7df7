/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio/pci.c - the modern virtio-over-PCI transport (virtio 1.2, 4.1)
 *
 * BAR and configuration accesses arrive with the PCI function's lock held, which is the device's
 * lock too, so that an interrupt raised from a backend's thread meets the same lock.
 */
#include "virtio/pci.h"

#include "base/log.h"

#define VIRTIO_VENDOR   0x1af4
#define VIRTIO_DEV_BASE 0x1040
#define VIRTIO_SUBSYS   0x1100

#define CAP_VENDOR 0x09

/* struct virtio_pci_cap.cfg_type (4.1.4) */
enum cap_type { CAP_COMMON = 1, CAP_NOTIFY = 2, CAP_ISR = 3, CAP_DEVICE = 4, CAP_PCI_CFG = 5 };

#define MSIX_BAR 1
#define MSIX_PBA 0x800
#define MAIN_BAR 4

#define COMMON_OFF  0x0000
#define COMMON_LEN  0x40
#define ISR_OFF     0x1000
#define DEVICE_OFF  0x2000
#define DEVICE_LEN  0x1000
#define NOTIFY_OFF  0x3000
#define NOTIFY_MULT 4
#define BAR_LEN     0x4000

#define ISR_QUEUE  1
#define ISR_CONFIG 2

/* struct virtio_pci_common_cfg (4.1.4.3) */
enum common_reg {
	REG_DEVICE_FEATURE_SELECT = 0x00,
	REG_DEVICE_FEATURE = 0x04,
	REG_DRIVER_FEATURE_SELECT = 0x08,
	REG_DRIVER_FEATURE = 0x0c,
	REG_CONFIG_MSIX_VECTOR = 0x10,
	REG_NUM_QUEUES = 0x12,
	REG_DEVICE_STATUS = 0x14,
	REG_CONFIG_GENERATION = 0x15,
	REG_QUEUE_SELECT = 0x16,
	REG_QUEUE_SIZE = 0x18,
	REG_QUEUE_MSIX_VECTOR = 0x1a,
	REG_QUEUE_ENABLE = 0x1c,
	REG_QUEUE_NOTIFY_OFF = 0x1e,
	REG_QUEUE_DESC = 0x20,
	REG_QUEUE_DRIVER = 0x28,
	REG_QUEUE_DEVICE = 0x30,
	REG_QUEUE_NOTIFY_DATA = 0x38,
	REG_QUEUE_RESET = 0x3a,
};

struct virtio_pci {
	struct pci_dev pci; /* first: freed as one */
	struct virtio_dev *dev;
	uint32_t device_feature_select, driver_feature_select;
	uint16_t config_vector, queue_select;
	uint8_t isr;
	uint8_t cfg_cap; /* offset of the PCI configuration access capability */
};

static struct virtio_pci *from_pci(struct pci_dev *p)
{
	return container_of(p, struct virtio_pci, pci);
}

/* --- interrupts --- */

static void transport_notify(void *opaque, struct vq *q)
{
	struct virtio_pci *v = opaque;

	if (pci_msix_enabled(&v->pci)) {
		uint16_t vector = q ? q->msix_vector : v->config_vector;

		if (vector != VIRTIO_NO_VECTOR)
			pci_msix_notify(&v->pci, vector);
		return;
	}
	v->isr |= q ? ISR_QUEUE : ISR_CONFIG;
	pci_set_intx(&v->pci, true);
}

static uint8_t isr_read(struct virtio_pci *v)
{
	uint8_t isr = v->isr;

	v->isr = 0;
	pci_set_intx(&v->pci, false);
	return isr;
}

/* A vector the function does not have reads back as none (4.1.5.1.2.1). */
static uint16_t checked_vector(const struct virtio_pci *v, uint16_t vector)
{
	return vector < v->pci.msix.n ? vector : VIRTIO_NO_VECTOR;
}

/* --- common configuration --- */

static struct vq *selected(struct virtio_pci *v)
{
	return v->queue_select < v->dev->n_queues ? &v->dev->q[v->queue_select] : NULL;
}

static uint64_t queue_field(struct virtio_pci *v, unsigned int reg)
{
	const struct vq *q = selected(v);

	if (!q)
		return reg == REG_QUEUE_MSIX_VECTOR ? VIRTIO_NO_VECTOR : 0;
	switch (reg) {
	case REG_QUEUE_SIZE:
		return q->size;
	case REG_QUEUE_MSIX_VECTOR:
		return q->msix_vector;
	case REG_QUEUE_ENABLE:
		return q->enabled;
	case REG_QUEUE_NOTIFY_OFF:
		return q->index;
	case REG_QUEUE_DESC:
		return q->desc;
	case REG_QUEUE_DRIVER:
		return q->avail;
	case REG_QUEUE_DEVICE:
		return q->used;
	}
	return 0;
}

static uint64_t common_field(struct virtio_pci *v, unsigned int reg)
{
	switch (reg) {
	case REG_DEVICE_FEATURE_SELECT:
		return v->device_feature_select;
	case REG_DEVICE_FEATURE:
		if (v->device_feature_select > 1)
			return 0;
		return (uint32_t)(v->dev->features_offered >> (32 * v->device_feature_select));
	case REG_DRIVER_FEATURE_SELECT:
		return v->driver_feature_select;
	case REG_DRIVER_FEATURE:
		if (v->driver_feature_select > 1)
			return 0;
		return (uint32_t)(v->dev->features >> (32 * v->driver_feature_select));
	case REG_CONFIG_MSIX_VECTOR:
		return v->config_vector;
	case REG_NUM_QUEUES:
		return v->dev->n_queues;
	case REG_DEVICE_STATUS:
		return v->dev->status;
	case REG_CONFIG_GENERATION:
		return v->dev->config_generation;
	case REG_QUEUE_SELECT:
		return v->queue_select;
	}
	return queue_field(v, reg);
}

/* Register starts and widths; the driver may read a 64-bit one in halves (4.1.3.1). */
static const struct {
	uint8_t off, len;
} common_regs[] = {
    {REG_DEVICE_FEATURE_SELECT, 4}, {REG_DEVICE_FEATURE, 4},
    {REG_DRIVER_FEATURE_SELECT, 4}, {REG_DRIVER_FEATURE, 4},
    {REG_CONFIG_MSIX_VECTOR, 2},    {REG_NUM_QUEUES, 2},
    {REG_DEVICE_STATUS, 1},         {REG_CONFIG_GENERATION, 1},
    {REG_QUEUE_SELECT, 2},          {REG_QUEUE_SIZE, 2},
    {REG_QUEUE_MSIX_VECTOR, 2},     {REG_QUEUE_ENABLE, 2},
    {REG_QUEUE_NOTIFY_OFF, 2},      {REG_QUEUE_DESC, 8},
    {REG_QUEUE_DRIVER, 8},          {REG_QUEUE_DEVICE, 8},
};

/* The register that holds byte @off, or -1. */
static int common_find(uint64_t off)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(common_regs); i++) {
		if (off - common_regs[i].off < common_regs[i].len)
			return (int)i;
	}
	return -1;
}

static uint64_t common_read(struct virtio_pci *v, uint64_t off, unsigned int size)
{
	uint64_t value = 0;

	for (unsigned int i = 0; i < size; i++) {
		int k = common_find(off + i);
		unsigned int shift;

		if (k < 0)
			continue;
		shift = 8 * (unsigned int)(off + i - common_regs[k].off);
		value |= (common_field(v, common_regs[k].off) >> shift & 0xff) << (8 * i);
	}
	return value;
}

static void set_driver_feature(struct virtio_pci *v, uint32_t value)
{
	unsigned int shift = 32 * (v->driver_feature_select & 1);

	if (v->driver_feature_select > 1)
		return;
	if (v->dev->status & VIRTIO_STATUS_FEATURES_OK) {
		guest_warn("%s: features written after FEATURES_OK", v->dev->ops->name);
		return;
	}
	v->dev->features &= ~((uint64_t)UINT32_MAX << shift);
	v->dev->features |= (uint64_t)value << shift;
}

static void set_status(struct virtio_pci *v, uint8_t status)
{
	virtio_set_status(v->dev, status);
	if (!status) {
		v->config_vector = VIRTIO_NO_VECTOR;
		v->queue_select = 0;
		v->device_feature_select = v->driver_feature_select = 0;
		(void)isr_read(v);
	}
}

static void queue_write(struct virtio_pci *v, unsigned int reg, uint64_t value)
{
	struct vq *q = selected(v);

	if (!q)
		return;
	if (reg == REG_QUEUE_MSIX_VECTOR) {
		q->msix_vector = checked_vector(v, (uint16_t)value);
		return;
	}
	if (q->enabled) {
		guest_warn("%s: queue %u changed while enabled", v->dev->ops->name, q->index);
		return;
	}
	switch (reg) {
	case REG_QUEUE_SIZE:
		q->size = (uint16_t)value;
		break;
	case REG_QUEUE_ENABLE:
		if (value == 1)
			virtio_enable_queue(v->dev, q->index);
		break;
	case REG_QUEUE_DESC:
		q->desc = value;
		break;
	case REG_QUEUE_DRIVER:
		q->avail = value;
		break;
	case REG_QUEUE_DEVICE:
		q->used = value;
		break;
	}
}

static void common_set(struct virtio_pci *v, unsigned int reg, uint64_t value)
{
	switch (reg) {
	case REG_DEVICE_FEATURE_SELECT:
		v->device_feature_select = (uint32_t)value;
		break;
	case REG_DRIVER_FEATURE_SELECT:
		v->driver_feature_select = (uint32_t)value;
		break;
	case REG_DRIVER_FEATURE:
		set_driver_feature(v, (uint32_t)value);
		break;
	case REG_CONFIG_MSIX_VECTOR:
		v->config_vector = checked_vector(v, (uint16_t)value);
		break;
	case REG_DEVICE_STATUS:
		set_status(v, (uint8_t)value);
		break;
	case REG_QUEUE_SELECT:
		v->queue_select = (uint16_t)value;
		break;
	default:
		queue_write(v, reg, value);
	}
}

/* Drivers write whole registers, or halves of 64-bit ones; anything else is merged bytewise. */
static void common_write(struct virtio_pci *v, uint64_t off, unsigned int size, uint64_t value)
{
	while (size) {
		int k = common_find(off);
		unsigned int at, n;
		uint64_t mask, old;

		if (k < 0) {
			off++;
			size--;
			value >>= 8;
			continue;
		}
		at = (unsigned int)(off - common_regs[k].off);
		n = MIN(size, common_regs[k].len - at);
		mask = (n == 8 ? UINT64_MAX : BIT(8 * n) - 1) << (8 * at);
		old = common_field(v, common_regs[k].off);
		common_set(v, common_regs[k].off, (old & ~mask) | (value << (8 * at) & mask));
		off += n;
		size -= n;
		value = n == 8 ? 0 : value >> (8 * n);
	}
}

/* --- BAR 4 --- */

static void queue_notified(struct virtio_pci *v, uint64_t index)
{
	if (!pci_dma_enabled(&v->pci)) {
		guest_warn("%s: kicked while bus mastering is off", v->dev->ops->name);
		return;
	}
	virtio_kick(v->dev, (unsigned int)MIN(index, (uint64_t)VIRTIO_QUEUE_MAX));
}

static uint64_t main_read(void *opaque, uint64_t off, unsigned int size)
{
	struct virtio_pci *v = opaque;

	if (off < COMMON_OFF + COMMON_LEN)
		return common_read(v, off - COMMON_OFF, size);
	if (off == ISR_OFF)
		return isr_read(v);
	if (off >= DEVICE_OFF && off < DEVICE_OFF + DEVICE_LEN) {
		uint64_t value = 0;

		virtio_config_read(v->dev, (uint32_t)(off - DEVICE_OFF), &value, size);
		return value;
	}
	return 0;
}

static void main_write(void *opaque, uint64_t off, unsigned int size, uint64_t value)
{
	struct virtio_pci *v = opaque;

	if (off < COMMON_OFF + COMMON_LEN)
		common_write(v, off - COMMON_OFF, size, value);
	else if (off >= NOTIFY_OFF)
		queue_notified(v, (off - NOTIFY_OFF) / NOTIFY_MULT);
	else if (off >= DEVICE_OFF && off < DEVICE_OFF + DEVICE_LEN)
		virtio_config_write(v->dev, (uint32_t)(off - DEVICE_OFF), &value, size);
}

static const struct bus_ops main_ops = {
    .read = main_read,
    .write = main_write,
    .min = 1,
    .max = 8,
};

static uint64_t msix_read(void *opaque, uint64_t off, unsigned int size)
{
	struct virtio_pci *v = opaque;

	if (off >= MSIX_PBA)
		return pci_msix_read(&v->pci, off - MSIX_PBA, size, true);
	return pci_msix_read(&v->pci, off, size, false);
}

static void msix_write(void *opaque, uint64_t off, unsigned int size, uint64_t value)
{
	struct virtio_pci *v = opaque;

	if (off < MSIX_PBA)
		pci_msix_write(&v->pci, off, size, value);
}

static const struct bus_ops msix_ops = {
    .read = msix_read,
    .write = msix_write,
    .min = 1,
    .max = 8,
};

/* --- capabilities --- */

static uint8_t add_cap(struct virtio_pci *v, enum cap_type type, uint32_t off, uint32_t len)
{
	uint8_t size = type == CAP_NOTIFY || type == CAP_PCI_CFG ? 20 : 16;
	uint8_t at = pci_add_cap(&v->pci, CAP_VENDOR, size);
	uint8_t *cap = v->pci.config + at;

	cap[2] = size;
	cap[3] = (uint8_t)type;
	cap[4] = MAIN_BAR;
	store_le32(cap + 8, off);
	store_le32(cap + 12, len);
	if (type == CAP_NOTIFY)
		store_le32(cap + 16, NOTIFY_MULT);
	if (type == CAP_PCI_CFG) {
		cap[4] = 0;
		v->pci.wmask[at + 4] = 0xff;
		memset(v->pci.wmask + at + 8, 0xff, 12);
	}
	return at;
}

/* The window of the PCI configuration access capability (4.1.4.9): where it points, if to sense. */
static bool cfg_window(struct virtio_pci *v, uint32_t *off, unsigned int *size)
{
	const uint8_t *cap = v->pci.config + v->cfg_cap;
	uint32_t len = load_le32(cap + 12);

	*off = load_le32(cap + 8);
	*size = len;
	if (cap[4] != MAIN_BAR || (len != 1 && len != 2 && len != 4))
		return false;
	return !(*off % len) && range_ok(*off, len, BAR_LEN);
}

static bool in_cfg_data(const struct virtio_pci *v, unsigned int off, unsigned int size)
{
	unsigned int data = v->cfg_cap + 16u;

	return off >= data && off + size <= data + 4;
}

static bool config_read(struct pci_dev *p, unsigned int off, unsigned int size, uint32_t *ret)
{
	struct virtio_pci *v = from_pci(p);
	unsigned int n, shift = 8 * (off & 3);
	uint32_t at;

	if (!in_cfg_data(v, off, size) || !cfg_window(v, &at, &n))
		return false;
	*ret = (uint32_t)main_read(v, at, n) >> shift;
	if (size < 4)
		*ret &= (uint32_t)BIT(8 * size) - 1;
	return true;
}

static void config_write(struct pci_dev *p, unsigned int off, unsigned int size, uint32_t value)
{
	struct virtio_pci *v = from_pci(p);
	unsigned int n;
	uint32_t at;

	if (!in_cfg_data(v, off, size) || !cfg_window(v, &at, &n))
		return;
	value = load_le32(v->pci.config + v->cfg_cap + 16);
	main_write(v, at, n, n == 4 ? value : value & ((uint32_t)BIT(8 * n) - 1));
}

static void function_reset(struct pci_dev *p)
{
	set_status(from_pci(p), 0);
}

static void function_free(struct pci_dev *p)
{
	struct virtio_pci *v = from_pci(p);

	v->dev->transport = (struct virtio_transport){0};
	v->dev->ops->free(v->dev);
	pci_dev_fini(p);
	free(v);
}

static int can_save(struct pci_dev *p, struct err *e)
{
	struct virtio_dev *d = from_pci(p)->dev;
	int r;

	virtio_lock(d);
	r = d->ops->can_save ? d->ops->can_save(d, e) : 0;
	virtio_unlock(d);
	return r;
}

static const struct pci_ops function_ops = {
    .config_write = config_write,
    .config_read = config_read,
    .reset = function_reset,
    .free = function_free,
    .save = virtio_pci_save,
    .load = virtio_pci_load,
    .can_save = can_save,
};

/* Class codes are hints for a person reading lspci; drivers go by the device id. */
static uint32_t class_of(uint16_t id)
{
	switch (id) {
	case 1: /* network: Ethernet */
		return 0x020000;
	case 2: /* block: other mass storage */
	case 8: /* SCSI */
	case 9: /* 9p */
		return 0x018000;
	case 16: /* display */
		return 0x038000;
	case 3:  /* console: other communication */
	case 19: /* vsock */
		return 0x078000;
	}
	return 0xff0000;
}

int virtio_pci_new(struct virtio_dev *d, struct pci_dev **ret, struct err *e)
{
	struct virtio_pci *v = xnew(struct virtio_pci);
	uint16_t id = (uint16_t)(VIRTIO_DEV_BASE + d->ops->id);
	int r;

	v->dev = d;
	v->config_vector = VIRTIO_NO_VECTOR;
	pci_dev_init(&v->pci, &function_ops, d->ops->name, VIRTIO_VENDOR, id,
		     class_of(d->ops->id) << 8 | 1, VIRTIO_VENDOR, VIRTIO_SUBSYS);
	v->pci.config[PCI_INTERRUPT_PIN] = 1; /* INTA */
	pci_add_bar(&v->pci, MSIX_BAR, 0x1000, false, false, false, &msix_ops, v);
	pci_add_bar(&v->pci, MAIN_BAR, BAR_LEN, false, true, true, &main_ops, v);
	r = pci_add_msix(&v->pci, d->n_queues + 1, MSIX_BAR, 0, MSIX_PBA);
	if (r < 0) {
		pci_dev_fini(&v->pci);
		free(v);
		return err_set(e, r, "%s: MSI-X", d->ops->name);
	}
	add_cap(v, CAP_COMMON, COMMON_OFF, COMMON_LEN);
	add_cap(v, CAP_ISR, ISR_OFF, 1);
	if (d->config_len)
		add_cap(v, CAP_DEVICE, DEVICE_OFF, d->config_len);
	add_cap(v, CAP_NOTIFY, NOTIFY_OFF, NOTIFY_MULT * d->n_queues);
	v->cfg_cap = add_cap(v, CAP_PCI_CFG, 0, 0);
	d->lock = &v->pci.lock;
	d->transport = (struct virtio_transport){.notify = transport_notify, .opaque = v};
	*ret = &v->pci;
	return 0;
}

struct virtio_dev *virtio_pci_device(struct pci_dev *p)
{
	return from_pci(p)->dev;
}

uint64_t virtio_pci_notify_addr(struct pci_dev *p, unsigned int queue)
{
	const struct bus_region *r = &p->bar[MAIN_BAR].region;

	return r->mapped && r->size ? r->base + NOTIFY_OFF + (uint64_t)NOTIFY_MULT * queue : 0;
}

/* --- saved state --- */

static int transport_loaded(void *obj, struct err *e)
{
	struct virtio_pci *v = obj;

	(void)e;
	/* The line follows from the ISR; MSI-X has no level. */
	if (!pci_msix_enabled(&v->pci))
		pci_set_intx(&v->pci, v->isr != 0);
	return 0;
}

static const struct state_field transport_fields[] = {
    STATE_FIELD(struct virtio_pci, device_feature_select, 1),
    STATE_FIELD(struct virtio_pci, driver_feature_select, 1),
    STATE_FIELD(struct virtio_pci, config_vector, 1),
    STATE_FIELD(struct virtio_pci, queue_select, 1),
    STATE_FIELD(struct virtio_pci, isr, 1),
};

static const struct state_table transport_table = {
    .name = "virtio-pci",
    .version = 1,
    .fields = transport_fields,
    .n_fields = ARRAY_SIZE(transport_fields),
    .loaded = transport_loaded,
};

void virtio_pci_save(struct pci_dev *p, struct strbuf *out)
{
	struct virtio_pci *v = from_pci(p);

	state_save(&transport_table, v, out);
	virtio_save(v->dev, out);
}

int virtio_pci_load(struct pci_dev *p, const void *data, size_t len, size_t *used, struct err *e)
{
	struct virtio_pci *v = from_pci(p);
	size_t head, tail;
	int r = state_load(&transport_table, v, data, len, &head, e);

	if (r < 0)
		return r;
	v->config_vector = checked_vector(v, v->config_vector);
	r = virtio_load(v->dev, (const char *)data + head, len - head, &tail, e);
	if (r < 0)
		return r;
	*used = head + tail;
	return 0;
}
