/* SPDX-License-Identifier: Apache-2.0 */
/*
 * display/tls.c - the server's side of TLS over byte buffers
 */
#include "display/tls.h"

#include <errno.h>
#include <gnutls/gnutls.h>

#define VERSIONS "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"

struct tls_identity {
	gnutls_certificate_credentials_t credentials;
	gnutls_priority_t priority; /* here, as making it reads files */
};

struct tls {
	gnutls_session_t session;
	bool ready;
	/* During a call: what is left of the peer's bytes, and where ours go. */
	const uint8_t *in;
	size_t in_len;
	struct strbuf *out;
};

int tls_identity_open(const char *path, struct tls_identity **ret, struct err *e)
{
	struct tls_identity *id = xnew(struct tls_identity);
	int r = gnutls_certificate_allocate_credentials(&id->credentials);

	if (r >= 0)
		r = gnutls_certificate_set_x509_key_file(id->credentials, path, path,
							 GNUTLS_X509_FMT_PEM);
	if (r >= 0)
		r = gnutls_priority_init(&id->priority, VERSIONS, NULL);
	if (r < 0) {
		tls_identity_free(id);
		return err_msg(e, -EINVAL, "%s: no certificate with its key: %s", path,
			       gnutls_strerror(r));
	}
	*ret = id;
	return 0;
}

void tls_identity_free(struct tls_identity *id)
{
	if (!id)
		return;
	if (id->priority)
		gnutls_priority_deinit(id->priority);
	if (id->credentials)
		gnutls_certificate_free_credentials(id->credentials);
	free(id);
}

/* --- what GnuTLS takes for a socket --- */

static ssize_t pull(gnutls_transport_ptr_t opaque, void *buf, size_t len)
{
	struct tls *t = opaque;
	size_t n = MIN(len, t->in_len);

	if (!n) {
		gnutls_transport_set_errno(t->session, EAGAIN);
		return -1;
	}
	memcpy(buf, t->in, n);
	t->in += n;
	t->in_len -= n;
	return (ssize_t)n;
}

static int pull_timeout(gnutls_transport_ptr_t opaque, unsigned int ms)
{
	return ((struct tls *)opaque)->in_len > 0;
}

static ssize_t push(gnutls_transport_ptr_t opaque, const void *buf, size_t len)
{
	strbuf_add(((struct tls *)opaque)->out, buf, len);
	return (ssize_t)len;
}

struct tls *tls_new(struct tls_identity *id)
{
	struct tls *t = xnew(struct tls);

	if (gnutls_init(&t->session, GNUTLS_SERVER | GNUTLS_NONBLOCK) < 0 ||
	    gnutls_priority_set(t->session, id->priority) < 0 ||
	    gnutls_credentials_set(t->session, GNUTLS_CRD_CERTIFICATE, id->credentials) < 0)
		abort(); /* no memory */
	gnutls_transport_set_ptr(t->session, t);
	gnutls_transport_set_pull_function(t->session, pull);
	gnutls_transport_set_pull_timeout_function(t->session, pull_timeout);
	gnutls_transport_set_push_function(t->session, push);
	return t;
}

void tls_free(struct tls *t)
{
	if (!t)
		return;
	gnutls_deinit(t->session);
	free(t);
}

bool tls_ready(const struct tls *t)
{
	return t->ready;
}

static int shake_hands(struct tls *t)
{
	int r;

	do
		r = gnutls_handshake(t->session);
	while (r < 0 && r != GNUTLS_E_AGAIN && !gnutls_error_is_fatal(r));
	if (r == GNUTLS_E_AGAIN)
		return 0;
	if (r < 0) {
		gnutls_alert_send_appropriate(t->session, r);
		return -EPROTO;
	}
	t->ready = true;
	return 0;
}

int tls_receive(struct tls *t, const void *bytes, size_t len, struct strbuf *data,
		struct strbuf *out)
{
	char buf[4096];
	ssize_t n;

	t->in = bytes;
	t->in_len = len;
	t->out = out;
	if (!t->ready && shake_hands(t) < 0)
		return -EPROTO;
	if (!t->ready)
		return 0;
	while ((n = gnutls_record_recv(t->session, buf, sizeof(buf))) > 0)
		strbuf_add(data, buf, (size_t)n);
	/* 0 is the goodbye; a new handshake in the middle is TLS 1.2's oldest hole. */
	return n == GNUTLS_E_AGAIN ? 0 : -EPROTO;
}

void tls_send(struct tls *t, const void *data, size_t len, struct strbuf *out)
{
	const char *p = data;

	t->out = out;
	while (len) {
		ssize_t n = gnutls_record_send(t->session, p, len);

		if (n <= 0)
			return; /* the session is broken: the next tls_receive says so */
		p += n;
		len -= (size_t)n;
	}
}
