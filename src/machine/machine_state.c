/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine/machine_state.c - a whole machine's saved state (docs/snapshots.md)
 *
 *	machine | CPU, ... | chips | PCI bus | PCI functions | PIC, IOAPIC | local APICs
 *
 * Devices come before the interrupt controllers: to finish what they have in flight they may raise
 * interrupts, and when they are loaded they tell their lines' levels again, which must not count
 * twice.  The controllers' own state, loaded last, has the last word.
 *
 * Clocks.  A machine in a file finds the time of day when it goes on, as after a pause: TSC, timers
 * and with them the guest's clocks are ahead by what has passed on the host's wall clock.
 */
#include "base/clock.h"
#include "block/block.h"
#include "device/acpi_pm.h"
#include "device/ahci.h"
#include "device/lapic.h"
#include "device/vga.h"
#include "device/vmgenid.h"
#include "machine/firmware.h"
#include "machine/machine_priv.h"
#include "virtio/blk.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#define LEAF_WORDS 7
/* Two measurements of one clock differ by this much, in parts of a million. */
#define TSC_PPM 500

/* In the guest's page of the paravirtual clock: the machine stood still, so its watchdogs shall not
 * bark (KVM's documentation, msr.rst). */
#define PVCLOCK_FLAGS   29
#define PVCLOCK_STOPPED 2

/* What the state is of, and when it was saved. */
struct record {
	char board[8];
	uint64_t memory;
	uint32_t n_cpus, n_chips, n_functions;
	uint64_t wall_ns, timer_ns; /* the wall clock and the timers' */
	uint64_t tsc;               /* the host's, in the guest's units */
	uint32_t tsc_khz, vendor, n_leaves;
	uint32_t leaf[CPUID_MAX_LEAVES * LEAF_WORDS];
};

static const struct state_field record_fields[] = {
    STATE_ARRAY(struct record, board, 1),       STATE_FIELD(struct record, memory, 1),
    STATE_FIELD(struct record, n_cpus, 1),      STATE_FIELD(struct record, n_chips, 1),
    STATE_FIELD(struct record, n_functions, 1), STATE_FIELD(struct record, wall_ns, 1),
    STATE_FIELD(struct record, timer_ns, 1),    STATE_FIELD(struct record, tsc, 1),
    STATE_FIELD(struct record, tsc_khz, 1),     STATE_FIELD(struct record, vendor, 1),
    STATE_FIELD(struct record, n_leaves, 1),    STATE_ARRAY(struct record, leaf, 1),
};

static const struct state_table record_table = {
    .name = "machine",
    .version = 1,
    .fields = record_fields,
    .n_fields = ARRAY_SIZE(record_fields),
};

/* --- memory --- */

static void add_region(struct machine_region *r, unsigned int *n, const char *name, uint8_t *data,
		       uint64_t size, bool pages)
{
	struct machine_region *at = &r[(*n)++];

	*at = (struct machine_region){.data = data, .size = size, .pages = pages};
	snprintf(at->name, sizeof(at->name), "%s", name);
}

unsigned int machine_regions(struct machine *m, struct machine_region ret[MACHINE_REGIONS_MAX])
{
	unsigned int n = 0;
	uint64_t size;
	uint8_t *data;

	for (unsigned int i = 0; i < m->mem->n_slots; i++) {
		const struct gmem_slot *s = &m->mem->slots[i];
		char name[24];

		if (s->flags & GMEM_VIEW)
			continue;
		snprintf(name, sizeof(name), "%s %" PRIx64, s->flags & GMEM_ROM ? "rom" : "ram",
			 s->gpa);
		add_region(ret, &n, name, s->hva, s->size, true);
	}
	if (m->vram)
		add_region(ret, &n, "vram", m->vram, VGA_VRAM_SIZE, true);
	if (m->firmware && (data = firmware_shadow(m->firmware, &size)))
		add_region(ret, &n, "shadow", data, size, true);
	if (m->firmware && (data = firmware_vars(m->firmware, &size)))
		add_region(ret, &n, "flash", data, size, false);
	return n;
}

/* --- saving --- */

static unsigned int count_functions(struct machine *m)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < 256; i++)
		n += pci_bus_dev(m->pci, i) != NULL;
	return n;
}

static uint64_t scaled_tsc(struct machine *m)
{
	return muldiv64(__builtin_ia32_rdtsc(), engine_cpu_model(m->engine)->tsc_khz,
			host_tsc_khz());
}

static void fill_record(struct machine *m, struct record *r)
{
	const struct cpu_model *model = engine_cpu_model(m->engine);

	*r = (struct record){
	    .memory = m->desc->memory,
	    .n_cpus = m->n_cpus,
	    .n_chips = m->n_chips,
	    .n_functions = count_functions(m),
	    .wall_ns = clock_wall(),
	    .timer_ns = timerq_now(loop_timers(m->cfg.loop)),
	    .tsc = scaled_tsc(m),
	    .tsc_khz = model->tsc_khz,
	    .vendor = model->vendor,
	    .n_leaves = model->n_leaves,
	};
	snprintf(r->board, sizeof(r->board), "%s", m->board->name);
	for (unsigned int i = 0; i < model->n_leaves; i++) {
		const struct cpuid_leaf *l = &model->leaf[i];
		uint32_t words[LEAF_WORDS] = {l->function, l->index, l->indexed, l->eax,
					      l->ebx,      l->ecx,   l->edx};

		memcpy(&r->leaf[i * LEAF_WORDS], words, sizeof(words));
	}
}

static bool is_controller(const struct machine *m, const struct device *d)
{
	return d == m->pic || d == m->ioapic;
}

static int can_save(struct machine *m, struct err *e)
{
	if (!m->apics)
		return err_msg(e, -EBUSY,
			       "engine %s keeps the local APICs: their state cannot be "
			       "saved yet",
			       engine_name(m->engine));
	for (unsigned int i = 0; i < 256; i++) {
		struct pci_dev *d = pci_bus_dev(m->pci, i);
		int r = d ? pci_dev_can_save(d, e) : 0;

		if (r < 0)
			return r;
	}
	return 0;
}

int machine_save(struct machine *m, struct strbuf *out, struct err *e)
{
	struct record *record;
	int r = can_save(m, e);

	if (r < 0)
		return r;
	record = xnew(struct record);
	fill_record(m, record);
	state_save(&record_table, record, out);
	free(record);
	for (unsigned int i = 0; i < m->n_cpus; i++) {
		struct cpu c;

		vcpu_get_state(&m->cpus[i], &c);
		state_save(&cpu_state_table, &c, out);
	}
	for (unsigned int i = 0; i < m->n_chips; i++)
		if (!is_controller(m, m->chips[i]))
			device_save(m->chips[i], out);
	pci_bus_save(m->pci, out);
	for (unsigned int i = 0; i < 256; i++) {
		struct pci_dev *d = pci_bus_dev(m->pci, i);

		if (d)
			pci_dev_save(d, out);
	}
	device_save(m->pic, out);
	device_save(m->ioapic, out);
	for (unsigned int i = 0; i < m->n_cpus; i++) {
		pthread_mutex_lock(&m->lapics[i]->lock);
		state_save(&lapic_state_table, m->lapics[i], out);
		pthread_mutex_unlock(&m->lapics[i]->lock);
	}
	return 0;
}

/* --- disks --- */

uint64_t machine_disk_size(const struct machine *m, unsigned int disk)
{
	const struct blk *b = disk < VM_DESC_MAX_DEVS ? m->disks[disk].blk : NULL;

	return b ? blk_info(b)->size : 0;
}

int machine_overlay(struct machine *m, unsigned int disk, int fd, const char *name, struct err *e)
{
	struct machine_disk *d = disk < VM_DESC_MAX_DEVS ? &m->disks[disk] : NULL;
	int r = 0;

	if (!d || !d->blk || d->overlay)
		r = err_msg(e, -EINVAL, "overlay: there is no disk %u to put it over", disk);
	else if (blk_info(d->blk)->read_only)
		r = err_msg(e, -EINVAL, "overlay: disk %u is read-only", disk);
	if (r < 0) {
		close(fd);
		return r;
	}
	return blk_overlay_open(d->blk, fd, name, &d->overlay, e);
}

int machine_check_disks(struct machine *m, bool live, struct err *e)
{
	for (unsigned int i = 0; i < VM_DESC_MAX_DEVS; i++) {
		const struct machine_disk *d = &m->disks[i];

		if (!d->blk || blk_info(d->blk)->read_only)
			continue;
		if (!d->blk->ops->share)
			return err_msg(e, -ENOTSUP,
				       "disk %u is a temporary one: it ends with its machine", i);
		if (live && !d->overlay)
			return err_msg(e, -EBUSY,
				       "the guest goes on writing to disk %u: it needs an overlay",
				       i);
	}
	return 0;
}

static int put_overlay(struct machine *m, unsigned int disk, struct err *e)
{
	struct machine_disk *d = &m->disks[disk];
	int r = blk_share(d->blk);

	if (r < 0)
		return err_set(e, r, "disk %u: write what is only in memory", disk);
	blk_overlay_put(d->overlay, d->blk);
	if (d->virtio)
		virtio_blk_exchange(d->virtio, d->overlay);
	else
		ahci_exchange(m->ahci, d->port, d->overlay);
	d->blk = steal_ptr(&d->overlay);
	return 0;
}

int machine_overlays_put(struct machine *m, uint32_t *put, struct err *e)
{
	int r = 0;

	*put = 0;
	for (unsigned int i = 0; i < VM_DESC_MAX_DEVS && r == 0; i++) {
		if (!m->disks[i].overlay)
			continue;
		r = put_overlay(m, i, e);
		if (r == 0)
			*put |= 1u << i;
	}
	machine_overlays_drop(m);
	return r;
}

void machine_overlays_drop(struct machine *m)
{
	for (unsigned int i = 0; i < VM_DESC_MAX_DEVS; i++)
		if (m->disks[i].overlay)
			blk_close(steal_ptr(&m->disks[i].overlay));
}

/* --- loading --- */

struct reader {
	const uint8_t *at;
	size_t left;
};

static void advance(struct reader *in, size_t used)
{
	in->at += used;
	in->left -= used;
}

static int load_table(struct reader *in, const struct state_table *t, void *obj, struct err *e)
{
	size_t used;
	int r = state_load(t, obj, in->at, in->left, &used, e);

	if (r == 0)
		advance(in, used);
	return r;
}

static int load_chip(struct reader *in, struct device *d, struct err *e)
{
	size_t used;
	int r = device_load(d, in->at, in->left, &used, e);

	if (r < 0)
		return err_wrap(e, r, "%s", d->name);
	advance(in, used);
	return 0;
}

static int check_tsc(uint32_t saved, uint32_t ours, struct err *e)
{
	uint32_t apart = saved > ours ? saved - ours : ours - saved;

	if ((uint64_t)apart * 1000000 <= (uint64_t)ours * TSC_PPM)
		return 0;
	return err_msg(e, -EINVAL,
		       "CPU model: the guest counts time at %u kHz, this host at %u kHz", saved,
		       ours);
}

/* Leaves that tell frequencies are as exact as the measurement. */
static bool is_frequency(uint32_t function)
{
	return function == 0x15 || function == 0x16 || function == 0x40000010;
}

static int check_leaf(const uint32_t *saved, const struct cpuid_leaf *ours, struct err *e)
{
	static const char *const names[] = {"EAX", "EBX", "ECX", "EDX"};
	const uint32_t values[] = {ours->eax, ours->ebx, ours->ecx, ours->edx};

	if (saved[0] != ours->function || saved[1] != ours->index || saved[2] != ours->indexed)
		return err_msg(e, -EINVAL,
			       "CPU model: CPUID leaf %08x.%x is not there, but %08x.%x is",
			       saved[0], saved[1], ours->function, ours->index);
	for (unsigned int i = 0; i < 4 && !is_frequency(saved[0]); i++)
		if (saved[3 + i] != values[i])
			return err_msg(e, -EINVAL,
				       "CPU model: CPUID leaf %08x.%x %s was %08x, this host and "
				       "engine have %08x",
				       saved[0], saved[1], names[i], saved[3 + i], values[i]);
	return 0;
}

/* A guest goes on only where it finds the processor it knows. */
static int check_model(const struct record *r, const struct cpu_model *model, struct err *e)
{
	int ret = check_tsc(r->tsc_khz, model->tsc_khz, e);

	if (ret == 0 && (r->vendor != (uint32_t)model->vendor || r->n_leaves != model->n_leaves))
		ret = err_msg(e, -EINVAL, "CPU model: another vendor, or %u CPUID leaves, not %u",
			      r->n_leaves, model->n_leaves);
	for (unsigned int i = 0; i < model->n_leaves && ret == 0; i++)
		ret = check_leaf(&r->leaf[i * LEAF_WORDS], &model->leaf[i], e);
	return ret;
}

static int check_record(struct machine *m, const struct record *r, struct err *e)
{
	if (strncmp(r->board, m->board->name, sizeof(r->board)) != 0)
		return err_msg(e, -EINVAL, "saved machine is a %.8s, not a %s", r->board,
			       m->board->name);
	if (r->n_cpus != m->n_cpus)
		return err_msg(e, -EINVAL, "saved machine has %u CPUs, not %u", r->n_cpus,
			       m->n_cpus);
	if (r->memory != m->desc->memory)
		return err_msg(e, -EINVAL,
			       "saved machine has %" PRIu64 " bytes of memory, not %" PRIu64,
			       r->memory, m->desc->memory);
	if (r->n_chips != m->n_chips || r->n_functions != count_functions(m))
		return err_msg(e, -EINVAL, "saved machine has other devices");
	return check_model(r, engine_cpu_model(m->engine), e);
}

/* Returns what to add to every TSC offset. */
static uint64_t set_clocks(struct machine *m, const struct record *r)
{
	uint64_t wall = clock_wall(), gone = wall - MIN(wall, r->wall_ns);
	int64_t offset = (int64_t)(r->timer_ns + gone - clock_now());

	timerq_set_offset(loop_timers(m->cfg.loop), offset);
	for (unsigned int i = 0; i < m->n_cpus; i++)
		timerq_set_offset(&m->cpus[i].timers, offset);
	return r->tsc + muldiv64(gone, engine_cpu_model(m->engine)->tsc_khz, NSEC_PER_MSEC) -
	       scaled_tsc(m);
}

static int load_cpus(struct machine *m, struct reader *in, uint64_t tsc_shift, struct err *e)
{
	for (unsigned int i = 0; i < m->n_cpus; i++) {
		struct cpu c = {0};
		uint64_t clock;
		uint8_t flags;
		int r = load_table(in, &cpu_state_table, &c, e);

		if (r < 0)
			return r;
		c.tsc_offset += tsc_shift;
		vcpu_set_state(&m->cpus[i], &c);
		clock = (c.pv_system_time & ~UINT64_C(1)) + PVCLOCK_FLAGS;
		if ((c.pv_system_time & 1) && gmem_read(m->mem, clock, &flags, 1) == 0) {
			flags |= PVCLOCK_STOPPED;
			(void)!gmem_write(m->mem, clock, &flags, 1);
		}
	}
	return 0;
}

static int load_devices(struct machine *m, struct reader *in, struct err *e)
{
	size_t used;
	int r = 0;

	for (unsigned int i = 0; i < m->n_chips && r == 0; i++)
		if (!is_controller(m, m->chips[i]))
			r = load_chip(in, m->chips[i], e);
	if (r == 0) {
		r = pci_bus_load(m->pci, in->at, in->left, &used, e);
		if (r == 0)
			advance(in, used);
	}
	for (unsigned int i = 0; i < 256 && r == 0; i++) {
		struct pci_dev *d = pci_bus_dev(m->pci, i);

		if (!d)
			continue;
		r = pci_dev_load(d, in->at, in->left, &used, e);
		if (r == 0)
			advance(in, used);
	}
	return r;
}

static int load_controllers(struct machine *m, struct reader *in, struct err *e)
{
	int r = load_chip(in, m->pic, e);

	if (r == 0)
		r = load_chip(in, m->ioapic, e);
	for (unsigned int i = 0; i < m->n_cpus && r == 0; i++)
		r = load_table(in, &lapic_state_table, m->lapics[i], e);
	return r;
}

static int load_all(struct machine *m, struct reader *in, struct err *e)
{
	struct record *record = xnew(struct record);
	int r = load_table(in, &record_table, record, e);

	if (r == 0)
		r = check_record(m, record, e);
	if (r == 0)
		r = load_cpus(m, in, set_clocks(m, record), e);
	free(record);
	if (r == 0)
		r = load_devices(m, in, e);
	if (r == 0)
		r = machine_map_memory(m, e);
	if (r == 0)
		r = load_controllers(m, in, e);
	if (r == 0 && in->left)
		r = err_msg(e, -EINVAL, "saved state has %zu bytes too many", in->left);
	return r;
}

int machine_load(struct machine *m, const void *data, size_t len, struct err *e)
{
	struct reader in = {data, len};
	int r;

	if (!m->apics)
		return err_msg(e, -ENOTSUP,
			       "engine %s keeps the local APICs: a saved machine "
			       "cannot go on there yet",
			       engine_name(m->engine));
	m->powering_on = true; /* the memory map is shown once, at the end */
	r = load_all(m, &in, e);
	m->powering_on = false;
	return r == 0 && m->firmware ? firmware_loaded(m->firmware, e) : r;
}

void machine_new_generation(struct machine *m)
{
	acpi_pm_gpe(container_of(m->pm, struct acpi_pm, dev), VMGENID_GPE);
}
