/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/fw_cfg.h - firmware configuration (QEMU's fw_cfg interface, as documented there)
 *
 *	0x510  selector, 16 bits        0x511  data, byte by byte
 *	0x514  DMA address, 64 bits big-endian; the low half starts the transfer
 *
 * Items are numbered, or named files listed in a directory.  They are read-only: a DMA write fails.
 */
#pragma once

#include "device/device.h"
#include "guest/gmem.h"

#define FW_CFG_SIGNATURE  0x00
#define FW_CFG_ID         0x01
#define FW_CFG_UUID       0x02
#define FW_CFG_NB_CPUS    0x05
#define FW_CFG_BOOT_MENU  0x0e
#define FW_CFG_MAX_CPUS   0x0f
#define FW_CFG_FILE_DIR   0x19
#define FW_CFG_FILE_FIRST 0x20
#define FW_CFG_FILE_SLOTS 64
#define FW_CFG_NAME_SIZE  56

struct fw_cfg;

must_check int fw_cfg_new(struct gmem *mem, struct fw_cfg **ret);
struct device *fw_cfg_device(struct fw_cfg *f);

/* Items are copied.  Before the machine runs, or from on_select; the same name or key replaces.
 * -ENOSPC: no slot left; -ENAMETOOLONG. */
must_check int fw_cfg_add(struct fw_cfg *f, uint16_t key, const void *data, size_t len);
must_check int fw_cfg_add_file(struct fw_cfg *f, const char *name, const void *data, size_t len);
must_check int fw_cfg_add_u16(struct fw_cfg *f, uint16_t key, uint16_t value);
must_check int fw_cfg_add_u32(struct fw_cfg *f, uint16_t key, uint32_t value);
/* Called once after each reset, before the first file is selected: the board rebuilds what depends
 * on registers the firmware set meanwhile (ACPI tables and PCIEXBAR). */
void fw_cfg_on_select(struct fw_cfg *f, void (*fn)(void *opaque), void *opaque);
