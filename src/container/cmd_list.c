/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container/cmd_list.c - list, ps
 */
#include "container/cmd.h"
#include "container/proc.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

static const struct option options[] = {
    {"format", required_argument, NULL, 'f'}, {"quiet", no_argument, NULL, 'q'}, {0}};

struct format {
	bool json, quiet;
};

static int parse(int argc, char **argv, struct format *f, struct err *e)
{
	int c;

	while ((c = cmd_option(argc, argv, options, e)) != -1) {
		if (c == 'q')
			f->quiet = true;
		else if (c == 'f' && strcmp(optarg, "json") == 0)
			f->json = true;
		else if (c == 'f' && strcmp(optarg, "table") == 0)
			f->json = false;
		else
			return c == 'f' ? err_msg(e, -EINVAL,
						  "--format: '%s' is neither table nor "
						  "json",
						  optarg)
					: -EINVAL;
	}
	return 0;
}

static void time_text(int64_t seconds, char out[32])
{
	time_t t = (time_t)seconds;
	struct tm tm;

	gmtime_r(&t, &tm);
	strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

static void list_json(void *opaque, const struct state *s, enum state_status status)
{
	char created[32];

	time_text(s->created, created);
	json_array_append_new(
	    opaque, json_pack("{s:s, s:s, s:I, s:s, s:s, s:s, s:I}", "ociVersion", s->version, "id",
			      s->id, "pid", (json_int_t)(status == STATE_STOPPED ? 0 : s->pid),
			      "status", state_status_names[status], "bundle", s->bundle, "created",
			      created, "owner", (json_int_t)s->owner));
}

static void list_row(void *opaque, const struct state *s, enum state_status status)
{
	const struct format *f = opaque;
	char created[32];

	time_text(s->created, created);
	if (f->quiet)
		puts(s->id);
	else
		printf("%-24s %-8d %-9s %-21s %s\n", s->id, status == STATE_STOPPED ? 0 : s->pid,
		       state_status_names[status], created, s->bundle);
}

int cmd_list(const struct container_runtime *rt, int argc, char **argv, struct err *e)
{
	struct format f = {0};
	json_t *all;
	int r;

	if (parse(argc, argv, &f, e) < 0)
		return -1;
	if (!f.json) {
		if (!f.quiet)
			printf("%-24s %-8s %-9s %-21s %s\n", "ID", "PID", "STATUS", "CREATED",
			       "BUNDLE");
		return container_list(rt, list_row, &f, e) < 0 ? -1 : 0;
	}
	all = json_array();
	r = container_list(rt, list_json, all, e);
	if (r == 0) {
		json_dumpf(all, stdout, JSON_COMPACT);
		putchar('\n');
	}
	json_decref(all);
	return r < 0 ? -1 : 0;
}

/* ps(1) with the container's processes picked out of its table by the column PID. */
static int print_table(const pid_t *pids, size_t n, struct err *e)
{
	FILE *f = popen("ps -ef", "r");
	char line[4096];
	int column = -1;

	if (!f)
		return err_set(e, -errno, "run ps");
	while (fgets(line, sizeof(line), f)) {
		autofree char *copy = xstrdup(line);
		char *save, *word = strtok_r(copy, " \n", &save);
		long pid = 0;

		for (int i = 0; word; word = strtok_r(NULL, " \n", &save), i++) {
			if (column < 0 && strcmp(word, "PID") == 0) {
				column = i;
				fputs(line, stdout);
				break;
			}
			if (i == column)
				pid = strtol(word, NULL, 10);
		}
		for (size_t i = 0; i < n; i++)
			if (pid && pids[i] == pid)
				fputs(line, stdout);
	}
	return pclose(f) == 0 ? 0 : err_msg(e, -EIO, "ps failed");
}

int cmd_ps(const struct container_runtime *rt, int argc, char **argv, struct err *e)
{
	struct format f = {0};
	autofree pid_t *pids = NULL;
	size_t n;
	int r;

	if (parse(argc, argv, &f, e) < 0)
		return -1;
	if (optind == argc) {
		err_msg(e, -EINVAL, "ps: the container's name is missing");
		return -1;
	}
	if (container_pids(rt, argv[optind], &pids, &n, e) < 0)
		return -1;
	if (!f.json) {
		r = print_table(pids, n, e);
		return r < 0 ? -1 : 0;
	}
	putchar('[');
	for (size_t i = 0; i < n; i++)
		printf("%s%d", i ? "," : "", pids[i]);
	puts("]");
	return 0;
}
