/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daemon/container.c - machines that are containers: their image, and the description that
 * insula-monitor reads
 *
 * A container's files are guests/UUID/ {image.json upper work}: which image it was made from, and
 * what it wrote over that.  The layers stay in the image cache, kept there by the container
 * (oci_store_pin).
 */
#include "daemon/daemon_priv.h"

#include "base/dirs.h"
#include "base/exit.h"
#include "base/fd.h"
#include "image/image.h"
#include "oci/transfer.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <sys/stat.h>

#define IMAGE_FILE OCI_PIN_FILE

/* --- creating --- */

/* The image's configuration as it came, and where its layers are. */
static int write_image(const struct oci_store *s, const struct oci_image *i, const char *dir,
		       struct err *e)
{
	autofree char *path = xasprintf("%s/" IMAGE_FILE, dir);
	autostrbuf struct strbuf text = {0};
	json_t *layers = json_array(), *config;
	int r = oci_store_read(s, i->manifest.config.digest, &text, e);

	config = r < 0 ? NULL : json_loadb(text.data ? text.data : "", text.len, 0, NULL);
	if (r == 0 && !config)
		r = err_msg(e, -EBADMSG, "the image's configuration is not JSON");
	for (size_t k = 0; k < i->config.diff_ids.n; k++) {
		autofree char *layer = oci_store_layer(s, i->config.diff_ids.v[k]);

		json_array_append_new(layers, json_string(layer));
	}
	if (r == 0) {
		json_t *o = json_pack("{s:s, s:s, s:O, s:O}", "reference", i->reference, "manifest",
				      i->digest, "config", config, "layers", layers);

		if (json_dump_file(o, path, JSON_INDENT(1)) < 0)
			r = err_msg(e, -EIO, "cannot write %s", path);
		json_decref(o);
	}
	json_decref(config);
	json_decref(layers);
	return r;
}

static int make_writable(const char *dir, struct err *e)
{
	autofree char *upper = xasprintf("%s/upper", dir), *work = xasprintf("%s/work", dir);

	/* The container's root directory, for all in it. */
	if (mkdir(upper, 0755) < 0 || chmod(upper, 0755) < 0 || mkdir(work, 0755) < 0)
		return err_set(e, -errno, "make %s", upper);
	return 0;
}

static int install(struct oci_store *s, const char *name, const char *uuid, const char *dir,
		   struct progress *p, struct err *e)
{
	struct oci_image image = {.use = -1};
	int r = oci_image_get(s, name, p, &image, e);

	if (r < 0)
		return err_exit(e, r, EXIT_NO_IMAGE);
	r = write_image(s, &image, dir, e);
	if (r == 0)
		r = oci_store_pin(s, uuid, dir, e);
	if (r == 0)
		r = make_writable(dir, e);
	oci_image_fini(&image);
	return r;
}

int container_install(const struct machine_config *c, const char *uuid, const char *dir,
		      struct progress *p, struct err *e)
{
	struct image_cache cache = {0};
	autofree char *unpacker = NULL;
	struct oci_store s;
	int r = dirs_program("insula-unpack", &unpacker, e);

	if (r == 0)
		r = image_cache_open(&cache, e);
	if (r < 0)
		return r;
	r = oci_store_open(&cache, unpacker, &s, e);
	if (r == 0) {
		r = install(&s, c->image, uuid, dir, p, e);
		oci_store_close(&s);
	}
	image_cache_fini(&cache);
	return r;
}

int container_pin(const char *uuid, const char *dir, const char *image, struct err *e)
{
	autofree char *to = xasprintf("%s/" IMAGE_FILE, dir);
	struct image_cache cache = {0};
	struct oci_store s;
	int r = image_copy(image, to, e);

	if (r == 0)
		r = image_cache_open(&cache, e);
	if (r < 0)
		return r;
	r = oci_store_open(&cache, NULL, &s, e);
	if (r == 0)
		r = oci_store_pin(&s, uuid, dir, e);
	image_cache_fini(&cache);
	return r;
}

/* --- describing --- */

static json_t *read_image(struct daemon *d, const struct machine_record *m, struct err *e)
{
	autofree char *path = path_guest(d, m->uuid, IMAGE_FILE);
	json_t *o = json_load_file(path, 0, NULL), *layer;
	size_t i;

	if (!json_is_object(json_object_get(o, "config"))) {
		json_decref(o);
		err_msg(e, -EBADMSG, "%s: is damaged", path);
		return NULL;
	}
	json_array_foreach(json_object_get(o, "layers"), i, layer)
	{
		const char *dir = json_string_value(layer);

		if (dir && access(dir, F_OK) == 0)
			continue;
		err_exit(e, 0, EXIT_NO_IMAGE);
		err_msg(e, -ENOENT,
			"a layer of its image is gone from the cache: `insula image pull %s` "
			"brings it back",
			json_string_value(json_object_get(o, "reference")));
		json_decref(o);
		return NULL;
	}
	return o;
}

static json_t *words(char *const *v)
{
	json_t *list = json_array();

	for (; v && *v; v++)
		json_array_append_new(list, json_string(*v));
	return list;
}

static json_t *ports(const struct machine_config *c)
{
	json_t *list = json_array();

	for (size_t i = 0; i < c->n_publish; i++) {
		const struct machine_publish *p = &c->publish[i];

		json_array_append_new(list, json_pack("{s:s, s:i, s:i, s:b}", "address", p->address,
						      "host", (int)p->host, "guest", (int)p->guest,
						      "udp", p->udp));
	}
	return list;
}

static json_t *mounts(const struct machine_config *c)
{
	json_t *list = json_array();

	for (size_t i = 0; i < c->n_shares; i++) {
		const struct machine_share *s = &c->shares[i];

		json_array_append_new(list, json_pack("{s:s, s:s, s:b}", "host", s->host, "guest",
						      s->guest, "readonly", s->read_only));
	}
	return list;
}

json_t *container_limits(const struct machine_config *c)
{
	uint64_t memory = c->limits.memory ? MIN(c->memory, c->limits.memory) : c->memory;

	return json_pack("{s:i, s:I, s:I, s:I}", "cpus", (int)c->cpus, "memory", (json_int_t)memory,
			 "cpu_percent", (json_int_t)c->limits.cpu_percent, "cpu_weight",
			 (json_int_t)c->limits.cpu_weight);
}

static void put_path(json_t *o, const char *key, char *path)
{
	json_object_set_new(o, key, json_string(path));
	free(path);
}

static int put_program(json_t *o, const char *key, const char *name, struct err *e)
{
	autofree char *path = NULL;
	int r = dirs_program(name, &path, e);

	if (r == 0)
		json_object_set_new(o, key, json_string(path));
	return r;
}

static void put_paths(struct daemon *d, const struct machine_record *m, json_t *o)
{
	put_path(o, "dir", path_run(d, m->uuid, NULL));
	put_path(o, "control", path_run(d, m->uuid, "control"));
	put_path(o, "agent", path_run(d, m->uuid, "vsock"));
	put_path(o, "console", path_run(d, m->uuid, "console"));
	put_path(o, "console_log", path_guest(d, m->uuid, "console.log"));
	put_path(o, "upper", path_guest(d, m->uuid, "upper"));
	put_path(o, "work", path_guest(d, m->uuid, "work"));
	put_path(o, "cgroup", xasprintf("/" LIMITS_GROUP, m->uuid));
}

/* The defaults of --cpus and --memory are left out without a word; what was asked for is not. */
static int check_limits(const struct machine_config *c, struct err *e)
{
	const struct machine_limits *l = &c->limits;

	if (geteuid() == 0 || !(l->cpu_percent || l->cpu_weight || l->memory))
		return 0;
	return err_msg(e, -ENOTSUP,
		       "limits: a container's control groups need root; take out cpu_percent, "
		       "cpu_weight and memory, or run it as a virtual machine");
}

int container_describe(struct daemon *d, const struct machine_record *m,
		       const struct machine_config *c, json_t **ret, struct err *e)
{
	const struct passwd *pw = getpwuid(geteuid());
	json_t *image, *limits, *o;
	int r = check_limits(c, e);

	if (r < 0)
		return r;
	image = read_image(d, m, e);
	if (!image)
		return e && e->code ? e->code : -EIO;
	o = json_pack("{s:s, s:s, s:O, s:O, s:o, s:o, s:o, s:o, s:b, s:b, s:s*, s:s*, s:s*}",
		      "name", m->name, "hostname", m->name, "image",
		      json_object_get(image, "config"), "layers", json_object_get(image, "layers"),
		      "command", words(c->container.command), "env", words(c->container.env),
		      "publish", ports(c), "mounts", mounts(c), "net", c->net, "tty",
		      c->container.tty, "workdir", c->container.workdir, "user", c->container.user,
		      "login", pw ? pw->pw_name : NULL);
	json_decref(image);
	if (!o)
		return err_msg(e, -EINVAL, "its configuration is not UTF-8");
	limits = container_limits(c);
	json_object_update(o, limits);
	json_decref(limits);
	put_paths(d, m, o);
	r = put_program(o, "runtime", "insula-oci", e);
	if (r == 0)
		r = put_program(o, "unpacker", "insula-unpack", e);
	if (r < 0)
		json_decref(o);
	else
		*ret = o;
	return r;
}
