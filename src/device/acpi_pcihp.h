/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/acpi_pcihp.h - PCI slots whose cards come and go under ACPI (docs/hotplug.md)
 *
 *	base + 0   slots with a new card, a bit each; a read clears them    read-only
 *	base + 4   slots whose card is asked for                            read-only
 *	base + 8   a slot's bit: the guest has let its card go              write-only
 *
 * The ports and their layout are the ones that QEMU's machines have for bus 0.  The board raises a
 * general-purpose event after each change; the DSDT's method for it reads these registers and tells
 * the operating system (machine/acpi_dsdt.c).
 */
#pragma once

#include "device/device.h"

#define ACPI_PCIHP_PORT 0xcc0
#define ACPI_PCIHP_SIZE 12
#define ACPI_PCIHP_UP   0
#define ACPI_PCIHP_DOWN 4
#define ACPI_PCIHP_EJ   8
#define ACPI_PCIHP_GPE  1 /* ICH9's hot-plug event */

struct acpi_pcihp_config {
	/* The guest let go of slots that it was asked for.  With the chip's lock, in a vCPU's
	 * thread. */
	void (*ejected)(void *opaque, uint32_t slots);
	void *opaque;
};

struct acpi_pcihp {
	struct device dev;
	struct acpi_pcihp_config cfg;
	uint32_t up, down;
};

must_check int acpi_pcihp_new(const struct acpi_pcihp_config *cfg, struct acpi_pcihp **ret);
/* From any thread; the board raises the event afterwards. */
void acpi_pcihp_came(struct acpi_pcihp *h, unsigned int slot);
void acpi_pcihp_ask(struct acpi_pcihp *h, unsigned int slot, bool on);
