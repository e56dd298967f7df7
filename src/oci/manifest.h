/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oci/manifest.h - indexes, manifests and configurations of images (image-spec image-index.md,
 * manifest.md, config.md; Docker's "image manifest version 2, schema 2", which differs in names
 * alone)
 *
 * All come from strangers: sizes are bounded, digests are checked to be digests, unknown keys are
 * ignored.
 */
#pragma once

#include "base/err.h"

#define OCI_DOCUMENT_MAX (4u << 20) /* bytes of an index, manifest or configuration */
#define OCI_LAYERS_MAX   512

#define OCI_TYPE_INDEX       "application/vnd.oci.image.index.v1+json"
#define OCI_TYPE_MANIFEST    "application/vnd.oci.image.manifest.v1+json"
#define OCI_TYPE_CONFIG      "application/vnd.oci.image.config.v1+json"
#define OCI_TYPE_LAYER       "application/vnd.oci.image.layer.v1.tar"
#define DOCKER_TYPE_INDEX    "application/vnd.docker.distribution.manifest.list.v2+json"
#define DOCKER_TYPE_MANIFEST "application/vnd.docker.distribution.manifest.v2+json"

struct descriptor {
	char *type; /* media type, may be "" */
	char *digest;
	uint64_t size;
};

struct manifest {
	struct descriptor config;
	struct descriptor *layers; /* the lowest first */
	size_t n_layers;
};

struct platform {
	const char *os, *architecture, *variant; /* variant may be NULL = any */
};

/* An index leads to one manifest: the first that fits @want. */
struct document {
	bool is_index;
	struct descriptor chosen; /* of an index */
	struct manifest manifest; /* else */
};

struct strings {
	char **v; /* ends with NULL */
	size_t n;
};

struct image_config {
	char *os, *architecture;
	struct strings diff_ids;
	struct strings env, entrypoint, cmd, ports;
	char *workdir, *user, *stop_signal; /* "" when not given */
};

/* "linux/amd64", "linux/arm64/v8"; parts point into @text, which is cut up. */
must_check int platform_parse(char *text, struct platform *ret, struct err *e);
/* What this machine runs. */
struct platform platform_host(void);

must_check int document_parse(const char *text, size_t len, const struct platform *want,
			      struct document *ret, struct err *e);
void document_fini(struct document *d);
must_check int image_config_parse(const char *text, size_t len, struct image_config *ret,
				  struct err *e);
void image_config_fini(struct image_config *c);
