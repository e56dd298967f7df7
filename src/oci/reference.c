/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oci/reference.c - names of images in registries
 */
#include "oci/reference.h"

#include "oci/digest.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>

#define NAME_MAX_LEN 255
#define TAG_MAX_LEN  128
#define HOST_MAX_LEN 255

/* host, IPv4 or [IPv6], and a port. */
static bool is_host(const char *s)
{
	const char *colon = s[0] == '[' ? strchr(s, ']') : strchr(s, ':');
	size_t n;

	if (s[0] == '[') {
		struct in6_addr a;
		char text[INET6_ADDRSTRLEN];

		if (!colon || (size_t)(colon - s) - 1 >= sizeof(text))
			return false;
		memcpy(text, s + 1, (size_t)(colon - s) - 1);
		text[colon - s - 1] = '\0';
		if (inet_pton(AF_INET6, text, &a) != 1)
			return false;
		colon++;
		n = (size_t)(colon - s);
		colon = *colon ? colon : NULL;
	} else {
		n = colon ? (size_t)(colon - s) : strlen(s);
		for (size_t i = 0; i < n; i++) {
			bool edge = i == 0 || i == n - 1 || s[i - 1] == '.' || s[i + 1] == '.';

			if (!isalnum((unsigned char)s[i]) && (edge || (s[i] != '-' && s[i] != '.')))
				return false;
		}
	}
	if (n == 0 || strlen(s) > HOST_MAX_LEN)
		return false;
	if (!colon)
		return true;
	n = strlen(colon + 1);
	return *colon == ':' && n >= 1 && n <= 5 && strspn(colon + 1, "0123456789") == n;
}

/* Parts of a-z 0-9, between them one of . _ __ or dashes; slashes between parts. */
static bool is_name(const char *s)
{
	size_t len = strlen(s);

	if (len == 0 || len > NAME_MAX_LEN)
		return false;
	for (const char *p = s; *p;) {
		size_t word = strspn(p, "abcdefghijklmnopqrstuvwxyz0123456789"), gap;

		if (word == 0)
			return false;
		p += word;
		if (!*p)
			return true;
		gap = strspn(p, "-");
		if (!gap)
			gap = strncmp(p, "__", 2) == 0 ? 2 : strchr("._/", *p) != NULL;
		if (!gap || !p[gap])
			return false;
		p += gap;
	}
	return false;
}

static bool is_tag(const char *s)
{
	size_t n = strlen(s);

	if (n == 0 || n > TAG_MAX_LEN || s[0] == '.' || s[0] == '-')
		return false;
	for (; *s; s++) {
		if (!isalnum((unsigned char)*s) && !strchr("._-", *s))
			return false;
	}
	return true;
}

static bool names_host(const char *first)
{
	return strpbrk(first, ".:") || strcmp(first, "localhost") == 0;
}

/* Cuts @copy up. */
static void split(char *copy, struct reference *r)
{
	char *at = strchr(copy, '@'), *slash, *colon;

	if (at) {
		*at++ = '\0';
		r->digest = xstrdup(at);
	}
	slash = strrchr(copy, '/');
	colon = strchr(slash ? slash : copy, ':');
	if (colon) {
		*colon++ = '\0';
		r->tag = xstrdup(colon);
	}
	slash = strchr(copy, '/');
	if (slash) {
		*slash = '\0';
		if (names_host(copy)) {
			r->host = xstrdup(copy);
			r->name = xstrdup(slash + 1);
			return;
		}
		*slash = '/';
	}
	r->host = xstrdup("docker.io");
	r->name = slash ? xstrdup(copy) : xasprintf("library/%s", copy);
}

int reference_parse(const char *text, struct reference *ret, struct err *e)
{
	struct reference r = {0};
	autofree char *copy = NULL;
	const char *bad = NULL;

	if (strlen(text) > HOST_MAX_LEN + NAME_MAX_LEN + TAG_MAX_LEN + DIGEST_LEN + 3)
		return err_msg(e, -EINVAL, "the image's name is too long: %.40s...", text);
	copy = xstrdup(text);
	split(copy, &r);
	if (!is_host(r.host))
		bad = r.host;
	else if (!is_name(r.name))
		bad = r.name;
	else if (r.tag && !is_tag(r.tag))
		bad = r.tag;
	else if (r.digest && !digest_is_valid(r.digest))
		bad = r.digest;
	if (bad) {
		int code = err_msg(e, -EINVAL,
				   "'%s' is no image in a registry ([HOST[:PORT]/]NAME[:TAG]"
				   "[@sha256:DIGEST]): '%s' is not valid",
				   text, bad);

		reference_fini(&r);
		return code;
	}
	if (strcmp(r.host, "index.docker.io") == 0) {
		free(r.host);
		r.host = xstrdup("docker.io");
	}
	if (strcmp(r.host, "docker.io") == 0 && !strchr(r.name, '/')) {
		char *name = xasprintf("library/%s", r.name);

		free(r.name);
		r.name = name;
	}
	if (!r.tag && !r.digest)
		r.tag = xstrdup("latest");
	*ret = r;
	return 0;
}

void reference_fini(struct reference *r)
{
	free(r->host);
	free(r->name);
	free(r->tag);
	free(r->digest);
	memset(r, 0, sizeof(*r));
}

char *reference_text(const struct reference *r)
{
	return xasprintf("%s/%s%s%s%s%s", r->host, r->name, r->tag ? ":" : "", r->tag ? r->tag : "",
			 r->digest ? "@" : "", r->digest ? r->digest : "");
}

bool reference_is_loopback(const struct reference *r)
{
	struct in_addr a;
	char host[HOST_MAX_LEN + 1];
	size_t n = r->host[0] == '[' ? strlen(r->host) : strcspn(r->host, ":");

	if (r->host[0] == '[')
		return strncmp(r->host, "[::1]", 5) == 0;
	memcpy(host, r->host, MIN(n, sizeof(host) - 1));
	host[MIN(n, sizeof(host) - 1)] = '\0';
	if (strcmp(host, "localhost") == 0)
		return true;
	return inet_pton(AF_INET, host, &a) == 1 && ntohl(a.s_addr) >> 24 == 127;
}
