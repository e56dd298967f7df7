/* SPDX-License-Identifier: Apache-2.0 */
/*
 * live/lineage.h - which disk files machines need: what they write to, what their snapshots hold,
 * and what lies below those, in whosever directory
 *
 * A file is removed when no machine needs it: nothing is counted, what there is is looked at.
 */
#pragma once

#include "base/err.h"

struct lineage {
	char **path; /* whole paths */
	size_t n, room;
};

void lineage_fini(struct lineage *l);
/* The machine with its files in @dir.  What cannot be read is a failure: it is not to be judged by.
 */
must_check int lineage_add(struct lineage *l, const char *dir, struct err *e);
/* All of the directories, and links to such, in @parent ("machines"). */
must_check int lineage_add_all(struct lineage *l, const char *parent, struct err *e);
/* Is any file of @dir in it? */
bool lineage_needs(const struct lineage *l, const char *dir);
/* Removes disk files in @dir that are not in it; with @all every other file and directory too.
 * Returns how many files of @dir are in it. */
size_t lineage_sweep(const struct lineage *l, const char *dir, bool all);

/* Is a file of that name an overlay of live_overlay_make's? */
bool lineage_is_disk(const char *name);
/* The machine in @dir writes to @file of that directory from now on; lasts. */
must_check int live_set_disk(const char *dir, const char *file, struct err *e);
/* An empty overlay over @base, a whole path, named "disk@number-K.qcow2" in @dir; @size 0 = as
 * @base.  *@ret = its path, the caller's. */
must_check int live_overlay_make(const char *dir, unsigned int number, const char *base,
				 const char *format, uint64_t size, char **ret, struct err *e);
