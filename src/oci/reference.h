/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oci/reference.h - names of images in registries: [HOST[:PORT]/]NAME[:TAG][@DIGEST]
 *
 * The first part is a host when it has a dot or a colon or is "localhost"; without one the registry
 * is docker.io, whose names of one part are below library/.  Without tag and digest the tag is
 * "latest".  Names follow distribution-spec, "Pulling manifests".
 */
#pragma once

#include "base/err.h"

struct reference {
	char *host; /* "docker.io", "127.0.0.1:5000" */
	char *name; /* "library/alpine" */
	char *tag;  /* NULL when there is a digest and no tag */
	char *digest;
};

must_check int reference_parse(const char *text, struct reference *ret, struct err *e);
void reference_fini(struct reference *r);
/* In full: "docker.io/library/alpine:latest". */
char *reference_text(const struct reference *r);
/* Is the host this machine, by name or address?  Those registries speak plain HTTP. */
bool reference_is_loopback(const struct reference *r);
