/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bus/pci_priv.h - what the parts of the PCI bus know of each other
 */
#pragma once

#include "bus/pci.h"

struct pci_bus {
	struct bus *bus;
	struct irq intx;
	struct msi_sink msi;
	pthread_mutex_t lock; /* recursive: a host bridge moves ECAM from its config_write */
	struct pci_dev *dev[256];
	uint32_t address; /* port 0xcf8 */
	struct bus_region ports, ecam;
};

/* Move BAR regions to where the configuration space now says. */
void pci_bars_update(struct pci_dev *d);
/* Recompute MSI-X enables and the INTx line from the configuration space. */
void pci_irq_update(struct pci_dev *d);
void pci_msix_reset(struct pci_dev *d);
/* To and from one function; @off and @size lie in one dword and in the space. */
uint32_t pci_dev_config_read(struct pci_dev *d, unsigned int off, unsigned int size);
void pci_dev_config_write(struct pci_dev *d, unsigned int off, unsigned int size, uint32_t value);
extern const struct bus_ops pci_port_ops, pci_ecam_ops;
/* Tells the line's listener its level again. */
void pci_irq_drive(struct pci_dev *d);
