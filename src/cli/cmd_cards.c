/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/cmd_cards.c - insula disk attach, detach; insula nic attach, detach
 */
#include "base/exit.h"
#include "base/strbuf.h"
#include "cli/cli.h"
#include "cli/client.h"
#include "cli/client_remote.h"
#include "cli/machine.h"
#include "cli/pool.h"
#include "cli/ui.h"
#include "codec/http.h"

#include <errno.h>
#include <stdio.h>

struct cards_config {
	struct machine_options common; /* first: its setters set it */
	char *format, *mac, *model, *pool;
	bool read_only;
	json_t *rate;
};

static int set_text(char **member, const char *value)
{
	free(*member);
	*member = xstrdup(value);
	return 0;
}

static int set_format(void *config, const char *value, struct err *e)
{
	return set_text(&((struct cards_config *)config)->format, value);
}

static int set_mac(void *config, const char *value, struct err *e)
{
	return set_text(&((struct cards_config *)config)->mac, value);
}

static int set_model(void *config, const char *value, struct err *e)
{
	return set_text(&((struct cards_config *)config)->model, value);
}

static int set_pool(void *config, const char *value, struct err *e)
{
	return set_text(&((struct cards_config *)config)->pool, value);
}

static int set_readonly(void *config, const char *value, struct err *e)
{
	((struct cards_config *)config)->read_only = true;
	return 0;
}

static int set_rate(struct cards_config *c, const char *word, const char *value, struct err *e)
{
	uint64_t n;
	int r = cli_parse_size(value, &n, e);

	if (r < 0)
		return r;
	if (!c->rate)
		c->rate = json_object();
	return json_object_set_new(c->rate, word, json_integer((json_int_t)n));
}

static int set_bytes(void *config, const char *value, struct err *e)
{
	return set_rate(config, "bytes", value, e);
}

static int set_ops(void *config, const char *value, struct err *e)
{
	return set_rate(config, "ops", value, e);
}

static void cards_fini(void *config)
{
	struct cards_config *c = config;

	machine_options_fini(config);
	free(c->format);
	free(c->mac);
	free(c->model);
	free(c->pool);
	json_decref(c->rate);
}

static void put_text(json_t *o, const char *key, const char *value)
{
	if (value)
		json_object_set_new(o, key, json_string(value));
}

/* The machine afterwards, if it is asked for. */
static int tell(const struct cards_config *c, int r, json_t *machine, struct err *e)
{
	if (r < 0)
		return ui_fail(e, EXIT_FAIL);
	if (c->common.json)
		machine_print_json(json_incref(machine));
	json_decref(machine);
	return EXIT_OK;
}

static int attach(const struct cards_config *c, const char *name, const char *rest, json_t *body)
{
	autofree char *path = client_machine_path(name, rest);
	json_t *machine = NULL;
	struct err e = {0};
	int r = client_call("POST", path, body, &machine, &e);

	return tell(c, r, machine, &e);
}

static int detach(const struct cards_config *c, const char *name, const char *rest,
		  const char *value)
{
	autofree char *base = client_machine_path(name, rest);
	autostrbuf struct strbuf path = {0};
	json_t *machine = NULL;
	struct err e = {0};
	int r;

	strbuf_puts(&path, base);
	http_escape(value, &path);
	if (c->common.timeout >= 0)
		strbuf_printf(&path, "&timeout=%lld", c->common.timeout);
	r = client_call("DELETE", path.data, NULL, &machine, &e);
	return tell(c, r, machine, &e);
}

#define DETACH_HELP "how long to wait for the guest (default 30)"

/* --- disks --- */

/* What insulad knows it as: it may be elsewhere, or the file be gone. */
static int disk_path(const struct cards_config *c, const char *name, bool must, char **ret,
		     struct err *e)
{
	if (c->pool)
		return pool_disk_path(c->pool, name, ret, e);
	*ret = client_is_remote() ? xstrdup(name) : realpath(name, NULL);
	if (*ret)
		return 0;
	if (must)
		return err_exit(e, err_set(e, -errno, "%s", name), EXIT_BAD_DISK);
	*ret = xstrdup(name);
	return 0;
}

static int disk_attach_run(void *config, int argc, char **argv, char **command)
{
	struct cards_config *c = config;
	autofree char *path = NULL;
	struct err e = {0};
	int status = machine_need_words("disk attach", argc, 2, "NAME FILE");
	json_t *body;

	if (status != EXIT_OK)
		return status;
	if (disk_path(c, argv[1], true, &path, &e) < 0)
		return ui_fail(&e, EXIT_FAIL);
	body = json_pack("{s:s, s:b}", "path", path, "readonly", c->read_only);
	put_text(body, "format", c->format);
	if (c->rate)
		json_object_set(body, "rate", c->rate);
	return attach(c, argv[0], "/disks", body);
}

static const struct cli_option disk_attach_options[] = {
    {"format", "FORMAT", "raw qcow2", "what the file is (default: by its name)", set_format},
    {"readonly", NULL, NULL, "the guest cannot write to it", set_readonly},
    {"pool", "POOL", NULL, "FILE is a name in this storage pool", set_pool},
    {"bytes-per-second", "SIZE", NULL, "no more than so many bytes a second", set_bytes},
    {"ops-per-second", "N", NULL, "no more than so many requests a second", set_ops},
    {"json", NULL, NULL, "print the machine as JSON", machine_set_json},
};

const struct cli_command cmd_disk_attach = {
    .name = "disk attach",
    .usage = "NAME FILE",
    .summary = "Give a machine one more disk.",
    .more = "A machine that runs gets it at once, others at their start. It is a virtio disk.",
    .words = MACHINE_WORDS,
    .options = disk_attach_options,
    .n_options = ARRAY_SIZE(disk_attach_options),
    .config_size = sizeof(struct cards_config),
    .init = machine_options_init,
    .fini = cards_fini,
    .run = disk_attach_run,
};

static int disk_detach_run(void *config, int argc, char **argv, char **command)
{
	int status = machine_need_words("disk detach", argc, 2, "NAME FILE");
	autofree char *path = NULL;
	struct err e = {0};

	if (status != EXIT_OK)
		return status;
	if (disk_path(config, argv[1], false, &path, &e) < 0)
		return ui_fail(&e, EXIT_FAIL);
	return detach(config, argv[0], "/disks?path=", path);
}

static const struct cli_option disk_detach_options[] = {
    {"pool", "POOL", NULL, "FILE is a name in this storage pool", set_pool},
    {"timeout", "SECONDS", NULL, DETACH_HELP, machine_set_timeout},
    {"json", NULL, NULL, "print the machine as JSON", machine_set_json},
};

const struct cli_command cmd_disk_detach = {
    .name = "disk detach",
    .usage = "NAME FILE",
    .summary = "Take a disk away from a machine.",
    .more = "The guest of a machine that runs is asked to let go of it: unmount it there first. If "
	    "it does not, the disk stays.",
    .words = MACHINE_WORDS,
    .options = disk_detach_options,
    .n_options = ARRAY_SIZE(disk_detach_options),
    .config_size = sizeof(struct cards_config),
    .init = machine_options_init,
    .fini = cards_fini,
    .run = disk_detach_run,
};

/* --- network cards --- */

static int nic_attach_run(void *config, int argc, char **argv, char **command)
{
	struct cards_config *c = config;
	int status = machine_need_words("nic attach", argc, 1, "NAME");
	json_t *body;

	if (status != EXIT_OK)
		return status;
	body = json_object();
	put_text(body, "mac", c->mac);
	put_text(body, "model", c->model);
	return attach(c, argv[0], "/nics", body);
}

static const struct cli_option nic_attach_options[] = {
    {"mac", "ADDRESS", NULL, "its address (default: one is made up)", set_mac},
    {"model", "MODEL", "virtio e1000", "virtio (default) or e1000", set_model},
    {"json", NULL, NULL, "print the machine as JSON", machine_set_json},
};

const struct cli_command cmd_nic_attach = {
    .name = "nic attach",
    .usage = "NAME",
    .summary = "Give a machine one more network card.",
    .more = "It is in a user network of its own. A machine that runs gets it at once.",
    .words = MACHINE_WORDS,
    .options = nic_attach_options,
    .n_options = ARRAY_SIZE(nic_attach_options),
    .config_size = sizeof(struct cards_config),
    .init = machine_options_init,
    .fini = cards_fini,
    .run = nic_attach_run,
};

static int nic_detach_run(void *config, int argc, char **argv, char **command)
{
	int status = machine_need_words("nic detach", argc, 2, "NAME ADDRESS");

	return status != EXIT_OK ? status : detach(config, argv[0], "/nics?mac=", argv[1]);
}

static const struct cli_option nic_detach_options[] = {
    {"timeout", "SECONDS", NULL, DETACH_HELP, machine_set_timeout},
    {"json", NULL, NULL, "print the machine as JSON", machine_set_json},
};

const struct cli_command cmd_nic_detach = {
    .name = "nic detach",
    .usage = "NAME ADDRESS",
    .summary = "Take a network card away from a machine.",
    .more = "ADDRESS is its MAC, as `insula show` tells it; the first card of a machine stays.",
    .words = MACHINE_WORDS,
    .options = nic_detach_options,
    .n_options = ARRAY_SIZE(nic_detach_options),
    .config_size = sizeof(struct cards_config),
    .init = machine_options_init,
    .fini = cards_fini,
    .run = nic_detach_run,
};
