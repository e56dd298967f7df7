/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/apic_bus.c - carries interrupt messages to local APICs
 */
#include "device/apic_bus.h"

#include "device/lapic.h"

#include <assert.h>
#include <errno.h>

struct apic_bus {
	struct lapic **lapic; /* by id; fixed while the machine runs */
	unsigned int n;
	_Atomic bool search;       /* ids are not indices any more */
	_Atomic unsigned int turn; /* of lowest-priority arbitration among equals */
	void (*eoi)(void *opaque, uint8_t vector);
	void *eoi_opaque;
};

int apic_bus_new(unsigned int n, struct apic_bus **ret)
{
	struct apic_bus *b = calloc(1, sizeof(*b));

	if (!b)
		return -ENOMEM;
	b->lapic = calloc(n, sizeof(struct lapic *));
	if (!b->lapic) {
		free(b);
		return -ENOMEM;
	}
	b->n = n;
	*ret = b;
	return 0;
}

void apic_bus_free(struct apic_bus *b)
{
	if (!b)
		return;
	free(b->lapic);
	free(b);
}

void apic_bus_add(struct apic_bus *b, struct lapic *l, uint32_t id)
{
	assert(id < b->n && !b->lapic[id]);
	b->lapic[id] = l;
}

void apic_bus_remove(struct apic_bus *b, uint32_t id)
{
	b->lapic[id] = NULL;
}

void apic_bus_ids_changed(struct apic_bus *b)
{
	b->search = true;
}

struct lapic *apic_bus_lapic(struct apic_bus *b, uint32_t id)
{
	return id < b->n ? b->lapic[id] : NULL;
}

void apic_bus_on_eoi(struct apic_bus *b, void (*eoi)(void *opaque, uint8_t vector), void *opaque)
{
	b->eoi_opaque = opaque;
	b->eoi = eoi;
}

void apic_bus_eoi(struct apic_bus *b, uint8_t vector)
{
	if (b->eoi)
		b->eoi(b->eoi_opaque, vector);
}

static bool is_broadcast(const struct apic_msg *m)
{
	return m->dest == (m->wide ? UINT32_MAX : 0xff);
}

/* The lowest priority wins; among equals whoever comes first from a start that moves on. */
static bool deliver_lowest(struct apic_bus *b, const struct apic_msg *m)
{
	unsigned int start = b->turn++;
	struct lapic *best = NULL;
	int best_priority = 256;

	for (unsigned int i = 0; i < b->n; i++) {
		struct lapic *l = b->lapic[(start + i) % b->n];
		int priority;

		if (!l || !lapic_matches(l, m))
			continue;
		priority = lapic_arbitration(l);
		if (priority >= 0 && priority < best_priority) {
			best_priority = priority;
			best = l;
		}
	}
	if (best)
		lapic_receive(best, m);
	return best != NULL;
}

bool apic_bus_deliver(struct apic_bus *b, struct lapic *source, const struct apic_msg *m)
{
	bool taken = false;

	if (m->deassert)
		return true;
	if (m->shorthand == APIC_SELF) {
		lapic_receive(source, m);
		return true;
	}
	/* The fast path: a physical message names its APIC. */
	if (m->shorthand == APIC_DEST && !m->logical && !is_broadcast(m) && !b->search) {
		struct lapic *l = apic_bus_lapic(b, m->dest);

		if (l)
			lapic_receive(l, m);
		return l != NULL;
	}
	if (m->shorthand == APIC_DEST && m->mode == APIC_LOWEST)
		return deliver_lowest(b, m);
	for (unsigned int i = 0; i < b->n; i++) {
		struct lapic *l = b->lapic[i];

		if (!l || (m->shorthand == APIC_OTHERS && l == source))
			continue;
		if (m->shorthand == APIC_DEST && !lapic_matches(l, m))
			continue;
		lapic_receive(l, m);
		taken = true;
	}
	return taken;
}

static void msi(void *opaque, uint64_t addr, uint32_t data)
{
	struct apic_msg m = {
	    .dest = (uint32_t)(addr >> 12) & 0xff,
	    .logical = addr & LAPIC_MSI_LOGICAL,
	    .vector = (uint8_t)data,
	    .mode = (enum apic_mode)(data >> 8 & 7),
	    .level = data & LAPIC_MSI_LEVEL,
	};

	/* Outside this window it is an ordinary write to memory, which no device here means. */
	if (addr >> 20 != LAPIC_MSI_ADDRESS >> 20)
		return;
	if (m.mode == APIC_FIXED && (addr & LAPIC_MSI_HINT) && m.logical)
		m.mode = APIC_LOWEST;
	apic_bus_deliver(opaque, NULL, &m);
}

struct msi_sink apic_bus_msi(struct apic_bus *b)
{
	return (struct msi_sink){msi, b};
}
