/* SPDX-License-Identifier: Apache-2.0 */
/*
 * model/vm_desc_priv.h - words of the description's enumerations, for reading and writing
 */
#pragma once

/* Indexed by the enum, NULL-terminated. */
extern const char *const vm_machine_names[];
extern const char *const vm_engine_names[];
extern const char *const vm_chardev_names[];
extern const char *const vm_share_names[];
extern const char *const vm_on_reboot_names[];
extern const char *const vm_disk_bus_names[];
extern const char *const vm_net_model_names[];
extern const char *const vm_boot_names[];
