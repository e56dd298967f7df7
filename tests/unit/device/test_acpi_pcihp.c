/* SPDX-License-Identifier: Apache-2.0 */
#include "device/acpi_pcihp.h"

#include "fake.h"

static struct bus *b;
static struct acpi_pcihp *h;
static uint32_t gone;

static void on_ejected(void *opaque, uint32_t slots)
{
	gone |= slots;
}

static uint32_t get(unsigned int off)
{
	return (uint32_t)bus_read(b, BUS_PIO, ACPI_PCIHP_PORT + off, 4);
}

static void eject(uint32_t slots)
{
	bus_write(b, BUS_PIO, ACPI_PCIHP_PORT + ACPI_PCIHP_EJ, 4, slots);
}

/* What came is told once; a snapshot between keeps it. */
static void test_came(void)
{
	acpi_pcihp_came(h, 5);
	acpi_pcihp_came(h, 30);
	fake_snapshot(&h->dev);
	CHECK_EQ(get(ACPI_PCIHP_UP), 1u << 5 | 1u << 30);
	CHECK_EQ(get(ACPI_PCIHP_UP), 0);
}

/* Only what was asked for goes, and only once. */
static void test_ejected(void)
{
	eject(~0u);
	CHECK_EQ(gone, 0);
	acpi_pcihp_ask(h, 3, true);
	acpi_pcihp_ask(h, 4, true);
	acpi_pcihp_ask(h, 4, false);
	CHECK_EQ(get(ACPI_PCIHP_DOWN), 1u << 3);
	eject(1u << 4 | 1u << 5);
	CHECK_EQ(gone, 0);
	eject(1u << 3 | 1u << 4);
	CHECK_EQ(gone, 1u << 3);
	CHECK_EQ(get(ACPI_PCIHP_DOWN), 0);
	gone = 0;
	eject(1u << 3);
	CHECK_EQ(gone, 0);
}

static void test_reset(void)
{
	acpi_pcihp_came(h, 1);
	acpi_pcihp_ask(h, 2, true);
	device_reset(&h->dev);
	CHECK_EQ(get(ACPI_PCIHP_UP), 0);
	CHECK_EQ(get(ACPI_PCIHP_DOWN), 0);
}

int main(void)
{
	struct acpi_pcihp_config cfg = {.ejected = on_ejected};

	CHECK_EQ(bus_new(&b), 0);
	CHECK_EQ(acpi_pcihp_new(&cfg, &h), 0);
	device_attach(&h->dev, b);
	test_came();
	test_ejected();
	test_reset();
	device_free(&h->dev);
	bus_free(b);
	return 0;
}
