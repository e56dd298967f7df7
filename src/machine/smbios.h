/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine/smbios.h - SMBIOS tables (DMTF DSP0134 3.4): what dmidecode shows of the machine
 */
#pragma once

#include "base/strbuf.h"

#define SMBIOS_GPA        0xf1000u
#define SMBIOS_STRUCTURES 32u /* where they start, after the entry point */

/* Entry point and structures, to be stored at SMBIOS_GPA.  @uuid may be NULL. */
void smbios_build(const char *name, const char *uuid, unsigned int n_cpus, uint64_t memory,
		  struct strbuf *out);
