/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/device/test_pflash.c - commands, and what a power cut leaves of a write
 */
#include "device/pflash.h"

#include "fake.h"

#include <fcntl.h>

#define GPA  0xffc00000u
#define SIZE (4 * PFLASH_BLOCK)

static uint8_t flash[SIZE];
static struct bus *bus;
static struct device *dev;

/* Each change as it reaches the file: where, and all of the content then. */
static struct {
	unsigned int n;
	struct {
		uint64_t off, len;
		uint8_t content[SIZE];
	} change[64];
} journal;

static void changed(void *opaque, uint64_t off, uint64_t len)
{
	CHECK(journal.n < ARRAY_SIZE(journal.change));
	journal.change[journal.n].off = off;
	journal.change[journal.n].len = len;
	memcpy(journal.change[journal.n++].content, flash, SIZE);
}

static void start(int fd)
{
	struct pflash_config cfg = {
	    .gpa = GPA, .data = flash, .size = SIZE, .fd = fd, .changed = changed};

	memset(flash, 0xff, SIZE);
	journal.n = 0;
	CHECK_EQ(pflash_new(&cfg, &dev), 0);
	bus = fake_bus(dev);
}

static void stop(void)
{
	device_free(dev);
	bus_free(bus);
}

static uint8_t rd(uint32_t off)
{
	return (uint8_t)bus_read(bus, BUS_MMIO, GPA + off, 1);
}

static void wr(uint32_t off, uint8_t v)
{
	bus_write(bus, BUS_MMIO, GPA + off, 1, v);
}

static void program(uint32_t off, const void *data, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		wr(off + (uint32_t)i, 0x10);
		wr(off + (uint32_t)i, ((const uint8_t *)data)[i]);
	}
	wr(off, 0xff);
}

/* OVMF tells flash from RAM and ROM like this. */
static void test_probe(void)
{
	start(-1);
	CHECK_EQ(rd(0), 0xff);
	wr(0, 0x50);
	CHECK_EQ(rd(0), 0xff);
	wr(0, 0x70);
	CHECK_EQ(rd(0), 0x00);
	wr(0, 0xff);
	CHECK_EQ(rd(0), 0xff);
	wr(0, 0x90);
	CHECK(rd(0) == 0x89 && rd(1) == 0x18);
	wr(0, 0x98);
	CHECK(rd(0x10) == 'Q' && rd(0x11) == 'R' && rd(0x12) == 'Y');
	CHECK(rd(0x27) == 14 && rd(0x2d) == 3 && rd(0x2f) == 16 && rd(0x30) == 0);
	wr(0, 0xff);
	stop();
}

static void test_write(void)
{
	start(-1);
	program(100, "\x0f\xf0", 2);
	CHECK(rd(100) == 0x0f && rd(101) == 0xf0);
	program(100, "\xf1", 1); /* bits are only cleared */
	CHECK_EQ(rd(100), 0x01);
	program(PFLASH_BLOCK, "x", 1);
	wr(5, 0x20);
	wr(5, 0xd0);
	CHECK_EQ(rd(5), 0x80); /* ready */
	wr(5, 0xff);
	CHECK(rd(100) == 0xff && rd(PFLASH_BLOCK) == 'x');
	/* A buffer of three bytes. */
	wr(200, 0xe8);
	wr(200, 2);
	wr(200, 1);
	wr(201, 2);
	wr(202, 3);
	wr(200, 0xd0);
	wr(200, 0xff);
	CHECK(rd(200) == 1 && rd(202) == 3 && rd(203) == 0xff);
	stop();
}

static void test_mistakes(void)
{
	start(-1);
	wr(0, 0x20); /* erase, not confirmed */
	wr(0, 0xff);
	CHECK_EQ(rd(0) & 0x30, 0x30);
	wr(0, 0x50);
	wr(0, 0xe8); /* a buffer that is too large; one that leaves its place */
	wr(0, 0xff);
	CHECK_EQ(rd(0) & 0x30, 0x30);
	wr(0, 0x50);
	wr(0, 0xe8);
	wr(0, 1);
	wr(PFLASH_BLOCK, 1);
	CHECK_EQ(rd(0) & 0x30, 0x30);
	wr(0, 0xff);
	CHECK_EQ(journal.n, 0);
	fake_snapshot(dev);
	stop();
}

/*
 * A variable written as firmware does it: data, then one byte that makes it valid.  At whatever
 * change the power goes, the file has what was written until then, in order, and nothing else.
 */
static void test_order(void)
{
	static const char value[] = "new value";

	start(-1);
	program(64, value, sizeof(value));
	program(0, "\x7f", 1);
	program(0, "\x3f", 1);
	wr(2 * PFLASH_BLOCK, 0x20);
	wr(2 * PFLASH_BLOCK, 0xd0);
	wr(2 * PFLASH_BLOCK, 0xff);
	CHECK_EQ(journal.n, 4);
	CHECK(journal.change[0].off == 64 && journal.change[0].len == sizeof(value));
	for (unsigned int i = 0; i < journal.n; i++) {
		const uint8_t *c = journal.change[i].content;

		CHECK(c[0] == 0xff || memcmp(c + 64, value, sizeof(value)) == 0);
		CHECK_EQ(c[0], i == 0 ? 0xff : i == 1 ? 0x7f : 0x3f);
	}
	/* Places that do not touch are separate changes, in their order. */
	journal.n = 0;
	wr(300, 0x10);
	wr(300, 1);
	wr(10, 0x10);
	wr(10, 2);
	CHECK(journal.n == 1 && journal.change[0].off == 300 &&
	      journal.change[0].content[300] == 1);
	device_reset(dev);
	CHECK(journal.n == 2 && journal.change[1].off == 10);
	stop();
}

static void test_file(void)
{
	char path[] = "/tmp/insula-pflash-XXXXXX";
	uint8_t got[SIZE];
	int fd = mkstemp(path);

	CHECK(fd >= 0 && unlink(path) == 0);
	start(fd);
	CHECK(pwrite(fd, flash, SIZE, 0) == SIZE);
	program(4095, "ab", 2);
	CHECK(pread(fd, got, SIZE, 0) == SIZE);
	CHECK(memcmp(got, flash, SIZE) == 0 && got[4096] == 'b');
	stop();
	close(fd);
}

int main(void)
{
	test_probe();
	test_write();
	test_mistakes();
	test_order();
	test_file();
	return 0;
}
