/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/e1000.h - the 82540EM gigabit Ethernet controller (Intel 317453, "PCI/PCI-X Family of
 * Gigabit Ethernet Controllers Software Developer's Manual")
 *
 * What every operating system since 2002 has a driver for.  Checksums and TCP segmentation are done
 * here when the driver leaves them to us.
 */
#pragma once

#include "bus/pci.h"
#include "guest/gmem.h"
#include "net/net.h"

/* @net is taken over. */
struct pci_dev *e1000_new(struct gmem *mem, struct loop *loop, struct net *net,
			  const uint8_t mac[6]);
