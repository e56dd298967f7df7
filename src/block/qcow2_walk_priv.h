/* SPDX-License-Identifier: Apache-2.0 */
/*
 * block/qcow2_walk_priv.h - going through all that a table refers to; slow held, nothing
 * uncommitted
 */
#pragma once

#include "block/qcow2_priv.h"

struct q_walk_item {
	bool is_table;        /* an L1 entry, else one of an L2 table */
	bool bad;             /* what it says cannot be */
	uint64_t raw, host;   /* host: of a table */
	uint64_t cluster;     /* guest cluster */
	struct q_entry entry; /* of an L2 table */
};

/* Calls @fn for each entry that refers to something, tables before what is in them, until it
 * returns non-zero. */
must_check int q_walk(struct qcow2 *q, uint64_t l1_offset, uint32_t l1_size,
		      int (*fn)(void *opaque, const struct q_walk_item *it), void *opaque);
/* Sets COPIED in the disk's L1 and L2 entries where the refcount is one, and only there. */
must_check int q_flags_set(struct qcow2 *q);
/* Takes all COPIED flags of the disk away. */
must_check int q_flags_clear(struct qcow2 *q);
/* Forgets what is in memory of the tables, reads them again. */
must_check int q_tables_reload(struct qcow2 *q, struct err *e);
/* Commits until nothing is left to write or to free. */
must_check int q_commit_all(struct qcow2 *q);

/* qcow2_bitmap.c: every range of the file that bitmaps take. */
must_check int q_bitmaps_walk(struct qcow2 *q, int (*fn)(void *opaque, uint64_t host, uint64_t len),
			      void *opaque);
