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
 * takes less room and is unpacked at once.  A file may hold only the pages that differ from another
 * one's (vmm/snapshot_delta.c), its parent.  Nothing in the file is trusted.
 */
#pragma once

#include "machine/machine.h"

#include <jansson.h>

#define SNAPSHOT_VERSION     1
#define SNAPSHOT_META_MAX    (64u << 20)
#define SNAPSHOT_PARENTS_MAX 16

struct snapshot;

/* What is written. */
struct snapshot_source {
	json_t *manifest; /* an object; "version" and "regions" are added */
	const void *state;
	size_t state_len;
	const struct machine_region *regions;
	unsigned int n_regions;
	bool packed;
	/* What this one has is left out, and the file is of use only with that: NULL = none.
	 * @parent_name is its file's, beside the new one. */
	const struct snapshot *parent;
	const char *parent_name;
};

/* Into the empty file @fd.  Allocates, but takes no lock of ours: also in a child that fork made.
 */
must_check int snapshot_write(int fd, const struct snapshot_source *src, struct err *e);

/* Reads and checks all but memory; @fd is taken over on success.  @name for messages. */
must_check int snapshot_open(int fd, const char *name, struct snapshot **ret, struct err *e);
void snapshot_free(struct snapshot *s);
/* The file beside this one without which it is of no use; NULL = none.  Valid as long as @s. */
const char *snapshot_parent_name(const struct snapshot *s);
/* That one; taken over on success.  -EINVAL if it is another one. */
must_check int snapshot_set_parent(struct snapshot *s, struct snapshot *parent, struct err *e);
/* Calls @fn with the descriptor of @s and those of its parents. */
void snapshot_each_fd(const struct snapshot *s, void (*fn)(void *opaque, int fd), void *opaque);
/* Valid as long as @s. */
const json_t *snapshot_manifest(const struct snapshot *s);
const void *snapshot_state(const struct snapshot *s, size_t *len);
/* Puts each region's content in its place: of the same names and sizes as were saved.  @copy: by
 * reading what there is, into memory that is all zeroes, instead of by mapping the file. */
must_check int snapshot_map(const struct snapshot *s, const struct machine_region *regions,
			    unsigned int n, bool copy, struct err *e);
