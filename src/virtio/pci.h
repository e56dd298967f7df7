/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio/pci.h - the modern virtio-over-PCI transport (virtio 1.2, 4.1)
 *
 *	BAR1 (memory, 4 KiB)              MSI-X table at 0, pending bits at 0x800
 *	BAR4 (64-bit memory, 16 KiB)      0x0000 common configuration    0x1000 ISR
 *	                                  0x2000 device configuration    0x3000 notify, 4 bytes a
 *queue
 *
 * Vector 0..n-1 may be given to any queue or to configuration changes; without MSI-X the device
 *uses INTx and the ISR register.  No legacy interface: device ids are 0x1040 + type.
 */
#pragma once

#include "bus/pci.h"
#include "virtio/virtio.h"

/*
 * A PCI function around @d, ready for pci_plug().  Owns @d from then on (also frees it when the PCI
 * function is freed), but not on failure.  Must come before the device serves its first request,
 * since d->lock becomes the PCI function's.
 */
must_check int virtio_pci_new(struct virtio_dev *d, struct pci_dev **ret, struct err *e);

struct virtio_dev *virtio_pci_device(struct pci_dev *p);

/* Where the guest's writes for @queue go now (for ioeventfd); 0 while the BAR is not mapped. */
uint64_t virtio_pci_notify_addr(struct pci_dev *p, unsigned int queue);

/* Transport registers, then virtio_save(); the PCI part is saved by whoever saves pci_dev. */
void virtio_pci_save(struct pci_dev *p, struct strbuf *out);
must_check int virtio_pci_load(struct pci_dev *p, const void *data, size_t len, size_t *used,
			       struct err *e);
