/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/q35_mch.h - Q35's host bridge, 00:00.0 (Intel 316966, 5.1)
 *
 * PCIEXBAR moves the ECAM window.  PAM and SMRAM registers are kept and announced to the board,
 * which decides what lies below 1 MiB.
 */
#pragma once

#include "bus/pci.h"

#define Q35_PCIEXBAR     0x60
#define Q35_PAM0         0x90 /* seven registers */
#define Q35_SMRAM        0x9d
#define Q35_ESMRAMC      0x9e
#define Q35_ECAM_DEFAULT UINT64_C(0xe0000000)

struct q35_mch_config {
	/* A PAM or SMRAM register changed; may be NULL. */
	void (*memory_changed)(void *opaque);
	void *opaque;
};

struct q35_mch {
	struct pci_dev pci;
	struct q35_mch_config cfg;
};

must_check int q35_mch_new(const struct q35_mch_config *cfg, struct q35_mch **ret);
/* What firmware would do on a direct boot: ECAM of 256 MiB at @base. */
void q35_mch_set_ecam(struct q35_mch *m, uint64_t base);
/* Base and size of the ECAM window; false = off. */
bool q35_mch_ecam(struct q35_mch *m, uint64_t *base, uint64_t *size);
