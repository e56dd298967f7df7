/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine/acpi_loader.c - the script by which firmware places ACPI tables
 */
#include "machine/acpi_loader.h"

#include <stdio.h>

#define COMMAND_SIZE 128
#define NAME_SIZE    56

enum command { ALLOCATE = 1, ADD_POINTER = 2, ADD_CHECKSUM = 3 };
enum zone { ZONE_HIGH = 1, ZONE_FSEG = 2 };

static void name(uint8_t *at, const char *file)
{
	snprintf((char *)at, NAME_SIZE, "%s", file);
}

static void allocate(struct strbuf *script, const char *file, uint32_t align, enum zone zone)
{
	uint8_t c[COMMAND_SIZE] = {ALLOCATE};

	name(c + 4, file);
	store_le32(c + 4 + NAME_SIZE, align);
	c[4 + NAME_SIZE + 4] = (uint8_t)zone;
	strbuf_add(script, c, sizeof(c));
}

/* The FACS needs 64 bytes' alignment; the RSDP is found by scanning the F segment, too. */
void acpi_loader_begin(struct strbuf *script)
{
	allocate(script, ACPI_LOADER_RSDP, 16, ZONE_FSEG);
	allocate(script, ACPI_LOADER_TABLES, 64, ZONE_HIGH);
}

void acpi_loader_pointer(struct strbuf *script, const char *file, uint32_t off, unsigned int bytes)
{
	uint8_t c[COMMAND_SIZE] = {ADD_POINTER};

	name(c + 4, file);
	name(c + 4 + NAME_SIZE, ACPI_LOADER_TABLES);
	store_le32(c + 4 + 2 * NAME_SIZE, off);
	c[4 + 2 * NAME_SIZE + 4] = (uint8_t)bytes;
	strbuf_add(script, c, sizeof(c));
}

void acpi_loader_checksum(struct strbuf *script, const char *file, uint32_t off, uint32_t start,
			  uint32_t len)
{
	uint8_t c[COMMAND_SIZE] = {ADD_CHECKSUM};

	name(c + 4, file);
	store_le32(c + 4 + NAME_SIZE, off);
	store_le32(c + 4 + NAME_SIZE + 4, start);
	store_le32(c + 4 + NAME_SIZE + 8, len);
	strbuf_add(script, c, sizeof(c));
}
