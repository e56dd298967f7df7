/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oci/registry.c - requests to a registry, and the tokens they need
 */
#include "oci/registry_priv.h"

#include "oci/auth.h"
#include "oci/digest.h"

#include <ctype.h>
#include <errno.h>
#include <strings.h>
#include <sys/stat.h>

#define CONNECT_SECONDS 30L
#define STALL_SECONDS   60L
#define HEADER_MAX      8192
#define MANIFEST_TYPES                                                                             \
	OCI_TYPE_INDEX ", " OCI_TYPE_MANIFEST ", " DOCKER_TYPE_INDEX ", " DOCKER_TYPE_MANIFEST

/* Where the tools of containers(5) and Docker look for a registry's own authority. */
static char *find_ca(const char *host)
{
	static const char *const dirs[] = {"/etc/containers/certs.d", "/etc/docker/certs.d"};

	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		char *path = xasprintf("%s/%s/ca.crt", dirs[i], host);

		if (access(path, R_OK) == 0)
			return path;
		free(path);
	}
	return NULL;
}

int registry_open(const struct reference *ref, bool write, struct progress *p,
		  struct registry **ret, struct err *e)
{
	struct registry *g;
	const char *host = strcmp(ref->host, "docker.io") == 0 ? "registry-1.docker.io" : ref->host;

	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		return err_msg(e, -EIO, "libcurl cannot be initialised");
	g = xnew(struct registry);
	g->base = xasprintf("%s://%s/v2/%s", reference_is_loopback(ref) ? "http" : "https", host,
			    ref->name);
	g->host = xstrdup(ref->host);
	g->name = xstrdup(ref->name);
	g->credentials = auth_find(ref->host, ref->name);
	g->write = write;
	g->ca = find_ca(ref->host);
	g->progress = p;
	*ret = g;
	return 0;
}

void registry_close(struct registry *g)
{
	if (!g)
		return;
	free(g->base);
	free(g->host);
	free(g->name);
	free(g->credentials);
	free(g->token);
	free(g->ca);
	free(g);
}

static int on_progress(void *opaque, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
	const struct registry *g = opaque;

	return progress_cancelled(g->progress);
}

CURL *registry_handle(struct registry *g, const char *url)
{
	bool plain = strncmp(g->base, "http://", 7) == 0;
	CURL *h = curl_easy_init();

	if (!h)
		abort();
	curl_easy_setopt(h, CURLOPT_URL, url);
	curl_easy_setopt(h, CURLOPT_PROTOCOLS_STR, plain ? "http,https" : "https");
	curl_easy_setopt(h, CURLOPT_REDIR_PROTOCOLS_STR, plain ? "http,https" : "https");
	curl_easy_setopt(h, CURLOPT_FOLLOWLOCATION, 1L);
	curl_easy_setopt(h, CURLOPT_MAXREDIRS, 5L);
	curl_easy_setopt(h, CURLOPT_CONNECTTIMEOUT, CONNECT_SECONDS);
	curl_easy_setopt(h, CURLOPT_LOW_SPEED_LIMIT, 1L);
	curl_easy_setopt(h, CURLOPT_LOW_SPEED_TIME, STALL_SECONDS);
	curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(h, CURLOPT_USERAGENT, "insula/" INSULA_VERSION);
	if (plain)
		curl_easy_setopt(h, CURLOPT_NOPROXY, "*");
	if (g->ca)
		curl_easy_setopt(h, CURLOPT_CAINFO, g->ca);
	curl_easy_setopt(h, CURLOPT_NOPROGRESS, 0L);
	curl_easy_setopt(h, CURLOPT_XFERINFOFUNCTION, on_progress);
	curl_easy_setopt(h, CURLOPT_XFERINFODATA, g);
	return h;
}

void registry_authorize(struct registry *g, CURL *h)
{
	if (g->token) {
		curl_easy_setopt(h, CURLOPT_HTTPAUTH, CURLAUTH_BEARER);
		curl_easy_setopt(h, CURLOPT_XOAUTH2_BEARER, g->token);
	} else if (g->basic && g->credentials) {
		curl_easy_setopt(h, CURLOPT_HTTPAUTH, CURLAUTH_BASIC);
		curl_easy_setopt(h, CURLOPT_USERPWD, g->credentials);
	}
}

static size_t keep_text(char *data, size_t size, size_t n, void *opaque)
{
	struct strbuf *text = opaque;

	if (text->len + size * n > OCI_DOCUMENT_MAX)
		return 0;
	strbuf_add(text, data, size * n);
	return size * n;
}

size_t request_header(char *data, size_t size, size_t n, void *opaque)
{
	static const char location[] = "Location:", challenge[] = "WWW-Authenticate:";
	struct request *q = opaque;
	autofree char *line = NULL;
	char **to = NULL;
	size_t len = size * n, skip = 0;

	if (len > HEADER_MAX)
		return len;
	line = xcalloc(1, len + 1);
	memcpy(line, data, len);
	line[strcspn(line, "\r\n")] = '\0';
	if (strncasecmp(line, location, sizeof(location) - 1) == 0) {
		to = &q->location;
		skip = sizeof(location) - 1;
	} else if (strncasecmp(line, challenge, sizeof(challenge) - 1) == 0) {
		to = &q->challenge;
		skip = sizeof(challenge) - 1;
	}
	if (to) {
		free(*to);
		*to = xstrdup(line + skip + strspn(line + skip, " \t"));
	}
	return len;
}

void request_fini(struct request *q)
{
	strbuf_fini(&q->text);
	free(q->location);
	free(q->challenge);
	q->location = q->challenge = NULL;
}

/* KEY="value" of a challenge; NULL when it has none. */
static char *parameter(const char *challenge, const char *key)
{
	size_t n = strlen(key);

	for (const char *p = strstr(challenge, key); p; p = strstr(p + 1, key)) {
		const char *end;

		if ((p > challenge && !strchr(" ,", p[-1])) || strncmp(p + n, "=\"", 2) != 0)
			continue;
		end = strchr(p + n + 2, '"');
		return end ? xasprintf("%.*s", (int)(end - p - (int)n - 2), p + n + 2) : NULL;
	}
	return NULL;
}

static void add_query(struct strbuf *url, CURL *h, const char *key, const char *value)
{
	char *escaped = curl_easy_escape(h, value, 0);

	if (!escaped)
		abort();
	strbuf_printf(url, "%c%s=%s", strchr(url->data, '?') ? '&' : '?', key, escaped);
	curl_free(escaped);
}

static int take_token(struct registry *g, const struct strbuf *text, struct err *e)
{
	json_t *o = json_loadb(text->data ? text->data : "", text->len, 0, NULL);
	const char *token = json_string_value(json_object_get(o, "token"));

	if (!token)
		token = json_string_value(json_object_get(o, "access_token"));
	free(g->token);
	g->token = token ? xstrdup(token) : NULL;
	json_decref(o);
	return g->token ? 0 : err_msg(e, -EPROTO, "%s: the token server gives no token", g->host);
}

static int perform(const struct registry *g, CURL *h, struct err *e)
{
	CURLcode c = curl_easy_perform(h);

	if (c == CURLE_OK)
		return 0;
	if (c == CURLE_ABORTED_BY_CALLBACK)
		return err_msg(e, -EINTR, "interrupted");
	return err_msg(e, -EIO, "registry %s: %s", g->host, curl_easy_strerror(c));
}

static int get_token(struct registry *g, const char *realm, const char *service, struct err *e)
{
	autostrbuf struct strbuf url = {0}, text = {0};
	autofree char *scope =
	    xasprintf("repository:%s:%s", g->name, g->write ? "pull,push" : "pull");
	CURL *h;
	long status = 0;
	int r;

	/* A registry behind HTTPS may not have its credentials sent in the clear. */
	if (strncmp(realm, "https://", 8) != 0 && strncmp(g->base, "http://", 7) != 0)
		return err_msg(e, -EPROTO, "registry %s: its token server has no HTTPS", g->host);
	strbuf_puts(&url, realm);
	h = registry_handle(g, realm);
	if (service)
		add_query(&url, h, "service", service);
	add_query(&url, h, "scope", scope);
	curl_easy_setopt(h, CURLOPT_URL, url.data);
	if (g->credentials) {
		curl_easy_setopt(h, CURLOPT_HTTPAUTH, CURLAUTH_BASIC);
		curl_easy_setopt(h, CURLOPT_USERPWD, g->credentials);
	}
	curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, keep_text);
	curl_easy_setopt(h, CURLOPT_WRITEDATA, &text);
	r = perform(g, h, e);
	curl_easy_getinfo(h, CURLINFO_RESPONSE_CODE, &status);
	curl_easy_cleanup(h);
	if (r == 0 && status != 200)
		r = registry_failure(g, "log in", status, &text, e);
	return r < 0 ? r : take_token(g, &text, e);
}

int registry_login(struct registry *g, const char *challenge, struct err *e)
{
	autofree char *realm = NULL, *service = NULL;

	if (challenge && strncasecmp(challenge, "Bearer ", 7) == 0) {
		realm = parameter(challenge, "realm");
		service = parameter(challenge, "service");
		if (realm)
			return get_token(g, realm, service, e);
	}
	if (challenge && strncasecmp(challenge, "Basic", 5) == 0 && g->credentials && !g->basic) {
		g->basic = true;
		return 0;
	}
	return err_msg(e, -EACCES,
		       "registry %s: %s (`podman login` or `docker login` write the credentials "
		       "that Insula reads)",
		       g->host,
		       g->credentials ? "it refuses the credentials" : "it asks for a login");
}

int registry_failure(const struct registry *g, const char *what, long status,
		     const struct strbuf *text, struct err *e)
{
	json_t *o = json_loadb(text->data ? text->data : "", text->len, 0, NULL);
	const json_t *first = json_array_get(json_object_get(o, "errors"), 0);
	const char *words = json_string_value(json_object_get(first, "message"));
	int code = status == 404 ? -ENOENT : status == 401 || status == 403 ? -EACCES : -EIO;

	err_msg(e, code, "registry %s: %s %s: status %ld%s%s", g->host, what, g->name, status,
		words ? ": " : "", words ? words : "");
	json_decref(o);
	return code;
}

static int request_once(struct registry *g, struct request *q, struct err *e)
{
	CURL *h = registry_handle(g, q->url);
	struct curl_slist *headers = NULL;
	int r;

	registry_authorize(g, h);
	if (strcmp(q->method, "HEAD") == 0)
		curl_easy_setopt(h, CURLOPT_NOBODY, 1L);
	else if (strcmp(q->method, "GET") != 0)
		curl_easy_setopt(h, CURLOPT_CUSTOMREQUEST, q->method);
	if (q->accept) {
		autofree char *line = xasprintf("Accept: %s", q->accept);

		headers = curl_slist_append(headers, line);
	}
	if (q->content_type) {
		autofree char *line = xasprintf("Content-Type: %s", q->content_type);

		headers = curl_slist_append(headers, line);
	}
	headers = curl_slist_append(headers, "Expect:");
	if (q->upload) {
		rewind(q->upload);
		curl_easy_setopt(h, CURLOPT_UPLOAD, 1L);
		curl_easy_setopt(h, CURLOPT_READDATA, q->upload);
		curl_easy_setopt(h, CURLOPT_INFILESIZE_LARGE, (curl_off_t)q->upload_size);
	} else if (strcmp(q->method, "POST") == 0 || q->body) {
		curl_easy_setopt(h, CURLOPT_POSTFIELDSIZE_LARGE,
				 (curl_off_t)(q->body ? q->body->len : 0));
		curl_easy_setopt(h, CURLOPT_POSTFIELDS, q->body ? q->body->data : "");
	}
	request_fini(q);
	curl_easy_setopt(h, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(h, CURLOPT_HEADERFUNCTION, request_header);
	curl_easy_setopt(h, CURLOPT_HEADERDATA, q);
	curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, keep_text);
	curl_easy_setopt(h, CURLOPT_WRITEDATA, &q->text);
	r = perform(g, h, e);
	curl_easy_getinfo(h, CURLINFO_RESPONSE_CODE, &q->status);
	curl_easy_cleanup(h);
	curl_slist_free_all(headers);
	return r;
}

int registry_request(struct registry *g, struct request *q, struct err *e)
{
	int r = request_once(g, q, e);

	if (r == 0 && q->status == 401) {
		r = registry_login(g, q->challenge, e);
		if (r == 0)
			r = request_once(g, q, e);
	}
	return r;
}

int registry_manifest(struct registry *g, const char *what, struct strbuf *ret, struct err *e)
{
	autofree char *url = xasprintf("%s/manifests/%s", g->base, what);
	struct request q = {.method = "GET", .url = url, .accept = MANIFEST_TYPES};
	int r = registry_request(g, &q, e);

	if (r == 0 && q.status != 200)
		r = registry_failure(g, "get", q.status, &q.text, e);
	if (r == 0 && digest_is_valid(what)) {
		struct digest_text is = digest_of(q.text.data ? q.text.data : "", q.text.len);

		if (strcmp(is.s, what) != 0)
			r = err_msg(e, -EBADMSG, "registry %s gives %s where %s was asked for",
				    g->host, is.s, what);
	}
	if (r == 0)
		strbuf_add(ret, q.text.data ? q.text.data : "", q.text.len);
	request_fini(&q);
	return r;
}
