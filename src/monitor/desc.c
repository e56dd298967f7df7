/* SPDX-License-Identifier: Apache-2.0 */
/*
 * monitor/desc.c - reading the description of a container
 */
#include "monitor/desc.h"

#include "codec/json_read.h"

#include <errno.h>

#define WORDS_MAX 4096
#define LISTS_MAX 64
#define CPUS_MAX  4096

static char *need(const struct json_reader *r, const char *key)
{
	return xstrdup(json_need_string(r, key));
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

static void free_strings(char **v)
{
	for (size_t i = 0; v && v[i]; i++)
		free(v[i]);
	free(v);
}

static void read_mounts(const struct json_reader *r, struct desc *d)
{
	struct json_reader list, o;
	size_t n = json_read_array(r, "mounts", LISTS_MAX, &list);

	d->mounts = xcalloc(n + 1, sizeof(*d->mounts));
	for (size_t i = 0; i < n; i++) {
		json_read_entry(&list, i, &o);
		d->mounts[i] =
		    (struct run_mount){.host = json_need_string(&o, "host"),
				       .guest = json_need_string(&o, "guest"),
				       .read_only = json_read_bool(&o, "readonly", false)};
	}
	d->options.mounts = d->mounts;
	d->options.n_mounts = n;
}

static void read_ports(const struct json_reader *r, struct desc *d)
{
	struct json_reader list, o;
	size_t n = json_read_array(r, "publish", LISTS_MAX, &list);

	d->ports = xcalloc(n + 1, sizeof(*d->ports));
	for (size_t i = 0; i < n; i++) {
		int64_t host = 0, guest = 0;

		json_read_entry(&list, i, &o);
		json_read_int(&o, "host", 1, 65535, &host);
		json_read_int(&o, "guest", 1, 65535, &guest);
		d->ports[i] = (struct run_port){.address = json_need_string(&o, "address"),
						.host = (unsigned int)host,
						.guest = (unsigned int)guest,
						.udp = json_read_bool(&o, "udp", false)};
	}
	d->options.ports = d->ports;
	d->options.n_ports = n;
}

static void read_options(const struct json_reader *r, struct desc *d)
{
	struct container_options *o = &d->options;
	int64_t cpus = 1;

	o->runtime = json_need_string(r, "runtime");
	o->hostname = json_need_string(r, "hostname");
	o->workdir = json_read_string(r, "workdir");
	o->user = json_read_string(r, "user");
	o->tty = json_read_bool(r, "tty", false);
	o->net = json_read_bool(r, "net", true);
	json_read_int(r, "cpus", 1, CPUS_MAX, &cpus);
	json_read_u64(r, "memory", &o->memory);
	json_read_int(r, "cpu_percent", 0, INT32_MAX, &o->cpu_percent);
	json_read_int(r, "cpu_weight", 0, 10000, &o->cpu_weight);
	o->cpus = (unsigned int)cpus;
	read_strings(r, "command", WORDS_MAX, &d->command);
	read_strings(r, "env", WORDS_MAX, &d->env);
	o->env = d->env.v;
	o->n_env = d->env.n;
	read_mounts(r, d);
	read_ports(r, d);
}

static void read_desc(const struct json_reader *r, struct desc *d)
{
	struct strings layers = {0};

	d->dir = need(r, "dir");
	d->upper = need(r, "upper");
	d->work = need(r, "work");
	d->cgroup = need(r, "cgroup");
	d->control = need(r, "control");
	d->agent = need(r, "agent");
	d->console = need(r, "console");
	d->console_log = need(r, "console_log");
	read_strings(r, "layers", OCI_LAYERS_MAX, &layers);
	d->layers = (struct root_layers){layers.v, layers.n, json_need_string(r, "unpacker")};
	d->login = json_read_string(r, "login");
	read_options(r, d);
}

/* The image's own configuration, as it came from the registry. */
static int read_image(const struct json_reader *r, struct desc *d, struct err *e)
{
	autofree char *text = json_dumps(json_object_get(r->value, "image"), JSON_COMPACT);

	return image_config_parse(text ? text : "", text ? strlen(text) : 0, &d->image, e);
}

int desc_parse(const char *text, size_t len, struct desc *ret, struct err *e)
{
	struct json_doc doc = {.err = e};
	struct json_reader root;
	int r = json_doc_parse(&doc, text, len, &root);

	*ret = (struct desc){0};
	if (r == 0) {
		read_desc(&root, ret);
		r = doc.error;
	}
	if (r == 0)
		r = read_image(&root, ret, e);
	ret->root = json_incref(doc.root);
	json_doc_fini(&doc);
	if (r < 0) {
		desc_fini(ret);
		return r;
	}
	ret->options.args = runner_args(&ret->image, ret->command.n ? ret->command.v : NULL);
	/* Its console is where a system logs people in. */
	ret->options.tty = ret->options.tty || runner_is_system(ret->options.args);
	return 0;
}

void desc_fini(struct desc *d)
{
	char *const text[] = {d->dir,     d->upper, d->work,    d->cgroup,
			      d->control, d->agent, d->console, d->console_log};

	for (size_t i = 0; i < ARRAY_SIZE(text); i++)
		free(text[i]);
	free_strings(d->layers.v);
	free_strings(d->command.v);
	free_strings(d->env.v);
	free((void *)d->options.args);
	free(d->mounts);
	free(d->ports);
	image_config_fini(&d->image);
	json_decref(d->root);
	*d = (struct desc){0};
}
