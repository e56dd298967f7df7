/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bus/pci.h - PCI functions, configuration space (CF8/CFC and ECAM), BARs, INTx, MSI-X
 *
 * A device embeds struct pci_dev, fills in its ids, declares BARs and capabilities, and is plugged
 * into a slot.  The common part answers configuration accesses, maps BARs on the bus as the guest
 * programs them, and delivers MSI-X or INTx.
 *
 * BARs are decoded as hardware does: whatever the guest writes is accepted, two BARs may overlap
 * for a while, and fixed chips win over BARs (PCI_BAR_PRIORITY).  Only a BAR at 0 or at the
 * all-ones of a sizing write is not decoded.
 *
 * Locks: bus (of configuration accesses) -> device -> irq_lock.  The interrupt functions take only
 * irq_lock, so they may be called under any lock of a device; they never call back into it.
 */
#pragma once

#include "base/err.h"
#include "base/state.h"
#include "bus/bus.h"
#include "bus/irq.h"

#define PCI_CONFIG_SIZE 4096 /* extended space, through ECAM */
#define PCI_BARS        6

#define PCI_BAR_PRIORITY (-10)

/* Configuration header (PCI 3.0, 6.1) */
#define PCI_VENDOR_ID      0x00
#define PCI_DEVICE_ID      0x02
#define PCI_COMMAND        0x04
#define PCI_STATUS         0x06
#define PCI_CLASS_REVISION 0x08
#define PCI_HEADER_TYPE    0x0e
#define PCI_BAR0           0x10
#define PCI_SUB_VENDOR_ID  0x2c
#define PCI_SUB_DEVICE_ID  0x2e
#define PCI_CAP_POINTER    0x34
#define PCI_INTERRUPT_LINE 0x3c
#define PCI_INTERRUPT_PIN  0x3d /* a device that uses INTx sets 1-4 before it is plugged */

#define PCI_COMMAND_IO       0x0001
#define PCI_COMMAND_MEMORY   0x0002
#define PCI_COMMAND_MASTER   0x0004
#define PCI_COMMAND_INTX_OFF 0x0400

#define PCI_CAP_MSIX   0x11
#define PCI_CAP_VENDOR 0x09

struct pci_bus;
struct pci_dev;

struct pci_ops {
	/* After the common part handled the access; may be NULL.  @off and @size lie in one dword.
	 */
	void (*config_write)(struct pci_dev *d, unsigned int off, unsigned int size,
			     uint32_t value);
	/* Overrides the stored bytes for dynamic registers; may be NULL.  Returns false = stored.
	 */
	bool (*config_read)(struct pci_dev *d, unsigned int off, unsigned int size, uint32_t *ret);
	void (*reset)(struct pci_dev *d);
	void (*free)(struct pci_dev *d);
	/* What the device keeps besides configuration space and MSI-X, appended and read back; NULL
	 * = nothing.  No vCPU runs; requests in flight are finished first. */
	void (*save)(struct pci_dev *d, struct strbuf *out);
	int (*load)(struct pci_dev *d, const void *data, size_t len, size_t *used, struct err *e);
	/* -EBUSY with words while it holds what cannot be saved; NULL = never. */
	int (*can_save)(struct pci_dev *d, struct err *e);
	bool config_only; /* has nothing but configuration space, so needs no save and load */
};

struct pci_bar {
	struct bus_region region; /* base is what the guest programmed */
	uint64_t size;            /* power of two; 0 = no BAR */
	bool io, is64, prefetch;
};

struct pci_msix {
	unsigned int n;       /* vectors; 0 = no MSI-X */
	uint8_t cap;          /* offset of the capability */
	uint8_t *table;       /* 16 bytes a vector, as the guest wrote them */
	uint64_t *pending;    /* bitmap */
	bool enabled, masked; /* of the message control word */
};

struct pci_dev {
	const struct pci_ops *ops;
	const char *name;
	struct pci_bus *bus; /* while plugged */
	uint8_t devfn;
	uint8_t config[PCI_CONFIG_SIZE];
	uint8_t wmask[PCI_CONFIG_SIZE]; /* bits the guest may write */
	uint8_t w1c[PCI_CONFIG_SIZE];   /* bits a written one clears */
	struct pci_bar bar[PCI_BARS];
	struct pci_msix msix;
	pthread_mutex_t lock;     /* the device's one lock, recursive; BAR callbacks run under it */
	pthread_mutex_t irq_lock; /* leaf: MSI-X state, intx_level, intx_off */
	bool intx_level;          /* what the device asks for */
	bool intx_off;            /* command bit 10, or MSI-X is on */
	uint8_t cap_end;          /* where the next capability goes */
};

/* --- the host bridge's side --- */

/* INTx pin of slot -> line: the board's swizzle; @set gets (devfn << 2 | pin). */
must_check int pci_bus_new(struct bus *b, struct irq intx, struct msi_sink msi,
			   struct pci_bus **ret);
/* Unplugs and frees every device. */
void pci_bus_free(struct pci_bus *p);
/* Ports 0xcf8-0xcff are claimed at once; ECAM when the board says where (0 = take it away). */
void pci_bus_set_ecam(struct pci_bus *p, uint64_t base, uint64_t size);
uint32_t pci_config_read(struct pci_bus *p, uint16_t bdf, unsigned int off, unsigned int size);
void pci_config_write(struct pci_bus *p, uint16_t bdf, unsigned int off, unsigned int size,
		      uint32_t value);
void pci_bus_reset(struct pci_bus *p);

/* --- the device's side --- */

void pci_dev_init(struct pci_dev *d, const struct pci_ops *ops, const char *name, uint16_t vendor,
		  uint16_t device, uint32_t class_rev, uint16_t sub_vendor, uint16_t sub_device);
void pci_dev_fini(struct pci_dev *d);
/* @devfn slot << 3 | function; -EBUSY when taken. */
must_check int pci_plug(struct pci_bus *p, struct pci_dev *d, unsigned int devfn, struct err *e);
void pci_unplug(struct pci_dev *d);

/* @size a power of two >= 16.  The callbacks see offsets from the BAR's start. */
void pci_add_bar(struct pci_dev *d, unsigned int n, uint64_t size, bool io, bool is64,
		 bool prefetch, const struct bus_ops *ops, void *opaque);
/* Appends a capability of @len bytes (header included); returns its offset. */
uint8_t pci_add_cap(struct pci_dev *d, uint8_t id, uint8_t len);
/* MSI-X with table and PBA inside BAR @bar at the offsets given; the BAR's owner forwards accesses
 * there to pci_msix_read/write. */
must_check int pci_add_msix(struct pci_dev *d, unsigned int n, unsigned int bar, uint32_t table_off,
			    uint32_t pba_off);
uint64_t pci_msix_read(struct pci_dev *d, uint64_t off, unsigned int size, bool pba);
void pci_msix_write(struct pci_dev *d, uint64_t off, unsigned int size, uint64_t value);
bool pci_msix_enabled(const struct pci_dev *d);
/* Sends vector @n now, or when the guest unmasks it. */
void pci_msix_notify(struct pci_dev *d, unsigned int n);
void pci_set_intx(struct pci_dev *d, bool level);
/* Bus mastering: may the device do DMA? */
bool pci_dma_enabled(const struct pci_dev *d);

/* The function at @devfn; NULL = the slot is empty. */
struct pci_dev *pci_bus_dev(struct pci_bus *p, unsigned int devfn);
/* The bus's own registers. */
void pci_bus_save(struct pci_bus *p, struct strbuf *out);
must_check int pci_bus_load(struct pci_bus *p, const void *data, size_t len, size_t *used,
			    struct err *e);
/* -EBUSY with words: not now, or not at all yet. */
must_check int pci_dev_can_save(struct pci_dev *d, struct err *e);
/* All of a device: configuration space, MSI-X, its own part.  Load into one that was made alike and
 * reset. */
void pci_dev_save(struct pci_dev *d, struct strbuf *out);
must_check int pci_dev_load(struct pci_dev *d, const void *data, size_t len, size_t *used,
			    struct err *e);

/* Configuration space; MSI-X tables vary in size and are saved apart. */
extern const struct state_table pci_dev_state_table;
void pci_msix_save(struct pci_dev *d, struct strbuf *out);
must_check int pci_msix_load(struct pci_dev *d, const void *data, size_t len, size_t *used,
			     struct err *e);
