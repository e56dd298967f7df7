/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image/image_priv.h - the parts of the image cache
 */
#pragma once

#include "image/cache.h"
#include "image/exec.h"
#include "image/image.h"

#define IMAGE_META_VERSION 1
/* Goes up when what we put into images changes, so that older ones are made anew. */
#define IMAGE_RECIPE 1

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
