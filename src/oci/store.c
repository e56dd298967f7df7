/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oci/store.c - images of registries in the cache
 */
#include "oci/store.h"

#include "base/fd.h"
#include "image/exec.h"
#include "oci/digest.h"
#include "oci/unpack.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#define KEEP_FREE    (UINT64_C(256) << 20)
#define ID_MIN       12
#define NO_REFERENCE "" /* of an image whose name another took */

int oci_store_open(struct image_cache *cache, const char *unpacker, struct oci_store *ret,
		   struct err *e)
{
	static const char *const dirs[] = {"blobs", "partial", "layers", "refs", "pins"};
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(dirs) && r == 0; i++) {
		autofree char *path = xasprintf("%s/oci/%s", cache->dir, dirs[i]);

		r = make_dir(path, 0755, e);
	}
	if (r == 0)
		*ret = (struct oci_store){.cache = cache, .unpacker = unpacker, .lock = -1};
	return r;
}

void oci_store_close(struct oci_store *s)
{
	close_p(&s->lock);
	s->lock = -1;
}

int oci_store_lock(struct oci_store *s, struct progress *p, struct err *e)
{
	return s->lock >= 0 ? 0 : cache_lock_build(s->cache, "oci-images", p, &s->lock, e);
}

static char *place(const struct oci_store *s, const char *kind, const char *digest)
{
	return xasprintf("%s/oci/%s/%s", s->cache->dir, kind, digest_hex(digest));
}

char *oci_store_blob(const struct oci_store *s, const char *digest)
{
	return place(s, "blobs", digest);
}

char *oci_store_partial(const struct oci_store *s, const char *digest)
{
	return place(s, "partial", digest);
}

char *oci_store_layer(const struct oci_store *s, const char *diff_id)
{
	autofree char *dir = place(s, "layers", diff_id);

	return xasprintf("%s/fs", dir);
}

bool oci_store_has(const struct oci_store *s, const char *digest)
{
	autofree char *path = oci_store_blob(s, digest);

	return access(path, F_OK) == 0;
}

/* Bytes to a file that then appears as a whole. */
static int write_whole(const struct oci_store *s, const char *path, const void *data, size_t len,
		       struct err *e)
{
	autofree char *temp = xasprintf("%s/oci/partial/.%d", s->cache->dir, (int)getpid());
	autoclose int fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	int r = fd < 0 ? -errno : write_full(fd, data, len);

	if (r == 0 && (fsync(fd) < 0 || rename(temp, path) < 0))
		r = -errno;
	return r < 0 ? err_set(e, r, "write %s", path) : 0;
}

int oci_store_put(struct oci_store *s, const void *data, size_t len, struct digest_text *ret,
		  struct err *e)
{
	struct digest_text d = digest_of(data, len);
	autofree char *path = oci_store_blob(s, d.s);
	int r = write_whole(s, path, data, len, e);

	if (r == 0)
		*ret = d;
	return r;
}

int oci_store_adopt(struct oci_store *s, const char *path, const char *digest, struct err *e)
{
	autofree char *target = oci_store_blob(s, digest);
	autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct digest_text is;
	int r = fd < 0 ? -errno : digest_of_file(fd, &is);

	if (r < 0)
		return err_set(e, r, "read %s", path);
	if (strcmp(is.s, digest) != 0) {
		unlink(path);
		return err_msg(e, -EBADMSG, "the content of %s is another: %s", digest, is.s);
	}
	if (fsync(fd) < 0 || rename(path, target) < 0)
		return err_set(e, -errno, "write %s", target);
	return 0;
}

int oci_store_read(const struct oci_store *s, const char *digest, struct strbuf *ret, struct err *e)
{
	autofree char *path = oci_store_blob(s, digest);
	struct digest_text is;
	int r = read_file(path, OCI_DOCUMENT_MAX, ret);

	if (r < 0)
		return err_set(e, r, "read %s", path);
	is = digest_of(ret->data ? ret->data : "", ret->len);
	if (strcmp(is.s, digest) != 0)
		return err_msg(e, -EBADMSG, "%s is damaged: its content is %s", path, is.s);
	return 0;
}

void oci_image_fini(struct oci_image *i)
{
	struct document d = {.manifest = i->manifest};

	document_fini(&d);
	image_config_fini(&i->config);
	free(i->reference);
	if (i->digest)
		close_p(&i->use);
	free(i->digest);
	memset(i, 0, sizeof(*i));
	i->use = -1;
}

static int load_config(const struct oci_store *s, struct oci_image *i, struct err *e)
{
	autostrbuf struct strbuf text = {0};
	int r = oci_store_read(s, i->manifest.config.digest, &text, e);

	if (r == 0)
		r = image_config_parse(text.data ? text.data : "", text.len, &i->config, e);
	if (r == 0 && i->config.diff_ids.n != i->manifest.n_layers)
		r = err_msg(e, -EBADMSG, "the image has %zu layers, its configuration says %zu",
			    i->manifest.n_layers, i->config.diff_ids.n);
	return r;
}

int oci_store_load(const struct oci_store *s, const char *manifest, struct oci_image *ret,
		   struct err *e)
{
	struct oci_image i = {.use = -1};
	struct platform any = platform_host();
	struct document d = {0};
	autostrbuf struct strbuf text = {0};
	int r = oci_store_read(s, manifest, &text, e);

	if (r == 0)
		r = document_parse(text.data ? text.data : "", text.len, &any, &d, e);
	if (r == 0 && d.is_index) {
		document_fini(&d);
		r = err_msg(e, -EBADMSG, "%s is no manifest", manifest);
	}
	if (r < 0)
		return r;
	i.manifest = d.manifest;
	i.reference = xstrdup(NO_REFERENCE);
	i.digest = xstrdup(manifest);
	i.bytes = i.manifest.config.size;
	for (size_t k = 0; k < i.manifest.n_layers; k++)
		i.bytes += i.manifest.layers[k].size;
	r = load_config(s, &i, e);
	if (r < 0)
		oci_image_fini(&i);
	else
		*ret = i;
	return r;
}

static char *ref_path(const struct oci_store *s, const char *key)
{
	struct digest_text d = digest_of(key, strlen(key));

	return xasprintf("%s/oci/refs/%.32s.json", s->cache->dir, digest_hex(d.s));
}

static int write_ref(struct oci_store *s, const char *key, const char *reference,
		     const char *manifest, struct err *e)
{
	autofree char *path = ref_path(s, key), *text = NULL;
	json_t *o = json_pack("{s:s, s:s, s:I}", "reference", reference, "manifest", manifest,
			      "created", (json_int_t)time(NULL));

	text = json_dumps(o, JSON_INDENT(1));
	json_decref(o);
	return write_whole(s, path, text, strlen(text), e);
}

int oci_store_tag(struct oci_store *s, const char *reference, const char *manifest, struct err *e)
{
	autofree char *path = ref_path(s, reference);
	json_t *had = json_read(path);
	const char *old = had ? json_text(had, "manifest") : manifest;
	int r = 0;

	/* Somebody may be running it. */
	if (strcmp(old, manifest) != 0)
		r = write_ref(s, old, NO_REFERENCE, old, e);
	if (r == 0)
		r = write_ref(s, reference, reference, manifest, e);
	json_decref(had);
	return r;
}

static int visible(const struct dirent *de)
{
	return de->d_name[0] != '.';
}

/* Each name's file; @fn returns false to stop. */
static int each_ref(const struct oci_store *s,
		    bool (*fn)(void *opaque, const char *path, const json_t *ref), void *opaque,
		    struct err *e)
{
	autofree char *dir = xasprintf("%s/oci/refs", s->cache->dir);
	struct dirent **list;
	int n = scandir(dir, &list, visible, alphasort);
	bool go = true;

	if (n < 0)
		return err_set(e, -errno, "read %s", dir);
	for (int k = 0; k < n; k++) {
		autofree char *path = xasprintf("%s/%s", dir, list[k]->d_name);
		json_t *ref = json_read(path);

		if (go && ref && digest_is_valid(json_text(ref, "manifest")))
			go = fn(opaque, path, ref);
		json_decref(ref);
		free(list[k]);
	}
	free(list);
	return 0;
}

struct search {
	const char *id, *reference;
	char *digest, *found, *path;
	time_t created;
};

static bool match(void *opaque, const char *path, const json_t *ref)
{
	struct search *w = opaque;
	const char *digest = json_text(ref, "manifest"), *name = json_text(ref, "reference");
	size_t n = strlen(w->id);
	bool by_id = n >= ID_MIN && n <= DIGEST_HEX && strncmp(digest_hex(digest), w->id, n) == 0;

	if (!by_id && (!w->reference || strcmp(name, w->reference) != 0))
		return true;
	w->digest = xstrdup(digest);
	w->found = xstrdup(name);
	w->path = xstrdup(path);
	w->created = (time_t)json_integer_value(json_object_get(ref, "created"));
	return false;
}

static void search_fini(struct search *w)
{
	free(w->digest);
	free(w->found);
	free(w->path);
}

static int search(const struct oci_store *s, const char *name, struct search *ret, struct err *e)
{
	struct reference ref = {0};
	struct search w = {.id = name};
	autofree char *full = NULL;
	int r;

	if (strncmp(name, "deb:", 4) == 0)
		w.reference = name; /* of ours, and no registry's */
	else if (reference_parse(name, &ref, NULL) == 0)
		w.reference = full = reference_text(&ref);
	reference_fini(&ref);
	r = each_ref(s, match, &w, e);
	if (r == 0 && !w.digest)
		r = err_msg(e, -ENOENT, "image '%s' is not here", name);
	if (r < 0)
		search_fini(&w);
	else
		*ret = w;
	return r;
}

int oci_store_find(const struct oci_store *s, const char *name, struct oci_image *ret,
		   struct err *e)
{
	struct search w;
	int r = search(s, name, &w, e);

	if (r < 0)
		return r;
	r = oci_store_load(s, w.digest, ret, e);
	if (r == 0) {
		free(ret->reference);
		ret->reference = xstrdup(w.found);
		ret->created = w.created;
	}
	search_fini(&w);
	return r;
}

static char *use_id(const char *digest)
{
	return xasprintf("oci-%.32s", digest_hex(digest));
}

int oci_image_use(const struct oci_store *s, struct oci_image *i, struct err *e)
{
	autofree char *id = use_id(i->digest);

	return cache_lock(s->cache, CACHE_LOCK_USE, id, false, true, &i->use, e);
}

struct walk {
	const struct oci_store *s;
	void (*fn)(void *opaque, const struct oci_image *i);
	void *opaque;
};

static bool visit(void *opaque, const char *path, const json_t *ref)
{
	const struct walk *w = opaque;
	struct oci_image i;

	if (oci_store_load(w->s, json_text(ref, "manifest"), &i, NULL) < 0)
		return true;
	free(i.reference);
	i.reference = xstrdup(json_text(ref, "reference"));
	i.created = (time_t)json_integer_value(json_object_get(ref, "created"));
	w->fn(w->opaque, &i);
	oci_image_fini(&i);
	return true;
}

int oci_store_each(const struct oci_store *s, void (*fn)(void *opaque, const struct oci_image *i),
		   void *opaque, struct err *e)
{
	struct walk w = {.s = s, .fn = fn, .opaque = opaque};

	return each_ref(s, visit, &w, e);
}

int oci_store_pin(const struct oci_store *s, const char *id, const char *dir, struct err *e)
{
	autofree char *link = xasprintf("%s/oci/pins/%s", s->cache->dir, id);

	if (symlink(dir, link) < 0)
		return err_set(e, -errno, "make %s", link);
	return 0;
}

/* Links whose directory has gone are removed on the way. */
static bool is_pinned(const struct oci_store *s, const char *digest)
{
	autofree char *path = xasprintf("%s/oci/pins", s->cache->dir);
	DIR *d = opendir(path);
	bool found = false;
	struct dirent *de;

	while (d && !found && (de = readdir(d))) {
		autofree char *pin = xasprintf("%s/%s", path, de->d_name);
		autofree char *file = xasprintf("%s/" OCI_PIN_FILE, pin);
		json_t *o = de->d_type == DT_LNK ? json_read(file) : NULL;

		found = o && strcmp(json_text(o, "manifest"), digest) == 0;
		json_decref(o);
		if (de->d_type == DT_LNK && access(pin, F_OK) < 0 && errno == ENOENT)
			unlink(pin);
	}
	if (d)
		closedir(d);
	return found;
}

static bool in_use(const struct oci_store *s, const char *digest)
{
	autofree char *id = use_id(digest);
	autoclose int fd = -1;

	return cache_lock(s->cache, CACHE_LOCK_USE, id, true, false, &fd, NULL) < 0 ||
	       is_pinned(s, digest);
}

int oci_store_remove(struct oci_store *s, const char *name, struct err *e)
{
	struct search w;
	int r = search(s, name, &w, e);

	if (r < 0)
		return r;
	if (in_use(s, w.digest))
		r = err_msg(e, -EBUSY, "image '%s' is in use", name);
	else if (unlink(w.path) < 0)
		r = err_set(e, -errno, "remove %s", w.path);
	search_fini(&w);
	return r;
}

/* The names that stay: blobs and layers of all images, as keys. */
struct keep {
	const struct oci_store *s;
	json_t *blobs, *layers;
};

static bool drop_unnamed(void *opaque, const char *path, const json_t *ref)
{
	const struct oci_store *s = opaque;

	if (!json_text(ref, "reference")[0] && !in_use(s, json_text(ref, "manifest")))
		unlink(path);
	return true;
}

static bool collect(void *opaque, const char *path, const json_t *ref)
{
	struct keep *k = opaque;
	const char *digest = json_text(ref, "manifest");
	struct oci_image i;

	/* Of a damaged image nothing is known: it counts as gone. */
	if (oci_store_load(k->s, digest, &i, NULL) < 0)
		return true;
	json_object_set_new(k->blobs, digest_hex(digest), json_true());
	json_object_set_new(k->blobs, digest_hex(i.manifest.config.digest), json_true());
	for (size_t n = 0; n < i.manifest.n_layers; n++) {
		json_object_set_new(k->blobs, digest_hex(i.manifest.layers[n].digest), json_true());
		json_object_set_new(k->layers, digest_hex(i.config.diff_ids.v[n]), json_true());
	}
	oci_image_fini(&i);
	return true;
}

static uint64_t used_bytes(const char *dir)
{
	struct statvfs v;

	return statvfs(dir, &v) < 0 ? 0 : (uint64_t)(v.f_blocks - v.f_bfree) * v.f_frsize;
}

static int sweep_dir(const struct oci_store *s, const char *kind, const json_t *keep, struct err *e)
{
	autofree char *dir = xasprintf("%s/oci/%s", s->cache->dir, kind);
	DIR *d = opendir(dir);
	struct dirent *de;

	if (!d)
		return err_set(e, -errno, "read %s", dir);
	while ((de = readdir(d))) {
		autofree char *path = xasprintf("%s/%s", dir, de->d_name);

		if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0 ||
		    json_object_get(keep, de->d_name))
			continue;
		if (unlink(path) < 0)
			exec_remove_tree(path);
	}
	closedir(d);
	return 0;
}

int oci_store_prune(struct oci_store *s, uint64_t *freed, struct err *e)
{
	struct keep k = {.s = s, .blobs = json_object(), .layers = json_object()};
	uint64_t before = used_bytes(s->cache->dir), after;
	int r = each_ref(s, drop_unnamed, s, e);

	if (r == 0)
		r = each_ref(s, collect, &k, e);
	if (r == 0)
		r = sweep_dir(s, "blobs", k.blobs, e);
	if (r == 0)
		r = sweep_dir(s, "partial", NULL, e);
	if (r == 0)
		r = sweep_dir(s, "layers", k.layers, e);
	json_decref(k.blobs);
	json_decref(k.layers);
	after = used_bytes(s->cache->dir);
	if (r == 0)
		*freed = before > after ? before - after : 0;
	return r;
}

static uint64_t space_left(const char *dir)
{
	struct statvfs v;
	uint64_t left = statvfs(dir, &v) < 0 ? 0 : (uint64_t)v.f_bavail * v.f_frsize;

	return left > KEEP_FREE ? left - KEEP_FREE : 0;
}

int oci_store_unpack_layer(struct oci_store *s, const char *digest, const char *diff_id,
			   struct progress *p, struct err *e)
{
	autofree char *layer = oci_store_layer(s, diff_id);
	autofree char *entry = xasprintf("oci/layers/%s", digest_hex(diff_id));
	autofree char *blob = oci_store_blob(s, digest), *fs = NULL;
	autofree char *max = xasprintf("%llu", (unsigned long long)space_left(s->cache->dir));
	struct workspace w;
	int r;

	if (access(layer, F_OK) == 0)
		return 0;
	r = workspace_make(s->cache, &w, e);
	if (r < 0)
		return r;
	fs = xasprintf("%s/fs", w.dir);
	if (mkdir(fs, 0755) < 0) {
		r = err_set(e, -errno, "make %s", fs);
	} else {
		const char *const args[] = {s->unpacker, "layer", blob, diff_id, max, fs, NULL};

		r = exec_script_as_root("exec \"$@\"", args, p, e);
	}
	if (r == 0)
		r = workspace_publish(&w, s->cache, entry, e);
	workspace_fini(&w);
	return r < 0 ? err_wrap(e, r, "layer %.19s", digest) : 0;
}

int oci_store_unpack(struct oci_store *s, const struct oci_image *i, struct progress *p,
		     struct err *e)
{
	int r = 0;

	for (size_t k = 0; k < i->manifest.n_layers && r == 0; k++)
		r = oci_store_unpack_layer(s, i->manifest.layers[k].digest, i->config.diff_ids.v[k],
					   p, e);
	return r;
}

int oci_store_disk(const struct oci_store *s, const struct oci_image *i, struct progress *p,
		   struct image *ret, struct err *e)
{
	autofree char *id = xasprintf("oci-%.16s", digest_hex(i->digest));
	autostrbuf struct strbuf layers = {0};

	for (size_t k = 0; k < i->config.diff_ids.n; k++) {
		autofree char *layer = oci_store_layer(s, i->config.diff_ids.v[k]);

		strbuf_printf(&layers, "%s\n", layer);
	}
	if (!layers.len)
		return err_msg(e, -ENOEXEC, "the image has no layers");
	return image_get_layers(s->cache, id, i->reference[0] ? i->reference : id, s->unpacker,
				layers.data, p, ret, e);
}
