/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine/fw_files.c - what firmware is told through fw_cfg: memory, tables, boot order, switches
 *
 * File names and formats are QEMU's, which SeaBIOS and OVMF were written for.  The ACPI tables
 * depend on where firmware put ECAM and the power-management block, so they are made anew when it
 * first asks for a file.
 */
#include "base/fd.h"
#include "base/log.h"
#include "device/fw_cfg.h"
#include "device/ich9_lpc.h"
#include "device/q35_mch.h"
#include "machine/acpi_loader.h"
#include "machine/firmware.h"
#include "machine/machine_priv.h"
#include "machine/smbios.h"

#include <errno.h>

#define GIB4          (UINT64_C(1) << 32)
#define OPTION_ROMS   "/usr/share/seabios/vgabios-stdvga.bin"
#define VIRTIO_ROM    "/usr/lib/ipxe/qemu/pxe-virtio.rom"
#define E1000_ROM     "/usr/lib/ipxe/qemu/pxe-e1000.rom"
#define ROM_MAX       (512u << 10)
#define E820_RAM      1u
#define SMBIOS_ANCHOR 24u /* bytes of the entry point; structures follow at SMBIOS_STRUCTURES */
#define PCI_ABOVE     UINT64_C(0x80000000)

static int add_e820(struct machine *m)
{
	uint64_t low = MIN(m->desc->memory, m->low_top), high = m->desc->memory - low;
	uint8_t table[2][20];

	store_le64(table[0], 0);
	store_le64(table[0] + 8, low);
	store_le32(table[0] + 16, E820_RAM);
	store_le64(table[1], GIB4);
	store_le64(table[1] + 8, high);
	store_le32(table[1] + 16, E820_RAM);
	return fw_cfg_add_file(m->fw_cfg, "etc/e820", table, high ? 40 : 20);
}

static int add_smbios(struct machine *m)
{
	autostrbuf struct strbuf b = {0};
	int r;

	smbios_build(m->desc->name, m->desc->uuid, m->n_cpus, m->desc->memory, &b);
	r = fw_cfg_add_file(m->fw_cfg, "etc/smbios/smbios-anchor", b.data, SMBIOS_ANCHOR);
	return r < 0 ? r
		     : fw_cfg_add_file(m->fw_cfg, "etc/smbios/smbios-tables",
				       b.data + SMBIOS_STRUCTURES, b.len - SMBIOS_STRUCTURES);
}

/* --- ACPI --- */

static void place_windows(struct machine *m, struct acpi_config *a)
{
	uint64_t low = MIN(m->desc->memory, m->low_top);

	a->ecam_base = a->ecam_size = 0;
	(void)q35_mch_ecam(container_of(m->host_bridge, struct q35_mch, pci), &a->ecam_base,
			   &a->ecam_size);
	if (!a->ecam_size)
		return;
	a->mmio_base = a->ecam_base + a->ecam_size;
	a->mmio_low_base = MAX(low, PCI_ABOVE);
	a->mmio_low_end = a->ecam_base;
}

static int add_acpi(struct machine *m, struct err *e)
{
	autostrbuf struct strbuf tables = {0}, script = {0};
	uint16_t pm = (uint16_t)pci_config_read(m->pci, 0xf8, 0x40, 2) & 0xff80;
	struct acpi_config a = m->acpi;
	uint8_t rsdp[RSDP_SIZE];
	int r;

	place_windows(m, &a);
	if (pm)
		a.pm_base = pm;
	a.loader = &script;
	r = acpi_build(&a, &tables, rsdp, e);
	if (r < 0)
		return r;
	r = fw_cfg_add_file(m->fw_cfg, ACPI_LOADER_TABLES, tables.data, tables.len);
	if (r == 0)
		r = fw_cfg_add_file(m->fw_cfg, ACPI_LOADER_RSDP, rsdp, sizeof(rsdp));
	if (r == 0)
		r = fw_cfg_add_file(m->fw_cfg, "etc/table-loader", script.data, script.len);
	return r < 0 ? err_set(e, r, "ACPI tables for the firmware") : 0;
}

static void on_select(void *opaque)
{
	struct err e = {0};

	if (add_acpi(opaque, &e) < 0)
		log_warn("%s", e.msg);
}

/* --- boot order --- */

void machine_add_boot_device(struct machine *m, enum vm_boot kind, const char *path)
{
	if (m->n_boot_devices == ARRAY_SIZE(m->boot_devices))
		return;
	m->boot_devices[m->n_boot_devices].kind = kind;
	m->boot_devices[m->n_boot_devices++].path = xstrdup(path);
}

/* Open Firmware paths, the first tried first; only what the description names is tried. */
static int add_boot_order(struct machine *m)
{
	autostrbuf struct strbuf b = {0};

	for (unsigned int i = 0; i < m->desc->n_boot; i++)
		for (unsigned int k = 0; k < m->n_boot_devices; k++)
			if (m->boot_devices[k].kind == m->desc->boot[i])
				strbuf_printf(&b, "%s\n", m->boot_devices[k].path);
	strbuf_puts(&b, "HALT");
	return fw_cfg_add_file(m->fw_cfg, "bootorder", b.data, b.len + 1);
}

static int add_switches(struct machine *m)
{
	/* Sleep states: bit 7 = there; S3 and S4 are not.  Byte 4 is S4's type. */
	static const uint8_t states[6] = {128, 0, 0, 1, 2, 128};
	uint16_t menu = m->desc->boot_menu ? 1 : 0, wait_ms = m->desc->boot_menu ? 10000 : 0;
	uint32_t never = UINT32_MAX; /* nothing to boot: say so and stay, do not try again */
	int r = fw_cfg_add_file(m->fw_cfg, "etc/system-states", states, sizeof(states));

	if (r == 0)
		r = fw_cfg_add_u16(m->fw_cfg, FW_CFG_BOOT_MENU, menu);
	if (r == 0)
		r = fw_cfg_add_file(m->fw_cfg, "etc/boot-menu-wait", &wait_ms, sizeof(wait_ms));
	return r < 0 ? r : fw_cfg_add_file(m->fw_cfg, "etc/boot-fail-wait", &never, sizeof(never));
}

/* --- option ROMs --- */

static int add_rom(struct machine *m, const char *path, const char *name)
{
	autostrbuf struct strbuf rom = {0};
	int r = read_file(path, ROM_MAX, &rom);

	if (r == -ENOENT) {
		log_info("firmware: %s is not there", path);
		return 0;
	}
	return r < 0 ? r : fw_cfg_add_file(m->fw_cfg, name, rom.data, rom.len);
}

static bool has_card(const struct machine *m, enum vm_net_model model)
{
	for (size_t i = 0; i < m->desc->n_nets; i++)
		if (m->desc->nets[i].model == model)
			return true;
	return false;
}

/* SeaBIOS takes a PCI function's ROM from a file of its ids; UEFI has drivers of its own. */
static int add_roms(struct machine *m)
{
	int r = add_rom(m, OPTION_ROMS, "vgaroms/vgabios-stdvga.bin");

	if (r == 0 && has_card(m, VM_NET_VIRTIO))
		r = add_rom(m, VIRTIO_ROM, "pci1af4,1041.rom");
	if (r == 0 && has_card(m, VM_NET_E1000))
		r = add_rom(m, E1000_ROM, "pci8086,100e.rom");
	return r;
}

int fw_files_add(struct machine *m, struct err *e)
{
	int r = add_e820(m);

	if (r == 0)
		r = add_smbios(m);
	if (r == 0)
		r = add_boot_order(m);
	if (r == 0)
		r = add_switches(m);
	if (r == 0)
		r = add_roms(m);
	if (r < 0)
		return err_set(e, r, "files for the firmware");
	fw_cfg_on_select(m->fw_cfg, on_select, m);
	/* So that the directory has them before firmware set anything up. */
	return add_acpi(m, e);
}
