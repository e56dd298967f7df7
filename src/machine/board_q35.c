/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine/board_q35.c - the PC with Intel's Q35 and ICH9: every chip an operating system may look
 *for
 *
 *	00:00.0  host bridge      00:01.0 ...  devices of the description      00:1f.0  LPC bridge
 *
 * There is no firmware when a kernel is loaded directly, so firmware() does what it would have
 *done: PCIEXBAR, PMBASE, the PIRQ routing.
 */
#include "device/acpi_pm.h"
#include "device/hpet.h"
#include "device/ich9_lpc.h"
#include "device/q35_mch.h"
#include "device/vga.h"
#include "machine/firmware.h"
#include "machine/machine_priv.h"

#include <errno.h>

#define LPC_DEVFN     0xf8
#define FIXED_CHIPS   UINT64_C(0xfec00000) /* IOAPIC, HPET, local APICs, ROM: up to 4 GiB */
#define LPC_PMBASE    0x40
#define LPC_ACPI_CNTL 0x44
#define LPC_PIRQA     0x60
#define LPC_PIRQE     0x68

static void pirq_to_isa(void *opaque, unsigned int line, bool level)
{
	struct machine *m = opaque;
	struct irq in = board_isa_input(m, line, 1);

	irq_set(&in, level);
}

static void pm_moved(void *opaque, uint16_t base)
{
	struct machine *m = opaque;

	acpi_pm_move(m->pm, base);
}

static int add_bridges(struct machine *m, struct err *e)
{
	struct ich9_lpc_config lpc_cfg = {
	    .gsi = {.set = board_gsi_set, .opaque = m},
	    .isa = {.set = pirq_to_isa, .opaque = m},
	    .pm_moved = pm_moved,
	    .opaque = m,
	};
	struct q35_mch_config mch_cfg = {.memory_changed = machine_map_changed, .opaque = m};
	struct ich9_lpc *lpc;
	struct q35_mch *mch;
	int r;

	r = ich9_lpc_new(&lpc_cfg, &lpc);
	if (r < 0)
		return err_set(e, r, "make the LPC bridge");
	r = board_add_pci(m, ich9_lpc_intx(lpc), e);
	if (r < 0) {
		lpc->pci.ops->free(&lpc->pci);
		return r;
	}
	r = pci_plug(m->pci, &lpc->pci, LPC_DEVFN, e);
	if (r < 0) {
		lpc->pci.ops->free(&lpc->pci);
		return r;
	}
	r = q35_mch_new(&mch_cfg, &mch);
	if (r < 0)
		return err_set(e, r, "make the host bridge");
	r = pci_plug(m->pci, &mch->pci, 0, e);
	if (r < 0) {
		mch->pci.ops->free(&mch->pci);
		return r;
	}
	m->host_bridge = &mch->pci;
	return 0;
}

static int build(struct machine *m, struct err *e)
{
	int r = board_add_interrupts(m, e);

	if (r == 0)
		r = chips_add_power(m, e);
	if (r == 0)
		r = chips_add_hotplug(m, e);
	if (r == 0)
		r = add_bridges(m, e);
	if (r == 0)
		r = chips_add_timers(m, e);
	if (r == 0)
		r = chips_add_hpet(m, e);
	if (r == 0)
		r = chips_add_serial(m, e);
	if (r == 0)
		r = chips_add_keyboard(m, e);
	if (r == 0)
		r = chips_add_debug(m, e);
	return r;
}

static void firmware(struct machine *m)
{
	q35_mch_set_ecam(container_of(m->host_bridge, struct q35_mch, pci), m->acpi.ecam_base);
	pci_config_write(m->pci, LPC_DEVFN, LPC_PMBASE, 4, m->acpi.pm_base | 1u);
	pci_config_write(m->pci, LPC_DEVFN, LPC_ACPI_CNTL, 1, 0x80);
	for (unsigned int i = 0; i < 4; i++) {
		pci_config_write(m->pci, LPC_DEVFN, LPC_PIRQA + i, 1, board_pic_line(16 + i));
		pci_config_write(m->pci, LPC_DEVFN, LPC_PIRQE + i, 1, board_pic_line(20 + i));
	}
}

/* As the guest's memory where nothing else is; elsewhere the device answers each access. */
static void show_vram(struct machine *m)
{
	const struct bus_region *r = &m->vga->bar[0].region;
	uint64_t gpa;
	bool ok = vga_vram_place(m->vga, &gpa) && bus_is_alone(m->bus, r) &&
		  gpa + VGA_VRAM_SIZE <= FIXED_CHIPS;

	if (ok && m->vram_gpa == gpa)
		return;
	gmem_hide(m->mem, m->vram_slot);
	m->vram_gpa = 0;
	if (!ok || gmem_overlaps(m->mem, gpa, VGA_VRAM_SIZE))
		return;
	gmem_show(m->mem, m->vram_slot, gpa, m->vram, 0);
	m->vram_gpa = gpa;
}

static void map_memory(struct machine *m)
{
	uint8_t pam[7];

	for (unsigned int i = 0; i < sizeof(pam); i++)
		pam[i] = (uint8_t)pci_config_read(m->pci, 0, Q35_PAM0 + i, 1);
	if (m->firmware)
		firmware_show(m, pam);
	if (m->vga)
		show_vram(m);
}

const struct board_ops board_q35 = {
    .name = "q35",
    .acpi =
	{
	    .hpet_base = HPET_BASE,
	    .hpet_id = HPET_BLOCK_ID,
	    .i8042 = true,
	},
    .build = build,
    .firmware = firmware,
    .map_memory = map_memory,
};
