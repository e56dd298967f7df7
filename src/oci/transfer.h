/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oci/transfer.h - images into the store and out of it
 */
#pragma once

#include "oci/store.h"

/* Takes the store's lock; the image is in the store afterwards, its layers unpacked. */
must_check int image_pull(struct oci_store *s, const struct reference *ref,
			  const struct platform *want, struct progress *p, struct err *e);
/* The image of that name, pulled first if it is not here; in use until oci_image_fini.  Gives the
 * store's lock back. */
must_check int oci_image_get(struct oci_store *s, const char *name, struct progress *p,
			     struct oci_image *ret, struct err *e);
/* @name is deb:SUITE[+PACKAGE...]: made from the archives, as a machine's image is, and kept by
 * that name. */
must_check int image_import_deb(struct oci_store *s, const char *name, struct progress *p,
				struct err *e);
/* @image goes to @to. */
must_check int image_push(struct oci_store *s, const struct oci_image *image,
			  const struct reference *to, struct progress *p, struct err *e);

/* One archive that is both an OCI layout and what `docker save` writes. */
must_check int image_save(const struct oci_store *s, const struct oci_image *image, int fd,
			  struct err *e);
/* Of either kind.  @fn gets the name of each image loaded; without one it is @fallback. */
must_check int image_load(struct oci_store *s, const char *path, const char *fallback,
			  void (*fn)(void *opaque, const char *reference), void *opaque,
			  struct progress *p, struct err *e);
