/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tls/tls.h - TLS 1.2 and 1.3 (RFC 5246, RFC 8446), bytes in and bytes out
 *
 *	socket --bytes--> tls_receive --data--> what speaks inside
 *	socket <--bytes-- tls_send    <--data--
 *
 * GnuTLS does the work; it sees no socket.
 */
#pragma once

#include "base/err.h"
#include "base/strbuf.h"

struct tls_identity; /* a certificate and its key, for any number of connections */
struct tls;

/* @path is a PEM file with the server's private key and its certificate, those of the authorities
 * between it and the root behind it. */
must_check int tls_identity_open(const char *path, struct tls_identity **ret, struct err *e);
void tls_identity_free(struct tls_identity *id);

/* The identity must outlive it. */
struct tls *tls_new(struct tls_identity *id);
/* The client's side, to @host, whose certificate must be for that name or address and signed by one
 * in the PEM file @ca; NULL = by one that the system trusts.  It speaks first: tls_receive of
 * nothing makes what is to be sent. */
must_check int tls_client_new(const char *host, const char *ca, struct tls **ret, struct err *e);
void tls_free(struct tls *t);
/* What came from the peer: content is added to @data, what has to be answered to @out.  -EPROTO:
 * this is no TLS: drop it when @out is sent.  -ESHUTDOWN: the peer said goodbye, and sends no more.
 */
must_check int tls_receive(struct tls *t, const void *bytes, size_t len, struct strbuf *data,
			   struct strbuf *out);
/* The handshake is over: tls_send may be called. */
bool tls_ready(const struct tls *t);
void tls_send(struct tls *t, const void *data, size_t len, struct strbuf *out);
/* Nothing more will be sent; what the peer says still comes. */
void tls_end(struct tls *t, struct strbuf *out);
/* Why the peer was not trusted, for a person; NULL if that was not it. */
const char *tls_distrust(struct tls *t);
