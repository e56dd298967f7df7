/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/ahci_priv.h - between controller, command slots, disks and CD-ROM drives
 */
#pragma once

#include "device/ahci.h"

#define AHCI_SLOTS     32
#define AHCI_PRD_MAX   1024u       /* scatter list entries of one command */
#define AHCI_BYTES_MAX (32u << 20) /* 65536 sectors of 512 bytes */
#define SECTOR         512u
#define CD_SECTOR      2048u

/* Task file status and error (ATA8-ACS 6.2, 6.3) */
enum { ATA_ERR = 0x01, ATA_DRQ = 0x08, ATA_SRV = 0x10, ATA_DRDY = 0x40, ATA_BSY = 0x80 };
enum { ATA_ABRT = 0x04, ATA_IDNF = 0x10, ATA_UNC = 0x40 };
#define ATA_OK   (ATA_DRDY | ATA_SRV)
#define ATA_FAIL (ATA_DRDY | ATA_SRV | ATA_ERR)

struct port;

/* One command on its way. */
struct slot {
	struct port *port;
	uint8_t number;
	bool busy; /* its blk_req is in flight, or waits in the done list */
	bool ncq, write, atapi, pio;
	struct list node; /* of the done list */
	struct blk_req req;
	int result;
	uint8_t fis[20], packet[16];
	uint64_t table; /* gpa of the command table */
	uint32_t n_prd;
	/* The guest's memory, in order; made for commands that move data. */
	struct iovec *iov;
	uint64_t *gpa;
	unsigned int n_iov;
	uint32_t room;        /* bytes the scatter list describes */
	uint32_t transferred; /* told in the command header */
	uint8_t *own; /* data of ours on its way to a disk (TRIM ranges); freed at the end */
};

struct port {
	struct ahci *ahci;
	uint8_t index;
	bool present, cdrom;
	struct blk *blk;
	char serial[21];
	/* registers */
	uint32_t clb, clbu, fb, fbu, is, ie, cmd, tfd, sig, ssts, sctl, serr, sact, ci;
	uint8_t soft_reset; /* the last control FIS had SRST */
	uint8_t multiple;   /* sectors, as the guest set it: told back only */
	uint8_t error_tag;  /* of the last failed queued command */
	/* CD-ROM: sense data and news for the guest */
	uint8_t sense_key, asc, ascq;
	bool attention; /* the disc changed: to be told once */
	bool event;     /* likewise, through GET EVENT STATUS */
	bool locked, ejected;
	bool asked; /* somebody pressed the button of a locked drive */
	struct slot slot[AHCI_SLOTS];
};

struct ahci {
	struct pci_dev pci;
	struct gmem *mem;
	struct loop *loop;
	uint32_t ghc, is;
	struct port port[AHCI_PORTS];
	pthread_mutex_t done_lock;
	struct list done;
	struct loop_work finish;
};

/* --- ahci_slot.c --- */

/* Takes up every slot in @slots. */
void ahci_start(struct port *p, uint32_t slots);
/* Waits for the requests in flight and forgets them. */
void ahci_stop(struct port *p);
void ahci_finish_work(void *ahci);
/* Finishes every command in flight, as if the backend were fast. */
void ahci_quiesce(struct ahci *a);
/* The device's first FIS after a reset: its signature. */
void ahci_post_signature(struct port *p);

/* For commands: @len bytes of the guest's memory from @off of the scatter list. */
bool slot_copy_out(struct slot *s, const void *data, uint32_t len); /* to the guest */
bool slot_copy_in(struct slot *s, void *data, uint32_t len);
/* Starts moving @len bytes between the scatter list and the medium; false: the list is not fit. */
must_check bool slot_transfer(struct slot *s, enum blk_op op, uint64_t offset, uint64_t len,
			      unsigned int flags);
void slot_submit(struct slot *s); /* s->req is filled in */
/* The end: @status and @error of the task file. */
void slot_end(struct slot *s, uint8_t status, uint8_t error);

/* --- ahci.c --- */
void ahci_port_irq(struct port *p, uint32_t bits);

/* --- ata.c, atapi.c: each ends the command or leaves a request in flight --- */
void ata_command(struct slot *s);
void ata_done(struct slot *s);
void atapi_command(struct slot *s);
void atapi_done(struct slot *s);
void atapi_reset(struct port *p);
void ata_identify_packet(struct port *p, uint8_t id[512]);
/* Words of text, blank-padded, bytes swapped. */
void ata_text(uint8_t *at, const char *text, unsigned int len);
