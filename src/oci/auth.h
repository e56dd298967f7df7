/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oci/auth.h - credentials for registries, where other tools keep them (containers-auth.json(5),
 * Docker's config.json)
 */
#pragma once

#include "base/err.h"

/* "user:password" for an image, NULL when there is none; to be freed.  Looks into
 * $REGISTRY_AUTH_FILE, or else $XDG_RUNTIME_DIR/containers/auth.json (/run/containers/UID),
 * ~/.config/containers/auth.json, $DOCKER_CONFIG/config.json, ~/.docker/config.json. */
char *auth_find(const char *host, const char *name);
/* The same in the text of one such file. */
char *auth_parse(const char *text, size_t len, const char *host, const char *name);
