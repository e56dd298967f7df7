/* SPDX-License-Identifier: Apache-2.0 */
/*
 * live/snapshots.h - the snapshots of a machine whose files are in a directory of its own
 *
 *	DIR/disk0-2.qcow2              where the machine writes (the link "disk"), and what is below
 *	DIR/snapshots/SNAP.json        {created, disk, memory, parents, description}
 *	DIR/snapshots/mem-1.state      memory and devices (vmm/snapshot.h), beside mem-1.initrd
 *
 * SNAP.json comes last and makes the snapshot one.  "disk" is a file of the machine's that nobody
 * writes to any more: what is written later is in overlays above.  "memory" may hold only what
 * differs from the first of "parents", and that from the next.  Whoever calls keeps others away
 * from the machine.
 */
#pragma once

#include "base/err.h"
#include "live/live.h"

#define SNAPSHOT_CHAIN_MAX 16 /* memory files that one needs: then a whole one is made */

struct snapshot_record {
	char *name;
	char *disk;          /* its file; NULL: the machine has none of its own */
	char *memory;        /* its file; NULL = of the disk only */
	json_t *parents;     /* files that @memory needs, the nearest first */
	int64_t created;     /* seconds since 1970 */
	json_t *description; /* of the machine as it ran; NULL without @memory */
};

void snapshot_record_fini(struct snapshot_record *s);
/* "DIR/snapshots/FILE", the caller's. */
char *snapshot_path(const char *dir, const char *file);
/* Bytes that its memory takes, without what it shares with parents. */
uint64_t snapshot_bytes(const char *dir, const struct snapshot_record *s);
must_check int snapshot_read(const char *dir, const char *name, struct snapshot_record *ret,
			     struct err *e);
/* By name; the caller's. */
must_check int snapshot_read_all(const char *dir, struct snapshot_record **ret, size_t *n,
				 struct err *e);

struct snapshot_request {
	const char *dir, *machine; /* the machine's name, for words */
	const char *name;
	const char *control; /* of the machine that runs; NULL: it does not, the disk is kept */
	bool disk_only;      /* also of one that runs */
	bool compress;
	bool whole;       /* memory that needs no other snapshot's */
	bool keep_initrd; /* the guest may want it when it reboots, and it is gone with this run */
};

/* *@stall_ms: how long the guest stood still.  Cut off, it leaves overlays and files that
 * snapshot_sweep takes away. */
must_check int snapshot_make(const struct snapshot_request *q, double *stall_ms, struct err *e);
/* For struct live_machine, whose opaque is the machine's directory: the link "disk" follows. */
int snapshot_switching(void *dir, const struct live_disks *disks, struct err *e);
void snapshot_not_switched(void *dir, const struct live_disks *disks);
/* An empty overlay over the disk as it was, a file of the machine's: its name, the caller's; to be
 * made the machine's by live_set_disk. */
must_check int snapshot_put_back(const char *dir, const struct snapshot_record *s, char **ret,
				 struct err *e);
must_check int snapshot_remove(const char *dir, const char *name, struct err *e);
/* Memory files that no snapshot names. */
void snapshot_sweep(const char *dir);
/* Names of machines and snapshots. */
must_check int snapshot_check_name(const char *name, struct err *e);
