/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/e1000_priv.h - between the 82540EM's registers, EEPROM and PHY, and its rings
 */
#pragma once

#include "device/e1000.h"

#define E1000_EEPROM    64u    /* words */
#define E1000_FRAME_MAX 16384u /* what long packets may have (RCTL.LPE) */
#define E1000_SEGMENTED (65536u + 256u)

/* Interrupt causes (13.4.17) */
enum {
	ICR_TXDW = 1 << 0,
	ICR_TXQE = 1 << 1,
	ICR_LSC = 1 << 2,
	ICR_RXDMT0 = 1 << 4,
	ICR_RXO = 1 << 6,
	ICR_RXT0 = 1 << 7,
};

#define RCTL_EN BIT(1)
#define TCTL_EN BIT(1)

/* A ring of descriptors of 16 bytes (13.4.25 on, 13.4.35 on). */
struct e1000_ring {
	uint64_t base;
	uint32_t len, head, tail; /* bytes, descriptors */
};

/* What a context descriptor says (3.3.6). */
struct e1000_context {
	uint8_t ipcss, ipcso, tucss, tucso, hdrlen;
	uint16_t ipcse, tucse, mss;
	uint32_t paylen;
	bool tcp, ip4;
};

struct e1000 {
	struct pci_dev pci;
	struct gmem *mem;
	struct loop *loop;
	struct net *net;
	struct loop_work tx_work;
	uint8_t mac[6]; /* as made */
	uint16_t eeprom[E1000_EEPROM];
	/* registers (13.4) */
	uint32_t ctrl, eecd, eerd, mdic, icr, ims, rctl, tctl, rxcsum, itr, pba, io_address;
	uint32_t timers[4]; /* RDTR, RADV, TIDV, TADV: kept, nothing is put off */
	uint32_t mta[128], vfta[128], ra[32];
	uint16_t phy[32];
	/* the EEPROM's wires: bits shifted in since it was selected, and what it answers */
	uint32_t wire_in;
	uint16_t wire_out;
	uint8_t wire_bits;
	struct e1000_ring rx, tx;
	bool rx_blocked; /* the backend holds frames */
	struct e1000_context context;
	/* The frame that is being gathered. */
	bool tx_segment, tx_ip_csum, tx_csum;
	uint32_t tx_len;
	uint8_t tx_frame[E1000_SEGMENTED];
};

/* --- e1000_ring.c --- */
void e1000_tx_work(void *e1000);
bool e1000_receive(void *e1000, const void *frame, size_t len);
void e1000_tx_reset(struct e1000 *d);

/* --- e1000_wire.c --- */
void e1000_wire_init(struct e1000 *d);
void e1000_wire_reset(struct e1000 *d);
void e1000_write_eecd(struct e1000 *d, uint32_t v);
void e1000_write_eerd(struct e1000 *d, uint32_t v);
void e1000_write_mdic(struct e1000 *d, uint32_t v);

/* --- e1000.c --- */
void e1000_irq(struct e1000 *d, uint32_t causes);
