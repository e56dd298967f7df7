/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image/cache.h - making and locking entries of the image cache
 */
#pragma once

#include "image/image.h"

#include <jansson.h>

/* A place under tmp/ to build in, protected from the sweep of stale ones by a lock. */
struct workspace {
	char *dir;
	int lock;
};

must_check int workspace_make(const struct image_cache *c, struct workspace *ret, struct err *e);
/* Deletes what is still there. */
void workspace_fini(struct workspace *w);
/* Renames the workspace to @entry, such as images/ID, in the place of what was there. */
must_check int workspace_publish(struct workspace *w, const struct image_cache *c,
				 const char *entry, struct err *e);

enum cache_lock { CACHE_LOCK_USE, CACHE_LOCK_BUILD };
/* The lock file of an entry.  @exclusive and @wait as for flock; -EBUSY if taken and not @wait. */
must_check int cache_lock(const struct image_cache *c, enum cache_lock kind, const char *id,
			  bool exclusive, bool wait, int *ret, struct err *e);
/* For building: waits, saying so to the person. */
must_check int cache_lock_build(const struct image_cache *c, const char *id, struct progress *p,
				int *ret, struct err *e);

/* -ENOSPC with words when @dir's file system has less than @needed bytes left. */
must_check int cache_check_space(const char *dir, const char *what, uint64_t needed, struct err *e);

must_check int json_write(const char *path, json_t *object, struct err *e);
json_t *json_read(const char *path);
const char *json_text(const json_t *object, const char *key);
