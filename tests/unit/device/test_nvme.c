/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/device/test_nvme.c - a driver's view: enabling, Identify, queues, reads and writes by
 * one page, two, and lists of them, what is refused, full completion queues, resets in between
 */
#include "device/nvme.h"

#include "base/fd.h"
#include "fake.h"

#include <errno.h>
#include <fcntl.h>

#define BAR       0xfe000000u
#define ASQ       0x1000u
#define ACQ       0x2000u
#define IO_SQ     0x3000u
#define IO_CQ     0x4000u
#define LIST      0x5000u
#define DATA      0x20000u
#define BLOCKS    2048u
#define ENTRIES   4u
#define BAD_FIELD 0x4002u

static struct loop *loop;
static struct gmem *mem;
static struct bus *bus;
static struct pci_bus *pci;
static struct pci_dev *nvme;
static bool line;
static char disk_path[] = "/tmp/insula-nvme-XXXXXX";
static int disk_fd;
static uint32_t tail[2], head[2], phase[2];

struct sqe {
	uint32_t cdw0, nsid, cdw2, cdw3;
	uint64_t mptr, prp1, prp2;
	uint32_t cdw10, cdw11, cdw12, cdw13, cdw14, cdw15;
};

static void no_msi(void *opaque, uint64_t addr, uint32_t data)
{
}

static void intx(void *opaque, unsigned int pin, bool level)
{
	line = level;
}

static uint32_t rd(unsigned int off)
{
	return (uint32_t)bus_read(bus, BUS_MMIO, BAR + off, 4);
}

static void wr(unsigned int off, uint32_t v)
{
	bus_write(bus, BUS_MMIO, BAR + off, 4, v);
}

static void put(uint64_t gpa, const void *p, size_t n)
{
	CHECK_EQ(gmem_write(mem, gpa, p, n), 0);
}

static void get(uint64_t gpa, void *p, size_t n)
{
	CHECK_EQ(gmem_read(mem, gpa, p, n), 0);
}

/* --- the driver --- */

static void queue_command(unsigned int q, const struct sqe *s)
{
	put((q ? IO_SQ : ASQ) + 64 * tail[q], s, sizeof(*s));
	tail[q] = (tail[q] + 1) % ENTRIES;
}

static void ring(unsigned int q)
{
	wr(0x1000 + 8 * q, tail[q]);
}

static bool answered(unsigned int q)
{
	uint8_t cqe[16];

	get((q ? IO_CQ : ACQ) + 16 * head[q], cqe, sizeof(cqe));
	return (cqe[14] & 1) == phase[q];
}

/* Status and, in @dw0, the answer of the oldest command of queue @q. */
static uint32_t answer(unsigned int q, uint32_t *dw0)
{
	uint8_t cqe[16];

	for (int i = 0; i < 1000 && !answered(q); i++)
		loop_once(loop, 10);
	CHECK(answered(q));
	get((q ? IO_CQ : ACQ) + 16 * head[q], cqe, sizeof(cqe));
	CHECK_EQ(load_le16(cqe + 10), q);
	if (dw0)
		*dw0 = load_le32(cqe);
	head[q] = (head[q] + 1) % ENTRIES;
	phase[q] ^= head[q] == 0;
	wr(0x1004 + 8 * q, head[q]);
	return load_le16(cqe + 14) >> 1;
}

static uint32_t run(unsigned int q, struct sqe s)
{
	queue_command(q, &s);
	ring(q);
	return answer(q, NULL);
}

static void enable(void)
{
	static const uint8_t zeroes[4096];

	for (unsigned int i = 0; i < 2; i++) {
		tail[i] = head[i] = 0;
		phase[i] = 1;
	}
	put(ACQ, zeroes, sizeof(zeroes));
	put(IO_CQ, zeroes, sizeof(zeroes));
	wr(0x24, (ENTRIES - 1) << 16 | (ENTRIES - 1));
	wr(0x28, ASQ);
	wr(0x30, ACQ);
	wr(0x14, 0x460001);
	CHECK_EQ(rd(0x1c), 1);
}

static void make_queues(void)
{
	CHECK_EQ(run(0,
		     (struct sqe){
			 .cdw0 = 5, .prp1 = IO_CQ, .cdw10 = (ENTRIES - 1) << 16 | 1, .cdw11 = 3}),
		 0);
	CHECK_EQ(run(0, (struct sqe){.cdw0 = 1,
				     .prp1 = IO_SQ,
				     .cdw10 = (ENTRIES - 1) << 16 | 1,
				     .cdw11 = 1 << 16 | 1}),
		 0);
}

static void start(bool read_only)
{
	struct blk_spec spec = {.path = disk_path, .format = "raw", .read_only = read_only};
	struct err e = {0};
	struct blk *b;

	CHECK_EQ(loop_new(&loop, &e), 0);
	CHECK_EQ(gmem_new(1 << 20, UINT64_C(1) << 31, &mem, &e), 0);
	CHECK_EQ(gmem_add(mem, 0xffff0000, 0x10000, GMEM_ROM, &e), 0);
	CHECK_EQ(bus_new(&bus), 0);
	CHECK_EQ(
	    pci_bus_new(bus, (struct irq){intx, NULL, 0}, (struct msi_sink){no_msi, NULL}, &pci),
	    0);
	CHECK_EQ(blk_open(&spec, loop, &b, &e), 0);
	CHECK_EQ(nvme_new(mem, loop, b, "SER1", &nvme, &e), 0);
	CHECK_EQ(pci_plug(pci, nvme, 8, &e), 0);
	pci_config_write(pci, 8, PCI_BAR0, 4, BAR);
	pci_config_write(pci, 8, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	enable();
	make_queues();
}

static void stop(void)
{
	pci_bus_free(pci);
	bus_free(bus);
	gmem_free(mem);
	loop_free(loop);
}

static struct sqe move(unsigned int opcode, uint64_t lba, uint32_t n, uint64_t prp1, uint64_t prp2)
{
	return (struct sqe){.cdw0 = opcode,
			    .nsid = 1,
			    .prp1 = prp1,
			    .prp2 = prp2,
			    .cdw10 = (uint32_t)lba,
			    .cdw11 = (uint32_t)(lba >> 32),
			    .cdw12 = n - 1};
}

/* --- cases --- */

static void test_identify(void)
{
	uint8_t d[4096];

	start(false);
	CHECK_EQ(run(0, (struct sqe){.cdw0 = 6, .prp1 = DATA, .cdw10 = 1}), 0);
	get(DATA, d, sizeof(d));
	CHECK(memcmp(d + 4, "SER1 ", 5) == 0 && memcmp(d + 24, "Insula NVMe ", 12) == 0);
	CHECK_EQ(load_le32(d + 516), 1);
	CHECK_EQ(run(0, (struct sqe){.cdw0 = 6, .nsid = 1, .prp1 = DATA + 0x800, .prp2 = LIST}), 0);
	get(DATA + 0x800, d, 256);
	CHECK_EQ(load_le64(d), BLOCKS);
	CHECK_EQ(d[130], 9);
	CHECK_EQ(run(0, (struct sqe){.cdw0 = 6, .nsid = 2, .prp1 = DATA}), 0x400b);
	CHECK_EQ(run(0, (struct sqe){.cdw0 = 6, .cdw10 = 9, .prp1 = DATA}), BAD_FIELD);
	CHECK_EQ(run(0, (struct sqe){.cdw0 = 6, .cdw10 = 1, .prp1 = 0xffff0000}), 0x4013);
	CHECK_EQ(run(0, (struct sqe){.cdw0 = 0x7f}), 0x4001);
	stop();
}

static void test_read_and_write(void)
{
	uint8_t out[16 * 512], in[sizeof(out)], zeroes[512] = {0};

	start(false);
	for (size_t i = 0; i < sizeof(out); i++)
		out[i] = (uint8_t)(i * 7 + i / 512);
	put(DATA + 0x200, out, sizeof(out));
	/* From the middle of a page: 0xe00 bytes, a page, and what is left, by a list. */
	store_le64(in, DATA + 0x1000);
	store_le64(in + 8, DATA + 0x2000);
	put(LIST, in, 16);
	CHECK_EQ(run(1, move(1, 100, 16, DATA + 0x200, LIST)), 0);
	CHECK_EQ(pread(disk_fd, in, sizeof(in), 100 * 512), (ssize_t)sizeof(in));
	CHECK(memcmp(in, out, sizeof(out)) == 0);
	/* Two pages without a list. */
	CHECK_EQ(run(1, move(2, 100, 16, DATA + 0x8000, DATA + 0xc000)), 0);
	get(DATA + 0x8000, in, 4096);
	get(DATA + 0xc000, in + 4096, 4096);
	CHECK(memcmp(in, out, sizeof(out)) == 0);
	/* One page. */
	CHECK_EQ(run(1, move(2, 101, 1, DATA + 0x8e00, 0)), 0);
	get(DATA + 0x8e00, in, 512);
	CHECK(memcmp(in, out + 512, 512) == 0);
	CHECK_EQ(run(1, (struct sqe){.cdw0 = 0, .nsid = 1}), 0);
	/* Write zeroes; deallocate, whose ranges are in memory. */
	CHECK_EQ(run(1, move(8, 100, 1, 0, 0)), 0);
	CHECK_EQ(pread(disk_fd, in, 512, 100 * 512), 512);
	CHECK(memcmp(in, zeroes, 512) == 0);
	memset(in, 0, 32);
	store_le32(in + 4, 1);
	store_le64(in + 8, BLOCKS - 1);
	store_le32(in + 20, 2);
	store_le64(in + 24, BLOCKS - 1);
	put(DATA, in, 32);
	CHECK_EQ(run(1, (struct sqe){.cdw0 = 9, .nsid = 1, .prp1 = DATA, .cdw11 = 4}), 0);
	CHECK_EQ(run(1, (struct sqe){.cdw0 = 9, .nsid = 1, .prp1 = DATA, .cdw10 = 1, .cdw11 = 4}),
		 0x4080);
	stop();
}

static void test_refusals(void)
{
	start(false);
	CHECK_EQ(run(1, move(2, BLOCKS - 1, 1, DATA, 0)), 0);
	CHECK_EQ(run(1, move(2, BLOCKS, 1, DATA, 0)), 0x4080);
	CHECK_EQ(run(1, move(2, BLOCKS - 1, 2, DATA, 0)), 0x4080);
	CHECK_EQ(run(1, move(2, UINT64_MAX, 1, DATA, 0)), 0x4080);
	/* A list of zeroes names page 0. */
	CHECK_EQ(run(1, move(2, 0, 1024, DATA, LIST)), 0);
	CHECK_EQ(run(1, move(2, 0, 1025, DATA, LIST)), BAD_FIELD);
	CHECK_EQ(run(1, move(2, 0, 1, DATA + 1, 0)), 0x4013);
	CHECK_EQ(run(1, move(2, 0, 16, DATA, DATA + 0x1004)), 0x4013);
	CHECK_EQ(run(1, move(2, 0, 1, 0xffff0000, 0)), 0x4013); /* ROM */
	CHECK_EQ(run(1, move(1, 0, 1, 0xffff0000, 0)), 0);
	CHECK_EQ(run(1, move(2, 0, 1, UINT64_C(1) << 50, 0)), 0x4013);
	CHECK_EQ(run(1, (struct sqe){.cdw0 = 2, .nsid = 2, .prp1 = DATA}), 0x400b);
	CHECK_EQ(run(1, (struct sqe){.cdw0 = 2 | 1 << 8, .nsid = 1, .prp1 = DATA}), BAD_FIELD);
	/* Queues */
	CHECK_EQ(run(0, (struct sqe){.cdw0 = 5, .prp1 = DATA, .cdw10 = 3 << 16 | 1, .cdw11 = 1}),
		 0x4101);
	CHECK_EQ(run(0, (struct sqe){.cdw0 = 5, .prp1 = DATA, .cdw10 = 3 << 16 | 9, .cdw11 = 1}),
		 0x4101);
	CHECK_EQ(run(0, (struct sqe){.cdw0 = 5, .prp1 = DATA, .cdw10 = 2, .cdw11 = 1}), 0x4102);
	CHECK_EQ(run(0, (struct sqe){.cdw0 = 5, .prp1 = DATA, .cdw10 = 256 << 16 | 2, .cdw11 = 1}),
		 0x4102);
	CHECK_EQ(
	    run(0,
		(struct sqe){.cdw0 = 5, .prp1 = DATA, .cdw10 = 3 << 16 | 2, .cdw11 = 9 << 16 | 1}),
	    0x4108);
	CHECK_EQ(
	    run(0,
		(struct sqe){.cdw0 = 1, .prp1 = DATA, .cdw10 = 3 << 16 | 2, .cdw11 = 2 << 16 | 1}),
	    0x4100);
	CHECK_EQ(run(0, (struct sqe){.cdw0 = 4, .cdw10 = 1}), 0x410c);
	CHECK_EQ(run(0, (struct sqe){.cdw0 = 0, .cdw10 = 1}), 0);
	CHECK_EQ(run(0, (struct sqe){.cdw0 = 0, .cdw10 = 1}), 0x4101);
	CHECK_EQ(run(0, (struct sqe){.cdw0 = 4, .cdw10 = 1}), 0);
	stop();
	start(true);
	CHECK_EQ(run(1, move(1, 0, 1, DATA, 0)), 0x4182);
	CHECK_EQ(run(1, move(2, 0, 1, DATA, 0)), 0);
	stop();
}

/* The queue has room for three: the driver that takes none away gets no more. */
static void test_full_completion_queue(void)
{
	struct sqe flush = {.cdw0 = 0, .nsid = 1};

	start(false);
	for (int i = 0; i < 3; i++)
		queue_command(1, &flush);
	ring(1);
	for (int i = 0; i < 20; i++)
		loop_once(loop, 5);
	CHECK(line);
	queue_command(1, &flush); /* the fourth */
	ring(1);
	for (int i = 0; i < 20; i++)
		loop_once(loop, 5);
	for (int i = 0; i < 4; i++)
		CHECK_EQ(answer(1, NULL), 0);
	CHECK(!line);
	stop();
}

static void test_resets(void)
{
	start(false);
	for (int i = 0; i < 3; i++) {
		struct sqe s = move(2, 0, 8, DATA, 0);

		queue_command(1, &s);
	}
	ring(1);
	wr(0x14, 0); /* with requests in flight */
	CHECK_EQ(rd(0x1c), 0);
	enable();
	make_queues();
	CHECK_EQ(run(1, move(2, 0, 8, DATA, 0)), 0);
	/* Shutdown. */
	wr(0x14, 0x464001);
	for (int i = 0; i < 1000 && (rd(0x1c) & 0xc) != 8; i++)
		loop_once(loop, 10);
	CHECK_EQ(rd(0x1c), 9);
	wr(0x14, 0);
	/* Pages of 8 KiB are not to be had; queues outside of memory stop it. */
	wr(0x14, 0x460081);
	CHECK_EQ(rd(0x1c), 2);
	wr(0x14, 0);
	wr(0x2c, 0x1000);
	wr(0x14, 0x460001);
	wr(0x1000, 1);
	CHECK_EQ(rd(0x1c), 3);
	stop();
}

int main(void)
{
	disk_fd = mkstemp(disk_path);
	CHECK(disk_fd >= 0 && ftruncate(disk_fd, BLOCKS * 512) == 0);
	test_identify();
	test_read_and_write();
	test_refusals();
	test_full_completion_queue();
	test_resets();
	unlink(disk_path);
	return 0;
}
