/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/device/test_ahci.c - a driver's view: reset and signatures, IDENTIFY, reads and writes
 * plain and queued, errors, TRIM, and a CD-ROM drive with and without a disc
 */
#include "device/ahci.h"

#include "base/fd.h"
#include "fake.h"

#include <errno.h>
#include <fcntl.h>

#define BAR     0xfe000000u
#define CLB     0x1000u /* command list of port n: + n * 0x1000 */
#define FB      0x8000u
#define TABLE   0x10000u
#define DATA    0x20000u
#define SECTORS 2048u

static struct loop *loop;
static struct gmem *mem;
static struct bus *bus;
static struct pci_bus *pci;
static struct pci_dev *ahci;
static struct fake_lines lines;
static char disk_path[] = "/tmp/insula-ahci-XXXXXX";
static int disk_fd;

static void no_msi(void *opaque, uint64_t addr, uint32_t data)
{
}

static uint32_t rd(unsigned int off)
{
	return (uint32_t)bus_read(bus, BUS_MMIO, BAR + off, 4);
}

static void wr(unsigned int off, uint32_t v)
{
	bus_write(bus, BUS_MMIO, BAR + off, 4, v);
}

static unsigned int px(unsigned int port, unsigned int reg)
{
	return 0x100 + 0x80 * port + reg;
}

static void intx(void *opaque, unsigned int pin, bool level)
{
	fake_line_set(&lines, 0, level);
}

static struct blk *open_disk(bool read_only)
{
	struct blk_spec spec = {.path = disk_path, .format = "raw", .read_only = read_only};
	struct err e = {0};
	struct blk *b;

	if (blk_open(&spec, loop, &b, &e) < 0) {
		fprintf(stderr, "%s\n", e.msg);
		exit(1);
	}
	return b;
}

static void start(bool disk, bool cdrom)
{
	struct err e = {0};

	CHECK_EQ(loop_new(&loop, &e), 0);
	CHECK_EQ(gmem_new(1 << 20, UINT64_C(1) << 31, &mem, &e), 0);
	CHECK_EQ(gmem_add(mem, 0xffff0000, 0x10000, GMEM_ROM, &e), 0);
	CHECK_EQ(bus_new(&bus), 0);
	CHECK_EQ(
	    pci_bus_new(bus, (struct irq){intx, NULL, 0}, (struct msi_sink){no_msi, NULL}, &pci),
	    0);
	CHECK_EQ(ahci_new(mem, loop, &ahci), 0);
	if (disk)
		ahci_add_disk(ahci, 0, open_disk(cdrom), "SER1");
	if (cdrom)
		ahci_add_cdrom(ahci, 1, open_disk(true));
	CHECK_EQ(pci_plug(pci, ahci, 8, &e), 0);
	pci_config_write(pci, 8, PCI_BAR0 + 20, 4, BAR);
	pci_config_write(pci, 8, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	for (unsigned int p = 0; p < 2; p++) {
		wr(px(p, 0x00), CLB + p * 0x1000);
		wr(px(p, 0x08), FB + p * 0x1000);
		wr(px(p, 0x18), 0x10);
		wr(px(p, 0x10), UINT32_MAX);
		wr(px(p, 0x14), UINT32_MAX);
		wr(px(p, 0x18), 0x11);
	}
	wr(4, 0x80000002);
}

static void stop(void)
{
	pci_bus_free(pci);
	bus_free(bus);
	gmem_free(mem);
	loop_free(loop);
}

static void put(uint64_t gpa, const void *p, size_t n)
{
	CHECK_EQ(gmem_write(mem, gpa, p, n), 0);
}

static void get(uint64_t gpa, void *p, size_t n)
{
	CHECK_EQ(gmem_read(mem, gpa, p, n), 0);
}

struct command {
	unsigned int port, slot, n_prd;
	uint8_t op, device, feature, packet[12];
	uint64_t lba, gpa;
	uint16_t count;
	uint32_t len; /* of each PRD */
};

/* Puts it in its slot; does not issue it. */
static void prepare(const struct command *c)
{
	uint64_t table = TABLE + 0x400 * c->slot;
	uint8_t head[32] = {5}, fis[20] = {0x27, 0x80, c->op, c->feature}, prd[16] = {0};

	store_le16(head + 2, (uint16_t)c->n_prd);
	store_le64(head + 8, table);
	for (unsigned int i = 0; i < 3; i++) {
		fis[4 + i] = (uint8_t)(c->lba >> (8 * i));
		fis[8 + i] = (uint8_t)(c->lba >> (24 + 8 * i));
	}
	fis[7] = c->device;
	store_le16(fis + 12, c->count);
	put(CLB + c->port * 0x1000 + 32 * c->slot, head, sizeof(head));
	put(table, fis, sizeof(fis));
	put(table + 0x40, c->packet, sizeof(c->packet));
	for (unsigned int i = 0; i < c->n_prd; i++) {
		store_le64(prd, c->gpa + (uint64_t)i * c->len);
		store_le32(prd + 12, c->len - 1);
		put(table + 0x80 + 16 * i, prd, sizeof(prd));
	}
}

/* Runs it to its end; returns the task file: error << 8 | status. */
static uint32_t run(const struct command *c)
{
	prepare(c);
	wr(px(c->port, 0x10), UINT32_MAX);
	wr(8, UINT32_MAX);
	wr(px(c->port, 0x38), 1u << c->slot);
	for (unsigned int i = 0; i < 1000 && !rd(px(c->port, 0x10)); i++)
		loop_once(loop, 10);
	CHECK(rd(px(c->port, 0x10)));
	CHECK(lines.level[0]);
	wr(px(c->port, 0x10), UINT32_MAX);
	wr(8, UINT32_MAX);
	CHECK(!lines.level[0]);
	return rd(px(c->port, 0x20)) & 0xffff;
}

static uint32_t told(const struct command *c)
{
	uint8_t n[4];

	get(CLB + c->port * 0x1000 + 32 * c->slot + 4, n, 4);
	return load_le32(n);
}

/* After an error the driver starts the port anew. */
static void recover(unsigned int port)
{
	wr(px(port, 0x18), 0x10);
	CHECK_EQ(rd(px(port, 0x38)), 0);
	wr(px(port, 0x18), 0x11);
}

static void test_registers(void)
{
	uint8_t fis[20];

	start(true, true);
	CHECK_EQ(rd(0x0c), 0x3f);
	CHECK_EQ(rd(px(0, 0x24)), 0x00000101);
	CHECK_EQ(rd(px(1, 0x24)), 0xeb140101);
	CHECK_EQ(rd(px(0, 0x28)), 0x123);
	CHECK_EQ(rd(px(2, 0x28)), 0);
	CHECK_EQ(rd(px(0, 0x18)) & 0xc011, 0xc011);
	get(FB + 0x1000 + 0x40, fis, sizeof(fis)); /* the drive's signature came with FRE */
	CHECK(fis[0] == 0x34 && fis[5] == 0x14 && fis[6] == 0xeb);
	wr(px(0, 0x2c), 1);
	CHECK_EQ(rd(px(0, 0x28)), 0);
	wr(px(0, 0x2c), 0);
	CHECK_EQ(rd(px(0, 0x28)), 0x123);
	CHECK_EQ(rd(px(0, 0x20)) & 0x89, 0);
	wr(4, 0x80000003); /* reset of all */
	CHECK_EQ(rd(4), 0x80000000);
	CHECK_EQ(rd(px(0, 0x00)), 0);
	stop();
}

static void test_identify(void)
{
	struct command c = {.op = 0xec, .n_prd = 1, .gpa = DATA, .len = 512};
	uint8_t id[512];

	start(true, false);
	CHECK_EQ(run(&c), 0x50);
	CHECK_EQ(told(&c), 512);
	get(DATA, id, sizeof(id));
	CHECK(memcmp(id + 20, "ES1R    ", 8) == 0);
	CHECK_EQ(load_le64(id + 200), SECTORS);
	CHECK_EQ(load_le32(id + 120), SECTORS);
	c.op = 0xa1; /* of a drive it is not */
	CHECK_EQ(run(&c), 0x0451);
	recover(0);
	stop();
}

static void test_read_write(void)
{
	struct command c = {.op = 0x35,
			    .device = 0x40,
			    .n_prd = 4,
			    .gpa = DATA,
			    .len = 512,
			    .lba = 5,
			    .count = 4,
			    .slot = 3};
	uint8_t block[2048], got[2048];

	start(true, false);
	for (unsigned int i = 0; i < sizeof(block); i++)
		block[i] = (uint8_t)(i * 7 + i / 512);
	put(DATA, block, sizeof(block));
	CHECK_EQ(run(&c), 0x50);
	CHECK(pread(disk_fd, got, sizeof(got), 5 * 512) == sizeof(got));
	CHECK(memcmp(got, block, sizeof(got)) == 0);
	c.op = 0x25;
	c.gpa = DATA + 0x1000;
	CHECK_EQ(run(&c), 0x50);
	CHECK_EQ(told(&c), 2048);
	get(DATA + 0x1000, got, sizeof(got));
	CHECK(memcmp(got, block, sizeof(got)) == 0);
	c.op = 0xc8; /* 28 bits */
	c.lba = 6;
	c.count = 1;
	CHECK_EQ(run(&c), 0x50);
	CHECK_EQ(told(&c), 512);
	c.op = 0xe7;
	CHECK_EQ(run(&c), 0x50);
	stop();
}

static void test_queued(void)
{
	struct command c = {.device = 0x40, .n_prd = 1, .gpa = DATA, .len = 1024, .feature = 2};
	uint8_t sdb[8];

	start(true, false);
	wr(px(0, 0x10), UINT32_MAX);
	for (c.slot = 0; c.slot < 8; c.slot++) {
		c.op = c.slot & 1 ? 0x61 : 0x60;
		c.lba = 100 + 2 * c.slot;
		c.count = (uint16_t)(c.slot << 3);
		c.gpa = DATA + 1024 * c.slot;
		prepare(&c);
	}
	wr(px(0, 0x34), 0xff);
	wr(px(0, 0x38), 0xff);
	CHECK_EQ(rd(px(0, 0x38)), 0); /* accepted */
	for (unsigned int i = 0; i < 1000 && rd(px(0, 0x34)); i++)
		loop_once(loop, 10);
	CHECK_EQ(rd(px(0, 0x34)), 0);
	CHECK(rd(px(0, 0x10)) & 8);
	get(FB + 0x58, sdb, sizeof(sdb));
	CHECK(sdb[0] == 0xa1 && !(sdb[2] & 1));
	/* A tag that is not the slot's: an error, and the log says which. */
	c.slot = 4;
	c.count = 5 << 3;
	CHECK_EQ(run(&c) & 0xff01, 0x0401);
	recover(0);
	c = (struct command){
	    .op = 0x2f, .lba = 0x10, .count = 1, .n_prd = 1, .gpa = DATA, .len = 512};
	CHECK_EQ(run(&c), 0x50);
	get(DATA, sdb, sizeof(sdb));
	CHECK(sdb[0] == 4 && sdb[3] == 4);
	stop();
}

static void test_errors(void)
{
	struct command c = {.op = 0x25,
			    .device = 0x40,
			    .n_prd = 1,
			    .gpa = DATA,
			    .len = 512,
			    .lba = SECTORS - 1,
			    .count = 2};

	start(true, true);         /* read-only: the drive has the same file */
	CHECK_EQ(run(&c), 0x1051); /* past the end */
	recover(0);
	c.lba = UINT64_C(0xffffffffffff);
	CHECK_EQ(run(&c), 0x1051);
	recover(0);
	c.lba = 0; /* a list that is too short; a hole; ROM; the list itself nowhere */
	CHECK_EQ(run(&c), 0x0451);
	recover(0);
	c.count = 1;
	c.gpa = 0x90000000;
	CHECK_EQ(run(&c), 0x0451);
	recover(0);
	c.gpa = 0xffff0000;
	CHECK_EQ(run(&c), 0x0451);
	recover(0);
	c.n_prd = 0;
	CHECK_EQ(run(&c), 0x0451);
	recover(0);
	c.n_prd = 1;
	c.gpa = DATA;
	c.op = 0x35; /* a write to what cannot be written */
	CHECK_EQ(run(&c), 0x0451);
	recover(0);
	c.op = 0x99;
	CHECK_EQ(run(&c), 0x0451);
	recover(0);
	wr(px(0, 0x18), 0x10);
	wr(px(0, 0x00), 0x80000000); /* the command list is nowhere */
	wr(px(0, 0x18), 0x11);
	wr(px(0, 0x10), UINT32_MAX);
	wr(px(0, 0x38), 1);
	CHECK(rd(px(0, 0x20)) & 1);
	stop();
}

static void test_trim(void)
{
	struct command c = {.op = 0x06,
			    .feature = 1,
			    .device = 0x40,
			    .n_prd = 1,
			    .gpa = DATA,
			    .len = 512,
			    .count = 1};
	uint8_t ranges[512] = {0}, got[512];

	start(true, false);
	store_le64(ranges, 8 | UINT64_C(8) << 48);
	store_le64(ranges + 8, 64 | UINT64_C(8) << 48);
	put(DATA, ranges, sizeof(ranges));
	memset(got, 0xee, sizeof(got));
	for (unsigned int i = 0; i < 128; i++)
		CHECK(pwrite(disk_fd, got, 512, 512 * i) == 512);
	CHECK_EQ(run(&c), 0x50);
	CHECK(pread(disk_fd, got, 512, 512 * 9) == 512 && got[0] == 0);
	CHECK(pread(disk_fd, got, 512, 512 * 65) == 512 && got[0] == 0);
	CHECK(pread(disk_fd, got, 512, 512 * 20) == 512 && got[0] == 0xee);
	stop();
}

static uint32_t packet(const char *cdb, size_t n, uint32_t len)
{
	struct command c = {
	    .port = 1, .op = 0xa0, .feature = 1, .n_prd = 1, .gpa = DATA, .len = len};

	memcpy(c.packet, cdb, n);
	return run(&c);
}

static void test_cdrom(void)
{
	struct err e = {0};
	uint8_t d[2048], want[2048];

	start(false, true);
	memset(want, 0xc5, sizeof(want));
	CHECK(pwrite(disk_fd, want, sizeof(want), 3 * 2048) == sizeof(want));
	CHECK_EQ(packet("\x12\0\0\0\x24", 5, 36), 0x50);
	get(DATA, d, 36);
	CHECK(d[0] == 5 && d[1] == 0x80 && memcmp(d + 8, "Insula", 6) == 0);
	CHECK_EQ(packet("\x25", 1, 8), 0x50);
	get(DATA, d, 8);
	CHECK(d[2] == (SECTORS / 4 - 1) >> 8 && d[3] == 255 && d[6] == 8);
	CHECK_EQ(packet("\x28\0\0\0\0\3\0\0\1", 9, 2048), 0x50);
	get(DATA, d, 2048);
	CHECK(memcmp(d, want, sizeof(d)) == 0);
	CHECK_EQ(packet("\x28\0\0\0\2\0\0\0\1", 9, 2048), 0x5451); /* past the end */
	recover(1);
	CHECK_EQ(packet("\x43\2\0\0\0\0\0\0\x14", 9, 20), 0x50);
	get(DATA, d, 20);
	CHECK(d[1] == 18 && d[5] == 0x14 && d[10] == 2 && d[14] == 0xaa);
	CHECK_EQ(packet("\xff", 1, 8), 0x5451);
	recover(1);
	CHECK_EQ(packet("\x03\0\0\0\x12", 5, 18), 0x50);
	get(DATA, d, 18);
	CHECK(d[2] == 5 && d[12] == 0x20);

	/* A locked door stays shut; then the disc goes, and another comes. */
	CHECK_EQ(packet("\x1e\0\0\0\1", 5, 8), 0x50);
	CHECK_EQ(ahci_change_disc(ahci, 1, NULL, false, &e), -EBUSY);
	CHECK_EQ(packet("\x4a\1\0\0\x10\0\0\0\x8", 9, 8), 0x50);
	get(DATA, d, 8);
	CHECK(d[4] == 1 && d[5] == 2); /* the button was pressed */
	CHECK_EQ(packet("\x1e\0\0\0\0", 5, 8), 0x50);
	CHECK_EQ(ahci_change_disc(ahci, 0, NULL, false, &e), -ENODEV);
	CHECK_EQ(ahci_change_disc(ahci, 1, NULL, false, &e), 0);
	CHECK_EQ(packet("\0", 1, 8), 0x2051);
	recover(1);
	CHECK_EQ(packet("\x28\0\0\0\0\0\0\0\1", 9, 2048), 0x2051);
	recover(1);
	CHECK_EQ(packet("\x4a\1\0\0\x10\0\0\0\x8", 9, 8), 0x50);
	get(DATA, d, 8);
	CHECK(d[4] == 3 && d[5] == 1);
	CHECK_EQ(ahci_change_disc(ahci, 1, open_disk(true), false, &e), 0);
	CHECK_EQ(packet("\0", 1, 8), 0x6051); /* it is another one */
	recover(1);
	CHECK_EQ(packet("\0", 1, 8), 0x50);
	/* The guest opens the tray and closes it again. */
	CHECK_EQ(packet("\x1b\0\0\0\2", 5, 8), 0x50);
	CHECK_EQ(packet("\0", 1, 8), 0x2051);
	recover(1);
	CHECK_EQ(packet("\x1b\0\0\0\3", 5, 8), 0x50);
	CHECK_EQ(packet("\0", 1, 8), 0x6051);
	recover(1);
	CHECK_EQ(packet("\x28\0\0\0\0\3\0\0\1", 9, 2048), 0x50);
	stop();
}

int main(void)
{
	disk_fd = mkstemp(disk_path);
	CHECK(disk_fd >= 0 && ftruncate(disk_fd, SECTORS * 512) == 0);
	test_registers();
	test_identify();
	test_read_write();
	test_queued();
	test_errors();
	test_trim();
	test_cdrom();
	unlink(disk_path);
	return 0;
}
