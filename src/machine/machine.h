/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine/machine.h - one virtual machine: its life from description to shutdown
 *
 *	machine_new    engine, memory, board, devices, vCPU threads (parked), kernel loaded
 *	machine_start  lets the vCPUs run
 *	machine_pause, resume, reset, powerdown, nmi
 *	machine_free   stops the vCPUs and releases everything
 *
 * Threads: one a vCPU, plus the loop's, in which all of these functions are called and all events
 *are reported.  What needs the vCPUs to stand still (reset, pause) is asked for and happens when
 *the last one has parked; the loop is never blocked by them.  Nothing is global: several machines
 *fit in one process.
 */
#pragma once

#include "base/err.h"
#include "base/loop.h"
#include "base/strbuf.h"
#include "device/chardev.h"
#include "model/vm_desc.h"

struct fd_table;
struct machine;
struct input;
struct screen;

enum machine_event {
	MACHINE_POWEROFF,  /* soft-off; the vCPUs are held */
	MACHINE_REBOOT,    /* the guest asked for a reset and on_reboot is exit; held */
	MACHINE_RESTARTED, /* the guest asked for a reset and got it */
	MACHINE_CRASHED,   /* triple fault, or the guest said that it panicked; held */
	MACHINE_FAILED,    /* the host could not go on; held */
	MACHINE_EXITED,    /* isa-debug-exit, value in code; held */
	MACHINE_PAUSED,
	MACHINE_RESUMED,
};

struct machine_config {
	const struct vm_desc *desc; /* must outlive the machine */
	struct loop *loop;
	struct chardev *serial, *console, *firmware_log; /* NULL = not plugged in */
	struct screen *screen; /* NULL = nobody looks; outlives the machine */
	struct input *input;   /* likewise */
	/* In the loop's thread. */
	void (*event)(void *opaque, enum machine_event ev, unsigned int code, const char *text);
	/* In each vCPU's thread, before it first runs guest code; may be NULL.  A failure keeps the
	 * machine from starting. */
	int (*vcpu_enter)(void *opaque, struct err *e);
	/* Files of the description that are open already; NULL = none. */
	const struct fd_table *given;
	/* Instead of power-on: puts the machine's memory and state in place (machine_load); no vCPU
	 * runs yet.  NULL = from the start. */
	int (*restore)(void *opaque, struct machine *m, struct err *e);
	void *opaque;
};

/* Errors carry the exit status (EXIT_BAD_KERNEL, EXIT_BAD_MEMORY, EXIT_NO_ENGINE...). */
must_check int machine_new(const struct machine_config *cfg, struct machine **ret, struct err *e);
void machine_free(struct machine *m);
must_check int machine_start(struct machine *m, struct err *e);

void machine_pause(struct machine *m);
void machine_resume(struct machine *m);
/* As the reset button: always restarts, whatever on_reboot says. */
void machine_reset(struct machine *m);
/* As the power button. */
void machine_powerdown(struct machine *m);
void machine_nmi(struct machine *m);
/* Target of the balloon: how much memory the guest shall keep.  -ENODEV without a balloon. */
must_check int machine_balloon(struct machine *m, uint64_t bytes, struct err *e);
/* What the guest shall keep and what it has kept; what it last said is free, and available to
 * programs: UINT64_MAX = it did not.  False without a balloon. */
struct machine_memory {
	uint64_t target, actual, free, available;
};
bool machine_memory(struct machine *m, struct machine_memory *ret);

/* --- cards that come and go (docs/hotplug.md) --- */

struct fd_table;
enum machine_card { MACHINE_CARD_DISK, MACHINE_CARD_NET };

/* The description has a new entry @i of that kind, a virtio disk or a card: puts it into a slot,
 * *@ret, and tells the guest.  Files come from @given. */
must_check int machine_plug(struct machine *m, enum machine_card kind, unsigned int i,
			    const struct fd_table *given, unsigned int *ret, struct err *e);
/* Asks the guest to let go of it.  When it has, the card is gone and @done called, in the loop's
 * thread; with the entry stays its slot.  -ENODEV when it is on no slot of its own. */
must_check int machine_unplug(struct machine *m, enum machine_card kind, unsigned int i,
			      void (*done)(void *opaque), void *opaque, struct err *e);
/* No more: the card stays, @done is not called. */
void machine_unplug_cancel(struct machine *m, enum machine_card kind, unsigned int i);

/* Limits of the description's disk or card @i, at once. */
must_check int machine_set_rate(struct machine *m, enum machine_card kind, unsigned int i,
				const struct vm_rate rate[2], struct err *e);

/* Another disc in the first CD-ROM drive: a file that is open for reading, taken over, also on
 * failure; -1 = none.  -EBUSY while the guest has locked the drive. */
must_check int machine_change_disc(struct machine *m, int fd, struct err *e);

/* --- saved state (docs/snapshots.md) --- */

#define MACHINE_REGIONS_MAX 40

/* Memory that is the machine's: RAM, ROM, video memory, flash.  @data may be mapped anew, at the
 * same address, if @pages. */
struct machine_region {
	char name[24];
	uint8_t *data;
	uint64_t size;
	bool pages;
};

/* Calls @fn in the loop's thread as soon as every vCPU stands still between two instructions: 0, or
 * -errno when the machine stopped meanwhile.  Afterwards the machine goes on as it was. -EBUSY
 * while another waits. */
must_check int machine_freeze(struct machine *m, void (*fn)(void *opaque, int result), void *opaque,
			      struct err *e);
/* When they were asked to, on clock_now's clock. */
uint64_t machine_frozen_since(const struct machine *m);
unsigned int machine_regions(struct machine *m, struct machine_region ret[MACHINE_REGIONS_MAX]);
/* Inside @fn: appends the state of CPUs and devices, whose requests in flight are finished first,
 * and with them memory is complete.  -EBUSY with words names a device that cannot be saved now. */
must_check int machine_save(struct machine *m, struct strbuf *out, struct err *e);
/* After machine_load, once it runs: tells the guest that it is another one (device/vmgenid.h). */
void machine_new_generation(struct machine *m);
/* Bytes; 0 = a drive without a disk. */
uint64_t machine_disk_size(const struct machine *m, unsigned int disk);
/* Disk @disk of the description will go on in the qcow2 image open as @fd, an empty overlay with
 * the disk as backing file; @fd is taken over, also on failure. */
must_check int machine_overlay(struct machine *m, unsigned int disk, int fd, const char *name,
			       struct err *e);
/* Will the disks be in files as of the instant of machine_save?  Not temporary ones; and those that
 * the guest writes to need an overlay if it goes on (@live).  -EBUSY, -ENOTSUP with words. */
must_check int machine_check_disks(struct machine *m, bool live, struct err *e);
/* Inside @fn, after machine_save: the overlays take their places; what is below is only read from
 * now on, by others too, and is the disks as of this instant.  A bit of @put for each that did,
 * also on failure. */
must_check int machine_overlays_put(struct machine *m, uint32_t *put, struct err *e);
/* In a child of fork, in which the machine's threads are not: gives back what the engine holds. The
 * rest may not be touched, since it is half the parent's, but for the memory of machine_regions. */
void machine_forget(struct machine *m);
/* Never mind. */
void machine_overlays_drop(struct machine *m);
/* From config.restore, with memory in place: everything as it was, clocks ahead by the time since.
 * @data is not trusted.  -EINVAL says what does not fit this machine. */
must_check int machine_load(struct machine *m, const void *data, size_t len, struct err *e);

/* "running", "paused", "stopped". */
const char *machine_state(const struct machine *m);
/* What the engine is and why it was chosen. */
const char *machine_engine(const struct machine *m, const char **why);
/* Exits by kind, instructions, MIPS: lines for --verbose. */
void machine_stats(struct machine *m, struct strbuf *out);
