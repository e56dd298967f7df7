/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/nvme.h - an NVMe controller with one namespace (NVM Express 1.4)
 *
 * Admin queue and NVME_IO_QUEUES pairs of NVME_ENTRIES, MSI-X or INTx, PRPs; read, write, flush,
 * deallocate, write zeroes.
 */
#pragma once

#include "block/block.h"
#include "bus/pci.h"
#include "guest/gmem.h"

#define NVME_IO_QUEUES 8u
#define NVME_ENTRIES   256u /* of a queue, at most */

/* @blk is taken over on success; @serial of at most 20 characters. */
must_check int nvme_new(struct gmem *mem, struct loop *loop, struct blk *blk, const char *serial,
			struct pci_dev **ret, struct err *e);
/* Puts @blk in the disk's place and returns what was there; nothing is in flight. */
struct blk *nvme_exchange(struct pci_dev *d, struct blk *blk);
