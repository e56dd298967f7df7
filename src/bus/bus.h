/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bus/bus.h - port and MMIO dispatch
 *
 * A region is a range of ports or of guest-physical addresses answered by one device.  Regions may
 * overlap (firmware and Windows move BARs across each other): the highest priority wins, the later
 * one among equals.  What no region claims reads as all ones and ignores writes.
 *
 * The bus splits accesses so that a device sees only what its region declares: sizes between
 * `min` and `max`, naturally aligned, never past its end.  An access goes whole to the region that
 * wins at its first byte, as far as that region reaches: a byte at 0xcf9 can belong to another
 * device than the dword at 0xcf8.  A read narrower than `min` is cut out of the aligned wider one;
 * a write narrower than `min` is dropped, since the device could not tell what to keep.
 *
 * Locks: the device's lock is held around every callback, no lock of the bus is.  Regions are
 * added, moved and removed from any thread and from callbacks.  A callback of a removed region is
 * over when bus_remove returns, unless bus_remove was called from inside that callback; so it must
 * not be called with the region's lock held elsewhere.  bus_move never waits: an access under way
 * may still reach the region at its old place.
 */
#pragma once

#include "base/list.h"

#include <pthread.h>

struct bus;

enum bus_space { BUS_MMIO, BUS_PIO };

struct bus_ops {
	/* @off from the region's start; @size 1, 2, 4 or 8 bytes.  NULL: reads as ones. */
	uint64_t (*read)(void *opaque, uint64_t off, unsigned int size);
	/* NULL: writes are dropped. */
	void (*write)(void *opaque, uint64_t off, unsigned int size, uint64_t value);
	uint8_t min, max; /* access sizes the device takes; 0 = 1 and 8 (4 for ports) */
};

struct bus_region {
	const char *name;
	const struct bus_ops *ops;
	void *opaque;
	pthread_mutex_t *lock; /* the device's; NULL = callbacks are thread-safe by themselves */
	enum bus_space space;
	uint64_t base, size;
	int priority; /* 0 ordinary; higher wins */
	/* private */
	bool mapped;
	uint64_t seq;              /* order of bus_add */
	_Atomic unsigned int busy; /* callbacks under way */
};

must_check int bus_new(struct bus **ret);
void bus_free(struct bus *b);

/* The region stays the caller's and must outlive its mapping.  Fields above `private` are set. */
void bus_add(struct bus *b, struct bus_region *r);
void bus_remove(struct bus *b, struct bus_region *r);
/* Move or resize a region that was added; size 0 hides it until the next move. */
void bus_move(struct bus *b, struct bus_region *r, uint64_t base, uint64_t size);

/* Does the region, where it is now, answer all of its addresses? */
bool bus_is_alone(struct bus *b, const struct bus_region *r);

uint64_t bus_read(struct bus *b, enum bus_space space, uint64_t addr, unsigned int size);
void bus_write(struct bus *b, enum bus_space space, uint64_t addr, unsigned int size,
	       uint64_t value);

/* One line a region, sorted, for `--verbose` and tests. */
struct strbuf;
void bus_dump(struct bus *b, struct strbuf *out);
