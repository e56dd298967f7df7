/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/vga.c - the VGA as a PCI function: its BARs, its places below 1 MiB, its life
 */
#include "device/vga_priv.h"

#include <errno.h>

#define MMIO_SIZE  4096u
#define MMIO_PORTS 0x400u /* 3C0h-3DFh */
#define MMIO_BGA   0x500u
#define VGA_FIRST  0x3b0u
#define VGA_PORTS  0x30u
#define BGA_FIRST  0x1ceu

static struct vga *from_pci(struct pci_dev *d)
{
	return container_of(d, struct vga, pci);
}

/* --- accesses --- */

static uint64_t port_read(void *opaque, uint64_t off, unsigned int size)
{
	return vga_port_read(opaque, VGA_FIRST + (unsigned int)off);
}

static void port_write(void *opaque, uint64_t off, unsigned int size, uint64_t value)
{
	vga_port_write(opaque, VGA_FIRST + (unsigned int)off, (uint8_t)value);
}

static const struct bus_ops port_ops = {.read = port_read, .write = port_write, .max = 1};

/* 1CEh and 1CFh are words that overlap: each is a region of its own. */
static uint64_t bga_index_read(void *opaque, uint64_t off, unsigned int size)
{
	const struct vga *v = opaque;

	return v->bga_index;
}

static void bga_index_write(void *opaque, uint64_t off, unsigned int size, uint64_t value)
{
	struct vga *v = opaque;

	v->bga_index = (uint16_t)value;
}

static uint64_t bga_data_read(void *opaque, uint64_t off, unsigned int size)
{
	return vga_bga_read(opaque);
}

static void bga_data_write(void *opaque, uint64_t off, unsigned int size, uint64_t value)
{
	vga_bga_write(opaque, (uint16_t)value);
}

static const struct bus_ops bga_index_ops = {
    .read = bga_index_read, .write = bga_index_write, .min = 2, .max = 2};
static const struct bus_ops bga_data_ops = {
    .read = bga_data_read, .write = bga_data_write, .min = 2, .max = 2};

static uint64_t window_read(void *opaque, uint64_t off, unsigned int size)
{
	return vga_mem_read(opaque, (uint32_t)off);
}

static void window_write(void *opaque, uint64_t off, unsigned int size, uint64_t value)
{
	vga_mem_write(opaque, (uint32_t)off, (uint8_t)value);
}

static const struct bus_ops window_ops = {.read = window_read, .write = window_write, .max = 1};

/* Only while BAR 0 lies where memory of the guest's cannot be shown. */
static uint64_t vram_read(void *opaque, uint64_t off, unsigned int size)
{
	const struct vga *v = opaque;
	uint64_t x = 0;

	memcpy(&x, v->vram + off, size);
	return x;
}

static void vram_write(void *opaque, uint64_t off, unsigned int size, uint64_t value)
{
	struct vga *v = opaque;

	memcpy(v->vram + off, &value, size);
}

static const struct bus_ops vram_ops = {.read = vram_read, .write = vram_write};

static uint64_t mmio_read(void *opaque, uint64_t off, unsigned int size)
{
	struct vga *v = opaque;

	if (off - MMIO_PORTS < 0x20)
		return vga_port_read(v, 0x3c0 + (unsigned int)(off - MMIO_PORTS));
	if (off >= MMIO_BGA && off < MMIO_BGA + 2 * BGA_N && size == 2) {
		v->bga_index = (uint16_t)((off - MMIO_BGA) / 2);
		return vga_bga_read(v);
	}
	return UINT64_MAX;
}

static void mmio_write(void *opaque, uint64_t off, unsigned int size, uint64_t value)
{
	struct vga *v = opaque;

	if (off - MMIO_PORTS < 0x20) {
		for (unsigned int i = 0; i < size; i++)
			vga_port_write(v, 0x3c0 + (unsigned int)(off - MMIO_PORTS) + i,
				       (uint8_t)(value >> (8 * i)));
	} else if (off >= MMIO_BGA && off < MMIO_BGA + 2 * BGA_N && size == 2) {
		v->bga_index = (uint16_t)((off - MMIO_BGA) / 2);
		vga_bga_write(v, (uint16_t)value);
	}
}

static const struct bus_ops mmio_ops = {.read = mmio_read, .write = mmio_write, .max = 2};

/* --- the function --- */

static void vga_config_write(struct pci_dev *d, unsigned int off, unsigned int size, uint32_t value)
{
	struct vga *v = from_pci(d);

	if ((off == PCI_COMMAND || off == PCI_BAR0) && v->cfg.moved)
		v->cfg.moved(v->cfg.opaque);
}

bool vga_vram_place(struct pci_dev *d, uint64_t *gpa)
{
	const struct bus_region *r = &d->bar[0].region;
	bool ok;

	pthread_mutex_lock(&d->lock);
	ok = d->bus && r->mapped && r->size;
	*gpa = r->base;
	pthread_mutex_unlock(&d->lock);
	return ok;
}

static void vga_reset(struct pci_dev *d)
{
	struct vga *v = from_pci(d);

	vga_regs_reset(v);
	memset(v->vram, 0, 4 * VGA_PLANE_SIZE);
	if (v->cfg.moved)
		v->cfg.moved(v->cfg.opaque);
}

static void detach_legacy(struct vga *v)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(v->legacy); i++)
		if (v->legacy[i].mapped)
			bus_remove(v->legacy_bus, &v->legacy[i]);
}

static void vga_free(struct pci_dev *d)
{
	struct vga *v = from_pci(d);

	detach_legacy(v);
	if (v->cfg.screen)
		screen_attach(v->cfg.screen, NULL, NULL);
	pci_dev_fini(d);
	free(v);
}

/* --- saved state; video memory is saved with the machine's --- */

static const struct state_field vga_fields[] = {
    STATE_FIELD(struct vga, misc, 1),      STATE_FIELD(struct vga, feature, 1),
    STATE_FIELD(struct vga, seq_index, 1), STATE_FIELD(struct vga, gc_index, 1),
    STATE_FIELD(struct vga, crt_index, 1), STATE_FIELD(struct vga, att_index, 1),
    STATE_FIELD(struct vga, att_data, 1),  STATE_ARRAY(struct vga, seq, 1),
    STATE_ARRAY(struct vga, gc, 1),        STATE_ARRAY(struct vga, crt, 1),
    STATE_ARRAY(struct vga, att, 1),       STATE_FIELD(struct vga, dac_mask, 1),
    STATE_FIELD(struct vga, dac_read, 1),  STATE_FIELD(struct vga, dac_write, 1),
    STATE_FIELD(struct vga, dac_step, 1),  STATE_FIELD(struct vga, dac_reading, 1),
    STATE_ARRAY(struct vga, dac, 1),       STATE_ARRAY(struct vga, latch, 1),
    STATE_FIELD(struct vga, bga_index, 1), STATE_ARRAY(struct vga, bga, 1),
};

static int vga_loaded(void *opaque, struct err *e)
{
	if (!vga_regs_check(opaque))
		return err_msg(e, -EINVAL, "vga: saved state is impossible");
	return 0;
}

static const struct state_table vga_table = {
    .name = "vga",
    .version = 1,
    .fields = vga_fields,
    .n_fields = ARRAY_SIZE(vga_fields),
    .loaded = vga_loaded,
};

static void vga_save(struct pci_dev *d, struct strbuf *out)
{
	pthread_mutex_lock(&d->lock);
	state_save(&vga_table, from_pci(d), out);
	pthread_mutex_unlock(&d->lock);
}

static int vga_load(struct pci_dev *d, const void *data, size_t len, size_t *used, struct err *e)
{
	return state_load(&vga_table, from_pci(d), data, len, used, e);
}

static const struct pci_ops vga_pci_ops = {.config_write = vga_config_write,
					   .reset = vga_reset,
					   .free = vga_free,
					   .save = vga_save,
					   .load = vga_load};

void vga_attach_legacy(struct pci_dev *d, struct bus *b)
{
	struct vga *v = from_pci(d);
	const struct bus_region regions[] = {
	    {.name = "vga",
	     .ops = &port_ops,
	     .space = BUS_PIO,
	     .base = VGA_FIRST,
	     .size = VGA_PORTS},
	    {.name = "bga-index",
	     .ops = &bga_index_ops,
	     .space = BUS_PIO,
	     .base = BGA_FIRST,
	     .size = 2},
	    {.name = "bga-data",
	     .ops = &bga_data_ops,
	     .space = BUS_PIO,
	     .base = BGA_FIRST + 1,
	     .size = 2,
	     .priority = 1},
	    {.name = "vga-window",
	     .ops = &window_ops,
	     .space = BUS_MMIO,
	     .base = VGA_WINDOW,
	     .size = 0x20000},
	};

	v->legacy_bus = b;
	for (unsigned int i = 0; i < ARRAY_SIZE(regions); i++) {
		v->legacy[i] = regions[i];
		v->legacy[i].opaque = v;
		v->legacy[i].lock = &d->lock;
		bus_add(b, &v->legacy[i]);
	}
}

int vga_new(const struct vga_config *cfg, struct pci_dev **ret)
{
	struct vga *v = calloc(1, sizeof(*v));
	struct pci_dev *d;

	if (!v)
		return -ENOMEM;
	d = &v->pci;
	v->cfg = *cfg;
	v->vram = cfg->vram;
	pci_dev_init(d, &vga_pci_ops, "vga", 0x1234, 0x1111, 0x03000002, 0x1af4, 0x1100);
	pci_add_bar(d, 0, VGA_VRAM_SIZE, false, false, true, &vram_ops, v);
	pci_add_bar(d, 2, MMIO_SIZE, false, false, false, &mmio_ops, v);
	vga_regs_reset(v);
	if (cfg->screen)
		screen_attach(cfg->screen, &vga_screen_ops, v);
	*ret = d;
	return 0;
}
