/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/cmd_pool.c - insula pool create, list, show, delete; and disks in pools, for cmd_disk.c
 */
#include "base/exit.h"
#include "base/strbuf.h"
#include "cli/cli.h"
#include "cli/client.h"
#include "cli/machine.h"
#include "cli/pool.h"
#include "cli/ui.h"
#include "codec/http.h"

#include <errno.h>
#include <stdio.h>

#define POOL_WORDS "insula pool list --names"

struct pool_config {
	struct machine_options common; /* first: its setters set it */
	char *kind, *pool;
};

static int set_kind(void *config, const char *value, struct err *e)
{
	struct pool_config *c = config;

	free(c->kind);
	c->kind = xstrdup(value);
	return 0;
}

static int set_pool(void *config, const char *value, struct err *e)
{
	struct pool_config *c = config;

	free(c->pool);
	c->pool = xstrdup(value);
	return 0;
}

static int set_names(void *config, const char *value, struct err *e)
{
	((struct machine_options *)config)->names = true;
	return 0;
}

static void pool_fini(void *config)
{
	machine_options_fini(config);
	free(((struct pool_config *)config)->kind);
	free(((struct pool_config *)config)->pool);
}

/* "/v1/pools/NAME" and @rest. */
static char *pool_path(const char *name, const char *rest)
{
	autostrbuf struct strbuf path = {0};

	strbuf_puts(&path, "/v1/pools/");
	http_escape(name, &path);
	strbuf_puts(&path, rest);
	return strbuf_steal(&path);
}

/* --- disks --- */

int pool_disk_create(const char *pool, json_t *body, json_t **ret, struct err *e)
{
	autofree char *path = pool_path(pool, "/disks");

	return client_job("POST", path, body, ret, e);
}

int pool_disk_delete(const char *pool, const char *name, struct err *e)
{
	autofree char *base = pool_path(pool, "/disks/");
	autostrbuf struct strbuf path = {0};

	strbuf_puts(&path, base);
	http_escape(name, &path);
	return client_call("DELETE", path.data, NULL, NULL, e);
}

int pool_disk_path(const char *pool, const char *name, char **ret, struct err *e)
{
	autofree char *path = pool_path(pool, "");
	json_t *o = NULL;
	int r = client_call("GET", path, NULL, &o, e);

	if (r < 0)
		return r;
	*ret = xasprintf("%s/%s", machine_text(o, "path"), name);
	json_decref(o);
	return 0;
}

/* --- create --- */

static int create_run(void *config, int argc, char **argv, char **command)
{
	struct pool_config *c = config;
	int status = machine_need_words("pool create", argc, 2, "NAME DIRECTORY");
	json_t *body, *o = NULL;
	autofree char *full = NULL, *here = NULL;
	struct err e = {0};

	if (status != EXIT_OK)
		return status;
	here = argv[1][0] == '/' ? NULL : realpath(".", NULL);
	full = here ? xasprintf("%s/%s", here, argv[1]) : xstrdup(argv[1]);
	body = json_pack("{s:s, s:s, s:s}", "name", argv[0], "path", full, "kind",
			 c->kind ? c->kind : "dir");
	if (client_call("POST", "/v1/pools", body, &o, &e) < 0)
		return ui_fail(&e, EXIT_FAIL);
	if (c->common.json)
		machine_print_json(json_incref(o));
	json_decref(o);
	return EXIT_OK;
}

static const struct cli_option create_options[] = {
    {"kind", "KIND", "dir mount tmpfs btrfs",
     "dir (default); mount: a file system, such as NFS, must be mounted there; tmpfs, btrfs: it "
     "must be on one",
     set_kind},
    {"json", NULL, NULL, "print it as JSON", machine_set_json},
};

const struct cli_command cmd_pool_create = {
    .name = "pool create",
    .usage = "NAME DIRECTORY",
    .summary = "Make a storage pool: a directory for disks.",
    .more = "The directory is made if it is not there. What a pool is said to be is looked at each "
	    "time, so that nothing is written where a mount is missing.",
    .words = POOL_WORDS,
    .options = create_options,
    .n_options = ARRAY_SIZE(create_options),
    .config_size = sizeof(struct pool_config),
    .init = machine_options_init,
    .fini = pool_fini,
    .run = create_run,
};

/* --- list --- */

static void print_pool(const json_t *p)
{
	char size[16] = "-", free_[16] = "-";

	if (json_object_get(p, "size")) {
		machine_size(machine_int(p, "size"), size);
		machine_size(machine_int(p, "available"), free_);
	}
	printf("%-16s  %-6s  %8s  %8s  %s%s%s\n", machine_text(p, "name"), machine_text(p, "kind"),
	       size, free_, machine_text(p, "path"), json_object_get(p, "problem") ? ": " : "",
	       machine_text(p, "problem"));
}

static int list_run(void *config, int argc, char **argv, char **command)
{
	struct pool_config *c = config;
	int status = machine_need_words("pool list", argc, 0, "");
	json_t *o = NULL, *p;
	struct err e = {0};
	size_t i;

	if (status != EXIT_OK)
		return status;
	if (client_call("GET", "/v1/pools", NULL, &o, &e) < 0)
		return ui_fail(&e, EXIT_FAIL);
	if (c->common.json)
		machine_print_json(json_incref(json_object_get(o, "pools")));
	else if (!c->common.names)
		printf("%-16s  %-6s  %8s  %8s  %s\n", "NAME", "KIND", "SIZE", "FREE", "DIRECTORY");
	json_array_foreach(json_object_get(o, "pools"), i, p)
	{
		if (c->common.names)
			printf("%s\n", machine_text(p, "name"));
		else if (!c->common.json)
			print_pool(p);
	}
	json_decref(o);
	return EXIT_OK;
}

static const struct cli_option list_options[] = {
    {"names", NULL, NULL, "names alone", set_names},
    {"json", NULL, NULL, "print them as JSON", machine_set_json},
};

const struct cli_command cmd_pool_list = {
    .name = "pool list",
    .usage = "",
    .summary = "List the storage pools.",
    .options = list_options,
    .n_options = ARRAY_SIZE(list_options),
    .config_size = sizeof(struct pool_config),
    .init = machine_options_init,
    .fini = pool_fini,
    .run = list_run,
};

/* --- show --- */

static int show_run(void *config, int argc, char **argv, char **command)
{
	struct pool_config *c = config;
	int status = machine_need_words("pool show", argc, 1, "NAME");
	autofree char *path = NULL;
	json_t *o = NULL, *d;
	struct err e = {0};
	size_t i;

	if (status != EXIT_OK)
		return status;
	path = pool_path(argv[0], "");
	if (client_call("GET", path, NULL, &o, &e) < 0)
		return ui_fail(&e, EXIT_FAIL);
	if (c->common.json) {
		machine_print_json(o);
		return EXIT_OK;
	}
	print_pool(o);
	if (json_object_get(o, "reflinks"))
		printf("copies share blocks: %s\n",
		       json_is_true(json_object_get(o, "reflinks")) ? "yes" : "no");
	json_array_foreach(json_object_get(o, "disks"), i, d)
	{
		char size[16], used[16];

		machine_size(machine_int(d, "file_size"), size);
		machine_size(machine_int(d, "allocated"), used);
		printf("  %-32s  %-5s  %8s of %8s\n", machine_text(d, "name"),
		       machine_text(d, "format"), used, size);
	}
	json_decref(o);
	return EXIT_OK;
}

static const struct cli_option json_options[] = {
    {"json", NULL, NULL, "print JSON; tell errors so, too", machine_set_json},
};

const struct cli_command cmd_pool_show = {
    .name = "pool show",
    .usage = "NAME",
    .summary = "Show a storage pool and its disks.",
    .words = POOL_WORDS,
    .options = json_options,
    .n_options = ARRAY_SIZE(json_options),
    .config_size = sizeof(struct pool_config),
    .init = machine_options_init,
    .fini = pool_fini,
    .run = show_run,
};

/* --- delete --- */

static int delete_run(void *config, int argc, char **argv, char **command)
{
	int status = machine_need_words("pool delete", argc, 1, "NAME");
	autofree char *path = NULL;
	struct err e = {0};

	if (status != EXIT_OK)
		return status;
	path = pool_path(argv[0], "");
	return client_call("DELETE", path, NULL, NULL, &e) < 0 ? ui_fail(&e, EXIT_FAIL) : EXIT_OK;
}

const struct cli_command cmd_pool_delete = {
    .name = "pool delete",
    .usage = "NAME",
    .summary = "Forget a storage pool; its disks stay.",
    .words = POOL_WORDS,
    .options = json_options,
    .n_options = ARRAY_SIZE(json_options),
    .config_size = sizeof(struct pool_config),
    .init = machine_options_init,
    .fini = pool_fini,
    .run = delete_run,
};

/* --- disk remove --- */

static int remove_run(void *config, int argc, char **argv, char **command)
{
	struct pool_config *c = config;
	int status = machine_need_words("disk remove", argc, 1, "--pool POOL NAME");
	struct err e = {0};

	if (status != EXIT_OK)
		return status;
	if (!c->pool)
		return ui_error(EXIT_USAGE,
				"insula disk remove: --pool is missing; other disks are "
				"files of yours");
	return pool_disk_delete(c->pool, argv[0], &e) < 0 ? ui_fail(&e, EXIT_FAIL) : EXIT_OK;
}

static const struct cli_option remove_options[] = {
    {"pool", "POOL", NULL, "the storage pool that it is in", set_pool},
    {"json", NULL, NULL, "tell errors as JSON", machine_set_json},
};

const struct cli_command cmd_disk_remove = {
    .name = "disk remove",
    .usage = "--pool POOL NAME",
    .summary = "Delete a disk of a storage pool.",
    .more = "One that a machine has, or that is in use, stays.",
    .options = remove_options,
    .n_options = ARRAY_SIZE(remove_options),
    .config_size = sizeof(struct pool_config),
    .init = machine_options_init,
    .fini = pool_fini,
    .run = remove_run,
};
