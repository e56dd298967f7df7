/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oci/import.c - a Debian (deb:SUITE[+PACKAGE...]) as an image of one layer, for containers
 */
#include "oci/transfer.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

/* The tar, as a blob and unpacked: a layer that is not compressed has one digest for both. */
static int add_layer(struct oci_store *s, const char *tar, struct digest_text *digest,
		     uint64_t *size, struct progress *p, struct err *e)
{
	autoclose int fd = open(tar, O_RDONLY | O_CLOEXEC);
	struct stat st;
	int r = fd < 0 || fstat(fd, &st) < 0 ? -errno : digest_of_file(fd, digest);

	if (r < 0)
		return err_set(e, r, "read %s", tar);
	*size = (uint64_t)st.st_size;
	r = oci_store_adopt(s, tar, digest->s, e);
	return r < 0 ? r : oci_store_unpack_layer(s, digest->s, digest->s, p, e);
}

/* An init if there is one, which is what a system container runs; else a shell. */
static json_t *make_config(const struct oci_store *s, const char *digest)
{
	autofree char *layer = oci_store_layer(s, digest);
	autofree char *init = xasprintf("%s/usr/sbin/init", layer);
	struct stat st;
	bool system = lstat(init, &st) == 0;
	const struct platform here = platform_host();
	json_t *config = json_pack("{s:[s]}", "Cmd", system ? "/sbin/init" : "/bin/bash");

	if (system)
		json_object_set_new(config, "StopSignal", json_string("SIGRTMIN+3"));
	return json_pack("{s:s, s:s, s:o, s:{s:s, s:[s]}}", "os", here.os, "architecture",
			 here.architecture, "config", config, "rootfs", "type", "layers",
			 "diff_ids", digest);
}

/* A document as a blob; takes @o over. */
static int put_json(struct oci_store *s, json_t *o, struct digest_text *digest, size_t *size,
		    struct err *e)
{
	autofree char *text = json_dumps(o, JSON_INDENT(1) | JSON_SORT_KEYS);

	json_decref(o);
	*size = strlen(text);
	return oci_store_put(s, text, *size, digest, e);
}

static int add_image(struct oci_store *s, const char *name, const char *layer, uint64_t size,
		     struct err *e)
{
	struct digest_text config, manifest;
	size_t config_size, n;
	json_t *o;
	int r = put_json(s, make_config(s, layer), &config, &config_size, e);

	if (r < 0)
		return r;
	o = json_pack("{s:i, s:s, s:{s:s, s:s, s:I}, s:[{s:s, s:s, s:I}]}", "schemaVersion", 2,
		      "mediaType", OCI_TYPE_MANIFEST, "config", "mediaType", OCI_TYPE_CONFIG,
		      "digest", config.s, "size", (json_int_t)config_size, "layers", "mediaType",
		      OCI_TYPE_LAYER, "digest", layer, "size", (json_int_t)size);
	r = put_json(s, o, &manifest, &n, e);
	return r < 0 ? r : oci_store_tag(s, name, manifest.s, e);
}

int image_import_deb(struct oci_store *s, const char *name, struct progress *p, struct err *e)
{
	autofree char *tar = NULL;
	struct digest_text layer;
	struct workspace w;
	uint64_t size = 0;
	int r = oci_store_lock(s, p, e);

	if (r == 0)
		r = workspace_make(s->cache, &w, e);
	if (r < 0)
		return r;
	tar = xasprintf("%s/root.tar", w.dir);
	r = image_write_tar(s->cache, name, tar, p, e);
	if (r == 0)
		r = add_layer(s, tar, &layer, &size, p, e);
	if (r == 0)
		r = add_image(s, name, layer.s, size, e);
	workspace_fini(&w);
	return r;
}
