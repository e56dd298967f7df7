/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine/hotplug.c - disks and network cards that come and go while the machine runs
 *
 *	machine_plug_disk   card into a free slot --> chip: slot came --> event 1 --> the guest
 *looks machine_unplug      chip: slot asked for --> event 1 --> the guest's driver lets go --> _EJ0
 *--> on_ejected (vCPU) --> take_ejected (loop): card out, done()
 *
 * Cards are plugged and freed in the loop's thread only.  A card is out of every table of the bus,
 * and no access to it under way, before it is freed (bus/pci.h).
 */
#include "device/acpi_pcihp.h"
#include "device/acpi_pm.h"
#include "machine/machine_priv.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>

static struct acpi_pcihp *chip(const struct machine *m)
{
	return container_of(m->pcihp, struct acpi_pcihp, dev);
}

static void tell_guest(struct machine *m)
{
	acpi_pm_gpe(container_of(m->pm, struct acpi_pm, dev), ACPI_PCIHP_GPE);
}

/* --- slots --- */

static unsigned int *slot_of(struct machine *m, enum machine_card kind, unsigned int i)
{
	return kind == MACHINE_CARD_DISK ? &m->disks[i].slot : &m->nets[i].slot;
}

/* Whose the slot is in the description, with or without a card in it. */
static bool is_reserved(struct machine *m, unsigned int slot)
{
	for (unsigned int i = 0; i < VM_DESC_MAX_DEVS; i++)
		if (m->disks[i].slot == slot || m->nets[i].slot == slot)
			return true;
	return false;
}

uint32_t machine_hotplug_slots(struct machine *m)
{
	uint32_t slots = 0;

	for (unsigned int slot = 1; slot < MACHINE_SLOT_END; slot++)
		if (!pci_bus_dev(m->pci, slot << 3) || is_reserved(m, slot))
			slots |= UINT32_C(1) << slot;
	return slots;
}

static int find_slot(struct machine *m, unsigned int *ret, struct err *e)
{
	for (unsigned int slot = 1; slot < MACHINE_SLOT_END; slot++) {
		if (pci_bus_dev(m->pci, slot << 3) || is_reserved(m, slot))
			continue;
		*ret = slot;
		return 0;
	}
	return err_msg(e, -ENOSPC, "all PCI slots are taken");
}

/* --- in --- */

static int check_state(const struct machine *m, struct err *e)
{
	if (m->frozen)
		return err_msg(e, -EBUSY, "a snapshot of this machine is being made");
	if (m->state != STATE_RUNNING && m->state != STATE_PAUSED)
		return err_msg(e, -EBUSY, "the machine has stopped");
	return 0;
}

int machine_plug(struct machine *m, enum machine_card kind, unsigned int i,
		 const struct fd_table *given, unsigned int *ret, struct err *e)
{
	unsigned int slot = *slot_of(m, kind, i);
	int r = check_state(m, e);

	if (r == 0 && !slot)
		r = find_slot(m, &slot, e);
	if (r == 0)
		r = catalog_plug_card(m, kind, i, slot, given, e);
	if (r < 0)
		return r;
	acpi_pcihp_came(chip(m), slot);
	tell_guest(m);
	*ret = slot;
	return 0;
}

/* --- out --- */

/* The description's entry keeps its slot, so that a machine made of it again has the same. */
static void take_card(struct machine *m, unsigned int slot)
{
	struct pci_dev *d = pci_bus_dev(m->pci, slot << 3);

	for (unsigned int i = 0; i < VM_DESC_MAX_DEVS; i++) {
		if (m->disks[i].slot == slot)
			m->disks[i] = (struct machine_disk){.slot = slot};
		if (m->nets[i].slot == slot)
			m->nets[i].net = NULL;
	}
	if (!d)
		return;
	pci_unplug(d);
	d->ops->free(d);
}

static void ejected(struct machine *m, unsigned int slot)
{
	struct machine_eject eject = m->ejects[slot];

	/* It may have been given up a moment ago: then the card stays. */
	if (!eject.done)
		return;
	m->ejects[slot] = (struct machine_eject){NULL};
	take_card(m, slot);
	eject.done(eject.opaque);
}

static void take_ejected(void *opaque)
{
	struct machine *m = opaque;
	uint32_t slots;

	if (m->frozen)
		return; /* machine_settle comes here again */
	slots = atomic_exchange(&m->ejected, 0);
	for (unsigned int slot = 0; slot < 32; slot++)
		if (slots >> slot & 1)
			ejected(m, slot);
}

static void on_ejected(void *opaque, uint32_t slots)
{
	struct machine *m = opaque;

	atomic_fetch_or(&m->ejected, slots);
	loop_post(m->cfg.loop, &m->eject_work);
}

int machine_unplug(struct machine *m, enum machine_card kind, unsigned int i,
		   void (*done)(void *opaque), void *opaque, struct err *e)
{
	unsigned int slot = *slot_of(m, kind, i);
	int r = check_state(m, e);

	if (r < 0)
		return r;
	if (!slot || !pci_bus_dev(m->pci, slot << 3))
		return err_msg(e, -ENODEV, "it is not in a slot of its own");
	if (m->ejects[slot].done)
		return err_msg(e, -EBUSY, "the guest is asked for it already");
	m->ejects[slot] = (struct machine_eject){done, opaque};
	acpi_pcihp_ask(chip(m), slot, true);
	tell_guest(m);
	return 0;
}

void machine_unplug_cancel(struct machine *m, enum machine_card kind, unsigned int i)
{
	unsigned int slot = *slot_of(m, kind, i);

	acpi_pcihp_ask(chip(m), slot, false);
	m->ejects[slot] = (struct machine_eject){NULL};
}

/* --- with the machine --- */

/* Who starts again holds nothing: what is asked for goes now. */
void machine_hotplug_reset(struct machine *m)
{
	for (unsigned int slot = 0; slot < 32 && !m->frozen; slot++)
		ejected(m, slot);
}

void machine_hotplug_thawed(struct machine *m)
{
	loop_post(m->cfg.loop, &m->eject_work);
}

void machine_hotplug_fini(struct machine *m)
{
	loop_unpost(m->cfg.loop, &m->eject_work);
}

int chips_add_hotplug(struct machine *m, struct err *e)
{
	struct acpi_pcihp_config cfg = {.ejected = on_ejected, .opaque = m};
	struct acpi_pcihp *h;
	int r = acpi_pcihp_new(&cfg, &h);

	if (r < 0)
		return err_set(e, r, "make the hot-plug registers");
	board_add_chip(m, &h->dev);
	m->pcihp = &h->dev;
	loop_work_init(&m->eject_work, take_ejected, m);
	m->acpi.hotplug_port = ACPI_PCIHP_PORT;
	m->acpi.hotplug_gpe = ACPI_PCIHP_GPE;
	return 0;
}
