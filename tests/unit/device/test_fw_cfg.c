/* SPDX-License-Identifier: Apache-2.0 */
#include "device/fw_cfg.h"

#include "fake.h"

#include <endian.h>
#include <errno.h>

#define MIB (UINT64_C(1) << 20)

static struct gmem *mem;
static struct fw_cfg *f;
static struct bus *b;
static unsigned int n_selects;

static void on_select(void *opaque)
{
	n_selects++;
	CHECK_EQ(fw_cfg_add_file(f, "etc/late", "fresh", 5), 0);
}

static void select_key(uint16_t key)
{
	bus_write(b, BUS_PIO, 0x510, 2, key);
}

static uint32_t dma(uint32_t control, uint32_t len, uint64_t gpa)
{
	struct {
		uint32_t control, len;
		uint64_t gpa;
	} req = {htobe32(control), htobe32(len), htobe64(gpa)};
	uint32_t done;

	CHECK_EQ(gmem_write(mem, 0x1000, &req, sizeof(req)), 0);
	bus_write(b, BUS_PIO, 0x514, 4, 0);
	bus_write(b, BUS_PIO, 0x518, 4, htobe32(0x1000));
	CHECK_EQ(gmem_read(mem, 0x1000, &done, sizeof(done)), 0);
	return be32toh(done);
}

static void test_ports(void)
{
	select_key(0);
	CHECK_EQ(in8(b, 0x511), 'Q');
	CHECK_EQ(in8(b, 0x511), 'E');
	select_key(0);
	CHECK_EQ(in8(b, 0x511), 'Q');
	select_key(1);
	CHECK_EQ(in8(b, 0x511), 3);
	for (unsigned int i = 0; i < 10; i++)
		in8(b, 0x511);
	CHECK_EQ(in8(b, 0x511), 0); /* past the end */
	select_key(0xffff);
	CHECK_EQ(in8(b, 0x511), 0);
	CHECK_EQ(bus_read(b, BUS_PIO, 0x514, 4), 0x554d4551);
	CHECK_EQ(bus_read(b, BUS_PIO, 0x518, 4), 0x47464320);
}

static void test_files(void)
{
	uint8_t dir[4 + 3 * 64];
	uint32_t n;
	char name[FW_CFG_NAME_SIZE + 1];

	CHECK_EQ(fw_cfg_add_file(f, "etc/e820", "0123456789", 10), 0);
	CHECK_EQ(fw_cfg_add_file(f, "bootorder", "", 0), 0);
	CHECK_EQ(fw_cfg_add_file(f, "etc/late", "stale", 5), 0);
	CHECK_EQ(fw_cfg_add(f, 0x20, "x", 1), (uint64_t)-EINVAL);
	memset(name, 'n', sizeof(name));
	name[FW_CFG_NAME_SIZE] = '\0';
	CHECK_EQ(fw_cfg_add_file(f, name, "x", 1), (uint64_t)-ENAMETOOLONG);
	select_key(FW_CFG_FILE_DIR);
	CHECK_EQ(n_selects, 1);
	for (size_t i = 0; i < sizeof(dir); i++)
		dir[i] = in8(b, 0x511);
	memcpy(&n, dir, 4);
	CHECK_EQ(be32toh(n), 3);
	memcpy(&n, dir + 4, 4);
	CHECK_EQ(be32toh(n), 10);
	CHECK_EQ(dir[8] << 8 | dir[9], 0x20);
	CHECK_STR((char *)dir + 12, "etc/e820");
	select_key(0x22);
	CHECK_EQ(n_selects, 1);
	CHECK_EQ(in8(b, 0x511), 'f');
	device_reset(fw_cfg_device(f));
	select_key(0x20);
	CHECK_EQ(n_selects, 2);
	/* All slots, and one more. */
	for (unsigned int i = 3; i < FW_CFG_FILE_SLOTS; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		CHECK_EQ(fw_cfg_add_file(f, name, "x", 1), 0);
	}
	CHECK_EQ(fw_cfg_add_file(f, "one-more", "x", 1), (uint64_t)-ENOSPC);
	CHECK_EQ(fw_cfg_add_file(f, "f3", "yy", 2), 0);
}

static void test_dma(void)
{
	char buf[16];

	CHECK_EQ(dma(0x20 << 16 | 8 | 2, 4, 0x2000), 0);
	CHECK_EQ(dma(4, 2, 0), 0);
	CHECK_EQ(dma(2, 8, 0x2004), 0); /* 4 bytes are left */
	CHECK_EQ(gmem_read(mem, 0x2000, buf, 12), 0);
	CHECK(memcmp(buf, "01236789\0\0\0\0", 12) == 0);
	fake_snapshot(fw_cfg_device(f));
	CHECK_EQ(dma(0x20 << 16 | 8 | 0x10, 4, 0x2000), 1); /* read-only */
	CHECK_EQ(dma(0x20 << 16 | 8 | 2, 4, MIB - 3), 1);
	CHECK_EQ(dma(0x20 << 16 | 8 | 2, 4, UINT64_MAX - 1), 1);
	CHECK_EQ(dma(0x20 << 16 | 8 | 2, UINT32_MAX, 0x2000), 1);
	CHECK_EQ(dma(4, UINT32_MAX, 0), 0);
	CHECK_EQ(dma(4, UINT32_MAX, 0), 0);
	CHECK_EQ(dma(2, 4, 0x2000), 0);
	/* A request that is nowhere. */
	bus_write(b, BUS_PIO, 0x514, 4, UINT32_MAX);
	bus_write(b, BUS_PIO, 0x518, 4, UINT32_MAX);
	bus_write(b, BUS_PIO, 0x518, 2, 0);
}

int main(void)
{
	struct err e = {0};

	CHECK_EQ(gmem_new(MIB, 1024 * MIB, &mem, &e), 0);
	CHECK_EQ(fw_cfg_new(mem, &f), 0);
	fw_cfg_on_select(f, on_select, NULL);
	b = fake_bus(fw_cfg_device(f));
	test_ports();
	test_files();
	test_dma();
	device_free(fw_cfg_device(f));
	bus_free(b);
	gmem_free(mem);
	return 0;
}
