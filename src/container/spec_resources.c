/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container/spec_resources.c - limits (runtime-spec, config-linux.md, "Control groups")
 */
#include "container/spec_priv.h"

#include <errno.h>
#include <stdio.h>

static void read_device_rule(const struct json_reader *r, struct spec_device_rule *d)
{
	const char *type = json_read_string(r, "type"), *access = json_read_string(r, "access");

	d->allow = json_read_bool(r, "allow", false);
	d->type = type && type[0] ? type[0] : 'a';
	if ((type && strlen(type) > 1) || !strchr("abc", d->type))
		json_fail(r, "type", "unknown value '%s'", type);
	d->major = d->minor = -1;
	json_read_int(r, "major", -1, UINT32_MAX, &d->major);
	json_read_int(r, "minor", -1, UINT32_MAX, &d->minor);
	for (; access && *access; access++) {
		if (*access == 'r')
			d->access |= DEVICE_READ;
		else if (*access == 'w')
			d->access |= DEVICE_WRITE;
		else if (*access == 'm')
			d->access |= DEVICE_MKNOD;
		else
			json_fail(r, "access", "unknown letter '%c'", *access);
	}
	if (!d->access)
		d->access = DEVICE_ALL;
}

static void read_devices(const struct json_reader *r, struct spec_resources *s)
{
	struct json_reader array, entry;
	size_t n = json_read_array(r, "devices", SPEC_MAX_ENTRIES, &array);

	if (n)
		s->devices = xnew_n(struct spec_device_rule, n);
	for (; s->n_devices < n; s->n_devices++) {
		json_read_entry(&array, s->n_devices, &entry);
		read_device_rule(&entry, &s->devices[s->n_devices]);
	}
}

static void read_memory(const struct json_reader *r, struct spec_resources *s)
{
	struct json_reader m;

	if (!json_read_object(r, "memory", &m))
		return;
	spec_read_opt(&m, "limit", -1, INT64_MAX, &s->memory.limit);
	spec_read_opt(&m, "reservation", -1, INT64_MAX, &s->memory.reservation);
	spec_read_opt(&m, "swap", -1, INT64_MAX, &s->memory.swap);
	spec_read_opt(&m, "kernel", -1, INT64_MAX, &s->memory.kernel);
	spec_read_opt(&m, "kernelTCP", -1, INT64_MAX, &s->memory.kernel_tcp);
	spec_read_opt_u64(&m, "swappiness", &s->memory.swappiness);
	s->memory.disable_oom_killer = json_read_bool(&m, "disableOOMKiller", false);
	s->memory.check_before_update = json_read_bool(&m, "checkBeforeUpdate", false);
}

static void read_cpu(const struct json_reader *r, struct spec_resources *s)
{
	struct json_reader c;

	if (!json_read_object(r, "cpu", &c))
		return;
	spec_read_opt_u64(&c, "shares", &s->cpu.shares);
	spec_read_opt_u64(&c, "period", &s->cpu.period);
	spec_read_opt_u64(&c, "burst", &s->cpu.burst);
	spec_read_opt(&c, "quota", -1, INT64_MAX, &s->cpu.quota);
	spec_read_opt_u64(&c, "realtimePeriod", &s->cpu.rt_period);
	spec_read_opt(&c, "realtimeRuntime", -1, INT64_MAX, &s->cpu.rt_runtime);
	spec_read_opt(&c, "idle", 0, 1, &s->cpu.idle);
	s->cpu.cpus = json_read_string(&c, "cpus");
	s->cpu.mems = json_read_string(&c, "mems");
}

static void read_blkio_values(const struct json_reader *r, const char *key,
			      struct spec_blkio_values *ret)
{
	struct json_reader array, entry;
	size_t n = json_read_array(r, key, 4096, &array);

	if (n)
		ret->v = xnew_n(struct spec_blkio_value, n);
	for (; ret->n < n; ret->n++) {
		struct spec_blkio_value *v = &ret->v[ret->n];

		json_read_entry(&array, ret->n, &entry);
		v->major = spec_read_u32(&entry, "major", 0);
		v->minor = spec_read_u32(&entry, "minor", 0);
		spec_read_opt_u64(&entry, "weight", &v->weight);
		spec_read_opt_u64(&entry, "leafWeight", &v->leaf_weight);
		json_read_u64(&entry, "rate", &v->rate);
	}
}

static void read_blkio(const struct json_reader *r, struct spec_resources *s)
{
	static const char *const throttles[SPEC_THROTTLES] = {
	    "throttleReadBpsDevice", "throttleWriteBpsDevice", "throttleReadIOPSDevice",
	    "throttleWriteIOPSDevice"};
	struct json_reader b;

	if (!json_read_object(r, "blockIO", &b))
		return;
	spec_read_opt(&b, "weight", 0, 1000, &s->blkio.weight);
	spec_read_opt(&b, "leafWeight", 0, 1000, &s->blkio.leaf_weight);
	read_blkio_values(&b, "weightDevice", &s->blkio.weights);
	for (unsigned int i = 0; i < SPEC_THROTTLES; i++)
		read_blkio_values(&b, throttles[i], &s->blkio.throttles[i]);
}

static void read_huge(const struct json_reader *r, struct spec_resources *s)
{
	struct json_reader array, entry;
	size_t n = json_read_array(r, "hugepageLimits", 64, &array);

	if (n)
		s->huge = xnew_n(struct spec_huge_limit, n);
	for (; s->n_huge < n; s->n_huge++) {
		json_read_entry(&array, s->n_huge, &entry);
		s->huge[s->n_huge].size = json_need_string(&entry, "pageSize");
		/* It becomes part of a file's name. */
		if (!s->huge[s->n_huge].size[0] || strchr(s->huge[s->n_huge].size, '/'))
			json_fail(&entry, "pageSize", "'%s' is no page size",
				  s->huge[s->n_huge].size);
		json_read_u64(&entry, "limit", &s->huge[s->n_huge].limit);
	}
}

static void read_network(const struct json_reader *r, struct spec_resources *s)
{
	struct json_reader net, array, entry;
	size_t n;

	if (!json_read_object(r, "network", &net))
		return;
	spec_read_opt(&net, "classID", 0, UINT32_MAX, &s->net_class);
	n = json_read_array(&net, "priorities", 4096, &array);
	if (n)
		s->net_priorities.v = xnew_n(struct spec_pair, n);
	for (size_t i = 0; i < n; i++) {
		json_read_entry(&array, i, &entry);
		s->net_priorities.v[s->net_priorities.n++] = (struct spec_pair){
		    .key = json_need_string(&entry, "name"),
		    .value = xasprintf("%u", spec_read_u32(&entry, "priority", 0))};
	}
}

static void read_rdma(const struct json_reader *r, struct spec_resources *s)
{
	struct json_reader all, one;
	const char *device;
	json_t *v;

	if (!json_read_object(r, "rdma", &all) || !json_object_size(all.value))
		return;
	s->rdma = xnew_n(struct spec_rdma, json_object_size(all.value));
	json_object_foreach(all.value, device, v)
	{
		struct spec_rdma *d = &s->rdma[s->n_rdma++];

		d->device = device;
		if (!json_read_object(&all, device, &one))
			continue;
		spec_read_opt_u64(&one, "hcaHandles", &d->handles);
		spec_read_opt_u64(&one, "hcaObjects", &d->objects);
	}
}

void spec_read_resources(const struct json_reader *r, struct spec_resources *s)
{
	struct json_reader sub;

	read_devices(r, s);
	read_memory(r, s);
	read_cpu(r, s);
	if (json_read_object(r, "pids", &sub))
		spec_read_opt(&sub, "limit", -1, INT64_MAX, &s->pids);
	read_blkio(r, s);
	read_huge(r, s);
	read_network(r, s);
	read_rdma(r, s);
	spec_read_pairs(r, "unified", &s->unified);
	/* They become names of files in the container's control group. */
	for (size_t i = 0; i < s->unified.n; i++)
		if (strchr(s->unified.v[i].key, '/') || !strchr(s->unified.v[i].key, '.') ||
		    s->unified.v[i].key[0] == '.')
			json_fail(r, "unified", "'%s' is no name of a limit", s->unified.v[i].key);
}

int spec_resources_parse(const char *text, size_t len, struct json_doc *doc,
			 struct spec_resources *ret, struct err *e)
{
	struct json_reader root;

	if (len > SPEC_MAX_TEXT)
		return err_msg(e, -EFBIG, "resources: longer than %u bytes", SPEC_MAX_TEXT);
	doc->err = e;
	if (json_doc_parse(doc, text, len, &root) == 0)
		spec_read_resources(&root, ret);
	doc->err = NULL;
	if (doc->error < 0) {
		spec_resources_fini(ret);
		return err_wrap(e, doc->error, "resources");
	}
	return 0;
}

void spec_resources_fini(struct spec_resources *r)
{
	free(r->devices);
	free(r->blkio.weights.v);
	for (unsigned int i = 0; i < SPEC_THROTTLES; i++)
		free(r->blkio.throttles[i].v);
	free(r->huge);
	for (size_t i = 0; i < r->net_priorities.n; i++)
		free((char *)r->net_priorities.v[i].value);
	free(r->net_priorities.v);
	free(r->rdma);
	free(r->unified.v);
	*r = (struct spec_resources){0};
}
