/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine/machine_priv.h - the machine's inside, for boards and the catalog
 */
#pragma once

#include "bus/irq.h"
#include "bus/pci.h"
#include "device/apic_bus.h"
#include "device/device.h"
#include "machine/acpi.h"
#include "machine/boot.h"
#include "machine/machine.h"
#include "machine/vcpu.h"

#define MACHINE_CHIPS 24
#define INTX_LINES    8

#define MACHINE_SLOT_END 31 /* the LPC bridge's */

/* PCI's INTx on boards without an LPC bridge (board_micro.c). */
struct intx_router {
	pthread_mutex_t lock;
	uint64_t high[16];     /* sources, devfn << 2 | pin */
	unsigned int count[8]; /* high sources of GSI 16-23 */
};

struct board_ops {
	const char *name;
	struct acpi_config acpi; /* which parts it has; machine_new fills in the rest */
	/* Chips and the PCI bus on m->bus. */
	int (*build)(struct machine *m, struct err *e);
	/* After each reset: what firmware programs into the board's registers; may be NULL. */
	void (*firmware)(struct machine *m);
	/* Shows memory where the board's registers say; no vCPU runs.  May be NULL. */
	void (*map_memory)(struct machine *m);
};

extern const struct board_ops board_q35;
extern const struct board_ops board_micro;

enum machine_status { STATE_NEW, STATE_RUNNING, STATE_PAUSED, STATE_STOPPED };

struct blk;
struct blk_req;
struct firmware;
struct net;
struct fw_cfg;

/* What firmware may boot from, in the order of plugging. */
struct boot_device {
	enum vm_boot kind;
	char *path; /* Open Firmware's */
};

/* A card that the guest is asked to let go of; done NULL = none. */
struct machine_eject {
	void (*done)(void *opaque);
	void *opaque;
};

struct machine {
	struct machine_config cfg;
	const struct vm_desc *desc;
	const struct board_ops *board;
	struct acpi_config acpi;
	struct gmem *mem;
	struct engine *engine;
	char why[256];
	struct bus *bus;
	struct pci_bus *pci;
	struct apic_bus *apics; /* NULL when the engine has the local APICs */
	struct msi_sink msi;
	struct device *chips[MACHINE_CHIPS]; /* reset in this order, freed in reverse */
	unsigned int n_chips;
	uint64_t low_top; /* RAM below 4 GiB ends here at the latest */
	struct irq_or isa_or[16];
	struct irq isa_irq[16]; /* input 0 of each: PIC and IOAPIC together */
	bool has_lines;
	struct irq pic_line[16], ioapic_pin[24];
	struct intx_router intx;
	struct device *pic, *ioapic, *pm, *pit, *rtc, *pcihp; /* among the chips */
	struct pci_dev *host_bridge;
	struct virtio_dev *balloon;
	struct boot_config boot;
	struct firmware *firmware; /* NULL: a kernel is loaded directly */
	struct fw_cfg *fw_cfg;     /* among the chips; NULL = none */
	/* By number in the description; blk NULL = none, or a drive that discs come to. */
	struct machine_disk {
		struct blk *blk;
		struct virtio_dev *virtio; /* else on the SATA controller */
		unsigned int port;
		unsigned int slot;   /* PCI's; 0 = none of its own */
		struct blk *overlay; /* to be put over it */
		struct blk *nvme;    /* instead of blk: no overlay for it */
	} disks[VM_DESC_MAX_DEVS];
	struct machine_net {
		unsigned int slot; /* likewise */
		struct net *net;   /* the card's; NULL = none */
	} nets[VM_DESC_MAX_DEVS];
	struct boot_device boot_devices[2 * VM_DESC_MAX_DEVS];
	unsigned int n_boot_devices;
	struct pci_dev *ahci, *vga; /* NULL = none */
	uint8_t *vram;
	unsigned int vram_slot;
	uint64_t vram_gpa; /* where it is shown; 0 = nowhere */
	uint64_t start_ns;

	struct machine_eject ejects[32]; /* by slot */
	_Atomic uint32_t ejected;        /* slots that the guest let go of */
	struct loop_work eject_work;

	struct lapic *lapics[VM_DESC_MAX_CPUS];
	struct vcpu_thread *cpus;
	unsigned int n_cpus;

	/* Requests from any thread; bits by enum machine_want. */
	_Atomic uint32_t requests, request_arg;
	pthread_mutex_t text_lock;
	char text[256]; /* why it failed or crashed */
	struct loop_work work;
	/* the loop's */
	enum machine_status state;
	bool want_pause, powering_on;
	void (*frozen)(void *opaque, int result); /* of machine_freeze, while it waits */
	void *frozen_opaque;
	uint64_t freeze_ns;             /* when the vCPUs were asked to stand still for it */
	struct blk_req *flush;          /* before that, of disks that go on in overlays */
	_Atomic unsigned int n_flushes; /* under way */
	uint32_t pending;
};

enum machine_want {
	WANT_FAILED = 1 << 0,
	WANT_CRASHED = 1 << 1,
	WANT_POWEROFF = 1 << 2,
	WANT_EXIT = 1 << 3,
	WANT_GUEST_RESET = 1 << 4,
	WANT_RESET = 1 << 5,
	WANT_SETTLE = 1 << 6, /* pause or stop was asked for */
	WANT_MEMORY = 1 << 7, /* the chipset's registers changed the memory map */
	WANT_FREEZE = 1 << 8, /* machine_freeze */
};

/* A chip's register that the memory map depends on was written, in a vCPU's thread: that vCPU runs
 * on when board->map_memory has seen it. */
void machine_map_changed(void *machine);
/* From any thread: holds every vCPU at once and lets the loop act when they have parked. */
void machine_want(struct machine *m, enum machine_want what, uint32_t arg, const char *text);
struct request_sink machine_request_sink(struct machine *m);

/* machine_run.c */
void machine_settle(void *machine);
/* Reset of everything, tables, kernel, start state of each vCPU; all vCPUs are parked. */
int machine_power_on(struct machine *m, struct err *e);
/* Every part to its power-on state. */
void machine_reset_parts(struct machine *m);
/* Shows memory where the chipset's registers say. */
int machine_map_memory(struct machine *m, struct err *e);

/* board.c: parts the boards share.  Chips are attached to the bus and owned by the machine. */
void board_add_chip(struct machine *m, struct device *d);
int board_add_interrupts(struct machine *m, struct err *e);           /* PIC, IOAPIC, lines */
int board_add_pci(struct machine *m, struct irq intx, struct err *e); /* bus with ECAM */
/* Another device's input of an ISA line (1-31; 0 is isa_irq). */
struct irq board_isa_input(struct machine *m, unsigned int line, unsigned int input);
/* set() of a line straight to an IOAPIC pin. */
void board_gsi_set(void *machine, unsigned int pin, bool level);
/* PIC line that stands in for a GSI of PCI's. */
static inline uint8_t board_pic_line(unsigned int gsi)
{
	return gsi & 1 ? 11 : 10;
}
void board_fini(struct machine *m);
/* Interrupt line and pin registers, as firmware leaves them. */
void board_assign_intx(struct machine *m);
void board_eoi(void *machine, uint8_t vector);
int board_pic_ack(void *machine);
void board_power_button(struct machine *m);

/* chips.c: chips by function, each with the board's usual address and line. */
int chips_add_timers(struct machine *m, struct err *e); /* PIT, RTC, port 61h */
int chips_add_hpet(struct machine *m, struct err *e);
int chips_add_serial(struct machine *m, struct err *e);
int chips_add_keyboard(struct machine *m, struct err *e);
int chips_add_power(struct machine *m, struct err *e);   /* PM block, reset register */
int chips_add_hotplug(struct machine *m, struct err *e); /* hotplug.c */
int chips_add_debug(struct machine *m, struct err *e);   /* ports that tests and panics use */

/* fw_files.c: @path is copied. */
void machine_add_boot_device(struct machine *m, enum vm_boot kind, const char *path);

/* catalog.c: plugs every device of the description. */
int catalog_plug(struct machine *m, struct err *e);
/* One more, into @slot; its files from @given. */
int catalog_plug_card(struct machine *m, enum machine_card kind, unsigned int i, unsigned int slot,
		      const struct fd_table *given, struct err *e);

/* rate.c */
void machine_limit_disk(struct blk *b, const struct vm_rate rate[2]);
void machine_limit_net(struct net *n, const struct vm_rate rate[2]);

/* hotplug.c: a bit for each slot whose card may come and go. */
uint32_t machine_hotplug_slots(struct machine *m);
void machine_hotplug_reset(struct machine *m);
/* After a freeze. */
void machine_hotplug_thawed(struct machine *m);
void machine_hotplug_fini(struct machine *m);

/* tables.c: ACPI, SMBIOS, the memory map; again after a reset. */
int machine_load_tables(struct machine *m, struct err *e);
/* What firmware would have set up on a processor: MTRRs. */
void machine_firmware_state(const struct machine *m, struct cpu *c);
