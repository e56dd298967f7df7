/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/client_remote.h - an insulad elsewhere: TLS, and a token (docs/daemon.md)
 *
 * Which one: `insula --host`, else $INSULA_HOST: https://HOST[:PORT], or a name in hosts.json of
 * $XDG_CONFIG_HOME/insula, {"NAME": {"url", "token", "ca"}}.  $INSULA_TOKEN and $INSULA_CA go
 * before what is written there.
 */
#pragma once

#include "base/err.h"

#define REMOTE_PORT "7443"

/* Whether commands ask an insulad elsewhere; its files are not ours. */
bool client_is_remote(void);
/* A connected socket, on which the other end speaks as if it were near. */
must_check int client_remote_connect(struct err *e);
/* The header that shows the token, with its line's end; "" for an insulad that is near.  The
 * caller's. */
must_check int client_authorization(char **ret, struct err *e);
