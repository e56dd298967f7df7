/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine/smbios.c - SMBIOS tables (DMTF DSP0134 3.4)
 *
 * The 64-bit entry point ("_SM3_"), then BIOS (0), system (1), chassis (3), processor (4), memory
 * array (16), memory device (17), end (127).
 */
#include "machine/smbios.h"

#include <stdio.h>

#define ENTRY_SIZE 24u

static void put(struct strbuf *b, uint64_t v, unsigned int bytes)
{
	uint8_t raw[8];

	store_le64(raw, v);
	strbuf_add(b, raw, bytes);
}

static size_t begin(struct strbuf *b, unsigned int type, unsigned int handle)
{
	size_t at = b->len;

	put(b, type, 1);
	put(b, 0, 1); /* length of the formatted part */
	put(b, handle, 2);
	return at;
}

/* Strings follow the formatted part; numbers in it count them from one. */
static void end(struct strbuf *b, size_t at, const char *const *strings)
{
	b->data[at + 1] = (char)(b->len - at);
	if (!strings || !*strings)
		put(b, 0, 1);
	for (; strings && *strings; strings++)
		strbuf_add(b, *strings, strlen(*strings) + 1);
	put(b, 0, 1);
}

/* 7.2.1: the first three fields are little-endian. */
static void put_uuid(struct strbuf *b, const char *uuid)
{
	static const uint8_t place[16] = {3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15};
	uint8_t raw[16] = {0};
	unsigned int n = 0, v;

	for (const char *p = uuid; p && n < 16 && sscanf(p, "%2x", &v) == 1; p += 2 + (p[2] == '-'))
		raw[place[n++]] = (uint8_t)v;
	strbuf_add(b, raw, sizeof(raw));
}

static void add_system(struct strbuf *b, const char *name, const char *uuid)
{
	static const char *const bios[] = {"Insula", INSULA_VERSION, "01/01/2026", NULL};
	const char *const system[] = {"Insula", "Virtual Machine", name, NULL};
	static const char *const chassis[] = {"Insula", NULL};
	size_t at = begin(b, 0, 0);

	put(b, 1, 1);      /* vendor */
	put(b, 2, 1);      /* version */
	put(b, 0xe000, 2); /* segment */
	put(b, 3, 1);      /* date */
	put(b, 0, 1);      /* ROM size */
	put(b, BIT(3), 8); /* characteristics not supported */
	put(b, 1, 1);      /* ACPI */
	put(b, 0x1c, 1);   /* virtual machine, UEFI absent, targeted content */
	put(b, 0, 2);
	put(b, 0xffff, 2);
	end(b, at, bios);
	at = begin(b, 1, 0x100);
	put(b, 1, 1);
	put(b, 2, 1);
	put(b, 0, 1);
	put(b, 3, 1); /* serial number: the machine's name */
	put_uuid(b, uuid);
	put(b, 6, 1); /* woken by the power switch */
	put(b, 0, 2);
	end(b, at, system);
	at = begin(b, 3, 0x300);
	put(b, 1, 1);
	put(b, 1, 1); /* other */
	put(b, 0, 3);
	put(b, 0x030303, 3); /* boot-up, supply, thermal state: safe */
	put(b, 2, 1);        /* security: unknown */
	put(b, 0, 4);
	put(b, 0, 4);
	end(b, at, chassis);
}

static void add_processor(struct strbuf *b, unsigned int n_cpus)
{
	static const char *const strings[] = {"CPU 0", "Insula", NULL};
	size_t at = begin(b, 4, 0x400);

	put(b, 1, 1);     /* socket */
	put(b, 3, 1);     /* central processor */
	put(b, 1, 1);     /* family: other */
	put(b, 2, 1);     /* manufacturer */
	put(b, 0, 8);     /* id */
	put(b, 0, 1);     /* version */
	put(b, 0, 1);     /* voltage */
	put(b, 0, 2 * 3); /* clocks */
	put(b, 0x41, 1);  /* populated, enabled */
	put(b, 1, 1);     /* upgrade: other */
	put(b, 0xffff, 2);
	put(b, 0xffff, 2);
	put(b, 0xffff, 2); /* caches */
	put(b, 0, 3);      /* serial, tag, part */
	put(b, n_cpus, 1);
	put(b, n_cpus, 1);
	put(b, n_cpus, 1);
	put(b, 0, 2);
	put(b, 0, 2);
	end(b, at, strings);
}

static void add_memory(struct strbuf *b, uint64_t memory)
{
	static const char *const strings[] = {"DIMM 0", NULL};
	uint64_t mib = memory >> 20;
	size_t at = begin(b, 16, 0x1000);

	put(b, 1, 1); /* other location */
	put(b, 3, 1); /* system memory */
	put(b, 3, 1); /* no error correction */
	put(b, memory >> 10 < 0x80000000 ? memory >> 10 : 0x80000000, 4);
	put(b, 0xfffe, 2);
	put(b, 1, 2);
	put(b, memory >> 10 < 0x80000000 ? 0 : memory, 8);
	end(b, at, NULL);
	at = begin(b, 17, 0x1100);
	put(b, 0x1000, 2);
	put(b, 0xfffe, 2);
	put(b, 0xffff, 2); /* widths unknown */
	put(b, 0xffff, 2);
	put(b, mib < 0x7fff ? mib : 0x7fff, 2);
	put(b, 9, 1); /* DIMM */
	put(b, 0, 1);
	put(b, 1, 1); /* locator */
	put(b, 0, 1);
	put(b, 7, 1); /* RAM */
	put(b, 2, 2);
	put(b, 0, 2); /* speed */
	put(b, 0, 4); /* strings */
	put(b, 0, 1);
	put(b, mib < 0x7fff ? 0 : mib, 4);
	put(b, 0, 2);
	end(b, at, strings);
}

void smbios_build(const char *name, const char *uuid, unsigned int n_cpus, uint64_t memory,
		  struct strbuf *out)
{
	static const uint8_t gap[SMBIOS_STRUCTURES];
	uint8_t sum = 0;
	size_t at;

	strbuf_add(out, gap, SMBIOS_STRUCTURES);
	add_system(out, name, uuid);
	add_processor(out, n_cpus);
	add_memory(out, memory);
	at = begin(out, 127, 0x7f00);
	end(out, at, NULL);
	memcpy(out->data, "_SM3_", 5);
	out->data[6] = ENTRY_SIZE;
	out->data[7] = 3;
	out->data[8] = 4;
	out->data[10] = 1; /* revision of the entry point */
	store_le32(out->data + 12, (uint32_t)(out->len - SMBIOS_STRUCTURES));
	store_le64(out->data + 16, SMBIOS_GPA + SMBIOS_STRUCTURES);
	for (unsigned int i = 0; i < ENTRY_SIZE; i++)
		sum = (uint8_t)(sum + (uint8_t)out->data[i]);
	out->data[5] = (char)-sum;
}
