/* SPDX-License-Identifier: Apache-2.0 */
#include "device/pit_i8254.h"

#include "fake.h"

static struct fake_clock clk;
static struct fake_lines lines;
static struct pit *p;
static struct bus *b;

static void load(unsigned int n, uint8_t mode, uint16_t count)
{
	out8(b, 0x43, (uint8_t)(n << 6 | 0x30 | mode << 1));
	out8(b, (uint16_t)(0x40 + n), (uint8_t)count);
	out8(b, (uint16_t)(0x40 + n), (uint8_t)(count >> 8));
}

static uint16_t latched(unsigned int n)
{
	uint16_t v;

	out8(b, 0x43, (uint8_t)(n << 6));
	v = in8(b, (uint16_t)(0x40 + n));
	return (uint16_t)(v | in8(b, (uint16_t)(0x40 + n)) << 8);
}

/* Long enough for @n ticks, not for one more. */
static void ticks(uint64_t n)
{
	fake_clock_run(&clk, muldiv64(n, NSEC_PER_SEC, PIT_HZ) + 10);
}

static void test_rate(void)
{
	load(0, 2, 1193); /* 1000 Hz */
	lines.rises[0] = 0;
	fake_clock_run(&clk, NSEC_PER_SEC);
	CHECK(lines.rises[0] >= 999 && lines.rises[0] <= 1001);
	load(0, 3, 11932);
	lines.rises[0] = 0;
	fake_clock_run(&clk, NSEC_PER_SEC);
	CHECK(lines.rises[0] >= 99 && lines.rises[0] <= 101);
	/* A hundred ticks late: one interrupt, not a hundred. */
	lines.rises[0] = 0;
	clk.now += NSEC_PER_SEC;
	timerq_run(&clk.q);
	CHECK_EQ(lines.rises[0], 1);
	/* The fastest a guest can ask for. */
	load(0, 2, 1);
	CHECK(fake_clock_run(&clk, NSEC_PER_SEC) <= NSEC_PER_SEC / PIT_MIN_PERIOD_NS + 1);
	/* 0 means 65536. */
	load(0, 2, 0);
	lines.rises[0] = 0;
	fake_clock_run(&clk, NSEC_PER_SEC);
	CHECK(lines.rises[0] >= 17 && lines.rises[0] <= 19);
	pit_disconnect(p, true);
	lines.rises[0] = 0;
	fake_clock_run(&clk, NSEC_PER_SEC);
	CHECK_EQ(lines.rises[0], 0);
	pit_disconnect(p, false);
}

static void test_one_shot(void)
{
	load(0, 0, 100);
	CHECK(!lines.level[0]);
	CHECK_EQ(latched(0), 100);
	ticks(40);
	CHECK_EQ(latched(0), 60);
	CHECK(!lines.level[0]);
	fake_snapshot(&p->dev);
	CHECK_EQ(latched(0), 60);
	ticks(61);
	CHECK(lines.level[0]);
	/* The count runs on below zero. */
	CHECK(latched(0) > 65000);
	/* Mode 4: one low tick at the end. */
	load(0, 4, 100);
	lines.rises[0] = 0;
	lines.level[0] = true;
	ticks(102);
	CHECK_EQ(lines.rises[0], 1);
}

static void test_reading(void)
{
	load(0, 2, 0x1234);
	out8(b, 0x43, 0xe2); /* read back: status of counter 0 */
	CHECK_EQ(in8(b, 0x40), 0xb4);
	/* A latch holds until both bytes are read. */
	out8(b, 0x43, 0);
	ticks(10);
	out8(b, 0x43, 0);
	CHECK_EQ(in8(b, 0x40), 0x34);
	CHECK_EQ(in8(b, 0x40), 0x12);
	CHECK_EQ(latched(0), 0x1234 - 10);
	/* Status and count together: status first. */
	out8(b, 0x43, 0xc2);
	CHECK_EQ(in8(b, 0x40), 0xb4);
	CHECK_EQ(in8(b, 0x40), (0x1234 - 10) & 0xff);
	CHECK_EQ(in8(b, 0x40), 0x12);
	/* BCD. */
	out8(b, 0x43, 0x31);
	out8(b, 0x40, 0x00);
	out8(b, 0x40, 0x10);
	CHECK_EQ(latched(0), 0x1000);
	ticks(1);
	CHECK_EQ(latched(0), 0x0999);
	/* Not BCD digits, every mode, every access: nothing divides by zero. */
	for (unsigned int control = 0; control < 256; control++) {
		for (unsigned int v = 0; v < 256; v += 51) {
			out8(b, 0x43, (uint8_t)control);
			for (uint16_t port = 0x40; port < 0x43; port++) {
				out8(b, port, (uint8_t)v);
				out8(b, port, (uint8_t)v);
				in8(b, port);
				in8(b, port);
			}
			fake_clock_run(&clk, 60000);
		}
	}
	device_reset(&p->dev);
}

static void test_port61(void)
{
	/* The way a TSC is calibrated: counter 2 in mode 0, gate on, wait for its output. */
	out8(b, 0x61, 0x01);
	load(2, 0, 11932); /* 10 ms */
	CHECK_EQ(in8(b, 0x61) & 0x21, 0x01);
	fake_clock_run(&clk, 9 * NSEC_PER_MSEC);
	CHECK_EQ(in8(b, 0x61) & 0x20, 0);
	/* The gate suspends it. */
	out8(b, 0x61, 0x00);
	fake_clock_run(&clk, 9 * NSEC_PER_MSEC);
	out8(b, 0x61, 0x03);
	CHECK_EQ(in8(b, 0x61) & 0x23, 0x03);
	fake_clock_run(&clk, NSEC_PER_MSEC + 5000);
	CHECK_EQ(in8(b, 0x61) & 0x20, 0x20);
	/* Mode 1 starts when the gate rises. */
	out8(b, 0x61, 0);
	load(2, 1, 1193);
	CHECK_EQ(in8(b, 0x61) & 0x20, 0x20);
	out8(b, 0x61, 1);
	CHECK_EQ(in8(b, 0x61) & 0x20, 0);
	fake_clock_run(&clk, NSEC_PER_MSEC + 5000);
	CHECK_EQ(in8(b, 0x61) & 0x20, 0x20);
}

int main(void)
{
	fake_clock_init(&clk);
	CHECK_EQ(pit_new(&(struct pit_config){fake_line(&lines, 0), &clk.q}, &p), 0);
	b = fake_bus(&p->dev);
	test_rate();
	test_one_shot();
	test_reading();
	test_port61();
	device_free(&p->dev);
	bus_free(b);
	return 0;
}
