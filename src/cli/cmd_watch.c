/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/cmd_watch.c - insula logs, stats, top, events
 */
#include "base/clock.h"
#include "base/exit.h"
#include "base/fd.h"
#include "cli/cli.h"
#include "cli/client.h"
#include "cli/machine.h"
#include "cli/ui.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>

#define FOLLOW_MS   200
#define TOP_MS      2000
#define TOP_MAX     256
#define LOG_DEFAULT 65536

struct watch_config {
	struct machine_options common; /* first: its setters set it */
	bool follow;
	long long bytes;
	char *after;
};

static int set_follow(void *config, const char *value, struct err *e)
{
	((struct watch_config *)config)->follow = true;
	return 0;
}

static int set_bytes(void *config, const char *value, struct err *e)
{
	uint64_t n;
	int r = cli_parse_size(value, &n, e);

	if (r == 0)
		((struct watch_config *)config)->bytes = (long long)MIN(n, (uint64_t)2 << 20);
	return r;
}

static int set_after(void *config, const char *value, struct err *e)
{
	struct watch_config *c = config;

	if (!value[0] || strspn(value, "0123456789") != strlen(value))
		return err_msg(e, -EINVAL, "'%s' is no number", value);
	free(c->after);
	c->after = xstrdup(value);
	return 0;
}

static void watch_init(void *config)
{
	machine_options_init(config);
	((struct watch_config *)config)->bytes = LOG_DEFAULT;
}

static void watch_fini(void *config)
{
	machine_options_fini(config);
	free(((struct watch_config *)config)->after);
}

/* --- logs --- */

static int print_log(const char *name, const char *query, int64_t *next)
{
	autofree char *path = client_machine_path(name, query);
	autostrbuf struct strbuf text = {0};
	struct err e = {0};

	if (client_text(path, &text, next, &e) < 0)
		return ui_fail(&e, EXIT_FAIL);
	if (text.len && write_full(STDOUT_FILENO, text.data, text.len) < 0)
		return EXIT_FAIL; /* nobody reads it any more */
	return EXIT_OK;
}

static int logs_run(void *config, int argc, char **argv, char **command)
{
	struct watch_config *c = config;
	autofree char *query = xasprintf("/logs?bytes=%lld", c->bytes);
	int64_t next = 0;
	int status = machine_need_words("logs", argc, 1, "NAME");

	if (status == EXIT_OK)
		status = print_log(argv[0], query, &next);
	while (status == EXIT_OK && c->follow) {
		autofree char *more = xasprintf("/logs?offset=%lld", (long long)next);

		poll(NULL, 0, FOLLOW_MS);
		status = print_log(argv[0], more, &next);
	}
	return status;
}

static const struct cli_option logs_options[] = {
    {"follow", NULL, NULL, "go on as more comes", set_follow},
    {"bytes", "SIZE", NULL, "how much of the end (default 64K)", set_bytes},
    {"json", NULL, NULL, "tell errors as JSON", machine_set_json},
};

const struct cli_command cmd_logs = {
    .name = "logs",
    .usage = "NAME",
    .summary = "Show what a machine's serial console said.",
    .more = "The last MiB is kept, also of runs before.",
    .words = MACHINE_WORDS,
    .options = logs_options,
    .n_options = ARRAY_SIZE(logs_options),
    .config_size = sizeof(struct watch_config),
    .init = watch_init,
    .fini = watch_fini,
    .run = logs_run,
};

/* --- stats, top --- */

/* The statistics of the machines named, or of all that run. */
static int collect(int argc, char **argv, json_t **ret, struct err *e)
{
	json_t *answer = NULL, *list = json_array(), *names = json_array(), *m;
	size_t i;
	int r = 0;

	for (int k = 0; k < argc; k++)
		json_array_append_new(names, json_string(argv[k]));
	if (argc == 0) {
		r = client_call("GET", "/v1/machines", NULL, &answer, e);
		json_array_foreach(json_object_get(answer, "machines"), i, m)
		    json_array_append(names, json_object_get(m, "uuid"));
		json_decref(answer);
	}
	for (i = 0; r == 0 && i < json_array_size(names); i++) {
		autofree char *path =
		    client_machine_path(json_string_value(json_array_get(names, i)), "/stats");
		json_t *stats = NULL;

		r = client_call("GET", path, NULL, &stats, e);
		if (r == 0)
			json_array_append_new(list, stats);
		else if (argc == 0)
			r = 0; /* it ended since it was listed */
	}
	json_decref(names);
	if (r < 0)
		json_decref(list);
	else
		*ret = list;
	return r;
}

static const json_t *find_before(const json_t *before, const char *uuid)
{
	size_t i;
	json_t *m;

	json_array_foreach((json_t *)before, i, m)
	{
		if (strcmp(machine_text(m, "uuid"), uuid) == 0)
			return m;
	}
	return NULL;
}

/* CPU use since @before was taken, @ns ago; without it, since the start. */
static double cpu_percent(const json_t *m, const json_t *before, uint64_t ns)
{
	double used = (double)machine_int(m, "cpu_ns");
	double time = (double)machine_int(m, "uptime_ms") * NSEC_PER_MSEC;

	if (before) {
		used -= (double)machine_int(before, "cpu_ns");
		time = (double)ns;
	}
	return time > 0 ? used / time * 100 : 0;
}

static void print_stats(const json_t *list, const json_t *before, uint64_t ns)
{
	size_t i;
	json_t *m;

	printf("%-24s  %-8s  %-6s  %6s  %8s  %8s  %s\n", "NAME", "STATE", "ENGINE", "CPU %",
	       "MEMORY", "OF", "UP");
	json_array_foreach((json_t *)list, i, m)
	{
		const json_t *b = find_before(before, machine_text(m, "uuid"));
		char used[16], of[16], up[32];

		machine_size(machine_int(m, "resident"), used);
		machine_size(machine_int(m, "memory"), of);
		machine_duration(machine_int(m, "uptime_ms") / 1000, up);
		printf("%-24s  %-8s  %-6s  %6.1f  %8s  %8s  %s\n", machine_text(m, "name"),
		       machine_text(m, "state"), machine_text(m, "engine"), cpu_percent(m, b, ns),
		       used, of, up);
	}
}

static int stats_run(void *config, int argc, char **argv, char **command)
{
	struct machine_options *o = config;
	struct err e = {0};
	json_t *list = NULL;

	if (collect(argc, argv, &list, &e) < 0)
		return ui_fail(&e, EXIT_FAIL);
	if (o->json) {
		machine_print_json(list);
		return EXIT_OK;
	}
	print_stats(list, NULL, 0);
	json_decref(list);
	return EXIT_OK;
}

static const struct cli_option stats_options[] = {
    {"json", NULL, NULL, "print JSON", machine_set_json},
};

const struct cli_command cmd_stats = {
    .name = "stats",
    .usage = "[NAME...]",
    .summary = "Show what machines that run use of CPUs and memory, since their start.",
    .words = MACHINE_WORDS,
    .options = stats_options,
    .n_options = ARRAY_SIZE(stats_options),
    .config_size = sizeof(struct machine_options),
    .init = machine_options_init,
    .fini = machine_options_fini,
    .run = stats_run,
};

static volatile sig_atomic_t ended;

static void on_signal(int signal)
{
	ended = 1;
}

static int top_run(void *config, int argc, char **argv, char **command)
{
	struct sigaction sa = {.sa_handler = on_signal};
	json_t *before = NULL, *list = NULL;
	struct err e = {0};
	uint64_t then = 0;
	int r = 0;

	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	while (!ended && (r = collect(argc, argv, &list, &e)) == 0) {
		uint64_t now = clock_now();

		if (isatty(STDOUT_FILENO))
			printf("\033[H\033[J");
		print_stats(list, before, now - then);
		if (fflush(stdout) != 0)
			break;
		json_decref(before);
		before = list;
		then = now;
		poll(NULL, 0, TOP_MS);
	}
	json_decref(before);
	return r < 0 ? ui_fail(&e, EXIT_FAIL) : EXIT_OK;
}

const struct cli_command cmd_top = {
    .name = "top",
    .usage = "[NAME...]",
    .summary = "Show what machines use, again every two seconds.",
    .words = MACHINE_WORDS,
    .options = NULL,
    .n_options = 0,
    .config_size = sizeof(struct machine_options),
    .init = machine_options_init,
    .fini = machine_options_fini,
    .run = top_run,
};

/* --- events --- */

static void print_more(const json_t *ev)
{
	const char *key;
	json_t *v;

	json_object_foreach((json_t *)ev, key, v)
	{
		autofree char *text = NULL;

		if (strcmp(key, "type") == 0 || strcmp(key, "time") == 0 ||
		    strcmp(key, "machine") == 0 || strcmp(key, "id") == 0)
			continue;
		if (json_is_string(v) && !json_string_length(v))
			continue;
		text = json_is_string(v) ? xstrdup(json_string_value(v))
					 : json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);
		printf("  %s=%s", key, text ? text : "");
	}
}

static bool print_event(void *opaque, json_t *ev)
{
	const struct watch_config *c = opaque;
	time_t t = (time_t)json_number_value(json_object_get(ev, "time"));
	struct tm tm;
	char clock[32];

	if (c->common.json) {
		json_dumpf(ev, stdout, JSON_COMPACT);
		putchar('\n');
		return fflush(stdout) == 0;
	}
	localtime_r(&t, &tm);
	strftime(clock, sizeof(clock), "%F %T", &tm);
	printf("%s  %-18s  %s", clock, machine_text(ev, "type"),
	       machine_text(json_object_get(ev, "machine"), "name"));
	print_more(ev);
	putchar('\n');
	return fflush(stdout) == 0;
}

static int events_run(void *config, int argc, char **argv, char **command)
{
	struct watch_config *c = config;
	autofree char *path =
	    xasprintf("/v1/events%s%s", c->after ? "?after=" : "", c->after ? c->after : "");
	struct err e = {0};
	int status = machine_need_words("events", argc, 0, "");

	if (status != EXIT_OK)
		return status;
	if (client_events(path, print_event, c, &e) < 0)
		return ui_fail(&e, EXIT_FAIL);
	return EXIT_OK;
}

static const struct cli_option events_options[] = {
    {"after", "ID", NULL, "begin after this event; 0 = with the oldest that is kept", set_after},
    {"json", NULL, NULL, "print JSON lines", machine_set_json},
};

const struct cli_command cmd_events = {
    .name = "events",
    .usage = "",
    .summary = "Show what happens to machines, as it happens.",
    .options = events_options,
    .n_options = ARRAY_SIZE(events_options),
    .config_size = sizeof(struct watch_config),
    .init = watch_init,
    .fini = watch_fini,
    .run = events_run,
};
