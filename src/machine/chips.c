/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine/chips.c - the PC's chips at their usual addresses and lines, for the boards
 */
#include "base/exit.h"
#include "device/acpi_pm.h"
#include "device/fw_cfg.h"
#include "device/hpet.h"
#include "device/i8042.h"
#include "device/isa_ports.h"
#include "device/pc_testdev.h"
#include "device/pit_i8254.h"
#include "device/rtc_mc146818.h"
#include "device/uart16550.h"
#include "device/vmgenid.h"
#include "display/input.h"
#include "machine/machine_priv.h"

#include <errno.h>

static int failed(int r, const char *chip, struct err *e)
{
	return err_set(e, r, "make the %s", chip);
}

int chips_add_timers(struct machine *m, struct err *e)
{
	struct timerq *timers = loop_timers(m->cfg.loop);
	struct pit *pit;
	struct rtc *rtc;
	int r;

	r = pit_new(&(struct pit_config){.irq = m->isa_irq[0], .timers = timers}, &pit);
	if (r < 0)
		return failed(r, "PIT", e);
	board_add_chip(m, &pit->dev);
	m->pit = &pit->dev;
	r = rtc_new(&(struct rtc_config){.irq = m->isa_irq[8], .timers = timers}, &rtc);
	if (r < 0)
		return failed(r, "RTC", e);
	board_add_chip(m, &rtc->dev);
	m->rtc = &rtc->dev;
	return 0;
}

static void hpet_legacy(void *opaque, bool on)
{
	struct machine *m = opaque;

	pit_disconnect(m->pit, on);
	rtc_disconnect(m->rtc, on);
}

int chips_add_hpet(struct machine *m, struct err *e)
{
	struct hpet_config cfg = {
	    .timers = loop_timers(m->cfg.loop),
	    .gsi = {.set = board_gsi_set, .opaque = m},
	    .legacy_irq0 = m->isa_irq[0],
	    .legacy_irq8 = m->isa_irq[8],
	    .msi = m->msi,
	    .legacy = hpet_legacy,
	    .opaque = m,
	};
	struct hpet *h;
	int r = hpet_new(&cfg, &h);

	if (r < 0)
		return failed(r, "HPET", e);
	board_add_chip(m, &h->dev);
	return 0;
}

int chips_add_serial(struct machine *m, struct err *e)
{
	struct uart16550_config cfg = {
	    .name = "com1",
	    .port = m->acpi.serial_port,
	    .irq = m->isa_irq[m->acpi.serial_irq],
	    .timers = loop_timers(m->cfg.loop),
	    .chr = m->cfg.serial,
	};
	struct uart16550 *u;
	int r = uart16550_new(&cfg, &u);

	if (r < 0)
		return failed(r, "serial port", e);
	board_add_chip(m, &u->dev);
	return 0;
}

static bool key_to_keyboard(void *opaque, const uint8_t *codes, size_t n)
{
	return i8042_key(opaque, codes, n);
}

/* The mouse's y grows upwards, the screen's downwards. */
static void move_mouse(void *opaque, int dx, int dy, int dz, unsigned int buttons)
{
	i8042_mouse(opaque, dx, -dy, dz, buttons);
}

int chips_add_keyboard(struct machine *m, struct err *e)
{
	struct i8042_config cfg = {
	    .kbd = m->isa_irq[1],
	    .mouse = m->isa_irq[12],
	    .requests = machine_request_sink(m),
	};
	static const struct input_ops input_ops = {.key = key_to_keyboard, .mouse = move_mouse};
	struct device *port92;
	struct i8042 *k;
	int r = i8042_new(&cfg, &k);

	if (r < 0)
		return failed(r, "keyboard controller", e);
	board_add_chip(m, &k->dev);
	if (m->cfg.input)
		input_attach(m->cfg.input, &input_ops, k);
	r = port92_new(machine_request_sink(m), &port92);
	if (r < 0)
		return failed(r, "port 92h", e);
	board_add_chip(m, port92);
	return 0;
}

int chips_add_power(struct machine *m, struct err *e)
{
	struct acpi_pm_config cfg = {
	    .base = m->acpi.pm_base,
	    .sci = m->isa_irq[m->acpi.sci],
	    .timers = loop_timers(m->cfg.loop),
	    .requests = machine_request_sink(m),
	};
	struct acpi_pm *pm;
	int r = acpi_pm_new(&cfg, &pm);

	if (r < 0)
		return failed(r, "power management", e);
	board_add_chip(m, &pm->dev);
	m->pm = &pm->dev;
	return 0;
}

static int add_fw_cfg(struct machine *m, struct err *e)
{
	struct fw_cfg *f;
	int r;

	if (!m->firmware && !m->desc->test_devices)
		return 0;
	r = fw_cfg_new(m->mem, &f);
	if (r < 0)
		return failed(r, "firmware configuration", e);
	board_add_chip(m, fw_cfg_device(f));
	m->fw_cfg = f;
	r = fw_cfg_add_u16(f, FW_CFG_NB_CPUS, (uint16_t)m->n_cpus);
	if (r == 0)
		r = fw_cfg_add_u16(f, FW_CFG_MAX_CPUS, (uint16_t)m->n_cpus);
	return r < 0 ? failed(r, "firmware configuration", e) : 0;
}

int chips_add_debug(struct machine *m, struct err *e)
{
	struct pc_testdev_config test = {.gsi = {.set = board_gsi_set, .opaque = m}};
	struct request_sink sink = machine_request_sink(m);
	struct device *d;
	int r;

	r = port80_new(&d);
	if (r < 0)
		return failed(r, "port 80h", e);
	board_add_chip(m, d);
	r = pvpanic_new(sink, &d);
	if (r < 0)
		return failed(r, "pvpanic port", e);
	board_add_chip(m, d);
	r = vmgenid_new(&d);
	if (r < 0)
		return failed(r, "generation ID", e);
	board_add_chip(m, d);
	r = add_fw_cfg(m, e);
	if (r < 0)
		return r;
	if (m->cfg.firmware_log) {
		r = debugcon_new(0x402, m->cfg.firmware_log, &d);
		if (r < 0)
			return failed(r, "firmware's debug port", e);
		board_add_chip(m, d);
	}
	if (!m->desc->test_devices)
		return 0;
	r = debug_exit_new(0xf4, sink, &d);
	if (r < 0)
		return failed(r, "debug exit port", e);
	board_add_chip(m, d);
	r = pc_testdev_new(&test, &d);
	if (r < 0)
		return failed(r, "test device", e);
	board_add_chip(m, d);
	return 0;
}
