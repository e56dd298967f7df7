/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/acpi_pm.c - ACPI fixed hardware (ACPI 6.4, 4.8; Intel 316972, 13.8.3)
 */
#include "device/acpi_pm.h"

#include "base/clock.h"

#include <errno.h>

#define PM1_STATUS  0x00
#define PM1_ENABLE  0x02
#define PM1_CONTROL 0x04
#define PM_TIMER    0x08
#define GPE0        0x20
#define SMI_ENABLE  0x30

/* Set from the start: firmware takes SMM, which there is not, as set up already. */
#define SMI_APMC_ENABLE 0x20

#define STS_TIMER  0x0001
#define STS_GLOBAL 0x0020
#define STS_POWER  0x0100
#define STS_SLEEP  0x0200
#define STS_RTC    0x0400
#define STS_WAKE   0x8000
#define STS_ALL    (STS_TIMER | STS_GLOBAL | STS_POWER | STS_SLEEP | STS_RTC | STS_WAKE)
#define EN_ALL     (STS_TIMER | STS_GLOBAL | STS_POWER | STS_SLEEP | STS_RTC)

#define CNT_SCI_EN     0x0001
#define CNT_KEPT       0x1c03 /* SCI_EN, BM_RLD, SLP_TYP */
#define CNT_SLP_EN     0x2000
#define CNT_SLP_TYP(v) ((v) >> 10 & 7)

#define GPE_BYTES (ACPI_PM_GPE_BYTES / 2)

static uint64_t now_ns(const struct acpi_pm *pm)
{
	return timerq_now(pm->overflow.q);
}

static uint64_t ticks(const struct acpi_pm *pm)
{
	return muldiv64(now_ns(pm) - MIN(pm->epoch, now_ns(pm)), ACPI_PM_HZ, NSEC_PER_SEC);
}

/* The status bit is set each time the timer's top bit changes. */
static uint16_t pm1_status(struct acpi_pm *pm)
{
	uint64_t half = ticks(pm) >> 31;

	if (half != pm->timer_half) {
		pm->timer_half = half;
		pm->pm1_status |= STS_TIMER;
	}
	return pm->pm1_status;
}

static void update_sci(struct acpi_pm *pm)
{
	bool level = (pm1_status(pm) & pm->pm1_enable & EN_ALL) != 0;

	for (unsigned int i = 0; i < GPE_BYTES; i++)
		level |= (pm->gpe_status[i] & pm->gpe_enable[i]) != 0;
	irq_set(&pm->sci, level && (pm->pm1_control & CNT_SCI_EN));
}

static void arm_overflow(struct acpi_pm *pm)
{
	uint64_t next = ((ticks(pm) >> 31) + 1) << 31;

	if (pm->pm1_enable & STS_TIMER)
		timer_set(&pm->overflow, pm->epoch + muldiv64(next, NSEC_PER_SEC, ACPI_PM_HZ) + 1);
	else
		timer_cancel(&pm->overflow);
}

static void on_overflow(void *opaque)
{
	struct acpi_pm *pm = opaque;

	device_lock(&pm->dev);
	update_sci(pm);
	arm_overflow(pm);
	device_unlock(&pm->dev);
}

/* --- the block at PMBASE -----------------------------------------------------------------------
 */

static uint32_t read_dword(struct acpi_pm *pm, uint64_t off)
{
	uint64_t gpe = off - GPE0;

	switch (off) {
	case PM1_STATUS:
		return (uint32_t)pm->pm1_enable << 16 | pm1_status(pm);
	case PM1_CONTROL:
		return pm->pm1_control;
	case PM_TIMER:
		return (uint32_t)ticks(pm);
	case SMI_ENABLE:
		return pm->smi_enable;
	}
	if (gpe < GPE_BYTES)
		return load_le32(pm->gpe_status + gpe);
	if (gpe < ACPI_PM_GPE_BYTES)
		return load_le32(pm->gpe_enable + gpe - GPE_BYTES);
	return 0;
}

static uint64_t pm_read(void *opaque, uint64_t off, unsigned int size)
{
	return read_dword(opaque, off & ~UINT64_C(3)) >> (8 * (off & 3));
}

static void sleep_now(struct acpi_pm *pm)
{
	if (CNT_SLP_TYP(pm->pm1_control) == ACPI_PM_SLP_TYP_S5)
		request_send(&pm->requests, REQUEST_POWEROFF, 0);
	else
		pm->pm1_status |= STS_WAKE; /* not offered: awake again */
}

static void write_control(struct acpi_pm *pm, unsigned int shift, uint8_t v)
{
	uint16_t whole = (uint16_t)((pm->pm1_control & ~(0xff << shift)) | v << shift);

	pm->pm1_control = whole & CNT_KEPT;
	if (shift == 8 && (whole & CNT_SLP_EN))
		sleep_now(pm);
}

static void write_byte(struct acpi_pm *pm, uint64_t off, uint8_t v)
{
	unsigned int shift = 8 * (off & 1);
	uint64_t gpe = off - GPE0;

	switch (off & ~UINT64_C(1)) {
	case PM1_STATUS:
		pm->pm1_status = pm1_status(pm) & (uint16_t) ~((v << shift) & STS_ALL);
		return;
	case PM1_ENABLE:
		pm->pm1_enable =
		    (uint16_t)((pm->pm1_enable & ~(0xff << shift)) | v << shift) & EN_ALL;
		arm_overflow(pm);
		return;
	case PM1_CONTROL:
		write_control(pm, shift, v);
		return;
	case SMI_ENABLE:
	case SMI_ENABLE + 2:
		shift = 8 * (off & 3);
		pm->smi_enable = (pm->smi_enable & ~(0xffu << shift)) | (uint32_t)v << shift;
		return;
	}
	if (gpe < GPE_BYTES)
		pm->gpe_status[gpe] &= (uint8_t)~v;
	else if (gpe < ACPI_PM_GPE_BYTES)
		pm->gpe_enable[gpe - GPE_BYTES] = v;
}

static void pm_write(void *opaque, uint64_t off, unsigned int size, uint64_t value)
{
	struct acpi_pm *pm = opaque;

	for (unsigned int i = 0; i < size; i++)
		write_byte(pm, off + i, (uint8_t)(value >> (8 * i)));
	update_sci(pm);
}

static const struct bus_ops pm_ops = {.read = pm_read, .write = pm_write, .max = 4};

/* --- reset control, APM ------------------------------------------------------------------------
 */

static uint64_t reset_read(void *opaque, uint64_t off, unsigned int size)
{
	const struct acpi_pm *pm = opaque;

	return pm->reset_control;
}

/* Bit 2 rising resets; bits 1 and 3 say how thoroughly. */
static void reset_write(void *opaque, uint64_t off, unsigned int size, uint64_t value)
{
	struct acpi_pm *pm = opaque;
	bool rise = value & ~pm->reset_control & 4;

	pm->reset_control = value & 0x0e;
	if (rise)
		request_send(&pm->requests, REQUEST_RESET, 0);
}

static const struct bus_ops reset_ops = {.read = reset_read, .write = reset_write, .max = 1};

static uint64_t apm_read(void *opaque, uint64_t off, unsigned int size)
{
	const struct acpi_pm *pm = opaque;

	return off ? pm->apm_status : pm->apm_control;
}

/* There is no SMM: what firmware would do in it for these two commands is done here. */
static void apm_write(void *opaque, uint64_t off, unsigned int size, uint64_t value)
{
	struct acpi_pm *pm = opaque;

	if (off) {
		pm->apm_status = (uint8_t)value;
		return;
	}
	pm->apm_control = (uint8_t)value;
	if (pm->apm_control == ACPI_PM_ENABLE_CMD)
		pm->pm1_control |= CNT_SCI_EN;
	else if (pm->apm_control == ACPI_PM_DISABLE_CMD)
		pm->pm1_control &= (uint16_t)~CNT_SCI_EN;
	update_sci(pm);
}

static const struct bus_ops apm_ops = {.read = apm_read, .write = apm_write, .max = 1};

/* --- for the board -----------------------------------------------------------------------------
 */

/* Called from a bridge's configuration write, so without this device's lock: bus_move never waits.
 */
void acpi_pm_move(void *opaque, uint16_t base)
{
	struct acpi_pm *pm = opaque;
	struct bus_region *r = &pm->dev.region[0];
	uint64_t size = base ? ACPI_PM_SIZE : 0;

	if (pm->dev.bus) {
		bus_move(pm->dev.bus, r, base, size);
	} else {
		r->base = base;
		r->size = size;
	}
}

void acpi_pm_power_button(struct acpi_pm *pm)
{
	device_lock(&pm->dev);
	pm->pm1_status |= STS_POWER;
	update_sci(pm);
	device_unlock(&pm->dev);
}

void acpi_pm_gpe(struct acpi_pm *pm, unsigned int n)
{
	if (n >= 8 * GPE_BYTES)
		return;
	device_lock(&pm->dev);
	pm->gpe_status[n / 8] |= (uint8_t)(1 << n % 8);
	update_sci(pm);
	device_unlock(&pm->dev);
}

bool acpi_pm_enabled(struct acpi_pm *pm)
{
	bool on;

	device_lock(&pm->dev);
	on = pm->pm1_control & CNT_SCI_EN;
	device_unlock(&pm->dev);
	return on;
}

static void pm_reset(void *opaque)
{
	struct acpi_pm *pm = opaque;

	pm->pm1_status = pm->pm1_enable = 0;
	/* The FADT names no SMI command: a guest takes it that ACPI mode is on, and never enters
	 * it. */
	pm->pm1_control = CNT_SCI_EN;
	memset(pm->gpe_status, 0, sizeof(pm->gpe_status));
	memset(pm->gpe_enable, 0, sizeof(pm->gpe_enable));
	pm->smi_enable = SMI_APMC_ENABLE;
	pm->reset_control = pm->apm_control = pm->apm_status = 0;
	pm->epoch = now_ns(pm);
	pm->timer_half = 0;
	arm_overflow(pm);
	update_sci(pm);
}

static int pm_loaded(void *opaque, struct err *e)
{
	struct acpi_pm *pm = opaque;

	pm->epoch = MIN(pm->epoch, now_ns(pm)); /* deadlines are sums of it */
	arm_overflow(pm);
	update_sci(pm);
	return 0;
}

static const struct state_field pm_fields[] = {
    STATE_FIELD(struct acpi_pm, epoch, 1),         STATE_FIELD(struct acpi_pm, timer_half, 1),
    STATE_FIELD(struct acpi_pm, pm1_status, 1),    STATE_FIELD(struct acpi_pm, pm1_enable, 1),
    STATE_FIELD(struct acpi_pm, pm1_control, 1),   STATE_ARRAY(struct acpi_pm, gpe_status, 1),
    STATE_ARRAY(struct acpi_pm, gpe_enable, 1),    STATE_FIELD(struct acpi_pm, smi_enable, 1),
    STATE_FIELD(struct acpi_pm, reset_control, 1), STATE_FIELD(struct acpi_pm, apm_control, 1),
    STATE_FIELD(struct acpi_pm, apm_status, 1),
};

static const struct state_table pm_state = {
    .name = "acpi_pm",
    .version = 1,
    .fields = pm_fields,
    .n_fields = ARRAY_SIZE(pm_fields),
    .loaded = pm_loaded,
};

static void pm_fini(void *opaque)
{
	struct acpi_pm *pm = opaque;

	timer_cancel(&pm->overflow);
}

int acpi_pm_new(const struct acpi_pm_config *cfg, struct acpi_pm **ret)
{
	struct acpi_pm *pm = device_alloc(sizeof(*pm), "acpi-pm", &pm_state, pm_reset, pm_fini);
	struct bus_region *r;

	if (!pm)
		return -ENOMEM;
	pm->sci = cfg->sci;
	pm->requests = cfg->requests;
	timer_init(&pm->overflow, cfg->timers, on_overflow, pm);
	device_region(&pm->dev, "acpi-pm", BUS_PIO, cfg->base, cfg->base ? ACPI_PM_SIZE : 0,
		      &pm_ops);
	r = device_region(&pm->dev, "reset-control", BUS_PIO, ACPI_RESET_PORT, 1, &reset_ops);
	r->priority = 1; /* lies inside the PCI configuration address register */
	device_region(&pm->dev, "apm", BUS_PIO, 0xb2, 2, &apm_ops);
	pm_reset(pm);
	*ret = pm;
	return 0;
}
