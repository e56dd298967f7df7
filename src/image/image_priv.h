/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image/image_priv.h - the parts of the image cache
 */
#pragma once

#include "image/exec.h"
#include "image/image.h"

#include <jansson.h>

#define IMAGE_META_VERSION 1
/* Goes up when what we put into images changes, so that older ones are made anew. */
#define IMAGE_RECIPE 1

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

/* Lines for sources.list of @suite, from the machine's own apt configuration: the archive it uses
 * and, where configured, its updates and security. */
must_check int apt_sources(const char *suite, struct strbuf *ret, struct err *e);
/* The host's own suite, "bookworm" where it is not Debian. */
char *apt_host_suite(void);

/* Writes an uncompressed cpio with the modules under @root/lib/modules/@version that a guest needs
 * to find its disk, network and host, and the list for the agent. */
must_check int initrd_write(const char *root, const char *version, const char *path, struct err *e);

/* Builds @s in the workspace: root.ext4, kernel, initrd, meta.json. */
must_check int image_build(struct image_cache *c, const struct image_source *s,
			   const struct workspace *w, bool refresh, struct progress *p,
			   struct err *e);
/* What a directory tree looks like now, to see whether an image of it is still true. */
char *tree_fingerprint(const char *dir);
/* Hard link, or a copy where that cannot be. */
must_check int link_or_copy(const char *from, const char *to, struct err *e);
