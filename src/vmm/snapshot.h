/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmm/snapshot.h - a saved machine in one file (docs/snapshots.md)
 *
 *	0     header: magic, version, place and checksum of what follows
 *	4096  manifest (JSON: description, regions) | state of CPUs and devices
 *	...   memory, region after region: as it is, from a page on, with holes for zeroes; or
 *packed
 *
 * Written behind a hole at the place of the header, which comes last: a file that is cut short is
 * no snapshot.  Numbers are little-endian.
 *
 * To restore means to map memory from the file, privately: what the guest touches is read then. The
 * file must stay as it is for as long as the machine runs.  Packed memory (vmm/snapshot_pack.c)
 * takes less room and is unpacked at once.  Nothing in the file is trusted.
 */
#pragma once

#include "machine/machine.h"

#include <jansson.h>

#define SNAPSHOT_VERSION  1
#define SNAPSHOT_META_MAX (64u << 20)

struct snapshot;

/* What is written. */
struct snapshot_source {
	json_t *manifest; /* an object; "version" and "regions" are added */
	const void *state;
	size_t state_len;
	const struct machine_region *regions;
	unsigned int n_regions;
	bool packed;
};

/* Into the empty file @fd.  Allocates, but takes no lock of ours: also in a child that fork made.
 */
must_check int snapshot_write(int fd, const struct snapshot_source *src, struct err *e);

/* Reads and checks all but memory; @fd is taken over on success.  @name for messages. */
must_check int snapshot_open(int fd, const char *name, struct snapshot **ret, struct err *e);
void snapshot_free(struct snapshot *s);
/* Valid as long as @s. */
const json_t *snapshot_manifest(const struct snapshot *s);
const void *snapshot_state(const struct snapshot *s, size_t *len);
/* Puts each region's content in its place: of the same names and sizes as were saved. */
must_check int snapshot_map(const struct snapshot *s, const struct machine_region *regions,
			    unsigned int n, struct err *e);
