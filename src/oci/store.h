/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oci/store.h - images of registries in the cache: content by digest, layers unpacked once
 *
 *	oci/blobs/HEX          manifests, configurations, layers as they came
 *	oci/partial/HEX        layers half pulled, to go on with
 *	oci/layers/HEX/fs      unpacked, by the digest of the uncompressed layer
 *	oci/refs/KEY.json      {reference, manifest, created}: what keeps the rest
 *	oci/pins/ID            a link to what was made from an image and needs its layers
 *
 * Everything is written elsewhere and renamed into place.  Whoever changes the store holds its
 * lock; who runs an image holds the image's own, so that it cannot be removed.
 */
#pragma once

#include "base/strbuf.h"
#include "image/cache.h"
#include "oci/digest.h"
#include "oci/manifest.h"
#include "oci/reference.h"

struct oci_store {
	struct image_cache *cache;
	const char *unpacker; /* path of insula-unpack */
	int lock;             /* -1 = not held */
};

struct oci_image {
	char *reference; /* in full; "" when another image took its name */
	char *digest;    /* of the manifest */
	struct manifest manifest;
	struct image_config config;
	uint64_t bytes; /* of layers and configuration, as pulled */
	time_t created;
	int use; /* lock, -1 = none */
};

/* Makes the directories.  @cache and @unpacker outlive the store. */
must_check int oci_store_open(struct image_cache *cache, const char *unpacker,
			      struct oci_store *ret, struct err *e);
void oci_store_close(struct oci_store *s);
/* Waits for another that changes the store, telling so. */
must_check int oci_store_lock(struct oci_store *s, struct progress *p, struct err *e);

char *oci_store_blob(const struct oci_store *s, const char *digest);
char *oci_store_partial(const struct oci_store *s, const char *digest);
char *oci_store_layer(const struct oci_store *s, const char *diff_id);
bool oci_store_has(const struct oci_store *s, const char *digest);
/* Bytes as a blob. */
must_check int oci_store_put(struct oci_store *s, const void *data, size_t len,
			     struct digest_text *ret, struct err *e);
/* A whole file, renamed into the store once its digest is seen to be @digest. */
must_check int oci_store_adopt(struct oci_store *s, const char *path, const char *digest,
			       struct err *e);
/* A document, its digest checked. */
must_check int oci_store_read(const struct oci_store *s, const char *digest, struct strbuf *ret,
			      struct err *e);

/* Gives the image a name; one that had it keeps none. */
must_check int oci_store_tag(struct oci_store *s, const char *reference, const char *manifest,
			     struct err *e);
/* By name, or by the first digits (12 or more) of the manifest's digest.  -ENOENT. */
must_check int oci_store_find(const struct oci_store *s, const char *name, struct oci_image *ret,
			      struct err *e);
must_check int oci_store_load(const struct oci_store *s, const char *manifest,
			      struct oci_image *ret, struct err *e);
void oci_image_fini(struct oci_image *i);
/* From here to oci_image_fini it cannot be removed. */
must_check int oci_image_use(const struct oci_store *s, struct oci_image *i, struct err *e);
must_check int oci_store_each(const struct oci_store *s,
			      void (*fn)(void *opaque, const struct oci_image *i), void *opaque,
			      struct err *e);

/* What is in @dir, whose image.json says "manifest", needs that image as long as it is there; by an
 * @id of its own. */
#define OCI_PIN_FILE "image.json"
must_check int oci_store_pin(const struct oci_store *s, const char *id, const char *dir,
			     struct err *e);

/* Forgets the name; -EBUSY while the image is in use.  The content goes with oci_store_prune. */
must_check int oci_store_remove(struct oci_store *s, const char *name, struct err *e);
/* Removes images without a name that nobody uses, then all content of no image.  @freed in bytes.
 */
must_check int oci_store_prune(struct oci_store *s, uint64_t *freed, struct err *e);

/* Unpacks the layers that are not there yet. */
must_check int oci_store_unpack(struct oci_store *s, const struct oci_image *i, struct progress *p,
				struct err *e);

/* One layer. */
must_check int oci_store_unpack_layer(struct oci_store *s, const char *digest, const char *diff_id,
				      struct progress *p, struct err *e);

/* A disk for machines with what the layers hold, made at the first call. */
must_check int oci_store_disk(const struct oci_store *s, const struct oci_image *i,
			      struct progress *p, struct image *ret, struct err *e);
