/* SPDX-License-Identifier: Apache-2.0 */
/*
 * api/remote.h - insulad over TCP: TLS outside, and a connection like those of the socket inside
 *
 *	client --TCP, TLS--> remote <--socketpair--> conn (api_priv.h)
 *
 * So nothing but this file knows of TLS.  Who connects is nobody until a request names a token
 * (daemon/token.h), and is dropped when none does for a while.
 */
#pragma once

#include "api/api.h"

struct remote; /* the listener */

/* @address is ADDRESS:PORT, [ADDRESS]:PORT for IPv6; @pem holds the certificate and its key. */
must_check int remote_new(struct api *a, const char *address, const char *pem, struct remote **ret,
			  struct err *e);
/* Before the API is freed. */
void remote_free(struct remote *r);
