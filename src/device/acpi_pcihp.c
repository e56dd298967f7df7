/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/acpi_pcihp.c - PCI slots whose cards come and go under ACPI
 */
#include "device/acpi_pcihp.h"

#include <errno.h>

static uint64_t hp_read(void *opaque, uint64_t off, unsigned int size)
{
	struct acpi_pcihp *h = opaque;
	uint32_t v = 0;

	if (off == ACPI_PCIHP_UP) {
		v = h->up;
		h->up = 0;
	} else if (off == ACPI_PCIHP_DOWN) {
		v = h->down;
	}
	return v;
}

/* A card that nobody asked for stays: a guest changes what its own system sees, not the machine. */
static void hp_write(void *opaque, uint64_t off, unsigned int size, uint64_t value)
{
	struct acpi_pcihp *h = opaque;
	uint32_t gone = off == ACPI_PCIHP_EJ ? (uint32_t)value & h->down : 0;

	h->down &= ~gone;
	h->up &= ~gone;
	if (gone)
		h->cfg.ejected(h->cfg.opaque, gone);
}

static const struct bus_ops hp_ops = {.read = hp_read, .write = hp_write, .min = 4, .max = 4};

void acpi_pcihp_came(struct acpi_pcihp *h, unsigned int slot)
{
	device_lock(&h->dev);
	h->up |= UINT32_C(1) << (slot & 31);
	device_unlock(&h->dev);
}

void acpi_pcihp_ask(struct acpi_pcihp *h, unsigned int slot, bool on)
{
	uint32_t bit = UINT32_C(1) << (slot & 31);

	device_lock(&h->dev);
	h->down = on ? h->down | bit : h->down & ~bit;
	device_unlock(&h->dev);
}

static void hp_reset(void *opaque)
{
	struct acpi_pcihp *h = opaque;

	h->up = h->down = 0;
}

static const struct state_field hp_fields[] = {
    STATE_FIELD(struct acpi_pcihp, up, 1),
};

/* Who asked for a card does not do so across a snapshot: it has gone, or asks again. */
static const struct state_table hp_state = {
    .name = "acpi_pcihp",
    .version = 1,
    .fields = hp_fields,
    .n_fields = ARRAY_SIZE(hp_fields),
};

int acpi_pcihp_new(const struct acpi_pcihp_config *cfg, struct acpi_pcihp **ret)
{
	struct acpi_pcihp *h = device_alloc(sizeof(*h), "acpi-pcihp", &hp_state, hp_reset, NULL);

	if (!h)
		return -ENOMEM;
	h->cfg = *cfg;
	device_region(&h->dev, "acpi-pcihp", BUS_PIO, ACPI_PCIHP_PORT, ACPI_PCIHP_SIZE, &hp_ops);
	*ret = h;
	return 0;
}
