/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image/image.c - finding, listing, getting and removing images
 */
#include "base/fd.h"
#include "image/image_priv.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

static enum image_kind kind_of(const char *name)
{
	for (int k = IMAGE_DEB; k <= IMAGE_LAYERS; k++) {
		if (strcmp(name, image_kind_name((enum image_kind)k)) == 0)
			return (enum image_kind)k;
	}
	return IMAGE_DIRECTORY;
}

/* Reads images/ID; false if it is not there, or of an older recipe.  @fingerprint may be NULL. */
static bool load(const struct image_cache *c, const char *id, struct image *ret, char **fingerprint)
{
	autofree char *dir = xasprintf("%s/images/%s", c->dir, id);
	autofree char *path = xasprintf("%s/meta.json", dir);
	json_t *meta = json_read(path);
	struct stat st;

	if (!meta || json_integer_value(json_object_get(meta, "recipe")) != IMAGE_RECIPE) {
		json_decref(meta);
		return false;
	}
	*ret = (struct image){.lock = -1};
	ret->id = xstrdup(id);
	ret->source = xstrdup(json_text(meta, "source"));
	ret->kind = kind_of(json_text(meta, "kind"));
	ret->root = ret->kind == IMAGE_DISK ? xstrdup(ret->source) : xasprintf("%s/root.ext4", dir);
	ret->kernel = xasprintf("%s/kernel", dir);
	ret->initrd = xasprintf("%s/initrd", dir);
	ret->kernel_version = xstrdup(json_text(meta, "kernel_version"));
	ret->created = (time_t)json_integer_value(json_object_get(meta, "created"));
	ret->bytes = stat(ret->root, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
	if (fingerprint)
		*fingerprint = xstrdup(json_text(meta, "fingerprint"));
	json_decref(meta);
	return true;
}

void image_fini(struct image *i)
{
	free(i->id);
	free(i->source);
	free(i->root);
	free(i->kernel);
	free(i->initrd);
	free(i->kernel_version);
	if (i->id)
		close_p(&i->lock);
	memset(i, 0, sizeof(*i));
	i->lock = -1;
}

/* The cached image of @s if it is still true: a directory may have changed. */
static bool load_current(const struct image_cache *c, const struct image_source *s,
			 struct image *ret)
{
	autofree char *then = NULL, *now = NULL;

	if (!load(c, s->id, ret, &then))
		return false;
	if (s->kind != IMAGE_DIRECTORY)
		return true;
	now = tree_fingerprint(s->name);
	if (strcmp(then, now) == 0)
		return true;
	image_fini(ret);
	return false;
}

static int build_locked(struct image_cache *c, const struct image_source *s, bool refresh,
			struct progress *p, struct err *e)
{
	autofree char *entry = xasprintf("images/%s", s->id);
	struct workspace w;
	int r = workspace_make(c, &w, e);

	if (r < 0)
		return r;
	r = image_build(c, s, &w, refresh, p, e);
	if (r == 0)
		r = workspace_publish(&w, c, entry, e);
	workspace_fini(&w);
	return r;
}

static int get_source(struct image_cache *c, const struct image_source *s, bool refresh,
		      struct progress *p, struct image *ret, struct err *e)
{
	autoclose int build = -1, use = -1;
	int r = 0;

	/* In use first, so that nobody removes it between the look and the start. */
	r = cache_lock(c, CACHE_LOCK_USE, s->id, false, true, &use, e);
	if (r < 0)
		return r;
	if (refresh || !load_current(c, s, ret)) {
		r = cache_lock_build(c, s->id, p, &build, e);
		if (r == 0 && (refresh || !load_current(c, s, ret))) {
			r = build_locked(c, s, refresh, p, e);
			if (r == 0 && !load(c, s->id, ret, NULL))
				r = err_msg(e, -EIO, "the image just made is not there");
		}
	}
	if (r == 0)
		ret->lock = steal_fd(&use);
	return r;
}

int image_get_layers(struct image_cache *c, const char *id, const char *name, const char *merger,
		     const char *layers, struct progress *p, struct image *ret, struct err *e)
{
	const struct image_source s = {.kind = IMAGE_LAYERS,
				       .name = (char *)name,
				       .id = (char *)id,
				       .merger = merger,
				       .layers = layers};

	return get_source(c, &s, false, p, ret, e);
}

int image_get(struct image_cache *c, const char *name, bool refresh, struct progress *p,
	      struct image *ret, struct err *e)
{
	struct image_source s = {0};
	int r;

	/* An ID; made again, it comes from where it came from. */
	if (image_find(c, name, ret, NULL) == 0) {
		autofree char *source = xstrdup(ret->source);

		if (strcmp(ret->id, name) == 0) {
			if (!refresh)
				return cache_lock(c, CACHE_LOCK_USE, ret->id, false, true,
						  &ret->lock, e);
			image_fini(ret);
			r = image_source_parse(source, &s, e);
			if (r == 0)
				r = get_source(c, &s, true, p, ret, e);
			image_source_fini(&s);
			return r;
		}
		image_fini(ret);
	}
	r = image_source_parse(name, &s, e);
	if (r == 0)
		r = get_source(c, &s, refresh, p, ret, e);
	image_source_fini(&s);
	return r;
}

int image_find(struct image_cache *c, const char *name, struct image *ret, struct err *e)
{
	struct image_source s = {0};
	int r;

	if (!strchr(name, '/') && name[0] && name[0] != '.' && load(c, name, ret, NULL))
		return 0;
	r = image_source_parse(name, &s, e);
	if (r == 0 && !load(c, s.id, ret, NULL))
		r = err_msg(e, -ENOENT, "no image of '%s' in the cache", name);
	image_source_fini(&s);
	return r;
}

int image_remove(struct image_cache *c, const char *name, struct err *e)
{
	autoclose int use = -1, build = -1;
	struct image i = {.lock = -1};
	struct workspace w;
	int r = image_find(c, name, &i, e);

	if (r < 0)
		return r;
	r = cache_lock(c, CACHE_LOCK_BUILD, i.id, true, false, &build, e);
	if (r == 0)
		r = cache_lock(c, CACHE_LOCK_USE, i.id, true, false, &use, e);
	if (r < 0)
		r = err_wrap(e, r, "cannot remove the image");
	/* Away in one step; then deleted. */
	if (r == 0)
		r = workspace_make(c, &w, e);
	if (r == 0) {
		autofree char *dir = xasprintf("%s/images/%s", c->dir, i.id);

		if (rmdir(w.dir) < 0 || rename(dir, w.dir) < 0)
			r = err_set(e, -errno, "remove %s", dir);
		workspace_fini(&w);
	}
	image_fini(&i);
	return r;
}

static int visible(const struct dirent *de)
{
	return de->d_name[0] != '.';
}

int image_each(struct image_cache *c, void (*fn)(void *opaque, const struct image *), void *opaque,
	       struct err *e)
{
	autofree char *dir = xasprintf("%s/images", c->dir);
	struct dirent **list;
	int n = scandir(dir, &list, visible, alphasort);

	if (n < 0)
		return err_set(e, -errno, "read %s", dir);
	for (int k = 0; k < n; k++) {
		struct image i;

		if (load(c, list[k]->d_name, &i, NULL)) {
			fn(opaque, &i);
			image_fini(&i);
		}
		free(list[k]);
	}
	free(list);
	return 0;
}
