/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/ahci.h - ICH9's SATA controller in AHCI mode, 00:1f.2 (AHCI 1.3.1; Intel 316972, 14), with
 * disks (ATA8-ACS) and CD-ROM drives (ATAPI, MMC-5) on its ports
 *
 *	guest   --PxCI-->  slot: command FIS, PRDT  --blk_submit-->  block node
 *	guest   <--IS, interrupt--  FIS received  <-- finish (loop, device lock) <-- done (any)
 *
 * Left out: port multipliers, hot plug of drives, enclosure management, staggered spin-up, ATA
 * security, writing discs, CD audio.  Interrupts go by INTx.
 */
#pragma once

#include "block/block.h"
#include "bus/pci.h"
#include "guest/gmem.h"

#define AHCI_PORTS 6
#define AHCI_DEVFN 0xfa /* 1f.2 */

struct ahci;

must_check int ahci_new(struct gmem *mem, struct loop *loop, struct pci_dev **ret);
/* Before it is plugged in.  @blk is taken over. @serial NULL = of the port's number. */
void ahci_add_disk(struct pci_dev *d, unsigned int port, struct blk *blk, const char *serial);
/* @blk NULL = no disc. */
void ahci_add_cdrom(struct pci_dev *d, unsigned int port, struct blk *blk);

/*
 * Another disc, NULL = none; taken over.  In the loop's thread.  -ENODEV: no CD-ROM drive there;
 * -EBUSY: the guest locked the door (unless @force); it is told that somebody pressed the button.
 * The old disc is closed.
 */
must_check int ahci_change_disc(struct pci_dev *d, unsigned int port, struct blk *blk, bool force,
				struct err *e);
/* As virtio_blk_exchange, for a disk. */
struct blk *ahci_exchange(struct pci_dev *d, unsigned int port, struct blk *blk);
