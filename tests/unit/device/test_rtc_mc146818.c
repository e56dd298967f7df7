/* SPDX-License-Identifier: Apache-2.0 */
#include "device/rtc_mc146818.h"

#include "fake.h"

static struct fake_clock clk;
static struct fake_lines lines;
static struct rtc *r;
static struct bus *b;

/* 2024-02-29 23:59:58 UTC, moving with the fake clock. */
static uint64_t wall(void *opaque)
{
	return UINT64_C(1709251198) * NSEC_PER_SEC + clk.now - NSEC_PER_SEC;
}

static uint8_t get(uint8_t index)
{
	out8(b, 0x70, index);
	return in8(b, 0x71);
}

static void set(uint8_t index, uint8_t v)
{
	out8(b, 0x70, index);
	out8(b, 0x71, v);
}

static void test_time(void)
{
	CHECK_EQ(get(0), 0x58);
	CHECK_EQ(get(2), 0x59);
	CHECK_EQ(get(4), 0x23);
	CHECK_EQ(get(6), 5); /* Thursday */
	CHECK_EQ(get(7), 0x29);
	CHECK_EQ(get(8), 0x02);
	CHECK_EQ(get(9), 0x24);
	CHECK_EQ(get(0x32), 0x20);
	CHECK_EQ(get(0x0d), 0x80);
	set(0x0b, 0x06); /* binary */
	CHECK_EQ(get(4), 23);
	set(0x0b, 0x04); /* 12 hours */
	CHECK_EQ(get(4), 0x80 | 11);
	set(0x0b, 0x02);
	fake_clock_run(&clk, 2 * NSEC_PER_SEC);
	CHECK_EQ(get(7), 0x01);
	CHECK_EQ(get(8), 0x03);
	CHECK_EQ(get(4), 0);
	/* Update in progress just before the second changes. */
	CHECK_EQ(get(0x0a), 0x26);
	fake_clock_run(&clk, NSEC_PER_SEC - 100000);
	CHECK_EQ(get(0x0a), 0xa6);
	fake_clock_run(&clk, 100000);
}

static void test_set(void)
{
	set(0x0b, 0x82); /* stop */
	set(0, 0x30);
	set(2, 0x45);
	set(4, 0x12);
	set(7, 0x31);
	set(8, 0x12);
	set(9, 0x99);
	set(0x32, 0x19);
	fake_clock_run(&clk, 5 * NSEC_PER_SEC);
	CHECK_EQ(get(0), 0x30);
	set(0x0b, 0x02);
	fake_clock_run(&clk, 2 * NSEC_PER_SEC);
	CHECK_EQ(get(0), 0x32);
	CHECK_EQ(get(9), 0x99);
	CHECK_EQ(get(0x32), 0x19);
	fake_snapshot(&r->dev);
	CHECK_EQ(get(2), 0x45);
	/* Nonsense is a time, too. */
	for (unsigned int v = 0; v < 256; v += 17) {
		for (uint8_t i = 0; i < 10; i++) {
			set(i, (uint8_t)v);
			get(i);
		}
		set(0x32, (uint8_t)v);
		set(0x0b, (uint8_t)v);
		set(0x0a, (uint8_t)v);
		CHECK(fake_clock_run(&clk, NSEC_PER_SEC) < 9000);
	}
	set(0x0a, 0x26);
	set(0x0b, 0x02);
	get(0x0c);
}

static void test_interrupts(void)
{
	set(0x0b, 0x42); /* periodic, 1024 Hz */
	lines.rises[8] = 0;
	for (unsigned int i = 0; i < 1024; i++) {
		fake_clock_run(&clk, NSEC_PER_SEC / 1024);
		get(0x0c);
	}
	CHECK(lines.rises[8] >= 1022 && lines.rises[8] <= 1025);
	/* Without an acknowledge the line stays up. */
	lines.rises[8] = 0;
	fake_clock_run(&clk, NSEC_PER_SEC);
	CHECK_EQ(lines.rises[8], 1);
	CHECK_EQ(get(0x0c), 0xc0);
	CHECK(!lines.level[8]);
	set(0x0b, 0x12); /* update-ended */
	fake_clock_run(&clk, NSEC_PER_SEC);
	CHECK(lines.level[8]);
	CHECK_EQ(get(0x0c) & 0xd0, 0x90);
	/* Alarm each minute at second 5. */
	set(0x0b, 0x82);
	set(0, 0);
	set(1, 5);
	set(3, 0xff);
	set(5, 0xff);
	set(0x0b, 0x22);
	get(0x0c);
	fake_clock_run(&clk, 4900 * NSEC_PER_MSEC);
	CHECK(!lines.level[8]);
	fake_clock_run(&clk, 200 * NSEC_PER_MSEC);
	CHECK(lines.level[8]);
	CHECK_EQ(get(0x0c) & 0xa0, 0xa0);
	rtc_disconnect(r, true);
	fake_clock_run(&clk, 60 * NSEC_PER_SEC);
	CHECK(!lines.level[8]);
	rtc_disconnect(r, false);
	CHECK(lines.level[8]);
}

int main(void)
{
	fake_clock_init(&clk);
	CHECK_EQ(
	    rtc_new(
		&(struct rtc_config){.irq = fake_line(&lines, 8), .timers = &clk.q, .wall = wall},
		&r),
	    0);
	b = fake_bus(&r->dev);
	test_time();
	test_set();
	test_interrupts();
	rtc_set_cmos(r, 0x34, 0x12);
	CHECK_EQ(get(0x34), 0x12);
	rtc_set_cmos(r, 128, 1);
	CHECK(!rtc_nmi_disabled(r));
	CHECK_EQ(get(0x80 | 0x34), 0x12);
	CHECK(rtc_nmi_disabled(r));
	CHECK_EQ(in8(b, 0x70), 0xff);
	device_free(&r->dev);
	bus_free(b);
	return 0;
}
