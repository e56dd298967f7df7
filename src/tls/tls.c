/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tls/tls.c - TLS over byte buffers
 */
#include "tls/tls.h"

#include <errno.h>
#include <gnutls/gnutls.h>

#define VERSIONS "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"

struct tls_identity {
	gnutls_certificate_credentials_t credentials;
	gnutls_priority_t priority; /* here, as making it reads files */
};

struct tls {
	gnutls_session_t session;
	gnutls_certificate_credentials_t trust; /* a client's, else NULL */
	char *host;
	gnutls_datum_t distrust;
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

static void connect_buffers(struct tls *t)
{
	gnutls_transport_set_ptr(t->session, t);
	gnutls_transport_set_pull_function(t->session, pull);
	gnutls_transport_set_pull_timeout_function(t->session, pull_timeout);
	gnutls_transport_set_push_function(t->session, push);
}

struct tls *tls_new(struct tls_identity *id)
{
	struct tls *t = xnew(struct tls);

	if (gnutls_init(&t->session, GNUTLS_SERVER | GNUTLS_NONBLOCK) < 0 ||
	    gnutls_priority_set(t->session, id->priority) < 0 ||
	    gnutls_credentials_set(t->session, GNUTLS_CRD_CERTIFICATE, id->credentials) < 0)
		abort(); /* no memory */
	connect_buffers(t);
	return t;
}

static int trust(struct tls *t, const char *ca, struct err *e)
{
	int r = gnutls_certificate_allocate_credentials(&t->trust);

	if (r >= 0 && ca)
		r = gnutls_certificate_set_x509_trust_file(t->trust, ca, GNUTLS_X509_FMT_PEM);
	else if (r >= 0)
		r = gnutls_certificate_set_x509_system_trust(t->trust);
	if (r < 0 || (ca && r == 0))
		return err_msg(e, -EINVAL, "%s: no certificates to trust: %s",
			       ca ? ca : "this system", r < 0 ? gnutls_strerror(r) : "none in it");
	return 0;
}

/* Is it an address?  Those have no place in the server name indication (RFC 6066, 3). */
static bool is_address(const char *host)
{
	return strchr(host, ':') || strspn(host, "0123456789.") == strlen(host);
}

int tls_client_new(const char *host, const char *ca, struct tls **ret, struct err *e)
{
	struct tls *t = xnew(struct tls);
	int r;

	t->host = xstrdup(host);
	if (gnutls_init(&t->session, GNUTLS_CLIENT | GNUTLS_NONBLOCK) < 0 ||
	    gnutls_priority_set_direct(t->session, VERSIONS, NULL) < 0)
		abort();
	connect_buffers(t);
	r = trust(t, ca, e);
	if (r < 0) {
		tls_free(t);
		return r;
	}
	if (gnutls_credentials_set(t->session, GNUTLS_CRD_CERTIFICATE, t->trust) < 0 ||
	    (!is_address(host) &&
	     gnutls_server_name_set(t->session, GNUTLS_NAME_DNS, host, strlen(host)) < 0))
		abort();
	gnutls_session_set_verify_cert(t->session, t->host, 0);
	*ret = t;
	return 0;
}

const char *tls_distrust(struct tls *t)
{
	unsigned int status = gnutls_session_get_verify_cert_status(t->session);

	if (!t->trust || t->ready || !status || status == (unsigned int)-1)
		return NULL;
	gnutls_free(t->distrust.data);
	t->distrust.data = NULL;
	if (gnutls_certificate_verification_status_print(status, GNUTLS_CRT_X509, &t->distrust, 0) <
	    0)
		return NULL;
	return (const char *)t->distrust.data;
}

void tls_end(struct tls *t, struct strbuf *out)
{
	t->out = out;
	(void)!gnutls_bye(t->session, GNUTLS_SHUT_WR);
}

void tls_free(struct tls *t)
{
	if (!t)
		return;
	gnutls_deinit(t->session);
	if (t->trust)
		gnutls_certificate_free_credentials(t->trust);
	gnutls_free(t->distrust.data);
	free(t->host);
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
	/* 0 is the goodbye; a new handshake in the middle is TLS 1.2's oldest hole, while 1.3 sends
	 * tickets there, which GnuTLS tells with the same number as nothing. */
	return n == GNUTLS_E_AGAIN ? 0 : n == 0 ? -ESHUTDOWN : -EPROTO;
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
