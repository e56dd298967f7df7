/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine/acpi_loader.h - the script by which firmware places ACPI tables
 *
 * A file of 128-byte commands ("etc/table-loader" of QEMU's fw_cfg interface, as SeaBIOS and OVMF
 * know it): put the two files somewhere, add where they are to the pointers between them, and sum
 * up what changed.
 */
#pragma once

#include "base/strbuf.h"

#define ACPI_LOADER_TABLES "etc/acpi/tables"
#define ACPI_LOADER_RSDP   "etc/acpi/rsdp"

/* Room for both files. */
void acpi_loader_begin(struct strbuf *script);
/* The @bytes at @off of @file are an offset into the tables: make it an address. */
void acpi_loader_pointer(struct strbuf *script, const char *file, uint32_t off, unsigned int bytes);
/* The byte at @off of @file makes the sum of [@start, @start+@len) zero. */
void acpi_loader_checksum(struct strbuf *script, const char *file, uint32_t off, uint32_t start,
			  uint32_t len);
