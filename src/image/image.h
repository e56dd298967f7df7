/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image/image.h - images that machines boot from, and the cache that holds them
 *
 * An image is a root file system with a kernel and an initramfs that boots it.  People name one by
 *
 *	deb:SUITE[+PACKAGE...]   made by mmdebstrap from the archives in the machine's apt
 *configuration DIRECTORY, TAR           a root file system of theirs; a slash makes a name a path
 *	FILE                     a raw disk, used as it is (through an overlay)
 *	ID                       what `insula image list` shows
 *
 * In the cache: images/ID/{meta.json,root.ext4,kernel,initrd}, kernels/SUITE-FLAVOUR/{meta.json,
 * kernel,initrd,lib/modules/VERSION}, locks/, tmp/.  An entry is built in tmp/ and renamed into
 * place, so one that can be seen is whole.  docs/images.md says more.
 */
#pragma once

#include "base/err.h"
#include "image/progress.h"

#include <time.h>

enum image_kind { IMAGE_DEB, IMAGE_DIRECTORY, IMAGE_TAR, IMAGE_DISK, IMAGE_LAYERS };
enum kernel_flavour {
	KERNEL_CLOUD,   /* small and quick to boot */
	KERNEL_GENERIC, /* all drivers; old cloud kernels have no virtio-fs */
};

struct image_source {
	enum image_kind kind;
	char *name;             /* canonical: "deb:bookworm+python3", or an absolute path */
	char *suite, *packages; /* deb: packages sorted, separated by commas, may be "" */
	char *id;
	/* layers: the program that puts them together (oci/unpack_main.c), and they, a line each */
	const char *merger, *layers;
};

struct image {
	char *id, *source;
	enum image_kind kind;
	char *root; /* the disk; for IMAGE_DISK the user's own file */
	char *kernel, *initrd, *kernel_version;
	time_t created;
	uint64_t bytes; /* on disk */
	int lock;       /* held shared while the image is in use; -1 = none */
};

struct kernel {
	char *kernel, *initrd, *version, *dir; /* @dir has lib/modules/VERSION */
};

struct image_cache {
	char *dir;
};

/* $XDG_CACHE_HOME/insula, or /var/cache/insula for root.  Makes it, and removes what builds that
 * were killed left in it. */
must_check int image_cache_open(struct image_cache *ret, struct err *e);
void image_cache_fini(struct image_cache *c);

/* What @name means; looks at the file if it is a path. */
must_check int image_source_parse(const char *name, struct image_source *ret, struct err *e);
void image_source_fini(struct image_source *s);

/* The image of that name, built first if it is missing or @refresh; in use until image_fini. */
must_check int image_get(struct image_cache *c, const char *name, bool refresh, struct progress *p,
			 struct image *ret, struct err *e);
/* The same of unpacked layers, by an @id of their own.  @name is for people. */
must_check int image_get_layers(struct image_cache *c, const char *id, const char *name,
				const char *merger, const char *layers, struct progress *p,
				struct image *ret, struct err *e);
/* The root file system of @name, deb:SUITE[+PACKAGE...], as a tar at @path, made anew. */
must_check int image_write_tar(struct image_cache *c, const char *name, const char *path,
			       struct progress *p, struct err *e);
/* Only what is in the cache: an ID or a name; -ENOENT with words when it is not. */
must_check int image_find(struct image_cache *c, const char *name, struct image *ret,
			  struct err *e);
/* -EBUSY while a machine uses it. */
must_check int image_remove(struct image_cache *c, const char *name, struct err *e);
/* Calls @fn for each image, sorted by ID. */
must_check int image_each(struct image_cache *c, void (*fn)(void *opaque, const struct image *),
			  void *opaque, struct err *e);
void image_fini(struct image *i);
const char *image_kind_name(enum image_kind k);

/* What a machine of its own needs of @i: disk.raw, kernel and modules, into @dir; synced. */
must_check int image_install(const struct image *i, const char *dir, struct err *e);
/* A file's copy that appears whole or not at all, sharing blocks where the file system can. */
must_check int image_copy(const char *from, const char *to, struct err *e);

/* A kernel of Debian's @suite (NULL: the host's own suite), downloaded first if missing. */
must_check int kernel_get(struct image_cache *c, const char *suite, enum kernel_flavour flavour,
			  bool refresh, struct progress *p, struct kernel *ret, struct err *e);
void kernel_fini(struct kernel *k);
/* Does the kernel's initrd bring module @name? */
bool initrd_has_module(const char *path, const char *name);
/* Writes the initramfs of a machine to @path: @modules, then the agent with @config (JSON). */
must_check int initrd_add_agent(const char *modules, const char *config, const char *path,
				struct err *e);
