/* SPDX-License-Identifier: Apache-2.0 */
#include "device/isa_ports.h"
#include "device/pc_testdev.h"

#include "fake.h"

static struct fake_lines lines;
static struct fake_requests req;
static char text[8];
static size_t text_len;

static size_t text_write(void *backend, const void *buf, size_t len)
{
	size_t n = MIN(len, sizeof(text) - text_len);

	memcpy(text + text_len, buf, n);
	text_len += n;
	return n;
}

static void test_testdev(struct bus *b)
{
	bus_write(b, BUS_PIO, 0xe0, 4, 0x12345678);
	CHECK_EQ(bus_read(b, BUS_PIO, 0xe0, 4), 0x12345678);
	CHECK_EQ(bus_read(b, BUS_PIO, 0xe1, 1), 0x56);
	bus_write(b, BUS_PIO, 0xe4, 4, 0x1000);
	bus_write(b, BUS_PIO, 0xe8, 2, 0xaabb);
	CHECK_EQ(in8(b, 0xe9), 0xaa);
	out8(b, 0x2000 + 23, 1);
	CHECK(lines.level[23]);
	CHECK_EQ(in8(b, 0x2000 + 23), 1);
	out8(b, 0x2000 + 24, 1); /* past the last */
	CHECK_EQ(in8(b, 0x2000 + 24), 0xff);
	bus_write(b, BUS_MMIO, 0xff00fff8, 8, 0x0123456789abcdef);
	CHECK_EQ(bus_read(b, BUS_MMIO, 0xff00fff9, 2), 0xabcd);
	CHECK_EQ(bus_read(b, BUS_MMIO, 0xff00ffff, 2), 0xff01);
}

int main(void)
{
	struct chardev chr = {.ops = &(const struct chardev_ops){.write = text_write}};
	struct device *d[6];
	struct bus *b;

	CHECK_EQ(bus_new(&b), 0);
	CHECK_EQ(port92_new(fake_sink(&req), &d[0]), 0);
	CHECK_EQ(port80_new(&d[1]), 0);
	CHECK_EQ(debugcon_new(0x402, &chr, &d[2]), 0);
	CHECK_EQ(debug_exit_new(0xf4, fake_sink(&req), &d[3]), 0);
	CHECK_EQ(pvpanic_new(fake_sink(&req), &d[4]), 0);
	CHECK_EQ(pc_testdev_new(&(struct pc_testdev_config){fake_line(&lines, 0)}, &d[5]), 0);
	for (size_t i = 0; i < ARRAY_SIZE(d); i++)
		device_attach(d[i], b);

	CHECK_EQ(in8(b, 0x92), 2);
	out8(b, 0x92, 0);
	CHECK_EQ(in8(b, 0x92), 0);
	CHECK_EQ(req.n, 0);
	out8(b, 0x92, 3);
	CHECK_EQ(req.n, 1);
	CHECK_EQ(req.what, REQUEST_RESET);
	out8(b, 0x92, 3); /* only the rise */
	CHECK_EQ(req.n, 1);
	fake_snapshot(d[0]);
	CHECK_EQ(in8(b, 0x92), 3);
	out8(b, 0x80, 0x42);
	CHECK_EQ(in8(b, 0x80), 0x42);
	out8(b, 0xed, 1);
	CHECK_EQ(in8(b, 0x402), 0xe9);
	for (unsigned int i = 0; i < 20; i++)
		out8(b, 0x402, 'x');
	CHECK_EQ(text_len, sizeof(text));
	CHECK_EQ(in8(b, 0x505), 3);
	out8(b, 0x505, 4); /* not an event */
	CHECK_EQ(req.n, 1);
	out8(b, 0x505, 1);
	CHECK_EQ(req.what, REQUEST_CRASHED);
	CHECK_EQ(req.arg, 1);
	bus_write(b, BUS_PIO, 0xf4, 4, 3);
	CHECK_EQ(req.what, REQUEST_EXIT);
	CHECK_EQ(req.arg, 7);
	test_testdev(b);
	device_reset(d[5]);
	CHECK(!lines.level[23]);
	for (size_t i = 0; i < ARRAY_SIZE(d); i++)
		device_free(d[i]);
	bus_free(b);
	return 0;
}
