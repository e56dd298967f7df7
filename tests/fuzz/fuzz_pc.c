/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/fuzz/fuzz_pc.c - a PC's screen, SATA, NVMe, USB and network controllers, and flash: hostile
 * accesses, commands in memory that change, discs that come and go, pictures painted in between
 *
 * One controller has a disk (port 0), a CD-ROM drive (1) and an empty one (2), all of small sizes
 * so that chance meets their ends.  Checked besides memory errors: the picture has a size, and
 * nothing but the guest's memory, the frame buffer and the flash changes: a canary lies behind
 * each.
 */
#include "fuzz.h"

#include "device/ahci.h"
#include "device/e1000.h"
#include "device/nvme.h"
#include "device/pflash.h"
#include "device/vga.h"
#include "device/xhci.h"
#include "test.h"

#include <stdio.h>
#include <sys/mman.h>

#define RAM       (1u << 20)
#define AHCI_BAR  0xf0000000u
#define VGA_MMIO  0xf0010000u
#define NVME_BAR  0xf0020000u
#define NVME_Q    0x6000u /* admin queues, then those for I/O: a page each */
#define NVME_SIZE 16u
#define E1000_BAR 0xf0040000u
#define E1000_TX  0xa000u /* ring to send, the other one behind it */
#define VGA_LFB   0xe0000000u
#define XHCI_BAR  0xf0060000u
#define XHCI_MEM  0xc000u /* contexts' pointers, event ring's entry, rings: see xhci_start */
#define FLASH     0xffc00000u
#define FLASH_LEN (4 * PFLASH_BLOCK)
#define CANARY    4096u
#define STEPS_MAX 400

static struct {
	struct loop *loop;
	struct gmem *mem;
	struct bus *bus;
	struct pci_bus *pci;
	struct pci_dev *vga, *ahci, *nvme, *e1000, *xhci;
	unsigned int xhci_trb[3]; /* of commands, control, interrupt */
	struct net net;
	uint8_t nvme_tail[2];
	struct device *flash;
	struct screen *screen;
	uint8_t *vram, *flash_data;
	int disk, nvme_disk;
} m;

static void no_msi(void *opaque, uint64_t addr, uint32_t data)
{
}

static void no_line(void *opaque, unsigned int pin, bool level)
{
}

static void moved(void *opaque)
{
	uint64_t gpa;

	if (m.vga && vga_vram_place(m.vga, &gpa))
		CHECK_EQ(gpa & (VGA_VRAM_SIZE - 1), 0);
}

static struct blk *open_disk(int fd, bool read_only)
{
	autofree char *path = xasprintf("/proc/self/fd/%d", fd);
	struct blk_spec spec = {.path = path, .format = "raw", .read_only = read_only};
	struct blk *b;

	CHECK_EQ(blk_open(&spec, m.loop, &b, NULL), 0);
	return b;
}

static uint8_t *with_canary(size_t len)
{
	uint8_t *p =
	    mmap(NULL, len + CANARY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(p != MAP_FAILED);
	memset(p + len, 0x5a, CANARY);
	return p;
}

static void check_canary(const uint8_t *p, size_t len)
{
	for (unsigned int i = 0; i < CANARY; i++)
		CHECK_EQ(p[len + i], 0x5a);
}

/* Once: what holds no guest state is kept between inputs. */
static void build_world(void)
{
	struct err e = {0};

	CHECK_EQ(loop_new(&m.loop, &e), 0);
	m.disk = memfd_create("disk", MFD_CLOEXEC);
	CHECK(m.disk >= 0 && ftruncate(m.disk, 64 << 10) == 0);
	m.nvme_disk = memfd_create("nvme", MFD_CLOEXEC);
	CHECK(m.nvme_disk >= 0 && ftruncate(m.nvme_disk, 64 << 10) == 0);
	m.vram = with_canary(VGA_VRAM_SIZE);
	m.flash_data = with_canary(FLASH_LEN);
	m.screen = screen_new();
}

static void plug(struct pci_dev *d, unsigned int devfn, unsigned int bar, uint32_t base)
{
	CHECK_EQ(pci_plug(m.pci, d, devfn, NULL), 0);
	pci_config_write(m.pci, (uint16_t)devfn, PCI_BAR0 + 4 * bar, 4, base);
	pci_config_write(m.pci, (uint16_t)devfn, PCI_COMMAND, 2, 7);
}

static void nvme_submit(unsigned int queue, const void *entry)
{
	(void)!gmem_write(m.mem, NVME_Q + 0x2000 * queue + 64u * m.nvme_tail[queue], entry, 64);
	m.nvme_tail[queue] = (m.nvme_tail[queue] + 1) % NVME_SIZE;
	bus_write(m.bus, BUS_MMIO, NVME_BAR + 0x1000 + 8 * queue, 4, m.nvme_tail[queue]);
}

static void nvme_queue(uint8_t opcode, uint64_t gpa, uint32_t cdw11)
{
	uint8_t entry[64] = {opcode};

	store_le64(entry + 24, gpa);
	store_le32(entry + 40, (NVME_SIZE - 1) << 16 | 1);
	store_le32(entry + 44, cdw11);
	nvme_submit(0, entry);
}

static void nvme_start(void)
{
	static const uint32_t regs[][2] = {{0x24, (NVME_SIZE - 1) * 0x10001},
					   {0x28, NVME_Q},
					   {0x30, NVME_Q + 0x1000},
					   {0x14, 0x460001}};

	for (size_t i = 0; i < ARRAY_SIZE(regs); i++)
		bus_write(m.bus, BUS_MMIO, NVME_BAR + regs[i][0], 4, regs[i][1]);
	m.nvme_tail[0] = m.nvme_tail[1] = 0;
	nvme_queue(5, NVME_Q + 0x3000, 3);
	nvme_queue(1, NVME_Q + 0x2000, 1 << 16 | 1);
}

/* --- the network --- */

static uint8_t last_frame[NET_FRAME_MAX];

static void net_taken(struct net *n, const void *frame, size_t len)
{
	CHECK(len >= 14 && len <= NET_FRAME_MAX);
	memcpy(last_frame, frame, len); /* all of it is there */
}

static void net_ready(struct net *n)
{
}

static const struct net_ops net_ops = {"fuzz", net_taken, net_ready, net_ready};

static void e1000_start(void)
{
	static const uint32_t regs[][2] = {
	    {0x3800, E1000_TX}, {0x3808, 0x100}, {0x400, 2},     {0x2800, E1000_TX + 0x1000},
	    {0x2808, 0x100},    {0x2818, 15},    {0x100, 0x801a}};

	for (size_t i = 0; i < ARRAY_SIZE(regs); i++)
		bus_write(m.bus, BUS_MMIO, E1000_BAR + regs[i][0], 4, regs[i][1]);
}

static uint64_t number(struct fuzz_input *in, unsigned int bytes)
{
	uint64_t v = 0;

	fuzz_bytes(in, &v, bytes);
	return v;
}

/* --- USB --- */

static void xhci_start(void)
{
	static const uint32_t regs[][2] = {{0x70, XHCI_MEM},
					   {0x58, XHCI_MEM + 0x1001},
					   {0x78, 8},
					   {0x1028, 1},
					   {0x1038, XHCI_MEM + 0x2000},
					   {0x1030, XHCI_MEM + 0x100},
					   {0x1034, 0},
					   {0x1020, 2},
					   {0x40, 5}};
	uint8_t bytes[16] = {0};

	for (unsigned int i = 1; i <= 8; i++) {
		store_le64(bytes, XHCI_MEM + 0x4000 + 0x400u * i);
		(void)!gmem_write(m.mem, XHCI_MEM + 8 * i, bytes, 8);
	}
	store_le64(bytes, XHCI_MEM + 0x2000);
	store_le32(bytes + 8, 64);
	(void)!gmem_write(m.mem, XHCI_MEM + 0x100, bytes, 16);
	memset(m.xhci_trb, 0, sizeof(m.xhci_trb));
	for (size_t i = 0; i < ARRAY_SIZE(regs); i++)
		bus_write(m.bus, BUS_MMIO, XHCI_BAR + regs[i][0], 4, regs[i][1]);
}

static void xhci_put(unsigned int ring, uint64_t parameter, uint32_t status, uint32_t control)
{
	uint8_t trb[16];

	store_le64(trb, parameter);
	store_le32(trb + 8, status);
	store_le32(trb + 12, control | 1);
	(void)!gmem_write(m.mem, XHCI_MEM + 0x1000 + 0x800u * ring + 16u * m.xhci_trb[ring], trb,
			  16);
	m.xhci_trb[ring] = (m.xhci_trb[ring] + 1) % 128;
}

/* Commands with contexts that are nearly right, transfers of both kinds, what a person does. */
static void xhci_step(struct fuzz_input *in)
{
	static const uint8_t commands[] = {9, 9, 10, 11, 11, 12, 12, 13, 14, 15, 16, 17, 23, 6};
	uint8_t how = fuzz_u8(in), what = fuzz_u8(in), slot = 1 + (fuzz_u8(in) & 1);
	uint32_t context[64] = {0,          how & 8 ? 3 : 9,           0, 0, 0, 0, 0, 0,
				0x18300000, (how & 16) << 12 | 0x10000};
	unsigned int kind = commands[what % sizeof(commands)];

	switch (how & 7) {
	case 0:
	case 1:
		context[0x48 / 4] = XHCI_MEM + 0x1800 + 1;
		context[0x88 / 4] = XHCI_MEM + 0x2000 + 1;
		context[what & 63] ^= how & 32 ? (uint32_t)number(in, 4) : 0u;
		(void)!gmem_write(m.mem, XHCI_MEM + 0x3000, context, sizeof(context));
		xhci_put(0, how & 64 ? number(in, 4) : XHCI_MEM + 0x3000, 0,
			 (uint32_t)slot << 24 | (uint32_t)(what & 3) << 16 | kind << 10);
		bus_write(m.bus, BUS_MMIO, XHCI_BAR + 0x2000, 4, 0);
		break;
	case 2:
		xhci_put(1, number(in, 8), 8, 2 << 10 | 0x40);
		xhci_put(1, 0x20000 + number(in, 2), (uint32_t)number(in, 2),
			 3 << 10 | (what & 0x3e));
		xhci_put(1, 0, 0, (uint32_t)(how & 8 ? fuzz_u8(in) & 63 : 4) << 10 | 0x20);
		bus_write(m.bus, BUS_MMIO, XHCI_BAR + 0x2000 + 4u * slot, 4, 1);
		break;
	case 3:
		xhci_put(2, 0x20000 + number(in, 2), what & 15, 1 << 10 | (how & 0x34));
		bus_write(m.bus, BUS_MMIO, XHCI_BAR + 0x2000 + 4u * slot, 4, how & 8 ? what : 3);
		break;
	case 4:
		xhci_move(m.xhci, (unsigned int)number(in, 2), what, (int8_t)how, what);
		break;
	case 5:
		xhci_key(m.xhci, what, how & 8);
		break;
	case 6:
		if (how & 8)
			xhci_start();
		else
			bus_write(m.bus, BUS_MMIO, XHCI_BAR + 0x1038, 4,
				  (XHCI_MEM + 0x2000 + 16u * (what & 63)) | (how & 8));
		break;
	default:
		bus_write(m.bus, BUS_MMIO, XHCI_BAR + 0x440 + 16u * (what & 7), 4, number(in, 4));
	}
}

static void build(void)
{
	struct vga_config vga = {
	    .vram = m.vram, .timers = loop_timers(m.loop), .screen = m.screen, .moved = moved};
	struct pflash_config flash = {
	    .gpa = FLASH, .data = m.flash_data, .size = FLASH_LEN, .fd = -1};

	m.vga = NULL;
	CHECK_EQ(gmem_new(RAM, UINT64_C(1) << 31, &m.mem, NULL), 0);
	CHECK_EQ(bus_new(&m.bus), 0);
	CHECK_EQ(pci_bus_new(m.bus, (struct irq){no_line, NULL, 0}, (struct msi_sink){no_msi, NULL},
			     &m.pci),
		 0);
	CHECK_EQ(ahci_new(m.mem, m.loop, &m.ahci), 0);
	ahci_add_disk(m.ahci, 0, open_disk(m.disk, true), NULL);
	ahci_add_cdrom(m.ahci, 1, open_disk(m.disk, true));
	ahci_add_cdrom(m.ahci, 2, NULL);
	CHECK_EQ(vga_new(&vga, &m.vga), 0);
	plug(m.ahci, 8, 5, AHCI_BAR);
	plug(m.vga, 16, 2, VGA_MMIO);
	CHECK_EQ(nvme_new(m.mem, m.loop, open_disk(m.nvme_disk, false), "FUZZ", &m.nvme, NULL), 0);
	plug(m.nvme, 24, 0, NVME_BAR);
	nvme_start();
	m.net = (struct net){.ops = &net_ops};
	m.e1000 = e1000_new(m.mem, m.loop, &m.net, (const uint8_t *)"\x52\x54\0\1\2\3");
	plug(m.e1000, 32, 0, E1000_BAR);
	e1000_start();
	CHECK_EQ(
	    xhci_new(&(struct xhci_config){m.mem, loop_timers(m.loop), true, true}, &m.xhci, NULL),
	    0);
	plug(m.xhci, 40, 0, XHCI_BAR);
	xhci_start();
	pci_config_write(m.pci, 16, PCI_BAR0, 4, VGA_LFB);
	vga_attach_legacy(m.vga, m.bus);
	CHECK_EQ(pflash_new(&flash, &m.flash), 0);
	device_attach(m.flash, m.bus);
	for (unsigned int p = 0; p < 3; p++) {
		uint64_t base = AHCI_BAR + 0x100 + 0x80 * p;

		bus_write(m.bus, BUS_MMIO, base, 4, 0x1000 * (p + 1));
		bus_write(m.bus, BUS_MMIO, base + 8, 4, 0x1000 * (p + 1) + 0x800);
		bus_write(m.bus, BUS_MMIO, base + 0x18, 4, 0x11);
	}
}

static void tear_down(void)
{
	pci_bus_free(m.pci);
	device_free(m.flash);
	bus_free(m.bus);
	gmem_free(m.mem);
	check_canary(m.vram, VGA_VRAM_SIZE);
	check_canary(m.flash_data, FLASH_LEN);
}

/* --- steps --- */

static void access_at(struct fuzz_input *in, enum bus_space space, uint64_t addr)
{
	uint8_t how = fuzz_u8(in);
	unsigned int size = 1u << (how & 3);

	if (space == BUS_PIO)
		size = MIN(size, 4u);
	if (how & 4)
		bus_write(m.bus, space, addr, size, number(in, how & 8 ? 1 : size));
	else
		bus_read(m.bus, space, addr, size);
}

/* The registers that make modes, with an index that exists. */
static void vga_register(struct fuzz_input *in)
{
	static const uint16_t pairs[] = {0x3c4, 0x3ce, 0x3d4, 0x1ce};
	uint16_t port = pairs[fuzz_u8(in) % ARRAY_SIZE(pairs)];
	bool words = port == 0x1ce;

	bus_write(m.bus, BUS_PIO, port, words ? 2 : 1, fuzz_u8(in) % 26);
	bus_write(m.bus, BUS_PIO, port + 1, words ? 2 : 1, number(in, words ? 2 : 1));
}

static const uint8_t commands[] = {0x25, 0x35, 0x60, 0x61, 0xc8, 0xca, 0x20, 0x06, 0xec,
				   0xa0, 0xa1, 0xe7, 0x2f, 0x27, 0xef, 0xc6, 0x08};
static const uint8_t packets[] = {0x00, 0x03, 0x12, 0x1b, 0x1e, 0x23, 0x25, 0x28,
				  0x43, 0x46, 0x4a, 0x51, 0x5a, 0xa8, 0xbd, 0xbe};

/* A command in its slot, nearly right, and off it goes. */
static void ahci_command(struct fuzz_input *in)
{
	uint8_t head[32] = {5}, fis[20] = {0x27, 0x80}, cdb[16], prd[16] = {0};
	uint8_t slot = fuzz_u8(in) & 31, port = fuzz_u8(in) % 3, n_prd = fuzz_u8(in) & 7;
	uint64_t list = 0x1000 * (port + 1u) + 32u * slot, table = 0x10000 + 0x200u * slot;

	store_le16(head + 2, n_prd);
	store_le64(head + 8, table);
	fuzz_bytes(in, fis + 4, 10);
	fuzz_bytes(in, cdb, 12);
	fis[2] = commands[fuzz_u8(in) % ARRAY_SIZE(commands)];
	fis[3] = fuzz_u8(in);
	cdb[0] = packets[cdb[0] % ARRAY_SIZE(packets)];
	if (fis[3] & 0x80) { /* within the disk */
		memset(fis + 5, 0, 2);
		memset(fis + 8, 0, 3);
		fis[12] = slot << 3;
		fis[13] = 0;
		memset(cdb + 2, 0, 3);
	}
	(void)!gmem_write(m.mem, list, head, sizeof(head));
	(void)!gmem_write(m.mem, table, fis, sizeof(fis));
	(void)!gmem_write(m.mem, table + 0x40, cdb, sizeof(cdb));
	for (unsigned int i = 0; i < n_prd; i++) {
		uint8_t where = fuzz_u8(in);

		store_le64(prd, where < 230 ? 0x20000 + where * 0x200u : number(in, 8));
		store_le32(prd + 12, where & 1 ? 4095 : (uint32_t)number(in, 3));
		(void)!gmem_write(m.mem, table + 0x80 + 16u * i, prd, sizeof(prd));
	}
	bus_write(m.bus, BUS_MMIO, AHCI_BAR + 0x100 + 0x80u * port + 0x38, 4, 1u << slot);
}

/* Nearly right, too, in either queue; answers are taken away, or not. */
static void nvme_command(struct fuzz_input *in)
{
	static const uint8_t admin[] = {0, 1, 2, 4, 5, 6, 8, 9, 10, 12}, io[] = {0, 1, 2, 8, 9};
	uint8_t entry[64] = {0}, how = fuzz_u8(in), which = fuzz_u8(in);
	unsigned int queue = how & 1;

	entry[0] = queue ? io[which % sizeof(io)] : admin[which % sizeof(admin)];
	entry[4] = 1;
	store_le64(entry + 24, how & 2 ? number(in, 8) : 0x20000 + number(in, 2) * 4);
	store_le64(entry + 32, how & 4 ? number(in, 8) : 0x20000 + (number(in, 2) & ~0xfffu));
	store_le32(entry + 40, (uint32_t)number(in, how & 8 ? 4 : 1));
	store_le32(entry + 44, (uint32_t)(queue && !(how & 16) ? 0 : number(in, 4)));
	store_le32(entry + 48, (uint32_t)number(in, how & 32 ? 4 : 1));
	nvme_submit(queue, entry);
	if (how & 64)
		bus_write(m.bus, BUS_MMIO, NVME_BAR + 0x1004 + 8 * queue, 4, which % NVME_SIZE);
	if (how & 128)
		loop_once(m.loop, 0);
}

/* Descriptors of the three kinds, nearly right; frames that come. */
static void e1000_traffic(struct fuzz_input *in)
{
	uint8_t how = fuzz_u8(in), slot = fuzz_u8(in) & 15, desc[16];
	static uint8_t frame[2048];

	if (how & 1) {
		fuzz_bytes(in, frame, 14);
		(void)m.net.rx(m.net.rx_opaque, frame, number(in, 2) % sizeof(frame));
		bus_write(m.bus, BUS_MMIO, E1000_BAR + 0x2818, 4, slot);
		return;
	}
	for (unsigned int i = 0; i < 3; i++) {
		fuzz_bytes(in, desc, sizeof(desc));
		if (how & 2) { /* an address in memory */
			memset(desc + 3, 0, 5);
			desc[2] &= 7;
		}
		if (how & 4) /* a context first, then data */
			desc[10] = (uint8_t)((desc[10] & 15) | (i ? 0x10 : 0));
		if (how & 8)
			desc[11] |= i ? 0x21 : 0x20;
		(void)!gmem_write(m.mem, E1000_TX + 16u * ((slot + i) & 15), desc, sizeof(desc));
	}
	bus_write(m.bus, BUS_MMIO, E1000_BAR + 0x3810, 4, slot);
	bus_write(m.bus, BUS_MMIO, E1000_BAR + 0x3818, 4, (slot + 3u) & 15);
	loop_once(m.loop, 0);
}

static void change_disc(bool another, bool force)
{
	struct blk *b = another ? open_disk(m.disk, true) : NULL;

	if (ahci_change_disc(m.ahci, 1, b, force, NULL) < 0 && b)
		blk_close(b); /* locked: it stays ours */
}

static void other_step(struct fuzz_input *in)
{
	uint8_t how = fuzz_u8(in), bytes[16];
	struct strbuf t = {0};

	switch (how & 7) {
	case 0:
		loop_once(m.loop, 0);
		break;
	case 1:
		screen_refresh(m.screen);
		CHECK(m.screen->width && m.screen->height);
		(void)screen_text(m.screen, &t);
		strbuf_fini(&t);
		break;
	case 2: /* a disc that changes under a drive */
		change_disc(how & 8, how & 16);
		break;
	case 3:
		fuzz_bytes(in, bytes, sizeof(bytes));
		(void)!gmem_write(m.mem, number(in, 2) * 4, bytes, sizeof(bytes));
		break;
	case 4:
		pci_config_write(m.pci, (uint16_t)(8 * (1 + (how >> 3 & 3))), fuzz_u8(in) & 0x3c, 4,
				 (uint32_t)number(in, 4));
		break;
	case 5:
		if (how & 8)
			pci_bus_reset(m.pci);
		else
			device_reset(m.flash);
		break;
	default:
		access_at(in, BUS_MMIO, VGA_LFB + number(in, 4) % (VGA_VRAM_SIZE + 16));
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, size};
	unsigned int steps = 0;

	if (!m.loop)
		build_world();
	build();
	while (in.len && steps++ < STEPS_MAX) {
		uint8_t what = fuzz_u8(&in);

		if (what < 10)
			e1000_traffic(&in);
		else if (what < 15)
			access_at(&in, BUS_MMIO, E1000_BAR + number(&in, 2) % 0x5800);
		else if (what < 25)
			xhci_step(&in);
		else if (what < 27)
			access_at(&in, BUS_MMIO, XHCI_BAR + number(&in, 2) % 0x4008);
		else if (what < 40)
			access_at(&in, BUS_PIO, 0x3b0 + fuzz_u8(&in) % 0x30);
		else if (what < 90)
			vga_register(&in);
		else if (what < 110)
			access_at(&in, BUS_MMIO, 0xa0000 + number(&in, 3) % 0x20010);
		else if (what < 120)
			access_at(&in, BUS_MMIO, VGA_MMIO + 0x400 + fuzz_u8(&in) * 2);
		else if (what < 135)
			access_at(&in, BUS_MMIO, NVME_BAR + number(&in, 2) % 0x4008);
		else if (what < 150)
			access_at(&in, BUS_MMIO, AHCI_BAR + number(&in, 2) % 0x460);
		else if (what < 170)
			ahci_command(&in);
		else if (what < 190)
			nvme_command(&in);
		else if (what < 220)
			access_at(&in, BUS_MMIO, FLASH + number(&in, 2) % (FLASH_LEN + 8));
		else
			other_step(&in);
	}
	tear_down();
	return 0;
}
