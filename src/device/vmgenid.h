/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/vmgenid.h - a number that tells a guest that it is another machine than a moment ago
 * (Microsoft, "Virtual Machine Generation ID", 2012)
 *
 * 16 random bytes at VMGENID_BASE, drawn when the device is made and no part of a saved state: a
 * machine that goes on from one, as a fork or restored, has others.  The board tells its guest by a
 * general-purpose event, whose method notifies the ACPI device; the guest draws new random numbers
 * then, which its copies must not have.
 */
#pragma once

#include "device/device.h"

#define VMGENID_BASE UINT64_C(0xfed50000)
#define VMGENID_SIZE 16
#define VMGENID_GPE  5

must_check int vmgenid_new(struct device **ret);
