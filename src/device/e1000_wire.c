/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/e1000_wire.c - the 82540EM's EEPROM (a 93C46 on Microwire, 5) and PHY (M88E1011 by MDIO,
 * 13.4.4)
 */
#include "device/e1000_priv.h"

enum {
	EECD_SK = 1 << 0,
	EECD_CS = 1 << 1,
	EECD_DI = 1 << 2,
	EECD_DO = 1 << 3,
	EECD_REQ = 1 << 6,
	EECD_GNT = 1 << 7,
	EECD_PRES = 1 << 8,
};
#define EECD_WRITABLE 0x77u
#define EEPROM_SUM    0xbabau
#define WIRE_COMMAND  9u /* start bit, two of the command, six of the address */
#define WIRE_READ     6u /* start bit, 10 */

enum { PHY_CONTROL = 0, PHY_STATUS = 1, PHY_ID1 = 2, PHY_ID2 = 3, PHY_ADVERTISE = 4 };
#define MDIC_WRITE BIT(26)
#define MDIC_READ  BIT(27)
#define MDIC_READY BIT(28)
#define MDIC_ERROR BIT(30)

void e1000_wire_init(struct e1000 *d)
{
	uint16_t sum = 0;

	for (unsigned int i = 0; i < 3; i++)
		d->eeprom[i] = load_le16(d->mac + 2 * i);
	d->eeprom[0x0a] = 0x4408; /* Initialization Control 1 and 2: 5.6.7, 5.6.13 */
	d->eeprom[0x0b] = load_le16(d->pci.config + PCI_SUB_DEVICE_ID);
	d->eeprom[0x0c] = load_le16(d->pci.config + PCI_SUB_VENDOR_ID);
	d->eeprom[0x0d] = load_le16(d->pci.config + PCI_DEVICE_ID);
	d->eeprom[0x0e] = load_le16(d->pci.config + PCI_VENDOR_ID);
	d->eeprom[0x0f] = 0x3040;
	for (unsigned int i = 0; i < E1000_EEPROM - 1; i++)
		sum = (uint16_t)(sum + d->eeprom[i]);
	d->eeprom[E1000_EEPROM - 1] = (uint16_t)(EEPROM_SUM - sum);
}

void e1000_wire_reset(struct e1000 *d)
{
	static const uint16_t phy[32] = {
	    [PHY_CONTROL] = 0x1140, /* negotiates, gigabit, full duplex */
	    [PHY_STATUS] = 0x796d,  /* has negotiated, link up */
	    [PHY_ID1] = 0x0141,     /* M88E1011 */
	    [PHY_ID2] = 0x0c20,     [PHY_ADVERTISE] = 0x0de1,
	    [5] = 0xcde1, /* the partner can all of it */
	    [6] = 0x0001,           [9] = 0x0e00,
	    [10] = 0x3c00,          [16] = 0x0360,
	    [17] = 0xac00, /* 1000 Mbit/s, full duplex, resolved, link up */
	    [20] = 0x0d60,
	};

	memcpy(d->phy, phy, sizeof(phy));
	d->eecd = EECD_PRES;
	d->eerd = d->mdic = 0;
	d->wire_in = d->wire_bits = 0;
}

/* A clock's rising edge: a bit of the command goes in, then bits of the word come out. */
static void wire_clock(struct e1000 *d, bool in)
{
	if (d->wire_bits < WIRE_COMMAND) {
		if (!d->wire_bits && !in)
			return; /* before the start bit */
		d->wire_in = d->wire_in << 1 | in;
		d->wire_bits++;
		d->wire_out = d->eeprom[d->wire_in % E1000_EEPROM];
		return;
	}
	d->eecd &= ~(uint32_t)EECD_DO;
	if (d->wire_in >> 6 == WIRE_READ && (d->wire_out & 0x8000))
		d->eecd |= EECD_DO;
	d->wire_out = (uint16_t)(d->wire_out << 1);
}

void e1000_write_eecd(struct e1000 *d, uint32_t v)
{
	bool clock = (v & EECD_SK) && !(d->eecd & EECD_SK);

	d->eecd = (d->eecd & EECD_DO) | (v & EECD_WRITABLE) | EECD_PRES;
	if (v & EECD_REQ)
		d->eecd |= EECD_GNT;
	if (!(v & EECD_CS))
		d->wire_in = d->wire_bits = 0;
	else if (clock)
		wire_clock(d, v & EECD_DI);
}

/* 13.4.5: start, done, an address of eight bits. */
void e1000_write_eerd(struct e1000 *d, uint32_t v)
{
	uint8_t word = (uint8_t)(v >> 8);

	d->eerd = v & 0xff00;
	if (v & 1)
		d->eerd |= 0x10 | (word < E1000_EEPROM ? (uint32_t)d->eeprom[word] << 16 : 0);
}

static void write_phy(struct e1000 *d, unsigned int reg, uint16_t v)
{
	switch (reg) {
	case PHY_CONTROL: /* reset and restart are over at once */
		d->phy[reg] = v & 0x7dff;
		break;
	case PHY_STATUS:
	case PHY_ID1:
	case PHY_ID2:
	case 5:
	case 6:
	case 10:
	case 17:
		break;
	default:
		d->phy[reg] = v;
	}
}

void e1000_write_mdic(struct e1000 *d, uint32_t v)
{
	unsigned int reg = v >> 16 & 31;

	d->mdic = (v & 0x2fffffff) | (uint32_t)MDIC_READY;
	if ((v >> 21 & 31) != 1)
		d->mdic |= (uint32_t)MDIC_ERROR;
	else if (v & MDIC_READ)
		d->mdic = (d->mdic & 0xffff0000) | d->phy[reg];
	else if (v & MDIC_WRITE)
		write_phy(d, reg, (uint16_t)v);
}
