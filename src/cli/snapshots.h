/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/snapshots.h - snapshots of named machines: machines/NAME/snapshots/SNAP.{json,state,initrd}
 *
 * SNAP.json comes last and makes the snapshot one: {disk, created, state, description}.  "disk" is
 * a file of the machine's that nobody writes to any more: what is written later is in overlays
 * above.
 */
#pragma once

#include "base/err.h"
#include "cli/run.h"

struct snapshot_record {
	char *name, *disk; /* file names */
	int64_t created;   /* seconds since 1970 */
	bool state;        /* memory and devices, too */
	json_t *description;
};

void snapshot_record_fini(struct snapshot_record *s);
/* "machines/NAME/snapshots/SNAP.SUFFIX" */
char *snapshot_file(const char *machine, const char *snapshot, const char *suffix);
must_check int snapshot_read(const char *machine, const char *snapshot, struct snapshot_record *ret,
			     struct err *e);
/* By name; the caller's. */
must_check int snapshot_read_all(const char *machine, struct snapshot_record **ret, size_t *n,
				 struct err *e);
/* Of a running machine with memory, else of its disk.  *@stall_ms: how long the guest stood still.
 */
must_check int snapshot_make(const char *machine, const char *snapshot, bool compress,
			     double *stall_ms, struct err *e);
/* The machine, which does not run (its name is claimed), goes on from its disk as it was. */
must_check int snapshot_put_back(const char *machine, const struct snapshot_record *s,
				 struct err *e);
must_check int snapshot_remove(const char *machine, const char *snapshot, struct err *e);
/* An empty overlay over @disk (a whole path) in @machine's directory: its file name, the caller's.
 */
must_check int snapshot_overlay(const char *machine, const char *disk, char **ret, struct err *e);
/* Names of machines and snapshots. */
must_check int snapshot_check_name(const char *name, struct err *e);
