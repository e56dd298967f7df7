/* SPDX-License-Identifier: Apache-2.0 */
/*
 * api/api.h - the REST face of insulad: HTTP/1.1 on a unix socket (docs/daemon.md)
 *
 * Each request finds its row in the table of operations, is checked against it and runs in a thread
 * of its own; all sockets are the loop's.  Who may do what is the kernel's word about the peer
 * (SO_PEERCRED): the daemon's own user and root are admins, others that the socket's mode lets in
 * are operators.
 */
#pragma once

#include "daemon/operations.h"

struct api;

/* Takes over @fd, a listening socket. */
must_check int api_new(struct daemon *d, int fd, struct api **ret, struct err *e);
void api_free(struct api *a);
/* Nobody is connected; *@since = when (clock_now) the last one left. */
bool api_is_idle(const struct api *a, uint64_t *since);

/* openapi.c: the document (OpenAPI 3.1), written from the table; the caller's. */
json_t *api_openapi(void);
