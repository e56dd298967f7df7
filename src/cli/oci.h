/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/oci.h - images of registries, as the commands use them
 */
#pragma once

#include "oci/store.h"

struct cli_store {
	struct image_cache cache;
	struct oci_store store;
	char *unpacker;
};

must_check int cli_store_open(struct cli_store *ret, struct err *e);
void cli_store_close(struct cli_store *s);
/* Is @name one of a registry?  False for deb:, paths, and what the image cache has.  A single word
 * is one only if it is here already: a slip of the fingers should ask no registry. */
bool cli_is_registry_image(struct cli_store *s, const char *name);

/* Rows of `insula image list`, and what `image inspect` says. */
json_t *cli_describe_oci(const struct oci_image *i);
void cli_list_oci(const struct oci_image *i, bool ids);
