/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container/cmd_update.c - update, events
 */
#include "container/cmd.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

enum {
	OPT_BLKIO_WEIGHT = 256,
	OPT_CPU_PERIOD,
	OPT_CPU_QUOTA,
	OPT_CPU_BURST,
	OPT_CPU_SHARE,
	OPT_CPU_RT_PERIOD,
	OPT_CPU_RT_RUNTIME,
	OPT_CPU_IDLE,
	OPT_CPUSET_CPUS,
	OPT_CPUSET_MEMS,
	OPT_MEMORY,
	OPT_MEMORY_RESERVATION,
	OPT_MEMORY_SWAP,
	OPT_PIDS_LIMIT,
	OPT_INTERVAL,
	OPT_STATS,
};

static const struct option update_options[] = {
    {"resources", required_argument, NULL, 'r'},
    {"blkio-weight", required_argument, NULL, OPT_BLKIO_WEIGHT},
    {"cpu-period", required_argument, NULL, OPT_CPU_PERIOD},
    {"cpu-quota", required_argument, NULL, OPT_CPU_QUOTA},
    {"cpu-burst", required_argument, NULL, OPT_CPU_BURST},
    {"cpu-shares", required_argument, NULL, OPT_CPU_SHARE},
    {"cpu-rt-period", required_argument, NULL, OPT_CPU_RT_PERIOD},
    {"cpu-rt-runtime", required_argument, NULL, OPT_CPU_RT_RUNTIME},
    {"cpu-idle", required_argument, NULL, OPT_CPU_IDLE},
    {"cpuset-cpus", required_argument, NULL, OPT_CPUSET_CPUS},
    {"cpuset-mems", required_argument, NULL, OPT_CPUSET_MEMS},
    {"memory", required_argument, NULL, OPT_MEMORY},
    {"memory-reservation", required_argument, NULL, OPT_MEMORY_RESERVATION},
    {"memory-swap", required_argument, NULL, OPT_MEMORY_SWAP},
    {"pids-limit", required_argument, NULL, OPT_PIDS_LIMIT},
    {0},
};

/* Where an option's number goes. */
static struct spec_opt *signed_field(int c, struct spec_resources *r)
{
	switch (c) {
	case OPT_BLKIO_WEIGHT:
		return &r->blkio.weight;
	case OPT_CPU_QUOTA:
		return &r->cpu.quota;
	case OPT_CPU_RT_RUNTIME:
		return &r->cpu.rt_runtime;
	case OPT_CPU_IDLE:
		return &r->cpu.idle;
	case OPT_MEMORY:
		return &r->memory.limit;
	case OPT_MEMORY_RESERVATION:
		return &r->memory.reservation;
	case OPT_MEMORY_SWAP:
		return &r->memory.swap;
	case OPT_PIDS_LIMIT:
		return &r->pids;
	default:
		return NULL;
	}
}

static struct spec_opt_u64 *unsigned_field(int c, struct spec_resources *r)
{
	switch (c) {
	case OPT_CPU_PERIOD:
		return &r->cpu.period;
	case OPT_CPU_BURST:
		return &r->cpu.burst;
	case OPT_CPU_SHARE:
		return &r->cpu.shares;
	case OPT_CPU_RT_PERIOD:
		return &r->cpu.rt_period;
	default:
		return NULL;
	}
}

static int apply(int c, struct spec_resources *res, struct err *e)
{
	struct spec_opt *s = signed_field(c, res);
	struct spec_opt_u64 *u = unsigned_field(c, res);
	int64_t n = 0;
	int r;

	if (c == OPT_CPUSET_CPUS) {
		res->cpu.cpus = optarg;
		return 0;
	}
	if (c == OPT_CPUSET_MEMS) {
		res->cpu.mems = optarg;
		return 0;
	}
	if (!s && !u)
		return -EINVAL;
	r = cmd_number("update", optarg, s ? -1 : 0, INT64_MAX, &n, e);
	if (r == 0 && s)
		*s = (struct spec_opt){.set = true, .v = n};
	else if (r == 0)
		*u = (struct spec_opt_u64){.set = true, .v = (uint64_t)n};
	return r;
}

static int read_resources(const char *path, struct json_doc *doc, struct spec_resources *res,
			  struct err *e)
{
	autostrbuf struct strbuf text = {0};
	int r = cmd_read(path, &text, e);

	return r < 0 ? r : spec_resources_parse(text.data ? text.data : "", text.len, doc, res, e);
}

int cmd_update(const struct container_runtime *rt, int argc, char **argv, struct err *e)
{
	struct spec_resources res = {0};
	struct json_doc doc = {0};
	const char *id = NULL;
	int c, r = 0;

	/* The file replaces all, so that it comes first wherever it stands. */
	while (r == 0 && (c = cmd_option(argc, argv, update_options, e)) != -1)
		if (c == 'r')
			r = read_resources(optarg, &doc, &res, e);
		else if (c == '?')
			r = -EINVAL;
	optind = 1;
	while (r == 0 && (c = cmd_option(argc, argv, update_options, e)) != -1)
		if (c != 'r')
			r = apply(c, &res, e);
	if (r == 0 && !(id = cmd_id(argc, argv, e)))
		r = -EINVAL;
	if (r == 0)
		r = container_update(rt, id, &res, e);
	spec_resources_fini(&res);
	json_doc_fini(&doc);
	return r < 0 ? -1 : 0;
}

static int print_stats(const struct container_runtime *rt, const char *id, struct err *e)
{
	autostrbuf struct strbuf data = {0};

	if (container_stats(rt, id, &data, e) < 0)
		return -1;
	printf("{\"type\":\"stats\",\"id\":\"%s\",\"data\":%s}\n", id, data.data);
	fflush(stdout);
	return 0;
}

int cmd_events(const struct container_runtime *rt, int argc, char **argv, struct err *e)
{
	static const struct option options[] = {{"stats", no_argument, NULL, OPT_STATS},
						{"interval", required_argument, NULL, OPT_INTERVAL},
						{0}};
	struct timespec pause = {.tv_sec = 5};
	bool once = false;
	const char *id;
	int64_t n;
	int c;

	while ((c = cmd_option(argc, argv, options, e)) != -1) {
		if (c == OPT_STATS) {
			once = true;
			continue;
		}
		if (c != OPT_INTERVAL)
			return -1;
		/* "5s", as others write it. */
		if (optarg[0] && optarg[strlen(optarg) - 1] == 's')
			optarg[strlen(optarg) - 1] = '\0';
		if (cmd_number("--interval", optarg, 1, 86400, &n, e) < 0)
			return -1;
		pause.tv_sec = (time_t)n;
	}
	id = cmd_id(argc, argv, e);
	if (!id || print_stats(rt, id, e) < 0)
		return -1;
	while (!once) {
		struct err gone = {0};

		nanosleep(&pause, NULL);
		/* Its end is the end of its events. */
		if (print_stats(rt, id, &gone) < 0)
			break;
	}
	return 0;
}
