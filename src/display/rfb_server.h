/* SPDX-License-Identifier: Apache-2.0 */
/*
 * display/rfb_server.h - the VNC server: a listening socket and its viewers
 *
 * TCP or unix; each connection is RFB, or a WebSocket that carries it when its first bytes are an
 * HTTP request.  With a certificate nothing is said in the clear: viewers speak VeNCrypt, browsers
 * https.  Screens are painted only while a viewer waits for changes, up to 30 times a
 * second, ten times when nothing happens.
 */
#pragma once

#include "base/loop.h"
#include "display/rfb.h"

#define RFB_VIEWERS 16

struct rfb_server;
struct tls_identity;

/* @fd listens, non-blocking; taken over, also on failure.  @id may be NULL (no TLS); it must
 * outlive the server. */
must_check int rfb_server_new(struct loop *l, int fd, const struct rfb_config *cfg,
			      struct tls_identity *id, struct rfb_server **ret, struct err *e);
void rfb_server_free(struct rfb_server *s);
/* How many look. */
unsigned int rfb_server_viewers(const struct rfb_server *s);
