/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine/tables.c - what firmware would leave behind: memory map, ACPI, SMBIOS, MTRRs
 *
 *	0          0x9fc00       0xe0000  1 MiB              low_top      ECAM       PCI      4 GiB
 *	[ RAM      ][ EBDA ][ VGA ][ tables ][ RAM            ][ -------- ][ 256 MiB ][ window  ][
 *RAM
 */
#include "machine/machine_priv.h"
#include "machine/smbios.h"

#define GIB4 (UINT64_C(1) << 32)

static void add(struct boot_map *map, uint64_t gpa, uint64_t end, enum boot_range_type type)
{
	if (end > gpa)
		map->range[map->n++] =
		    (struct boot_range){.gpa = gpa, .size = end - gpa, .type = type};
}

static void memory_map(const struct machine *m, struct boot_map *map)
{
	uint64_t low = MIN(m->desc->memory, m->low_top), high = m->desc->memory - low;

	map->n = 0;
	add(map, 0, BOOT_LOW_END, BOOT_RAM);
	add(map, BOOT_LOW_END, 0xa0000, BOOT_RESERVED);
	add(map, ACPI_GPA, BOOT_HIGH_START, BOOT_RESERVED);
	add(map, BOOT_HIGH_START, low, BOOT_RAM);
	add(map, m->acpi.ecam_base, m->acpi.ecam_base + m->acpi.ecam_size, BOOT_RESERVED);
	add(map, m->acpi.mmio_end, GIB4, BOOT_RESERVED); /* IOAPIC, HPET, local APICs */
	add(map, GIB4, GIB4 + high, BOOT_RAM);
}

int machine_load_tables(struct machine *m, struct err *e)
{
	autostrbuf struct strbuf acpi = {0}, smbios = {0};
	uint8_t rsdp[RSDP_SIZE];
	int r;

	memory_map(m, &m->boot.map);
	r = acpi_build(&m->acpi, &acpi, rsdp, e);
	if (r < 0)
		return r;
	smbios_build(m->desc->name, m->desc->uuid, m->n_cpus, m->mem->ram_size, &smbios);
	r = gmem_load(m->mem, ACPI_GPA, acpi.data, acpi.len);
	if (r == 0)
		r = gmem_load(m->mem, RSDP_GPA, rsdp, sizeof(rsdp));
	if (r == 0)
		r = gmem_load(m->mem, SMBIOS_GPA, smbios.data, smbios.len);
	if (r < 0)
		return err_set(e, r, "store the tables");
	m->boot.rsdp = RSDP_GPA;
	return 0;
}

/* --- MTRRs (SDM vol. 3, 12.11): all write-back, but for the VGA window and the PCI hole --- */

#define MTRR_UC     0
#define MTRR_WB     6
#define MTRR_ENABLE BIT(11)
#define MTRR_FIXED  BIT(10)
#define MTRR_VALID  BIT(11)
#define PHYS_MASK   (BIT(40) - 1)
#define ALL_WB      UINT64_C(0x0606060606060606)

/* [from, 4 GiB) as uncacheable, in naturally aligned powers of two. */
static void set_hole(struct cpu *c, uint64_t from)
{
	unsigned int n = 0;

	while (from < GIB4 && n < CPU_MTRR_VAR) {
		uint64_t size = from & -from;

		c->mtrr_base[n] = from | MTRR_UC;
		c->mtrr_mask[n] = (PHYS_MASK & ~(size - 1)) | MTRR_VALID;
		from += size;
		n++;
	}
}

void machine_firmware_state(const struct machine *m, struct cpu *c)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(c->mtrr_fixed); i++)
		c->mtrr_fixed[i] = ALL_WB;
	c->mtrr_fixed[2] = 0; /* 0xa0000-0xbffff */
	set_hole(c, m->low_top);
	c->mtrr_def_type = MTRR_ENABLE | MTRR_FIXED | MTRR_WB;
}
