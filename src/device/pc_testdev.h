/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/pc_testdev.h - what kvm-unit-tests expect of a test board
 *
 *	0xe0-0xe3          storage, any width
 *	0xe4-0xe7          a page address written here is to be forgotten by the host: nothing to do
 *	0xe8-0xeb          storage, byte accesses only
 *	0x2000-0x2017      level of interrupt line 0-23
 *	0xff000000, 64 KiB memory behind MMIO
 */
#pragma once

#include "device/device.h"

struct pc_testdev_config {
	struct irq gsi; /* set(opaque, line, level), lines 0-23 */
};

must_check int pc_testdev_new(const struct pc_testdev_config *cfg, struct device **ret);
