/* SPDX-License-Identifier: Apache-2.0 */
#include "device/acpi_pm.h"

#include "fake.h"

static struct fake_clock clk;
static struct fake_lines lines;
static struct fake_requests req;
static struct acpi_pm *pm;
static struct bus *b;
static uint16_t base = 0x600;

static uint32_t get(uint16_t off, unsigned int size)
{
	return (uint32_t)bus_read(b, BUS_PIO, base + off, size);
}

static void set(uint16_t off, unsigned int size, uint32_t v)
{
	bus_write(b, BUS_PIO, base + off, size, v);
}

static void test_timer(void)
{
	uint32_t t0 = get(8, 4);

	fake_clock_run(&clk, NSEC_PER_SEC);
	CHECK_EQ(get(8, 4) - t0, ACPI_PM_HZ);
	set(8, 4, 0); /* read-only */
	CHECK_EQ(get(8, 4) - t0, ACPI_PM_HZ);
	/* The top bit changes each 600 seconds. */
	set(4, 2, 1);
	set(2, 2, 1);
	fake_clock_run(&clk, 590 * NSEC_PER_SEC);
	CHECK(!lines.level[9]);
	fake_clock_run(&clk, 10 * NSEC_PER_SEC);
	CHECK(lines.level[9]);
	CHECK_EQ(get(0, 2), 1);
	set(0, 2, 1);
	CHECK(!lines.level[9]);
	set(2, 2, 0);
}

static void test_button(void)
{
	set(4, 2, 0);
	set(2, 2, 0x100);
	acpi_pm_power_button(pm);
	CHECK(!lines.level[9]); /* not in ACPI mode */
	CHECK(!acpi_pm_enabled(pm));
	out8(b, 0xb2, ACPI_PM_ENABLE_CMD);
	CHECK(acpi_pm_enabled(pm));
	CHECK_EQ(get(4, 2), 1);
	CHECK(lines.level[9]);
	fake_snapshot(&pm->dev);
	CHECK(lines.level[9]);
	set(0, 2, 0x100);
	CHECK(!lines.level[9]);
	acpi_pm_gpe(pm, 63);
	CHECK(!lines.level[9]);
	set(0x28 + 7, 1, 0x80);
	CHECK(lines.level[9]);
	CHECK_EQ(get(0x27, 1), 0x80);
	set(0x27, 1, 0x80);
	CHECK(!lines.level[9]);
	acpi_pm_gpe(pm, 64);
	acpi_pm_gpe(pm, UINT32_MAX);
	CHECK_EQ(get(0x24, 4), 0);
	out8(b, 0xb2, ACPI_PM_DISABLE_CMD);
	CHECK(!acpi_pm_enabled(pm));
}

static void test_sleep(void)
{
	/* A type without the enable bit does nothing; S3 wakes at once; S5 ends. */
	set(4, 2, 5 << 10 | 1);
	CHECK_EQ(req.n, 0);
	set(4, 2, 1 << 10 | 0x2001);
	CHECK_EQ(req.n, 0);
	CHECK_EQ(get(0, 2), 0x8000);
	set(0, 2, 0x8000);
	CHECK_EQ(get(4, 2) & 0x2000, 0);
	set(4, 2, 5 << 10 | 0x2001);
	CHECK_EQ(req.n, 1);
	CHECK_EQ(req.what, REQUEST_POWEROFF);
	set(5, 1, 0x34); /* by bytes, as some do */
	CHECK_EQ(req.n, 2);
	out8(b, ACPI_RESET_PORT, 2);
	CHECK_EQ(req.n, 2);
	out8(b, ACPI_RESET_PORT, ACPI_RESET_VALUE);
	CHECK_EQ(req.n, 3);
	CHECK_EQ(req.what, REQUEST_RESET);
	CHECK_EQ(in8(b, ACPI_RESET_PORT), 6);
}

static void test_move(void)
{
	acpi_pm_move(pm, 0xb000);
	CHECK_EQ(get(4, 2), 0xffff);
	base = 0xb000;
	set(2, 2, 0x100);
	CHECK_EQ(get(0, 4), 0x01000000);
	acpi_pm_move(pm, 0);
	CHECK_EQ(get(0, 4), 0xffffffff);
	acpi_pm_move(pm, 0x600);
	base = 0x600;
	for (uint16_t off = 0; off < ACPI_PM_SIZE; off++) {
		set(off, 1, 0xdf);
		set(off, 4, 0xffffdfff);
		get(off, 4);
	}
	fake_clock_run(&clk, 2000 * NSEC_PER_SEC);
}

int main(void)
{
	fake_clock_init(&clk);
	CHECK_EQ(acpi_pm_new(&(struct acpi_pm_config){.base = 0x600,
						      .sci = fake_line(&lines, 9),
						      .timers = &clk.q,
						      .requests = fake_sink(&req)},
			     &pm),
		 0);
	b = fake_bus(&pm->dev);
	test_timer();
	test_button();
	test_sleep();
	test_move();
	device_free(&pm->dev);
	bus_free(b);
	return 0;
}
