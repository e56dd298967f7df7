/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/acpi_pm.h - ACPI fixed hardware (ACPI 6.4, 4.8) in ICH9's layout, and the reset register
 *
 *	PMBASE + 0   PM1a event: status, enable      FADT PM1a_EVT_BLK, 4 bytes
 *	PMBASE + 4   PM1a control                    PM1a_CNT_BLK, 2
 *	PMBASE + 8   PM timer, 32 bits               PM_TMR_BLK, 4
 *	PMBASE + 20h GPE0: status, enable            GPE0_BLK, 16
 *	PMBASE + 30h SMI control: stored only
 *	0xcf9        reset control                   RESET_REG, value 6 (or 0eh)
 *	0xb2, 0xb3   APM control and status: ACPI enable and disable
 *
 * SLP_TYP: 5 = S5 (power off), 0 = working.  Others, S3 too, are not offered by the DSDT; asking
 *for them wakes up at once.
 */
#pragma once

#include "device/device.h"

#define ACPI_PM_HZ          3579545u
#define ACPI_PM_SIZE        0x80
#define ACPI_PM_DEFAULT     0x600 /* where SeaBIOS puts it, too */
#define ACPI_PM_GPE_BYTES   16    /* status half, then enable half */
#define ACPI_PM_ENABLE_CMD  0x02  /* FADT ACPI_ENABLE and ACPI_DISABLE, through port 0xb2 */
#define ACPI_PM_DISABLE_CMD 0x03
#define ACPI_PM_SLP_TYP_S5  5
#define ACPI_RESET_PORT     0xcf9
#define ACPI_RESET_VALUE    0x06

struct acpi_pm_config {
	uint16_t base;  /* 0 = not decoded until acpi_pm_move */
	struct irq sci; /* level */
	struct timerq *timers;
	struct request_sink requests;
};

struct acpi_pm {
	struct device dev;
	struct irq sci;
	struct request_sink requests;
	struct timer overflow;
	uint64_t epoch;      /* clock when the PM timer was 0 */
	uint64_t timer_half; /* half turns of the PM timer already told */
	uint16_t pm1_status, pm1_enable, pm1_control;
	uint8_t gpe_status[ACPI_PM_GPE_BYTES / 2], gpe_enable[ACPI_PM_GPE_BYTES / 2];
	uint32_t smi_enable;
	uint8_t reset_control, apm_control, apm_status;
};

must_check int acpi_pm_new(const struct acpi_pm_config *cfg, struct acpi_pm **ret);
/* PMBASE was programmed; 0 takes the block away.  Any thread. */
void acpi_pm_move(void *pm, uint16_t base);
void acpi_pm_power_button(struct acpi_pm *pm);
/* Sets a general-purpose event's status bit; with its enable bit it raises SCI. */
void acpi_pm_gpe(struct acpi_pm *pm, unsigned int n);
/* The guest runs in ACPI mode (SCI_EN): a power button will be heard. */
bool acpi_pm_enabled(struct acpi_pm *pm);
