/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oci/registry.h - the HTTP interface of registries (distribution-spec 1.1; tokens as Docker's
 * registry documents them)
 *
 * Registries on this machine's loopback speak HTTP, all others HTTPS; no redirection leads from
 * HTTPS to HTTP.
 */
#pragma once

#include "image/progress.h"
#include "oci/store.h"

struct registry;

/* @write: the token asked for may push. */
must_check int registry_open(const struct reference *ref, bool write, struct progress *p,
			     struct registry **ret, struct err *e);
void registry_close(struct registry *g);

/* The document behind a tag or digest; of a digest it is checked. */
must_check int registry_manifest(struct registry *g, const char *what, struct strbuf *ret,
				 struct err *e);
/* Downloads blobs to the store, several at once, going on where an earlier try ended. */
must_check int registry_blobs(struct registry *g, struct oci_store *s,
			      const struct descriptor *const *list, size_t n, struct err *e);

must_check int registry_has_blob(struct registry *g, const char *digest, bool *ret, struct err *e);
must_check int registry_put_blob(struct registry *g, const char *path, const char *digest,
				 struct err *e);
must_check int registry_put_manifest(struct registry *g, const char *tag, const char *type,
				     const struct strbuf *text, struct err *e);
