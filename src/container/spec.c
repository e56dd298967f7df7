/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container/spec.c - config.json: root, mounts, hooks, annotations
 */
#include "container/spec.h"

#include "base/fd.h"
#include "container/spec_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>

const char *const spec_hook_names[SPEC_HOOK_KINDS + 1] = {
    "prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop",
};

void spec_read_strings(const struct json_reader *r, const char *key, struct spec_strings *ret)
{
	struct json_reader array, entry;
	size_t n = json_read_array(r, key, SPEC_MAX_ENTRIES, &array);

	if (!n)
		return;
	ret->v = xnew_n(const char *, n + 1);
	for (; ret->n < n; ret->n++) {
		json_read_entry(&array, ret->n, &entry);
		ret->v[ret->n] = json_read_text(&entry);
	}
}

void spec_read_pairs(const struct json_reader *r, const char *key, struct spec_pairs *ret)
{
	struct json_reader object;
	const char *name;
	json_t *v;

	if (!json_read_object(r, key, &object) || !json_object_size(object.value))
		return;
	ret->v = xnew_n(struct spec_pair, json_object_size(object.value));
	json_object_foreach(object.value, name, v)
	{
		ret->v[ret->n].key = name;
		ret->v[ret->n++].value = json_need_string(&object, name);
	}
}

void spec_read_opt(const struct json_reader *r, const char *key, int64_t min, int64_t max,
		   struct spec_opt *ret)
{
	ret->set = json_read_int(r, key, min, max, &ret->v);
}

void spec_read_opt_u64(const struct json_reader *r, const char *key, struct spec_opt_u64 *ret)
{
	ret->set = json_read_u64(r, key, &ret->v);
}

uint32_t spec_read_u32(const struct json_reader *r, const char *key, uint32_t preset)
{
	int64_t v = preset;

	json_read_int(r, key, 0, UINT32_MAX, &v);
	return (uint32_t)v;
}

void spec_read_id_maps(const struct json_reader *r, const char *key, struct spec_id_maps *ret)
{
	struct json_reader array, entry;
	size_t n = json_read_array(r, key, 340, &array); /* the kernel's own limit */

	if (n)
		ret->v = xnew_n(struct spec_id_map, n);
	for (; ret->n < n; ret->n++) {
		struct spec_id_map *m = &ret->v[ret->n];

		json_read_entry(&array, ret->n, &entry);
		m->inside = spec_read_u32(&entry, "containerID", 0);
		m->outside = spec_read_u32(&entry, "hostID", 0);
		m->size = spec_read_u32(&entry, "size", 0);
		if (!m->size)
			json_fail(&entry, "size", "is missing or zero");
	}
}

static void read_mount(const struct json_reader *r, struct spec_mount *m)
{
	m->destination = json_need_string(r, "destination");
	if (!m->destination[0])
		json_fail(r, "destination", "is empty");
	m->source = json_read_string(r, "source");
	m->type = json_read_string(r, "type");
	spec_read_strings(r, "options", &m->options);
	spec_read_id_maps(r, "uidMappings", &m->uids);
	spec_read_id_maps(r, "gidMappings", &m->gids);
	if (!m->uids.n != !m->gids.n)
		json_fail(r, "uidMappings", "and gidMappings must come together");
}

static void read_mounts(const struct json_reader *r, struct spec *s)
{
	struct json_reader array, entry;
	size_t n = json_read_array(r, "mounts", SPEC_MAX_ENTRIES, &array);

	if (n)
		s->mounts = xnew_n(struct spec_mount, n);
	for (; s->n_mounts < n && !r->doc->error; s->n_mounts++) {
		json_read_entry(&array, s->n_mounts, &entry);
		read_mount(&entry, &s->mounts[s->n_mounts]);
	}
}

static void read_hook(const struct json_reader *r, struct spec_hook *h)
{
	h->path = json_need_string(r, "path");
	if (h->path[0] != '/')
		json_fail(r, "path", "'%s' is not absolute", h->path);
	spec_read_strings(r, "args", &h->args);
	spec_read_strings(r, "env", &h->env);
	if (json_read_int(r, "timeout", INT_MIN, INT_MAX, &h->timeout) && h->timeout <= 0)
		json_fail(r, "timeout", "must be greater than zero");
}

static void read_hooks(const struct json_reader *root, struct spec *s)
{
	struct json_reader hooks, array, entry;

	if (!json_read_object(root, "hooks", &hooks))
		return;
	for (unsigned int kind = 0; kind < SPEC_HOOK_KINDS; kind++) {
		struct spec_hooks *h = &s->hooks[kind];
		size_t n = json_read_array(&hooks, spec_hook_names[kind], 1024, &array);

		if (n)
			h->v = xnew_n(struct spec_hook, n);
		for (; h->n < n && !root->doc->error; h->n++) {
			json_read_entry(&array, h->n, &entry);
			read_hook(&entry, &h->v[h->n]);
		}
	}
}

static void read_root(const struct json_reader *root, struct spec *s)
{
	struct json_reader r;

	s->version = json_need_string(root, "ociVersion");
	if (strncmp(s->version, "1.", 2) != 0)
		json_fail(root, "ociVersion", "'%s' is not a version 1", s->version);
	if (json_read_object(root, "root", &r)) {
		s->root_path = json_need_string(&r, "path");
		if (!s->root_path[0])
			json_fail(&r, "path", "is empty");
		s->root_readonly = json_read_bool(&r, "readonly", false);
	} else {
		json_fail(root, "root", "is missing");
	}
	s->hostname = json_read_string(root, "hostname");
	s->domainname = json_read_string(root, "domainname");
	if (json_read_object(root, "process", &r)) {
		s->has_process = true;
		spec_read_process(&r, &s->process);
	}
	read_mounts(root, s);
	read_hooks(root, s);
	spec_read_pairs(root, "annotations", &s->annotations);
	if (json_read_object(root, "linux", &r))
		spec_read_linux(&r, s);
}

/* What the parts say about each other. */
static void check(const struct json_reader *root, struct spec *s)
{
	if ((s->hostname || s->domainname) && !s->ns[SPEC_NS_UTS].wanted)
		json_fail(root, s->hostname ? "hostname" : "domainname", "needs a uts namespace");
	if (s->time_offsets.n && (!s->ns[SPEC_NS_TIME].wanted || s->ns[SPEC_NS_TIME].path))
		json_fail(root, "linux.timeOffsets", "needs a new time namespace");
	if ((s->uids.n || s->gids.n) && !s->ns[SPEC_NS_USER].wanted)
		json_fail(root, "linux.uidMappings", "needs a user namespace");
	if (!s->uids.n != !s->gids.n)
		json_fail(root, "linux.uidMappings", "and gidMappings must come together");
	if (s->ns[SPEC_NS_USER].wanted && !s->ns[SPEC_NS_USER].path && !s->uids.n)
		json_fail(root, "linux.uidMappings", "is missing for the user namespace");
}

int spec_parse(const char *text, size_t len, struct spec *ret, struct err *e)
{
	struct json_reader root;
	int r;

	if (len > SPEC_MAX_TEXT)
		return err_msg(e, -EFBIG, "longer than %u bytes", SPEC_MAX_TEXT);
	ret->doc.err = e;
	r = json_doc_parse(&ret->doc, text, len, &root);
	if (r == 0) {
		read_root(&root, ret);
		check(&root, ret);
		r = ret->doc.error;
	}
	ret->doc.err = NULL; /* the caller's may not live as long as we */
	if (r < 0)
		spec_fini(ret);
	return r;
}

int spec_load(int dir, const char *name, struct spec *ret, struct err *e)
{
	autostrbuf struct strbuf text = {0};
	int r = read_file_at(dir, name, SPEC_MAX_TEXT, &text);

	if (r < 0)
		return err_set(e, r, "read %s", name);
	r = spec_parse(text.data ? text.data : "", text.len, ret, e);
	return r < 0 ? err_wrap(e, r, "%s", name) : 0;
}

static void fini_mount(struct spec_mount *m)
{
	free(m->options.v);
	free(m->uids.v);
	free(m->gids.v);
}

static void fini_hooks(struct spec_hooks *h)
{
	for (size_t i = 0; i < h->n; i++) {
		free(h->v[i].args.v);
		free(h->v[i].env.v);
	}
	free(h->v);
}

void spec_fini(struct spec *s)
{
	spec_process_fini(&s->process);
	for (size_t i = 0; i < s->n_mounts; i++)
		fini_mount(&s->mounts[i]);
	free(s->mounts);
	for (unsigned int kind = 0; kind < SPEC_HOOK_KINDS; kind++)
		fini_hooks(&s->hooks[kind]);
	free(s->annotations.v);
	spec_fini_linux(s);
	json_doc_fini(&s->doc);
	*s = (struct spec){0};
}
