/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oci/auth.h - credentials for registries, where other tools keep them (containers-auth.json(5),
 * Docker's config.json)
 */
#pragma once

#include "base/err.h"

/* "user:password" for an image, NULL when there is none; to be freed.  Looks into
 * $REGISTRY_AUTH_FILE, or else $XDG_RUNTIME_DIR/containers/auth.json (/run/containers/UID),
 * ~/.config/containers/auth.json, $DOCKER_CONFIG/config.json, ~/.docker/config.json.  In each a
 * helper for that very registry (credHelpers) goes first, then what the file has itself, then the
 * helper for all (credsStore). */
char *auth_find(const char *host, const char *name);
/* The same in the text of one such file. */
char *auth_parse(const char *text, size_t len, const char *host, const char *name);
/* Which helper such a file names: for @host alone, or for all (@all); NULL, or to be freed. */
char *auth_helper(const char *text, size_t len, const char *host, bool all);

/* auth_helper.c: "user:password" from the program docker-credential-HELPER. */
char *auth_ask(const char *helper, const char *host);
/* The same from what one answered. */
char *auth_answer_parse(const char *text, size_t len);
