/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oci/manifest.c - indexes, manifests and configurations of images
 */
#include "oci/manifest.h"

#include "codec/json_read.h"
#include "oci/digest.h"

#include <errno.h>

#define MANIFESTS_MAX 1024
#define WORDS_MAX     4096
#define BLOB_MAX      (UINT64_C(1) << 40)
#define ATTESTATION   "vnd.docker.reference.type" /* of an entry that is no image */

int platform_parse(char *text, struct platform *ret, struct err *e)
{
	struct platform p = {.os = text};
	char *slash = strchr(text, '/'), *second;

	if (!slash || slash == text || !slash[1])
		return err_msg(e, -EINVAL, "'%s' is not OS/ARCHITECTURE, such as linux/amd64",
			       text);
	*slash = '\0';
	p.architecture = slash + 1;
	second = strchr(slash + 1, '/');
	if (second) {
		*second = '\0';
		p.variant = second + 1;
	}
	*ret = p;
	return 0;
}

struct platform platform_host(void)
{
	return (struct platform){.os = "linux", .architecture = "amd64"};
}

static char *copy_string(const struct json_reader *r, const char *key)
{
	const char *s = json_read_string(r, key);

	return xstrdup(s ? s : "");
}

static void descriptor_fini(struct descriptor *d)
{
	free(d->type);
	free(d->digest);
	memset(d, 0, sizeof(*d));
}

static void read_descriptor(const struct json_reader *r, struct descriptor *ret)
{
	const char *digest = json_need_string(r, "digest");

	if (!r->doc->error && !digest_is_valid(digest))
		json_fail(r, "digest", "'%.80s' is no sha256 digest", digest);
	ret->type = copy_string(r, "mediaType");
	ret->digest = xstrdup(digest);
	json_read_u64(r, "size", &ret->size);
	if (ret->size > BLOB_MAX)
		json_fail(r, "size", "is more than any blob has");
}

static bool text_is(const struct json_reader *r, const char *key, const char *wanted)
{
	const char *s = json_read_string(r, key);

	return s && strcmp(s, wanted) == 0;
}

static bool fits(const struct json_reader *entry, const struct platform *want)
{
	struct json_reader platform, annotations;

	if (json_read_object(entry, "annotations", &annotations) &&
	    json_read_string(&annotations, ATTESTATION))
		return false;
	if (!json_read_object(entry, "platform", &platform))
		return true;
	return text_is(&platform, "os", want->os) &&
	       text_is(&platform, "architecture", want->architecture) &&
	       (!want->variant || text_is(&platform, "variant", want->variant));
}

static void read_index(const struct json_reader *root, const struct platform *want,
		       struct document *ret)
{
	struct json_reader list, entry;
	size_t n = json_read_array(root, "manifests", MANIFESTS_MAX, &list);

	ret->is_index = true;
	for (size_t i = 0; i < n; i++) {
		json_read_entry(&list, i, &entry);
		if (fits(&entry, want)) {
			read_descriptor(&entry, &ret->chosen);
			return;
		}
	}
	json_fail(root, "manifests", "none is for %s/%s%s%s", want->os, want->architecture,
		  want->variant ? "/" : "", want->variant ? want->variant : "");
}

static void read_manifest(const struct json_reader *root, struct manifest *ret)
{
	struct json_reader config, list, entry;
	size_t n;

	if (!json_read_object(root, "config", &config)) {
		json_fail(root, "config",
			  "is missing: this is neither an index nor a manifest of "
			  "an image");
		return;
	}
	read_descriptor(&config, &ret->config);
	if (ret->config.size > OCI_DOCUMENT_MAX)
		json_fail(&config, "size", "is too large for a configuration");
	n = json_read_array(root, "layers", OCI_LAYERS_MAX, &list);
	ret->layers = xcalloc(n + 1, sizeof(*ret->layers));
	for (; ret->n_layers < n; ret->n_layers++) {
		json_read_entry(&list, ret->n_layers, &entry);
		read_descriptor(&entry, &ret->layers[ret->n_layers]);
	}
}

int document_parse(const char *text, size_t len, const struct platform *want, struct document *ret,
		   struct err *e)
{
	struct json_doc doc = {.err = e};
	struct json_reader root;
	struct document d = {0};
	int r = json_doc_parse(&doc, text, len, &root);

	if (r == 0) {
		if (json_object_get(root.value, "manifests"))
			read_index(&root, want, &d);
		else
			read_manifest(&root, &d.manifest);
		r = doc.error;
	}
	json_doc_fini(&doc);
	if (r < 0) {
		document_fini(&d);
		return err_wrap(e, r, "the image's manifest");
	}
	*ret = d;
	return 0;
}

void document_fini(struct document *d)
{
	descriptor_fini(&d->chosen);
	descriptor_fini(&d->manifest.config);
	for (size_t i = 0; i < d->manifest.n_layers; i++)
		descriptor_fini(&d->manifest.layers[i]);
	free(d->manifest.layers);
	memset(d, 0, sizeof(*d));
}

static void strings_fini(struct strings *s)
{
	for (size_t i = 0; i < s->n; i++)
		free(s->v[i]);
	free(s->v);
	memset(s, 0, sizeof(*s));
}

static void read_strings(const struct json_reader *r, const char *key, size_t max,
			 struct strings *ret)
{
	struct json_reader list, entry;
	size_t n = json_read_array(r, key, max, &list);

	ret->v = xcalloc(n + 1, sizeof(*ret->v));
	for (; ret->n < n; ret->n++) {
		json_read_entry(&list, ret->n, &entry);
		ret->v[ret->n] = xstrdup(json_read_text(&entry));
	}
}

/* {"80/tcp": {}} */
static void read_keys(const struct json_reader *r, const char *key, struct strings *ret)
{
	struct json_reader o;
	const char *name;
	json_t *value;

	ret->v = xcalloc(1, sizeof(*ret->v));
	if (!json_read_object(r, key, &o))
		return;
	if (json_object_size(o.value) > WORDS_MAX) {
		json_fail(r, key, "has more than %d entries", WORDS_MAX);
		return;
	}
	free(ret->v);
	ret->v = xcalloc(json_object_size(o.value) + 1, sizeof(*ret->v));
	json_object_foreach(o.value, name, value) ret->v[ret->n++] = xstrdup(name);
}

static void read_config(const struct json_reader *root, struct image_config *ret)
{
	struct json_reader fs, config = {0};
	bool has;

	ret->os = copy_string(root, "os");
	ret->architecture = copy_string(root, "architecture");
	if (json_read_object(root, "rootfs", &fs))
		read_strings(&fs, "diff_ids", OCI_LAYERS_MAX, &ret->diff_ids);
	else
		json_fail(root, "rootfs", "is missing");
	for (size_t i = 0; i < ret->diff_ids.n; i++) {
		if (!digest_is_valid(ret->diff_ids.v[i]))
			json_fail(root, "rootfs", "diff_ids[%zu] is no sha256 digest", i);
	}
	has = json_read_object(root, "config", &config);
	if (!has) {
		ret->workdir = xstrdup("");
		ret->user = xstrdup("");
		ret->stop_signal = xstrdup("");
		return;
	}
	read_strings(&config, "Env", WORDS_MAX, &ret->env);
	read_strings(&config, "Entrypoint", WORDS_MAX, &ret->entrypoint);
	read_strings(&config, "Cmd", WORDS_MAX, &ret->cmd);
	read_keys(&config, "ExposedPorts", &ret->ports);
	ret->workdir = copy_string(&config, "WorkingDir");
	ret->user = copy_string(&config, "User");
	ret->stop_signal = copy_string(&config, "StopSignal");
	for (size_t i = 0; i < ret->env.n; i++) {
		if (!strchr(ret->env.v[i], '=') || ret->env.v[i][0] == '=')
			json_fail(&config, "Env", "entry %zu is not NAME=value", i);
	}
}

int image_config_parse(const char *text, size_t len, struct image_config *ret, struct err *e)
{
	struct json_doc doc = {.err = e};
	struct json_reader root;
	struct image_config c = {0};
	int r = json_doc_parse(&doc, text, len, &root);

	if (r == 0) {
		read_config(&root, &c);
		r = doc.error;
	}
	json_doc_fini(&doc);
	if (r < 0) {
		image_config_fini(&c);
		return err_wrap(e, r, "the image's configuration");
	}
	*ret = c;
	return 0;
}

void image_config_fini(struct image_config *c)
{
	free(c->os);
	free(c->architecture);
	free(c->workdir);
	free(c->user);
	free(c->stop_signal);
	strings_fini(&c->diff_ids);
	strings_fini(&c->env);
	strings_fini(&c->entrypoint);
	strings_fini(&c->cmd);
	strings_fini(&c->ports);
	memset(c, 0, sizeof(*c));
}
