/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container/cgroup_v2.c - limits in control groups of version 2
 * (Linux, Documentation/admin-guide/cgroup-v2.rst)
 */
#include "base/fd.h"
#include "container/cgroup_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

void cgroup_v2_enable(const struct cgroup *c)
{
	autofree char *path = xstrdup(c->path);
	const struct cgroup_tree *t = &c->trees[0];

	/* Of each directory above ours, from the root on.  What cannot be handed down is missed
	 * when a limit wants it. */
	for (char *p = path; *p; p++) {
		autostrbuf struct strbuf have = {0};
		struct cgroup up = {.v2 = true, .path = path};
		char *word, *save;

		if (*p != '/')
			continue;
		*p = '\0';
		if (p == path)
			up.path = (char[]){"/"};
		if (cgroup_read(&up, t, "cgroup.controllers", &have) == 0 && have.data)
			for (word = strtok_r(have.data, " \n", &save); word;
			     word = strtok_r(NULL, " \n", &save)) {
				autofree char *plus = xasprintf("+%s", word);

				(void)!cgroup_write(&up, t, "cgroup.subtree_control", plus);
			}
		*p = '/';
	}
}

static int put(const struct cgroup *c, const char *file, struct err *e, const char *fmt, ...)
    printf_like(4, 5);

static int put(const struct cgroup *c, const char *file, struct err *e, const char *fmt, ...)
{
	char text[512];
	va_list ap;
	int r;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	r = cgroup_write(c, &c->trees[0], file, text);
	return r < 0 ? err_set(e, r, "%s = %s", file, text) : 0;
}

/* -1 is how the specification writes "no limit". */
static int put_limit(const struct cgroup *c, const char *file, int64_t v, struct err *e)
{
	return v < 0 ? put(c, file, e, "max") : put(c, file, e, "%" PRId64, v);
}

static int apply_memory(const struct cgroup *c, const struct spec_resources *s, struct err *e)
{
	uint64_t usage;
	int r = 0;

	if (s->memory.limit.set && s->memory.limit.v > 0 && s->memory.check_before_update &&
	    cgroup_read_number(c, &c->trees[0], "memory.current", &usage) &&
	    usage > (uint64_t)s->memory.limit.v)
		return err_msg(e, -EBUSY, "memory.max: %" PRIu64 " bytes are in use", usage);
	/* The specification counts memory and swap together, version 2 apart. */
	if (s->memory.swap.set && s->memory.swap.v) {
		int64_t swap = s->memory.swap.v;

		if (swap > 0 && (!s->memory.limit.set || s->memory.limit.v <= 0))
			return err_msg(e, -EINVAL, "linux.resources.memory.swap: needs a limit");
		if (swap > 0 && swap < s->memory.limit.v)
			return err_msg(
			    e, -EINVAL,
			    "linux.resources.memory.swap: %" PRId64 " is below the limit", swap);
		r = put_limit(c, "memory.swap.max", swap < 0 ? -1 : swap - s->memory.limit.v, e);
		/* Without swap there is no such file. */
		if (r == -ENOENT)
			r = 0;
	}
	if (r == 0 && s->memory.limit.set && s->memory.limit.v)
		r = put_limit(c, "memory.max", s->memory.limit.v, e);
	if (r == 0 && s->memory.reservation.set && s->memory.reservation.v)
		r = put_limit(c, "memory.low", s->memory.reservation.v, e);
	return r;
}

/* Shares 2..262144 to weight 1..10000 so that the defaults meet: 1024 gives 100. */
static uint64_t weight_of_shares(uint64_t shares)
{
	double l = log2((double)MIN(MAX(shares, UINT64_C(2)), UINT64_C(262144)));

	return (uint64_t)ceil(pow(10, (l * l + 125 * l) / 612.0 - 7.0 / 34.0));
}

static int apply_cpu(const struct cgroup *c, const struct spec_resources *s, struct err *e)
{
	int r = 0;

	/* An idle group has no weight of its own. */
	if (s->cpu.idle.set)
		r = put(c, "cpu.idle", e, "%" PRId64, s->cpu.idle.v);
	if (r == 0 && s->cpu.shares.set && s->cpu.shares.v && !s->cpu.idle.v)
		r = put(c, "cpu.weight", e, "%" PRIu64, weight_of_shares(s->cpu.shares.v));
	if (r == 0 && (s->cpu.quota.set || s->cpu.period.set)) {
		char quota[24] = "max";
		uint64_t period = s->cpu.period.set && s->cpu.period.v ? s->cpu.period.v : 100000;

		if (s->cpu.quota.set && s->cpu.quota.v > 0)
			snprintf(quota, sizeof(quota), "%" PRId64, s->cpu.quota.v);
		r = put(c, "cpu.max", e, "%s %" PRIu64, quota, period);
	}
	if (r == 0 && s->cpu.burst.set)
		r = put(c, "cpu.max.burst", e, "%" PRIu64, s->cpu.burst.v);
	if (r == 0 && s->cpu.cpus && s->cpu.cpus[0])
		r = put(c, "cpuset.cpus", e, "%s", s->cpu.cpus);
	if (r == 0 && s->cpu.mems && s->cpu.mems[0])
		r = put(c, "cpuset.mems", e, "%s", s->cpu.mems);
	return r;
}

static int apply_io(const struct cgroup *c, const struct spec_resources *s, struct err *e)
{
	static const char *const words[SPEC_THROTTLES] = {"rbps", "wbps", "riops", "wiops"};
	int r = 0;

	if (s->blkio.weight.set && s->blkio.weight.v &&
	    put(c, "io.bfq.weight", NULL, "%" PRId64, s->blkio.weight.v) < 0)
		/* 10..1000 to 1..10000 */
		r = put(c, "io.weight", e, "%" PRId64,
			1 + (MAX(s->blkio.weight.v, INT64_C(10)) - 10) * 9999 / 990);
	for (size_t i = 0; r == 0 && i < s->blkio.weights.n; i++) {
		const struct spec_blkio_value *v = &s->blkio.weights.v[i];

		r = put(c, "io.bfq.weight", e, "%u:%u %" PRIu64, v->major, v->minor, v->weight.v);
	}
	for (unsigned int k = 0; k < SPEC_THROTTLES; k++)
		for (size_t i = 0; r == 0 && i < s->blkio.throttles[k].n; i++) {
			const struct spec_blkio_value *v = &s->blkio.throttles[k].v[i];

			r = put(c, "io.max", e, "%u:%u %s=%" PRIu64, v->major, v->minor, words[k],
				v->rate);
		}
	return r;
}

int cgroup_v2_apply(const struct cgroup *c, const struct spec_resources *s, struct err *e)
{
	int r = apply_memory(c, s, e);

	if (r == 0)
		r = apply_cpu(c, s, e);
	if (r == 0)
		r = apply_io(c, s, e);
	if (r == 0 && s->pids.set && (s->pids.v > 0 || cgroup_find(c, "pids")))
		r = put_limit(c, "pids.max", s->pids.v > 0 ? s->pids.v : -1, e);
	for (size_t i = 0; r == 0 && i < s->n_huge; i++) {
		autofree char *file = xasprintf("hugetlb.%s.max", s->huge[i].size);

		r = put(c, file, e, "%" PRIu64, s->huge[i].limit);
	}
	for (size_t i = 0; r == 0 && i < s->n_rdma; i++) {
		const struct spec_rdma *d = &s->rdma[i];
		autostrbuf struct strbuf line = {0};

		strbuf_puts(&line, d->device);
		if (d->handles.set)
			strbuf_printf(&line, " hca_handle=%" PRIu64, d->handles.v);
		if (d->objects.set)
			strbuf_printf(&line, " hca_object=%" PRIu64, d->objects.v);
		r = put(c, "rdma.max", e, "%s", line.data);
	}
	for (size_t i = 0; r == 0 && i < s->unified.n; i++)
		r = put(c, s->unified.v[i].key, e, "%s", s->unified.v[i].value);
	return r;
}
