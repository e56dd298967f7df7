/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/cmd_token.c - insula token create, list, revoke
 */
#include "base/exit.h"
#include "base/strbuf.h"
#include "cli/cli.h"
#include "cli/client.h"
#include "cli/machine.h"
#include "cli/ui.h"
#include "codec/http.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

struct token_config {
	struct machine_options common; /* first: its setters set it */
	char *role;
	long long seconds;
};

static int set_role(void *config, const char *value, struct err *e)
{
	struct token_config *c = config;

	free(c->role);
	c->role = xstrdup(value);
	return 0;
}

/* 30d, 12h, 45m, or seconds */
static int set_expires(void *config, const char *value, struct err *e)
{
	struct token_config *c = config;
	char *unit;
	long long n = strtoll(value, &unit, 10);

	if (unit == value || n < 1 || n > 36500 || (unit[0] && unit[1]) ||
	    (unit[0] && !strchr("dhms", unit[0])))
		return err_msg(e, -EINVAL, "'%s' is no time from now, such as 30d, 12h or 45m",
			       value);
	c->seconds = n * (unit[0] == 'd' ? 86400 : unit[0] == 'h' ? 3600 : unit[0] == 'm' ? 60 : 1);
	return 0;
}

static void token_fini(void *config)
{
	machine_options_fini(config);
	free(((struct token_config *)config)->role);
}

static int create_run(void *config, int argc, char **argv, char **command)
{
	struct token_config *c = config;
	int status = machine_need_words("token create", argc, 1, "NAME");
	json_t *o = NULL;
	struct err e = {0};

	if (status != EXIT_OK)
		return status;
	if (client_call("POST", "/v1/tokens",
			json_pack("{s:s, s:s, s:I}", "name", argv[0], "role",
				  c->role ? c->role : "operator", "expires_in",
				  (json_int_t)c->seconds),
			&o, &e) < 0)
		return ui_fail(&e, EXIT_FAIL);
	if (c->common.json) {
		machine_print_json(o);
		return EXIT_OK;
	}
	printf("%s\n", machine_text(o, "token"));
	json_decref(o);
	return EXIT_OK;
}

static const struct cli_option create_options[] = {
    {"role", "ROLE", "viewer operator admin", "viewer, operator (default) or admin", set_role},
    {"expires", "TIME", NULL, "for so long, such as 30d, 12h or 45m (default: for ever)",
     set_expires},
    {"json", NULL, NULL, "print it as JSON", machine_set_json},
};

const struct cli_command cmd_token_create = {
    .name = "token create",
    .usage = "NAME",
    .summary = "Make a token for using insulad from elsewhere, and print it.",
    .more = "It is shown this once. Whoever has it may do what its role may.",
    .words = "insula token list --names",
    .options = create_options,
    .n_options = ARRAY_SIZE(create_options),
    .config_size = sizeof(struct token_config),
    .init = machine_options_init,
    .fini = token_fini,
    .run = create_run,
};

static void print_time(long long seconds, const char *none)
{
	time_t t = (time_t)seconds;
	char text[32];
	struct tm tm;

	if (seconds)
		strftime(text, sizeof(text), "%Y-%m-%d %H:%M", localtime_r(&t, &tm));
	printf("  %-16s", seconds ? text : none);
}

static int set_names(void *config, const char *value, struct err *e)
{
	((struct machine_options *)config)->names = true;
	return 0;
}

static int list_run(void *config, int argc, char **argv, char **command)
{
	struct token_config *c = config;
	int status = machine_need_words("token list", argc, 0, "");
	json_t *o = NULL, *t;
	struct err e = {0};
	size_t i;

	if (status != EXIT_OK)
		return status;
	if (client_call("GET", "/v1/tokens", NULL, &o, &e) < 0)
		return ui_fail(&e, EXIT_FAIL);
	if (c->common.json)
		machine_print_json(json_incref(json_object_get(o, "tokens")));
	else if (!c->common.names)
		printf("%-20s  %-8s  %-16s  %-16s\n", "NAME", "ROLE", "CREATED", "EXPIRES");
	json_array_foreach(json_object_get(o, "tokens"), i, t)
	{
		if (c->common.names)
			printf("%s\n", machine_text(t, "name"));
		if (c->common.json || c->common.names)
			continue;
		printf("%-20s  %-8s", machine_text(t, "name"), machine_text(t, "role"));
		print_time(machine_int(t, "created"), "");
		print_time(machine_int(t, "expires"), "never");
		printf("%s\n", json_is_true(json_object_get(t, "expired")) ? "  expired" : "");
	}
	json_decref(o);
	return EXIT_OK;
}

static const struct cli_option list_options[] = {
    {"names", NULL, NULL, "names alone", set_names},
    {"json", NULL, NULL, "print them as JSON", machine_set_json},
};

const struct cli_command cmd_token_list = {
    .name = "token list",
    .usage = "",
    .summary = "List the tokens.",
    .options = list_options,
    .n_options = ARRAY_SIZE(list_options),
    .config_size = sizeof(struct token_config),
    .init = machine_options_init,
    .fini = token_fini,
    .run = list_run,
};

static int revoke_run(void *config, int argc, char **argv, char **command)
{
	autostrbuf struct strbuf path = {0};
	int status = machine_need_words("token revoke", argc, 1, "NAME");
	struct err e = {0};

	if (status != EXIT_OK)
		return status;
	strbuf_puts(&path, "/v1/tokens/");
	http_escape(argv[0], &path);
	return client_call("DELETE", path.data, NULL, NULL, &e) < 0 ? ui_fail(&e, EXIT_FAIL)
								    : EXIT_OK;
}

static const struct cli_option revoke_options[] = {
    {"json", NULL, NULL, "tell errors as JSON", machine_set_json},
};

const struct cli_command cmd_token_revoke = {
    .name = "token revoke",
    .usage = "NAME",
    .summary = "Take a token back.",
    .words = "insula token list --names",
    .options = revoke_options,
    .n_options = ARRAY_SIZE(revoke_options),
    .config_size = sizeof(struct token_config),
    .init = machine_options_init,
    .fini = token_fini,
    .run = revoke_run,
};
