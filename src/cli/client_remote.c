/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/client_remote.c - an insulad elsewhere
 *
 * A thread carries bytes between a socketpair, whose other end is what commands speak through, and
 * the TLS connection: they know nothing of it, and may close one direction as on a socket.
 */
#include "cli/client_remote.h"

#include "base/fd.h"
#include "tls/tls.h"

#include <errno.h>
#include <jansson.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>

#define CONNECT_MS 30000

struct host {
	char *host, *port, *token, *ca;
};

static void host_fini(struct host *h)
{
	free(h->host);
	free(h->port);
	free(h->token);
	free(h->ca);
}

static const char *word(const char *name)
{
	const char *s = getenv(name);

	return s && *s ? s : NULL;
}

bool client_is_remote(void)
{
	return word("INSULA_HOST") != NULL;
}

/* --- which one --- */

static char *hosts_file(void)
{
	const char *config = word("XDG_CONFIG_HOME"), *home = word("HOME");

	return config ? xasprintf("%s/insula/hosts.json", config)
		      : xasprintf("%s/.config/insula/hosts.json", home ? home : "");
}

static char *text_of(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? xstrdup(s) : NULL;
}

/* What the file says of @name, if anything; *@url is left alone if it says no other. */
static int look_up(const char *name, char **url, struct host *h, struct err *e)
{
	autofree char *path = hosts_file(), *other = NULL;
	json_error_t je;
	json_t *all, *o;

	if (access(path, F_OK) < 0)
		return 0;
	all = json_load_file(path, 0, &je);
	if (!json_is_object(all)) {
		json_decref(all);
		return err_msg(e, -EINVAL, "%s: line %d: %s", path, je.line, je.text);
	}
	o = json_object_get(all, name);
	h->token = text_of(o, "token");
	h->ca = text_of(o, "ca");
	other = text_of(o, "url");
	if (other) {
		free(*url);
		*url = steal_ptr(&other);
	}
	json_decref(all);
	return 0;
}

/* https://HOST[:PORT][/], with an IPv6 address in brackets */
static int parse_url(const char *url, struct host *h, struct err *e)
{
	const char *p = url + 8, *end, *port = NULL;
	size_t n;

	if (strncmp(url, "https://", 8) != 0)
		return err_msg(e, -EINVAL, "host: '%s' is neither https://HOST[:PORT] nor in %s",
			       url, "hosts.json");
	end = p[0] == '[' ? strchr(p, ']') : p + strcspn(p, ":/");
	n = end ? (size_t)(end - p) : 0;
	if (n < 1 || (p[0] == '[' && n < 3))
		return err_msg(e, -EINVAL, "host: '%s' names none", url);
	h->host = p[0] == '[' ? xasprintf("%.*s", (int)n - 1, p + 1) : xasprintf("%.*s", (int)n, p);
	end += p[0] == '[';
	if (*end == ':')
		port = end + 1;
	n = port ? strcspn(port, "/") : 0;
	h->port = port ? xasprintf("%.*s", (int)n, port) : xstrdup(REMOTE_PORT);
	if (strspn(h->port, "0123456789") != strlen(h->port) || !h->port[0] ||
	    strcmp(port ? port + n : end, "/") > 0)
		return err_msg(e, -EINVAL, "host: '%s' is not https://HOST[:PORT]", url);
	return 0;
}

static int find_host(struct host *h, struct err *e)
{
	const char *token = word("INSULA_TOKEN"), *ca = word("INSULA_CA");
	autofree char *url = xstrdup(word("INSULA_HOST"));
	int r;

	*h = (struct host){NULL};
	r = look_up(word("INSULA_HOST"), &url, h, e);
	if (r == 0)
		r = parse_url(url, h, e);
	if (r < 0)
		return r;
	if (token) {
		free(h->token);
		h->token = xstrdup(token);
	}
	if (ca) {
		free(h->ca);
		h->ca = xstrdup(ca);
	}
	return 0;
}

int client_authorization(char **ret, struct err *e)
{
	struct host h;
	int r;

	if (!client_is_remote()) {
		*ret = xstrdup("");
		return 0;
	}
	r = find_host(&h, e);
	if (r == 0 && (!h.token || strpbrk(h.token, "\r\n")))
		r = err_msg(e, -EINVAL,
			    "no token for %s: `insula token create` there makes one; put it in "
			    "$INSULA_TOKEN or hosts.json",
			    h.host);
	if (r == 0)
		*ret = xasprintf("Authorization: Bearer %s\r\n", h.token);
	host_fini(&h);
	return r;
}

/* --- the connection --- */

struct pump {
	int tcp, inner;
	struct tls *tls;
	struct strbuf in, out;
	bool in_over, out_over;
};

/* False when the connection is over. */
static bool from_server(struct pump *p)
{
	char chunk[16384];
	ssize_t n = recv(p->tcp, chunk, sizeof(chunk), MSG_DONTWAIT);
	int r;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return true;
	if (n <= 0)
		return false;
	r = tls_receive(p->tls, chunk, (size_t)n, &p->in, &p->out);
	p->in_over = r == -ESHUTDOWN;
	return r == 0 || p->in_over;
}

static bool from_command(struct pump *p)
{
	char chunk[16384];
	ssize_t n = recv(p->inner, chunk, sizeof(chunk), MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return true;
	if (n < 0)
		return false;
	if (n > 0) {
		tls_send(p->tls, chunk, (size_t)n, &p->out);
	} else {
		p->out_over = true;
		tls_end(p->tls, &p->out);
	}
	return true;
}

static void *pump_main(void *opaque)
{
	struct pump *p = opaque;
	bool good = true;

	while (good && !(p->in_over && !p->in.len)) {
		struct pollfd fds[] = {
		    {p->tcp, (short)((p->in.len ? 0 : POLLIN) | (p->out.len ? POLLOUT : 0)), 0},
		    {p->inner,
		     (short)((p->out.len || p->out_over ? 0 : POLLIN) | (p->in.len ? POLLOUT : 0)),
		     0},
		};

		if (p->out_over && !p->in.len)
			fds[1].fd = -1;
		if (poll(fds, 2, -1) < 0)
			continue;
		if (fds[0].revents & (POLLIN | POLLHUP | POLLERR))
			good = from_server(p);
		if (good && (fds[1].revents & (POLLIN | POLLHUP)) && !p->out.len && !p->out_over)
			good = from_command(p);
		good = send_buffer(p->inner, &p->in) && send_buffer(p->tcp, &p->out) && good;
	}
	(void)!send_buffer(p->inner, &p->in);
	close(p->inner);
	close(p->tcp);
	tls_free(p->tls);
	strbuf_fini(&p->in);
	strbuf_fini(&p->out);
	free(p);
	return NULL;
}

static int connect_tcp(const struct host *h, struct err *e)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list, *a;
	int r = getaddrinfo(h->host, h->port, &hints, &list), fd = -1, one = 1;

	if (r != 0)
		return err_msg(e, -EIO, "%s: %s", h->host, gai_strerror(r));
	r = -ECONNREFUSED;
	for (a = list; a && fd < 0; a = a->ai_next) {
		fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) < 0) {
			r = -errno;
			close(fd);
			fd = -1;
		}
	}
	freeaddrinfo(list);
	if (fd < 0)
		return err_set(e, r, "connect to insulad at %s port %s", h->host, h->port);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return fd;
}

static int shake_hands(struct pump *p, const struct host *h, struct err *e)
{
	char chunk[16384];
	int r = tls_receive(p->tls, "", 0, &p->in, &p->out);

	while (r == 0 && !tls_ready(p->tls)) {
		struct pollfd fd = {p->tcp, POLLIN, 0};
		ssize_t n;

		if (write_full(p->tcp, p->out.data, p->out.len) < 0 ||
		    poll(&fd, 1, CONNECT_MS) != 1)
			return err_msg(e, -EIO, "insulad at %s does not answer", h->host);
		strbuf_consume(&p->out, p->out.len);
		n = recv(p->tcp, chunk, sizeof(chunk), 0);
		if (n <= 0)
			return err_msg(e, -EIO, "insulad at %s hung up", h->host);
		r = tls_receive(p->tls, chunk, (size_t)n, &p->in, &p->out);
	}
	if (r == 0)
		return 0;
	if (tls_distrust(p->tls))
		return err_msg(e, -EACCES,
			       "%s: %s (give the certificate to trust in $INSULA_CA or hosts.json)",
			       h->host, tls_distrust(p->tls));
	return err_msg(e, -EPROTO, "%s port %s does not speak TLS as insulad does", h->host,
		       h->port);
}

/* Signals are the command's. */
static int start_pump(struct pump *p, struct err *e)
{
	sigset_t all, old;
	pthread_t t;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = -pthread_create(&t, NULL, pump_main, p);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r < 0)
		return err_set(e, r, "start a thread");
	pthread_detach(t);
	return 0;
}

int client_remote_connect(struct err *e)
{
	struct pump *p = xnew(struct pump);
	int ends[2] = {-1, -1}, r;
	struct host h;

	p->tcp = -1;
	r = find_host(&h, e);
	if (r == 0)
		r = tls_client_new(h.host, h.ca, &p->tls, e);
	if (r == 0)
		r = p->tcp = connect_tcp(&h, e);
	if (r >= 0)
		r = shake_hands(p, &h, e);
	if (r == 0 && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		r = err_set(e, -errno, "socketpair");
	p->inner = ends[0];
	if (r == 0)
		r = start_pump(p, e);
	host_fini(&h);
	if (r == 0)
		return ends[1];
	close_p(&ends[0]);
	close_p(&ends[1]);
	close_p(&p->tcp);
	tls_free(p->tls);
	strbuf_fini(&p->in);
	strbuf_fini(&p->out);
	free(p);
	return r;
}
