/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/virtio/test_pci.c - the PCI transport as a driver finds it: capabilities, common
 * configuration, MSI-X, INTx, the window in configuration space
 */
#include "test.h"
#include "virtio/pci.h"

#include "base/strbuf.h"

#include <errno.h>

#define RAM   (1u << 20)
#define BAR1  0xe0000000u
#define BAR4  0xe0010000u
#define DEVFN (3u << 3)

static struct gmem *m;
static struct bus *b;
static struct pci_bus *pci;
static struct pci_dev *p;
static struct virtio_dev dev;
static unsigned int kicks[4], resets, frees, n_msi;
static uint64_t msi_addr;
static uint32_t msi_data;
static bool line;
static uint8_t config[8] = "CONFIG!";

static void kick(struct virtio_dev *d, struct vq *q)
{
	struct vq_chain c;

	kicks[q->index]++;
	while (vq_pop(q, &c))
		vq_push(q, &c, 0);
	vq_notify(q);
}

static void config_read(struct virtio_dev *d, uint32_t off, void *buf, uint32_t len)
{
	memcpy(buf, config + off, len);
}

static void config_write(struct virtio_dev *d, uint32_t off, const void *buf, uint32_t len)
{
	memcpy(config + off, buf, len);
}

static void reset(struct virtio_dev *d)
{
	resets++;
}

static void dev_free(struct virtio_dev *d)
{
	frees++;
	virtio_fini(d);
}

static const struct virtio_ops ops = {
    .name = "test",
    .id = 4,
    .kick = kick,
    .config_read = config_read,
    .config_write = config_write,
    .reset = reset,
    .free = dev_free,
};

static void set_line(void *opaque, unsigned int pin, bool level)
{
	line = level;
}

static void send_msi(void *opaque, uint64_t addr, uint32_t data)
{
	n_msi++;
	msi_addr = addr;
	msi_data = data;
}

static uint32_t cfg(unsigned int off, unsigned int size)
{
	return pci_config_read(pci, DEVFN, off, size);
}

static void cfg_set(unsigned int off, unsigned int size, uint32_t value)
{
	pci_config_write(pci, DEVFN, off, size, value);
}

static uint64_t get(uint64_t off, unsigned int size)
{
	return bus_read(b, BUS_MMIO, BAR4 + off, size);
}

static void set(uint64_t off, unsigned int size, uint64_t value)
{
	bus_write(b, BUS_MMIO, BAR4 + off, size, value);
}

static unsigned int find_cap(uint8_t id, uint8_t type)
{
	unsigned int at = cfg(0x34, 1);

	for (unsigned int i = 0; at && i < 48; i++) {
		if (cfg(at, 1) == id && (id != 9 || cfg(at + 3, 1) == type))
			return at;
		at = cfg(at + 1, 1);
	}
	return 0;
}

static void setup(void)
{
	struct err e = {0};

	CHECK_EQ(gmem_new(RAM, RAM, &m, &e), 0);
	CHECK_EQ(bus_new(&b), 0);
	CHECK_EQ(pci_bus_new(b, (struct irq){.set = set_line}, (struct msi_sink){.send = send_msi},
			     &pci),
		 0);
	virtio_init(&dev, &ops, m, 2, 64, BIT(3), 8);
	CHECK_EQ(virtio_pci_new(&dev, &p, &e), 0);
	CHECK_EQ(pci_plug(pci, p, DEVFN, &e), 0);
	CHECK(virtio_pci_device(p) == &dev);
}

static void identity(void)
{
	static const uint32_t where[][2] = {{1, 0}, {2, 0x3000}, {3, 0x1000}, {4, 0x2000}};

	CHECK_EQ(cfg(0, 4), 0x10441af4);
	CHECK_EQ(cfg(8, 1), 1);
	CHECK(cfg(6, 2) & 0x10);
	CHECK(find_cap(0x11, 0));
	for (unsigned int i = 0; i < 4; i++) {
		unsigned int at = find_cap(9, (uint8_t)where[i][0]);

		CHECK(at);
		CHECK_EQ(cfg(at + 4, 1), 4);
		CHECK_EQ(cfg(at + 8, 4), where[i][1]);
		CHECK(cfg(at + 12, 4) > 0);
	}
	CHECK_EQ(cfg(find_cap(9, 2) + 16, 4), 4);
	CHECK_EQ(virtio_pci_notify_addr(p, 1), 0);
	cfg_set(0x14, 4, BAR1);
	cfg_set(0x20, 4, BAR4);
	cfg_set(0x24, 4, 0);
	cfg_set(4, 2, 6);
	CHECK_EQ(virtio_pci_notify_addr(p, 1), BAR4 + 0x3004);
}

static void negotiate(void)
{
	set(0x14, 1, 0);
	while (get(0x14, 1))
		;
	set(0x14, 1, 1);
	set(0x14, 1, 3);
	set(0, 4, 0);
	CHECK(get(4, 4) & BIT(3));
	set(0, 4, 1);
	CHECK_EQ(get(4, 4), 1);
	set(0, 4, 2);
	CHECK_EQ(get(4, 4), 0);
	set(8, 4, 0);
	set(0xc, 4, BIT(3));
	set(8, 4, 1);
	set(0xc, 4, 1);
	set(8, 4, 5);
	set(0xc, 4, 0xffffffff); /* features nobody has */
	set(0x14, 1, 0xb);
	CHECK_EQ(get(0x14, 1), 0xb);
	CHECK_EQ(dev.features, BIT(3) | BIT(32));
}

static void queues(void)
{
	CHECK_EQ(get(0x12, 2), 2);
	for (unsigned int i = 0; i < 2; i++) {
		set(0x16, 2, i);
		CHECK_EQ(get(0x18, 2), 64);
		CHECK_EQ(get(0x1e, 2), i);
		set(0x18, 2, 16);
		set(0x20, 4, 0x1000 + i * 0x3000); /* halves */
		set(0x24, 4, 0);
		set(0x28, 8, 0x2000 + i * 0x3000); /* whole */
		set(0x30, 8, 0x3000 + i * 0x3000);
		memset(gmem_ptr(m, 0x2000 + i * 0x3000, 0x2000), 0, 0x2000);
		set(0x1c, 2, 1);
		CHECK_EQ(get(0x1c, 2), 1);
		set(0x20, 4, 0x9000); /* too late */
		CHECK_EQ(get(0x20, 8), 0x1000 + i * 0x3000);
	}
	set(0x16, 2, 2); /* no such queue */
	CHECK_EQ(get(0x18, 2), 0);
	CHECK_EQ(get(0x1a, 2), 0xffff);
	set(0x1c, 2, 1);
	set(0x14, 1, 0xf);
	CHECK(virtio_ready(&dev));
}

/* One chain of one byte on queue 1. */
static void post(void)
{
	struct {
		uint64_t addr;
		uint32_t len;
		uint16_t flags, next;
	} d = {0x10000, 1, 0, 0};
	uint16_t idx;

	CHECK_EQ(gmem_write(m, 0x4000, &d, 16), 0);
	CHECK_EQ(gmem_read(m, 0x5002, &idx, 2), 0);
	idx++;
	CHECK_EQ(gmem_write(m, 0x5002, &idx, 2), 0);
	set(0x3004, 2, 1);
}

static void intx(void)
{
	unsigned int before = kicks[1];

	post();
	CHECK_EQ(kicks[1], before + 1);
	CHECK(line);
	CHECK_EQ(get(0x1000, 1), 1);
	CHECK(!line);
	CHECK_EQ(get(0x1000, 1), 0);
	virtio_lock(&dev);
	virtio_config_changed(&dev);
	virtio_unlock(&dev);
	CHECK(line);
	CHECK_EQ(get(0x15, 1), dev.config_generation);
	CHECK_EQ(get(0x1000, 1), 2);
	CHECK(!line);
	/* Kicks of no queue, and without bus mastering. */
	set(0x3008, 2, 2);
	set(0x3ffc, 2, 1);
	cfg_set(4, 2, 2);
	post();
	CHECK_EQ(kicks[1], before + 1);
	cfg_set(4, 2, 6);
	set(0x3004, 2, 1);
	CHECK_EQ(kicks[1], before + 2);
	(void)get(0x1000, 1);
}

static void msix(void)
{
	unsigned int cap = find_cap(0x11, 0);

	CHECK_EQ(cfg(cap + 2, 2) & 0x7ff, 2); /* three vectors */
	bus_write(b, BUS_MMIO, BAR1 + 32, 4, 0xfee01000);
	bus_write(b, BUS_MMIO, BAR1 + 36, 4, 0);
	bus_write(b, BUS_MMIO, BAR1 + 40, 4, 0x51);
	bus_write(b, BUS_MMIO, BAR1 + 44, 4, 0);
	cfg_set(cap + 2, 2, 0x8000);
	set(0x16, 2, 1);
	set(0x1a, 2, 3); /* not there */
	CHECK_EQ(get(0x1a, 2), 0xffff);
	post();
	CHECK_EQ(n_msi, 0);
	set(0x1a, 2, 2);
	CHECK_EQ(get(0x1a, 2), 2);
	post();
	CHECK_EQ(n_msi, 1);
	CHECK_EQ(msi_addr, 0xfee01000);
	CHECK_EQ(msi_data, 0x51);
	CHECK(!line);
	set(0x10, 2, 2);
	CHECK_EQ(get(0x10, 2), 2);
	virtio_lock(&dev);
	virtio_config_changed(&dev);
	virtio_unlock(&dev);
	CHECK_EQ(n_msi, 2);
	/* masked: sent when unmasked */
	bus_write(b, BUS_MMIO, BAR1 + 44, 4, 1);
	post();
	CHECK_EQ(n_msi, 2);
	bus_write(b, BUS_MMIO, BAR1 + 44, 4, 0);
	CHECK_EQ(n_msi, 3);
}

static void device_config(void)
{
	CHECK_EQ(get(0x2000, 4), 0x464e4f43);
	CHECK_EQ(get(0x2004, 8), 0x214749); /* nothing past the end */
	set(0x2000, 1, 'c');
	CHECK_EQ(config[0], 'c');
	set(0x2007, 2, 0xffff);
	CHECK_EQ(config[7], 0xff);
	CHECK_EQ(get(0x2fff, 1), 0);
}

/* Firmware reaches the BAR through configuration space, before it is mapped. */
static void window(void)
{
	unsigned int cap = find_cap(9, 5);

	cfg_set(cap + 4, 1, 4);
	cfg_set(cap + 8, 4, 0x12);
	cfg_set(cap + 12, 4, 2);
	CHECK_EQ(cfg(cap + 16, 2), 2);
	cfg_set(cap + 8, 4, 0x16);
	cfg_set(cap + 16, 2, 1);
	CHECK_EQ(get(0x16, 2), 1);
	/* Windows that make no sense do nothing. */
	cfg_set(cap + 12, 4, 3);
	(void)cfg(cap + 16, 4);
	cfg_set(cap + 12, 4, 4);
	cfg_set(cap + 8, 4, 0x3ffe);
	cfg_set(cap + 16, 4, 1);
	cfg_set(cap + 8, 4, 0xfffffffc);
	(void)cfg(cap + 16, 4);
	cfg_set(cap + 4, 1, 9);
	(void)cfg(cap + 16, 4);
}

/* Every byte of the BAR, in every size, read and written: nothing falls over. */
static void poke(void)
{
	uint64_t seed = 7;

	for (unsigned int i = 0; i < 200000; i++) {
		unsigned int size = 1u << (seed >> 20) % 4;
		uint64_t off = (seed >> 30) % (i % 2 ? 0x40 : 0x4000);

		seed = seed * 6364136223846793005u + 1442695040888963407u;
		off &= ~(uint64_t)(size - 1);
		if (seed >> 63)
			set(off, size, seed >> 40);
		else
			(void)get(off, size);
	}
}

static void save_load(void)
{
	autostrbuf struct strbuf out = {0};
	struct err e = {0};
	size_t used;

	virtio_pci_save(p, &out);
	set(0x14, 1, 0);
	CHECK_EQ(get(0x1a, 2), 0xffff);
	CHECK_EQ(virtio_pci_load(p, out.data, out.len, &used, &e), 0);
	CHECK_EQ(used, out.len);
	CHECK(virtio_ready(&dev));
	set(0x16, 2, 1);
	CHECK_EQ(get(0x1a, 2), 2);
	n_msi = 0;
	post();
	CHECK_EQ(n_msi, 1);
}

int main(void)
{
	unsigned int before;

	setup();
	identity();
	negotiate();
	queues();
	intx();
	msix();
	device_config();
	window();
	save_load();
	poke();
	before = resets;
	pci_bus_reset(pci);
	CHECK(resets > before);
	CHECK_EQ(dev.status, 0);
	pci_bus_free(pci);
	CHECK_EQ(frees, 1);
	bus_free(b);
	gmem_free(m);
	return 0;
}
