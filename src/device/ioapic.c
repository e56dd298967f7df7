/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/ioapic.c - I/O APIC (82093AA, section 3; ICH9 13.5 for the EOI register)
 */
#include "device/ioapic.h"

#include "device/apic_bus.h"

#include <assert.h>
#include <errno.h>

#define REG_SELECT 0x00
#define REG_WINDOW 0x10
#define REG_EOI    0x40

#define ENTRY_VECTOR(e) ((uint8_t)(e))
#define ENTRY_MODE(e)   ((enum apic_mode)((e) >> 8 & 7))
#define ENTRY_LOGICAL   BIT(11)
#define ENTRY_SENT      BIT(12) /* delivery status: always idle here */
#define ENTRY_LOW       BIT(13)
#define ENTRY_REMOTE    BIT(14) /* remote IRR */
#define ENTRY_LEVEL     BIT(15)
#define ENTRY_MASKED    BIT(16)
#define ENTRY_WRITABLE  (UINT64_C(0xff00000000000000) | 0x1afff)

/* Only these two modes know levels; the others are edges whatever the entry says. */
static bool is_level(uint64_t e)
{
	return (e & ENTRY_LEVEL) && ENTRY_MODE(e) <= APIC_LOWEST;
}

static void send(struct ioapic *io, uint64_t e)
{
	uint64_t addr = LAPIC_MSI_ADDRESS | (e >> 56) << 12;
	uint32_t data = (uint32_t)(e & 0x7ff); /* vector and delivery mode sit alike in MSI data */

	if (e & ENTRY_LOGICAL)
		addr |= LAPIC_MSI_LOGICAL;
	if (ENTRY_MODE(e) == APIC_LOWEST)
		addr |= LAPIC_MSI_HINT;
	if (is_level(e))
		data |= LAPIC_MSI_LEVEL | LAPIC_MSI_ASSERT;
	msi_send(&io->cfg.msi, addr, data);
}

/* A level-triggered pin that is high and not being served is sent. */
static void serve_level(struct ioapic *io, unsigned int pin)
{
	uint64_t *e = &io->entry[pin];

	if (!is_level(*e) || (*e & (ENTRY_MASKED | ENTRY_REMOTE)) || !(io->pins >> pin & 1))
		return;
	*e |= ENTRY_REMOTE;
	send(io, *e);
}

static void pin_set(void *opaque, unsigned int pin, bool level)
{
	struct ioapic *io = opaque;
	uint32_t bit = UINT32_C(1) << pin;
	uint32_t old;
	uint64_t e;

	device_lock(&io->dev);
	old = io->pins;
	io->pins = level ? old | bit : old & ~bit;
	e = io->entry[pin];
	if (is_level(e))
		serve_level(io, pin);
	else if (level && !(old & bit) && !(e & ENTRY_MASKED))
		send(io, e); /* an edge on a masked pin is lost (3.2.4, bit 16) */
	device_unlock(&io->dev);
}

struct irq ioapic_irq(struct ioapic *io, unsigned int pin)
{
	assert(pin < IOAPIC_PINS);
	return (struct irq){pin_set, io, pin};
}

static void end_vector(struct ioapic *io, uint8_t vector)
{
	for (unsigned int pin = 0; pin < IOAPIC_PINS; pin++) {
		uint64_t *e = &io->entry[pin];

		if (ENTRY_VECTOR(*e) != vector || !is_level(*e))
			continue;
		*e &= ~ENTRY_REMOTE;
		serve_level(io, pin);
	}
}

void ioapic_eoi(void *ioapic, uint8_t vector)
{
	struct ioapic *io = ioapic;

	device_lock(&io->dev);
	end_vector(io, vector);
	device_unlock(&io->dev);
}

static void update_vectors(struct ioapic *io)
{
	uint64_t now[4] = {0};

	for (unsigned int pin = 0; pin < IOAPIC_PINS; pin++) {
		uint64_t e = io->entry[pin];

		/* A masked one may still be waiting for its EOI. */
		if (is_level(e) && (!(e & ENTRY_MASKED) || (e & ENTRY_REMOTE)))
			now[ENTRY_VECTOR(e) / 64] |= BIT(ENTRY_VECTOR(e) % 64);
	}
	if (memcmp(now, io->vectors, sizeof(now)) == 0)
		return;
	memcpy(io->vectors, now, sizeof(now));
	if (io->cfg.on_vectors)
		io->cfg.on_vectors(io->cfg.opaque, now);
}

/* --- registers ---------------------------------------------------------------------------------
 */

static uint32_t reg_read(const struct ioapic *io)
{
	unsigned int pin = (io->select - 0x10u) / 2;

	switch (io->select) {
	case 0: /* IOAPICID */
	case 2: /* IOAPICARB */
		return (uint32_t)io->id << 24;
	case 1: /* IOAPICVER */
		return (IOAPIC_PINS - 1) << 16 | 0x20;
	}
	if (io->select < 0x10 || pin >= IOAPIC_PINS)
		return 0;
	return (uint32_t)(io->select & 1 ? io->entry[pin] >> 32 : io->entry[pin]);
}

static void write_entry(struct ioapic *io, unsigned int pin, bool high, uint32_t v)
{
	uint64_t old = io->entry[pin], e;

	e = high ? (old & UINT32_MAX) | (uint64_t)v << 32 : (old & ~UINT64_C(0xffffffff)) | v;
	e = (e & ENTRY_WRITABLE) | (old & ENTRY_REMOTE);
	/* Operating systems clear a stuck remote IRR by going through edge mode. */
	if (!(e & ENTRY_LEVEL))
		e &= ~ENTRY_REMOTE;
	io->entry[pin] = e;
	update_vectors(io);
	serve_level(io, pin);
}

static void reg_write(struct ioapic *io, uint32_t v)
{
	unsigned int pin = (io->select - 0x10u) / 2;

	if (io->select == 0)
		io->id = v >> 24 & 0x0f;
	else if (io->select >= 0x10 && pin < IOAPIC_PINS)
		write_entry(io, pin, io->select & 1, v);
}

static uint64_t io_read(void *opaque, uint64_t off, unsigned int size)
{
	const struct ioapic *io = opaque;

	if (off == REG_SELECT)
		return io->select;
	if (off == REG_WINDOW)
		return reg_read(io);
	return 0;
}

static void io_write(void *opaque, uint64_t off, unsigned int size, uint64_t value)
{
	struct ioapic *io = opaque;

	if (off == REG_SELECT)
		io->select = (uint8_t)value;
	else if (off == REG_WINDOW)
		reg_write(io, (uint32_t)value);
	else if (off == REG_EOI)
		end_vector(io, (uint8_t)value);
}

static const struct bus_ops io_ops = {.read = io_read, .write = io_write, .min = 4, .max = 4};

static void io_reset(void *opaque)
{
	struct ioapic *io = opaque;

	io->select = 0;
	io->id = io->cfg.id;
	for (unsigned int pin = 0; pin < IOAPIC_PINS; pin++)
		io->entry[pin] = ENTRY_MASKED;
	update_vectors(io);
}

static int io_loaded(void *opaque, struct err *e)
{
	struct ioapic *io = opaque;

	io->pins &= (1u << IOAPIC_PINS) - 1;
	update_vectors(io);
	return 0;
}

static const struct state_field io_fields[] = {
    STATE_FIELD(struct ioapic, select, 1),
    STATE_FIELD(struct ioapic, id, 1),
    STATE_FIELD(struct ioapic, pins, 1),
    STATE_ARRAY(struct ioapic, entry, 1),
};

static const struct state_table io_state = {
    .name = "ioapic",
    .version = 1,
    .fields = io_fields,
    .n_fields = ARRAY_SIZE(io_fields),
    .loaded = io_loaded,
};

int ioapic_new(const struct ioapic_config *cfg, struct ioapic **ret)
{
	struct ioapic *io = device_alloc(sizeof(*io), "ioapic", &io_state, io_reset, NULL);

	if (!io)
		return -ENOMEM;
	io->cfg = *cfg;
	device_region(&io->dev, "ioapic", BUS_MMIO, cfg->base ? cfg->base : IOAPIC_BASE, 0x1000,
		      &io_ops);
	io_reset(io);
	*ret = io;
	return 0;
}
