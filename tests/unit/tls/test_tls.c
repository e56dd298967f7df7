/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/tls/test_tls.c - our side of TLS against GnuTLS' client, byte by byte and in one
 * piece; what is no certificate; what is no TLS
 */
#include "tls/tls.h"

#include "test.h"

#include <errno.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdio.h>

static char path[] = "/tmp/insula-test-tls-XXXXXX";

static void write_part(FILE *f, gnutls_datum_t *d)
{
	CHECK_EQ(fwrite(d->data, 1, d->size, f), d->size);
	gnutls_free(d->data);
}

/* A key and a certificate that it signed itself. */
static void make_identity(void)
{
	gnutls_x509_privkey_t key;
	gnutls_x509_crt_t crt;
	gnutls_datum_t pem;
	FILE *f = fdopen(mkstemp(path), "w");

	CHECK(f);
	gnutls_x509_privkey_init(&key);
	CHECK_EQ(gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA,
					      GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0),
		 0);
	gnutls_x509_crt_init(&crt);
	gnutls_x509_crt_set_version(crt, 3);
	gnutls_x509_crt_set_serial(crt, "\1", 1);
	gnutls_x509_crt_set_activation_time(crt, 0);
	gnutls_x509_crt_set_expiration_time(crt, 0x7fffffff);
	gnutls_x509_crt_set_key(crt, key);
	gnutls_x509_crt_set_dn(crt, "CN=test", NULL);
	CHECK_EQ(gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_DNSNAME, "test.example", 12,
						      GNUTLS_FSAN_SET),
		 0);
	CHECK_EQ(gnutls_x509_crt_sign2(crt, crt, key, GNUTLS_DIG_SHA256, 0), 0);
	CHECK_EQ(gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, &pem), 0);
	write_part(f, &pem);
	CHECK_EQ(gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &pem), 0);
	write_part(f, &pem);
	fclose(f);
	gnutls_x509_crt_deinit(crt);
	gnutls_x509_privkey_deinit(key);
}

struct client {
	gnutls_session_t session;
	gnutls_certificate_credentials_t credentials;
	struct strbuf to_server, from_server;
};

static ssize_t client_pull(gnutls_transport_ptr_t opaque, void *buf, size_t len)
{
	struct client *c = opaque;
	size_t n = MIN(len, c->from_server.len);

	if (!n) {
		gnutls_transport_set_errno(c->session, EAGAIN);
		return -1;
	}
	memcpy(buf, c->from_server.data, n);
	strbuf_consume(&c->from_server, n);
	return (ssize_t)n;
}

static int client_pull_timeout(gnutls_transport_ptr_t opaque, unsigned int ms)
{
	return ((struct client *)opaque)->from_server.len > 0;
}

static ssize_t client_push(gnutls_transport_ptr_t opaque, const void *buf, size_t len)
{
	strbuf_add(&((struct client *)opaque)->to_server, buf, len);
	return (ssize_t)len;
}

static void client_init(struct client *c, const char *versions)
{
	memset(c, 0, sizeof(*c));
	CHECK_EQ(gnutls_init(&c->session, GNUTLS_CLIENT | GNUTLS_NONBLOCK), 0);
	CHECK_EQ(gnutls_priority_set_direct(c->session, versions, NULL), 0);
	gnutls_certificate_allocate_credentials(&c->credentials);
	gnutls_credentials_set(c->session, GNUTLS_CRD_CERTIFICATE, c->credentials);
	gnutls_transport_set_ptr(c->session, c);
	gnutls_transport_set_pull_function(c->session, client_pull);
	gnutls_transport_set_pull_timeout_function(c->session, client_pull_timeout);
	gnutls_transport_set_push_function(c->session, client_push);
}

static void client_fini(struct client *c)
{
	gnutls_deinit(c->session);
	gnutls_certificate_free_credentials(c->credentials);
	strbuf_fini(&c->to_server);
	strbuf_fini(&c->from_server);
}

static int deliver(struct client *c, struct tls *t, size_t piece, struct strbuf *data)
{
	int r = 0;

	while (c->to_server.len && r == 0) {
		size_t n = MIN(piece, c->to_server.len);

		r = tls_receive(t, c->to_server.data, n, data, &c->from_server);
		strbuf_consume(&c->to_server, n);
	}
	return r;
}

static void test_talk(struct tls_identity *id, const char *versions, size_t piece)
{
	struct tls *t = tls_new(id);
	struct strbuf data = {0};
	static char big[100000], got[sizeof(big)];
	struct client c;
	size_t n = 0;

	client_init(&c, versions);
	for (int turns = 0, r = -1; r < 0 && turns < 10; turns++) {
		r = gnutls_handshake(c.session);
		CHECK(r == GNUTLS_E_AGAIN || r == 0);
		CHECK_EQ(deliver(&c, t, piece, &data), 0);
	}
	CHECK(tls_ready(t));
	CHECK_EQ(gnutls_record_send(c.session, "question", 8), 8);
	CHECK_EQ(deliver(&c, t, piece, &data), 0);
	CHECK(data.len == 8 && memcmp(data.data, "question", 8) == 0);
	memset(big, 'x', sizeof(big));
	tls_send(t, big, sizeof(big), &c.from_server);
	CHECK(!memmem(c.from_server.data, c.from_server.len, "xxxxxxxx", 8));
	while (n < sizeof(got)) {
		ssize_t r = gnutls_record_recv(c.session, got + n, sizeof(got) - n);

		CHECK(r > 0 || r == GNUTLS_E_AGAIN);
		n += r > 0 ? (size_t)r : 0;
	}
	CHECK(memcmp(got, big, sizeof(big)) == 0);
	/* The goodbye. */
	gnutls_bye(c.session, GNUTLS_SHUT_WR);
	CHECK_EQ(deliver(&c, t, piece, &data), -ESHUTDOWN);
	client_fini(&c);
	tls_free(t);
	strbuf_fini(&data);
}

static void test_old_versions(struct tls_identity *id)
{
	struct tls *t = tls_new(id);
	struct strbuf data = {0};
	struct client c;

	client_init(&c, "NORMAL:-VERS-ALL:+VERS-TLS1.1:%COMPAT");
	(void)gnutls_handshake(c.session);
	CHECK_EQ(deliver(&c, t, SIZE_MAX, &data), -EPROTO);
	CHECK(c.from_server.len && c.from_server.data[0] == 0x15); /* told so: an alert */
	CHECK(!tls_ready(t));
	client_fini(&c);
	tls_free(t);
}

static void test_no_tls(struct tls_identity *id)
{
	struct tls *t = tls_new(id);
	struct strbuf data = {0}, out = {0};

	CHECK_EQ(tls_receive(t, "GET / HTTP/1.1\r\n\r\n", 18, &data, &out), -EPROTO);
	CHECK_EQ(data.len, 0);
	tls_free(t);
	strbuf_fini(&out);
}

/* Both ends of ours: what each makes goes to the other, until neither has anything to say. */
static int talk(struct tls *client, struct tls *server, struct strbuf *to_server,
		struct strbuf *at_client, struct strbuf *at_server)
{
	struct strbuf to_client = {0}, next = {0};
	int r = 0;

	while (r == 0 && (to_server->len || to_client.len)) {
		r = tls_receive(server, to_server->data, to_server->len, at_server, &to_client);
		strbuf_fini(to_server);
		if (r == -ESHUTDOWN)
			r = 0;
		if (r == 0)
			r = tls_receive(client, to_client.data ? to_client.data : "", to_client.len,
					at_client, &next);
		strbuf_fini(&to_client);
		*to_server = next;
		next = (struct strbuf){0};
	}
	return r;
}

static int shake_hands(struct tls *client, struct tls *server)
{
	struct strbuf out = {0}, a = {0}, b = {0};
	int r = tls_receive(client, "", 0, &a, &out);

	r = r < 0 ? r : talk(client, server, &out, &a, &b);
	strbuf_fini(&out);
	CHECK(a.len == 0 && b.len == 0);
	return r;
}

static void test_client(struct tls_identity *id)
{
	struct strbuf out = {0}, back = {0}, a = {0}, b = {0};
	struct tls *client, *server = tls_new(id);
	struct err e = {0};

	CHECK_EQ(tls_client_new("test.example", path, &client, &e), 0);
	CHECK_EQ(shake_hands(client, server), 0);
	CHECK(tls_ready(client) && tls_ready(server) && !tls_distrust(client));
	tls_send(client, "question", 8, &out);
	/* One end says goodbye, and still hears the other. */
	tls_end(client, &out);
	CHECK_EQ(tls_receive(server, out.data, out.len, &b, &back), -ESHUTDOWN);
	CHECK(b.len == 8 && memcmp(b.data, "question", 8) == 0);
	tls_send(server, "answer", 6, &back);
	tls_end(server, &back);
	CHECK_EQ(tls_receive(client, back.data, back.len, &a, &out), -ESHUTDOWN);
	CHECK(a.len == 6 && memcmp(a.data, "answer", 6) == 0);
	tls_free(client);
	tls_free(server);
	strbuf_fini(&out);
	strbuf_fini(&back);
	strbuf_fini(&a);
	strbuf_fini(&b);
}

/* Another name, and nobody who signed it: words for a person, and no connection. */
static void test_distrust(struct tls_identity *id)
{
	struct tls *client, *server = tls_new(id);
	struct err e = {0};

	CHECK_EQ(tls_client_new("other.example", path, &client, &e), 0);
	CHECK(shake_hands(client, server) < 0 && !tls_ready(client));
	CHECK(tls_distrust(client));
	tls_free(client);
	tls_free(server);
	CHECK_EQ(tls_client_new("test.example", "/dev/null", &client, &e), -EINVAL);
	CHECK(strstr(e.msg, "/dev/null"));
}

static void test_no_identity(void)
{
	struct tls_identity *id = NULL;
	struct err e = {0};

	CHECK_EQ(tls_identity_open("/dev/null", &id, &e), -EINVAL);
	CHECK(!id && strstr(e.msg, "/dev/null"));
	CHECK_EQ(tls_identity_open("/nonexistent", &id, &e), -EINVAL);
}

int main(void)
{
	struct tls_identity *id;
	struct err e = {0};

	make_identity();
	CHECK_EQ(tls_identity_open(path, &id, &e), 0);
	test_client(id);
	test_distrust(id);
	unlink(path);
	test_talk(id, "NORMAL:-VERS-ALL:+VERS-TLS1.3", SIZE_MAX);
	test_talk(id, "NORMAL:-VERS-ALL:+VERS-TLS1.3", 1);
	test_talk(id, "NORMAL:-VERS-ALL:+VERS-TLS1.2", 7);
	test_old_versions(id);
	test_no_tls(id);
	test_no_identity();
	tls_identity_free(id);
	return 0;
}
