/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guest/gmem.h - guest physical memory: where guest bytes are on the host
 *
 * The map is a sorted list of slots, each backed by one private anonymous mapping: few hosts give
 * huge pages to shared memory, and a guest without them is slower.  Everything not in a slot is
 *MMIO.
 *
 *	gpa   0 ................ low_top     4 GiB ............ 4 GiB + rest
 *	      [ RAM slot 0     ] PCI hole    [ RAM slot 1      ]
 *
 * Guest bytes are hostile and may change under us: copy them in once (gmem_read), check the copy.
 * gmem_ptr() is for the engines' TLBs and for virtqueue buffers, whose content is only moved.
 *
 * Whoever writes guest memory from outside the engine (DMA) calls gmem_dirty() afterwards, which
 * gmem_write() does by itself: it feeds the dirty log and tells the engines about changed code.
 *
 * Code pages: an engine that caches decoded instructions marks their page with gmem_set_code() and
 * remembers the generation it returns; a write to a marked page counts the generation on and takes
 * the mark off, so that pages which turn into data cost nothing any more.
 *
 * Views show memory that a device owns - shadow RAM or the ROM behind it, a frame buffer - and may
 * change what and where they show.
 *
 * Threads: reads, writes and marks from any thread.  The map changes only while no vCPU runs;
 * devices' own threads may meanwhile see it as it was or as it will be.
 */
#pragma once

#include "base/err.h"

#define GMEM_PAGE_SHIFT 12
#define GMEM_PAGE_SIZE  UINT64_C(4096)
#define GMEM_MAX_SLOTS  32

enum gmem_slot_flags {
	GMEM_ROM = 1 << 0,    /* guest writes are dropped */
	GMEM_VIEW = 1 << 1,   /* the memory is somebody else's: gmem_add_view */
	GMEM_HIDDEN = 1 << 2, /* a view that is nowhere now */
};

#define GMEM_CODE_MARK 0x80000000u

struct gmem_slot {
	uint64_t gpa, size; /* bytes, page-aligned */
	uint8_t *hva;
	unsigned int flags;
	/* One per page: generation, and GMEM_CODE_MARK while the page holds cached code. */
	_Atomic uint32_t *code_gen;
	_Atomic uint64_t *dirty; /* bitmap, one bit a page; NULL while logging is off */
};

struct gmem {
	struct gmem_slot slots[GMEM_MAX_SLOTS];
	unsigned int n_slots;
	uint64_t ram_size; /* sum of RAM slots, bytes */
	void (*code_changed)(void *arg, uint64_t gpa);
	void *code_changed_arg;
	uint32_t epoch; /* counts changes of map and dirty logging: engines drop their TLBs then */
};

/*
 * RAM of @size bytes (page-aligned): below @low_top at gpa 0, the rest from 4 GiB up.  -ENOMEM when
 * the host cannot back it.
 */
must_check int gmem_new(uint64_t size, uint64_t low_top, struct gmem **ret, struct err *e);
void gmem_free(struct gmem *m);

/* Adds a slot of zeroed memory; -EEXIST if it overlaps one. */
must_check int gmem_add(struct gmem *m, uint64_t gpa, uint64_t size, unsigned int flags,
			struct err *e);

/* As gmem_new, but without the RAM between 640 KiB and 1 MiB, where a PC has its screen and ROMs.
 */
must_check int gmem_new_pc(uint64_t size, uint64_t low_top, struct gmem **ret, struct err *e);

/*
 * Adds a hidden view of @size bytes; *@slot gets its number.  @hva and later ones are page-aligned,
 * as long as the view, and outlive the gmem.
 */
must_check int gmem_add_view(struct gmem *m, uint64_t size, uint8_t *hva, unsigned int *slot,
			     struct err *e);
/* Shows @hva at @gpa (page-aligned, clear of other slots), @flags GMEM_ROM or 0. */
void gmem_show(struct gmem *m, unsigned int slot, uint64_t gpa, uint8_t *hva, unsigned int flags);
void gmem_hide(struct gmem *m, unsigned int slot);
/* Would [gpa, gpa+size) meet a slot that is not hidden? */
bool gmem_overlaps(const struct gmem *m, uint64_t gpa, uint64_t size);

const struct gmem_slot *gmem_slot(const struct gmem *m, uint64_t gpa);

/* Host address of [gpa, gpa+len) if it lies in one slot, else NULL. */
void *gmem_ptr(const struct gmem *m, uint64_t gpa, uint64_t len);

/* Copies; -EFAULT when any byte is not memory (for writes: or is ROM).  Nothing is copied then. */
must_check int gmem_read(const struct gmem *m, uint64_t gpa, void *buf, size_t len);
must_check int gmem_write(struct gmem *m, uint64_t gpa, const void *buf, size_t len);
/* For the loader and firmware only: writes ROM too. */
must_check int gmem_load(struct gmem *m, uint64_t gpa, const void *buf, size_t len);

/* [gpa, gpa+len) was written from outside the engine. */
void gmem_dirty(struct gmem *m, uint64_t gpa, uint64_t len);

/* The guest has no use for these pages: their memory goes back to the host, and they read as zero
 * when touched again.  Partial pages and ROM are left alone. */
void gmem_discard(struct gmem *m, uint64_t gpa, uint64_t len);

/* Marks the page at @gpa as holding cached code; returns its generation with the mark (never 0). */
uint32_t gmem_set_code(struct gmem *m, uint64_t gpa);
/* The word in which the page's generation and mark are: cached code is good while it has the value
 * that gmem_set_code returned.  NULL if not memory. */
const _Atomic uint32_t *gmem_code_word(const struct gmem *m, uint64_t gpa);
/* As gmem_set_code; 0 if the page is not marked or not memory. */
uint32_t gmem_code_gen(const struct gmem *m, uint64_t gpa);
/* A write hit a marked page: all code cached from it is stale. */
void gmem_bump_code(struct gmem *m, uint64_t gpa);

/* @changed is called, from any thread, after the marked page at @gpa was written to and before
 * whoever wrote does anything else; NULL = nobody.  Set while nobody writes. */
void gmem_on_code_change(struct gmem *m, void (*changed)(void *arg, uint64_t gpa), void *arg);

/* Dirty log: on/off while no vCPU runs; harvest returns and clears one slot's bitmap. */
must_check int gmem_log_start(struct gmem *m, struct err *e);
void gmem_log_stop(struct gmem *m);
/* @bitmap has (size/4096 + 63) / 64 words. */
void gmem_log_harvest(struct gmem *m, unsigned int slot, uint64_t *bitmap);
