/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oci/upload.c - blobs and manifests to a registry (distribution-spec, "Pushing")
 */
#include "oci/registry_priv.h"

#include <errno.h>
#include <sys/stat.h>

int registry_has_blob(struct registry *g, const char *digest, bool *ret, struct err *e)
{
	autofree char *url = xasprintf("%s/blobs/%s", g->base, digest);
	struct request q = {.method = "HEAD", .url = url};
	int r = registry_request(g, &q, e);

	if (r == 0 && q.status != 200 && q.status != 404)
		r = registry_failure(g, "look for a layer of", q.status, &q.text, e);
	if (r == 0)
		*ret = q.status == 200;
	request_fini(&q);
	return r;
}

/* Where to put a new blob: absolute, or from the registry's root. */
static int begin_upload(struct registry *g, char **ret, struct err *e)
{
	autofree char *url = xasprintf("%s/blobs/uploads/", g->base);
	struct request q = {.method = "POST", .url = url};
	int r = registry_request(g, &q, e);

	if (r == 0 && (q.status != 202 || !q.location))
		r = registry_failure(g, "begin an upload to", q.status, &q.text, e);
	if (r == 0 && q.location[0] == '/')
		*ret = xasprintf("%.*s%s", (int)(strstr(g->base, "/v2/") - g->base), g->base,
				 q.location);
	else if (r == 0)
		*ret = steal_ptr(&q.location);
	request_fini(&q);
	return r;
}

int registry_put_blob(struct registry *g, const char *path, const char *digest, struct err *e)
{
	autofree char *place = NULL, *url = NULL;
	FILE *f = fopen(path, "re");
	struct request q = {.method = "PUT", .upload = f};
	struct stat st;
	int r;

	if (!f)
		return err_set(e, -errno, "%s", path);
	r = fstat(fileno(f), &st) < 0 ? err_set(e, -errno, "%s", path) : begin_upload(g, &place, e);
	if (r == 0) {
		url = xasprintf("%s%cdigest=%s", place, strchr(place, '?') ? '&' : '?', digest);
		q.url = url;
		q.content_type = "application/octet-stream";
		q.upload_size = (uint64_t)st.st_size;
		r = registry_request(g, &q, e);
	}
	if (r == 0 && q.status != 201)
		r = registry_failure(g, "upload to", q.status, &q.text, e);
	request_fini(&q);
	fclose(f);
	return r;
}

int registry_put_manifest(struct registry *g, const char *tag, const char *type,
			  const struct strbuf *text, struct err *e)
{
	autofree char *url = xasprintf("%s/manifests/%s", g->base, tag);
	struct request q = {.method = "PUT", .url = url, .content_type = type, .body = text};
	int r = registry_request(g, &q, e);

	if (r == 0 && q.status != 201)
		r = registry_failure(g, "name", q.status, &q.text, e);
	request_fini(&q);
	return r;
}
