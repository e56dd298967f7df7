/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oci/pull.c - images from and to registries
 */
#include "oci/digest.h"
#include "oci/policy.h"
#include "oci/registry.h"
#include "oci/transfer.h"

#include <errno.h>
#include <stdio.h>

#define INDEX_DEPTH 3 /* an index may list indexes */

/* From tag or digest to the manifest for @want. */
static int fetch_manifest(struct registry *g, const char *what, const struct platform *want,
			  struct strbuf *text, struct document *ret, struct err *e)
{
	autofree char *next = xstrdup(what);

	for (unsigned int depth = 0; depth < INDEX_DEPTH; depth++) {
		int r;

		strbuf_consume(text, text->len);
		r = registry_manifest(g, next, text, e);
		if (r == 0)
			r = document_parse(text->data ? text->data : "", text->len, want, ret, e);
		if (r < 0 || !ret->is_index)
			return r;
		free(next);
		next = xstrdup(ret->chosen.digest);
		document_fini(ret);
	}
	return err_msg(e, -ELOOP, "the image's index leads to indexes, and those to more");
}

/* What the store lacks, each once. */
static size_t missing_blobs(const struct oci_store *s, const struct manifest *m,
			    const struct descriptor **list)
{
	size_t n = 0;

	for (size_t i = 0; i <= m->n_layers; i++) {
		const struct descriptor *d = i ? &m->layers[i - 1] : &m->config;
		bool twice = false;

		for (size_t k = 0; k < n; k++)
			twice = twice || strcmp(list[k]->digest, d->digest) == 0;
		if (!twice && !oci_store_has(s, d->digest))
			list[n++] = d;
	}
	return n;
}

static int fetch(struct oci_store *s, struct registry *g, const struct reference *ref,
		 const struct platform *want, struct digest_text *manifest, struct err *e)
{
	autofree const struct descriptor **list = NULL;
	autostrbuf struct strbuf text = {0};
	struct document d = {0};
	size_t n;
	int r = fetch_manifest(g, ref->digest ? ref->digest : ref->tag, want, &text, &d, e);

	if (r < 0)
		return r;
	list = xcalloc(d.manifest.n_layers + 1, sizeof(*list));
	n = missing_blobs(s, &d.manifest, list);
	r = n ? registry_blobs(g, s, list, n, e) : 0;
	document_fini(&d);
	return r < 0 ? r : oci_store_put(s, text.data, text.len, manifest, e);
}

/* One for another machine is an error now, not when it is run. */
static int check_platform(const struct oci_image *i, const struct platform *want, struct err *e)
{
	if (strcmp(i->config.os, want->os) == 0 &&
	    strcmp(i->config.architecture, want->architecture) == 0)
		return 0;
	return err_msg(e, -ENOEXEC, "the image is for %s/%s, not %s/%s", i->config.os,
		       i->config.architecture, want->os, want->architecture);
}

int image_pull(struct oci_store *s, const struct reference *ref, const struct platform *want,
	       struct progress *p, struct err *e)
{
	autofree char *name = reference_text(ref);
	struct oci_image i = {.use = -1};
	struct digest_text manifest;
	struct registry *g = NULL;
	int r = policy_check(ref, e);

	if (r == 0)
		r = oci_store_lock(s, p, e);
	if (r == 0)
		r = registry_open(ref, false, p, &g, e);
	if (r == 0)
		r = fetch(s, g, ref, want, &manifest, e);
	registry_close(g);
	if (r == 0)
		r = oci_store_load(s, manifest.s, &i, e);
	if (r == 0)
		r = check_platform(&i, want, e);
	if (r == 0)
		r = oci_store_unpack(s, &i, p, e);
	if (r == 0)
		r = oci_store_tag(s, name, manifest.s, e);
	oci_image_fini(&i);
	return r < 0 ? err_wrap(e, r, "%s", name) : 0;
}

static int push_blob(struct oci_store *s, struct registry *g, const char *digest, struct err *e)
{
	autofree char *path = oci_store_blob(s, digest);
	bool has;
	int r = registry_has_blob(g, digest, &has, e);

	return r < 0 || has ? r : registry_put_blob(g, path, digest, e);
}

int image_push(struct oci_store *s, const struct oci_image *image, const struct reference *to,
	       struct progress *p, struct err *e)
{
	autofree char *name = reference_text(to);
	autostrbuf struct strbuf text = {0};
	const struct manifest *m = &image->manifest;
	struct registry *g = NULL;
	int r = oci_store_read(s, image->digest, &text, e);

	if (r == 0)
		r = registry_open(to, true, p, &g, e);
	for (size_t i = 0; i < m->n_layers && r == 0; i++)
		r = push_blob(s, g, m->layers[i].digest, e);
	if (r == 0)
		r = push_blob(s, g, m->config.digest, e);
	if (r == 0) {
		/* The manifest says what it is, or is of Docker's kind if its parts are. */
		bool docker = strstr(m->config.type, "docker") != NULL;

		r = registry_put_manifest(g, to->tag ? to->tag : to->digest,
					  docker ? DOCKER_TYPE_MANIFEST : OCI_TYPE_MANIFEST, &text,
					  e);
	}
	registry_close(g);
	return r < 0 ? err_wrap(e, r, "%s", name) : 0;
}
