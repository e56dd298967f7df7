/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/pflash.h - parallel NOR flash with Intel's command set (CFI, JESD68; Intel 290737)
 *
 * UEFI keeps its variables in it.  What a power cut may do is what it does to real flash: a byte
 * that was being programmed or a block that was being erased is old or new.  The driver writes in
 * an order that survives this, so the file must take the writes in that order, too: those since the
 * last return to reading are on stable storage before the next command is taken.
 */
#pragma once

#include "device/device.h"

#define PFLASH_BLOCK 4096u

struct pflash_config {
	uint64_t gpa;
	uint8_t *data; /* the content; the caller's, for as long as the device lives */
	uint64_t size; /* whole blocks */
	int fd;        /* a file of the same bytes that takes every change, or -1; the caller's */
	/* For tests, instead of a file: gets each change in order; may be NULL. */
	void (*changed)(void *opaque, uint64_t off, uint64_t len);
	void *opaque;
};

must_check int pflash_new(const struct pflash_config *cfg, struct device **ret);
