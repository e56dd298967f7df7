/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container/cgroup_stats.c - what a container uses
 */
#include "container/cgroup_priv.h"

#include <inttypes.h>
#include <stdio.h>

/* The number after "NAME " at a line's start of a file of such lines. */
static bool keyed(const struct cgroup *c, const char *controller, const char *file,
		  const char *name, uint64_t *ret)
{
	const struct cgroup_tree *t = cgroup_find(c, controller);
	autostrbuf struct strbuf text = {0};
	size_t len = strlen(name);

	if (!t || cgroup_read(c, t, file, &text) < 0)
		return false;
	for (const char *p = text.data; p && *p; p = strchr(p, '\n')) {
		p += *p == '\n';
		if (strncmp(p, name, len) == 0 && p[len] == ' ') {
			*ret = strtoull(p + len + 1, NULL, 10);
			return true;
		}
	}
	return false;
}

static json_t *number(const struct cgroup *c, const char *controller, const char *file)
{
	uint64_t n;

	/* "max" has no number, and is left out. */
	if (!cgroup_read_number(c, cgroup_find(c, controller), file, &n))
		return NULL;
	return json_integer((json_int_t)MIN(n, (uint64_t)INT64_MAX));
}

static json_t *keyed_number(const struct cgroup *c, const char *controller, const char *file,
			    const char *name, uint64_t factor)
{
	uint64_t n;

	return keyed(c, controller, file, name, &n) ? json_integer((json_int_t)(n * factor)) : NULL;
}

static void set(json_t *o, const char *key, json_t *value)
{
	if (value)
		json_object_set_new(o, key, value);
}

static json_t *cpu(const struct cgroup *c)
{
	json_t *usage = json_object(), *throttling = json_object(), *o = json_object();

	/* Nanoseconds, whatever the file counts in. */
	if (c->v2) {
		set(usage, "total", keyed_number(c, "cpu", "cpu.stat", "usage_usec", 1000));
		set(usage, "user", keyed_number(c, "cpu", "cpu.stat", "user_usec", 1000));
		set(usage, "kernel", keyed_number(c, "cpu", "cpu.stat", "system_usec", 1000));
	} else {
		set(usage, "total", number(c, "cpuacct", "cpuacct.usage"));
		set(usage, "user", number(c, "cpuacct", "cpuacct.usage_user"));
		set(usage, "kernel", number(c, "cpuacct", "cpuacct.usage_sys"));
	}
	set(throttling, "periods", keyed_number(c, "cpu", "cpu.stat", "nr_periods", 1));
	set(throttling, "throttledPeriods", keyed_number(c, "cpu", "cpu.stat", "nr_throttled", 1));
	set(throttling, "throttledTime",
	    c->v2 ? keyed_number(c, "cpu", "cpu.stat", "throttled_usec", 1000)
		  : keyed_number(c, "cpu", "cpu.stat", "throttled_time", 1));
	set(o, "usage", usage);
	set(o, "throttling", throttling);
	return o;
}

static json_t *memory(const struct cgroup *c)
{
	json_t *usage = json_object(), *o = json_object();

	set(usage, "usage",
	    number(c, "memory", c->v2 ? "memory.current" : "memory.usage_in_bytes"));
	set(usage, "max", number(c, "memory", c->v2 ? "memory.peak" : "memory.max_usage_in_bytes"));
	set(usage, "limit", number(c, "memory", c->v2 ? "memory.max" : "memory.limit_in_bytes"));
	set(usage, "failcnt",
	    c->v2 ? keyed_number(c, "memory", "memory.events", "max", 1)
		  : number(c, "memory", "memory.failcnt"));
	set(o, "usage", usage);
	set(o, "cache", keyed_number(c, "memory", "memory.stat", c->v2 ? "file" : "cache", 1));
	set(o, "oomKills",
	    keyed_number(c, "memory", c->v2 ? "memory.events" : "memory.oom_control", "oom_kill",
			 1));
	return o;
}

static json_t *pids(const struct cgroup *c)
{
	json_t *o = json_object();

	set(o, "current", number(c, "pids", "pids.current"));
	set(o, "limit", number(c, "pids", "pids.max"));
	return o;
}

void cgroup_stats(const struct cgroup *c, struct strbuf *out)
{
	json_t *o = json_object();
	char *text;

	if (c->path) {
		set(o, "cpu", cpu(c));
		set(o, "memory", memory(c));
		set(o, "pids", pids(c));
	}
	text = json_dumps(o, JSON_COMPACT);
	strbuf_puts(out, text ? text : "{}");
	free(text);
	json_decref(o);
}
