/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/fuzz/fuzz_oci_image.c - what a registry says: names, manifests, indexes, configurations,
 * and files with credentials
 *
 * What is taken keeps what the store relies on: digests that are safe as file names, bounded sizes,
 * lists that end, names that parse to themselves again.
 */
#include "fuzz.h"

#include "codec/passwd.h"
#include "oci/auth.h"
#include "oci/digest.h"
#include "oci/manifest.h"
#include "oci/policy.h"
#include "oci/reference.h"

#include <assert.h>

#define D "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

static const char *const seeds[] = {
    "{\"config\":{\"mediaType\":\"c\",\"digest\":\"" D "\",\"size\":7},\"layers\":[{\"digest\":\"" D
    "\",\"size\":9},{\"digest\":\"" D "\",\"size\":1}]}",
    "{\"manifests\":[{\"digest\":\"" D "\",\"platform\":{\"os\":\"linux\",\"architecture\":"
    "\"arm64\",\"variant\":\"v8\"}},{\"digest\":\"" D "\",\"annotations\":{\"k\":\"v\"}}]}",
    "{\"os\":\"linux\",\"architecture\":\"amd64\",\"config\":{\"Env\":[\"A=1\"],\"Entrypoint\":["
    "\"e\"],\"Cmd\":[\"c\"],\"ExposedPorts\":{\"1/tcp\":{}},\"User\":\"u\",\"WorkingDir\":\"/\"},"
    "\"rootfs\":{\"diff_ids\":[\"" D "\"]}}",
    "{\"auths\":{\"h\":{\"auth\":\"dTpw\"},\"h/n\":{\"auth\":\"djpx\"}}}",
    "{\"default\":[{\"type\":\"reject\"}],\"transports\":{\"docker\":{\"h.example/n\":[{\"type\":"
    "\"insecureAcceptAnything\"}],\"*.example\":[{\"type\":\"signedBy\"}]}}}",
    "{\"credHelpers\":{\"h\":\"x\"},\"credsStore\":\"y\",\"Username\":\"u\",\"Secret\":\"s\"}",
    "u:x:5:6::/h:/s\ng:x:7:u,v\nu:x:8:u\n",
    "host.example:5000/name/of.an__image:tag@" D,
};

static void check_descriptor(const struct descriptor *d)
{
	assert(digest_is_valid(d->digest) && !strchr(digest_hex(d->digest), '/'));
	assert(d->size <= UINT64_C(1) << 40 && d->type);
}

static void check_document(const char *text, size_t len)
{
	struct platform host = platform_host();
	struct document d = {0};
	struct err e = {0};

	if (document_parse(text, len, &host, &d, &e) < 0) {
		assert(e.msg[0] && !d.manifest.layers && !d.chosen.digest);
		return;
	}
	if (d.is_index) {
		check_descriptor(&d.chosen);
	} else {
		check_descriptor(&d.manifest.config);
		assert(d.manifest.n_layers <= OCI_LAYERS_MAX);
		for (size_t i = 0; i < d.manifest.n_layers; i++)
			check_descriptor(&d.manifest.layers[i]);
	}
	document_fini(&d);
}

static void check_config(const char *text, size_t len)
{
	struct image_config c = {0};
	struct err e = {0};

	if (image_config_parse(text, len, &c, &e) < 0) {
		assert(e.msg[0] && !c.os);
		return;
	}
	assert(c.os && c.architecture && c.user && c.workdir && c.stop_signal);
	for (size_t i = 0; i < c.diff_ids.n; i++)
		assert(digest_is_valid(c.diff_ids.v[i]));
	for (size_t i = 0; i < c.env.n; i++)
		assert(strchr(c.env.v[i], '=') > c.env.v[i]);
	image_config_fini(&c);
}

static void check_reference(const char *text)
{
	struct reference r = {0}, again = {0};
	char *full, *twice;

	if (reference_parse(text, &r, NULL) < 0) {
		assert(!r.name);
		return;
	}
	assert(r.tag || r.digest);
	assert(!strstr(r.name, "..") && r.name[0] != '/' && !strpbrk(r.host, "/@ \n"));
	full = reference_text(&r);
	assert(reference_parse(full, &again, NULL) == 0);
	twice = reference_text(&again);
	assert(strcmp(full, twice) == 0);
	(void)reference_is_loopback(&r);
	free(full);
	free(twice);
	reference_fini(&r);
	reference_fini(&again);
}

/* What is no policy says no. */
static void check_policy(const char *text, size_t len)
{
	struct reference r = {
	    .host = (char *)"h.example", .name = (char *)"n/m", .tag = (char *)"t"};
	struct err e = {0};

	assert(policy_judge(text, len, "docker", &r, &e) == 0 || e.msg[0]);
	assert(policy_judge(text, len, "oci-archive", NULL, NULL) <= 0);
}

/* The text as user, as both files, and both. */
static void check_passwd(const char *text)
{
	static const char *const who[] = {"u", "5", "u:g", "g"};
	struct passwd_user u;

	for (size_t i = 0; i < ARRAY_SIZE(who); i++) {
		if (passwd_resolve(who[i], text, text, &u, NULL) == 0)
			assert(u.n_groups <= PASSWD_GROUPS_MAX && u.home[0] == '/');
	}
	(void)!passwd_resolve(text, text, text, &u, NULL);
}

/* A seed with up to seven bytes replaced, position (u16) and value; or, after 0xff, the text
 * itself. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *seed = size ? seeds[(data[0] >> 3) % ARRAY_SIZE(seeds)] : seeds[0];
	bool plain = size && data[0] == 0xff;
	size_t len = plain ? size - 1 : strlen(seed);
	char *text = xcalloc(1, len + 1);

	memcpy(text, plain ? (const char *)data + 1 : seed, len);
	if (!plain) {
		unsigned int n = size ? data[0] & 7 : 0;

		for (data++; n && size >= 4; n--, data += 3, size -= 3)
			text[load_le16(data) % len] = (char)data[2];
	}
	check_document(text, len);
	check_config(text, len);
	check_reference(text);
	check_passwd(text);
	free(auth_parse(text, len, "h", "n/m"));
	free(auth_helper(text, len, "h", false));
	free(auth_answer_parse(text, len));
	check_policy(text, len);
	free(text);
	return 0;
}
