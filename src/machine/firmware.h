/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine/firmware.h - machines that start with firmware: its ROM, shadow RAM, flash and files
 *
 *	4 GiB - size ... 4 GiB   the image, read-only
 *	0xe0000 ... 1 MiB        its last 128 KiB again, until the chipset's PAM registers say RAM
 *	0xc0000 ... 0xdffff      nothing (all ones), until they say RAM
 *	below the image          UEFI's variables: flash (device/pflash.h)
 *
 * Without a kernel nothing of what tables.c leaves behind is there: firmware asks fw_cfg and CMOS.
 */
#pragma once

#include "base/err.h"

struct machine;
struct firmware;

/* Finds and reads the image the description names and gives it its place.  NULL without one. */
must_check int firmware_open(struct machine *m, struct err *e);
void firmware_free(struct firmware *f);
/* Chips: flash, fw_cfg, CMOS bytes.  After the board's. */
must_check int firmware_add_chips(struct machine *m, struct err *e);
/* After devices were plugged in: the files that describe them. */
must_check int firmware_add_files(struct machine *m, struct err *e);
/* Below 1 MiB: @pam are the seven registers of the host bridge.  While no vCPU runs. */
void firmware_show(struct machine *m, const uint8_t pam[7]);

/* Memory of a machine with firmware besides RAM: that of the shadow areas, and the flash's content
 * (NULL = no flash).  It is saved with the machine; after loading, the flash's file gets it, too.
 */
uint8_t *firmware_shadow(struct firmware *f, uint64_t *size);
uint8_t *firmware_vars(struct firmware *f, uint64_t *size);
must_check int firmware_loaded(struct firmware *f, struct err *e);

/* fw_files.c */
must_check int fw_files_add(struct machine *m, struct err *e);
