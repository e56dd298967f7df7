/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container/cgroup_v1.c - limits in control groups of version 1
 * (Linux, Documentation/admin-guide/cgroup-v1)
 */
#include "container/cgroup_priv.h"

#include "base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

/* New groups of cpuset are empty: their parent's CPUs and memory nodes. */
static int inherit(const struct cgroup *c, const struct cgroup_tree *t, const char *file)
{
	autostrbuf struct strbuf own = {0}, parent = {0};
	struct cgroup up = {.path = xstrdup(c->path)};
	int r = cgroup_read(c, t, file, &own);

	if (r == 0 && (!own.len || own.data[0] == '\n')) {
		char *slash = strrchr(up.path, '/');

		/* The root's own file has no directory before its name. */
		slash[slash == up.path] = '\0';
		r = cgroup_read(&up, t, file, &parent);
		if (r == 0)
			r = cgroup_write(c, t, file, parent.data ? parent.data : "");
	}
	free(up.path);
	return r;
}

int cgroup_v1_prepare(const struct cgroup *c, const struct cgroup_tree *t)
{
	int r;

	if (strcmp(t->controllers, "cpuset") != 0 && !strstr(t->controllers, "cpuset"))
		return 0;
	r = inherit(c, t, "cpuset.cpus");
	return r < 0 ? r : inherit(c, t, "cpuset.mems");
}

/* One file of one controller. */
static int put(const struct cgroup *c, const char *controller, const char *file, struct err *e,
	       const char *fmt, ...) printf_like(5, 6);

static int put(const struct cgroup *c, const char *controller, const char *file, struct err *e,
	       const char *fmt, ...)
{
	const struct cgroup_tree *t = cgroup_find(c, controller);
	char text[512];
	va_list ap;
	int r;

	if (!t)
		return err_msg(e, -ENOENT, "%s: the host has no controller '%s'", file, controller);
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	r = cgroup_write(c, t, file, text);
	return r < 0 ? err_set(e, r, "%s = %s", file, text) : 0;
}

static int put_opt(const struct cgroup *c, const char *controller, const char *file,
		   const struct spec_opt *o, struct err *e)
{
	return o->set ? put(c, controller, file, e, "%" PRId64, o->v) : 0;
}

static int put_u64(const struct cgroup *c, const char *controller, const char *file,
		   const struct spec_opt_u64 *o, struct err *e)
{
	return o->set ? put(c, controller, file, e, "%" PRIu64, o->v) : 0;
}

/* Memory may not be above memory and swap at any moment: which of them goes first depends. */
static int apply_memory_and_swap(const struct cgroup *c, const struct spec_resources *s,
				 struct err *e)
{
	const char *limit = "memory.limit_in_bytes", *swap = "memory.memsw.limit_in_bytes";
	const struct cgroup_tree *t = cgroup_find(c, "memory");
	uint64_t usage;
	int r;

	if (s->memory.limit.set && s->memory.limit.v > 0 && s->memory.check_before_update &&
	    cgroup_read_number(c, t, "memory.usage_in_bytes", &usage) &&
	    usage > (uint64_t)s->memory.limit.v)
		return err_msg(e, -EBUSY, "%s: %" PRIu64 " bytes are in use", limit, usage);
	if (!s->memory.limit.set || !s->memory.swap.set) {
		r = put_opt(c, "memory", limit, &s->memory.limit, e);
		return r < 0 ? r : put_opt(c, "memory", swap, &s->memory.swap, e);
	}
	/* Without accounting of swap there is no such file, and no limit to hold. */
	if (t && cgroup_read_number(c, t, swap, &usage) == false)
		return put_opt(c, "memory", limit, &s->memory.limit, e);
	if (put_opt(c, "memory", limit, &s->memory.limit, NULL) == 0)
		return put_opt(c, "memory", swap, &s->memory.swap, e);
	r = put_opt(c, "memory", swap, &s->memory.swap, e);
	return r < 0 ? r : put_opt(c, "memory", limit, &s->memory.limit, e);
}

static int apply_memory(const struct cgroup *c, const struct spec_resources *s, struct err *e)
{
	int r = apply_memory_and_swap(c, s, e);

	if (r == 0)
		r = put_opt(c, "memory", "memory.soft_limit_in_bytes", &s->memory.reservation, e);
	/* Deprecated by the specification, gone from Linux 6. */
	if (r == 0 && s->memory.kernel.set &&
	    put_opt(c, "memory", "memory.kmem.limit_in_bytes", &s->memory.kernel, NULL) < 0)
		log_warn("linux.resources.memory.kernel: this kernel has no such limit");
	if (r == 0)
		r = put_opt(c, "memory", "memory.kmem.tcp.limit_in_bytes", &s->memory.kernel_tcp,
			    e);
	if (r == 0)
		r = put_u64(c, "memory", "memory.swappiness", &s->memory.swappiness, e);
	if (r == 0 && s->memory.disable_oom_killer)
		r = put(c, "memory", "memory.oom_control", e, "1");
	return r;
}

static int apply_cpu(const struct cgroup *c, const struct spec_resources *s, struct err *e)
{
	struct spec_opt period = {s->cpu.period.set, (int64_t)s->cpu.period.v};
	int r = put_u64(c, "cpu", "cpu.shares", &s->cpu.shares, e);

	/* A quota may not be above its period's limit at any moment. */
	if (r == 0 && put_opt(c, "cpu", "cpu.cfs_period_us", &period, NULL) == 0) {
		r = put_opt(c, "cpu", "cpu.cfs_quota_us", &s->cpu.quota, e);
	} else if (r == 0) {
		r = put_opt(c, "cpu", "cpu.cfs_quota_us", &s->cpu.quota, e);
		if (r == 0)
			r = put_opt(c, "cpu", "cpu.cfs_period_us", &period, e);
	}
	if (r == 0)
		r = put_u64(c, "cpu", "cpu.cfs_burst_us", &s->cpu.burst, e);
	if (r == 0)
		r = put_u64(c, "cpu", "cpu.rt_period_us", &s->cpu.rt_period, e);
	if (r == 0)
		r = put_opt(c, "cpu", "cpu.rt_runtime_us", &s->cpu.rt_runtime, e);
	if (r == 0)
		r = put_opt(c, "cpu", "cpu.idle", &s->cpu.idle, e);
	if (r == 0 && s->cpu.cpus && s->cpu.cpus[0])
		r = put(c, "cpuset", "cpuset.cpus", e, "%s", s->cpu.cpus);
	if (r == 0 && s->cpu.mems && s->cpu.mems[0])
		r = put(c, "cpuset", "cpuset.mems", e, "%s", s->cpu.mems);
	return r;
}

static int apply_blkio(const struct cgroup *c, const struct spec_resources *s, struct err *e)
{
	static const char *const throttles[SPEC_THROTTLES] = {
	    "blkio.throttle.read_bps_device", "blkio.throttle.write_bps_device",
	    "blkio.throttle.read_iops_device", "blkio.throttle.write_iops_device"};
	int r = 0;

	/* The file's name depends on the scheduler that the kernel has. */
	if (s->blkio.weight.set && s->blkio.weight.v &&
	    put_opt(c, "blkio", "blkio.weight", &s->blkio.weight, NULL) < 0)
		r = put_opt(c, "blkio", "blkio.bfq.weight", &s->blkio.weight, e);
	if (r == 0 && s->blkio.leaf_weight.v)
		r = put_opt(c, "blkio", "blkio.leaf_weight", &s->blkio.leaf_weight, e);
	for (size_t i = 0; r == 0 && i < s->blkio.weights.n; i++) {
		const struct spec_blkio_value *v = &s->blkio.weights.v[i];

		if (v->weight.set)
			r = put(c, "blkio", "blkio.weight_device", e, "%u:%u %" PRIu64, v->major,
				v->minor, v->weight.v);
		if (r == 0 && v->leaf_weight.set)
			r = put(c, "blkio", "blkio.leaf_weight_device", e, "%u:%u %" PRIu64,
				v->major, v->minor, v->leaf_weight.v);
	}
	for (unsigned int k = 0; k < SPEC_THROTTLES; k++)
		for (size_t i = 0; r == 0 && i < s->blkio.throttles[k].n; i++) {
			const struct spec_blkio_value *v = &s->blkio.throttles[k].v[i];

			r = put(c, "blkio", throttles[k], e, "%u:%u %" PRIu64, v->major, v->minor,
				v->rate);
		}
	return r;
}

static int apply_others(const struct cgroup *c, const struct spec_resources *s, struct err *e)
{
	int r = 0;

	if (s->pids.set && s->pids.v > 0)
		r = put_opt(c, "pids", "pids.max", &s->pids, e);
	else if (s->pids.set && cgroup_find(c, "pids"))
		r = put(c, "pids", "pids.max", e, "max");
	for (size_t i = 0; r == 0 && i < s->n_huge; i++) {
		autofree char *file = xasprintf("hugetlb.%s.limit_in_bytes", s->huge[i].size);

		r = put(c, "hugetlb", file, e, "%" PRIu64, s->huge[i].limit);
	}
	if (r == 0)
		r = put_opt(c, "net_cls", "net_cls.classid", &s->net_class, e);
	for (size_t i = 0; r == 0 && i < s->net_priorities.n; i++)
		r = put(c, "net_prio", "net_prio.ifpriomap", e, "%s %s", s->net_priorities.v[i].key,
			s->net_priorities.v[i].value);
	for (size_t i = 0; r == 0 && i < s->n_rdma; i++) {
		const struct spec_rdma *d = &s->rdma[i];

		if (d->handles.set)
			r = put(c, "rdma", "rdma.max", e, "%s hca_handle=%" PRIu64, d->device,
				d->handles.v);
		if (r == 0 && d->objects.set)
			r = put(c, "rdma", "rdma.max", e, "%s hca_object=%" PRIu64, d->device,
				d->objects.v);
	}
	return r;
}

int cgroup_v1_apply(const struct cgroup *c, const struct spec_resources *s, struct err *e)
{
	int r;

	if (s->unified.n)
		return err_msg(e, -ENOTSUP,
			       "linux.resources.unified: this host has control groups of version "
			       "1");
	r = apply_memory(c, s, e);
	if (r == 0)
		r = apply_cpu(c, s, e);
	if (r == 0)
		r = apply_blkio(c, s, e);
	return r < 0 ? r : apply_others(c, s, e);
}

static void format_number(int64_t n, char out[24])
{
	if (n < 0)
		strcpy(out, "*");
	else
		snprintf(out, 24, "%" PRId64, n);
}

int cgroup_v1_devices(const struct cgroup *c, const struct spec_device_rule *rules, size_t n,
		      struct err *e)
{
	for (size_t i = 0; i < n; i++) {
		const struct spec_device_rule *d = &rules[i];
		const char *file = d->allow ? "devices.allow" : "devices.deny";
		char major[24], minor[24];
		int r;

		format_number(d->major, major);
		format_number(d->minor, minor);
		if (d->type == 'a')
			r = put(c, "devices", file, e, "a");
		else
			r = put(c, "devices", file, e, "%c %s:%s %s%s%s", d->type, major, minor,
				d->access & DEVICE_READ ? "r" : "",
				d->access & DEVICE_WRITE ? "w" : "",
				d->access & DEVICE_MKNOD ? "m" : "");
		if (r < 0)
			return r;
	}
	return 0;
}
