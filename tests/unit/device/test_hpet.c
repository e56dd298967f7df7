/* SPDX-License-Identifier: Apache-2.0 */
#include "device/hpet.h"

#include "fake.h"

static struct fake_clock clk;
static struct fake_lines lines;
static struct hpet *h;
static struct bus *b;
static unsigned int n_msi;
static bool legacy;

static void on_msi(void *opaque, uint64_t addr, uint32_t data)
{
	CHECK_EQ(addr, 0xfee00000);
	CHECK_EQ(data, 0x55);
	n_msi++;
}

static void on_legacy(void *opaque, bool on)
{
	legacy = on;
}

static uint64_t get(uint64_t off)
{
	return bus_read(b, BUS_MMIO, HPET_BASE + off, 8);
}

static void set(uint64_t off, uint64_t v)
{
	bus_write(b, BUS_MMIO, HPET_BASE + off, 8, v);
}

static void test_counter(void)
{
	CHECK_EQ(get(0), UINT64_C(10000000) << 32 | HPET_BLOCK_ID);
	CHECK_EQ(get(0xf0), 0);
	set(0xf0, 500);
	fake_clock_run(&clk, 1000);
	CHECK_EQ(get(0xf0), 500);
	set(0x10, 1);
	fake_clock_run(&clk, 1000);
	CHECK_EQ(get(0xf0), 600);
	/* Halves. */
	CHECK_EQ(bus_read(b, BUS_MMIO, HPET_BASE + 0xf4, 4), 0);
	CHECK_EQ(bus_read(b, BUS_MMIO, HPET_BASE + 0x04, 4), 10000000);
	bus_write(b, BUS_MMIO, HPET_BASE + 0xf4, 4, 1);
	CHECK_EQ(get(0xf0), UINT64_C(0x100000000) + 600);
	fake_snapshot(&h->dev);
	CHECK_EQ(get(0xf0), UINT64_C(0x100000000) + 600);
	set(0x10, 0);
	set(0xf0, 0);
}

static void test_one_shot(void)
{
	set(0x10, 1);
	set(0x100, 20 << 9 | 4); /* edge, pin 20 */
	set(0x108, get(0xf0) + 100000);
	fake_clock_run(&clk, 999990);
	CHECK_EQ(lines.rises[20], 0);
	fake_clock_run(&clk, 20);
	CHECK_EQ(lines.rises[20], 1);
	fake_clock_run(&clk, 10 * NSEC_PER_SEC);
	CHECK_EQ(lines.rises[20], 1);
	/* Level: until the status is written. */
	set(0x100, 21 << 9 | 6);
	set(0x108, get(0xf0) + 100000);
	fake_clock_run(&clk, NSEC_PER_MSEC + 20);
	CHECK(lines.level[21]);
	CHECK_EQ(get(0x20), 1);
	set(0x20, 1);
	CHECK(!lines.level[21]);
	CHECK_EQ(get(0x20), 0);
	/* A pin that is not wired, a message. */
	set(0x100, 5 << 9 | 4);
	set(0x108, get(0xf0) + 100000);
	fake_clock_run(&clk, NSEC_PER_MSEC + 20);
	CHECK_EQ(lines.rises[5], 0);
	set(0x110, UINT64_C(0xfee00000) << 32 | 0x55);
	set(0x100, 1 << 14 | 4);
	set(0x108, get(0xf0) + 100000);
	fake_clock_run(&clk, NSEC_PER_MSEC + 20);
	CHECK_EQ(n_msi, 1);
	set(0x100, 0);
	set(0x10, 0);
}

static void test_periodic(void)
{
	set(0xf0, 0);
	set(0x120, 22 << 9 | 0x4c); /* periodic, set value */
	set(0x128, 100000);
	set(0x128, 100000);
	set(0x10, 1);
	lines.rises[22] = 0;
	fake_clock_run(&clk, NSEC_PER_SEC + 100);
	CHECK(lines.rises[22] >= 999 && lines.rises[22] <= 1001);
	/* Late: one for all. */
	lines.rises[22] = 0;
	clk.now += 100 * NSEC_PER_MSEC;
	timerq_run(&clk.q);
	CHECK_EQ(lines.rises[22], 1);
	/* As fast as can be asked for; and with no period at all. */
	set(0x128, 1);
	CHECK(fake_clock_run(&clk, NSEC_PER_SEC) <= NSEC_PER_SEC / HPET_MIN_PERIOD_NS + 2);
	set(0x128, 0);
	CHECK(fake_clock_run(&clk, NSEC_PER_SEC) <= NSEC_PER_SEC / HPET_MIN_PERIOD_NS + 2);
	/* 32 bits: a match each 43 seconds. */
	set(0x120, 22 << 9 | 0x104);
	set(0x128, UINT64_MAX);
	CHECK_EQ(get(0x128), 0xffffffff);
	lines.rises[22] = 0;
	fake_clock_run(&clk, 86 * NSEC_PER_SEC);
	CHECK_EQ(lines.rises[22], 2);
	set(0x120, 0);
	set(0x10, 0);
}

static void test_legacy(void)
{
	set(0x10, 3);
	CHECK(legacy);
	set(0x100, 4);
	set(0x108, get(0xf0) + 1000);
	set(0x120, 4);
	set(0x128, get(0xf0) + 1000);
	fake_clock_run(&clk, NSEC_PER_MSEC);
	CHECK_EQ(lines.rises[2], 1);
	CHECK_EQ(lines.rises[8], 1);
	set(0x10, 0);
	CHECK(!legacy);
	/* Anything anywhere. */
	for (uint64_t off = 0; off < 0x400; off += 4) {
		bus_write(b, BUS_MMIO, HPET_BASE + off, 4, UINT32_MAX);
		bus_read(b, BUS_MMIO, HPET_BASE + off, 4);
		bus_write(b, BUS_MMIO, HPET_BASE + off, 4, 0);
	}
	fake_clock_run(&clk, NSEC_PER_SEC);
	device_reset(&h->dev);
	CHECK(!legacy);
}

int main(void)
{
	fake_clock_init(&clk);
	CHECK_EQ(hpet_new(&(struct hpet_config){.timers = &clk.q,
						.gsi = fake_line(&lines, 0),
						.legacy_irq0 = fake_line(&lines, 2),
						.legacy_irq8 = fake_line(&lines, 8),
						.msi = {on_msi, NULL},
						.legacy = on_legacy},
			  &h),
		 0);
	b = fake_bus(&h->dev);
	test_counter();
	test_one_shot();
	test_periodic();
	test_legacy();
	device_free(&h->dev);
	bus_free(b);
	return 0;
}
