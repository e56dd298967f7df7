/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/fuzz/fuzz_virtio_pci.c - the PCI transport of virtio: configuration space, BARs, MSI-X
 *
 * The input is a list of accesses to five functions (console, entropy, balloon, network, echo):
 * what, function, offset, value.  Most go to the registers that drivers use; queues lie in guest
 * memory that the input also writes.  Half-way a state with changed bits may be loaded.
 */
#include "fuzz.h"

#include "test.h"
#include "virtio/balloon.h"
#include "virtio/console.h"
#include "virtio/net.h"
#include "virtio/pci.h"
#include "virtio/rng.h"

#include <assert.h>

#define RAM  (1u << 20)
#define DEVS 5
#define BARS 0xe0000000u /* 64 KiB for each BAR: function n has n * 2 and n * 2 + 1 */

static struct gmem *mem;
static struct bus *bus;
static struct pci_bus *pci;
static struct loop *loop;
static struct pci_dev *devs[DEVS];
static struct virtio_dev echo;

static void echo_kick(struct virtio_dev *d, struct vq *q)
{
	struct vq_chain c;

	while (vq_pop(q, &c))
		vq_push(q, &c, 0);
	vq_notify(q);
}

static void echo_config(struct virtio_dev *d, uint32_t off, void *buf, uint32_t len)
{
	CHECK(off + len <= 8 && len <= 8);
	memset(buf, 0x5a, len);
}

static const struct virtio_ops echo_ops = {
    .name = "echo", .id = 63, .kick = echo_kick, .config_read = echo_config};

static void net_take(struct net *n, const void *frame, size_t len)
{
}

static void net_room(struct net *n)
{
}

static const struct net_ops net_ops = {.name = "fuzz", .send = net_take, .rx_ready = net_room};
static struct net net = {.ops = &net_ops};

static void set_line(void *opaque, unsigned int pin, bool level)
{
	assert(pin >> 5 >= 1 && pin >> 5 <= DEVS && (pin & 31) == 0); /* INTA of a function */
}

static void send_msi(void *opaque, uint64_t addr, uint32_t data)
{
}

static void set_up(void)
{
	static const uint8_t mac[] = {2, 0, 0, 0, 0, 1};
	static const struct virtio_console_port ports[] = {{.console = true}, {.name = "port"}};
	struct virtio_dev *d[DEVS];

	if (mem)
		return;
	CHECK_EQ(gmem_new(RAM, RAM, &mem, NULL), 0);
	CHECK_EQ(loop_new(&loop, NULL), 0);
	CHECK_EQ(bus_new(&bus), 0);
	CHECK_EQ(pci_bus_new(bus, (struct irq){.set = set_line},
			     (struct msi_sink){.send = send_msi}, &pci),
		 0);
	virtio_init(&echo, &echo_ops, mem, 3, 128, BIT(3), 8);
	d[0] = &echo;
	d[1] = virtio_rng_new(mem);
	d[2] = virtio_balloon_new(mem);
	d[3] = virtio_net_new(mem, loop, &net, mac);
	d[4] = virtio_console_new(mem, ports, 2);
	for (unsigned int i = 0; i < DEVS; i++) {
		CHECK_EQ(virtio_pci_new(d[i], &devs[i], NULL), 0);
		CHECK_EQ(pci_plug(pci, devs[i], (i + 1) << 3, NULL), 0);
	}
}

/* As firmware and a driver would leave it: whatever the input before did is undone. */
static void start_over(void)
{
	for (unsigned int i = 0; i < DEVS; i++) {
		unsigned int devfn = (i + 1) << 3;

		virtio_lock(virtio_pci_device(devs[i]));
		virtio_reset(virtio_pci_device(devs[i]));
		virtio_unlock(virtio_pci_device(devs[i]));
		pci_config_write(pci, devfn, 4, 2, 0);
		pci_config_write(pci, devfn, 0x14, 4, BARS + i * 0x20000);
		pci_config_write(pci, devfn, 0x20, 4, BARS + i * 0x20000 + 0x10000);
		pci_config_write(pci, devfn, 0x24, 4, 0);
		pci_config_write(pci, devfn, 4, 2, 6);
	}
}

static uint64_t value(struct fuzz_input *in)
{
	uint8_t kind = fuzz_u8(in), v = fuzz_u8(in);

	switch (kind % 8) {
	case 0:
		return v;
	case 1:
		return v * 0x1000u; /* guest memory */
	case 2:
		return RAM - v;
	case 3:
		return UINT64_MAX - v;
	case 4:
		return 1u << v % 32;
	case 5:
		return BARS + v * 0x4000u;
	default:
		return (uint64_t)v << 8 | fuzz_u8(in) | (uint64_t)fuzz_u8(in) << 32;
	}
}

static void access_bar(struct fuzz_input *in, unsigned int i, bool write)
{
	uint8_t where = fuzz_u8(in), size = 1u << fuzz_u8(in) % 4;
	uint64_t base = BARS + i * 0x20000, off;

	if (where & 0x80) /* the common registers, then ISR, device, notify areas; MSI-X */
		off = 0x10000 + (where & 0x3f);
	else
		off = (uint64_t)(where & 0x1f) * 0x1000 + fuzz_u8(in);
	if (write)
		bus_write(bus, BUS_MMIO, base + off, size, value(in));
	else
		(void)bus_read(bus, BUS_MMIO, base + off, size);
}

static void access_config(struct fuzz_input *in, unsigned int i, bool write)
{
	unsigned int size = 1u << fuzz_u8(in) % 3, off = fuzz_u8(in) & ~(size - 1);

	if (write)
		pci_config_write(pci, (i + 1) << 3, off, size, (uint32_t)value(in));
	else
		(void)pci_config_read(pci, (i + 1) << 3, off, size);
}

static void write_memory(struct fuzz_input *in)
{
	uint8_t buf[16];
	uint64_t gpa = fuzz_u8(in) * 0x1000u + fuzz_u8(in);

	fuzz_bytes(in, buf, sizeof(buf));
	(void)!gmem_write(mem, gpa, buf, sizeof(buf));
}

static void reload(struct fuzz_input *in, unsigned int i)
{
	autostrbuf struct strbuf saved = {0};
	size_t used;

	virtio_pci_save(devs[i], &saved);
	for (unsigned int n = fuzz_u8(in) % 4; n; n--) {
		unsigned int at = fuzz_u8(in) | fuzz_u8(in) << 8;

		saved.data[at % saved.len] ^= (char)fuzz_u8(in);
	}
	if (virtio_pci_load(devs[i], saved.data, saved.len, &used, NULL) == 0)
		assert(used <= saved.len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, size};

	set_up();
	start_over();
	memset(gmem_ptr(mem, 0, 0x100000), 0, 0x100000);
	while (in.len) {
		uint8_t what = fuzz_u8(&in);
		unsigned int i = (what >> 4) % DEVS;

		switch (what & 15) {
		case 0:
			access_config(&in, i, false);
			break;
		case 1:
		case 2:
			access_config(&in, i, true);
			break;
		case 3:
			reload(&in, i);
			break;
		case 4:
		case 5:
			write_memory(&in);
			break;
		case 6:
		case 7:
			access_bar(&in, i, false);
			break;
		default:
			access_bar(&in, i, true);
		}
	}
	loop_once(loop, 0);
	return 0;
}
