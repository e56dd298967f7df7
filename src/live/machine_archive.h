/* SPDX-License-Identifier: Apache-2.0 */
/*
 * live/machine_archive.h - a machine, or what changed of one, in one file that can be carried away
 *
 * A .tar.zst of plain files, of which the last is "manifest.json": {version, kind, ..., files:
 * {NAME: {size, sha256}}}.  A file that was cut short has none.  Nothing in one is trusted: names
 * are plain and of the manifest's, sizes and checksums are checked.
 */
#pragma once

#include "base/err.h"

#include <jansson.h>

#define MACHINE_ARCHIVE_VERSION   1
#define MACHINE_ARCHIVE_MAX_FILES 64

struct archived_file {
	const char *name, *path;
};

/* Called now and then with the bytes that were read; a negative value ends the work with it. */
struct machine_archive_progress {
	int (*tick)(void *opaque, uint64_t done, uint64_t total);
	void *opaque;
};

/* Makes @path, which must not be there: whole and on stable storage, or not.  "version" and "files"
 * are added to @manifest. */
must_check int machine_archive_write(const char *path, json_t *manifest,
				     const struct archived_file *files, unsigned int n,
				     const struct machine_archive_progress *p, struct err *e);
/* Checks all of it; with @dir, an empty directory, its files are put there.  *@manifest is the
 * caller's.  -EINVAL with words for one that is damaged. */
must_check int machine_archive_read(const char *path, const char *dir,
				    const struct machine_archive_progress *p, json_t **manifest,
				    struct err *e);
