/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/cmd_power.c - insula start, stop, shutdown, reboot, reset, pause, resume, delete, wait,
 * autostart
 */
#include "base/clock.h"
#include "base/exit.h"
#include "cli/cli.h"
#include "cli/client.h"
#include "cli/loose.h"
#include "cli/machine.h"
#include "cli/ui.h"

#include <errno.h>
#include <stdio.h>

static const struct cli_option json_options[] = {
    {"json", NULL, NULL, "tell errors as JSON", machine_set_json},
};

/* The same for a machine that insulad knows nothing of; false = @e still tells the failure. */
static bool by_itself(const char *command, const char *name, struct err *e)
{
	static const struct {
		const char *command, *told;
	} known[] = {{"stop", "stop"},
		     {"shutdown", "powerdown"},
		     {"reset", "reset"},
		     {"pause", "pause"},
		     {"resume", "resume"}};

	if (e->exit_code != EXIT_NO_MACHINE)
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		struct err none = {0};
		int r;

		if (strcmp(known[i].command, command) != 0)
			continue;
		r = loose_call(name, known[i].told, &none);
		if (r < 0 && r != -ENOENT)
			*e = none;
		return r == 0;
	}
	return false;
}

/* One request for each machine named; all are tried, the first failure's status is ours. */
static int each(const char *command, int argc, char **argv, const char *method, const char *rest)
{
	int status = EXIT_OK;

	if (argc == 0)
		return ui_error(EXIT_USAGE, "insula %s NAME...: which machine?", command);
	for (int i = 0; i < argc; i++) {
		autofree char *path = client_machine_path(argv[i], rest);
		struct err e = {0};
		int s = EXIT_OK;

		if (client_call(method, path, NULL, NULL, &e) < 0 &&
		    !by_itself(command, argv[i], &e))
			s = ui_fail(&e, EXIT_FAIL);
		status = status ? status : s;
	}
	return status;
}

#define SIMPLE(name_, summary_, more_)                                                             \
	static int name_##_run(void *config, int argc, char **argv, char **command)                \
	{                                                                                          \
		return each(#name_, argc, argv, "POST", "/" #name_);                               \
	}                                                                                          \
	const struct cli_command cmd_##name_ = {                                                   \
	    .name = #name_,                                                                        \
	    .usage = "NAME...",                                                                    \
	    .summary = summary_,                                                                   \
	    .more = more_,                                                                         \
	    .words = MACHINE_WORDS,                                                                \
	    .options = json_options,                                                               \
	    .n_options = ARRAY_SIZE(json_options),                                                 \
	    .config_size = sizeof(struct machine_options),                                         \
	    .init = machine_options_init,                                                          \
	    .fini = machine_options_fini,                                                          \
	    .run = name_##_run,                                                                    \
	}

SIMPLE(start, "Start machines.",
       "Comes back when they run; `insula wait --for agent` waits until the guest is up.");
SIMPLE(stop, "Cut the power of machines.",
       "What the guest did not write is lost, as with a PC: `insula shutdown` asks it first.");
SIMPLE(reboot, "Ask guests to start again.", NULL);
SIMPLE(reset, "Press the reset button of machines.", NULL);
SIMPLE(pause, "Hold machines: their CPUs stop, their memory stays.", NULL);
SIMPLE(resume, "Let paused machines go on.", NULL);

/* --- shutdown --- */

static int shutdown_run(void *config, int argc, char **argv, char **command)
{
	struct machine_options *o = config;
	autofree char *rest = o->timeout >= 0 ? xasprintf("/shutdown?timeout=%lld", o->timeout)
					      : xstrdup("/shutdown");

	return each("shutdown", argc, argv, "POST", rest);
}

static const struct cli_option shutdown_options[] = {
    {"timeout", "SECONDS", NULL, "how long to wait for it (default 60; 0 = ask only)",
     machine_set_timeout},
    {"json", NULL, NULL, "tell errors as JSON", machine_set_json},
};

const struct cli_command cmd_shutdown = {
    .name = "shutdown",
    .usage = "NAME...",
    .summary = "Ask guests to shut down, and wait until they did.",
    .more = "The guest's agent is asked, or the power button pressed where there is none.",
    .words = MACHINE_WORDS,
    .options = shutdown_options,
    .n_options = ARRAY_SIZE(shutdown_options),
    .config_size = sizeof(struct machine_options),
    .init = machine_options_init,
    .fini = machine_options_fini,
    .run = shutdown_run,
};

/* --- delete --- */

static int delete_run(void *config, int argc, char **argv, char **command)
{
	struct machine_options *o = config;

	return each("delete", argc, argv, "DELETE", o->force ? "?force=true" : "");
}

static const struct cli_option delete_options[] = {
    {"force", NULL, NULL, "stop it first if it runs", machine_set_force},
    {"json", NULL, NULL, "tell errors as JSON", machine_set_json},
};

const struct cli_command cmd_delete = {
    .name = "delete",
    .usage = "NAME...",
    .summary = "Delete machines, with the disks that were made for them.",
    .more = "Files of yours (--disk, --cdrom, --share) stay. There is no way back.",
    .words = MACHINE_WORDS,
    .options = delete_options,
    .n_options = ARRAY_SIZE(delete_options),
    .config_size = sizeof(struct machine_options),
    .init = machine_options_init,
    .fini = machine_options_fini,
    .run = delete_run,
};

/* --- wait --- */

static int set_state(void *config, const char *value, struct err *e)
{
	struct machine_options *o = config;

	free(o->state);
	o->state = xstrdup(value);
	return 0;
}

/* Asks again and again, since a request takes a minute at most. */
static int wait_one(const char *name, const struct machine_options *o)
{
	uint64_t start = clock_now();

	for (;;) {
		long long left =
		    o->timeout < 0
			? 30000
			: o->timeout - (long long)((clock_now() - start) / NSEC_PER_MSEC);
		autofree char *rest =
		    xasprintf("/wait?for=%s&timeout=%lld", o->state ? o->state : "stopped",
			      left < 0       ? 0
			      : left > 30000 ? 30000
					     : left);
		autofree char *path = client_machine_path(name, rest);
		struct err e = {0};
		json_t *answer = NULL;
		bool reached;

		if (client_call("GET", path, NULL, &answer, &e) < 0)
			return ui_fail(&e, EXIT_FAIL);
		reached = json_is_true(json_object_get(answer, "reached"));
		json_decref(answer);
		if (reached)
			return EXIT_OK;
		if (o->timeout >= 0 && left <= 0)
			return ui_error(EXIT_WRONG_STATE, "'%s' is not %s after %lld s", name,
					o->state ? o->state : "stopped", o->timeout / 1000);
	}
}

static int wait_run(void *config, int argc, char **argv, char **command)
{
	int status = EXIT_OK;

	if (argc == 0)
		return ui_error(EXIT_USAGE, "insula wait NAME...: which machine?");
	for (int i = 0; i < argc && status == EXIT_OK; i++)
		status = wait_one(argv[i], config);
	return status;
}

static const struct cli_option wait_options[] = {
    {"for", "STATE", "stopped running agent",
     "stopped (default), running, or agent: the guest is up and answers", set_state},
    {"timeout", "SECONDS", NULL, "give up after so long (default: never)", machine_set_timeout},
    {"json", NULL, NULL, "tell errors as JSON", machine_set_json},
};

const struct cli_command cmd_wait = {
    .name = "wait",
    .usage = "NAME...",
    .summary = "Wait until machines are in a state.",
    .words = MACHINE_WORDS,
    .options = wait_options,
    .n_options = ARRAY_SIZE(wait_options),
    .config_size = sizeof(struct machine_options),
    .init = machine_options_init,
    .fini = machine_options_fini,
    .run = wait_run,
};

/* --- autostart --- */

static int autostart_run(void *config, int argc, char **argv, char **command)
{
	bool off = argc == 2 && strcmp(argv[1], "off") == 0;
	autofree char *path = NULL;
	struct err e = {0};

	if (argc < 1 || argc > 2 || (argc == 2 && !off && strcmp(argv[1], "on") != 0))
		return ui_error(EXIT_USAGE, "insula autostart NAME [on|off]");
	path = client_machine_path(argv[0], "");
	if (client_call("PATCH", path, json_pack("{s:b}", "autostart", !off), NULL, &e) < 0)
		return ui_fail(&e, EXIT_FAIL);
	return EXIT_OK;
}

const struct cli_command cmd_autostart = {
    .name = "autostart",
    .usage = "NAME [on|off]",
    .summary = "Start a machine with the host, or no more.",
    .more = "It is started once after each boot, when insulad starts; see --autostart-order of "
	    "`insula edit`.",
    .words = MACHINE_WORDS,
    .options = json_options,
    .n_options = ARRAY_SIZE(json_options),
    .config_size = sizeof(struct machine_options),
    .init = machine_options_init,
    .fini = machine_options_fini,
    .run = autostart_run,
};
