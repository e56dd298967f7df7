/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oci/archive.c - images in tar archives (image-spec image-layout.md; `docker save`)
 *
 * What is saved is both: a layout whose blobs Docker's manifest.json names as its files.
 */
#include "base/fd.h"
#include "oci/digest.h"
#include "oci/transfer.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#define FILES_MAX  4096
#define TOTAL_MAX  (UINT64_C(256) << 30)
#define BLOCK      65536
#define BLOB_PLACE "blobs/sha256/"

static int put_bytes(struct archive *a, const char *name, const void *data, size_t len)
{
	struct archive_entry *entry = archive_entry_new();
	int r = 0;

	archive_entry_set_pathname(entry, name);
	archive_entry_set_filetype(entry, AE_IFREG);
	archive_entry_set_perm(entry, 0644);
	archive_entry_set_size(entry, (la_int64_t)len);
	if (archive_write_header(a, entry) != ARCHIVE_OK ||
	    archive_write_data(a, data, len) != (la_ssize_t)len)
		r = -EIO;
	archive_entry_free(entry);
	return r;
}

static int put_blob(struct archive *a, const struct oci_store *s, const char *digest)
{
	autofree char *path = oci_store_blob(s, digest),
		      *name = xasprintf(BLOB_PLACE "%s", digest_hex(digest));
	autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct archive_entry *entry;
	static char chunk[BLOCK];
	struct stat st;
	ssize_t n;
	int r = 0;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	entry = archive_entry_new();
	archive_entry_set_pathname(entry, name);
	archive_entry_set_filetype(entry, AE_IFREG);
	archive_entry_set_perm(entry, 0644);
	archive_entry_set_size(entry, st.st_size);
	if (archive_write_header(a, entry) != ARCHIVE_OK)
		r = -EIO;
	while (r == 0 && (n = read(fd, chunk, sizeof(chunk))) != 0) {
		if (n < 0 || archive_write_data(a, chunk, (size_t)n) != n)
			r = n < 0 ? -errno : -EIO;
	}
	archive_entry_free(entry);
	return r;
}

static int put_json(struct archive *a, const char *name, json_t *o)
{
	autofree char *text = json_dumps(o, JSON_COMPACT);

	json_decref(o);
	return text ? put_bytes(a, name, text, strlen(text)) : -EIO;
}

static json_t *layout_index(const struct oci_image *i, size_t manifest_size)
{
	bool docker = strstr(i->manifest.config.type, "docker") != NULL;

	return json_pack("{s:i, s:s, s:[{s:s, s:s, s:I, s:{s:s}}]}", "schemaVersion", 2,
			 "mediaType", OCI_TYPE_INDEX, "manifests", "mediaType",
			 docker ? DOCKER_TYPE_MANIFEST : OCI_TYPE_MANIFEST, "digest", i->digest,
			 "size", (json_int_t)manifest_size, "annotations",
			 "org.opencontainers.image.ref.name", i->reference);
}

static json_t *docker_manifest(const struct oci_image *i)
{
	json_t *layers = json_array(), *tags = json_array();

	for (size_t k = 0; k < i->manifest.n_layers; k++)
		json_array_append_new(
		    layers,
		    json_sprintf(BLOB_PLACE "%s", digest_hex(i->manifest.layers[k].digest)));
	if (i->reference[0] && !strchr(i->reference, '@'))
		json_array_append_new(tags, json_string(i->reference));
	return json_pack("[{s:o, s:o, s:o}]", "Config",
			 json_sprintf(BLOB_PLACE "%s", digest_hex(i->manifest.config.digest)),
			 "RepoTags", tags, "Layers", layers);
}

static int put_image(struct archive *a, const struct oci_store *s, const struct oci_image *i,
		     size_t manifest_size)
{
	static const char layout[] = "{\"imageLayoutVersion\":\"1.0.0\"}";
	int r = put_bytes(a, "oci-layout", layout, strlen(layout));

	if (r == 0)
		r = put_json(a, "index.json", layout_index(i, manifest_size));
	if (r == 0)
		r = put_json(a, "manifest.json", docker_manifest(i));
	if (r == 0)
		r = put_blob(a, s, i->digest);
	if (r == 0)
		r = put_blob(a, s, i->manifest.config.digest);
	for (size_t k = 0; k < i->manifest.n_layers && r == 0; k++) {
		bool twice = false;

		for (size_t n = 0; n < k; n++)
			twice = twice || strcmp(i->manifest.layers[n].digest,
						i->manifest.layers[k].digest) == 0;
		if (!twice)
			r = put_blob(a, s, i->manifest.layers[k].digest);
	}
	return r;
}

int image_save(const struct oci_store *s, const struct oci_image *image, int fd, struct err *e)
{
	autostrbuf struct strbuf manifest = {0};
	struct archive *a;
	int r = oci_store_read(s, image->digest, &manifest, e);

	if (r < 0)
		return r;
	a = archive_write_new();
	archive_write_set_format_pax_restricted(a);
	r = archive_write_open_fd(a, fd) == ARCHIVE_OK ? put_image(a, s, image, manifest.len)
						       : -EIO;
	if (r == 0 && archive_write_close(a) != ARCHIVE_OK)
		r = -EIO;
	if (r < 0)
		err_msg(e, r, "write the archive: %s",
			archive_error_string(a) ? archive_error_string(a) : strerror(-r));
	archive_write_free(a);
	return r;
}

/* The archive's files, flat in a directory of ours under numbers; links of `docker save` lead to
 * others of them. */
struct loader {
	struct oci_store *s;
	const char *dir;
	json_t *files; /* name: number */
	struct progress *progress;
	uint64_t total;
	struct err *e;
};

static char *file_path(const struct loader *l, const char *name)
{
	json_t *n = json_object_get(l->files, name);

	return n ? xasprintf("%s/%d", l->dir, (int)json_integer_value(n)) : NULL;
}

static int extract_file(struct loader *l, struct archive *a, const char *name)
{
	int number = (int)json_object_size(l->files);
	autofree char *path = xasprintf("%s/%d", l->dir, number);
	autoclose int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	static char chunk[BLOCK];
	la_ssize_t n;

	if (fd < 0)
		return err_set(l->e, -errno, "%s", path);
	while ((n = archive_read_data(a, chunk, sizeof(chunk))) > 0) {
		l->total += (uint64_t)n;
		if (l->total > TOTAL_MAX)
			return err_msg(l->e, -EFBIG, "the archive is too large");
		if (write_full(fd, chunk, (size_t)n) < 0)
			return err_set(l->e, -errno, "write %s", path);
		if (progress_cancelled(l->progress))
			return err_msg(l->e, -EINTR, "interrupted");
	}
	if (n < 0)
		return err_msg(l->e, -EBADMSG, "the archive is damaged: %s",
			       archive_error_string(a));
	json_object_set_new(l->files, name, json_integer(number));
	return 0;
}

/* "../OTHER/layer.tar" of "THIS/layer.tar". */
static void extract_link(struct loader *l, const char *name, const char *target)
{
	json_t *n;

	while (strncmp(target, "../", 3) == 0)
		target += 3;
	n = json_object_get(l->files, target);
	if (n)
		json_object_set(l->files, name, n);
}

static int extract(struct loader *l, const char *path)
{
	struct archive *a = archive_read_new();
	struct archive_entry *entry;
	int r = 0, status = ARCHIVE_OK;

	archive_read_support_filter_gzip(a);
	archive_read_support_filter_zstd(a);
	archive_read_support_format_tar(a);
	if (archive_read_open_filename(a, path, BLOCK) != ARCHIVE_OK)
		r = err_msg(l->e, -EBADMSG, "%s: %s", path, archive_error_string(a));
	while (r == 0 && (status = archive_read_next_header(a, &entry)) == ARCHIVE_OK) {
		const char *name = archive_entry_pathname(entry);
		const char *link = archive_entry_symlink(entry);

		if (name && strncmp(name, "./", 2) == 0)
			name += 2;
		if (json_object_size(l->files) > FILES_MAX)
			r = err_msg(l->e, -EFBIG, "%s has more than %d files", path, FILES_MAX);
		else if (name && link)
			extract_link(l, name, link);
		else if (name && archive_entry_filetype(entry) == AE_IFREG)
			r = extract_file(l, a, name);
	}
	if (r == 0 && status != ARCHIVE_EOF)
		r = err_msg(l->e, -EBADMSG, "%s is no tar archive, or damaged: %s", path,
			    archive_error_string(a));
	archive_read_free(a);
	return r;
}

static int read_named(const struct loader *l, const char *name, struct strbuf *ret)
{
	autofree char *path = file_path(l, name);
	int r = path ? read_file(path, OCI_DOCUMENT_MAX, ret) : -ENOENT;

	return r < 0 ? err_set(l->e, r, "the archive's %.200s", name) : 0;
}

/* A blob of the layout goes to the store if it is what its name says. */
static int adopt(const struct loader *l, const char *digest)
{
	autofree char *name = xasprintf(BLOB_PLACE "%s", digest_hex(digest));
	autofree char *path = file_path(l, name);

	if (oci_store_has(l->s, digest))
		return 0;
	if (!path)
		return err_msg(l->e, -ENOENT, "the archive lacks %s", digest);
	return oci_store_adopt(l->s, path, digest, l->e);
}

static int finish(struct loader *l, const char *manifest, const char *name,
		  void (*fn)(void *opaque, const char *reference), void *opaque)
{
	struct oci_image i = {.use = -1};
	struct reference ref = {0};
	autofree char *full = NULL;
	int r = oci_store_load(l->s, manifest, &i, l->e);

	if (r == 0)
		r = reference_parse(name, &ref, l->e);
	if (r == 0)
		r = oci_store_unpack(l->s, &i, l->progress, l->e);
	if (r == 0) {
		full = reference_text(&ref);
		r = oci_store_tag(l->s, full, manifest, l->e);
	}
	if (r == 0)
		fn(opaque, full);
	reference_fini(&ref);
	oci_image_fini(&i);
	return r;
}

static int load_layout(struct loader *l, const char *fallback,
		       void (*fn)(void *opaque, const char *reference), void *opaque)
{
	autostrbuf struct strbuf index = {0}, text = {0};
	struct platform want = platform_host();
	struct document d = {0}, m = {0};
	json_t *o, *entry;
	const char *name;
	int r = read_named(l, "index.json", &index);

	if (r == 0)
		r = document_parse(index.data ? index.data : "", index.len, &want, &d, l->e);
	if (r < 0)
		return r;
	if (!d.is_index) {
		document_fini(&d);
		return err_msg(l->e, -EBADMSG, "the archive's index.json is no index");
	}
	r = adopt(l, d.chosen.digest);
	if (r == 0)
		r = oci_store_read(l->s, d.chosen.digest, &text, l->e);
	if (r == 0)
		r = document_parse(text.data ? text.data : "", text.len, &want, &m, l->e);
	if (r == 0 && m.is_index) {
		r = err_msg(l->e, -EBADMSG, "the archive's index leads to another index");
	} else if (r == 0) {
		r = adopt(l, m.manifest.config.digest);
		for (size_t i = 0; i < m.manifest.n_layers && r == 0; i++)
			r = adopt(l, m.manifest.layers[i].digest);
	}
	o = json_loadb(index.data, index.len, 0, NULL);
	entry = json_array_get(json_object_get(o, "manifests"), 0);
	name = json_string_value(json_object_get(json_object_get(entry, "annotations"),
						 "org.opencontainers.image.ref.name"));
	if (r == 0)
		r = finish(l, d.chosen.digest, name && strchr(name, '/') ? name : fallback, fn,
			   opaque);
	json_decref(o);
	document_fini(&m);
	document_fini(&d);
	return r;
}

static const char *layer_type(int fd)
{
	uint8_t head[4] = {0};

	if (pread(fd, head, 4, 0) == 4 && head[0] == 0x1f && head[1] == 0x8b)
		return OCI_TYPE_LAYER "+gzip";
	return memcmp(head, "\x28\xb5\x2f\xfd", 4) == 0 ? OCI_TYPE_LAYER "+zstd" : OCI_TYPE_LAYER;
}

/* A file of `docker save` becomes a blob; its descriptor goes to @list. */
static int adopt_docker(const struct loader *l, const char *name, json_t *list)
{
	autofree char *path = name ? file_path(l, name) : NULL, *copy = NULL;
	autoclose int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	struct digest_text digest;
	struct stat st;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_msg(l->e, -ENOENT, "the archive lacks its layer %.200s",
			       name ? name : "");
	r = digest_of_file(fd, &digest);
	if (r < 0)
		return err_set(l->e, r, "read %s", path);
	json_array_append_new(list, json_pack("{s:s, s:s, s:I}", "mediaType", layer_type(fd),
					      "digest", digest.s, "size", (json_int_t)st.st_size));
	if (oci_store_has(l->s, digest.s))
		return 0;
	/* By a second name: another layer may be the same file. */
	copy = xasprintf("%s.link", path);
	if (link(path, copy) < 0)
		return err_set(l->e, -errno, "link %s", path);
	return oci_store_adopt(l->s, copy, digest.s, l->e);
}

static int load_docker_image(struct loader *l, const json_t *image, const char *fallback,
			     void (*fn)(void *opaque, const char *reference), void *opaque)
{
	const char *config = json_string_value(json_object_get(image, "Config"));
	const json_t *names = json_object_get(image, "Layers");
	const char *tag = json_string_value(json_array_get(json_object_get(image, "RepoTags"), 0));
	autostrbuf struct strbuf text = {0};
	struct digest_text c, m;
	json_t *layers = json_array(), *o;
	autofree char *manifest = NULL;
	size_t n = json_array_size(names);
	int r = read_named(l, config ? config : "", &text);

	if (r == 0 && n > OCI_LAYERS_MAX)
		r = err_msg(l->e, -EFBIG, "the archive's image has %zu layers", n);
	if (r == 0)
		r = oci_store_put(l->s, text.data ? text.data : "", text.len, &c, l->e);
	for (size_t i = 0; i < n && r == 0; i++)
		r = adopt_docker(l, json_string_value(json_array_get(names, i)), layers);
	if (r < 0) {
		json_decref(layers);
		return r;
	}
	o = json_pack("{s:i, s:s, s:{s:s, s:s, s:I}, s:o}", "schemaVersion", 2, "mediaType",
		      OCI_TYPE_MANIFEST, "config", "mediaType", OCI_TYPE_CONFIG, "digest", c.s,
		      "size", (json_int_t)text.len, "layers", layers);
	manifest = json_dumps(o, JSON_COMPACT);
	json_decref(o);
	r = oci_store_put(l->s, manifest, strlen(manifest), &m, l->e);
	return r < 0 ? r : finish(l, m.s, tag ? tag : fallback, fn, opaque);
}

static int load_docker(struct loader *l, const char *fallback,
		       void (*fn)(void *opaque, const char *reference), void *opaque)
{
	autostrbuf struct strbuf text = {0};
	json_t *list, *image;
	size_t i;
	int r = read_named(l, "manifest.json", &text);

	if (r < 0)
		return r;
	list = json_loadb(text.data ? text.data : "", text.len, 0, NULL);
	if (!json_is_array(list) || json_array_size(list) == 0)
		r = err_msg(l->e, -EBADMSG, "the archive's manifest.json lists no images");
	json_array_foreach(list, i, image)
	{
		if (r == 0)
			r = load_docker_image(l, image, fallback, fn, opaque);
	}
	json_decref(list);
	return r;
}

int image_load(struct oci_store *s, const char *path, const char *fallback,
	       void (*fn)(void *opaque, const char *reference), void *opaque, struct progress *p,
	       struct err *e)
{
	struct loader l = {.s = s, .files = json_object(), .progress = p, .e = e};
	struct workspace w = {.lock = -1};
	int r = oci_store_lock(s, p, e);

	if (r == 0)
		r = workspace_make(s->cache, &w, e);
	l.dir = w.dir;
	if (r == 0)
		r = extract(&l, path);
	if (r == 0)
		r = json_object_get(l.files, "index.json") ? load_layout(&l, fallback, fn, opaque)
							   : load_docker(&l, fallback, fn, opaque);
	workspace_fini(&w);
	json_decref(l.files);
	return r < 0 ? err_wrap(e, r, "%s", path) : 0;
}
